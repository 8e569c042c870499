"""Commands that work for how this package was installed: to add an extra, and to run a program.

`pip install 'tinyvit-edge[train]'` works only if the package came from a package index. This module
reads the facts that pip and uv store beside an installed package (PEP 376 and PEP 610).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tinyvit.text.safe_text import quote_word

DISTRIBUTION = "tinyvit-edge"
"""Name of this package on package indexes."""

_EXTRA_CONDITION = re.compile(
    r"""(?:\s{1,4}and\s{1,4})?extra\s{0,4}==\s{0,4}["'](?P<extra>[^"']{1,100})["']"""
)
"""The condition on an extra at the end of a requirement, such as `extra == "train"`."""

_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
"""The name of a package at the beginning of a requirement (PEP 508)."""

_PACKAGE_FOLDER = Path(__file__).resolve().parent


@lru_cache
def format_extra_command(extra: str) -> str:
    """Return the command that installs an extra into the environment of this process.

    Args:
        extra: Extra of tinyvit-edge, such as "export".

    Returns:
        The command, which a shell of this system can run in any folder.
    """
    return choose_extra_command(extra, _PACKAGE_FOLDER, _find_distribution())


@lru_cache
def format_requirement_command(package: str, extra: str) -> str:
    """Return the command that installs one package of an extra, in a version that the extra allows.

    A device that only runs artifacts needs the engine, and not what the export needs besides.

    Args:
        package: Name of the package, such as "ai-edge-litert".
        extra: Extra of tinyvit-edge that contains the package, such as "litert".

    Returns:
        The command, which a shell of this system can run in any folder.
    """
    distribution = _find_distribution()
    listed = [] if distribution is None else _list_requirements(distribution, extra)
    matching = [text for text in listed if _read_name(text) == package]
    words = " ".join(map(quote_word, matching or [package]))
    return f"{_name_installer(distribution)} {_format_constraints(_PACKAGE_FOLDER)}{words}"


def format_packages_command(*requirements: str) -> str:
    """Return the command that installs packages that no extra contains.

    Args:
        *requirements: Packages, such as "timm" or "pillow>=11.3".

    Returns:
        The command, which a shell of this system can run in any folder.
    """
    return f"{_name_installer(_find_distribution())} {' '.join(map(quote_word, requirements))}"


def format_program(name: str) -> str:
    """Return the words that run a program of this package in the shell of this process.

    Args:
        name: Name of the program without "tinyvit-", such as "predict".

    Returns:
        The name of the program, or how Python runs it if the folder of programs is not on PATH.
    """
    program = f"tinyvit-{name}"
    if shutil.which(program) is not None:
        return program
    return f"{quote_word(sys.executable)} -m tinyvit {name}"


def choose_extra_command(
    extra: str, package_folder: Path, distribution: metadata.Distribution | None
) -> str:
    """Choose the command that installs an extra.

    Args:
        extra: Extra of tinyvit-edge.
        package_folder: Folder of the package tinyvit, without symbolic links.
        distribution: Metadata of the installed tinyvit-edge; None if it is not installed, but
            found by PYTHONPATH.

    Returns:
        A command for a clone (`pip install -e`), for a local wheel or folder, for a URL, or for a
        package index. If a local wheel does not exist any more, the command installs the
        requirements of the extra instead.
    """
    pip = _name_installer(distribution)
    clone = package_folder.parent.parent
    if _is_clone(package_folder):
        return f"{pip} {_format_constraints(package_folder)}-e {quote_word(f'{clone}[{extra}]')}"
    origin = _read_origin(distribution)
    url = origin.get("url")
    if distribution is None or not isinstance(url, str):
        return f"{pip} {quote_word(f'{DISTRIBUTION}[{extra}]')}"
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(url2pathname(parts.path))
        if path.exists():
            return f"{pip} {quote_word(f'{path}[{extra}]')}"
        return f"{pip} {' '.join(map(quote_word, _list_requirements(distribution, extra)))}"
    version_control = origin.get("vcs_info")
    if isinstance(version_control, dict):
        url = f"{version_control.get('vcs')}+{url}@{version_control.get('commit_id')}"
    return f"{pip} {quote_word(f'{DISTRIBUTION}[{extra}] @ {url}')}"


def _find_distribution() -> metadata.Distribution | None:
    """Return the metadata of this package; None if it is found by PYTHONPATH only."""
    try:
        return metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None


def _read_name(requirement: str) -> str:
    """Return the name at the beginning of a requirement, such as "torch" of "torch>=2.9"."""
    name = _REQUIREMENT_NAME.match(requirement)
    return name[0] if name is not None else ""


def _is_clone(package_folder: Path) -> bool:
    """Return whether the package is in a clone of the repository."""
    return (
        package_folder.parent.name == "src"
        and (package_folder.parent.parent / "setup.cfg").is_file()
    )


def _format_constraints(package_folder: Path) -> str:
    """Return pip's option for the tested versions, as in the README's commands, or ""."""
    constraints = package_folder.parent.parent / "constraints.txt"
    is_known = _is_clone(package_folder) and constraints.is_file()
    return f"-c {quote_word(str(constraints))} " if is_known else ""


def _name_installer(distribution: metadata.Distribution | None) -> str:
    """Return the command that installs into the environment of this process, activated or not.

    uv's environments have no pip. pip is named as `python -m pip` if the shell would find another
    one, because the programs of an environment also run by their paths.
    """
    installer = distribution.read_text("INSTALLER") if distribution is not None else None
    if (installer or "").strip() == "uv":
        is_active = os.environ.get("VIRTUAL_ENV") == sys.prefix
        return "uv pip install" + ("" if is_active else f" --python {quote_word(sys.executable)}")
    pip = shutil.which("pip")
    if pip is not None and Path(pip).parent == Path(sys.executable).parent:
        return "pip install"
    return f"{quote_word(sys.executable)} -m pip install"


def _read_origin(distribution: metadata.Distribution | None) -> dict[str, Any]:
    """Read direct_url.json of PEP 610; an empty dict if the package came from an index."""
    text = distribution.read_text("direct_url.json") if distribution is not None else None
    try:
        origin = json.loads(text or "{}")
    except ValueError:
        return {}
    return origin if isinstance(origin, dict) else {}


def _list_requirements(distribution: metadata.Distribution, extra: str) -> list[str]:
    """List the requirements that an extra adds, without the condition `extra == "..."`."""
    requirements = []
    for requirement in distribution.requires or ():
        condition = _EXTRA_CONDITION.search(requirement)
        if condition is not None and condition["extra"] == extra:
            requirements.append(_EXTRA_CONDITION.sub("", requirement).rstrip("; "))
    return requirements
