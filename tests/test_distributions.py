"""The script that checks distributions before a release refuses wrong ones."""

from __future__ import annotations

import io
import tarfile
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.module_graph import PACKAGED_FOLDERS, ROOT
from tinyvit import __version__

SCRIPT = ROOT / ".github" / "scripts" / "check_distributions.py"
METADATA = f"Metadata-Version: 2.4\nName: tinyvit-edge\nVersion: {__version__}\n\nA text.\n"
NAME = f"tinyvit_edge-{__version__}"


@pytest.fixture(scope="module")
def script() -> Any:
    """The module of the script."""
    spec = spec_from_file_location("check_distributions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def list_wheel_names() -> set[str]:
    """Return the files of the package, found by walking the folders and not by the script."""
    names = {"tinyvit/py.typed", "tinyvit/bench/report/page.css"}
    folders = {"tinyvit": ROOT / "src" / "tinyvit"}
    folders.update({f"tinyvit/{name}": ROOT / name for name in PACKAGED_FOLDERS})
    for prefix, folder in folders.items():
        for path in folder.rglob("*"):
            parts = path.relative_to(folder).parts
            if prefix == "tinyvit" and parts[0] in (*PACKAGED_FOLDERS, "studies"):
                continue
            if path.suffix == ".py" or (parts[0] == "assets" and path.is_file()):
                names.add(f"{prefix}/{'/'.join(parts)}")
    return names


def write_wheel(folder: Path, names: set[str], metadata: str = METADATA) -> Path:
    path = folder / f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(names):
            archive.writestr(name, "")
        archive.writestr(f"{NAME}.dist-info/METADATA", metadata)
    return path


def write_source_distribution(folder: Path, names: set[str], metadata: str = METADATA) -> Path:
    path = folder / f"{NAME}.tar.gz"
    contents = {**dict.fromkeys(names, b""), "PKG-INFO": metadata.encode()}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{NAME}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def list_source_names() -> set[str]:
    """Return the names in a source distribution: the folders of the pipeline are at the top."""
    names = {"CHANGELOG.md", "LICENSE", "PYPI.md", "README.md", "pyproject.toml", "setup.cfg"}
    for name in list_wheel_names():
        folder = name.split("/")[1]
        is_linked = folder in PACKAGED_FOLDERS
        names.add(name.removeprefix("tinyvit/") if is_linked else f"src/{name}")
    return names


def test_right_distributions_are_accepted(script: Any, tmp_path: Path) -> None:
    script.check_tag(f"v{__version__}")
    script.check_wheel(write_wheel(tmp_path, list_wheel_names()))
    script.check_source_distribution(write_source_distribution(tmp_path, list_source_names()))


@pytest.mark.parametrize("tag", ["v9.9.9", __version__, "0.1", ""])
def test_a_tag_that_names_another_version_is_refused(script: Any, tag: str) -> None:
    with pytest.raises(script.CheckError, match=f"The tag is {tag}, but the package is version"):
        script.check_tag(tag)


def test_the_changelog_must_begin_with_the_released_version_and_its_date(script: Any) -> None:
    script.check_changelog(
        f"# Changelog\n\n## {__version__} (2026-12-01)\n\n## 0.0.1 (2026-11-01)\n"
    )
    for heading in (
        "",
        f"## {__version__} (not released yet)",
        f"## {__version__}",
        f"## Unreleased\n\n## {__version__} (2026-12-01)",
        "## 0.0.1 (2026-12-01)",
    ):
        with pytest.raises(script.CheckError, match=r"CHANGELOG\.md begins with '"):
            script.check_changelog(f"# Changelog\n\n{heading}\n\nText.\n")


def test_the_changelog_has_the_version_of_the_package() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {__version__} (" in text


@pytest.mark.parametrize(
    ("missing", "added", "metadata", "message"),
    [
        ({"tinyvit/export/cli.py"}, set(), METADATA, "lacks tinyvit/export/cli.py"),
        ({"tinyvit/assets/demo.safetensors"}, set(), METADATA, "lacks tinyvit/assets/demo"),
        (set(), {"tinyvit/studies/figures.py"}, METADATA, "contains tinyvit/studies/figures.py"),
        (set(), {"tests/test_cli.py"}, METADATA, "contains tests/test_cli.py"),
        (set(), set(), "Version: 9.9.9\n\n", "has version 9.9.9, not"),
        (set(), set(), f"{METADATA}[limits](docs/limits.md)", "links to files that PyPI does not"),
        (set(), set(), f'{METADATA}<img src="docs/a.svg">', "links to files that PyPI does not"),
    ],
)
def test_a_wrong_wheel_is_refused(
    missing: set[str], added: set[str], metadata: str, message: str, script: Any, tmp_path: Path
) -> None:
    wheel = write_wheel(tmp_path, (list_wheel_names() - missing) | added, metadata)
    with pytest.raises(script.CheckError, match=message):
        script.check_wheel(wheel)


@pytest.mark.parametrize(
    ("missing", "added", "message"),
    [
        ({"LICENSE"}, set(), "lacks LICENSE"),
        ({"runtimes/cli.py"}, set(), "lacks src/tinyvit/runtimes/cli.py"),
        (set(), {"examples/images/cat.jpg"}, "contains examples/images/cat.jpg"),
        (set(), {"src/tinyvit/assets/photo.JPEG"}, "contains src/tinyvit/assets/photo.JPEG"),
        (set(), {"tests/test_cli.py", "docs/index.md"}, r"\(2 in all\)"),
    ],
)
def test_a_wrong_source_distribution_is_refused(
    missing: set[str], added: set[str], message: str, script: Any, tmp_path: Path
) -> None:
    names = (list_source_names() - missing) | added
    with pytest.raises(script.CheckError, match=message):
        script.check_source_distribution(write_source_distribution(tmp_path, names))


def test_the_description_for_pypi_has_no_relative_links() -> None:
    text = (ROOT / "PYPI.md").read_text(encoding="utf-8")
    assert "](http" in text
    assert text.count("](") == text.count("](https://")
    assert "src=" not in text
