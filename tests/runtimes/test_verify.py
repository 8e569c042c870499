"""Verification passes on a true file and fails on every kind of changed one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyvit import Classifier
from tinyvit.errors import ArtifactError
from tinyvit.manifest import MANIFEST_KEY, Manifest
from tinyvit.runtimes import open_artifact
from tinyvit.runtimes.artifact import content_sha256
from tinyvit.runtimes.verify import verify

STAGES = [("host", "batch"), ("host", 3), ("normalize", "batch"), ("normalize", 1)]


def rewritten(
    path: Path,
    change: Callable[[Manifest], Manifest],
    weights: Callable[[np.ndarray], None] | None = None,
) -> Path:
    onnx = pytest.importorskip("onnx")
    model, manifest = onnx.load(path), open_artifact(path).manifest
    assert manifest
    matrix = next(x for x in model.graph.initializer if x.name == "matrix")
    values = onnx.numpy_helper.to_array(matrix).copy()
    if weights:
        weights(values)
    matrix.CopyFrom(onnx.numpy_helper.from_array(values, "matrix"))
    onnx.save(model, path)
    onnx.helper.set_model_props(model, {MANIFEST_KEY: change(manifest).to_json()})
    onnx.save(model, path)
    return path


def one_weight(values: np.ndarray) -> None:
    values[3, 4] += 0.5


def not_a_number(values: np.ndarray) -> None:
    values[0, 0] = math.nan


@pytest.mark.parametrize(("stage", "batch"), STAGES)
def test_a_true_file_passes(
    build_artifact: Any, engine_and_suffix: tuple[str, str], stage: str, batch: int | str
) -> None:
    engine, suffix = engine_and_suffix
    result = verify(build_artifact(suffix, stage, batch), engine, threads=1)
    assert result.passed
    assert result.content_unchanged
    assert result.manifest_unchanged
    assert result.reasons == ()
    assert 0 <= result.max_abs_diff <= result.tolerance
    assert [row.pattern for row in result.patterns] == [0, 1, 2]
    assert result.engine.engine == engine
    assert result.host.machine
    assert result.host.processor


def test_a_file_that_resizes_by_itself_passes(build_artifact: Any) -> None:
    pytest.importorskip("onnxruntime")
    assert verify(build_artifact(stage="full"), "onnxruntime").passed


def test_a_changed_weight_shows_in_the_hash_and_in_the_logits(
    copy_artifact: Any, engine_and_suffix: tuple[str, str]
) -> None:
    if engine_and_suffix[1] == ".xml":
        path = copy_artifact(".xml")
        data = bytearray(path.with_suffix(".bin").read_bytes())
        data[3] ^= 0x3F
        path.with_suffix(".bin").write_bytes(data)
    else:
        path = rewritten(copy_artifact(), lambda manifest: manifest, one_weight)
    result = verify(path, engine_and_suffix[0])
    assert not result.passed
    assert not result.content_unchanged
    assert result.manifest_unchanged
    assert [reason.split()[1] for reason in result.reasons] == ["network", "logits"]
    assert result.max_abs_diff > result.tolerance


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("thing 3", "thinx 3"),
        ('"resize":36', '"resize":38'),
        ('"tolerance":0.001', '"tolerance":0.901'),
    ],
)
def test_an_edited_manifest_fails_and_still_opens(
    copy_artifact: Any, image_files: list[Path], suffix: str, old: str, new: str
) -> None:
    path, quote = copy_artifact(suffix), "&quot;" if suffix == ".xml" else '"'
    old, new = (text.replace('"', quote).encode() for text in (old, new))
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    result = verify(path)
    assert not result.passed
    assert result.reasons == ("the manifest was changed after export",)
    assert result.content_unchanged
    assert not result.manifest_unchanged
    assert Classifier(path).predict(image_files[0])


def test_an_edited_xml_fails_though_its_weights_are_the_same(copy_artifact: Any) -> None:
    path = copy_artifact(".xml")
    text = path.read_text()
    old, new = (
        f'exclude-pad="{value}"' for value in ("true", "false")
    )  # nothing is padded: the logits are the same
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    result = verify(path)
    assert result.reasons == ("the network was changed after export",)


def test_a_hash_made_again_does_not_hide_it(copy_artifact: Any) -> None:
    path = copy_artifact()
    result = verify(
        rewritten(
            path, lambda m: dataclasses.replace(m, content_sha256=content_sha256(path)), one_weight
        )
    )
    assert result.content_unchanged
    assert not result.passed
    assert result.max_abs_diff > result.tolerance


def test_a_wrong_hash_alone_fails(copy_artifact: Any) -> None:
    for wrong in ("", "0" * 64):
        result = verify(
            rewritten(
                copy_artifact(), lambda m, sha=wrong: dataclasses.replace(m, content_sha256=sha)
            )
        )
        assert result.max_abs_diff <= result.tolerance
        assert not result.passed


def test_nan_fails(copy_artifact: Any) -> None:
    path = copy_artifact()
    result = verify(
        rewritten(
            path,
            lambda m: dataclasses.replace(m, content_sha256=content_sha256(path)),
            not_a_number,
        )
    )
    assert not result.passed
    assert math.isnan(result.max_abs_diff)


def test_another_best_class_within_the_tolerance_is_told_and_not_judged(copy_artifact: Any) -> None:
    def change(manifest: Manifest) -> Manifest:
        golden = manifest.golden
        assert golden
        shifted = tuple(tuple(np.roll(row, 1).tolist()) for row in golden.logits)
        return dataclasses.replace(
            manifest, golden=dataclasses.replace(golden, logits=shifted, tolerance=1e6)
        )

    path = copy_artifact()
    result = verify(
        rewritten(
            path, lambda m: dataclasses.replace(change(m), content_sha256=content_sha256(path))
        )
    )
    assert result.max_abs_diff <= result.tolerance
    assert not any(row.top1_agrees for row in result.patterns)
    assert result.passed


def test_files_that_cannot_be_verified(build_artifact: Any, copy_artifact: Any) -> None:
    with pytest.raises(ArtifactError, match="no manifest"):
        verify(build_artifact(manifest=False))
    with pytest.raises(ArtifactError, match="no golden"):
        verify(rewritten(copy_artifact(), lambda m: dataclasses.replace(m, golden=None)))


@pytest.mark.parametrize(
    "change",
    [
        {"formula": "other"},
        {"patterns": ()},
        {"patterns": (0, 1, 10**6)},
        {"patterns": (0, 1)},
        {"height": 10**9, "width": 10**9},
        {"height": 64},
        {"logits": ((1.0,),) * 3},
        {"tolerance": -1.0},
    ],
)
def test_hostile_golden_inputs(copy_artifact: Any, change: dict[str, Any]) -> None:
    path = rewritten(
        copy_artifact(),
        lambda m: dataclasses.replace(m, golden=dataclasses.replace(m.golden, **change)),
    )
    with pytest.raises(ArtifactError, match="golden"):
        verify(path)
