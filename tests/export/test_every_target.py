"""The artifacts of every target, exported once, run, verify, and refuse wrong input."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.helpers.exports import shorten_timing
from tinyvit import Classifier
from tinyvit.errors import ArtifactError, RequestError, TinyViTError
from tinyvit.export import ExportConfig, ExportedArtifact, ExportReport, export
from tinyvit.export.targets import get_target, target_names
from tinyvit.runtimes.artifact import content_sha256, detect_format, read_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, Runtime, RuntimeOptions
from tinyvit.runtimes.registry import engine_names, get_engine, open_runtime
from tinyvit.runtimes.verify import verify

CALLS, REFERENCE_CALLS = 1000, 30
"""Calls during which the process must not grow; a reference evaluator, in numpy, is slow."""
MAX_GROWTH_BYTES = 8 * 2**20

QUICK_TARGETS = ("onnx", "openvino")
"""Targets whose files take seconds to make; a second file of another target takes a minute."""


def parity_engine(artifact: ExportedArtifact) -> str | None:
    """Return the engine that runs an artifact on this machine; None stands for its own."""
    target = get_target(artifact.manifest.target)
    if target.parity_method == "graph":
        pytest.skip(f"no engine runs {target.name} files here")
    return target.reference_engine


def allowed_difference(artifact: ExportedArtifact) -> float:
    """Return the largest difference of a logit from that of the float32 network."""
    return {"float32": 1e-3, "float16": 0.03}[artifact.manifest.precision]


def is_installed(distribution: str) -> bool:
    try:
        return bool(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return False


@pytest.fixture(params=target_names())
def artifact(
    demo_64_artifacts: dict[str, ExportedArtifact], request: pytest.FixtureRequest
) -> ExportedArtifact:
    """The demo model at 64 pixels for each target."""
    if request.param not in demo_64_artifacts:
        pytest.skip(f"the tools of {request.param} are not installed")
    return demo_64_artifacts[request.param]


@pytest.fixture
def runtime(artifact: ExportedArtifact) -> Iterator[Runtime]:
    """The artifact, opened in the engine that runs it here."""
    options = RuntimeOptions(AUTO_DEVICE)
    with open_runtime(artifact.path, parity_engine(artifact), options) as opened_runtime:
        yield opened_runtime


def random_batch(runtime: Runtime, seed: int = 0) -> npt.NDArray[np.float32]:
    shape = runtime.inputs[0].shape
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def resident_bytes() -> int:
    """Return the memory that this process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_installed_targets_have_artifacts_and_the_others_are_reported(
    demo_64_report: ExportReport, demo_64_artifacts: dict[str, ExportedArtifact]
) -> None:
    installed = {
        name
        for name in target_names()
        if all(map(is_installed, get_target(name).tools))
        and get_target(name).explain_machine() is None
    }
    failures = demo_64_report.failures
    assert set(demo_64_artifacts) == installed
    assert {failure.target for failure in failures} == set(target_names()) - installed
    assert all(failure.is_skipped and "pip install" in failure.error.remedy for failure in failures)


def test_the_file_describes_itself(artifact: ExportedArtifact) -> None:
    manifest = read_artifact(artifact.path).manifest
    assert manifest == artifact.manifest
    assert manifest.parity is not None
    assert manifest.parity.max_abs_diff < allowed_difference(artifact)
    assert manifest.content_sha256 == content_sha256(artifact.path)
    assert len(manifest.labels) == 12
    is_float16 = manifest.precision == "float16"
    stem = "demo_64.float16" if is_float16 else "demo_64"
    assert artifact.path.name == f"{stem}{get_target(manifest.target).suffix}"
    assert artifact.size_bytes > (4e6 if is_float16 else 8e6)


def test_the_file_verifies_where_it_runs(artifact: ExportedArtifact) -> None:
    if get_target(artifact.manifest.target).parity_method == "graph":
        with pytest.raises(TinyViTError, match="driver"):
            verify(artifact.path)
        return
    verification = verify(artifact.path, parity_engine(artifact))
    assert verification.passed, verification.reasons


def test_all_targets_give_the_same_label(
    artifact: ExportedArtifact, demo_64_artifacts: dict[str, ExportedArtifact], images: Path
) -> None:
    photograph = images / "coffee.jpg"
    with (
        Classifier(artifact.path, parity_engine(artifact)) as classifier,
        Classifier(demo_64_artifacts["onnx"].path) as onnx_classifier,
    ):
        difference = classifier.logits(photograph) - onnx_classifier.logits(photograph)
        assert np.abs(difference).max() < allowed_difference(artifact)
        label = classifier.predict(photograph)[0].label
        assert label == onnx_classifier.predict(photograph)[0].label


def test_logits_belong_to_the_caller_and_a_closed_file_stays_closed(
    artifact: ExportedArtifact,
) -> None:
    runtime = open_runtime(artifact.path, parity_engine(artifact))
    first, second = random_batch(runtime, seed=0), random_batch(runtime, seed=1)
    logits = runtime.run(first)
    copied_logits = logits.copy()
    assert not np.array_equal(runtime.run(second), copied_logits)
    assert np.array_equal(logits, copied_logits)
    two_images = np.zeros((2, *first.shape[1:]), np.float32)
    for wrong_batch in (first.astype(np.float64), first[..., :-1], two_images):
        with pytest.raises(ArtifactError, match="the input is"):
            runtime.run(wrong_batch)
    assert runtime.describe().engine
    runtime.close()
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(first)


