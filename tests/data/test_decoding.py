"""Results come in order, no more than the stated number of items ahead, and threads always end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest

from tinyvit.data.decoding import choose_decoding_threads, map_ahead


def decoders() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("tinyvit-decode")]


def slow_first(item: int) -> int:
    time.sleep(0.02 if item % 3 == 0 else 0)
    return item * 10


@pytest.mark.parametrize(("ahead", "chunk"), [(1, 1), (5, 1), (4, 4), (7, 2), (100, 1), (100, 100)])
def test_results_come_in_order(ahead: int, chunk: int) -> None:
    results = list(map_ahead(slow_first, range(20), 3, ahead, chunk))
    assert results == [item * 10 for item in range(20)]
    assert not decoders()


@pytest.mark.parametrize("ahead", [1, 4])
def test_items_are_taken_a_bounded_number_ahead(ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in count():
            taken.append(item)
            yield item

    results = map_ahead(slow_first, items(), 2, ahead)
    assert not taken
    for number, _ in enumerate(islice(results, 6)):
        assert len(taken) == number + ahead
    results.close()  # type: ignore[attr-defined]
    assert not decoders()


def test_a_chunk_is_complete_before_its_first_result() -> None:
    done: list[int] = []

    def note(item: int) -> int:
        time.sleep(0.005)
        done.append(item)
        return item

    results = map_ahead(note, range(8), 2, 4, 4)
    for item in results:
        assert sorted(done) == list(range(4 if item < 4 else 8))


def test_closing_cancels_what_has_not_begun() -> None:
    begun: list[int] = []

    def note(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        return item

    results = map_ahead(note, range(1000), 1, 500)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 500
    assert not decoders()


def test_errors_are_raised_in_their_place() -> None:
    def fail(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    results = map_ahead(fail, count(), 2, 6)
    assert list(islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert not decoders()

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("items")

    with pytest.raises(KeyError, match="items"):
        list(map_ahead(fail, broken(), 2, 6))
    assert not decoders()


def test_results_before_an_error_of_the_iterable_are_yielded() -> None:
    def broken() -> Iterator[int]:
        yield from range(4)
        raise KeyError("items")

    results = map_ahead(slow_first, broken(), 2, 6)
    assert list(islice(results, 4)) == [0, 10, 20, 30]
    with pytest.raises(KeyError, match="items"):
        next(results)
    assert not decoders()


def test_results_before_an_error_in_the_same_chunk_are_yielded() -> None:
    def fail(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    results = map_ahead(fail, range(8), 2, 4, 4)
    assert list(islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert not decoders()


def test_no_items_give_no_results() -> None:
    assert list(map_ahead(slow_first, [], 2, 4)) == []


def test_decoding_threads_are_few() -> None:
    assert 1 <= choose_decoding_threads() <= 4
