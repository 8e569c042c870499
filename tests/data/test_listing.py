"""One rule decides which files under a folder are images."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tinyvit.data import listing as listing_module
from tinyvit.data.image_names import is_ignored_name, is_image_path
from tinyvit.data.listing import list_images, list_subfolders, read_listing
from tinyvit.errors import ImageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def listed(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder)]


def test_images_at_any_depth_are_listed_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPEG", "a.png", "sub/c.webp", "sub/deep/d.jpg", "notes.txt", "._a.png")
    assert listed(tmp_path) == ["a.png", "b.JPEG", "sub/c.webp", "sub/deep/d.jpg"]


def test_an_image_is_known_by_its_suffix() -> None:
    assert is_image_path(Path("x.TIF"))
    assert is_image_path(Path(".hidden/x.jpg"))
    assert not is_image_path(Path("x.onnx"))
    assert not is_image_path(Path("._x.jpg"))


def test_folders_without_images_and_missing_folders_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"has no images.*\.jpg"):
        list_images(tmp_path / "empty")
    for folder in (tmp_path / "none", tmp_path / "a.png"):
        with pytest.raises(ImageError, match="cannot be read"):
            list_images(folder)


@pytest.mark.parametrize(
    "name",
    [
        ".git",
        ".cache",
        ".ipynb_checkpoints",
        "__MACOSX",
        "@eaDir",
        "$RECYCLE.BIN",
        "lost+found",
        "__pycache__",
        "_vti_cnf",
        "cat~",
    ],
)
def test_hidden_and_system_folders_are_skipped(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "cat/1.jpg", f"{name}/2.jpg", f"cat/{name}/deep/3.jpg")
    assert is_ignored_name(name)
    assert listed(tmp_path) == ["cat/1.jpg"]
    assert list_subfolders(tmp_path) == ["cat"]
    assert read_listing(tmp_path).notes == ("skipped 2 hidden or system entries",)


def test_everything_that_is_not_used_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "data/cat/2.jfif", "data/.DS_Store", "data/notes.txt")
    data = tmp_path / "data"
    (data / "dog").symlink_to(tmp_path / "elsewhere")
    (data / "kitten").symlink_to(data / "cat")
    (data / "gone").symlink_to(tmp_path / "gone")
    listing = read_listing(data)
    assert listing.make_paths() == (data / "cat" / "2.jfif", data / "dog" / "1.jpg")
    assert (listing.ignored_count, listing.other_count) == (1, 1)
    assert listing.followed_links == (data / "dog",)
    assert listing.repeated_links == (data / "kitten",)
    assert listing.broken_links == (data / "gone",)
    assert listing.notes == (
        "skipped 1 hidden or system entry and 1 file that is not an image",
        "followed 1 linked folder (dog)",
        "skipped 1 linked folder that had been read before (kitten)",
        "skipped 1 broken link (gone)",
    )


def test_the_folder_itself_may_be_hidden(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/1.jpg")
    assert listed(tmp_path / ".cache") == ["1.jpg"]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/cats/1.jpg", "elsewhere/cats/more/2.jpg", "data/dog/3.jpg")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    assert listed(tmp_path / "data") == ["cat/1.jpg", "cat/more/2.jpg", "dog/3.jpg"]
    assert list_subfolders(tmp_path / "data") == ["cat", "dog"]
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(listed(tmp_path / "link")) == 3


def test_a_folder_with_several_links_is_read_once(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "data/z/2.jpg")
    for name in ("b", "a"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    assert listed(tmp_path / "data") == ["a/1.jpg", "z/2.jpg"]


def test_the_direct_path_of_a_folder_wins_over_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "z/deep/1.jpg", "2.jpg")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "b").symlink_to(tmp_path / "z" / "deep")
    assert listed(tmp_path) == ["2.jpg", "z/deep/1.jpg"]


def test_cycles_of_links_end(tmp_path: Path) -> None:
    touch(tmp_path, "data/cat/1.jpg", "outside.jpg")
    data = tmp_path / "data"
    (data / "cat" / "up").symlink_to(data)
    (data / "cat" / "here").symlink_to(".")
    (data / "self").symlink_to(data / "self")
    (data / "nothing").symlink_to(tmp_path / "nothing")
    assert listed(data) == ["cat/1.jpg"]
    (data / "parent").symlink_to(tmp_path)
    assert listed(data) == ["cat/1.jpg", "parent/outside.jpg"]


def test_a_link_to_a_file_is_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "data/2.jpg")
    (tmp_path / "data" / "1.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    assert listed(tmp_path / "data") == ["1.jpg", "2.jpg"]


def test_a_folder_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "1.jpg", "locked/2.jpg")
    scandir = os.scandir

    def deny(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(ImageError, match=r"locked cannot be read \(Permission denied\)"):
        list_images(tmp_path)


def test_file_systems_without_numbers_for_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    stat = os.stat

    def stat_without_numbers(path: Any, **options: Any) -> os.stat_result:
        status = list(stat(path, **options))
        return os.stat_result([status[0], 0, *status[2:]])

    monkeypatch.setattr(os, "stat", stat_without_numbers)
    assert listed(tmp_path) == ["a/1.jpg", "b/2.jpg"]


def test_a_broken_link_to_an_image_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "missing.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "c.png")
    listing = read_listing(tmp_path)
    assert listing.make_paths() == (tmp_path / "a.png",)
    assert listing.broken_links == (tmp_path / "b.png", tmp_path / "c.png")
    assert listing.describe() == "1 image; skipped 2 broken links (b.png)"


@pytest.mark.skipif(sys.platform != "linux", reason="these folders are those of Linux")
@pytest.mark.parametrize("target", ["/", "/proc", "/sys/class", "/dev", "/proc/self/root"])
def test_links_to_all_files_or_to_the_kernel_are_not_followed(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "cat/1.jpg")
    (tmp_path / "link").symlink_to(target)
    listing = read_listing(tmp_path)
    assert listing.make_paths() == (tmp_path / "cat" / "1.jpg",)
    assert listing.broken_links == (tmp_path / "link",)


def test_folders_of_very_many_entries_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/3.jpg")
    monkeypatch.setattr(listing_module, "MAX_ENTRIES", 5)
    assert len(read_listing(tmp_path).keys) == 3
    monkeypatch.setattr(listing_module, "MAX_ENTRIES", 4)
    with pytest.raises(ImageError, match=r"cannot be read \(more than 4 entries\)"):
        read_listing(tmp_path)


def test_images_are_sorted_folder_by_folder(tmp_path: Path) -> None:
    """A folder comes before one whose name continues its name, as "a/..." before "a-b/..."."""
    names = ("a/2.jpg", "a-b/1.jpg", "a/b/1.jpg", "a.jpg", "A/1.jpg", "a/b.jpg")
    touch(tmp_path, *names)
    listing = read_listing(tmp_path)
    assert listing.make_paths() == tuple(sorted(tmp_path / name for name in names))
    assert [tmp_path / key for key in listing.keys] == list(listing.make_paths())
