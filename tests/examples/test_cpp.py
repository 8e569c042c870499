"""The C++ programs, built as their README says, give the predictions of Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.observed_process import observe, require_strace

pytest.importorskip("torch", reason="exporting needs tinyvit-edge[export]")
openvino = pytest.importorskip("openvino")

pytestmark = pytest.mark.slow

CPP = Path(__file__).parents[2] / "examples" / "cpp"
TARGETS = {"classify_openvino": "openvino", "classify_onnxruntime": "onnx"}
"""Name of a program -> target of the artifacts that it reads."""

REQUIRED_PACKAGES = {
    "libopencv-dev": "OpenCVConfig.cmake",
    "nlohmann-json3-dev": "nlohmann_jsonConfig.cmake",
}
"""Debian package -> the file that CMake does not find without it."""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs that can be built on this machine."""
    if shutil.which("cmake") is None or shutil.which("g++") is None:
        pytest.skip("needs cmake and g++: apt-get install cmake g++")
    folder = tmp_path_factory.mktemp("build")
    options = [f"-DOpenVINO_DIR={openvino.__path__[0]}/cmake"]
    if "ONNXRUNTIME_ROOT" in os.environ:
        options.append(f"-Donnxruntime_ROOT={os.environ['ONNXRUNTIME_ROOT']}")
    configure = ["cmake", "-S", CPP, "-B", folder, *options]
    result = subprocess.run(configure, capture_output=True, text=True)
    for package, missing_file in REQUIRED_PACKAGES.items():
        if missing_file in result.stderr:
            pytest.skip(f"needs {package}: apt-get install {package}")
    assert result.returncode == 0, result.stderr
    result = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "warning" not in result.stderr
    return folder


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Target -> artifact of the demo model with the preprocessing inside."""
    from tests.helpers.exports import shorten_demo
    from tinyvit.export import ExportConfig, export_all

    config = ExportConfig(
        model="demo",
        targets=("onnx", "openvino"),
        preprocess="full",
        output_path=tmp_path_factory.mktemp("full"),
    )
    with shorten_demo():
        report = export_all(config)
    return {artifact.manifest.target: artifact.path for artifact in report.artifacts}


@pytest.fixture(params=TARGETS)
def program(request: pytest.FixtureRequest, build: Path) -> Path:
    """A program that could be built."""
    path: Path = build / request.param
    if not path.is_file():
        pytest.skip(
            f"{path.name} needs onnxruntime's headers in ONNXRUNTIME_ROOT, see examples/cpp"
        )
    return path


@pytest.fixture
def photographs(images: Path, tmp_path: Path) -> dict[str, Path]:
    """The example photographs, enlarged ones, and one that is transparent at its right side.

    The transparent pixels have visible colors. OpenCV and Pillow decode "large" at a quarter of its
    size, "turned" at a half, and "odd", whose width is odd, completely.
    """
    with Image.open(images / "coffee.jpg") as coffee:
        faded = coffee.convert("RGBA")
        exif = Image.Exif()
        exif[0x0112] = 6  # The top of the photograph is at the right side of the pixels.
        for name, size in (
            ("large", (3200, 2200)),
            ("turned", (1600, 1202)),
            ("odd", (3201, 2200)),
        ):
            options = {"exif": exif} if name == "turned" else {}
            coffee.resize(size).save(tmp_path / f"{name}.jpg", quality=90, **options)
    faded.putalpha(Image.linear_gradient("L").rotate(90).resize(faded.size))
    faded.save(tmp_path / "faded.png")
    return {
        "cat": images / "cat.jpg",
        "coffee": images / "coffee.jpg",
        "faded": tmp_path / "faded.png",
        **{name: tmp_path / f"{name}.jpg" for name in ("large", "turned", "odd")},
    }


@pytest.mark.parametrize("name", ["cat", "coffee", "faded", "large", "turned", "odd"])
def test_the_predictions_are_those_of_python(
    program: Path, artifacts: dict[str, Path], photographs: dict[str, Path], name: str
) -> None:
    from tinyvit import Classifier

    artifact = artifacts[TARGETS[program.name]]
    result = subprocess.run([program, artifact, photographs[name]], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = [line.strip().split("%  ") for line in result.stdout.splitlines()]
    with Classifier(artifact) as classifier:
        expected = classifier.predict(photographs[name])
    assert [label for _, label in lines] == [prediction.label for prediction in expected]
    assert [float(percent) / 100 for percent, _ in lines] == pytest.approx(
        [prediction.score for prediction in expected], abs=0.001
    )


def test_the_times_of_many_runs_follow_the_predictions(
    program: Path, artifacts: dict[str, Path], images: Path
) -> None:
    command = [program, artifacts[TARGETS[program.name]], images / "coffee.jpg"]
    once = subprocess.run(command, capture_output=True, text=True)
    often = subprocess.run([*command, "3"], capture_output=True, text=True)
    assert often.returncode == 0, often.stderr
    *predictions, times = often.stdout.splitlines()
    assert predictions == once.stdout.splitlines()
    pattern = r"decoding (\d+\.\d\d) ms, resizing and network (\d+\.\d\d) ms \(3 runs\)"
    match = re.fullmatch(pattern, times)
    assert match is not None, times
    assert all(float(duration) > 0 for duration in match.groups())


@pytest.mark.parametrize("arguments", [[], ["0"], ["-1"], ["many"], ["1", "2"], ["99999999999999"]])
def test_wrong_arguments_are_refused(
    program: Path, artifacts: dict[str, Path], images: Path, arguments: list[str]
) -> None:
    command = [program, artifacts[TARGETS[program.name]], images / "coffee.jpg", *arguments]
    result = subprocess.run(command[: None if arguments else 2], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == f"usage: {program} MODEL IMAGE [RUNS]\n"


def test_an_error_is_one_line(
    program: Path,
    artifacts: dict[str, Path],
    demo: dict[str, Path],
    images: Path,
    tmp_path: Path,
) -> None:
    target = TARGETS[program.name]
    (tmp_path / "notes.jpg").write_text("not an image")
    for model, image, message in (
        (artifacts[target], tmp_path / "notes.jpg", "is not an image"),
        (tmp_path / "none.xml", images / "cat.jpg", "cannot be read"),
        (demo[target], images / "cat.jpg", "--preprocess full"),
    ):
        result = subprocess.run([program, model, image], capture_output=True, text=True)
        assert result.returncode == 1
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_file_of_another_engine_is_named(
    build: Path, artifacts: dict[str, Path], images: Path
) -> None:
    path = artifacts["onnx"]
    command = [build / "classify_openvino", path, images / "coffee.jpg"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"{path} is not a file of OpenVINO (.xml): make one with" in result.stderr


def test_no_usage_is_reported(
    program: Path, artifacts: dict[str, Path], images: Path, tmp_path: Path
) -> None:
    require_strace()
    command = [program, artifacts[TARGETS[program.name]], images / "coffee.jpg"]
    observation = observe(command, tmp_path / "observed")
    assert observation.exit_code == 0, observation.output
    assert observation.network_calls == []
    assert observation.written_paths == []
    assert observation.remaining_paths == []


def test_labels_and_paths_cannot_steer_the_terminal(
    program: Path, artifacts: dict[str, Path], images: Path, tmp_path: Path
) -> None:
    artifact = artifacts[TARGETS[program.name]]
    for file in artifact.parent.glob(f"{artifact.stem}.*"):
        # The manifest is JSON, in which the escape sequence is as long as the label it replaces.
        content = file.read_bytes().replace(b"espresso", rb"\u001b[J")
        (tmp_path / file.name).write_bytes(content)
    command = [program, tmp_path / artifact.name, images / "coffee.jpg"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "?[J" in result.stdout
    assert result.stdout.replace("\n", "").isprintable()
    command = [program, tmp_path / "no\x1b[2J\u202e\x9b\x7f.xml", images / "coffee.jpg"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stderr == f"error: {tmp_path}/no?[2J???.xml cannot be read\n"
