"""All targets in one export, and what holds for every one of their files: the same checks, whatever is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tinyvit import Classifier
from tinyvit.errors import ArtifactError, RequestError, TinyViTError
from tinyvit.export import export, targets
from tinyvit.runtimes import registry
from tinyvit.runtimes.artifact import content_sha256, open_artifact
from tinyvit.runtimes.base import AUTO_DEVICE, RuntimeOptions
from tinyvit.runtimes.registry import open_runtime
from tinyvit.runtimes.verify import verify

MANY, SLOW = 1000, 30
"""Calls that must not grow the process; a reference, in numpy, is called less often."""
MAX_GROWTH = 8 * 2**20


def answers_in(one: Any) -> str | None:
    """The engine that answers for a file on this machine, None for its own."""
    target = targets.get_target(one.manifest.target)
    if target.parity_method == "graph":
        pytest.skip(f"no engine runs {target.name} files here")
    return target.reference_engine


def installed(tool: str) -> bool:
    try:
        return bool(metadata.version(tool))
    except metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(artifacts by target, what was not made), the demo at 64 pixels in float32."""
    done, failed = export("demo", target="all", img_size=64, output=tmp_path_factory.mktemp("all"))
    return {one.manifest.target: one for one in done}, failed


@pytest.fixture(params=targets.target_names())
def one(made: Any, request: pytest.FixtureRequest) -> Any:
    if request.param not in made[0]:
        pytest.skip(f"the tools of {request.param} are not installed")
    return made[0][request.param]


def test_what_is_installed_is_made_and_the_rest_is_told(made: Any) -> None:
    done, failed = made
    there = {
        name
        for name in targets.target_names()
        if all(map(installed, targets.get_target(name).tools))
    }
    assert set(done) == there
    assert {one.target for one in failed} == set(targets.target_names()) - there
    assert all(one.absent and "pip install" in one.error.remedy for one in failed)


def test_the_file_says_what_it_is(one: Any) -> None:
    artifact = open_artifact(one.path)
    assert artifact.manifest == one.manifest
    assert artifact.manifest.parity.max_abs_diff < 1e-3
    assert artifact.manifest.content_sha256 == content_sha256(one.path)
    assert len(artifact.manifest.labels) == 10
    assert one.path.name == f"demo_64{targets.get_target(one.manifest.target).suffix}"
    assert one.size_bytes > 15e6


def test_it_verifies_where_it_runs(one: Any) -> None:
    if targets.get_target(one.manifest.target).parity_method == "graph":
        with pytest.raises(TinyViTError, match="driver"):
            verify(one.path)
        return
    found = verify(one.path, answers_in(one))
    assert found.passed, found.reasons


@pytest.fixture
def runtime(one: Any) -> Iterator[Any]:
    """The file in what answers for it here."""
    with open_runtime(one.path, answers_in(one), RuntimeOptions(AUTO_DEVICE)) as opened:
        yield opened


def pictures(runtime: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=runtime.inputs[0].shape).astype(np.float32)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_all_give_the_same_label(one: Any, images: Path) -> None:
    with (
        Classifier(one.path, answers_in(one)) as classifier,
        Classifier(one.path.with_name("demo_64.onnx")) as onnx,
    ):
        ours, wanted = classifier.logits(images / "coffee.jpg"), onnx.logits(images / "coffee.jpg")
        assert np.abs(ours - wanted).max() < 1e-3
        assert (
            classifier.predict(images / "coffee.jpg")[0].label
            == onnx.predict(images / "coffee.jpg")[0].label
        )


def test_answers_are_the_callers_and_a_closed_file_is_closed(one: Any) -> None:
    runtime = open_runtime(one.path, answers_in(one))
    rng = np.random.default_rng(0)
    shape = runtime.inputs[0].shape
    first, second = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    answer = runtime.run(first)
    before = answer.copy()
    assert not np.array_equal(runtime.run(second), before)
    assert np.array_equal(answer, before)
    for wrong in (first.astype(np.float64), first[..., :-1], np.zeros((2, *shape[1:]), np.float32)):
        with pytest.raises(ArtifactError, match="the input is"):
            runtime.run(wrong)
    assert runtime.describe()["engine"]
    runtime.close()
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(first)


def test_nan_is_let_through_and_forgotten(runtime: Any) -> None:
    before = runtime.run(pictures(runtime))
    answer = runtime.run(np.full(runtime.inputs[0].shape, np.nan, np.float32))
    assert answer.shape == before.shape
    assert np.array_equal(runtime.run(pictures(runtime)), before)


