"""A manifest is the same after writing and reading; damaged and hostile ones are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.labels import Label
from tinyvit.manifest import MAX_BYTES, Manifest
from tinyvit.manifest_parts import (
    Compilation,
    GoldenVectors,
    OutputSpec,
    Parity,
    Quantization,
    SourceCheckpoint,
    TensorSpec,
)
from tinyvit.preprocess import Preprocess

MANIFEST = Manifest(
    model="demo",
    variant="tiny_vit_5m_224",
    img_size=224,
    target="onnx",
    precision="float32",
    embedded_preprocessing="host",
    input=TensorSpec("image", ("batch", 3, 224, 224), "float32", "NCHW"),
    outputs=(OutputSpec("logits", ("batch", 2), "float32", "NC"),),
    preprocess=Preprocess(224, 235),
    labels=(Label("a señor", "n00000001"), Label("b\n\u2028", "")),
    source=SourceCheckpoint("demo", "00"),
    license="mit",
    tools={"torch": "2.9"},
    golden=GoldenVectors("triangle-chirp-1", (0, 1), 224, 224, ((1.5, -2.0), (0.25, 3.0)), (1e-4,)),
    parity=Parity(1e-6, "torch", "onnxruntime"),
    quantization=Quantization(
        method="mse",
        calibration_sha256="ff",
        calibration_count=64,
        recipe_sha256="00",
        weight_bits=7,
        required_cpu_feature="any",
        float_units=("head.fc",),
        agreement=99.5,
        trials=("first", "second"),
    ),
    preprocess_source="config.json",
    labels_source="--labels classes.txt",
    content_sha256="ff",
)


DATA: dict[str, Any] = {
    "format": 4,
    "model": "demo",
    "variant": "tiny_vit_5m_224",
    "img_size": 224,
    "target": "onnx",
    "precision": "float32",
    "embedded_preprocessing": "host",
    "input": {
        "name": "image",
        "shape": ["batch", 3, 224, 224],
        "dtype": "float32",
        "layout": "NCHW",
    },
    "outputs": [
        {
            "name": "logits",
            "shape": ["batch", 2],
            "dtype": "float32",
            "layout": "NC",
            "kind": "logits",
            "stride": None,
        }
    ],
    "preprocess": {
        "size": 224,
        "resize": 235,
        "crop": "center",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "labels": {"names": ["a señor", "b\n\u2028"], "wnids": ["n00000001", ""]},
    "source": {"name": "demo", "sha256": "00"},
    "license": "mit",
    "tools": {"torch": "2.9"},
    "golden": {
        "formula": "triangle-chirp-1",
        "patterns": [0, 1],
        "height": 224,
        "width": 224,
        "outputs": [[1.5, -2.0], [0.25, 3.0]],
        "tolerances": [1e-4],
    },
    "parity": {"max_abs_diff": 1e-6, "reference": "torch", "engine": "onnxruntime"},
    "quantization": {
        "method": "mse",
        "calibration_sha256": "ff",
        "calibration_count": 64,
        "recipe_sha256": "00",
        "weight_bits": 7,
        "required_cpu_feature": "any",
        "float_units": ["head.fc"],
        "int8_mac_fraction": None,
        "evaluation_count": 0,
        "agreement": 99.5,
        "top1": None,
        "float_top1": None,
        "cosine": None,
        "neighbor_agreement": None,
        "trials": ["first", "second"],
        "int8_summary": "",
        "measured_on": "",
        "forced": False,
    },
    "windows": "checkpoint",
    "preprocess_source": "config.json",
    "labels_source": "--labels classes.txt",
    "content_sha256": "ff",
    "manifest_sha256": "",
}
"""The JSON of MANIFEST, whose keys readers in other languages (examples/) depend on."""


def canonical(data: dict[str, Any]) -> str:
    """Return JSON as manifests write it: one line of ASCII without spaces, sorted by key."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(canonical({**data, "manifest_sha256": ""}).encode()).hexdigest()


TEXT = canonical({**DATA, "manifest_sha256": digest(DATA)})


def with_entry(path: str, value: Any) -> str:
    """Return TEXT with one entry changed; `path` has dots between keys."""
    data = json.loads(TEXT)
    *parents, last = path.split(".")
    parent = data
    for key in parents:
        parent = parent[int(key) if isinstance(parent, list) else key]
    parent[last] = value
    return json.dumps(data)


def test_json_and_object_are_the_same_manifest() -> None:
    assert MANIFEST.to_json() == TEXT
    assert Manifest.from_json(TEXT) == MANIFEST
    assert Manifest.from_json(TEXT).to_json() == TEXT
    assert TEXT.isascii()
    assert "\n" not in TEXT


