"""Makes TensorFlow Lite's own metadata, which its task library for mobile applications reads.

The metadata is a flatbuffer with the schema of tensorflow/tflite-support,
`tensorflow_lite_support/metadata/metadata_schema.fbs`, root type ModelMetadata. Slot numbers below
are positions of fields in that schema. The metadata is written with the flatbuffers package alone,
which ai-edge-litert installs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyvit.manifest import Manifest
from tinyvit.runtimes.formats import trailer

METADATA_NAME = "TFLITE_METADATA"
"""Name of the metadata in a .tflite file."""

_FILE_IDENTIFIER = b"M001"
_COLOR_SPACE_RGB = 1
_FILE_TYPE_TENSOR_AXIS_LABELS = 2
_CONTENT_IMAGE_PROPERTIES = 2
"""Position in the union ContentProperties."""

_PROCESS_UNIT_NORMALIZATION = 1
"""Position in the union ProcessUnitOptions."""

_MIN_PARSER_VERSION = "1.0.0"
"""The oldest version of the schema that has all of the fields used here."""


def make_metadata(manifest: Manifest) -> bytes:
    """Describe a model that takes an image and returns logits.

    The metadata contains the normalization of levels from 0 to 255: that of the preprocessing if
    the caller normalizes (embedded preprocessing "host"), otherwise a mean of 0 and a std of 1.

    Args:
        manifest: The manifest of the artifact.

    Returns:
        A serialized ModelMetadata.
    """
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    image, logits = _write_image(builder, manifest), _write_logits(builder)
    inputs, outputs = _write_vector(builder, [image]), _write_vector(builder, [logits])
    graph = _write_table(builder, 11, {2: inputs, 3: outputs})
    summary = f"{manifest.variant}, {len(manifest.labels)} classes, {manifest.precision}"
    texts = {0: manifest.model, 1: summary, 5: manifest.license, 7: _MIN_PARSER_VERSION}
    fields = _write_texts(builder, texts)
    root = _write_table(builder, 8, {**fields, 3: _write_vector(builder, [graph])})
    builder.Finish(root, _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _write_image(builder: Any, manifest: Manifest) -> int:
    """Write the TensorMetadata of the input."""
    preprocess, caller_normalizes = manifest.preprocess, manifest.embedded_preprocessing == "host"
    mean = [255 * value for value in preprocess.mean] if caller_normalizes else [0.0] * 3
    std = [255 * value for value in preprocess.std] if caller_normalizes else [1.0] * 3
    means, stds = _write_floats(builder, mean), _write_floats(builder, std)
    options = _write_table(builder, 2, {0: means, 1: stds})
    process_unit = _write_union(builder, 2, 0, _PROCESS_UNIT_NORMALIZATION, options)
    properties = _write_table(builder, 2, {}, {0: _COLOR_SPACE_RGB})
    content = _write_union(builder, 3, 0, _CONTENT_IMAGE_PROPERTIES, properties)
    lowest = [(0 - m) / s for m, s in zip(mean, std)]
    highest = [(255 - m) / s for m, s in zip(mean, std)]
    maxima, minima = _write_floats(builder, highest), _write_floats(builder, lowest)
    stats = _write_table(builder, 2, {0: maxima, 1: minima})
    description = "RGB, " + ("normalized by the caller" if caller_normalizes else "0 to 255")
    texts = _write_texts(builder, {0: "image", 1: description})
    process_units = _write_vector(builder, [process_unit])
    return _write_table(builder, 7, {**texts, 3: content, 4: process_units, 5: stats})


def _write_logits(builder: Any) -> int:
    """Write the TensorMetadata of the output."""
    about_labels = "Names of the classes, in the order of the logits."
    file_texts = _write_texts(builder, {0: trailer.LABELS, 1: about_labels})
    labels = _write_table(builder, 5, file_texts, {2: _FILE_TYPE_TENSOR_AXIS_LABELS})
    about_logits = "One value per class; softmax turns them into probabilities."
    texts = _write_texts(builder, {0: "logits", 1: about_logits})
    return _write_table(builder, 7, {**texts, 6: _write_vector(builder, [labels])})


def _write_texts(builder: Any, texts: Mapping[int, str]) -> dict[int, int]:
    """Write one string per slot, and return slot -> offset."""
    return {slot: builder.CreateString(text) for slot, text in texts.items()}


def _write_table(
    builder: Any,
    slot_count: int,
    offsets: Mapping[int, int],
    byte_values: Mapping[int, int] | None = None,
) -> int:
    """Write a table.

    Args:
        builder: The flatbuffer to write to.
        slot_count: Number of fields of the table, used and unused.
        offsets: Slot -> offset of a value that was written before.
        byte_values: Slot -> value of a one-byte field.

    Returns:
        The table's offset.
    """
    builder.StartObject(slot_count)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, value in (byte_values or {}).items():
        builder.PrependUint8Slot(slot, value, 0)
    return int(builder.EndObject())


def _write_union(builder: Any, slot_count: int, slot: int, kind: int, offset: int) -> int:
    """Write a table with a union: its kind at `slot`, and the table itself in the slot after it."""
    return _write_table(builder, slot_count, {slot + 1: offset}, {slot: kind})


def _write_vector(builder: Any, offsets: Sequence[int]) -> int:
    """Write a vector of tables that were written before."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _write_floats(builder: Any, values: Sequence[float]) -> int:
    """Write a vector of float32."""
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
