"""Makes TensorFlow Lite's own metadata, which its task library for mobile applications reads.

The metadata is a flatbuffer (binary tables) with the schema of tensorflow/tflite-support,
`tensorflow_lite_support/metadata/metadata_schema.fbs`, root type ModelMetadata. A slot is the
position of a field in its table of that schema, and an offset is the position of a value that was
written before. The metadata is written with the flatbuffers package alone, which ai-edge-litert
installs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import OutputSpec
from tinyvit.runtimes.formats import trailer

METADATA_NAME = "TFLITE_METADATA"
"""Name of the metadata in a .tflite file."""

_FILE_IDENTIFIER = b"M001"
_COLOR_SPACE_RGB = 1
"""Value of the enumeration ColorSpaceType."""

_FILE_TYPE_TENSOR_AXIS_LABELS = 2
"""Value of the enumeration AssociatedFileType."""

_CONTENT_IMAGE_PROPERTIES = 2
"""Number of the kind ImageProperties in the union ContentProperties."""

_PROCESS_UNIT_NORMALIZATION = 1
"""Number of the kind NormalizationOptions in the union ProcessUnitOptions."""

_INITIAL_SIZE = 1024
"""Number of bytes that the builder of the flatbuffer starts with; it grows as needed."""

_SLOT_COUNTS = {
    "ModelMetadata": 8,
    "SubGraphMetadata": 11,
    "TensorMetadata": 7,
    "AssociatedFile": 5,
    "Content": 3,
    "ImageProperties": 2,
    "ProcessUnit": 2,
    "NormalizationOptions": 2,
    "Stats": 2,
}
"""Table of the schema -> number of slots with which the table is created here.

