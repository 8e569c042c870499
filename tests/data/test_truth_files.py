"""Every kind of truth file gives the classes of images, or is refused by name."""

from __future__ import annotations

import json
import tarfile
import time
import unicodedata
from pathlib import Path
from typing import Literal

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
        ("a.jpg,1\na,5\nb,6\nb,6\nc.x,3\n", ("#5", "#6", "#3")),  # a name wins over a stem
        ("b,2\nd\\a.png,1\n./c.x.png,3\n", ("#1", "#2", "#3")),
        ("z/a.png,4\nx/d/a.png,1\nb,2\nc.x,3\n", ("#1", "#2", "#3")),  # more folders in common
        ("a.png;1\nb.png;2\nc.x.png;3\n", ("#1", "#2", "#3")),
        ("a.png\t1\nb.png\t2\nc.x.png\t3\n", ("#1", "#2", "#3")),
        ("cat,a.png\ndog,b.png\ncat,c.x.png\n", ("cat", "dog", "cat")),
        ("label,filename\n1,a\n2,b\n3,c.x\n", ("#1", "#2", "#3")),
        ("id,filename,label\n0,a,7.0\n1,b,8.0\n2,c.x,9.0\n", ("#7", "#8", "#9")),
        ("file,label,split\na,1,val\nb,2,val\nc.x,3,val\n", ("#1", "#2", "#3")),
        ("c.x,a b c d e\na,1\nb,2\n", ("#1", "#2", "a b c d e")),
    ],
)
def test_tables_give_the_class_of_each_file(
    tmp_path: Path, text: str, classes: tuple[str, ...]
) -> None:
    (tmp_path / "truth.csv").write_text(text, encoding="utf-8")
    expected = {name: (class_name,) for name, class_name in zip(NAMES, classes)}
    assert read_truth_file(tmp_path / "truth.csv", NAMES).classes == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("truth.tsv", "a.png\tcat\nb.png\tdog\nc.x.png\ttiger cat\n"),
        ("truth.txt", "d/a.png cat\nb.png dog\nc.x.png tiger cat\n"),
        ("truth.txt", "a cat\nb dog\nc.x tiger cat\n"),
        ("truth.txt", "a.png,cat\nb.png,dog\nc.x.png,tiger cat\n"),
        ("truth.json", '{"a.png": "cat", "b.png": ["dog"], "c.x.png": "tiger cat"}'),
        (
            "truth.json",
            '[{"file_name": "a.png", "label": "cat", "box": [1, 2]},'
            ' {"label": "dog", "file_name": "b.png", "box": null},'
            ' {"file_name": "c.x.png", "label": "tiger cat", "box": 3}]',
        ),
        (
            "metadata.jsonl",
            '{"file_name": "a.png", "label": "cat"}\n{"file_name": "b.png", "label": "dog"}\n\n'
            '{"file_name": "c.x.png", "label": "tiger cat"}\n',
        ),
        ("truth.csv", "sep=;\na.png;cat\nb.png;dog\nc.x.png;tiger cat\n"),
    ],
)
def test_other_notations_of_file_and_class(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    truth = read_truth_file(tmp_path / name, NAMES)
    assert list(truth.classes.values()) == [("cat",), ("dog",), ("tiger cat",)]
    assert truth.unused_count == 0


def test_entries_without_an_image_are_counted(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("a,1\nb,1\nb,1\nc.x,1\ne,2\nf,3\n")
    truth = read_truth_file(tmp_path / "truth.csv", NAMES)
    assert truth.unused_count == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "a,1\nb,2\nc.x,3\na,4\n", r"for a: line 1 \(a: 1\) and line 4 \(a: 4\)"),
        ("t.csv", "file,label\nb,2\nc.x,3\nb,cat\n", r"line 2 \(b: 2\) and line 4 \(b: cat\)"),
        ("t.csv", "y/a.png,1\nz/a.png,4\nb,2\nc.x,3\n", r"d/a.png: line 1 \(y/a.png: 1\) and"),
        ("t.csv", "a.jpg,1\na.bmp,4\nb,2\nc.x,3\n", r"d/a.png: line 1 \(a.jpg: 1\) and line 2"),
        ("t.txt", "a 1\nb 2\nc.x 3\na 4\n", r"for a: line 1 \(a: 1\) and line 4"),
        ("t.json", '{"a": 1, "b": 2, "c.x": 3, "a": 4}', r"for a: entry 1 \(a: 1\) and entry 4"),
    ],
)
def test_a_file_with_two_classes_is_refused_with_both_lines(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=rf"gives different classes .*{message}"):
        read_truth_file(tmp_path / name, NAMES)


