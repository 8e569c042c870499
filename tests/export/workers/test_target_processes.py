"""Workers make artifacts side by side, pause for one another, and never stay behind.

Small programs take the part of the workers here; test_side_by_side.py has real ones.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.export import FailedTarget
from tinyvit.export.plan import PlannedArtifact
from tinyvit.export.targets import get_target
from tinyvit.export.workers import target_processes
from tinyvit.export.workers.target_processes import make_in_processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot pause processes")

WORKER = """
import os, sys, time
from multiprocessing.connection import Connection
from pathlib import Path
from tinyvit.errors import RequestError
from tinyvit.export.workers.worker_messages import *

os.setpgid(0, 0)
connection = Connection(int(sys.argv[1]))
connection.send(Ready())
setup = connection.recv()
folder = Path(setup)
while True:
    try:
        group = connection.recv()
    except EOFError:
        break
    for planned in group:
        name = planned.target.name
        {body}
        connection.send(Finished((name, os.getpid())))
    connection.send(Ready())
"""
"""Code of a worker that does {body} for every artifact, and then reports the name of the target and
the number of its process as the result. The `WorkerSetup` is the path of a folder."""

MEASURE_OR_WRITE = """
        if name == "onnx":
            while not (folder / "steps").exists():
                time.sleep(0.01)
            connection.send(QuietRequest())
            connection.recv()
            sizes = []
            for _ in range(2):
                sizes.append((folder / "steps").stat().st_size)
                time.sleep(0.5)
            connection.send(QuietEnd())
            while (folder / "steps").stat().st_size == sizes[1]:
                time.sleep(0.01)
            connection.send(Report("paused" if sizes[0] == sizes[1] else "running"))
            (folder / "end").touch()
        else:
            while not (folder / "end").exists():
                with (folder / "steps").open("a") as file:
                    file.write("step")
                time.sleep(0.001)
"""
"""The worker of "onnx" measures, and observes whether the other one goes on writing meanwhile."""

RunWorkers = Callable[..., "list[Any]"]


@pytest.fixture
def progress() -> RecordedProgress:
    """What the workers reported."""
    return RecordedProgress()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that the test has started."""
    started: list[subprocess.Popen[bytes]] = []

    class RecordedPopen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(target_processes.subprocess, "Popen", RecordedPopen)
    return started


@pytest.fixture
def run_workers(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    progress: RecordedProgress,
    processes: list[subprocess.Popen[bytes]],
) -> RunWorkers:
    """Run workers with the code of a body on groups of targets, and return the results."""

    def run(
        body: str,
        *groups: str,
        count: int = 2,
        code: str = WORKER,
        make_images: Callable[[], Tensor] = lambda: torch.zeros(0),
    ) -> list[Any]:
        monkeypatch.setattr(target_processes, "_CODE", code.format(body=body.strip()))
        planned = [
            tuple(PlannedArtifact(get_target(name), tmp_path / name) for name in group.split())
            for group in groups
        ]
        setup: Any = str(tmp_path)
        return list(make_in_processes(planned, setup, make_images, count, 1, progress))

    return run


def test_every_artifact_is_made_once_and_groups_stay_together(
    run_workers: RunWorkers, processes: list[Any], progress: RecordedProgress
) -> None:
    results = run_workers("time.sleep(0.3)", "coreml tensorrt", "onnx", "openvino", "litert")
    makers = dict(results)
    assert len(results) == 5
    assert sorted(makers) == ["coreml", "litert", "onnx", "openvino", "tensorrt"]
    assert makers["coreml"] == makers["tensorrt"]
    assert len(set(makers.values())) == len(processes) == 2
    assert progress.steps[-1] == ("exporting, files", 5, 5)
    assert all(process.returncode == 0 for process in processes)


def test_no_more_processes_start_than_there_are_groups(
    run_workers: RunWorkers, processes: list[Any]
) -> None:
    assert len(run_workers("", "onnx", "openvino", count=5)) == 2
    assert len(processes) == 2


def test_other_workers_are_paused_while_one_measures(
    run_workers: RunWorkers, progress: RecordedProgress
) -> None:
    run_workers(MEASURE_OR_WRITE, "onnx", "openvino")
    assert progress.messages == ["paused"]


