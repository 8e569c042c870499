"""The manifest survives the way to JSON and back; damaged and hostile ones are refused with one line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.labels import Label
from tinyvit.manifest import GoldenVectors, Manifest, Parity, SourceCheckpoint, TensorSpec
from tinyvit.preprocess import timm_preprocess

FULL = Manifest(
    model="demo",
    variant="tiny_vit_5m_224",
    img_size=224,
    target="onnx",
    precision="float32",
    stage="host",
    input=TensorSpec("image", ("batch", 3, 224, 224), "float32", "NCHW"),
    output=TensorSpec("logits", ("batch", 2), "float32", "NC"),
    preprocess=timm_preprocess(224),
    labels=(Label("a señor", "n00000001"), Label("b\n\u2028", "")),
    source=SourceCheckpoint("demo", "00"),
    license="mit",
    tools={"torch": "2.9"},
    golden=GoldenVectors("triangle-chirp-1", (0, 1), 224, 224, ((1.5, -2.0), (0.25, 3.0)), 1e-4),
    parity=Parity(1e-6, "torch", "onnxruntime"),
    content_sha256="ff",
)


def test_roundtrip() -> None:
    text = FULL.to_json()
    assert Manifest.from_json(text) == FULL
    assert Manifest.from_json(text).to_json() == text
    assert text.isascii()
    assert "\n" not in text


def test_the_digest_is_of_what_is_said_not_of_how() -> None:
    text = FULL.to_json()
    assert Manifest.from_json(text).intact
    assert Manifest.from_json(json.dumps(json.loads(text), indent=1)).intact
    assert not FULL.intact, "nothing was read"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("labels.names", ["b", "a"]),
        ("preprocess.resize", 300),
        ("golden.tolerance", 1.0),
        ("license", "none"),
        ("parity", None),
        ("content_sha256", "fe"),
        ("sha256", ""),
        ("sha256", "0" * 64),
    ],
)
def test_an_edited_manifest_opens_and_is_not_intact(path: str, value: Any) -> None:
    edited = Manifest.from_json(changed(path, value))
    assert not edited.intact
    assert Manifest.from_json(edited.to_json()).intact, (
        "written anew it is: a checksum, no signature"
    )


def test_without_a_digest_it_is_not_intact() -> None:
    data = json.loads(FULL.to_json())
    del data["sha256"]
    assert not Manifest.from_json(json.dumps(data)).intact


def test_golden_and_parity_may_be_absent() -> None:
    data = {**json.loads(FULL.to_json()), "golden": None, "parity": None}
    assert Manifest.from_json(json.dumps(data)).golden is None


def changed(path: str, value: Any) -> str:
    data = json.loads(FULL.to_json())
    *above, last = path.split(".")
    place = data
    for key in above:
        place = place[key]
    place[last] = value
    return json.dumps(data)


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
        '{"format": 1}',
        "[" * 100_000,
        '{"format": 1, "labels": {}}',
    ],
)
def test_what_is_no_manifest(text: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_later_format_says_upgrade() -> None:
    with pytest.raises(ArtifactError, match="upgrade"):
        Manifest.from_json(changed("format", 2))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stage", "partial"),
        ("stage", []),
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
        ("preprocess.size", 10**12),
        ("preprocess.mean", ["a", "b", "c"]),
        ("preprocess.mean", [float("nan")] * 3),
        ("preprocess.size", 224.5),
        ("golden.logits", [["a", 1], [1, 2]]),
        ("golden.logits", 5),
        ("golden.patterns", ["0"]),
        ("golden.tolerance", float("inf")),
        ("golden", {"formula": "x"}),
        ("golden", 7),
        ("parity", [1]),
        ("source", "demo"),
        ("unknown", 1),
        ("content_sha256", None),
        ("sha256", None),
        ("__class__", "x"),
    ],
)
def test_hostile_fields(path: str, value: Any) -> None:
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json(changed(path, value))
    assert "\n" not in str(caught.value)
