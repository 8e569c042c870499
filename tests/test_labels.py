import pytest

from tinyvit import labels
from tinyvit.errors import RequestError
from tinyvit.labels import Label


def test_imagenet_1k():
    names = labels.imagenet(1000)
    assert (len(names), names[0], names[281], names[967].name) == (
        1000,
        Label("tench", "n01440764"),
        Label("tabby", "n02123045"),
        "espresso",
    )
    assert [label.wnid for label in names] == sorted(label.wnid for label in names)


def test_imagenet_22k_agrees_with_the_papers_mapping():
    """The first, second and last entries of microsoft/Cream, TinyViT/imagenet_1kto22k.txt; one class of the 1,000 has none."""
    full = labels.imagenet(21841)
    thousand = labels.imagenet(1000)
    index = {label.wnid: i for i, label in enumerate(full)}
    assert len(full) == 21841
    assert (index[thousand[0].wnid], index[thousand[1].wnid], index[thousand[999].wnid]) == (359, 368, 21815)
    assert [label.name for label in thousand if label.wnid not in index] == ["teddy"]


def test_other_counts_have_no_labels():
    assert labels.imagenet(10) is None
    assert labels.numbered(2) == (Label("class 0"), Label("class 1"))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "red\ngreen\n", (Label("red"), Label("green"))),
        ("a.txt", "n02123045\nmy class\n", (Label("tabby", "n02123045"), Label("my class"))),
        ("a.csv", 'w1,"a, b"\nw2,c\n', (Label("a, b", "w1"), Label("c", "w2"))),
        ("a.json", '["x", "y"]', (Label("x"), Label("y"))),
        ("a.json", '{"1": "y", "0": "x", "10": "k", "2": "a", "3": "b", "4": "c", "5": "d", "6": "e", "7": "f", "8": "g", "9": "h"}', None),
    ],
)
def test_read(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    read = labels.read(tmp_path / name)
    assert read == expected if expected else [label.name for label in read] == list("xyabcdefghk")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b""),
        ("a.txt", b"\xff\xfe\x00x"),
        ("a.json", b"{"),
        ("a.json", b'{"1": "x"}'),
        ("a.csv", b"a,b,c\n"),
        ("a.txt", b"a\n\nb\n"),
    ],
)
def test_bad_files_are_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RequestError):
        labels.read(tmp_path / name)


def test_absent_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        labels.read(tmp_path / "absent.txt")