def test_nan_passes_and_leaves_no_trace(runtime: Runtime) -> None:
    before = runtime.run(random_batch(runtime))
    logits = runtime.run(np.full_like(random_batch(runtime), np.nan))
    assert logits.shape == before.shape
    assert np.array_equal(runtime.run(random_batch(runtime)), before)


def test_two_threads_may_run_a_file(runtime: Runtime) -> None:
    batches = [random_batch(runtime, seed) for seed in range(4)]
    expected = [runtime.run(batch) for batch in batches]
    with ThreadPoolExecutor(2) as pool:
        for logits, expected_logits in zip(pool.map(runtime.run, batches * 5), expected * 5):
            assert np.array_equal(logits, expected_logits)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as on Linux")
def test_many_calls_do_not_grow_the_process(artifact: ExportedArtifact, runtime: Runtime) -> None:
    is_reference = get_target(artifact.manifest.target).reference_engine is not None
    calls, batch = REFERENCE_CALLS if is_reference else CALLS, random_batch(runtime)
    for _ in range(calls // 10):
        runtime.run(batch)
    before = resident_bytes()
    for _ in range(calls):
        runtime.run(batch)
    assert resident_bytes() - before < MAX_GROWTH_BYTES


def test_engines_refuse_the_files_of_other_engines(artifact: ExportedArtifact) -> None:
    for name in engine_names():
        if all(file.suffix != artifact.path.suffix for file in get_engine(name).formats):
            with pytest.raises(RequestError, match="does not open"):
                open_runtime(artifact.path, name)


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK_TARGETS else pytest.param(name, marks=pytest.mark.slow)
        for name in target_names()
    ],
)
def test_eight_images_at_once(
    name: str, demo_64_artifacts: dict[str, ExportedArtifact], tmp_path: Path
) -> None:
    target = get_target(name)
    if name not in demo_64_artifacts:
        pytest.skip(f"the tools of {name} are not installed")
    single_artifact = demo_64_artifacts[name]
    parity_engine(single_artifact)
    if target.batch_sizes == "one":
        pytest.skip("the target refuses several images, which another test checks")
    is_open = target.batch_sizes == "any"
    path = tmp_path / f"eight{target.suffix}"
    config = ExportConfig(
        model="demo",
        targets=(name,),
        img_size=64,
        windows="scaled",
        batch=None if is_open else 8,
        output_path=path,
        float16="float32" in target.unsupported,
    )
    with shorten_timing():
        export(config)
    with open_runtime(path) as eight, open_runtime(single_artifact.path) as single:
        image_shape = single.inputs[0].shape[1:]
        images = np.random.default_rng(0).normal(size=(8, *image_shape)).astype(np.float32)
        logits = eight.run(images)
        assert logits.shape == (8, 12)
        for image, image_logits in zip(images, logits):
            difference = np.abs(single.run(image[None])[0] - image_logits).max()
            assert difference < allowed_difference(single_artifact)
        if is_open:
            assert np.abs(eight.run(images[:1]) - logits[:1]).max() < 1e-3


def test_a_renamed_file_is_recognized_by_its_content(
    artifact: ExportedArtifact, tmp_path: Path
) -> None:
    if artifact.path.is_dir():
        pytest.skip("the artifact is a folder")
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(artifact.path.read_bytes())
    assert detect_format(renamed) is detect_format(artifact.path)


def test_truncated_files_are_refused(artifact: ExportedArtifact, tmp_path: Path) -> None:
    if artifact.path.is_dir():
        pytest.skip("the artifact is a folder, which its own tests damage")
    data = artifact.path.read_bytes()
    truncated = tmp_path / f"truncated{get_target(artifact.manifest.target).suffix}"
    for size in (0, 3, 200, len(data) // 2):
        truncated.write_bytes(data[:size])
        with pytest.raises(TinyViTError) as error:
            open_runtime(truncated, None, RuntimeOptions())
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", target_names())
def test_unsupported_requests_are_refused_at_once(name: str, tmp_path: Path) -> None:
    target = get_target(name)
    is_float16 = "float32" in target.unsupported

    def request(**options: Any) -> None:
        path = tmp_path / f"x{target.suffix}"
        config = ExportConfig(model="demo", targets=(name,), output_path=path, **options)
        export(replace(config, float16=is_float16))

    if "full" in target.unsupported:
        with pytest.raises(RequestError, match="--preprocess full"):
            request(preprocess="full")
    if target.batch_sizes != "any":
        with pytest.raises(RequestError, match=r"fixed batch|one image"):
            request(batch=None)
    if target.batch_sizes == "one":
        with pytest.raises(RequestError, match="one image"):
            request(batch=2)
    for alias in target.aliases:
        assert get_target(alias) is target
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("onnx", {"flavor": "rtx"}, "--flavor is an option of --target tensorrt"),
        ("onnx", {"color": "red"}, "no target has an option --color"),
        (
            "executorch",
            {"delegate": "qnn"},
            "--delegate qnn is not available: it needs Qualcomm.s SDK",
        ),
        ("tensorrt", {"flavor": "rtx", "compute": "8.0"}, r"8\.0"),
    ],
)
def test_impossible_target_options_are_refused(
    target: str, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    config = ExportConfig(
        model="demo", targets=(target,), target_options=options, output_path=f"{tmp_path}/"
    )
    with pytest.raises(RequestError, match=message):
        export(config)
