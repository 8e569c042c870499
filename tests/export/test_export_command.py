"""The command tinyvit-export behaves as documented; most tests start it in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from tests.helpers.exports import full_demo
from tinyvit.export import ExportedArtifact, pipeline
from tinyvit.export.cli import main
from tinyvit.nn.checkpoints.hub import load_released

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run_command() -> RunCommand:
    """Run tinyvit-export with arguments, in a folder."""

    def run(*arguments: Any, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tinyvit.export.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
        )

    return run


def test_the_command_writes_what_its_record_says(run_command: RunCommand, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    process = run_command("--model", "demo", "--target", "onnx", "ov", "-o", folder, "--json")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    record = json.loads(process.stdout)
    artifacts = record["artifacts"]
    assert [artifact["target"] for artifact in artifacts] == ["onnx", "openvino"]
    assert record["failures"] == []
    for artifact in artifacts:
        assert artifact["size_bytes"] > 20e6
        assert artifact["max_abs_diff"] < 1e-4
        assert artifact["engine"]["threads"] == 1
        speed = artifact["speed"]
        assert speed["median_ms"] > 0
        assert speed["samples"] >= 3
        assert speed["baseline_samples"] >= 3
    assert sorted(file.name for file in folder.iterdir()) == ["demo.bin", "demo.onnx", "demo.xml"]
    repeated = run_command("--model", "demo", "-o", folder)
    assert repeated.returncode == 1
    assert repeated.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "--overwrite" in repeated.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--img-size", "x"],
            "'x' is not a size: give the side of a square (224) or height x width (320x256)"
            " (--img-size): correct it; tinyvit-export --help describes it",
        ),
        (
            ["--model", "demo", "--checkpoint", "x"],
            "--checkpoint and --model cannot be given together: give one of them",
        ),
        (
            ["--batch", "2", "--dynamic-batch"],
            "--dynamic-batch and --batch cannot be given together: give one of them",
        ),
        (["--preprocess", "some"], "--preprocess cannot be some: use one of host, normalize, full"),
        (["--nonsense"], "there is no option --nonsense: see tinyvit-export --help"),
        (
            ["--imgsize", "64"],
            "there is no option --imgsize: did you mean --img-size? See tinyvit-export --help",
        ),
        (["mine.pth"], "the argument mine.pth is not expected: use --checkpoint mine.pth"),
        (["tinyvit_5m"], "the argument tinyvit_5m is not expected: use --model tinyvit_5m"),
        (
            ["--checkpoint", "https://a.org/b.pth"],
            "--checkpoint https://a.org/b.pth is a URL, and a path is needed: give the path of a"
            " local file or folder; download a remote file first",
        ),
    ],
)
def test_usage_errors_exit_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_error:
        main(arguments)
    assert exit_error.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-drop", "1"], "--max-drop is an option of --int8"),
        (["--force"], "--force is an option of --int8"),
        (["--int8", "--max-drop", "1"], "give --val-data"),
        (["--int8", "--min-agreement", "99", "--val-data", "."], "give --max-drop instead"),
        (["--target", "onnx", "--flavor", "rtx"], "is an option of --target tensorrt"),
    ],
)
def test_options_without_meaning_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", "demo", "-o", str(tmp_path / "x.onnx"), *arguments]) == 1
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "mine.pth"], "mine.pth is a file: use --checkpoint mine.pth"),
        (["--model", "run"], "run is a folder: use --checkpoint run"),
        (["--model", "absent.pth"], "give an existing file with --checkpoint"),
        (["--checkpoint", "tinyvit_5m"], "the name of a released model: use --model tinyvit_5m"),
        (["--model", "demo", "--mean", "0.5,0.5"], "--mean 0.5,0.5 is not possible"),
        (["--model", "demo", "--std", "58,57,57"], "divide by 255: 0.2275,0.2235,0.2235"),
        (["--model", "demo", "--crop-pct", "87.5"], "--crop-pct 87.5 is not possible"),
        (["--model", "demo", "--interpolation", "nearest"], "use bicubic, bilinear, lanczos"),
    ],
)
def test_requests_for_another_option_are_explained(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pth").write_bytes(b"x")
    (tmp_path / "run").mkdir()
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_without_arguments_the_download_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert main([]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "Neither --model nor --checkpoint was given, so the default model is exported:"
        " tiny_vit_5m_224.dist_in22k_ft_in1k.",
        "  loading tiny_vit_5m_224.dist_in22k_ft_in1k from the hub's cache, or else downloading"
        " about 22 MB from huggingface.co/timm/tiny_vit_5m_224.dist_in22k_ft_in1k",
    ]
    assert sum("downloading about" in line for line in lines) == 1


def test_help_and_version_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from tinyvit import __version__

    outputs = {}
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit) as exit_error:
            main([option])
        assert exit_error.value.code == 0
        outputs[option] = capsys.readouterr().out
    assert outputs["--help"].count("tinyvit-export --") >= 2
    assert __version__ in outputs["--version"]


def test_list_option_states_how_many_classes_the_demo_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--list"]) == 0
    words = {10: "ten", 12: "twelve"}
    assert f"with {words[load_released('demo').num_classes]} ImageNet classes" in (
        capsys.readouterr().out
    )


def test_list_option_prints_all_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "released checkpoints, each in the repository timm/NAME on huggingface.co" in lines
    heading = next(line for line in lines if line.endswith(" license"))
    rows = [line for line in lines if "apache-2.0" in line]
    assert len(rows) == 11
    assert {row.index("apache-2.0") for row in rows} == {heading.index("license")}
    assert max(map(len, rows)) <= 100
    assert main(["--list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["models"]) == 11


def test_a_bad_checkpoint_is_an_error_of_one_line(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html></html>")
    process = run_command("--checkpoint", tmp_path / "page.pth", cwd=tmp_path)
    assert process.returncode == 1
    assert process.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "web page" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_requested_target_that_does_not_offer_the_request_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--model", "demo", "--img-size", "64", "--windows", "scaled"]
    arguments = [*source, "--float16", "-o", f"{tmp_path}/", "--json"]
    with full_demo():
        assert main([*arguments, "--target", "onnx", "openvino"]) == 1
    output = capsys.readouterr()
    record = json.loads(output.out)
    assert [artifact["target"] for artifact in record["artifacts"]] == ["openvino"]
    assert [failure["target"] for failure in record["failures"]] == ["onnx"]
    assert record["failures"][0]["is_skipped"]
    assert "no artifact for onnx: onnx artifacts are not made in float16" in output.err


@pytest.mark.parametrize(
    ("target", "name"),
    [("onnx", "demo.onnx"), pytest.param("openvino", "demo.xml", marks=pytest.mark.slow)],
)
def test_a_full_disk_leaves_nothing(target: str, name: str, tmp_path: Path) -> None:
    """A limit of the operating system on the size of files stands for the full disk."""
    pytest.importorskip("resource")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000));"
        "from tinyvit.export.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["--model", "demo", "--target", target, "-o", str(tmp_path / name)]
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 1
    last_line = process.stderr.strip().splitlines()[-1]
    assert last_line.startswith("error: ")
    assert "Traceback" not in process.stderr
    # OpenVINO does not report why it could not write.
    assert target != "onnx" or "the disk is full" in last_line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("targets", [("onnx",), ("onnx", "ort")])
def test_an_interrupted_export_names_the_files_that_remain(
    targets: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The calibration writes the recipe; the command is interrupted in the last target."""
    recipe = tmp_path / "rec.json"
    unknown: Any = None
    artifact = ExportedArtifact(tmp_path / "demo.onnx", unknown, (), 0, unknown, None)

    def calibrate(*arguments: object) -> None:
        recipe.write_text("{}")

    def interrupt(*arguments: object) -> Any:
        raise KeyboardInterrupt

    def make_artifacts(*arguments: object) -> Iterator[ExportedArtifact]:
        if is_second:
            yield artifact
        raise KeyboardInterrupt

    is_second = True
    monkeypatch.setattr(pipeline, "make_preparer", calibrate)
    monkeypatch.setattr(pipeline, "try_artifact", interrupt)
    monkeypatch.setattr(pipeline, "make_artifacts", make_artifacts)
    output = tmp_path / ("out.onnx" if len(targets) == 1 else "out")
    arguments = ["--model", "demo", "--int8", "-o", str(output), "--target", *targets]
    assert main([*arguments, "--recipe", str(recipe)]) == 1
    remaining = [f"the recipe {recipe}"]
    remaining += [str(tmp_path / "demo.onnx")] if len(targets) == 2 else []
    expected = f"interrupted: only finished files were left behind: {', '.join(remaining)}\n"
    assert capsys.readouterr().err.endswith(expected)
    # Without files, the message stays as it is for all commands.
    is_second = False
    assert main([*arguments, "--recipe", str(tmp_path / "other.json")]) == 1
    assert capsys.readouterr().err.endswith("interrupted: nothing was left behind\n")