def test_an_entry_for_two_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("1.jpg,cat\n")
    with pytest.raises(RequestError, match=r"line 1 .* two images, x/1.jpg and y/1.jpg"):
        read_truth_file(tmp_path / "truth.csv", ["x/1.jpg", "y/1.jpg"])


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
    truth = read_truth_file(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", NAMES)
    assert list(truth.classes.values()) == [(WNIDS[0],), (WNIDS[2],), (WNIDS[0],)]


def test_labels_of_imagenet_real_are_read(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text(json.dumps([[], [3, 4], [7]]))
    truth = read_truth_file(tmp_path / "real.json", NAMES)
    assert list(truth.classes.values()) == [(), ("#3", "#4"), ("#7",)]


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
        ("truth.json", b'{"a": true}', "class of a is neither a name nor a whole number"),
        ("truth.json", b'{"a": ""}', "class of a is neither a name nor a whole number"),
        ("truth.txt", b"a", r"not exactly a file name and a class \(line 1\)"),
        ("truth.txt", b"490\n361\n171\n", "those of the devkit"),
        ("truth.csv", b"file,path,x\na,b,c\n", "titles file, path, x"),
        ("truth.csv", b"image,cat\na,1\nb,0\nc.x,0\n", "only 0 and 1 below the title cat"),
        ("truth.csv", b"image,cat,dog\na,1,0\nb,0,1\nc.x,0,1\n", "titles image, cat, dog"),
        ("truth.json", b'[{"file": "a", "label": 1}, {"file": "b"}]', "entry 2 has other keys"),
        ("truth.json", b'[{"x": "a", "y": 1}]', "no key is known as that of the file names"),
        ("truth.json", b'[{"file": "a", "label": null}]', "not exactly a file name and a class"),
        ("truth.jsonl", b'{"file": "a", "label": 1}\nx', "form of ImageNet-ReaL's"),
        ("truth.xml", b"a", "unknown kind"),
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


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("d/a.png,1\nb,2\nc.x,3\na.png,4\n", r"line 1 \(d/a.png: 1\) and line 4 \(a.png: 4\)"),
        ("d/a.png,1\nb,2\nc.x,3\na,4\n", r"line 1 \(d/a.png: 1\) and line 4 \(a: 4\)"),
        ("a,1\nval/b.png,2\nc.x,3\nb.png,4\n", r"line 4 \(b.png: 4\) and line 2 \(val/b.png: 2\)"),
        ("c.x.PNG,9\na,1\nb,2\nc.x.png,3\n", r"line 4 \(c.x.png: 3\) and line 1 \(c.x.PNG: 9\)"),
    ],
)
def test_two_spellings_with_other_classes_are_refused(
    tmp_path: Path, text: str, lines: str
) -> None:
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(RequestError, match=lines):
        read_truth_file(tmp_path / "truth.csv", NAMES)


def test_equal_file_names_in_many_folders_take_little_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    names = [f"v{video}/{frame:04d}.jpg" for video in range(800) for frame in range(20)]
    path.write_text("".join(f"{name},cat\n" for name in names))
    start = time.perf_counter()
    truth = read_truth_file(path, sorted(names[: len(names) // 2]))
    assert truth.unused_count == len(names) // 2
    assert time.perf_counter() - start < 20


def test_jpg_and_jpeg_are_two_spellings(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("a.JPEG,1\na.jpg,2\n")
    with pytest.raises(RequestError, match=r"line 1 \(a.JPEG: 1\) and line 2 \(a.jpg: 2\)"):
        read_truth_file(tmp_path / "truth.csv", ["a.JPEG"])


def test_spellings_with_the_same_class_and_names_of_other_images_are_accepted(
    tmp_path: Path,
) -> None:
    (tmp_path / "truth.csv").write_text("a.png,1\nval/a.png,2\nval/a,2\nother/b.png,3\nd/b.png,4\n")
    truth = read_truth_file(tmp_path / "truth.csv", ["a.png", "val/a.png", "d/b.png"])
    assert truth.classes == {"a.png": ("#1",), "val/a.png": ("#2",), "d/b.png": ("#4",)}
    assert truth.unused_count == 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_may_be_composed_in_either_form(
    tmp_path: Path, form: Literal["NFC", "NFD"]
) -> None:
    """macOS stores the names of files in another form than most editors write."""
    name = "caf\u00e9.png"
    (tmp_path / "truth.csv").write_text(f"{name},1\n", encoding="utf-8")
    stored = unicodedata.normalize(form, name)
    assert read_truth_file(tmp_path / "truth.csv", [stored]).classes == {stored: ("#1",)}
