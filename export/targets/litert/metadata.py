"""TensorFlow Lite's own metadata: what its task library for mobile apps reads of a classifier, as a flatbuffer.

Schema: tensorflow/tflite-support, tensorflow_lite_support/metadata/metadata_schema.fbs, root type ModelMetadata. The slots below are
the fields' places in it. Written with the flatbuffers package alone, which ai-edge-litert brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyvit.manifest import Manifest
from tinyvit.runtimes.formats import trailer

BUFFER = "TFLITE_METADATA"
"""The name under which a .tflite file lists it."""

_IDENTIFIER = b"M001"
_RGB, _TENSOR_AXIS_LABELS = 1, 2
_IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = (
    2,
    1,
)  # places in the unions ContentProperties and ProcessUnitOptions
_PARSER = "1.0.0"
"""The oldest version of the schema that has all of these fields."""


def describe(manifest: Manifest) -> bytes:
    """The metadata of a file that takes one picture and gives logits.

    The normalization is of values of 0 to 255: the preprocessing's own where the caller normalizes, else none, mean 0 and std 1.
    """
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    given, made = _image(builder, manifest), _logits(builder)
    graph = _table(builder, 11, {2: _tables(builder, [given]), 3: _tables(builder, [made])})
    texts = {
        0: manifest.model,
        1: f"{manifest.variant}, {len(manifest.labels)} classes, {manifest.precision}",
        5: manifest.license,
    }
    fields = {slot: builder.CreateString(text) for slot, text in {**texts, 7: _PARSER}.items()}
    root = _table(builder, 8, {**fields, 3: _tables(builder, [graph])})
    builder.Finish(root, _IDENTIFIER)
    return bytes(builder.Output())


def _image(builder: Any, manifest: Manifest) -> int:
    """TensorMetadata of the input."""
    preprocess, normalizes = manifest.preprocess, manifest.stage == "host"
    mean = [255 * value for value in preprocess.mean] if normalizes else [0.0] * 3
    std = [255 * value for value in preprocess.std] if normalizes else [1.0] * 3
    options = _table(builder, 2, {0: _floats(builder, mean), 1: _floats(builder, std)})
    unit = _union(builder, 2, 0, _NORMALIZATION_OPTIONS, options)
    image = _table(builder, 2, {}, {0: _RGB})
    content = _union(builder, 3, 0, _IMAGE_PROPERTIES, image)
    lowest = [(0 - m) / s for m, s in zip(mean, std)]
    highest = [(255 - m) / s for m, s in zip(mean, std)]
    stats = _table(builder, 2, {0: _floats(builder, highest), 1: _floats(builder, lowest)})
    said = "RGB, " + ("normalized by the caller" if normalizes else "0 to 255")
    texts = {slot: builder.CreateString(text) for slot, text in {0: "image", 1: said}.items()}
    return _table(builder, 7, {**texts, 3: content, 4: _tables(builder, [unit]), 5: stats})


def _logits(builder: Any) -> int:
    """TensorMetadata of the output."""
    name, about = (
        builder.CreateString(trailer.LABELS),
        builder.CreateString("Names of the classes, in the order of the logits."),
    )
    file = _table(builder, 5, {0: name, 1: about}, {2: _TENSOR_AXIS_LABELS})
    texts = {
        slot: builder.CreateString(text)
        for slot, text in {
            0: "logits",
            1: "One a class; softmax makes probabilities of them.",
        }.items()
    }
    return _table(builder, 7, {**texts, 6: _tables(builder, [file])})


def _table(
    builder: Any, slots: int, offsets: dict[int, int], small: dict[int, int] | None = None
) -> int:
    """A table of `slots` fields: offsets to what was written before, and numbers of one byte."""
    builder.StartObject(slots)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, value in (small or {}).items():
        builder.PrependUint8Slot(slot, value, 0)
    return int(builder.EndObject())


def _union(builder: Any, slots: int, slot: int, kind: int, offset: int) -> int:
    """A table whose field at `slot` is a union: which kind, and in the slot after it the table itself."""
    return _table(builder, slots, {slot + 1: offset}, {slot: kind})


def _tables(builder: Any, offsets: Sequence[int]) -> int:
    """A vector of what was written before."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: Any, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