Each table below is written as slot -> value, and a comment names the fields in these slots.
"""

_MIN_PARSER_VERSION = "1.0.0"
"""The oldest version of the schema that has all of the fields used here."""


def make_metadata(manifest: Manifest) -> bytes:
    """Describe a model that takes an image.

    The metadata states how the caller must normalize levels from 0 to 255. If the model itself
    normalizes (embedded preprocessing "normalize"), that is a mean of 0 and a std of 1.

    Args:
        manifest: The manifest of the artifact.

    Returns:
        A serialized ModelMetadata.
    """
    import flatbuffers

    builder = flatbuffers.Builder(_INITIAL_SIZE)
    image = _write_image(builder, manifest)
    tensors = [_write_output(builder, spec) for spec in manifest.outputs]
    inputs, outputs = _write_vector(builder, [image]), _write_vector(builder, tensors)
    # input_tensor_metadata, output_tensor_metadata
    graph = _write_table(builder, _SLOT_COUNTS["SubGraphMetadata"], {2: inputs, 3: outputs})
    output = f"{len(manifest.labels)} classes" if manifest.labels else manifest.output_kind
    summary = f"{manifest.variant}, {output}, {manifest.precision}"
    # name, description, license, min_parser_version
    texts = {0: manifest.model, 1: summary, 5: manifest.license, 7: _MIN_PARSER_VERSION}
    fields = _write_texts(builder, texts)
    subgraphs = _write_vector(builder, [graph])
    # subgraph_metadata
    root = _write_table(builder, _SLOT_COUNTS["ModelMetadata"], {**fields, 3: subgraphs})
    builder.Finish(root, _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _write_image(builder: Any, manifest: Manifest) -> int:
    """Write the TensorMetadata of the input, and return its offset."""
    preprocess, caller_normalizes = manifest.preprocess, manifest.embedded_preprocessing == "host"
    mean, std = [0.0] * 3, [1.0] * 3
    if caller_normalizes:
        mean = [255 * value for value in preprocess.mean]
        std = [255 * value for value in preprocess.std]
    means, stds = _write_floats(builder, mean), _write_floats(builder, std)
    # mean, std
    options = _write_table(builder, _SLOT_COUNTS["NormalizationOptions"], {0: means, 1: stds})
    process_unit = _write_union(
        builder,
        _SLOT_COUNTS["ProcessUnit"],
        slot=0,
        kind=_PROCESS_UNIT_NORMALIZATION,
        offset=options,
    )
    color_space = {0: _COLOR_SPACE_RGB}  # This is a one-byte field.
    properties = _write_table(
        builder, _SLOT_COUNTS["ImageProperties"], offsets={}, byte_values=color_space
    )
    content = _write_union(
        builder,
        _SLOT_COUNTS["Content"],
        slot=0,
        kind=_CONTENT_IMAGE_PROPERTIES,
        offset=properties,
    )
    lowest = [(0 - m) / s for m, s in zip(mean, std)]
    highest = [(255 - m) / s for m, s in zip(mean, std)]
    maxima, minima = _write_floats(builder, highest), _write_floats(builder, lowest)
    # max, min
    stats = _write_table(builder, _SLOT_COUNTS["Stats"], {0: maxima, 1: minima})
    description = "RGB, " + ("normalized by the caller" if caller_normalizes else "0 to 255")
    texts = _write_texts(builder, {0: "image", 1: description})  # name, description
    process_units = _write_vector(builder, [process_unit])
    fields = {**texts, 3: content, 4: process_units, 5: stats}  # content, process_units, stats
    return _write_table(builder, _SLOT_COUNTS["TensorMetadata"], fields)


def _write_output(builder: Any, spec: OutputSpec) -> int:
    """Write the TensorMetadata of an output, and return its offset."""
    if spec.kind == "logits":
        return _write_logits(builder)
    description = "One vector for each image."
    if spec.kind == "features":
        description = f"A feature map, {spec.layout}, for {spec.stride} pixels in each direction."
    texts = _write_texts(builder, {0: spec.name, 1: description})  # name, description
    return _write_table(builder, _SLOT_COUNTS["TensorMetadata"], texts)


def _write_logits(builder: Any) -> int:
    """Write the TensorMetadata of the logits, and return its offset."""
    about_labels = "Names of the classes, in the order of the logits."
    # name, description
    file_texts = _write_texts(builder, {0: trailer.LABELS_FILE, 1: about_labels})
    # type, which is a one-byte field
    labels = _write_table(
        builder, _SLOT_COUNTS["AssociatedFile"], file_texts, {2: _FILE_TYPE_TENSOR_AXIS_LABELS}
    )
    about_logits = "One value per class; softmax turns them into probabilities."
    texts = _write_texts(builder, {0: "logits", 1: about_logits})  # name, description
    files = _write_vector(builder, [labels])
    # associated_files
    return _write_table(builder, _SLOT_COUNTS["TensorMetadata"], {**texts, 6: files})


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
        slot_count: Number of slots to create, used and unused.
        offsets: Slot -> offset of a value that was written before.
        byte_values: Slot -> value of a one-byte field.

    Returns:
        The table's offset.
    """
    default = 0  # A field that equals the schema's default is left out of the table.
    builder.StartObject(slot_count)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, default)
    for slot, value in (byte_values or {}).items():
        builder.PrependUint8Slot(slot, value, default)
    return int(builder.EndObject())


def _write_union(builder: Any, slot_count: int, slot: int, kind: int, offset: int) -> int:
    """Write a table with a union field (a value of one of several kinds), and return its offset.

    The kind is in the slot `slot`, and the offset of the value in the slot after it.
    """
    return _write_table(builder, slot_count, {slot + 1: offset}, {slot: kind})


def _write_vector(builder: Any, offsets: Sequence[int]) -> int:
    """Write a vector of tables that were written before, and return its offset."""
    builder.StartVector(elemSize=4, numElems=len(offsets), alignment=4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _write_floats(builder: Any, values: Sequence[float]) -> int:
    """Write a vector of float32, and return its offset."""
    builder.StartVector(elemSize=4, numElems=len(values), alignment=4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
