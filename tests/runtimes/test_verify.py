"""Verification passes on an unchanged file and fails on every kind of change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit import Classifier
from tinyvit.errors import ArtifactError
from tinyvit.manifest import MANIFEST_KEY, Manifest
from tinyvit.manifest_parts import Quantization
from tinyvit.runtimes import read_artifact
from tinyvit.runtimes.artifact import content_sha256
from tinyvit.runtimes.verify import verify

INT8 = Quantization("", "", 8, "", 7, "any", ())
PREPROCESSING_AND_BATCH = [("host", "batch"), ("host", 3), ("normalize", "batch"), ("normalize", 1)]


def change_weights(path: Path, change: Callable[[np.ndarray], None]) -> None:
    """Change the last layer's weights in place and keep the manifest as it is."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    matrix = next(x for x in model.graph.initializer if x.name == "matrix")
    values = onnx.numpy_helper.to_array(matrix).copy()
    change(values)
    matrix.CopyFrom(onnx.numpy_helper.from_array(values, "matrix"))
    onnx.save(model, path)


def replace_manifest(path: Path, **fields: Any) -> None:
    """Write a manifest with other fields, and with the digest that belongs to them."""
    onnx = pytest.importorskip("onnx")
    model, manifest = onnx.load(path), read_artifact(path).manifest
    assert manifest
    text = dataclasses.replace(manifest, **fields).to_json()
    onnx.helper.set_model_props(model, {"other": "x", MANIFEST_KEY: text})
    onnx.save(model, path)


def read_manifest(path: Path) -> Manifest:
    manifest = read_artifact(path).manifest
    assert manifest
    return manifest


def change_one_weight(values: np.ndarray) -> None:
    values[3, 4] += 0.5


def set_one_weight_to_nan(values: np.ndarray) -> None:
    values[0, 0] = math.nan


@pytest.mark.parametrize(("embedded_preprocessing", "batch"), PREPROCESSING_AND_BATCH)
def test_an_unchanged_file_passes(
    build_artifact: ArtifactBuilder,
    engine_and_suffix: tuple[str, str],
    embedded_preprocessing: str,
    batch: int | str,
) -> None:
    engine, suffix = engine_and_suffix
    result = verify(build_artifact(suffix, embedded_preprocessing, batch), engine, threads=1)
    assert result.passed
    assert result.content_unchanged
    assert result.manifest_unchanged
    assert result.reasons == ()
    assert 0 <= result.max_abs_diff <= result.tolerance
    assert [golden_input.pattern_number for golden_input in result.golden_inputs] == [0, 1, 2]
    assert (result.engine.engine, result.engine.threads) == (engine, 1)
    assert result.host.machine
    assert result.host.processor


def test_a_file_that_resizes_inside_passes(build_artifact: ArtifactBuilder) -> None:
    pytest.importorskip("onnxruntime")
    assert verify(build_artifact(embedded_preprocessing="full"), "onnxruntime").passed


def test_a_changed_weight_changes_the_hash_and_the_logits(
    copy_artifact: ArtifactBuilder, engine_and_suffix: tuple[str, str]
) -> None:
    engine, suffix = engine_and_suffix
    path = copy_artifact(suffix)
    if suffix == ".xml":
        data = bytearray(path.with_suffix(".bin").read_bytes())
        data[3] ^= 0x3F
        path.with_suffix(".bin").write_bytes(data)
    else:
        change_weights(path, change_one_weight)
    result = verify(path, engine)
    assert not result.passed
    assert not result.content_unchanged
    assert result.manifest_unchanged
    assert result.reasons == (
        "the network was changed after export",
        "the logits differ from those stored at export",
    )
    assert result.max_abs_diff > result.tolerance


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("thing 3", "thinx 3"),
        ('"resize":36', '"resize":38'),
        ('"tolerances":[0.001', '"tolerances":[0.901'),
    ],
)
def test_an_edited_manifest_fails_and_the_file_still_opens(
    copy_artifact: ArtifactBuilder, image_files: list[Path], suffix: str, old: str, new: str
) -> None:
    path, quote = copy_artifact(suffix), "&quot;" if suffix == ".xml" else '"'
    old_bytes, new_bytes = (text.replace('"', quote).encode() for text in (old, new))
    assert path.read_bytes().count(old_bytes) == 1
    path.write_bytes(path.read_bytes().replace(old_bytes, new_bytes))
    result = verify(path)
    assert not result.passed
    assert result.reasons == ("the manifest was changed after export",)
    assert result.content_unchanged
    assert not result.manifest_unchanged
    assert Classifier(path).predict(image_files[0])


