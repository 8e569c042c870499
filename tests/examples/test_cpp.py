"""The C++ programs, built as their README says, give Python's answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch", reason="exporting needs tinyvit-edge[export]")
openvino = pytest.importorskip("openvino")

CPP = Path(__file__).parents[2] / "examples" / "cpp"
PROGRAMS = {"classify_openvino": "openvino", "classify_onnxruntime": "onnx"}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs that can be built here."""
    if shutil.which("cmake") is None or shutil.which("g++") is None:
        pytest.skip("needs cmake and g++: apt-get install cmake g++")
    folder = tmp_path_factory.mktemp("build")
    found = [f"-DOpenVINO_DIR={openvino.__path__[0]}/cmake"]
    if "ONNXRUNTIME_ROOT" in os.environ:
        found.append(f"-Donnxruntime_ROOT={os.environ['ONNXRUNTIME_ROOT']}")
    made = subprocess.run(
        ["cmake", "-S", CPP, "-B", folder, *found], capture_output=True, text=True
    )
    for package, named in (
        ("libopencv-dev", "OpenCVConfig.cmake"),
        ("nlohmann-json3-dev", "nlohmann_jsonConfig.cmake"),
    ):
        if named in made.stderr:
            pytest.skip(f"needs {package}: apt-get install {package}")
    assert made.returncode == 0, made.stderr
    made = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "warning" not in made.stderr
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo by target, with preprocessing inside."""
    from tinyvit.export import ExportConfig, export_all

    config = ExportConfig(
        model="demo",
        targets=("onnx", "openvino"),
        preprocess="full",
        output=tmp_path_factory.mktemp("full"),
    )
    artifacts = export_all(config).artifacts
    return {artifact.manifest.target: artifact.path for artifact in artifacts}


@pytest.fixture(params=PROGRAMS)
def program(
    request: pytest.FixtureRequest, build: Path, files: dict[str, Path]
) -> tuple[Path, Path]:
    """A program and the file that it takes."""
    if not (build / request.param).is_file():
        pytest.skip(
            f"{request.param} needs onnxruntime's headers: ONNXRUNTIME_ROOT=FOLDER, see examples/cpp"
        )
    return build / request.param, files[PROGRAMS[request.param]]


@pytest.fixture
def photographs(images: Path, tmp_path: Path) -> dict[str, Path]:
    """The two of the repository, and one of them fading out towards the right, over colors that do not show."""
    with Image.open(images / "coffee.jpg") as opened:
        faded = opened.convert("RGBA")
    faded.putalpha(Image.linear_gradient("L").rotate(90).resize(faded.size))
    faded.save(tmp_path / "faded.png")
    return {
        "cat": images / "cat.jpg",
        "coffee": images / "coffee.jpg",
        "faded": tmp_path / "faded.png",
    }


@pytest.mark.parametrize("name", ["cat", "coffee", "faded"])
def test_the_answers_are_those_of_python(
    program: tuple[Path, Path], photographs: dict[str, Path], name: str
) -> None:
    from tinyvit import Classifier

    done = subprocess.run([*program, photographs[name]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = [line.strip().split("%  ") for line in done.stdout.splitlines()]
    with Classifier(program[1]) as classifier:
        expected = classifier.predict(photographs[name])
    assert [label for _, label in seen] == [one.label for one in expected]
    assert [float(percent) / 100 for percent, _ in seen] == pytest.approx(
        [one.score for one in expected], abs=0.001
    )


def test_what_is_wrong_is_said_in_a_line(
    program: tuple[Path, Path], demo: dict[str, Path], images: Path, tmp_path: Path
) -> None:
    binary, file = program
    (tmp_path / "notes.jpg").write_text("not a picture")
    for model, picture, said in (
        (file, tmp_path / "notes.jpg", "is not a picture"),
        (tmp_path / "none.xml", images / "cat.jpg", "cannot be read"),
        (demo[PROGRAMS[binary.name]], images / "cat.jpg", "--preprocess full"),
    ):
        done = subprocess.run([binary, model, picture], capture_output=True, text=True)
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
