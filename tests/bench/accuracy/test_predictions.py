"""A run that was interrupted, anywhere, goes on from its journal to the same answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tinyvit.bench.accuracy import predictions as module
from tinyvit.bench.accuracy.datasets import Place, open_dataset
from tinyvit.bench.accuracy.evaluate import evaluate
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.predictions import ImagePrediction, open_journal
from tinyvit.errors import RequestError

ASKED = EvaluationOptions(threads=1)
SOME = [ImagePrediction((i, i + 1), 0.5 + i / 1000, "") for i in range(10)]


def stopping_after(count: int) -> Callable[[str], None]:
    """A meter that stops the run as Ctrl-C does, at the count-th picture that it is told of."""
    told = iter(range(count))

    def write(text: str) -> None:
        if next(told, None) is None:
            raise KeyboardInterrupt

    return write


@pytest.mark.parametrize("after", [0, 8, 39])
def test_an_interrupted_run_goes_on(
    after: int,
    demo: dict[str, Path],
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "_BATCH", 4)
    monkeypatch.setattr(module, "_EVERY_S", 0)
    dataset = open_dataset(Place(str(folders)))
    whole = evaluate(str(demo["onnx"]), dataset, ASKED).answers
    asked = replace(ASKED, journal=tmp_path / "journal")
    with pytest.raises(KeyboardInterrupt):
        evaluate(str(demo["onnx"]), dataset, replace(asked, meter=stopping_after(after)))
    assert f"partial: {after + 1} of 40 pictures" in capsys.readouterr().err
    assert (tmp_path / "journal").read_bytes().count(b"\n[") <= (after + 1) // 4 + 1
    assert evaluate(str(demo["onnx"]), dataset, asked).answers == whole


def test_a_journal_that_was_cut_anywhere_is_believed_up_to_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 3)
    path, asked = tmp_path / "journal", {"artifact": "a", "data": "b"}
    with open_journal(path, asked) as journal:
        for answer in SOME:
            journal.add(answer)
    data = path.read_bytes()
    head = data.index(b"\n") + 1
    for length in range(head, len(data) + 1):
        path.write_bytes(data[:length])
        with open_journal(path, asked) as journal:
            known = len(journal.answers)
            assert journal.answers == SOME[:known]
            assert known == {0: 0, 1: 3, 2: 6, 3: 9, 4: 10}[data[head:length].count(b"\n")]
            for answer in SOME[known:]:
                journal.add(answer)
        with open_journal(path, asked) as journal:
            assert journal.answers == SOME


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"artifact": "x", "data": "b"}\n', "of another run: artifact differ"),
        ("hello\n", "no journal"),
        ('{"artifact": "a", "data": "b"}\n[[1]]\n', "damaged"),
        ('{"artifact": "a", "data": "b"}\n[[["x"], 0.5, ""]]\n', "damaged"),
    ],
)
def test_what_is_no_journal_of_this_run_is_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text(text)
    with (
        pytest.raises(RequestError, match=why),
        open_journal(tmp_path / "journal", {"artifact": "a", "data": "b"}),
    ):
        pass