def test_two_threads_may_call(runtime: Any) -> None:
    given = [pictures(runtime, seed) for seed in range(4)]
    wanted = [runtime.run(x) for x in given]
    with ThreadPoolExecutor(2) as pool:
        for answer, want in zip(pool.map(runtime.run, given * 5), wanted * 5):
            assert np.array_equal(answer, want)


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it"
)
def test_many_calls_do_not_grow(one: Any, runtime: Any) -> None:
    many, x = SLOW if targets.get_target(one.manifest.target).reference_engine else MANY, pictures(runtime)
    for _ in range(many // 10):
        runtime.run(x)
    before = resident()
    for _ in range(many):
        runtime.run(x)
    assert resident() - before < MAX_GROWTH


def test_another_engines_file_is_refused(one: Any) -> None:
    own = one.path.suffix
    for name in registry.engine_names():
        if all(format.suffix != own for format in registry.get_engine(name).FORMATS):
            with pytest.raises(RequestError, match="does not open"):
                open_runtime(one.path, name)


@pytest.mark.parametrize("name", targets.target_names())
def test_eight_pictures_at_once(name: str, made: Any, tmp_path: Path) -> None:
    target = targets.get_target(name)
    if name not in made[0]:
        pytest.skip(f"the tools of {name} are not installed")
    answers_in(made[0][name])
    if target.batch_sizes == "one":
        pytest.skip("refused: see below")
    free = target.batch_sizes == "any"
    done, _ = export(
        "demo",
        target=name,
        img_size=64,
        batch=1 if free else 8,
        dynamic_batch=free,
        output=tmp_path / f"x{target.suffix}",
    )
    with open_runtime(done[0].path) as eight, open_runtime(made[0][name].path) as single:
        given = (
            np.random.default_rng(0)
            .normal(size=(8, *single.inputs[0].shape[1:]))
            .astype(np.float32)
        )
        answers = eight.run(given)
        assert answers.shape == (8, 10)
        for x, answer in zip(given, answers):
            assert np.abs(single.run(x[None])[0] - answer).max() < 1e-3
        if free:
            assert np.abs(eight.run(given[:1]) - answers[:1]).max() < 1e-3


def test_a_renamed_file_is_known_by_its_content(one: Any, tmp_path: Path) -> None:
    if one.path.is_dir():
        pytest.skip("a folder's name is not its content's")
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(one.path.read_bytes())
    assert open_artifact(renamed).format.name == open_artifact(one.path).format.name


def test_cut_files_are_refused(one: Any, tmp_path: Path) -> None:
    if one.path.is_dir():
        pytest.skip("its own tests do this")
    data = one.path.read_bytes()
    for size in (0, 3, 200, len(data) // 2):
        cut = tmp_path / f"cut{targets.get_target(one.manifest.target).suffix}"
        cut.write_bytes(data[:size])
        with pytest.raises(TinyViTError) as caught:
            open_runtime(cut, None, RuntimeOptions())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", targets.target_names())
def test_what_a_target_does_not_offer_is_refused_at_once(name: str, tmp_path: Path) -> None:
    target = targets.get_target(name)
    if "full" in target.unsupported:
        with pytest.raises(RequestError, match="--preprocess full"):
            export("demo", target=name, preprocess="full", output=tmp_path / f"x{target.suffix}")
    if target.batch_sizes != "any":
        with pytest.raises(RequestError, match=r"fixed batch|one image"):
            export("demo", target=name, dynamic_batch=True, output=tmp_path / f"x{target.suffix}")
    if target.batch_sizes == "one":
        with pytest.raises(RequestError, match="one image"):
            export("demo", target=name, batch=2, output=tmp_path / f"x{target.suffix}")
    for alias in target.aliases:
        assert targets.get_target(alias) is target
    assert list(tmp_path.iterdir()) == []


def test_options_of_one_target_are_refused_for_others(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--flavor is an option of --target tensorrt"):
        export("demo", target="onnx", options={"flavor": "rtx"}, output=tmp_path / "x.onnx")
    with pytest.raises(
        RequestError, match="ExecuTorch files for qnn are not made here: Qualcomm's own kit"
    ):
        export("demo", target="executorch", options={"delegate": "qnn"}, output=tmp_path / "x.pte")
    with pytest.raises(RequestError, match="no target has an option --color"):
        export("demo", target="onnx", options={"color": "red"}, output=tmp_path / "x.onnx")
    with pytest.raises(RequestError, match=r"8\.0"):
        export(
            "demo", target="tensorrt", options={"flavor": "rtx", "compute": "8.0"}, output=tmp_path
        )
