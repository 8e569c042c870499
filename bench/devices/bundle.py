"""What a device needs to measure by itself: this package as a wheel, the artifacts, and pictures in their class folders."""

from __future__ import annotations

import base64
import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import tinyvit
from tinyvit.data.dataset import DatasetLocation, open_dataset
from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import artifact_files

NAME = "tinyvit_edge"
PICTURES, WHEELS = "pictures", "wheels"
_SKIPPED = ("__pycache__", ".pyc")


def make(
    paths: Sequence[Path], data: Path | None, images: int, wheels: Path | None, folder: Path
) -> str:
    """Fill the empty `folder`; the name of this package's wheel in it.

    images: so many of `data`'s class folders, evenly. wheels: a folder of what is to be installed with it. Raises RequestError for two
    artifacts of one name, and for a folder without wheels.
    """
    wheel = make_wheel(folder)
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        raise RequestError("two of the files have the same name", "give them one after the other")
    for path in paths:
        for each in artifact_files(path):
            there = folder / (each.relative_to(path.parent))
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(each, there)
    if wheels is not None:
        found = sorted(wheels.glob("*.whl"))
        if not found:
            raise RequestError(
                f"{wheels} has no wheels",
                "fill it: pip download -d DIR numpy pillow onnxruntime, for the device's platform",
            )
        (folder / WHEELS).mkdir()
        for each in found:
            shutil.copy2(each, folder / WHEELS)
    if data is not None:
        for sample in open_dataset(DatasetLocation(str(data), limit=images)).samples:
            picture = sample.read()
            if not isinstance(picture, Path):
                raise RequestError(
                    f"{data} is no folder of class folders",
                    "unpack it first: a device gets single files",
                )
            there = folder / PICTURES / sample.classes[0] / sample.name.replace("/", "_")
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(picture, there)
    return wheel.name


def make_wheel(folder: Path) -> Path:
    """This package, as it is installed or checked out here, as a wheel (packaging.python.org, "Binary distribution format"): a device
    gets the very code that sent it. Raises RequestError where it is not installed."""
    try:
        known = distribution("tinyvit-edge")
    except PackageNotFoundError as error:
        raise RequestError(
            "tinyvit-edge is not installed here", "pip install it, or pip install -e . in its clone"
        ) from error
    info = f"{NAME}-{known.version}.dist-info"
    members = {
        f"tinyvit/{path.relative_to(root).as_posix()}": path.read_bytes()
        for root in _roots()
        for path in _walk(root)
    }
    members[f"{info}/METADATA"] = (
        known.read_text("METADATA") or known.read_text("PKG-INFO") or ""
    ).encode()
    members[f"{info}/entry_points.txt"] = (known.read_text("entry_points.txt") or "").encode()
    members[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: tinyvit-edge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in members.items()]
    members[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{NAME}-{known.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _roots() -> list[Path]:
    return [Path(path) for path in tinyvit.__path__]


def _walk(folder: Path) -> list[Path]:
    """Files below, through links: a checkout links its top-level folders into the package."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_SKIPPED):
            continue
        found += _walk(path) if path.is_dir() else [path]
    return found


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
