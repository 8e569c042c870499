"""Formats, manifests and hashes are read without an engine; damaged files are errors."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.small_classifiers import ArtifactBuilder, hash_openvino_ir
from tinyvit import Classifier
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.runtimes.artifact import (
    content_sha256,
    detect_format,
    known_formats,
    list_artifact_files,
    read_artifact,
    read_manifest,
)
from tinyvit.runtimes.formats.openvino_ir import OPENVINO_IR
from tinyvit.runtimes.verify import verify

SUFFIXES = [".onnx", ".xml"]


@pytest.mark.parametrize(("suffix", "format"), [(".onnx", "onnx"), (".xml", "openvino-ir")])
def test_format_and_manifest_are_read(
    build_artifact: ArtifactBuilder, suffix: str, format: str
) -> None:
    path = build_artifact(suffix)
    artifact = read_artifact(str(path))
    assert (artifact.path, artifact.format.name) == (path, format)
    assert artifact.manifest
    assert artifact.manifest.labels[3].name == "thing 3"
    assert artifact.manifest.golden
    assert artifact.manifest.content_sha256 == content_sha256(path)


def test_onnx_is_tried_last_because_it_has_no_magic_number() -> None:
    names = [format.name for format in known_formats()]
    assert names[-1] == "onnx"
    assert names[:-1] == sorted(names[:-1])
    assert {*names} == {
        "coreml",
        "executorch",
        "litert",
        "onnx",
        "openvino-ir",
        "ort",
        "qnn-context",
        "rknn",
        "tensorrt",
    }


def test_many_comments_before_the_root_element_take_no_time() -> None:
    comments = b"<!---->\n" * 500
    assert OPENVINO_IR.recognizes(Path("model.xml"), b"<?xml version='1.0'?>" + comments + b"<net>")
    assert not OPENVINO_IR.recognizes(Path("model.xml"), comments + b"<other>")
    assert not OPENVINO_IR.recognizes(Path("model.xml"), b"<!-- <net> ")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_manifest_is_read(build_artifact: ArtifactBuilder, suffix: str) -> None:
    assert read_artifact(build_artifact(suffix, manifest=False)).manifest is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_renamed_file_is_recognized_by_its_content(
    copy_artifact: ArtifactBuilder, suffix: str
) -> None:
    path = copy_artifact(suffix)
    renamed = path.rename(path.with_suffix(".jpg"))
    assert read_manifest(renamed)
    assert detect_format(renamed) == read_artifact(renamed).format


def test_all_files_of_an_artifact_are_listed(copy_artifact: ArtifactBuilder) -> None:
    onnx, ir = copy_artifact(".onnx"), copy_artifact(".xml")
    assert list_artifact_files(onnx) == (onnx,)
    assert list_artifact_files(ir) == (ir, ir.with_suffix(".bin"))
    external_weights = onnx.with_name(f"{onnx.name}.data")
    external_weights.write_bytes(b"weights")
    assert list_artifact_files(onnx) == (onnx, external_weights)


def test_the_content_of_an_onnx_file_is_everything_but_the_manifest(
    build_artifact: ArtifactBuilder, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(build_artifact())
    assert [entry.key for entry in model.metadata_props] == ["other", "tinyvit"]
    del model.metadata_props[1]
    expected = hashlib.sha256(model.SerializeToString()).hexdigest()
    assert content_sha256(build_artifact()) == expected
    zeros = onnx.numpy_helper.from_array(np.zeros((8, 3, 5, 5), "f"), "kernel")
    model.graph.initializer[0].CopyFrom(zeros)
    onnx.save(model, tmp_path / "changed.onnx")
    assert content_sha256(tmp_path / "changed.onnx") != expected


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('strides="2, 2"', 'strides="2, 1"', False),
        ("<dim>8</dim>", "<dim>9</dim>", False),
        ('type="ReLU"', 'type="Sigmoid"', False),
        ("<rt_info>", '<rt_info><more value="1" />', False),
        ("<layers>", "<layers><!-- a comment -->", False),
        ("<layers>", "<layers>\n", False),
        ("</net>", "</net>\n<!-- a comment -->", False),
        ("thing 3", "thing 4", True),
        ("thing 3", "thing &#51;", False),
        ("</tinyvit>", "text<more /></tinyvit>", False),
    ],
)
def test_the_content_of_an_ir_is_the_network_in_its_xml(
    copy_artifact: ArtifactBuilder, old: str, new: str, same: bool
) -> None:
    path = copy_artifact(".xml")
    before = content_sha256(path)
    assert before == hash_openvino_ir(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert (content_sha256(path) == before) is same


def test_the_content_of_an_ir_includes_its_weights(copy_artifact: ArtifactBuilder) -> None:
    path = copy_artifact(".xml")
    weights = path.with_suffix(".bin")
    before, data = content_sha256(path), bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert content_sha256(path) != before
    weights.unlink()
    with pytest.raises(ArtifactError, match="next to it"):
        content_sha256(path)


def test_opening_the_weights_of_an_ir_names_its_xml(build_artifact: ArtifactBuilder) -> None:
    with pytest.raises(ArtifactError, match=r"give test\.xml"):
        read_artifact(build_artifact(".xml").with_suffix(".bin"))


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
def test_files_of_no_known_format_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_artifact(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path, "a\0b"):
        with pytest.raises(ArtifactError):
            read_artifact(path)


@pytest.mark.parametrize("path", [None, 3, b"a.onnx", ["a.onnx"]])
def test_objects_that_are_not_paths_are_refused(path: Any) -> None:
    with pytest.raises(RequestError, match="is not a path: give the path"):
        Classifier(path)
    with pytest.raises(RequestError, match="is not a path"):
        verify(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_and_corrupted_files_are_refused(
    build_artifact: ArtifactBuilder, tmp_path: Path, suffix: str
) -> None:
    data, rng = build_artifact(suffix).read_bytes(), np.random.default_rng(0)
    path = tmp_path / f"a{suffix}"
    for length in (1, 20, len(data) // 2, len(data) - 4):
        path.write_bytes(data[:length])
        with pytest.raises(ArtifactError):
            read_artifact(path)
    for _ in range(150):
        corrupted = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            corrupted[position] = rng.integers(256)
        path.write_bytes(corrupted)
        with contextlib.suppress(ArtifactError):
            read_artifact(path)


def test_hostile_xml_is_refused(copy_artifact: ArtifactBuilder) -> None:
    path = copy_artifact(".xml")
    text = path.read_text()
    network = text[text.index("<net") :]
    entities = '<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">'
    path.write_text(f'<?xml version="1.0"?><!DOCTYPE net [{entities}]>{network}')
    with pytest.raises(ArtifactError):
        read_artifact(path)
    path.write_text(f'<net name="x"><!DOCTYPE a>{network}')
    with pytest.raises(ArtifactError):
        read_artifact(path)
    path.write_text("<net>" + "<a>" * 5000 + "</a>" * 5000 + "</net>")
    with pytest.raises(ArtifactError, match="nested"):
        read_artifact(path)


@pytest.mark.parametrize(
    "encoding",
    [
        "utf-7",
        "utf-32",
        "big5",
        "idna",
        "punycode",
        "undefined",
        "hex",
        "rot13",
        "x" * 3000,
    ],
)
def test_xml_in_another_encoding_is_refused(copy_artifact: ArtifactBuilder, encoding: str) -> None:
    path = copy_artifact(".xml")
    text = path.read_text()
    network = text[text.index("<net") :]
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?>{network}')
    with pytest.raises(ArtifactError, match="is in the encoding"):
        read_artifact(path)
    path.write_text(f'<?xml version="1.0" encoding="US-ASCII"?>{network}')
    assert read_artifact(path).manifest


def test_two_manifests_are_refused(copy_artifact: ArtifactBuilder) -> None:
    path = copy_artifact()
    data = path.read_bytes()
    key = data.index(b"\x0a\x07tinyvit")
    metadata_tag = data.rindex(b"\x72", 0, key)
    path.write_bytes(data + data[metadata_tag:])
    with pytest.raises(ArtifactError, match=r"2 manifests|damaged"):
        read_artifact(path)


def test_a_damaged_manifest_is_an_error_and_not_an_absence(
    build_artifact: ArtifactBuilder, tmp_path: Path
) -> None:
    data = build_artifact().read_bytes()
    (tmp_path / "a.onnx").write_bytes(
        data.replace(b'"embedded_preprocessing":"host"', b'"embedded_preprocessing":"hast"')
    )
    with pytest.raises(ArtifactError, match=r"manifest.*is damaged"):
        read_artifact(tmp_path / "a.onnx")


def test_reading_needs_no_engine(build_artifact: ArtifactBuilder) -> None:
    code = (
        "import sys; from tinyvit.runtimes.artifact import *; path = sys.argv[1];"
        "assert read_manifest(path) and content_sha256(path);"
        "assert not {'onnx', 'onnxruntime', 'openvino', 'torch'} & set(sys.modules)"
    )
    for suffix in SUFFIXES:
        subprocess.run([sys.executable, "-c", code, str(build_artifact(suffix))], check=True)
