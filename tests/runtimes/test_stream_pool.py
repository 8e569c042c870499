"""Several streams compute the same predictions as one, at the same time."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit import Classifier
from tinyvit.errors import ArtifactError, ImageError, RequestError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.runtimes.base import Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.cli import predict
from tinyvit.runtimes.registry import open_runtime, streaming_engines
from tinyvit.runtimes.stream_pool import StreamPool


class WaitingRuntime(Runtime):
    """Returns a batch when as many batches as the barrier expects are being computed."""

    inputs = outputs = (TensorSpec("x", (1,), "float32", ""),)

    def __init__(self, barrier: threading.Barrier) -> None:
        self.barrier, self.is_closed = barrier, False

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        self.barrier.wait(30)
        return (batch,)

    def describe(self) -> RuntimeInfo:
        return RuntimeInfo("none", "1", "cpu", 1, "float32")

    def close(self) -> None:
        self.is_closed = True


def test_batches_are_computed_at_the_same_time() -> None:
    barrier = threading.Barrier(3)
    opened: list[WaitingRuntime] = []

    def open_one() -> Runtime:
        opened.append(WaitingRuntime(barrier))
        return opened[-1]

    pool = StreamPool(open_one, 3)
    results: list[float] = []
    threads = [
        threading.Thread(target=lambda: results.append(float(pool.run(np.ones(1))[0])))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [1.0] * 6
    pool.close()
    assert [runtime.is_closed for runtime in opened] == [True] * 3


def test_a_copy_that_cannot_be_opened_closes_the_others() -> None:
    opened = [WaitingRuntime(threading.Barrier(1))]

    def open_one() -> Runtime:
        if len(opened) == 3:
            raise ArtifactError("the memory is full", "use fewer streams")
        opened.append(WaitingRuntime(threading.Barrier(1)))
        return opened[-1]

    with pytest.raises(ArtifactError, match="memory is full"):
        StreamPool(open_one, 4)
    assert [runtime.is_closed for runtime in opened[1:]] == [True, True]


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_predictions_are_those_of_one_stream(
    build_artifact: ArtifactBuilder,
    engine_and_suffix: tuple[str, str],
    image_files: list[Path],
    tmp_path: Path,
    batch: int | str,
) -> None:
    engine, suffix = engine_and_suffix
    path = build_artifact(suffix, batch=batch)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    images = [*image_files * 7, tmp_path / "broken.png", *image_files]
    with Classifier(path, engine, threads=1) as one, Classifier(path, engine, streams=3) as several:
        assert several.describe().streams == 3
        assert several.describe().runtime.threads == 1
        expected = list(one.logits_each(images))
        for copy in (several, pickle.loads(pickle.dumps(several))):
            for chunk in (None, 5):
                results = list(copy.logits_each(images, chunk=chunk))
                assert len(results) == len(images)
                for row, expected_row in zip(results, expected):
                    if isinstance(expected_row, ImageError):
                        assert isinstance(row, ImageError)
                    else:
                        assert np.allclose(row, expected_row, atol=1e-4)
    with pytest.raises(ArtifactError, match="closed"):
        several.logits(image_files[0])


def test_an_iterator_can_be_abandoned(
    build_artifact: ArtifactBuilder, image_files: list[Path]
) -> None:
    """Images of an endless iterator are taken a few ahead only."""
    taken = 0

    def count_endlessly() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield image_files[0]

    with Classifier(build_artifact(batch=1), "onnxruntime", streams=2) as classifier:
        results = classifier.logits_each(count_endlessly())
        for _ in range(3):
            next(results)
        results.close()  # type: ignore[attr-defined]
        assert taken < 40


def test_small_files_of_every_engine_with_streams(
    demo_64_artifacts: dict[str, Any], image_files: list[Path]
) -> None:
    suffixes = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "litert"}
    assert set(suffixes.values()) == set(streaming_engines())
    for target, engine in suffixes.items():
        if target in demo_64_artifacts:
            path = demo_64_artifacts[target].path
            with Classifier(path, engine, threads=1) as one, Classifier(path, streams=2) as two:
                assert np.allclose(one.logits(image_files), two.logits(image_files), atol=1e-4)


def test_other_engines_say_which_ones_have_streams(demo_64_artifacts: dict[str, Any]) -> None:
    if "executorch" not in demo_64_artifacts:
        pytest.skip("needs ExecuTorch")
    with pytest.raises(RequestError, match=r"executorch does not .*: leave --streams out$"):
        open_runtime(demo_64_artifacts["executorch"].path, options=RuntimeOptions(streams=2))


@pytest.mark.parametrize("streams", [0, 65, 1.5, "2"])
def test_numbers_of_streams_are_checked(streams: Any) -> None:
    with pytest.raises(RequestError, match="streams="):
        RuntimeOptions(streams=streams)


def test_the_command_prints_the_same(
    build_artifact: ArtifactBuilder,
    image_files: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(build_artifact()), *map(str, image_files)]
    outputs = []
    for options in ([], ["--streams", "2"]):
        assert predict([*arguments, *options]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != ""
