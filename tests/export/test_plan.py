"""Impossible requests are refused before the checkpoint, which does not exist here, is read."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tinyvit.errors import CheckpointError, RequestError

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.export import ExportConfig, export, export_all, source_network
from tinyvit.export.plan import make_plan, make_write_error
from tinyvit.export.source_network import load_source_network
from tinyvit.labels import Label
from tinyvit.nn.checkpoints.hub import load_released


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file of the user's and a label file of two classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "two.json").write_text('{"1": "a", "2": "b"}')
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 11}, "opset 11 cannot be written: use --opset 18 to 23"),
        ({"batch": 0}, "--batch 0 is not possible: give a whole number from 1 to 4096"),
        ({"batch": 4097}, "--batch 4097 is not possible: give a whole number from 1 to 4096"),
        ({"preprocess": "full", "batch": 2}, "one image at a time"),
        ({"preprocess": "full", "batch": None}, "one image at a time"),
        ({"preprocess": "some"}, "--preprocess some .* host, normalize, full"),
        ({"img_size": (224, 1025)}, "TinyViT cannot run at 224 x 1025 pixels"),
        ({"img_size": 0}, "a height and a width from 32 to 1024"),
        ({"labels": "absent.txt"}, "absent.txt cannot be read"),
        ({"labels": "two.json"}, "two.json is not understood"),
        ({"labels": ["a", ""]}, "a label is empty"),
        ({"labels": {"a", "b"}}, "neither a list of names nor a map"),
        ({"labels": {1: "a", 2: "b"}}, "they are 1 to 2"),
        ({"targets": ("tensorflow",)}, "no target is called"),
        ({"targets": ()}, "no target was requested"),
        ({"targets": "onnx"}, r"a tuple of names is needed: give targets=\('onnx',\)"),
        (
            {"checkpoint": "https://a.org/b.pth"},
            "^checkpoint https://a.org/b.pth is a URL, and a path is needed: give the path of a"
            " local file or folder; download a remote file first$",
        ),
        ({"labels": "file:///two.json"}, "^labels file:///two.json is a URL.*: leave out file://$"),
        ({"output_path": "s3://a/b.onnx"}, "^output path s3://a/b.onnx is a URL"),
        ({"labels": "cat,dog"}, "cat,dog cannot be read .*: if these are names, write them to a f"),
        ({"model": "demo"}, "both --model demo and --checkpoint absent.pth were given"),
        ({"output_path": "x.xml"}, "does not end with .onnx, as files for onnx do"),
        ({"output_path": "x.xml"}, "name it x.onnx, or give --target openvino"),
        ({"output_path": "x.jpg"}, "name it x.onnx$"),
        ({"output_path": "file/x.onnx"}, "a part of this path is a file, not a folder"),
        ({"output_path": "file/new/x.onnx"}, "a part of this path is a file, not a folder"),
        ({"output_path": "file", "targets": ("all",)}, "give -o a folder"),
        ({"output_path": "x.xml", "targets": ("onnx", "openvino")}, "x.xml names a file, and the"),
        ({"output_path": "x" * 300 + ".onnx"}, "shorter name"),
        ({"output_path": "x" * 252 + ".onnx"}, "shorter name"),
    ],
)
def test_impossible_request_is_refused_and_leaves_nothing(
    options: dict[str, Any], message: str, folder: Path
) -> None:
    progress = RecordedProgress()
    with pytest.raises(RequestError, match=message):
        export_all(ExportConfig(**{"checkpoint": "absent.pth", **options}), progress)
    assert progress.messages == []
    assert sorted(file.name for file in folder.iterdir()) == ["file", "two.json"]
    assert (folder / "file").read_text() == "mine"


@pytest.mark.parametrize("targets", [("onnx", "openvino"), ("all",)])
def test_export_makes_one_artifact(targets: tuple[str, ...], folder: Path) -> None:
    with pytest.raises(RequestError, match=r"requests several: call export_all\(\)"):
        export(ExportConfig(checkpoint="absent.pth", targets=targets))


@pytest.mark.parametrize("targets", ["onnx", "all"])
def test_a_string_of_targets_is_refused(targets: Any, folder: Path) -> None:
    with pytest.raises(RequestError) as caught:
        export(ExportConfig(model="demo", targets=targets))
    assert str(caught.value) == (
        f"targets='{targets}' is a string, and a tuple of names is needed:"
        f" give targets=('{targets}',)"
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_artifact_is_refused_as_a_checkpoint_before_the_output_is_checked(
    folder: Path, overwrite: bool
) -> None:
    content = b"\x08\x08\x12\x07pytorch"
    (folder / "demo.onnx").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        export(ExportConfig(checkpoint="demo.onnx", overwrite=overwrite))
    assert str(caught.value) == (
        "demo.onnx is an ONNX model, not a checkpoint: give the PyTorch checkpoint from which it"
        " was made (.pth or .safetensors)"
    )
    assert (folder / "demo.onnx").read_bytes() == content


def test_targets_that_do_not_offer_the_request_are_refused_before_the_checkpoint_is_read(
    folder: Path,
) -> None:
    progress = RecordedProgress()
    config = ExportConfig(checkpoint="absent.pth", targets=("onnx", "ort"), float16=True)
    report = export_all(config, progress)
    assert report.artifacts == ()
    assert [(failure.target, failure.is_skipped) for failure in report.failures] == [
        ("onnx", True),
        ("ort", True),
    ]
    assert [message.partition(":")[0] for message in progress.messages] == [
        "skipping onnx",
        "skipping ort",
    ]
    config = ExportConfig(checkpoint="absent.pth", targets=("onnx", "openvino"), float16=True)
    with pytest.raises(CheckpointError, match=r"absent\.pth cannot be read"):
        export_all(config, progress)
    assert "reading the checkpoint" not in progress.messages


def test_a_target_and_its_alias_are_one_target(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pth cannot be read"):
        export(ExportConfig(checkpoint="absent.pth", targets=("openvino", "ov")))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_without_write_permission_is_refused(folder: Path) -> None:
    (folder / "theirs").mkdir(mode=0o500)
    with pytest.raises(RequestError, match="check its permissions"):
        export(ExportConfig(checkpoint="absent.pth", output_path="theirs/new/x.onnx"))


def test_a_possible_request_reads_the_checkpoint_and_leaves_no_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pth cannot be read"):
        export(ExportConfig(checkpoint="absent.pth", output_path="new/x.onnx"))
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("code", "message"),
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
def test_the_remedy_of_a_write_error_fits_its_cause(
    code: int, message: str, tmp_path: Path
) -> None:
    error = make_write_error(tmp_path / "x.onnx", OSError(code, os.strerror(code)))
    assert message in str(error)
    assert ("free space" in error.remedy) == ("disk is full" in message)


@pytest.mark.parametrize(
    "labels", [("a", "b"), {1: "b", 0: "a"}, {"b": 1, "a": 0}, [Label("a"), "b"], "two.txt"]
)
def test_labels_are_ordered_by_their_keys(labels: Any, folder: Path) -> None:
    (folder / "two.txt").write_text("1: b\n0: a\n")
    config = ExportConfig(checkpoint="absent.pth", labels=labels, output_path=folder / "x.onnx")
    assert make_plan(config).labels == (Label("a"), Label("b"))


def test_classes_without_names_are_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = load_released("demo")
    monkeypatch.setattr(
        source_network, "load_released", lambda *_: replace(named, labels=None, name="mine")
    )
    progress = RecordedProgress()
    config = ExportConfig(model="demo", img_size=64, output_path=folder / "demo.onnx")
    labels = load_source_network(make_plan(config), progress).labels
    assert (labels[0], labels[9]) == (Label("class 0"), Label("class 9"))
    assert (
        "warning: mine does not name its classes, so they are called class 0, class 1, class 2, ..."
        " (--labels FILE names them)"
    ) in progress.messages


def test_the_first_and_last_label_are_shown_and_another_order_is_reported(folder: Path) -> None:
    progress = RecordedProgress()
    plan = make_plan(ExportConfig(model="demo", output_path=folder / "demo.onnx"))
    own = load_source_network(plan, progress).labels
    assert not any(message.startswith("read ") for message in progress.messages)
    config = ExportConfig(model="demo", labels=own[::-1], output_path=folder / "demo.onnx")
    load_source_network(make_plan(config), progress)
    first, last = own[-1], own[0]
    expected = f"read 12 labels, from 0: {first.name} ({first.wnid}) to 11: {last.name}"
    assert any(message.startswith(expected) for message in progress.messages)
    assert (
        "the checkpoint has the same labels in another order; those of --labels are used"
        in progress.messages
    )
