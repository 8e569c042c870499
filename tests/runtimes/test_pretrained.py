"""`Classifier.from_pretrained` exports a released model once, in another process."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import tinyvit
from tests.helpers.install_commands import install_command
from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit import Classifier
from tinyvit.errors import CheckpointError, MissingDependencyError, RequestError
from tinyvit.processes.limited_program import EndedProcess, RunLimits
from tinyvit.runtimes import pretrained

DEMO_PATH = Path(tinyvit.__file__).parent / "assets" / "demo.safetensors"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("TINYVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def commands(
    build_artifact: ArtifactBuilder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> list[list[str]]:
    """The export commands that were run; each only copies a small classifier.

    Its manifest has the hash of the demo's weights.
    """
    for package in ("torch", "onnx"):
        pytest.importorskip(package)
    commands: list[list[str]] = []

    def copy_classifier(command: list[str], limits: RunLimits) -> EndedProcess:
        assert limits.seconds == 7200
        commands.append(command)
        shutil.copy(build_artifact(), command[command.index("-o") + 1])
        return EndedProcess(0, stdout=b"{}", stderr=b"")

    monkeypatch.setattr(pretrained, "run_bounded", copy_classifier)
    monkeypatch.setattr(pretrained, "sha256", {DEMO_PATH: "0" * 64}.__getitem__)
    return commands


def test_a_model_is_exported_the_first_time(commands: list[list[str]], cache: Path) -> None:
    for name in ("tinyvit_5m", "tiny_vit_5m_224", "timm/tiny_vit_5m_224.dist_in22k_ft_in1k"):
        with Classifier.from_pretrained(name, top_k=3, threads=1) as classifier:
            assert classifier.describe().file == "tiny_vit_5m_224.dist_in22k_ft_in1k.onnx"
            assert classifier.describe().runtime.threads == 1
    assert len(commands) == 1
    assert commands[0][3:5] == ["--model", "tiny_vit_5m_224.dist_in22k_ft_in1k"]
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".onnx"]


def test_the_command_is_one_that_tinyvit_export_accepts(commands: list[list[str]]) -> None:
    from tinyvit.export.command_line.arguments import make_export_parser

    Classifier.from_pretrained("demo").close()
    assert "run_module('tinyvit.export.cli', " in commands[0][2]
    arguments = make_export_parser().parse_args(commands[0][3:])
    assert (arguments.model, arguments.target) == ("demo", ["onnx"])


def test_a_file_of_another_version_is_exported_again(
    commands: list[list[str]], cache: Path
) -> None:
    Classifier.from_pretrained("demo").close()
    Classifier.from_pretrained("demo").close()
    assert len(commands) == 1
    path = next(cache.rglob("demo.onnx"))
    path.write_bytes(b"written by another version")
    Classifier.from_pretrained("demo").close()
    assert len(commands) == 2


def test_the_demo_is_exported_again_if_its_weights_are_others(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Classifier.from_pretrained("demo").close()
    Classifier.from_pretrained("tinyvit_5m").close()
    monkeypatch.setattr(pretrained, "sha256", {DEMO_PATH: "1" * 64}.__getitem__)
    Classifier.from_pretrained("demo").close()
    Classifier.from_pretrained("tinyvit_5m").close()
    assert [command[4] for command in commands] == [
        "demo",
        "tiny_vit_5m_224.dist_in22k_ft_in1k",
        "demo",
    ]


def test_unknown_names_and_paths_are_refused(
    cache: Path, tmp_path: Path, build_artifact: ArtifactBuilder
) -> None:
    with pytest.raises(RequestError, match="nearest: tinyvit_5m"):
        Classifier.from_pretrained("tinyvit_6m")
    with pytest.raises(RequestError, match="not the name of a released model"):
        Classifier.from_pretrained(str(build_artifact()))
    assert not cache.exists()


def test_a_missing_extra_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", {"torch": None}.get)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("export"))):
        Classifier.from_pretrained("demo")
    assert not cache.exists()


def test_the_error_of_the_export_is_raised(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(cache))
    with pytest.raises(CheckpointError) as caught:
        Classifier.from_pretrained("tinyvit_5m")
    name = "tiny_vit_5m_224.dist_in22k_ft_in1k"
    assert str(caught.value) == (
        f"{name} cannot be exported: {name} is not in the hub's cache, and the hub is not asked in"
        " offline mode: unset HF_HUB_OFFLINE, or download model.safetensors from"
        f" huggingface.co/timm/{name} on another machine and give that file instead of the name"
        " (tinyvit-export --checkpoint FILE), then open the exported file with Classifier(PATH)"
    )
    assert list(cache.rglob("*.onnx")) == []


@pytest.mark.slow
def test_the_demo_model_is_exported_and_classifies(cache: Path, images: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    with Classifier.from_pretrained("demo") as classifier:
        assert classifier.predict(images / "coffee.jpg")[0].label == "espresso"
