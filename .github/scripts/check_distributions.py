"""Checks the wheel and the source distribution before a release.

    python .github/scripts/check_distributions.py files dist/ --tag v0.1.0
    python .github/scripts/check_distributions.py install dist/ --artifact demo.onnx \
        --image examples/images/cat.jpg --python python3.10 --python python3.13

`files` compares the content of both distributions with the repository. `install` installs the wheel
into an empty environment of each Python, and runs the commands of the base install there.
docs/how-to/release.md describes a whole release.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from email.parser import Parser
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]

_PHOTOGRAPH_SUFFIXES = {".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Suffixes of files that no distribution may contain."""
_SOURCE_FILES = ("CHANGELOG.md", "LICENSE", "PYPI.md", "README.md", "pyproject.toml", "setup.cfg")
"""Files beside the package that the source distribution must contain."""
_UNWANTED_FOLDERS = {"docs", "examples", "studies", "tests"}
"""Top-level folders of the repository that are in no distribution."""
_TIMEOUT_S = 600
"""Longest time of one command, in seconds. An installation downloads about 100 MB."""


class CheckError(Exception):
    """A distribution must not be released. The message is a sentence that says why."""


def read_version() -> str:
    """Return `__version__` of the package, which is the only place that states the version."""
    tree = ast.parse((ROOT / "src" / "tinyvit" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise CheckError("src/tinyvit/__init__.py does not define __version__.")


def list_package_files() -> set[str]:
    """Return the paths of all files that the wheel must contain, such as "tinyvit/cli.py"."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    data_patterns = config["options.package_data"]
    files = set()
    for package in config["options"]["packages"].split():
        folder = ROOT / "src" / package.replace(".", "/")
        patterns = ["*.py", *data_patterns.get(package, "").split()]
        for path in (path for pattern in patterns for path in folder.glob(pattern)):
            files.add(f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}")
    return files


def check_tag(tag: str) -> None:
    """Check that a tag names the version of the package.

    Args:
        tag: The tag of the release, such as "v0.1.0".

    Raises:
        CheckError: It names another version.
    """
    if tag != f"v{read_version()}":
        raise CheckError(f"The tag is {tag}, but the package is version {read_version()}.")


def check_changelog(text: str) -> None:
    """Check that the changelog begins with the version of the package and the day of its release.

    Args:
        text: The text of CHANGELOG.md.

    Raises:
        CheckError: Its first section is another one, or has no date.
    """
    heading = next((line for line in text.splitlines() if line.startswith("## ")), "")
    expected = rf"## {re.escape(read_version())} \(\d{{4}}-\d{{2}}-\d{{2}}\)"
    if not re.fullmatch(expected, heading):
        raise CheckError(
            f"CHANGELOG.md begins with {heading!r}, but must begin with"
            f" '## {read_version()} (date of the release)'."
        )


def check_wheel(wheel: Path) -> None:
    """Check that a wheel contains the package, its metadata, and nothing else.

    Args:
        wheel: The wheel.

    Raises:
        CheckError: A file is missing or unexpected, or the version is another one.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata_names = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(metadata_names[0]).decode("utf-8") if metadata_names else ""
    _check_version(wheel.name, metadata)
    package_names = {name for name in names if ".dist-info/" not in name}
    _refuse_missing(wheel.name, list_package_files() - package_names)
    _refuse_unexpected(wheel.name, package_names - list_package_files())


def check_source_distribution(path: Path) -> None:
    """Check that a source distribution contains what builds the wheel, and no photographs.

    Args:
        path: The .tar.gz file.

    Raises:
        CheckError: A file is missing or unexpected, or the version is another one.
    """
    with tarfile.open(path) as archive:
        members = [member.name.partition("/")[2] for member in archive if member.isfile()]
        information = archive.extractfile(f"{path.name.removesuffix('.tar.gz')}/PKG-INFO")
        _check_version(path.name, information.read().decode("utf-8") if information else "")
    # The folder src/tinyvit/export is a link to export/, whose files are stored under that name.
    stored = {name if name.startswith("src/") else f"src/tinyvit/{name}" for name in members}
    required = {f"src/{name}" for name in list_package_files()}
    _refuse_missing(path.name, (required - stored) | (set(_SOURCE_FILES) - set(members)))
    _refuse_unexpected(path.name, _find_unwanted(members))


def check_installation(wheel: Path, python: str, artifact: Path, image: Path) -> str:
    """Install a wheel into an empty environment, and run the commands of the base install there.

    Args:
        wheel: The wheel.
        python: Name or path of the Python that creates the environment.
        artifact: An exported .onnx file.
        image: An image for it.

    Returns:
        A line that describes what was run.

    Raises:
        CheckError: A command fails, or prints another result.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run([python, "-m", "venv", "environment"], folder)
        programs = Path(folder, "environment", "Scripts" if os.name == "nt" else "bin")
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
        _run([*pip, "--disable-pip-version-check", str(wheel)], folder)
        version = _run([str(programs / "python"), "-c", "import sys; print(sys.version)"], folder)
        tinyvit = str(programs / "tinyvit")
        if read_version() not in _run([tinyvit, "--version"], folder):
            raise CheckError(f"tinyvit --version does not print {read_version()}.")
        manifest = json.loads(_run([tinyvit, "inspect", str(artifact), "--json"], folder))
        if manifest["intact"] is not True:
            raise CheckError(f"tinyvit inspect reports that {artifact.name} was changed.")
        predict = [tinyvit, "predict", str(artifact), str(image), "--json"]
        result = json.loads(_run(predict, folder))
        label = result["results"][0]["predictions"][0]["label"]
        _run([tinyvit, "verify", str(artifact)], folder)
    return f"Python {version.split()[0]}: inspect, predict ({label}) and verify work"


def _check_version(name: str, metadata: str) -> None:
    """Check the fields of the metadata that a release must have."""
    fields = Parser().parsestr(metadata)
    if fields["Version"] != read_version():
        raise CheckError(f"{name} has version {fields['Version']}, not {read_version()}.")
    description = str(fields.get_payload())
    if "](docs/" in description or 'src="docs/' in description:
        raise CheckError(f"The description in {name} links to files that PyPI does not have.")


def _find_unwanted(names: Iterable[str]) -> set[str]:
    """Return the names of photographs, and of files in folders that no distribution contains."""
    paths = {name: PurePosixPath(name) for name in names}
    return {
        name
        for name, path in paths.items()
        if path.suffix.lower() in _PHOTOGRAPH_SUFFIXES or path.parts[0] in _UNWANTED_FOLDERS
    }


def _refuse_missing(name: str, files: set[str]) -> None:
    if files:
        raise CheckError(f"{name} lacks {', '.join(sorted(files)[:5])} ({len(files)} in all).")


def _refuse_unexpected(name: str, files: set[str]) -> None:
    if files:
        raise CheckError(
            f"{name} contains {', '.join(sorted(files)[:5])} ({len(files)} in all), which do not"
            " belong to the package."
        )


def _run(command: Sequence[str], folder: str) -> str:
    """Run a command in a folder without this repository, and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.run(
        command,
        cwd=folder,
        env={**environment, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_TIMEOUT_S,
    )
    if process.returncode:
        output = (process.stdout + process.stderr).strip()
        raise CheckError(f"{' '.join(command)} failed with code {process.returncode}:\n{output}")
    return process.stdout


def _find_distribution(folder: Path, pattern: str) -> Path:
    """Return the absolute path of the only file in a folder that matches a pattern."""
    files = sorted(folder.resolve().glob(pattern))
    if len(files) != 1:
        raise CheckError(f"{folder} contains {len(files)} files {pattern}, not 1.")
    return files[0]


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser("files", help="check the content of both distributions")
    files.add_argument("--tag", help="tag of the release, which must name the version")
    install = commands.add_parser("install", help="install the wheel, and run its commands")
    install.add_argument("--python", action="append", help="a Python (default: this one)")
    install.add_argument("--artifact", type=Path, required=True, help="an exported .onnx file")
    install.add_argument("--image", type=Path, required=True, help="an image file")
    for command in (files, install):
        command.add_argument("folder", type=Path, help="folder with the wheel and the .tar.gz")
    return parser


def main() -> int:
    """Run the command line; return 1 if a check fails."""
    arguments = _make_parser().parse_args()
    try:
        wheel = _find_distribution(arguments.folder, "*.whl")
        if arguments.command == "files":
            if arguments.tag is not None:
                check_tag(arguments.tag)
                check_changelog((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
            check_wheel(wheel)
            check_source_distribution(_find_distribution(arguments.folder, "*.tar.gz"))
            print(f"{wheel.name} and its source distribution have the right content")
            return 0
        artifact, image = arguments.artifact.resolve(), arguments.image.resolve()
        for python in arguments.python or [sys.executable]:
            print(check_installation(wheel, python, artifact, image), flush=True)
    except CheckError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
