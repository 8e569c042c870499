"""What is refused before the checkpoint is read: every request here names one that does not exist."""

import errno
import os

import pytest

from tinyvit.errors import CheckpointError, RequestError

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tinyvit.export import config as request
from tinyvit.export import export


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "two.json").write_text('{"1": "a", "2": "b"}')
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"opset": 11}, "opset 11 cannot be written: use --opset 18 to 23"),
        ({"batch": 0}, "batch"),
        ({"batch": 4097}, "4096"),
        ({"batch": 2, "dynamic_batch": True}, "batch"),
        ({"preprocess": "full", "batch": 2}, "one picture at a time"),
        ({"preprocess": "some"}, "host, normalize, full"),
        ({"img_size": 250}, "224 or 256"),
        ({"img_size": 0}, "32 or 64"),
        ({"labels": "absent.txt"}, "absent.txt cannot be read"),
        ({"labels": "two.json"}, "two.json is not understood"),
        ({"labels": ["a", ""]}, "a label is empty"),
        ({"target": "tensorflow"}, "no target is called"),
        ({"target": []}, "no target"),
        ({"model": "demo"}, "both"),
        ({"output": "x.xml"}, "does not end with .onnx"),
        ({"output": "file/x.onnx"}, "a folder on the way is a file"),
        ({"output": "file/new/x.onnx"}, "a folder on the way is a file"),
        ({"output": "file", "target": "all"}, "give -o a folder"),
        ({"output": "x" * 300 + ".onnx"}, "shorter name"),
        ({"output": "x" * 252 + ".onnx"}, "shorter name"),
    ],
)
def test_refused_at_once_and_nothing_is_left(arguments, said, folder):
    stages = []
    with pytest.raises(RequestError, match=said):
        export(**{"checkpoint": "absent.pth", "progress": stages.append, **arguments})
    assert stages == []
    assert sorted(file.name for file in folder.iterdir()) == ["file", "two.json"]
    assert (folder / "file").read_text() == "mine"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_that_may_not_be_written(folder):
    (folder / "theirs").mkdir(mode=0o500)
    with pytest.raises(RequestError, match="check its permissions"):
        export(checkpoint="absent.pth", output=folder / "theirs" / "new" / "x.onnx")


def test_a_sound_request_goes_on_to_the_checkpoint_and_leaves_no_folder(folder):
    with pytest.raises(CheckpointError, match=r"absent\.pth cannot be read"):
        export(checkpoint="absent.pth", output=folder / "new" / "x.onnx")
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "the disk is full): free space there"),
        (errno.EDQUOT, "the disk is full): free space there"),
        (errno.EFBIG, "the disk is full): free space there"),
        (errno.EACCES, "check its permissions"),
        (errno.EROFS, "check its permissions"),
        (errno.ENOTDIR, "is a file"),
        (errno.EEXIST, "is a file"),
        (errno.ENOENT, "check the path"),
        (errno.EIO, "check the path"),
    ],
)
def test_the_remedy_fits_the_systems_reason(code, said, tmp_path):
    error = request.unwritable(tmp_path / "x.onnx", OSError(code, os.strerror(code)))
    assert said in str(error)
    assert ("free space" in error.remedy) == ("disk is full" in said)