def test_the_digest_depends_on_the_content_and_not_on_the_spacing() -> None:
    assert Manifest.from_json(TEXT).is_intact
    assert Manifest.from_json(json.dumps(json.loads(TEXT), indent=1)).is_intact
    assert not MANIFEST.is_intact, "this one was not read from JSON"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("labels.names", ["b", "a"]),
        ("preprocess.resize", 300),
        ("golden.tolerances", [1.0]),
        ("license", "none"),
        ("parity", None),
        ("content_sha256", "fe"),
        ("manifest_sha256", ""),
        ("manifest_sha256", "0" * 64),
    ],
)
def test_an_edited_manifest_opens_and_is_not_intact(path: str, value: Any) -> None:
    edited = Manifest.from_json(with_entry(path, value))
    assert not edited.is_intact
    assert Manifest.from_json(edited.to_json()).is_intact, "the digest is a checksum, no signature"


def test_without_a_digest_it_is_not_intact() -> None:
    data = json.loads(TEXT)
    del data["manifest_sha256"]
    assert not Manifest.from_json(json.dumps(data)).is_intact


@pytest.mark.parametrize(
    "path",
    [
        "golden",
        "parity",
        "windows",
        "preprocess_source",
        "labels_source",
        "preprocess.mean",
        "preprocess.std",
    ],
)
def test_a_manifest_that_leaves_out_a_field_is_refused(path: str) -> None:
    data = json.loads(TEXT)
    *parents, name = path.split(".")
    record = data
    for parent in parents:
        record = record[parent]
    del record[name]
    with pytest.raises(ArtifactError, match=f"has no field {name}"):
        Manifest.from_json(json.dumps(data))


@pytest.mark.parametrize("name", ["golden", "parity", "quantization"])
def test_optional_parts_may_be_null(name: str) -> None:
    assert getattr(Manifest.from_json(with_entry(name, None)), name) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "null",
        "3",
        '"x"',
        "{}",
        '{"format": 4}',
        "[" * 100_000,
        '{"format": 4, "labels": {}}',
        '{"format": true}',
        '{"format": "2"}',
    ],
)
def test_texts_that_are_not_manifests_are_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="damaged") as caught:
        Manifest.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_later_format_needs_an_upgrade() -> None:
    with pytest.raises(
        ArtifactError, match=r"has format version 5, .* reads only version 4: upgrade"
    ):
        Manifest.from_json(with_entry("format", 5))


def test_an_earlier_format_needs_a_new_export() -> None:
    with pytest.raises(
        ArtifactError, match=r"has format version 2, .* reads only version 4: export the file again"
    ):
        Manifest.from_json(with_entry("format", 2))


def test_a_large_manifest_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ArtifactError, match="larger than 64 MiB"):
        Manifest.from_json("[" * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("embedded_preprocessing", "partial"),
        ("embedded_preprocessing", []),
        ("precision", "int4"),
        ("labels.names", ["only one"]),
        ("labels.names", [1, 2]),
        ("labels.wnids", None),
        ("img_size", "224"),
        ("img_size", True),
        ("license", {"a": 1}),
        ("tools", ["torch"]),
        ("tools", {"torch": 2}),
        ("input", None),
        ("input.shape", 5),
        ("input.shape", [[1], 3]),
        ("input.more", 1),
        ("outputs", []),
        ("outputs", None),
        ("outputs.0.kind", "masks"),
        ("outputs.0.kind", "embedding"),
        ("outputs.0.stride", "4"),
        ("preprocess.size", [224]),
        ("preprocess.size", [224, -1]),
        ("preprocess.size", [224, 224.5]),
        ("preprocess.size", 10**12),
        ("preprocess.mean", ["a", "b", "c"]),
        ("preprocess.mean", [float("nan")] * 3),
        ("preprocess.size", 224.5),
        ("golden.outputs", [["a", 1], [1, 2]]),
        ("golden.outputs", 5),
        ("golden.patterns", ["0"]),
        ("golden.tolerances", [float("inf")]),
        ("golden.tolerances", [10**400]),
        ("golden", {"formula": "x"}),
        ("golden", 7),
        ("parity", [1]),
        ("quantization.float_units", "head.fc"),
        ("quantization.forced", 1),
        ("quantization.method", None),
        ("source", "demo"),
        ("unknown", 1),
        ("content_sha256", None),
        ("manifest_sha256", None),
        ("__class__", "x"),
    ],
)
def test_hostile_fields_are_refused(path: str, value: Any) -> None:
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json(with_entry(path, value))
    assert "\n" not in str(caught.value)


