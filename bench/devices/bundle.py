"""Collects the files that are sent to a device: this package, artifacts, images and wheels.

The folder with these files is called the bundle.
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
"""Subfolder of the bundle with the images, in one folder per class."""
WHEELS_FOLDER = "wheels"
"""Subfolder of the bundle with the wheels of dependencies."""

_DISTRIBUTION = "tinyvit_edge"
"""Name of the distribution in the file names of wheels."""
_SKIPPED_ENDINGS = ("__pycache__", ".pyc")
_WHEEL_FILE = """\
Wheel-Version: 1.0
Generator: tinyvit-edge
Root-Is-Purelib: true
Tag: py3-none-any
"""


def copy_artifacts(paths: Sequence[Path], folder: Path) -> None:
    """Copy all files of artifacts into a folder.

    Args:
        paths: Paths of the artifacts.
        folder: The destination.

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
        wheels: A folder with wheels.
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
        source = sample.read()
        if not isinstance(source, Path):
            raise RequestError(
                f"--data is {data}, which is not a folder with one folder of images per class",
                "unpack it first, because only image files can be sent to a device",
            )
        destination = folder / IMAGES_FOLDER / sample.classes[0] / sample.name.replace("/", "_")
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, destination)


def make_wheel(folder: Path) -> Path:
    """Pack this package as a wheel, so that the device runs exactly the code of this machine.

    The wheel contains the package as it is installed or checked out here. Its format is specified
    in "Binary distribution format" on packaging.python.org.

    Args:
        folder: Where to write the wheel.

    Returns:
        The path of the wheel.

    Raises:
        RequestError: The package has no installation, neither a normal nor an editable one.
    """
    try:
        installed = distribution("tinyvit-edge")
    except PackageNotFoundError as error:
        raise RequestError(
            "tinyvit-edge is not installed on this machine",
            "install it with pip, or run 'pip install -e .' in its clone",
        ) from error
    info = f"{_DISTRIBUTION}-{installed.version}.dist-info"
    metadata = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    members = {
        f"tinyvit/{path.relative_to(root).as_posix()}": path.read_bytes()
        for root in map(Path, tinyvit.__path__)
        for path in _iterate_files(root)
    }
    members[f"{info}/METADATA"] = metadata.encode()
    members[f"{info}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    members[f"{info}/WHEEL"] = _WHEEL_FILE.encode()
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in members.items()]
    members[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{_DISTRIBUTION}-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _iterate_files(folder: Path) -> Iterator[Path]:
    """Iterate over files; symbolic links are followed, since a checkout has links to folders."""
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_SKIPPED_ENDINGS):
            continue
        if path.is_dir():
            yield from _iterate_files(path)
        else:
            yield path


def _digest(data: bytes) -> str:
    """Return the SHA-256 in the form of a wheel's RECORD: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
