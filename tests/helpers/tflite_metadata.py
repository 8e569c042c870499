"""A reader of TensorFlow Lite's metadata that is independent of the package's writer.

The metadata are a flatbuffer. The field numbers (slots) below are those of TensorFlow Lite's
metadata_schema.fbs.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import flatbuffers.table
from ai_edge_litert import schema_py_generated as schema


def read_tflite_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a .tflite file.

    Args:
        path: The file.

    Returns:
        A dictionary with these keys. "names": names of the model, its input and its output.
        "mean" and "std": the normalization of the input. "file": name and type of the file that is
        associated with the output.
    """
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (entry,) = (entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    data = bytes(model.buffers[entry.buffer].data)
    assert data[4:8] == b"M001"
    root = _make_table(data, struct.unpack_from("<I", data)[0])
    graph = _read_only_element(root, 3)
    image, logits = _read_only_element(graph, 2), _read_only_element(graph, 3)
    content, process_unit = _read_table(image, 3), _read_only_element(image, 4)
    assert _read_byte(content, 0) == 2, "the content is ImageProperties"
    assert _read_byte(_read_table(content, 1), 0) == 1, "the color space is RGB"
    assert _read_byte(process_unit, 0) == 1, "the process unit is NormalizationOptions"
    normalization = _read_table(process_unit, 1)
    labels_file = _read_only_element(logits, 6)
    return {
        "names": (_read_text(root, 0), _read_text(image, 0), _read_text(logits, 0)),
        "mean": _read_floats(normalization, 0),
        "std": _read_floats(normalization, 1),
        "file": (_read_text(labels_file, 0), _read_byte(labels_file, 2)),
    }


def _make_table(data: bytes, position: int) -> Any:
    """Make a reader of the table that begins at `position`."""
    return flatbuffers.table.Table(data, position)


def _find_field(table: Any, slot: int) -> int:
    """Return the position of a field relative to its table; 0 if the table omits the field."""
    # The offsets of fields, 2 bytes each, follow a header of 4 bytes.
    return int(table.Offset(4 + 2 * slot))


def _read_table(table: Any, slot: int) -> Any:
    return _make_table(table.Bytes, table.Indirect(table.Pos + _find_field(table, slot)))


def _read_text(table: Any, slot: int) -> str:
    return str(table.String(table.Pos + _find_field(table, slot)).decode())


def _read_only_element(table: Any, slot: int) -> Any:
    """Return the table in a vector that contains exactly one table."""
    offset = _find_field(table, slot)
    assert table.VectorLen(offset) == 1
    return _make_table(table.Bytes, table.Indirect(table.Vector(offset)))


def _read_floats(table: Any, slot: int) -> tuple[float, ...]:
    offset = _find_field(table, slot)
    count = table.VectorLen(offset)
    return struct.unpack_from(f"<{count}f", table.Bytes, table.Vector(offset))


def _read_byte(table: Any, slot: int) -> int:
    return int(table.Bytes[table.Pos + _find_field(table, slot)])
