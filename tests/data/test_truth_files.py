"""Every kind of truth file gives the classes of images, or is refused by name."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tinyvit.data import truth_files
from tinyvit.data.truth_files import read_truth_file
from tinyvit.errors import RequestError

NAMES = ("d/a.png", "b.png", "c.x.png")
WNIDS = ("n01440764", "n01443537", "n01484850")


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        (
            "ImageId,PredictionString\na,n01440764 1 2 3 4 n01440764 5 6 7 8\nb,n01443537 1 2 3 4\n"
            "c.x,n01484850 1 2 3 4 \n",
            WNIDS,
        ),
        ("a.png,n01440764\nb.png,n01443537\nc.x.png,n01484850\n", WNIDS),
        ("\ufefffile,label\nd/a.png, n01440764\n b.png ,n01443537\n\nc.x,n01484850\n", WNIDS),
        ("a,7\nb,007\nc.x,tiger cat\n", ("#7", "#007", "tiger cat")),
        ("other/a.jpg,1\nb,2\nc.x,3\n", ("#1", "#2", "#3")),
        ("a.jpg,1\na,5\nb,2\nb,6\nc.x,3\n", ("#5", "#6", "#3")),  # a name wins over a stem
        ("c.x,a b c d e\na,1\nb,2\n", ("#1", "#2", "a b c d e")),
    ],
)
def test_tables_give_the_class_of_each_file(
    tmp_path: Path, text: str, classes: tuple[str, ...]
) -> None:
    (tmp_path / "truth.csv").write_text(text, encoding="utf-8")
    expected = {name: (class_name,) for name, class_name in zip(NAMES, classes)}
    assert read_truth_file(tmp_path / "truth.csv", NAMES) == expected


def test_the_devkit_is_read_as_downloaded(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    savemat = pytest.importorskip("scipy.io").savemat
    # The numbers of the devkit are not in the order of the WordNet ids.
    rows = np.array(
        [(i + 1, wnid) for i, wnid in enumerate(reversed(WNIDS))],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object)],
    )
    savemat(tmp_path / "meta.mat", {"synsets": rows})
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n3\n")
    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
            archive.add(tmp_path / name, f"ILSVRC2012_devkit_t12/data/{name}")
    classes = read_truth_file(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", NAMES)
    assert list(classes.values()) == [(WNIDS[0],), (WNIDS[2],), (WNIDS[0],)]


def test_labels_of_imagenet_real_are_read(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text(json.dumps([[], [3, 4], [7]]))
    classes = read_truth_file(tmp_path / "real.json", NAMES)
    assert list(classes.values()) == [(), ("#3", "#4"), ("#7",)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("truth.csv", b"a,b\n", "does not name 2 of the 3 images, such as b.png"),
        ("truth.csv", b"a,b,c\n", "not exactly a file name and a class"),
        ("truth.csv", b"a, \n", "not exactly a file name and a class"),
        ("truth.csv", b"file,label\n", "not exactly a file name and a class"),
        ("truth.csv", b"", "not exactly a file name and a class"),
        ("truth.csv", b'"a', "is not a table"),
        ("truth.csv", b"\xff\xfea", "cannot be read"),
        ("truth.json", b"{}", "form of ImageNet-ReaL's"),
        ("truth.json", b"[[true], [1], [2]]", "form of ImageNet-ReaL's"),
        ("truth.json", b"[" * 100_000, "form of ImageNet-ReaL's"),
        ("truth.json", b"[[1]]", "classes of 1 images, but there are 3"),
        ("truth.txt", b"a", "unknown kind"),
    ],
)
def test_files_that_are_not_truth_files_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        read_truth_file(tmp_path / name, NAMES)
    assert "\n" not in str(caught.value)


def test_a_damaged_devkit_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    (tmp_path / "devkit.tar.gz").write_bytes(b"\x1f\x8b damaged")
    with pytest.raises(RequestError, match="form of ILSVRC2012's devkit"):
        read_truth_file(tmp_path / "devkit.tar.gz", NAMES)


def test_missing_and_large_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        read_truth_file(tmp_path / "none.csv", NAMES)
    monkeypatch.setattr(truth_files, "MAX_BYTES", 10)
    (tmp_path / "truth.csv").write_text("a,1\nb,2\nc.x,3\n")
    with pytest.raises(RequestError, match="larger than"):
        read_truth_file(tmp_path / "truth.csv", NAMES)