def test_more_labels_than_any_model_has_are_refused() -> None:
    names = ["a"] * 1_000_001
    with pytest.raises(ArtifactError, match="more than 1000000 labels"):
        Manifest.from_json(with_entry("labels", {"names": names, "wnids": names}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("patterns", [0] * 65, "more than 64 golden inputs"),
        ("patterns", [0] * 1_000_000, "more than 64 golden inputs"),
        ("outputs", [[0.0]] * 65, "more than 64 golden inputs"),
        ("outputs", [[0.0] * 1_000_000], "of more classes than labels"),
    ],
)
def test_many_golden_inputs_are_refused_at_once(field: str, value: object, message: str) -> None:
    data = json.loads(TEXT)
    data["golden"] = {**(data["golden"] or {}), field: value}
    with pytest.raises(ArtifactError, match=message):
        Manifest.from_json(json.dumps(data))


@pytest.mark.parametrize("field", ["tools", "parity", "input", "unknown"])
def test_long_lists_are_refused_at_once(field: str) -> None:
    data = json.loads(TEXT)
    data[field] = [0] * 100_000
    with pytest.raises(ArtifactError, match="more than 100000 entries"):
        Manifest.from_json(json.dumps(data))


def test_more_than_a_million_labels_are_refused_at_once() -> None:
    data = json.loads(TEXT)
    data["labels"]["names"] = ["a"] * 1_000_001
    with pytest.raises(ArtifactError, match="more than 1000000 labels"):
        Manifest.from_json(json.dumps(data))


FEATURES = tuple(
    OutputSpec(f"stage{i}", (1, 8, 64 >> i, 64 >> i), "float32", "NCHW", "features", 4 << i)
    for i in (0, 1)
)
FEATURE_MANIFEST = dataclasses.replace(
    MANIFEST,
    img_size=(256, 224),
    preprocess=Preprocess((256, 224), (269, 235)),
    outputs=FEATURES,
    labels=(),
    golden=GoldenVectors("triangle-chirp-1", (0,), 256, 224, ((0.5,) * 1024,), (1e-4, 1e-3)),
)


def test_a_manifest_of_feature_maps_and_of_a_size_that_is_not_square_is_read_back() -> None:
    read = Manifest.from_json(FEATURE_MANIFEST.to_json())
    assert read == FEATURE_MANIFEST
    assert read.output_kind == "features"
    assert (read.img_size, read.preprocess.resize) == ((256, 224), (269, 235))


def test_the_encoder_of_another_network_fits_into_the_format() -> None:
    """MobileSAM's encoder returns one feature map under the name that decoders expect."""
    output = OutputSpec("image_embeddings", (1, 256, 64, 64), "float32", "NCHW", "features", 16)
    manifest = dataclasses.replace(FEATURE_MANIFEST, outputs=(output,), golden=None)
    assert Manifest.from_json(manifest.to_json()).outputs == (output,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": MANIFEST.labels, "golden": None}, "labels without logits"),
        ({"outputs": (FEATURES[0], MANIFEST.outputs[0])}, "different kinds"),
        ({"outputs": FEATURES * 9}, "more than 16 outputs"),
        (
            {"outputs": (OutputSpec("e", (1, 8), "float32", "NC", "embedding"),) * 2},
            "several entries of the kind embedding",
        ),
        ({"outputs": (FEATURES[0], FEATURES[0])}, "several entries of the same name"),
        *(
            ({"outputs": (FEATURES[0], dataclasses.replace(FEATURES[1], **change))}, message)
            for change, message in (
                ({"dtype": "float16"}, "an impossible dtype or layout"),
                ({"layout": "CHWN"}, "an impossible dtype or layout"),
                ({"stride": None}, "without the stride of its kind"),
                ({"stride": 0}, "without the stride of its kind"),
            )
        ),
        (
            {"outputs": (OutputSpec("e", (1, 8), "float32", "NC", "embedding", 4),)},
            "without the stride of its kind",
        ),
        (
            {"golden": dataclasses.replace(FEATURE_MANIFEST.golden, outputs=((0.0,) * 65_537,))},
            "more than 65536 golden values",
        ),
    ],
)
def test_outputs_that_contradict_each_other_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    text = dataclasses.replace(FEATURE_MANIFEST, **changes).to_json()
    with pytest.raises(ArtifactError, match=message):
        Manifest.from_json(text)


def test_the_compilation_is_stored_only_if_there_is_one() -> None:
    assert "compilation" not in json.loads(MANIFEST.to_json())
    compilation = Compilation("sm8650", "sm8650", "QAIRT 2.51.0", "2 Gemm", 0.25)
    manifest = dataclasses.replace(MANIFEST, compilation=compilation)
    assert json.loads(manifest.to_json())["compilation"] == {
        "chip": "sm8650",
        "checked_chip": "sm8650",
        "compiler": "QAIRT 2.51.0",
        "cpu_operators": "2 Gemm",
        "cpu_mac_fraction": 0.25,
    }
    assert Manifest.from_json(manifest.to_json()) == manifest
