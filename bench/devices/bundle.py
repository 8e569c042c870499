"""Collects the files that are sent to a device: this package, artifacts, images and wheels.

The folder with these files is called the bundle. Artifacts are exported model files.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import tinyvit
from tinyvit.data.dataset import DatasetLocation, open_dataset
from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import list_artifact_files

IMAGES_FOLDER = "images"
"""Subfolder of the bundle that contains one folder of images per class."""
WHEELS_FOLDER = "wheels"
"""Subfolder of the bundle with the wheels of dependencies."""

_DISTRIBUTION = "tinyvit_edge"
"""Name of this package in the file names of wheels."""
_SKIPPED_ENDINGS = ("__pycache__", ".pyc")
_WHEEL_FILE_TEXT = """\
Wheel-Version: 1.0
Generator: tinyvit-edge
Root-Is-Purelib: true
Tag: py3-none-any
"""
"""Content of the file WHEEL in the wheel: the version of the format, and where it can run."""


def copy_artifacts(paths: Sequence[Path], folder: Path) -> None:
    """Copy all files of artifacts into the bundle.

    Args:
        paths: Paths of the artifacts.
        folder: The bundle.

    Raises:
        RequestError: Two artifacts have the same file name.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise RequestError(
            f"two artifacts have the same file name, {duplicate}",
            "rename one, or measure them one after the other",
        )
    for path in paths:
        for file in list_artifact_files(path):
            destination = folder / file.relative_to(path.parent)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, destination)


def copy_wheels(wheels: Path, folder: Path) -> None:
    """Copy the wheels of dependencies into the bundle.

    Args:
        wheels: A folder that contains wheels.
        folder: The bundle.

    Raises:
        RequestError: `wheels` contains no wheels.
    """
    files = sorted(wheels.glob("*.whl"))
    if not files:
        raise RequestError(
            f"--wheels is {wheels}, which contains no wheels",
            "fill it with 'pip download -d DIR numpy pillow onnxruntime' for the device's platform",
        )
    (folder / WHEELS_FOLDER).mkdir()
    for file in files:
        shutil.copy2(file, folder / WHEELS_FOLDER)


def copy_images(data: Path, count: int, folder: Path) -> None:
    """Copy some images of a dataset into the bundle, in one folder per class.

    Args:
        data: A folder with one folder of images per class.
        count: Number of images to copy, drawn evenly from the classes.
        folder: The bundle.

    Raises:
        RequestError: The data is not a folder with one folder per class.
    """
    for sample in open_dataset(DatasetLocation(str(data), limit=count)).samples:
        source = sample.get_source()
        if not isinstance(source, Path):
            raise RequestError(
                f"--data is {data}, which is not a folder with one folder of images per class",
                "unpack it first, because only image files can be sent to a device",
            )
        file_name = sample.name.replace("/", "_")
        destination = folder / IMAGES_FOLDER / sample.classes[0] / file_name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, destination)


def make_wheel(folder: Path) -> Path:
    """Pack this package as a wheel, so that the device runs exactly the code of this machine.

    The wheel contains the package as it is installed or checked out here. The format of a wheel is
    specified in "Binary distribution format" on packaging.python.org.

    Args:
        folder: The bundle, in which the wheel is written.

    Returns:
        The path of the wheel.

    Raises:
        RequestError: The package is not installed on this machine, neither normally nor as an
            editable install.
    """
    try:
        installed = distribution("tinyvit-edge")
    except PackageNotFoundError as error:
        raise RequestError(
            "tinyvit-edge is not installed on this machine",
            "install it with pip, or run 'pip install -e .' in its clone",
        ) from error
    info_folder = f"{_DISTRIBUTION}-{installed.version}.dist-info"
    metadata = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    entry_points = installed.read_text("entry_points.txt") or ""
    members = {
        **_read_package_files(),
        f"{info_folder}/METADATA": metadata.encode(),
        f"{info_folder}/entry_points.txt": entry_points.encode(),
        f"{info_folder}/WHEEL": _WHEEL_FILE_TEXT.encode(),
    }
    members[f"{info_folder}/RECORD"] = _make_wheel_record(members, f"{info_folder}/RECORD").encode()
    path = folder / f"{_DISTRIBUTION}-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _read_package_files() -> dict[str, bytes]:
    """Return path -> content of all files of this package; the paths begin with "tinyvit/"."""
    files = {}
    for root in map(Path, tinyvit.__path__):
        for path in _iterate_files(root):
            files[f"tinyvit/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return files


def _make_wheel_record(members: dict[str, bytes], record_name: str) -> str:
    """Make the list of a wheel's files with their hashes and sizes in bytes.

    The list contains its own name, `record_name`, without a hash and a size.
    """
    lines = [
        f"{name},sha256={_encode_sha256(content)},{len(content)}"
        for name, content in members.items()
    ]
    return "\n".join([*lines, f"{record_name},,", ""])


def _iterate_files(folder: Path) -> Iterator[Path]:
    """Iterate over all files below a folder, without compiled Python files.

    Symbolic links are followed, since a clone of this project has links to folders.
    """
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_SKIPPED_ENDINGS):
            continue
        if path.is_dir():
            yield from _iterate_files(path)
        else:
            yield path


def _encode_sha256(content: bytes) -> str:
    """Return the SHA-256 in the form of a wheel's RECORD: URL-safe base64 without padding."""
    digest = hashlib.sha256(content).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
