"""The command that installs an extra is the one that works for how the package was installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.helpers.module_graph import ROOT
from tinyvit.install_command import (
    choose_extra_command,
    format_extra_command,
    format_packages_command,
    format_requirement_command,
)

METADATA = """Metadata-Version: 2.1
Name: tinyvit-edge
Version: 0.1.0
Provides-Extra: train
Requires-Dist: numpy>=1.24
Requires-Dist: torch>=2.9; extra == "export"
Requires-Dist: torch>=2.9; extra == "train"
Requires-Dist: tomli_w>=1.0 ; extra == 'train'
Requires-Dist: tomli>=2; python_version < "3.11" and extra == "train"
"""


def install(
    folder: Path, origin: dict[str, object] | None, installer: str = "pip"
) -> tuple[Path, metadata.Distribution]:
    """Write the files of an installed package; return its folder and its metadata."""
    info = folder / "tinyvit_edge-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA)
    (info / "INSTALLER").write_text(f"{installer}\n")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin))
    return folder / "tinyvit", metadata.Distribution.at(info)


def forget_commands() -> None:
    format_extra_command.cache_clear()
    format_requirement_command.cache_clear()


@pytest.fixture(autouse=True)
def active_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An environment whose Python runs the tests, and whose programs are found by name."""
    programs = tmp_path / "env" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "pip"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(programs / "python"))
    monkeypatch.setattr("sys.prefix", str(programs.parent))
    monkeypatch.setenv("VIRTUAL_ENV", str(programs.parent))
    monkeypatch.setenv("PATH", str(programs))
    forget_commands()
    yield programs
    forget_commands()


def test_in_this_clone_the_clone_is_named() -> None:
    assert format_extra_command("train") == (
        f"pip install -c {ROOT}/constraints.txt -e '{ROOT}[train]'"
    )


def test_the_python_of_an_environment_that_is_not_active_is_named(
    active_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = active_environment / "python"
    other = tmp_path / "other"
    other.mkdir()
    (other / "pip").touch(mode=0o755)
    for folder in (other, tmp_path):  # another pip, or none
        monkeypatch.setenv("PATH", str(folder))
        forget_commands()
        assert format_extra_command("train").startswith(f"{python} -m pip install -c ")
    monkeypatch.delenv("VIRTUAL_ENV")
    folder, distribution = install(tmp_path, None, installer="uv")
    command = choose_extra_command("export", folder, distribution)
    assert command == f"uv pip install --python {python} 'tinyvit-edge[export]'"


def test_packages_that_no_extra_contains_are_installed_by_the_same_pip(
    active_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert format_packages_command("timm", "pillow>=11.3") == "pip install timm 'pillow>=11.3'"
    monkeypatch.setenv("PATH", "")
    command = format_packages_command("timm")
    assert command == f"{active_environment / 'python'} -m pip install timm"


def test_an_engine_is_installed_without_what_exports_need() -> None:
    command = format_requirement_command("ai-edge-litert", "litert")
    assert command == f"pip install -c {ROOT}/constraints.txt 'ai-edge-litert>=2.3'"
    assert format_requirement_command("ai-edge", "litert").endswith(" ai-edge")


def test_in_a_clone_without_an_installed_package_the_clone_is_named(tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    (clone / "src" / "tinyvit").mkdir(parents=True)
    (clone / "setup.cfg").write_text("")
    command = choose_extra_command("bench", clone / "src" / "tinyvit", None)
    assert command == f"pip install -e '{tmp_path}/my clone[bench]'"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, "pip install 'tinyvit-edge[train]'"),
        (
            {
                "url": "https://github.com/a/tinyvit-edge",
                "vcs_info": {"vcs": "git", "commit_id": "0123abc"},
            },
            "pip install 'tinyvit-edge[train] @ git+https://github.com/a/tinyvit-edge@0123abc'",
        ),
        (
            {"url": "https://a.org/tinyvit_edge-0.1.0-py3-none-any.whl", "archive_info": {}},
            "pip install 'tinyvit-edge[train] @ https://a.org/tinyvit_edge-0.1.0-py3-none-any.whl'",
        ),
        (
            {"url": "file:///deleted/tinyvit_edge-0.1.0-py3-none-any.whl", "archive_info": {}},
            "pip install 'torch>=2.9' 'tomli_w>=1.0' 'tomli>=2; python_version < \"3.11\"'",
        ),
    ],
)
def test_the_command_fits_the_origin(
    origin: dict[str, object] | None, expected: str, tmp_path: Path
) -> None:
    folder, distribution = install(tmp_path / "site-packages", origin)
    assert choose_extra_command("train", folder, distribution) == expected


def test_a_wheel_and_a_folder_are_named_by_their_paths(tmp_path: Path) -> None:
    wheel = tmp_path / "a b" / "tinyvit_edge-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"")
    origin = {"url": wheel.as_uri(), "archive_info": {}}
    folder, distribution = install(tmp_path / "site-packages", origin)
    command = choose_extra_command("ray", folder, distribution)
    assert command == f"pip install '{tmp_path}/a b/tinyvit_edge-0.1.0-py3-none-any.whl[ray]'"

    origin = {"url": wheel.parent.as_uri(), "dir_info": {}}
    folder, distribution = install(tmp_path / "other", origin)
    command = choose_extra_command("ray", folder, distribution)
    assert command == f"pip install '{tmp_path}/a b[ray]'"


def test_in_an_environment_of_uv_the_command_is_uv(tmp_path: Path) -> None:
    folder, distribution = install(tmp_path, None, installer="uv")
    command = choose_extra_command("export", folder, distribution)
    assert command == "uv pip install 'tinyvit-edge[export]'"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"url": 3}'])
def test_a_damaged_file_of_the_installer_is_ignored(text: str, tmp_path: Path) -> None:
    folder, distribution = install(tmp_path, None)
    (tmp_path / "tinyvit_edge-0.1.0.dist-info" / "direct_url.json").write_text(text)
    command = choose_extra_command("export", folder, distribution)
    assert command == "pip install 'tinyvit-edge[export]'"
