"""Requests that cannot succeed are refused before torch is imported and the checkpoint is read."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.helpers.install_commands import install_command
from tinyvit.errors import RequestError
from tinyvit.export.checks.request_checks import check_request, explain_missing_tools
from tinyvit.export.config import ExportConfig
from tinyvit.export.targets import get_target
from tinyvit.export.targets.onnx.target import OnnxTarget
from tinyvit.export.targets.tensorrt.target import TensorRtTarget
from tinyvit.runtimes import cuda

RUN_AND_REPORT_TORCH = """
import sys
from tinyvit.export.cli import main
code = main(sys.argv[1:])
print(code, "torch" in sys.modules)
"""


def run_export(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tinyvit-export in a folder; print its exit code and whether torch was imported."""
    return subprocess.run(
        [sys.executable, "-c", RUN_AND_REPORT_TORCH, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--target", "tflite", "--preprocess", "full", "--int8"],
            "error: litert artifacts are not made with --preprocess full: ",
        ),
        (["--target", "nothing"], "error: no target is called 'nothing': "),
        (
            ["--model", "tinyvit_5m", "--labels", "two.txt"],
            "error: 2 labels were given and the model has 1000 classes (2 labels, from 0: cat to 1:"
            " dog): give one label for each class, in the order of the logits\n",
        ),
        (
            ["--model", "tinyvit_5m", "--labels", "one.txt", "--int8"],
            "error: 1 label was given and the model has 1000 classes",
        ),
    ],
)
def test_impossible_requests_fail_before_torch_is_imported(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    (tmp_path / "one.txt").write_text("cat\n")
    process = run_export(tmp_path, *arguments)
    assert process.stdout == "1 False\n", process.stderr
    assert message in process.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.txt", "two.txt"]


def test_a_missing_tool_is_named_before_torch_is_imported(tmp_path: Path) -> None:
    try:
        version("tensorrt")
        pytest.skip("tensorrt is installed")
    except PackageNotFoundError:
        pass
    process = run_export(tmp_path, "--model", "demo", "--target", "tensorrt", "--flavor", "classic")
    assert process.stdout == "1 False\n", process.stderr
    remedy = install_command("tensorrt")
    assert process.stderr == f"error: tensorrt is not installed: {remedy}\n"


def test_the_remedy_installs_all_missing_tools() -> None:
    class TargetOfMissingTools(OnnxTarget):
        tools = ("torch", "tinyvit-test-missing-a", "tinyvit-test-missing-b")
        extra = "openvino"

    assert explain_missing_tools(get_target("onnx")) is None
    error = explain_missing_tools(TargetOfMissingTools())
    assert str(error) == (f"tinyvit-test-missing-a is not installed: {install_command('openvino')}")


def test_classic_tensorrt_without_a_gpu_is_refused_before_the_checkpoint_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def raise_os_error(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(cuda.ctypes, "CDLL", raise_os_error)
    # The package tensorrt is for NVIDIA's machines; its metadata alone makes it seem installed.
    info = tmp_path / "tensorrt-10.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt\nVersion: 10.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = ExportConfig(
        checkpoint="absent.pth", targets=("tensorrt",), target_options={"flavor": "classic"}
    )
    with pytest.raises(RequestError, match="this machine has no usable GPU"):
        check_request(config, "float32")
    assert TensorRtTarget.explain_machine(get_target("tensorrt")) is None  # that of RTX
