"""Formats, manifests and hashes are read with no engine, and damaged or hostile files are refused with one line."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyvit import Classifier
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.runtimes.artifact import content_sha256, detect_format, open_artifact, read_manifest
from tinyvit.runtimes.verify import verify


@pytest.mark.parametrize(("suffix", "format"), [(".onnx", "onnx"), (".xml", "openvino-ir")])
def test_format_manifest_and_roundtrip(build_artifact: Any, suffix: str, format: str) -> None:
    path = build_artifact(suffix)
    artifact = open_artifact(str(path))
    assert (artifact.path, artifact.format.name) == (path, format)
    assert artifact.manifest
    assert artifact.manifest.labels[3].name == "thing 3"
    assert artifact.manifest.golden
    assert artifact.manifest.content_sha256 == content_sha256(path)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_file_without_manifest(build_artifact: Any, suffix: str) -> None:
    assert open_artifact(build_artifact(suffix, manifest=False)).manifest is None


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_renamed_file_is_known_by_its_content(copy_artifact: Any, suffix: str) -> None:
    path = copy_artifact(suffix)
    renamed = path.rename(path.with_suffix(".jpg"))
    assert read_manifest(renamed)
    assert detect_format(renamed) == open_artifact(renamed).format


def test_onnx_content_is_all_but_the_metadata(build_artifact: Any, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(build_artifact())
    del model.metadata_props[:]
    assert content_sha256(build_artifact()) == hashlib.sha256(model.SerializeToString()).hexdigest()
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.zeros((8, 3, 5, 5), "f"), "kernel")
    )
    onnx.save(model, tmp_path / "changed.onnx")
    assert content_sha256(tmp_path / "changed.onnx") != content_sha256(build_artifact())


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('strides="2, 2"', 'strides="2, 1"', False),
        ("<dim>8</dim>", "<dim>9</dim>", False),
        ('type="ReLU"', 'type="Sigmoid"', False),
        ("<rt_info>", '<rt_info><more value="1" />', False),
        ("<layers>", "<layers><!-- a comment -->\n\n", True),
        ("thing 3", "thing 4", True),
        ("</manifest>", "</manifest>text<more />", True),
    ],
)
def test_ir_content_is_the_network_of_the_xml(
    copy_artifact: Any, old: str, new: str, same: bool
) -> None:
    path = copy_artifact(".xml")
    before, text = (
        content_sha256(path),
        path.read_text().replace('" />\n\t\t</tinyvit>', '"></manifest>\n\t\t</tinyvit>'),
    )
    assert old in text
    path.write_text(text)
    assert content_sha256(path) == before, "how an empty element is written is no content"
    path.write_text(text.replace(old, new, 1))
    assert (content_sha256(path) == before) is same


def test_ir_content_is_the_bin_too(copy_artifact: Any) -> None:
    path = copy_artifact(".xml")
    before, data = content_sha256(path), bytearray(path.with_suffix(".bin").read_bytes())
    data[-1] ^= 1
    path.with_suffix(".bin").write_bytes(data)
    assert content_sha256(path) != before
    path.with_suffix(".bin").unlink()
    with pytest.raises(ArtifactError, match="beside"):
        content_sha256(path)


def test_the_bin_names_its_xml(build_artifact: Any) -> None:
    with pytest.raises(ArtifactError, match=r"open test\.xml"):
        open_artifact(build_artifact(".xml").with_suffix(".bin"))


@pytest.mark.parametrize("name", ["a.onnx", "a.xml", "a.bin", "a"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello there\n",
        bytes(500),
        b"<html></html>",
        b"\xff" * 40,
        b"PK\x03\x04" + bytes(99),
        b"\x08\x09",
    ],
)
def test_files_that_are_neither(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        open_artifact(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path, "a\0b"):
        with pytest.raises(ArtifactError):
            open_artifact(path)


@pytest.mark.parametrize("path", [None, 3, b"a.onnx", ["a.onnx"]])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(RequestError, match="is not a path: give the path"):
        Classifier(path)
    with pytest.raises(RequestError, match="is not a path"):
        verify(path)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_cut_and_scrambled_files(build_artifact: Any, tmp_path: Path, suffix: str) -> None:
    data, rng, path = (
        build_artifact(suffix).read_bytes(),
        np.random.default_rng(0),
        tmp_path / f"a{suffix}",
    )
    for cut in (1, 20, len(data) // 2, len(data) - 4):
        path.write_bytes(data[:cut])
        with pytest.raises(ArtifactError):
            open_artifact(path)
    for _ in range(150):
        hurt = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            hurt[at] = rng.integers(256)
        path.write_bytes(hurt)
        with contextlib.suppress(ArtifactError):
            open_artifact(path)


def test_hostile_xml(copy_artifact: Any, build_artifact: Any) -> None:
    path, text = copy_artifact(".xml"), build_artifact(".xml").read_text()
    body = text[text.index("<net") :]
    path.write_text(
        '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + body
    )
    with pytest.raises(ArtifactError):
        open_artifact(path)
    path.write_text('<net name="x"><!DOCTYPE a>' + body)
    with pytest.raises(ArtifactError):
        open_artifact(path)
    path.write_text("<net>" + "<a>" * 5000 + "</a>" * 5000 + "</net>")
    with pytest.raises(ArtifactError, match="nested"):
        open_artifact(path)


def test_two_manifests_are_refused(copy_artifact: Any, build_artifact: Any) -> None:
    path = copy_artifact()
    entry = next(
        i
        for i in range(len(path.read_bytes()))
        if path.read_bytes()[i:].startswith(b"\x0a\x07tinyvit")
    )
    data = path.read_bytes()
    start = data.rindex(b"\x72", 0, entry)
    path.write_bytes(data + data[start:])
    with pytest.raises(ArtifactError, match=r"2 manifests|damaged"):
        open_artifact(path)


def test_a_damaged_manifest_is_an_error_not_an_absence(build_artifact: Any, tmp_path: Path) -> None:
    data = build_artifact().read_bytes()
    (tmp_path / "a.onnx").write_bytes(data.replace(b'"stage":"host"', b'"stage":"hast"'))
    with pytest.raises(ArtifactError, match="manifest is damaged"):
        open_artifact(tmp_path / "a.onnx")


def test_reading_needs_no_engine(build_artifact: Any) -> None:
    code = "import sys; from tinyvit.runtimes.artifact import *; p = sys.argv[1]; assert read_manifest(p) and content_sha256(p);"
    code += "assert not {'onnx', 'onnxruntime', 'openvino', 'torch'} & set(sys.modules)"
    for suffix in (".onnx", ".xml"):
        subprocess.run([sys.executable, "-c", code, str(build_artifact(suffix))], check=True)
