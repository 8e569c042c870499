"""An open `Classifier` can be pickled and copied, and works in forked processes."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit import Classifier
from tinyvit.errors import ArtifactError
from tinyvit.runtimes import RuntimeOptions, read_artifact
from tinyvit.runtimes.reopening import ReopeningRuntime

PIXELS = np.random.default_rng(5).integers(0, 256, (40, 50, 3), np.uint8)

PRELOADED_SERVER = """
import os, sys
import numpy as np
from tinyvit import Classifier

path, engine = sys.argv[1:3]
image = np.random.default_rng(5).integers(0, 256, (40, 50, 3), np.uint8)
classifier = Classifier(path, engine, threads=2)
expected = classifier.predict(image)
workers = []
for request_count in (2, 2, 0):
    worker = os.fork()
    if worker == 0:
        for _ in range(request_count):
            assert classifier.predict(image) == expected
        assert classifier.describe().runtime.engine == engine
        if request_count == 2:
            classifier.close()
        sys.exit(7)  # like a worker of gunicorn: through the interpreter's own cleanup
    workers.append(worker)
codes = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
assert classifier.predict(image) == expected
print(codes)
"""
"""What gunicorn --preload does: the model is opened, then worker processes are forked. One of the
workers never gets a request."""


def pickle_and_load(classifier: Classifier) -> Classifier:
    duplicate = pickle.loads(pickle.dumps(classifier))
    assert isinstance(duplicate, Classifier)
    return duplicate


@pytest.mark.parametrize("duplicate_of", [pickle_and_load, copy.deepcopy])
def test_a_copy_predicts_the_same(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str], duplicate_of: Any
) -> None:
    engine, suffix = engine_and_suffix
    names = [f"mine {i}" for i in range(10)]
    classifier = Classifier(build_artifact(suffix), engine, threads=1, top_k=2, labels=names)
    expected = classifier.predict(PIXELS)
    assert expected[0].label.startswith("mine")
    duplicate = duplicate_of(classifier)
    assert duplicate.describe() == classifier.describe()
    assert duplicate.labels == classifier.labels
    classifier.close()
    assert duplicate.predict(PIXELS) == expected


def test_a_copy_does_not_depend_on_the_current_folder(
    copy_artifact: ArtifactBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier = Classifier(copy_artifact().name)
    state = pickle.dumps(classifier)
    monkeypatch.chdir("/")
    assert pickle.loads(state).predict(PIXELS) == classifier.predict(PIXELS)


def test_a_copy_of_a_file_without_manifest_gives_no_second_warning(
    build_artifact: ArtifactBuilder,
) -> None:
    with pytest.warns(UserWarning, match="has no manifest"):
        classifier = Classifier(build_artifact(manifest=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        duplicate = copy.deepcopy(classifier)
    assert duplicate.predict(PIXELS) == classifier.predict(PIXELS)


def test_a_copy_of_a_closed_classifier_is_closed(build_artifact: ArtifactBuilder) -> None:
    classifier = Classifier(build_artifact())
    classifier.close()
    duplicate = copy.deepcopy(classifier)
    duplicate.close()
    with pytest.raises(ArtifactError, match="closed"):
        duplicate.predict(PIXELS)


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.filterwarnings("ignore:.*has no manifest")
def test_a_file_that_was_replaced_is_not_opened_as_a_copy(
    build_artifact: ArtifactBuilder, tmp_path: Path, manifest: bool
) -> None:
    path = tmp_path / "a.onnx"
    shutil.copy(build_artifact(manifest=manifest), path)
    classifier = Classifier(path)
    state = pickle.dumps(classifier)
    shutil.copy(build_artifact(batch=4, manifest=manifest), path)
    with pytest.raises(ArtifactError, match="was replaced after it was opened"):
        pickle.loads(state)
    path.unlink()
    for reopen in (lambda: pickle.loads(state), lambda: copy.deepcopy(classifier)):
        with pytest.raises(
            ArtifactError, match=r"was removed after it was opened.*: keep the file"
        ):
            reopen()


def predict_in_another_process(classifier: Classifier) -> list[str]:
    return [prediction.label for prediction in classifier.predict(PIXELS)]


def test_a_process_pool_takes_a_classifier(build_artifact: ArtifactBuilder) -> None:
    classifier = Classifier(build_artifact(), top_k=3)
    expected = predict_in_another_process(classifier)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(predict_in_another_process, classifier).result(timeout=60) == expected


def run_server(path: Path, engine: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", PRELOADED_SERVER, str(path), engine],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS' own libraries do not survive a fork")
def test_workers_that_were_forked_with_an_open_classifier_answer_and_end(
    build_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    assert run_server(build_artifact(suffix), engine) == "[7, 7, 7]\n"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tried on Linux only")
@pytest.mark.parametrize("engine", ["litert", "executorch"])
def test_mobile_engines_work_in_forked_workers(
    demo_64_artifacts: dict[str, Any], engine: str
) -> None:
    if engine not in demo_64_artifacts:
        pytest.skip(f"needs the tools of {engine}")
    assert run_server(demo_64_artifacts[engine].path, engine) == "[7, 7, 7]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_its_own_engine(build_artifact: ArtifactBuilder) -> None:
    """The parent's engine is not used and not closed by the child."""
    pytest.importorskip("onnxruntime")
    options = RuntimeOptions(threads=1)
    with ReopeningRuntime(read_artifact(build_artifact()), "onnxruntime", options) as runtime:
        inherited = runtime._runtime
        child = os.fork()
        if child == 0:
            runtime.describe()
            os._exit(0 if runtime._runtime is not inherited else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert runtime._runtime is inherited


@pytest.mark.slow
def test_a_task_of_ray_takes_a_classifier(
    build_artifact: ArtifactBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task captures the classifier, as Ray pickles it, and an actor keeps it."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    classifier = Classifier(build_artifact(), threads=1, top_k=3)
    expected = [prediction.label for prediction in classifier.predict(PIXELS)]
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        task = ray.remote(lambda: predict_in_another_process(classifier))
        assert ray.get(task.remote(), timeout=120) == expected
        reference = ray.put(classifier)
        with_argument = ray.remote(predict_in_another_process)
        assert ray.get(with_argument.remote(reference), timeout=120) == expected
    finally:
        ray.shutdown()
    assert [prediction.label for prediction in classifier.predict(PIXELS)] == expected
