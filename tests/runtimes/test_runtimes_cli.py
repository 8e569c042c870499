"""tinyvit-predict, tinyvit-verify and tinyvit-inspect print text or JSON and exit correctly."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.small_classifiers import QUANTIZATION, ArtifactBuilder, make_manifest
from tinyvit import __version__
from tinyvit.labels import Label
from tinyvit.manifest import MANIFEST_KEY, Manifest
from tinyvit.runtimes import cli, read_artifact
from tinyvit.runtimes.commands.manifest_summary import summarize_manifest

COMMANDS = {"predict": cli.predict, "verify": cli.verify, "inspect": cli.inspect}
CaptureFixture = pytest.CaptureFixture[str]


def run(capsys: CaptureFixture, command: str, *arguments: object) -> tuple[int, str, str]:
    """Run a command; return its exit code, stdout and stderr."""
    code = COMMANDS[command]([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def replace_manifest(path: Path, manifest: Manifest) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {MANIFEST_KEY: manifest.to_json()})
    onnx.save(model, path)


def read_manifest(path: Path) -> Manifest:
    manifest = read_artifact(path).manifest
    assert manifest
    return manifest


def test_predict_prints_the_predictions(
    build_artifact: ArtifactBuilder, image_files: list[Path], capsys: CaptureFixture
) -> None:
    arguments = (build_artifact(), image_files[0], image_files[1], "--top-k", 2, "--threads", 1)
    code, out, err = run(capsys, "predict", *arguments)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 6
    assert lines[0] == str(image_files[0])
    assert "%" in lines[1]
    assert "thing" in lines[1]


def test_predict_prints_json(
    build_artifact: ArtifactBuilder,
    image_files: list[Path],
    tmp_path: Path,
    capsys: CaptureFixture,
) -> None:
    bad_file, empty_folder = tmp_path / "bad.jpg", tmp_path / "empty"
    bad_file.write_text("text")
    empty_folder.mkdir()
    images = (bad_file, image_files[0].parent, empty_folder, tmp_path / "none.png")
    code, out, err = run(capsys, "predict", build_artifact(), *images, "--json")
    assert code == 1
    assert len(err.splitlines()) == 4
    assert err.splitlines()[0] == f"{image_files[0].parent}: 9 images"
    record = json.loads(out)
    assert record.keys() == {"artifact", "results"}
    results = record["results"]
    names = (bad_file, *image_files, empty_folder, tmp_path / "none.png")
    assert [result["image"] for result in results] == [str(name) for name in names]
    assert ["error" in result for result in results] == [True] + [False] * 9 + [True] * 2
    assert results[1]["predictions"][0].keys() == {"index", "label", "wnid", "score"}
    assert len(results[1]["predictions"]) == 5


def test_predict_goes_on_after_an_image_that_cannot_be_read(
    build_artifact: ArtifactBuilder, image_files: list[Path], capsys: CaptureFixture
) -> None:
    image_files[3].write_bytes(b"")
    code, out, err = run(capsys, "predict", build_artifact(), *image_files)
    assert code == 1
    assert out.count(".png") == 8
    assert "3.png is empty" in err


def test_predict_goes_on_after_text_that_is_no_path(
    build_artifact: ArtifactBuilder, image_files: list[Path], capsys: CaptureFixture
) -> None:
    for text in ("n" * 300 + ".jpg", "data:image/png;base64," + "A" * 5000, "a\0b"):
        code, out, err = run(capsys, "predict", build_artifact(), text, image_files[0])
        assert code == 1
        assert str(image_files[0]) in out
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("command", COMMANDS)
def test_standard_output_may_be_closed(
    build_artifact: ArtifactBuilder, image_files: list[Path], command: str
) -> None:
    code = f"import sys; from tinyvit.runtimes import cli; sys.exit(cli.{command}(sys.argv[1:]))"
    arguments = [str(build_artifact()), *([str(image_files[0])] if command == "predict" else [])]
    process = subprocess.run(
        ["sh", "-c", '"$0" -c "$@" >&-', sys.executable, code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_predict_warns_in_one_line_of_a_file_without_manifest(
    build_artifact: ArtifactBuilder, image_files: list[Path], capsys: CaptureFixture
) -> None:
    path = build_artifact(manifest=False)
    code, out, err = run(capsys, "predict", path, image_files[0], "--json")
    assert code == 0
    assert json.loads(out)
    assert err.startswith("warning: ")
    assert len(err.splitlines()) == 1
    assert "from Python: Classifier(path, preprocess=..., labels=...)" in err


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_verify_passes_on_an_unchanged_file(
    build_artifact: ArtifactBuilder, suffix: str, capsys: CaptureFixture
) -> None:
    code, out, err = run(capsys, "verify", build_artifact(suffix))
    assert (code, err) == (0, "")
    assert out.startswith("PASS")
    assert "\n  reference logits: of the checkpoint in PyTorch, float32\n" in out
    code, out, _ = run(capsys, "verify", build_artifact(suffix), "--json", "--threads", 1)
    record = json.loads(out)
    assert record["reference"] == "the checkpoint in PyTorch, float32"
    assert record["passed"] is True
    assert record["engine"].keys() == {"engine", "version", "device", "threads", "precision"}
    assert record["engine"]["threads"] == 1
    assert record["host"].keys() == {"machine", "processor"}


def test_verify_fails_on_a_changed_network(
    copy_artifact: ArtifactBuilder, capsys: CaptureFixture
) -> None:
    path = copy_artifact()
    replace_manifest(path, dataclasses.replace(read_manifest(path), content_sha256="00"))
    code, out, _ = run(capsys, "verify", path)
    assert code == 1
    assert out.startswith(
        f"FAIL  {path}: the network was changed after export; largest logit difference"
    )
    assert "network: CHANGED" in out
    assert "manifest: as exported" in out
    code, out, _ = run(capsys, "verify", path, "--json")
    assert code == 1
    record = json.loads(out)
    assert (record["content_unchanged"], record["manifest_unchanged"]) == (False, True)
    assert record["reasons"] == ["the network was changed after export"]


def test_verify_writes_nan_as_null(copy_artifact: ArtifactBuilder, capsys: CaptureFixture) -> None:
    onnx = pytest.importorskip("onnx")
    path = copy_artifact()
    model = onnx.load(path)
    matrix = next(x for x in model.graph.initializer if x.name == "matrix")
    values = onnx.numpy_helper.to_array(matrix) * float("nan")
    matrix.CopyFrom(onnx.numpy_helper.from_array(values, "matrix"))
    onnx.save(model, path)
    code, out, _ = run(capsys, "verify", path, "--json")
    assert code == 1
    assert json.loads(out, parse_constant=pytest.fail)["max_abs_diff"] is None


def test_an_edited_manifest_is_reported(
    copy_artifact: ArtifactBuilder, capsys: CaptureFixture
) -> None:
    path = copy_artifact()
    path.write_bytes(path.read_bytes().replace(b"thing 2", b"thinx 2"))
    code, out, _ = run(capsys, "verify", path)
    assert code == 1
    assert out.startswith(f"FAIL  {path}: the manifest was changed after export; largest")
    code, out, _ = run(capsys, "inspect", path)
    assert code == 0
    assert "thinx 2" in out
    manifest_line = next(line for line in out.splitlines() if line.startswith("manifest "))
    assert manifest_line.endswith("CHANGED after export")
    code, out, _ = run(capsys, "inspect", path, "--json")
    record = json.loads(out)
    assert record["intact"] is False
    assert record["manifest_sha256"] == read_manifest(path).manifest_sha256


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_inspect_describes_a_file(
    build_artifact: ArtifactBuilder, suffix: str, capsys: CaptureFixture
) -> None:
    path = build_artifact(suffix)
    code, out, err = run(capsys, "inspect", path)
    assert (code, err) == (0, "")
    for text in (
        "float32 (batch, 3, 32, 32) NCHW",
        "resize 36",
        "10 classes",
        "thing 2",
        "mit",
        "0" * 64,
        "onnx 1",
        "not measured",
    ):
        assert text in out
    assert "thing 9" not in out
    assert "thing 9" in run(capsys, "inspect", path, "--labels")[1]
    code, out, _ = run(capsys, "inspect", path, "--json")
    record = json.loads(out)
    assert record["license"] == "mit"
    assert record.pop("intact") is True
    assert Manifest.from_json(json.dumps(record)) == read_manifest(path)


def test_inspect_describes_a_file_without_manifest(
    build_artifact: ArtifactBuilder, capsys: CaptureFixture
) -> None:
    code, out, err = run(capsys, "inspect", build_artifact(manifest=False))
    assert (code, out) == (1, "")
    assert "onnx without a manifest" in err


def test_labels_cannot_steer_the_terminal(
    copy_artifact: ArtifactBuilder, capsys: CaptureFixture
) -> None:
    path = copy_artifact()
    manifest = read_manifest(path)
    labels = (Label("\x1b[2Jevil\ud800\n"), *manifest.labels[1:])
    replace_manifest(path, dataclasses.replace(manifest, labels=labels, license="\x1b]0;x"))
    code, out, _ = run(capsys, "inspect", path)
    assert code == 0
    assert "\x1b" not in out
    assert "\\u001b[2Jevil\\ud800" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_are_one_line_and_exit_1(
    tmp_path: Path, command: str, capsys: CaptureFixture
) -> None:
    (tmp_path / "a.onnx").write_text("text")
    images = ["x.png"] if command == "predict" else []
    for file in (tmp_path / "a.onnx", tmp_path / "none.onnx"):
        code, out, err = run(capsys, command, file, *images)
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1


def test_a_url_of_another_scheme_is_an_unreadable_image(
    build_artifact: ArtifactBuilder, capsys: CaptureFixture
) -> None:
    url = "s3://example.com/cat.jpg"
    code, out, err = run(capsys, "predict", build_artifact(), url, "--json")
    message = f"{url} is a URL, not a file: download it, and give the path or the bytes of the file"
    assert code == 1
    assert json.loads(out)["results"] == [{"image": url, "error": message}]
    assert err == f"error: {message}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_url_is_not_a_file(command: str, capsys: CaptureFixture) -> None:
    images = ["x.png"] if command == "predict" else []
    with pytest.raises(SystemExit) as caught:
        COMMANDS[command](["https://example.com/a.onnx", *images])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(
        "error: FILE https://example.com/a.onnx is a URL, and a path is needed: give the path"
    )


@pytest.mark.parametrize("options", [["--runtime", "none"], ["--device", "none"]])
def test_impossible_requests_exit_1(
    build_artifact: ArtifactBuilder, options: list[str], capsys: CaptureFixture
) -> None:
    code, _, err = run(capsys, "verify", build_artifact(), *options)
    assert code == 1
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("predict", []),
        ("predict", ["a.onnx"]),
        ("predict", ["a.onnx", "b.png", "--top-k", "0"]),
        ("verify", ["a.onnx", "--threads", "x"]),
        ("verify", ["a.onnx", "--precision", "f32"]),
        ("inspect", []),
        ("inspect", ["a", "--none"]),
    ],
)
def test_wrong_usage_exits_2(command: str, arguments: list[str], capsys: CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        COMMANDS[command](arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    if "--top-k" in arguments:
        assert err == (
            "error: '0' is not a whole number of at least 1 (--top-k): correct it;"
            " tinyvit-predict --help describes it\n"
        )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_printed(command: str, capsys: CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        COMMANDS[command](["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out
    assert f"  tinyvit-{command} tinyvit_5m" in out
    assert out.count(f"  tinyvit-{command} ") >= 2


@pytest.mark.parametrize("command", COMMANDS)
def test_version_is_printed(command: str, capsys: CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        COMMANDS[command](["--version"])
    assert caught.value.code == 0
    assert f"tinyvit-{command} {__version__}" in capsys.readouterr().out


def test_importing_is_cheap_and_needs_no_engine() -> None:
    engines = (
        "import sys; from tinyvit.runtimes import classifier, cli, verify;"
        "from tinyvit.runtimes.engines import onnxruntime, openvino;"
        "assert not {'onnxruntime', 'openvino', 'torch'} & set(sys.modules)"
    )
    package = "import sys, tinyvit, tinyvit.runtimes; assert 'numpy' not in sys.modules"
    for code in (engines, package):
        subprocess.run([sys.executable, "-c", code], check=True)


def test_the_summary_of_an_int8_file_states_the_quantization() -> None:
    quantization = dataclasses.replace(
        QUANTIZATION,
        method="histogram",
        int8_mac_fraction=0.9145,
        float_top1=85.2,
        trials=("description of a trial",),
        forced=True,
    )
    manifest = dataclasses.replace(make_manifest("host", 1), quantization=quantization)
    summary = summarize_manifest(manifest, is_unchanged=True)
    assert summary["int8"] == "7-bit weights"
    assert summary["  processors"] == "any"
    assert summary["  int8 share"] == "91% of the multiply-accumulates"
    assert summary["  in float32"] == "0 layers and attention modules"
    assert summary["  calibration"] == "256 images, histogram"
    assert summary["  accuracy"] == (
        "98.7% of 1000 images have the same top-1 class as in float32; top-1 accuracy 85.2%"
        " (float32: 85.2%); processor: a processor; the accuracy budget was MISSED, and the file"
        " was written because of --force"
    )
    assert Manifest.from_json(manifest.to_json()).quantization == quantization
    synthetic = dataclasses.replace(
        quantization, has_synthetic_calibration=True, has_synthetic_evaluation=True
    )
    summary = summarize_manifest(
        dataclasses.replace(manifest, quantization=synthetic), is_unchanged=True
    )
    assert summary["  calibration"] == (
        "256 synthetic images, made from the network itself, histogram"
    )
    assert summary["  accuracy"].startswith(
        "98.7% of 1000 synthetic images have the same top-1 class as in float32; "
    )
