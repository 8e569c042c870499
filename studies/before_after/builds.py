"""Builds the C++ program and the web page of one state of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.processes.python_process import read_last_line

_BUILD_LIMIT_S = 1200


def build_cpp(tree: Path, folder: Path) -> Path:
    """Build the C++ program with onnxruntime.

    Args:
        tree: Folder of a state of the repository.
        folder: The folder of the build, which does not need to exist.

    Returns:
        The program.

    Raises:
        MissingDependencyError: cmake, a compiler, a library or its headers are missing.
    """
    _require_program("cmake")
    options = [f"-Donnxruntime_ROOT={root}"] if (root := os.environ.get("ONNXRUNTIME_ROOT")) else []
    program = folder / "classify_onnxruntime"
    if not program.exists():
        source = str(tree / "examples" / "cpp")
        _build(["cmake", "-S", source, "-B", str(folder), *options], Path.cwd())
        _build(["cmake", "--build", str(folder)], Path.cwd())
    if not program.exists():
        raise MissingDependencyError(
            "the headers of onnxruntime were not found",
            "set ONNXRUNTIME_ROOT to the unpacked archive of a release (examples/cpp/README.md)",
        )
    return program


def build_web_page(tree: Path, root: Path, folder: Path, models: Sequence[Path]) -> Path:
    """Build the web page.

    Args:
        tree: Folder of a state of the repository.
        root: The present working tree, in which the packages of the page are installed.
        folder: The folder of the build, which does not need to exist.
        models: The artifacts in float32 and in int8.

    Returns:
        The folder of the built page.

    Raises:
        MissingDependencyError: npm, Chromium, Playwright or the packages of the page are missing.
    """
    packages = _find_web_packages(root)
    web = folder / "web"
    if not (web / "dist").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        ignored = shutil.ignore_patterns("node_modules", "dist", "public")
        shutil.copytree(tree / "examples" / "web", web, ignore=ignored)
        shutil.copytree(tree / "examples" / "images", folder / "images")
        (web / "node_modules").symlink_to(packages.resolve())
        (web / "public").mkdir()
        for model, name in zip(models, ("model.onnx", "model.int8.onnx")):
            shutil.copyfile(model, web / "public" / name)
        _build(["npm", "run", "build"], web)
    return web


def _find_web_packages(root: Path) -> Path:
    """Return the folder of the packages of the page, if all other tools are there too."""
    for name in ("npm", "chromium"):
        _require_program(name)
    try:
        import playwright  # noqa: F401 (examples/web/measure.py needs it)
    except ImportError as error:
        raise MissingDependencyError(
            "playwright is not installed", "pip install playwright"
        ) from error
    packages = root / "examples" / "web" / "node_modules"
    if not packages.is_dir():
        raise MissingDependencyError(
            "the packages of the web page are not installed", "run npm ci in examples/web"
        )
    return packages


def _require_program(name: str) -> None:
    if shutil.which(name) is None:
        raise MissingDependencyError(f"{name} is not installed", f"install {name}")


def _build(command: Sequence[str], folder: Path) -> None:
    """Run a step of a build.

    Raises:
        MissingDependencyError: The step fails, usually because something is not installed.
        ArtifactError: The step takes too long.
    """
    try:
        process = subprocess.run(command, cwd=folder, capture_output=True, timeout=_BUILD_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{command[0]} did not end", "run it alone to see why") from error
    if process.returncode:
        message = read_last_line(process.stderr or process.stdout, if_empty="no message")
        raise MissingDependencyError(f"{' '.join(command[:2])} failed", message)
