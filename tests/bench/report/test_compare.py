"""Regressions are found, chance is not a regression, and unrelated records are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.records import (
    BOARD,
    make_accuracy,
    make_accuracy_record,
    make_latency,
    make_latency_record,
    make_sensitivity_record,
)
from tinyvit.bench import cli, compare
from tinyvit.bench.compare import Change, compare_records
from tinyvit.bench.record import Record
from tinyvit.bench.report.console import format_comparison
from tinyvit.errors import RequestError


def compare_latency(
    before_ms: float, after_ms: float, max_regress: float, seeds: tuple[int, int] = (0, 1)
) -> Change:
    before = make_latency_record(make_latency("a.onnx", before_ms, seed=seeds[0]))
    after = make_latency_record(make_latency("a.onnx", after_ms, seed=seeds[1]))
    (change,) = compare_records(before, after, max_regress, 0.5).changes
    return change


def test_a_known_ratio_is_found() -> None:
    change = compare_latency(20, 22, max_regress=0.03)
    assert change.change == pytest.approx(1.1, rel=0.01)
    assert change.low is not None
    assert change.high is not None
    assert 1.05 < change.low < 1.1 < change.high < 1.15
    assert change.is_regression


def test_an_allowed_slowdown_is_not_a_regression() -> None:
    assert not compare_latency(20, 22, max_regress=0.2).is_regression


def test_chance_is_rarely_a_regression() -> None:
    changes = [compare_latency(20, 20, 0.0, (seed, seed + 1)) for seed in range(0, 200, 2)]
    intervals = [(change.low or 0, change.high or 0) for change in changes]
    assert sum(low <= 1 <= high for low, high in intervals) >= 90
    assert sum(change.is_regression for change in changes) <= 6


@pytest.mark.parametrize(
    ("before", "after", "images", "is_regression"),
    [
        (42_600, 42_000, 50_000, True),  # 1.2 points
        (42_600, 42_400, 50_000, False),  # 0.4 points, less than the allowed 0.5
        (852, 840, 1000, False),  # 1.2 points of few images, which may be chance
        (840, 852, 1000, False),  # a gain
    ],
)
def test_a_loss_of_accuracy_must_be_significant(
    before: int, after: int, images: int, is_regression: bool
) -> None:
    first = make_accuracy_record(make_accuracy("a", before, images))
    second = make_accuracy_record(make_accuracy("a", after, images))
    (change,) = compare_records(first, second, 0.03, 0.5).changes
    assert change.is_regression is is_regression


def test_an_interval_around_the_limit_is_inconclusive() -> None:
    change = compare_latency(20, 20.6, max_regress=0.03)
    assert change.low is not None
    assert change.high is not None
    assert change.low < 1.03 < change.high
    assert change.inconclusive_reason == "the interval contains the limit"
    assert not change.is_regression
    first = make_accuracy_record(make_accuracy("a", 852))
    second = make_accuracy_record(make_accuracy("a", 840))
    (change,) = compare_records(first, second, 0.03, 0.5).changes
    assert change.inconclusive_reason == (
        "the interval contains the limit, because 1000 images are too few"
    )
    (change,) = compare_records(first, second, 0.03, 5).changes
    assert (change.is_regression, change.inconclusive_reason) == (False, "")


def test_a_record_is_equal_to_itself() -> None:
    record = make_accuracy_record(make_accuracy("a", 852))
    (change,) = compare_records(record, record, 0.03, 0.5).changes
    assert (change.low, change.high, change.inconclusive_reason) == (0, 0, "")
    assert not change.is_regression


def test_fewer_than_six_turns_are_inconclusive() -> None:
    before = make_latency_record(make_latency("a.onnx", 20, turns=2))
    after = make_latency_record(make_latency("a.onnx", 40, turns=30))
    (change,) = compare_records(before, after, 0.03, 0.5).changes
    assert (change.low, change.high, change.is_regression) == (None, None, False)
    reason = "an interval needs 6 turns of queries, and a record has 2"
    assert change.inconclusive_reason == reason


@pytest.mark.parametrize("turns_ms", [(), ((),) * 6])
def test_latencies_without_samples_are_compared_by_their_medians(
    turns_ms: tuple[tuple[float, ...], ...],
) -> None:
    before = make_latency_record(make_latency("a.onnx", 20, turns_ms=turns_ms))
    after = make_latency_record(make_latency("a.onnx", 22, turns_ms=turns_ms))
    (change,) = compare_records(before, after, 0.03, 0.5).changes
    assert (change.low, change.high) == (None, None)
    assert (change.is_regression, change.inconclusive_reason) == (True, "")


DISTURBANCE = "other processes used 181% of a core during the measurement: stop them"


@pytest.mark.parametrize(
    ("warnings", "verdict"),
    [
        (((), (DISTURBANCE,)), "the later record was disturbed"),
        (((DISTURBANCE,), ()), "the earlier record was disturbed"),
        (
            ((DISTURBANCE,), (DISTURBANCE,)),
            "the earlier record and the later record were disturbed",
        ),
    ],
)
def test_a_disturbed_record_shows_no_regression(
    warnings: tuple[tuple[str, ...], tuple[str, ...]],
    verdict: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = [str(tmp_path / name) for name in ("before.json", "after.json")]
    for path, latency_ms, texts in zip(paths, (52.0, 107.6), warnings):
        record = make_latency_record(make_latency("a.onnx", latency_ms), warnings=texts)
        Path(path).write_text(record.to_json())
    assert cli.main(["compare", *paths]) == 0
    output = capsys.readouterr().out
    assert f"| inconclusive: {verdict} |" in output
    assert "REGRESSION" not in output
    for name, texts in zip(("earlier", "later"), warnings):
        assert (f"warning: the {name} record: {DISTURBANCE}\n" in output) is bool(texts)


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("3%", "limit: the latency may increase by 3%, that is x 1.03 (--max-regress)"),
        ("0.03", "limit: the latency may increase by 0.03%, that is x 1.0003 (--max-regress)"),
    ],
)
def test_the_limit_is_printed(
    option: str, line: str, record_paths: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["compare", record_paths["main"], record_paths["slow"], "--max-regress", option])
    assert line in capsys.readouterr().out.splitlines()


def test_the_limit_of_the_accuracy_is_printed() -> None:
    lines = format_comparison(compare_records(ACCURACY, ACCURACY, 0.03, 0.5))
    assert lines[0] == "limit: top-1 accuracy may fall by 0.5 points (--max-drop)"


def test_files_of_one_name_are_matched_by_path() -> None:
    before = make_latency_record(make_latency("x/a.onnx", 20), make_latency("y/a.onnx", 40))
    after = make_latency_record(
        make_latency("y/a.onnx", 80), make_latency("x/a.onnx", 20), make_latency("z/a.onnx", 1)
    )
    comparison = compare_records(before, after, max_regress=0.03, max_drop=0.5)
    changes = {change.artifact: change.is_regression for change in comparison.changes}
    assert changes == {"x/a.onnx": False, "y/a.onnx": True}
    assert comparison.unmatched == ("z/a.onnx onnxruntime single-stream 1 2",)


def test_two_results_of_one_file_are_refused() -> None:
    record = make_latency_record(make_latency("a.onnx", 20), make_latency("a.onnx", 40))
    with pytest.raises(RequestError, match=r"several results for a\.onnx onnxruntime"):
        compare_records(record, record, max_regress=0.03, max_drop=0.5)


LATENCY = make_latency_record(make_latency("a", 20))
ACCURACY = make_accuracy_record(make_accuracy("a", 1))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (LATENCY, ACCURACY, "different kinds, latency and accuracy"),
        (
            make_sensitivity_record(),
            make_sensitivity_record(),
            "sensitivity records cannot be compared: give two latency records",
        ),
        (
            LATENCY,
            make_latency_record(make_latency("a", 20), device=BOARD),
            r"different devices, desk \(AMD EPYC\) and board \(Cortex-A78\)",
        ),
        (
            LATENCY,
            make_latency_record(make_latency("b", 20), make_latency("c", 20)),
            "no artifact in common",
        ),
        (LATENCY, make_latency_record(make_latency("a", 20, batch=8)), "no artifact in common"),
        (
            ACCURACY,
            make_accuracy_record(
                make_accuracy("a", 1), dataset={"names_and_classes_sha256": "other"}
            ),
            "on different images, or on images with different classes",
        ),
    ],
)
def test_records_without_anything_to_compare_are_refused(
    before: Record, after: Record, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        compare_records(before, after, 0.03, 0.5)


@pytest.fixture
def record_paths(tmp_path: Path) -> dict[str, str]:
    """Name -> file of a record: main, slow (7% slower), board (another device)."""
    records = {
        "main": make_latency_record(make_latency("x/a.onnx", 20), make_latency("gone.onnx", 1)),
        "slow": make_latency_record(make_latency("y/a.onnx", 21.5, seed=1)),
        "board": make_latency_record(make_latency("a.onnx", 20), device=BOARD),
    }
    for name, record in records.items():
        (tmp_path / f"{name}.json").write_text(record.to_json())
    return {name: str(tmp_path / f"{name}.json") for name in records}


def test_the_command_exits_with_1_for_a_regression(
    record_paths: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main, slow = record_paths["main"], record_paths["slow"]
    assert cli.main(["compare", main, slow, "--max-regress", "3%"]) == 1
    output = capsys.readouterr().out
    assert "| a.onnx | 19.9" in output or "| a.onnx | 20.0" in output
    assert "REGRESSION" in output
    assert "in only one of the records: gone.onnx onnxruntime" in output


def test_the_command_prints_json(
    record_paths: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main, slow = record_paths["main"], record_paths["slow"]
    assert cli.main(["compare", main, slow, "--max-regress", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"][0]["is_regression"] is False


def test_the_command_compares_devices_only_on_request(record_paths: dict[str, str]) -> None:
    main, board = record_paths["main"], record_paths["board"]
    assert cli.main(["compare", main, board]) == 1
    assert cli.main(["compare", main, board, "--across-devices"]) == 0


def test_the_command_refuses_what_is_not_a_percentage(record_paths: dict[str, str]) -> None:
    main, slow = record_paths["main"], record_paths["slow"]
    with pytest.raises(SystemExit):
        cli.main(["compare", main, slow, "--max-regress", "much"])


def test_resamples_that_are_drawn_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    latency = make_latency("a", 20, turns=31)
    at_once = compare._resample_medians(latency, np.random.default_rng(0))
    monkeypatch.setattr(compare, "_MAX_DRAWN_TURNS", 100)
    in_blocks = compare._resample_medians(latency, np.random.default_rng(0))
    assert in_blocks.tolist() == at_once.tolist()
    draws = np.random.default_rng(0).integers(0, 31, (2000, 31))
    medians = np.array([np.median(turn) for turn in latency.turns_ms])
    assert at_once.tolist() == np.median(medians[draws], axis=1).tolist()


def test_records_of_one_file_each_are_compared_although_the_names_differ() -> None:
    before = make_latency_record(make_latency("out/demo.onnx", 20))
    after = make_latency_record(make_latency("out/demo.int8.onnx", 10))
    comparison = compare_records(before, after, 0.03, 0.5)
    (change,) = comparison.changes
    assert change.artifact == "demo.onnx -> demo.int8.onnx"
    assert change.change == pytest.approx(0.5, rel=0.05)
    assert comparison.unmatched == ()


def test_a_requested_match_replaces_the_match_by_name() -> None:
    """Both records contain both files, as when one record is compared with itself."""
    record = make_latency_record(make_latency("a.onnx", 20), make_latency("b.onnx", 10))
    comparison = compare_records(record, record, 0.03, 0.5, names={"b.onnx": "a.onnx"})
    (change,) = comparison.changes
    assert (change.artifact, change.change) == ("a.onnx -> b.onnx", 0.5)
    swapped = {"b.onnx": "a.onnx", "a.onnx": "b.onnx"}
    changes = compare_records(record, record, 0.03, 0.5, names=swapped).changes
    assert [change.change for change in changes] == [0.5, 2.0]


@pytest.mark.parametrize(
    ("record", "option", "remedy"),
    [
        (make_latency_record(make_latency("a.onnx", 20)), "--max-drop", "--max-regress"),
        (make_accuracy_record(make_accuracy("a.onnx", 90)), "--max-regress", "--max-drop"),
    ],
    ids=["latency", "accuracy"],
)
def test_a_limit_of_the_other_kind_of_record_is_refused(
    record: Record, option: str, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record.json"
    path.write_text(record.to_json())
    assert cli.main(["compare", str(path), str(path), option, "1"]) == 1
    expected = f"error: {option} has no effect on records of {record.kind}: use {remedy}\n"
    assert capsys.readouterr().err == expected


def test_artifacts_of_other_names_are_matched_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = make_accuracy_record(make_accuracy("a.onnx", 900), make_accuracy("b.onnx", 800))
    after = make_accuracy_record(make_accuracy("b.onnx", 800), make_accuracy("c.onnx", 700))
    assert [change.artifact for change in compare_records(before, after, 0.03, 0.5).changes] == [
        "b.onnx"
    ]
    comparison = compare_records(before, after, 0.03, 0.5, names={"c.onnx": "a.onnx"})
    assert [(change.artifact, change.before, change.after) for change in comparison.changes] == [
        ("a.onnx -> c.onnx", 90.0, 70.0),
        ("b.onnx", 80.0, 80.0),
    ]
    assert comparison.unmatched == ()
    with pytest.raises(RequestError) as caught:
        compare_records(before, after, 0.03, 0.5, names={"d.onnx": "a.onnx"})
    assert str(caught.value) == (
        "--match names d.onnx, which is not in the second record: give one of b.onnx, c.onnx"
    )

    for name, record in (("before.json", before), ("after.json", after)):
        (tmp_path / name).write_text(record.to_json())
    paths = [str(tmp_path / "before.json"), str(tmp_path / "after.json")]
    assert cli.main(["compare", *paths, "--match", "a.onnx=c.onnx"]) == 1
    assert "a.onnx -> c.onnx" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["compare", *paths, "--match", "a.onnx"])
    assert capsys.readouterr().err == (
        "error: 'a.onnx' is not BEFORE=AFTER, two file names (--match): correct it;"
        " tinyvit-bench compare --help describes it\n"
    )
