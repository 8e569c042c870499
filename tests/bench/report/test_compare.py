"""A regression is found, chance is not taken for one, and what cannot be compared is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.report.records import BOARD, accuracy, judged, latency, timed
from tinyvit.bench import cli
from tinyvit.bench.compare import compare_records
from tinyvit.bench.record import Record
from tinyvit.errors import RequestError


def test_a_known_ratio_is_found() -> None:
    (one,) = compare_records(
        timed(latency("a.onnx", 20)), timed(latency("a.onnx", 22, seed=1)), 0.03, 0.5
    ).changes
    assert one.value == pytest.approx(1.1, rel=0.01)
    assert 1.05 < one.low < 1.1 < one.high < 1.15
    assert one.is_regression


def test_an_allowed_slowdown_is_fine() -> None:
    (one,) = compare_records(
        timed(latency("a.onnx", 20)), timed(latency("a.onnx", 22, seed=1)), 0.2, 0.5
    ).changes
    assert not one.is_regression


def test_chance_is_no_regression() -> None:
    found = [
        compare_records(
            timed(latency("a", 20, seed=i)), timed(latency("a", 20, seed=i + 1)), 0.0, 0.5
        ).changes[0]
        for i in range(0, 200, 2)
    ]
    assert sum(one.low <= 1 <= one.high for one in found) >= 90
    assert sum(one.is_regression for one in found) <= 6


def test_a_drop_that_is_significant() -> None:
    def drop(before: int, after: int, count: int) -> bool:
        return (
            compare_records(
                judged(accuracy("a", before, count)), judged(accuracy("a", after, count)), 0.03, 0.5
            )
            .changes[0]
            .is_regression
        )

    assert drop(42_600, 42_000, 50_000)  # 1.2 points
    assert not drop(42_600, 42_400, 50_000)  # 0.4 points are fine
    assert not drop(852, 840, 1000)  # 1.2 points of few pictures are chance
    assert not drop(840, 852, 1000)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (timed(latency("a", 20)), judged(accuracy("a", 1)), "of latency, the other of accuracy"),
        (
            timed(latency("a", 20)),
            timed(latency("a", 20), device=BOARD),
            r"of desk \(AMD EPYC\) and board \(Cortex-A78\)",
        ),
        (timed(latency("a", 20)), timed(latency("b", 20)), "no artifact in common"),
        (timed(latency("a", 20)), timed(latency("a", 20, batch=8)), "no artifact in common"),
        (
            judged(accuracy("a", 1)),
            judged(accuracy("a", 1), data={"sha256": "other"}),
            "other pictures",
        ),
    ],
)
def test_what_cannot_be_compared(before: Record, after: Record, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        compare_records(before, after, 0.03, 0.5)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "main.json").write_text(
        timed(latency("x/a.onnx", 20), latency("gone.onnx", 1)).to_json()
    )
    (tmp_path / "slow.json").write_text(timed(latency("y/a.onnx", 21.5, seed=1)).to_json())
    (tmp_path / "board.json").write_text(timed(latency("a.onnx", 20), device=BOARD).to_json())
    main, slow, board = (str(tmp_path / f"{name}.json") for name in ("main", "slow", "board"))
    assert cli.main(["compare", main, slow, "--max-regress", "3%"]) == 1
    out = capsys.readouterr().out
    assert "| a.onnx | 19.9" in out or "| a.onnx | 20.0" in out
    assert "REGRESSION" in out
    assert "gone.onnx onnxruntime" in out
    assert cli.main(["compare", main, slow, "--max-regress", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"][0]["is_regression"] is False
    assert cli.main(["compare", main, board]) == 1
    assert cli.main(["compare", main, board, "--across-devices"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["compare", main, slow, "--max-regress", "much"])
