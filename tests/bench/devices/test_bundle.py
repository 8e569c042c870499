"""All files that a device needs are collected, and ambiguous ones are refused."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tinyvit.bench.devices import bundle
from tinyvit.errors import RequestError

NEEDED_FILES = (
    "__init__.py",
    "bench/cli.py",
    "bench/report/page.css",
    "runtimes/engines/onnxruntime.py",
    "assets/demo.safetensors",
)


def test_wheel_installs_this_package(tmp_path: Path) -> None:
    wheel = bundle.make_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {f"tinyvit/{name}" for name in NEEDED_FILES} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    assert len(set(names)) == len(names)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    process = subprocess.run(
        [*pip, "--target", str(site), str(wheel)], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r});"
        " import tinyvit.bench.cli as cli; print(cli.__file__); cli.main(['--version'])"
    )
    process = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert process.stdout.startswith(str(site))
    assert "tinyvit-bench" in process.stdout


def test_the_wheel_turns_off_telemetry_on_the_device(tmp_path: Path) -> None:
    wheel = bundle.make_wheel(tmp_path)
    code = f"""
import os, sys
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
sys.path.insert(0, {str(wheel)!r})
import tinyvit
print(tinyvit.__file__, os.environ["ORT_DISABLE_TELEMETRY"])
"""
    process = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert process.stdout.split() == [f"{wheel}/tinyvit/__init__.py", "1"], process.stderr


def test_all_files_of_artifacts_are_copied(
    small_classifier: Path, small_openvino_classifier: Path, tmp_path: Path
) -> None:
    bundle.copy_artifacts([small_classifier, small_openvino_classifier], tmp_path)
    weights = small_openvino_classifier.with_suffix(".bin")
    for file in (small_classifier, small_openvino_classifier, weights):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_images_are_drawn_from_the_classes(predicted_class_folders: Path, tmp_path: Path) -> None:
    bundle.copy_images(predicted_class_folders, 7, tmp_path)
    images = list((tmp_path / bundle.IMAGES_FOLDER).rglob("*.png"))
    assert len(images) == 7
    classes = {folder.name for folder in predicted_class_folders.iterdir()}
    assert {image.parent.name for image in images} <= classes
    assert len({image.parent.name for image in images}) == min(7, len(classes))


def test_artifacts_with_the_same_name_are_refused(small_classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"two artifacts have the same file name, test\.onnx"):
        bundle.copy_artifacts([small_classifier, small_classifier], tmp_path)


def test_folder_without_wheels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--wheels is .*, which contains no wheels"):
        bundle.copy_wheels(tmp_path, tmp_path)


def test_wheels_are_copied(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels of the user"
    wheels.mkdir()
    (wheels / "numpy-1-py3-none-any.whl").write_bytes(b"wheel")
    (wheels / "notes.txt").write_bytes(b"text")
    bundle.copy_wheels(wheels, tmp_path)
    copies = list((tmp_path / bundle.WHEELS_FOLDER).iterdir())
    assert [copy.name for copy in copies] == ["numpy-1-py3-none-any.whl"]
