"""A Ray cluster of two workers on this machine, one of which is killed in mid-run, gives the same answers."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tinyvit.bench.accuracy import cluster
from tinyvit.bench.accuracy.datasets import Place, open_dataset
from tinyvit.bench.accuracy.evaluate import evaluate
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.errors import RequestError

pytestmark = pytest.mark.slow


def test_a_worker_that_is_killed(
    demo: dict[str, Path], folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "SHARD", 4)
    dataset = open_dataset(Place(str(folders)))
    alone = evaluate(str(demo["onnx"]), dataset, EvaluationOptions(threads=1)).answers
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    killed: list[int] = []

    def kill() -> None:
        """The first worker that is seen to be at a shard."""
        while not killed:
            for line in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    is_at_work = b"ray::shard" in line.read_bytes()
                except OSError:
                    continue
                if is_at_work:
                    killed.append(int(line.parent.name))
                    os.kill(killed[0], signal.SIGKILL)
                    return
            time.sleep(0.02)

    try:
        threading.Thread(target=kill, daemon=True).start()
        shared = evaluate(str(demo["onnx"]), dataset, EvaluationOptions(threads=1, ray="")).answers
    finally:
        ray.shutdown()
    assert len(killed) == 1
    assert shared == alone


def test_a_cluster_that_is_not_there(demo: dict[str, Path], folders: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(RequestError, match="no Ray cluster answers at 127"):
        evaluate(
            str(demo["onnx"]),
            open_dataset(Place(str(folders))),
            EvaluationOptions(threads=1, ray="127.0.0.1:1"),
        )
