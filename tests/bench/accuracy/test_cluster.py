"""A Ray cluster of two workers on this machine predicts the same, even if one worker is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tinyvit.bench.accuracy import cluster
from tinyvit.bench.accuracy.evaluate import evaluate
from tinyvit.bench.accuracy.hub import open_labeled_images
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.data.dataset import DatasetLocation
from tinyvit.errors import RequestError

pytestmark = pytest.mark.slow


def find_busy_worker() -> int | None:
    """Return the process id of a worker that is predicting a shard."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            is_busy = b"ray::predict_shard" in path.read_bytes()
        except OSError:  # the process has ended
            continue
        if is_busy:
            return int(path.parent.name)
    return None


def test_the_shards_of_a_killed_worker_are_repeated(
    small_classifier: Path, class_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "SHARD_IMAGES", 4)
    path, dataset = (
        str(small_classifier),
        open_labeled_images(DatasetLocation(str(class_folders))),
    )
    expected = evaluate(path, dataset, EvaluationOptions(threads=1)).predictions
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    killed: list[int] = []

    def kill_first_busy_worker() -> None:
        while not killed:
            worker = find_busy_worker()
            if worker is None:
                time.sleep(0.02)
                continue
            killed.append(worker)
            os.kill(worker, signal.SIGKILL)

    try:
        threading.Thread(target=kill_first_busy_worker, daemon=True).start()
        options = EvaluationOptions(threads=1, ray_address="")
        predictions = evaluate(path, dataset, options).predictions
    finally:
        ray.shutdown()
    assert len(killed) == 1
    assert predictions == expected


def test_a_cluster_that_does_not_exist_is_refused(
    small_classifier: Path, class_folders: Path
) -> None:
    pytest.importorskip("ray")
    dataset = open_labeled_images(DatasetLocation(str(class_folders)))
    options = EvaluationOptions(threads=1, ray_address="127.0.0.1:1")
    with pytest.raises(RequestError, match="no Ray cluster answers at 127"):
        evaluate(str(small_classifier), dataset, options)
