"""The folder of --runner-libs is checked before a library is copied to a device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.android_libraries import NAMES, X86_64, write_libraries, write_library
from tinyvit.bench.devices import runner_libraries
from tinyvit.bench.devices.android_runners import RUNNERS
from tinyvit.bench.devices.runner_libraries import find_libraries
from tinyvit.errors import RequestError

REQUIRED = RUNNERS["qnn"].libraries


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all libraries."""
    return write_libraries(tmp_path / "libs")


def test_only_libraries_are_found(folder: Path) -> None:
    write_library(folder / "libonnxruntime.so.1.24.2")
    (folder / "notes.sort").write_text("")
    found = [path.name for path in find_libraries(folder, REQUIRED)]
    assert found == sorted([*NAMES, "libonnxruntime.so.1.24.2"])


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_library_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(RequestError) as caught:
        find_libraries(folder, REQUIRED)
    assert f"does not contain {name}" in caught.value.cause
    assert "docs/how-to/snapdragon-npu.md" in caught.value.remedy


def test_the_program_for_the_npu_needs_its_libraries() -> None:
    assert "libQnnHtp.so" in REQUIRED


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_only_regular_files_are_copied(kind: str, folder: Path) -> None:
    path = folder / "libodd.so"
    match kind:
        case "link":
            path.symlink_to(folder / NAMES[0])
        case "dangling link":
            path.symlink_to("/nonexistent")
        case "folder":
            path.mkdir()
        case _:
            os.mkfifo(path)
    with pytest.raises(RequestError, match=r"libodd\.so is not a regular file"):
        find_libraries(folder, REQUIRED)


@pytest.mark.parametrize(
    "name",
    [
        "lib$(touch pwned).so",
        "lib`touch pwned`.so.1",
        "lib a.so",
        "lib;touch pwned.so",
        "lib\ntouch pwned\n.so",
        "lib\x1b]0;title\x07.so",
        os.fsdecode(b"lib\xff.so"),
        "lib|x.so",
        "libé.so",
    ],
)
def test_odd_names_are_refused(name: str, folder: Path) -> None:
    write_library(folder / name)
    with pytest.raises(RequestError, match="has a file with an odd name"):
        find_libraries(folder, REQUIRED)


def test_limits_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "libhuge.so").open("wb") as file:
        file.truncate(runner_libraries.MAX_TOTAL_BYTES)
    with pytest.raises(RequestError, match="bytes, more than 1073741824"):
        find_libraries(folder, REQUIRED)
    (folder / "libhuge.so").unlink()
    count = runner_libraries.MAX_LIBRARIES - len(NAMES)
    for number in range(count):
        write_library(folder / f"lib{number}.so")
    assert len(find_libraries(folder, REQUIRED)) == runner_libraries.MAX_LIBRARIES
    write_library(folder / "libone.so")
    with pytest.raises(RequestError, match="has 65 libraries, more than 64"):
        find_libraries(folder, REQUIRED)
    monkeypatch.setattr(runner_libraries, "MAX_ENTRIES", 20)
    with pytest.raises(RequestError, match="has more than 20 files"):
        find_libraries(folder, REQUIRED)


def test_libraries_of_a_computer_are_refused(folder: Path) -> None:
    write_library(folder / "libQnnHtp.so", X86_64)
    with pytest.raises(RequestError, match=r"libQnnHtp\.so is not a library for 64-bit Arm"):
        find_libraries(folder, REQUIRED)
    (folder / "libQnnHtp.so").write_bytes(b"")
    with pytest.raises(RequestError, match="64-bit Arm"):
        find_libraries(folder, REQUIRED)


def test_a_library_for_the_npu_itself_may_have_another_processor(folder: Path) -> None:
    write_library(folder / "libQnnHtpV75Skel.so", machine=164)
    assert len(find_libraries(folder, REQUIRED)) == len(NAMES)


@pytest.mark.parametrize("name", ["absent", "libs/LICENSE.txt", "nul\0"])
def test_a_path_that_is_no_folder_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(RequestError, match="cannot be listed"):
        find_libraries(folder.parent / name, REQUIRED)