def test_an_edited_xml_fails_though_its_logits_are_the_same(
    copy_artifact: ArtifactBuilder,
) -> None:
    path = copy_artifact(".xml")
    text = path.read_text()
    old, new = 'exclude-pad="true"', 'exclude-pad="false"'  # Nothing is padded.
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    result = verify(path)
    assert result.reasons == ("the network was changed after export",)


def test_a_changed_network_fails_though_its_hash_was_replaced(
    copy_artifact: ArtifactBuilder,
) -> None:
    path = copy_artifact()
    change_weights(path, change_one_weight)
    replace_manifest(path, content_sha256=content_sha256(path))
    result = verify(path)
    assert result.content_unchanged
    assert not result.passed
    assert result.max_abs_diff > result.tolerance


@pytest.mark.parametrize("wrong_hash", ["", "0" * 64])
def test_a_wrong_hash_alone_fails(copy_artifact: ArtifactBuilder, wrong_hash: str) -> None:
    path = copy_artifact()
    replace_manifest(path, content_sha256=wrong_hash)
    result = verify(path)
    assert result.max_abs_diff <= result.tolerance
    assert not result.passed


def test_nan_fails(copy_artifact: ArtifactBuilder) -> None:
    path = copy_artifact()
    change_weights(path, set_one_weight_to_nan)
    replace_manifest(path, content_sha256=content_sha256(path))
    result = verify(path)
    assert not result.passed
    assert math.isnan(result.max_abs_diff)


def test_another_top1_class_within_the_tolerance_is_reported_and_passes(
    copy_artifact: ArtifactBuilder,
) -> None:
    path = copy_artifact()
    golden = read_manifest(path).golden
    assert golden
    shifted = tuple(tuple(np.roll(row, 1).tolist()) for row in golden.outputs)
    replace_manifest(path, golden=dataclasses.replace(golden, outputs=shifted, tolerances=(1e6,)))
    result = verify(path)
    assert result.max_abs_diff <= result.tolerance
    assert not any(golden_input.top1_agrees for golden_input in result.golden_inputs)
    assert result.passed


def test_files_without_manifest_or_golden_vectors_cannot_be_verified(
    build_artifact: ArtifactBuilder, copy_artifact: ArtifactBuilder
) -> None:
    with pytest.raises(ArtifactError, match="no manifest"):
        verify(build_artifact(manifest=False))
    path = copy_artifact()
    replace_manifest(path, golden=None)
    with pytest.raises(ArtifactError, match="no golden"):
        verify(path)


@pytest.mark.parametrize(
    "change",
    [
        {"formula": "other"},
        {"patterns": ()},
        {"patterns": (0, 1, 10**6)},
        {"patterns": (0, 1)},
        {"height": 10**9, "width": 10**9},
        {"height": 64},
        {"outputs": ((1.0,),) * 3},
        {"tolerances": (-1.0,)},
        {"tolerances": ()},
        {"tolerances": (1.0, 1.0)},
    ],
)
def test_hostile_golden_vectors_are_refused(
    copy_artifact: ArtifactBuilder, change: dict[str, Any]
) -> None:
    path = copy_artifact()
    golden = read_manifest(path).golden
    assert golden
    replace_manifest(path, golden=dataclasses.replace(golden, **change))
    with pytest.raises(ArtifactError, match="golden"):
        verify(path)


def test_the_reference_of_an_int8_artifact_is_named(copy_artifact: ArtifactBuilder) -> None:
    path = copy_artifact()
    assert verify(path).reference == "the checkpoint in PyTorch, float32"
    replace_manifest(path, precision="int8", quantization=INT8)
    assert verify(path).reference == (
        "the int8 network in PyTorch, without rounding errors (float64)"
    )
