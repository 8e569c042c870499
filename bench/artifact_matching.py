"""Finds the results of two benchmark records that belong together, to compare them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from tinyvit.bench.record import AccuracyResult, LatencyResult, Record
from tinyvit.errors import RequestError

MatchKey: TypeAlias = tuple[str, ...]
"""Everything in which two results must be equal to be compared; the artifact's name comes first."""

Result: TypeAlias = "LatencyResult | AccuracyResult"

NO_NAMES: Mapping[str, str] = MappingProxyType({})


def match_results(
    before: Record, after: Record, names: Mapping[str, str] = NO_NAMES
) -> tuple[dict[MatchKey, Result], dict[MatchKey, Result]]:
    """Give the results of two records keys, which are equal for results that belong together.

    Two results belong together if they have the same file name and the same settings. If no names
    are equal and each record has results of only one file, these two files belong together.

    Args:
        before: The earlier record.
        after: The later record.
        names: File name in the later record -> file name in the earlier record, for artifacts
            whose names differ. A file of the later record whose own name is one of these values
            takes part only if it is named too.

    Returns:
        The results of each record by key. The key of a renamed artifact begins with its name in the
        earlier record.

    Raises:
        RequestError: A name in `names` is not in its record, or a record has several results for
            one artifact and the same settings.
    """
    names_before, names_after = _list_names(before), _list_names(after)
    _require_known_names(names, names_before, names_after)
    if not names and len(names_before) == len(names_after) == 1:
        names = dict(zip(names_after, names_before))
    results_before = _list_results(before)
    results_after = [
        result for result in _list_results(after) if not _is_replaced(_get_name(result), names)
    ]
    ambiguous_keys = _find_ambiguous_keys(results_before, NO_NAMES)
    ambiguous_keys |= _find_ambiguous_keys(results_after, names)
    return (
        _index_results(results_before, ambiguous_keys, NO_NAMES),
        _index_results(results_after, ambiguous_keys, names),
    )


def describe_pair(key: MatchKey, old: Result, new: Result) -> str:
    """Return the name of an artifact, or both names as "old -> new" if they differ.

    Args:
        key: The key of both results, which begins with the name.
        old: The result in the earlier record.
        new: The result in the later record.
    """
    old_name, new_name = Path(old.artifact.path).name, Path(new.artifact.path).name
    return key[0] if old_name == new_name else f"{old_name} -> {new_name}"


def _list_names(record: Record) -> list[str]:
    """Return the different file names of a record, in their order."""
    return list(dict.fromkeys(map(_get_name, _list_results(record))))


def _get_name(result: Result) -> str:
    return Path(result.artifact.path).name


def _is_replaced(name: str, names: Mapping[str, str]) -> bool:
    """Return whether another artifact of the later record is compared under this name."""
    return name in names.values() and name not in names


def _require_known_names(
    names: Mapping[str, str], names_before: Collection[str], names_after: Collection[str]
) -> None:
    """Raise RequestError for a name that is not in its record."""
    for known_names, given_names, position in (
        (names_before, names.values(), "first"),
        (names_after, names, "second"),
    ):
        for name in given_names:
            if name not in known_names:
                raise RequestError(
                    f"--match names {name}, which is not in the {position} record",
                    f"give one of {', '.join(known_names)}",
                )


def _list_results(record: Record) -> list[Result]:
    return [*record.latency, *record.accuracy]


def _find_ambiguous_keys(results: Sequence[Result], names: Mapping[str, str]) -> set[MatchKey]:
    """Return each key that several results of a record have, as those of x/a.onnx and y/a.onnx."""
    counts = Counter(_make_match_key(result, names) for result in results)
    return {key for key, count in counts.items() if count > 1}


def _index_results(
    listed_results: Sequence[Result], ambiguous_keys: Collection[MatchKey], names: Mapping[str, str]
) -> dict[MatchKey, Result]:
    """Return the results of a record by key, in which a path replaces an ambiguous file name."""
    results: dict[MatchKey, Result] = {}
    for result in listed_results:
        key = _make_match_key(result, names)
        if key in ambiguous_keys:
            key = (result.artifact.path, *key[1:])
        if key in results:
            raise RequestError(
                f"one of the records has several results for {' '.join(key)}",
                "measure each artifact only once with the same settings",
            )
        results[key] = result
    return results


def _make_match_key(result: Result, names: Mapping[str, str]) -> MatchKey:
    """Return the key of a result, which begins with the artifact's file name."""
    engine = result.artifact.engine
    name = _get_name(result)
    name = names.get(name, name)
    if isinstance(result, LatencyResult):
        return name, engine.engine, result.scenario, str(result.batch), str(engine.threads)
    return name, engine.engine, result.preprocess
