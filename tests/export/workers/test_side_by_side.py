"""Artifacts that are made in several processes equal those that one process makes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from tests.helpers.exports import full_demo, shorten_timing
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.errors import CheckpointError, RequestError
from tinyvit.export import ExportConfig, ExportReport, export_all
from tinyvit.export.command_line.arguments import config_from_arguments, make_export_parser
from tinyvit.export.plan import PlannedArtifact
from tinyvit.export.targets import get_target
from tinyvit.export.workers import side_by_side
from tinyvit.export.workers.side_by_side import (
    choose_process_count,
    estimate_process_bytes,
    group_artifacts,
    make_artifacts,
)
from tinyvit.quant.quantizer import QuantizationConfig

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot pause processes")
TARGETS = ("openvino", "onnx")
CONFIG = ExportConfig(model="demo", targets=TARGETS, img_size=64, processes=1)


def read_files(report: ExportReport) -> dict[str, bytes]:
    """Return the content of every file that an export has written, by name."""
    assert not report.failures
    files = (file for artifact in report.artifacts for file in artifact.files)
    return {file.name: file.read_bytes() for file in files}


@posix_only
@pytest.mark.parametrize(
    "precision", ["float32", "int8", pytest.param("float16", marks=pytest.mark.slow)]
)
def test_several_processes_make_the_same_files(
    precision: str, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, float16=precision == "float16")
    if precision == "int8":
        options = QuantizationConfig(calib_data=crops, calib_count=32, force=True)
        config = replace(config, quantization=options)
    progress = RecordedProgress()
    with full_demo(), shorten_timing():
        monkeypatch.setattr(side_by_side, "choose_process_count", lambda *_: 1)
        alone = export_all(replace(config, output_path=tmp_path / "alone"))
        monkeypatch.undo()
        report = export_all(replace(config, output_path=tmp_path / "both", processes=2), progress)
    names = [artifact.manifest.target for artifact in report.artifacts]
    assert names == list(config.targets)
    assert "in 2 processes" in "\n".join(progress.messages)
    assert read_files(report) == read_files(alone)
    for artifact in report.artifacts:
        assert artifact.speed is not None
        assert (artifact.search is None) == (precision != "int8")


@posix_only
def test_a_checkpoint_that_changes_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_setup = side_by_side.WorkerSetup

    def make_setup(plan: Any, _digest: str, *rest: Any) -> Any:
        return send_setup(plan, "0" * 64, *rest)

    monkeypatch.setattr(side_by_side, "WorkerSetup", make_setup)
    config = replace(CONFIG, output_path=tmp_path / "out", processes=2)
    with full_demo(), pytest.raises(CheckpointError, match="was changed while it was exported"):
        export_all(config)
    assert not list(tmp_path.rglob("*.onnx"))


def plan_artifacts(*names: str) -> list[PlannedArtifact]:
    """Return planned artifacts of targets."""
    return [PlannedArtifact(get_target(name), Path(name)) for name in names]


def test_targets_that_share_a_search_are_in_one_group() -> None:
    artifacts = plan_artifacts("coreml", "executorch", "onnx", "tensorrt", "openvino")
    groups = group_artifacts(artifacts)
    names = [[planned.target.name for planned in group] for group in groups]
    assert names == [["coreml", "tensorrt"], ["executorch"], ["onnx"], ["openvino"]]


@pytest.fixture
def network(demo_source: Any) -> Any:
    """A folded network."""
    return demo_source.folded


@posix_only
def test_the_number_of_processes_follows_from_threads_groups_and_memory(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(threads: int, groups: int, processes_that_fit: float) -> int:
        free_bytes = int(processes_that_fit * estimate_process_bytes(network))
        monkeypatch.setattr(side_by_side, "measure_free_memory", lambda: free_bytes)
        monkeypatch.setattr("torch.get_num_threads", lambda: threads)
        return choose_process_count(None, groups, network)

    assert choose(threads=8, groups=4, processes_that_fit=9) == 4
    assert choose(threads=2, groups=4, processes_that_fit=9) == 2
    assert choose(threads=8, groups=4, processes_that_fit=3.5) == 3
    assert choose(threads=8, groups=4, processes_that_fit=0.5) == 1
    assert choose(threads=8, groups=1, processes_that_fit=9) == 1


@posix_only
def test_a_requested_number_of_processes_is_the_largest(network: Any) -> None:
    assert choose_process_count(3, 7, network) == 3
    assert choose_process_count(3, 2, network) == 2
    assert choose_process_count(1, 7, network) == 1


def test_several_processes_are_refused_where_they_cannot_be_paused(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "can_use_processes", lambda: False)
    assert choose_process_count(None, 7, network) == 1
    with pytest.raises(RequestError, match="--processes 2 is not possible on Windows"):
        choose_process_count(2, 7, network)


@posix_only
@pytest.mark.parametrize(("count", "expected"), [(3, 1), (4, 2)])
def test_several_processes_start_by_themselves_only_for_many_targets_without_int8(
    network: Any, count: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Chosen(Exception):
        """The number of processes has been chosen."""

    def choose(requested: int | None, group_count: int, _network: Any) -> int:
        raise Chosen(1 if requested == 1 else 2, group_count)

    monkeypatch.setattr(side_by_side, "choose_process_count", choose)
    names = ("openvino", "onnx", "ort", "litert")[:count]
    plan: Any = SimpleNamespace(config=replace(CONFIG, processes=None))
    source: Any = SimpleNamespace(folded=network)
    preparer: Any = None
    with pytest.raises(Chosen) as chosen:
        list(make_artifacts(plan, plan_artifacts(*names), source, preparer, RecordedProgress()))
    assert chosen.value.args == (expected, count)


def test_a_larger_network_needs_more_memory(network: Any) -> None:
    assert 2**29 < estimate_process_bytes(network) < 2**32


def test_the_command_line_states_the_number_of_processes() -> None:
    parse = make_export_parser().parse_args
    for arguments, expected in ((["--processes", "3"], 3), ([], None)):
        config = config_from_arguments(parse(["--model", "demo", *arguments]))
        assert config.processes == expected


def test_targets_can_be_given_in_one_option_or_in_several() -> None:
    parse = make_export_parser().parse_args
    for arguments, expected in (
        ([], ("onnx",)),
        (["--target", "openvino", "ort"], ("openvino", "ort")),
        (["--target", "openvino", "--target", "ort"], ("openvino", "ort")),
    ):
        assert config_from_arguments(parse(["--model", "demo", *arguments])).targets == expected