def test_two_workers_measure_one_after_the_other(run_workers: RunWorkers, tmp_path: Path) -> None:
    body = """
        connection.send(QuietRequest())
        connection.recv()
        for event in ("begin", "end"):
            with (folder / "events").open("a") as file:
                file.write(f"{name} {event}\\n")
            time.sleep(0.2)
        connection.send(QuietEnd())
    """
    run_workers(body, "onnx", "openvino", "litert")
    lines = (tmp_path / "events").read_text().splitlines()
    assert len(lines) == 6
    for begin, end in zip(lines[::2], lines[1::2]):
        assert begin.split()[0] == end.split()[0]
        assert [begin.split()[1], end.split()[1]] == ["begin", "end"]


def test_an_artifact_fails_if_its_process_is_killed(
    run_workers: RunWorkers, progress: RecordedProgress
) -> None:
    body = "os.kill(os.getpid(), 9) if name == 'onnx' else None"
    results = run_workers(body, "openvino", "onnx ort", "litert", "coreml")
    errors = {
        result.target: str(result.error) for result in results if isinstance(result, FailedTarget)
    }
    made = [result[0] for result in results if not isinstance(result, FailedTarget)]
    assert sorted(made) == ["coreml", "litert", "openvino"]
    assert sorted(errors) == ["onnx", "ort"]
    for name in ("onnx", "ort"):
        assert errors[name] == (
            f"the process that made the {name} artifact ended unexpectedly (signal 9): the memory"
            " may be too small for several processes: use --processes 1"
        )


def test_a_worker_that_is_killed_while_it_measures_does_not_leave_others_paused(
    run_workers: RunWorkers,
) -> None:
    body = """
        if name == "onnx":
            connection.send(QuietRequest())
            connection.recv()
            os.kill(os.getpid(), 9)
        time.sleep(0.3)
    """
    results = run_workers(body, "onnx", "openvino", "litert")
    failures = [result.target for result in results if isinstance(result, FailedTarget)]
    assert failures == ["onnx"]
    assert len(results) == 3


def test_a_worker_that_cannot_start_ends_the_export(
    run_workers: RunWorkers, processes: list[Any]
) -> None:
    with pytest.raises(ArtifactError, match=r"ended unexpectedly \(exit code 3\)"):
        run_workers("", "onnx", "openvino", code="sys.exit(3)")
    assert all(process.returncode is not None for process in processes)


def test_an_error_of_one_worker_stops_all(run_workers: RunWorkers, processes: list[Any]) -> None:
    body = """
        if name == "onnx":
            connection.send(Aborted(RequestError("the disk is full", "free space")))
        time.sleep(60)
    """
    with pytest.raises(RequestError, match="the disk is full: free space"):
        run_workers(body, "onnx", "openvino")
    assert all(process.returncode is not None for process in processes)


@pytest.mark.parametrize("measures", [False, True], ids=["working", "measuring"])
def test_an_interruption_stops_all_workers_also_paused_ones(
    run_workers: RunWorkers,
    processes: list[Any],
    progress: RecordedProgress,
    monkeypatch: pytest.MonkeyPatch,
    measures: bool,
) -> None:
    def interrupt(_text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress, "message", interrupt)
    body = f"""
        if name == "onnx":
            if {measures}:
                connection.send(QuietRequest())
                connection.recv()
            connection.send(Report("begun"))
        time.sleep(60)
    """
    with pytest.raises(KeyboardInterrupt):
        run_workers(body, "onnx", "openvino")
    assert len(processes) == 2
    assert all(process.returncode is not None for process in processes)


def test_images_for_the_ranking_of_layers_come_from_the_export(
    run_workers: RunWorkers, progress: RecordedProgress
) -> None:
    body = """
        connection.send(SensitivityImagesRequest())
        connection.send(Report(str(connection.recv().shape)))
    """
    run_workers(body, "onnx", "openvino", make_images=lambda: torch.zeros(2, 3, 4, 4))
    assert progress.messages == ["(2, 3, 4, 4)"] * 2


def test_a_worker_receives_the_error_that_prevents_the_images(
    run_workers: RunWorkers, progress: RecordedProgress
) -> None:
    def refuse() -> Tensor:
        raise RequestError("there are no images", "give images")

    body = """
        connection.send(SensitivityImagesRequest())
        connection.send(Report(str(connection.recv())))
    """
    run_workers(body, "onnx", "openvino", make_images=refuse)
    assert progress.messages == ["there are no images: give images"] * 2
