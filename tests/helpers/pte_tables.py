"""Small .pte files and parts for XNNPACK, written table by table, so that they can be damaged.

The numbers of the fields are those of ExecuTorch's program.fbs and of XNNPACK's schema.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import flatbuffers

GELU = 42
"""Number of the kind of a node that computes GELU, in XNodeUnion."""

_HEADER_BYTES = 32
_DELEGATE_CALL, _KERNEL_CALL = 2, 1


def _add_tables(builder: flatbuffers.Builder, tables: Sequence[int]) -> int:
    """Add a vector of tables, and return its position."""
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


def _add_table(builder: flatbuffers.Builder, offsets: dict[int, int]) -> int:
    """Add a table whose fields are tables, strings or vectors."""
    builder.StartObject(max(offsets, default=0) + 1)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    return int(builder.EndObject())


def _add_union(builder: flatbuffers.Builder, kind: int, table: int) -> int:
    """Add a table whose fields are a union: the kind of a table, and the table."""
    builder.StartObject(2)
    builder.PrependUint8Slot(0, kind, 0)
    builder.PrependUOffsetTRelativeSlot(1, table, 0)
    return int(builder.EndObject())


def make_xnnpack_part(
    sizes: Sequence[int] = (1, 4),
    kind: int = GELU,
    node_count: int = 1,
    value_count: int = 1,
    input_id: int = 0,
) -> bytes:
    """Make a part with one float32 value, which nodes read and write.

    Args:
        sizes: Sizes of the value.
        kind: Kind of the nodes, with one input.
        node_count: Number of nodes; all are the same table.
        value_count: Number of values; all are the same table.
        input_id: Id of the value that the nodes read; the id of the value is 0.
    """
    builder = flatbuffers.Builder()
    builder.StartVector(4, len(sizes), 4)
    for size in reversed(sizes):
        builder.PrependUint32(size)
    dims = builder.EndVector()
    builder.StartObject(7)
    builder.PrependInt16Slot(0, 1, 0)
    builder.PrependUOffsetTRelativeSlot(2, dims, 0)
    value = _add_union(builder, 1, builder.EndObject())
    builder.StartObject(3)
    builder.PrependUint32Slot(0, input_id, 0)
    node = _add_union(builder, kind, builder.EndObject())
    nodes = _add_tables(builder, [node] * node_count)
    values = _add_tables(builder, [value] * value_count)
    builder.Finish(_add_table(builder, {1: nodes, 2: values}), b"XN01")
    return bytes(builder.Output())


def make_pte(
    part: bytes,
    delegate: str = "XnnpackBackend",
    call_count: int = 1,
    kernel: str = "",
    call_index: int = 0,
    part_index: int = 0,
) -> bytes:
    """Make a .pte file with one method, which calls a delegate, and then perhaps an operator.

    Args:
        part: What the delegate runs; it is stored in the flatbuffer.
        delegate: Name of the delegate.
        call_count: Number of calls; all are the same table.
        kernel: Name of the operator, without arguments; "" for none.
        call_index: Index of the delegate that is called; there is one.
        part_index: Index of the part that the delegate runs; there is one.
    """
    builder = flatbuffers.Builder()
    inline = _add_table(builder, {0: builder.CreateByteVector(part)})
    builder.StartObject(2)
    builder.PrependUint32Slot(1, part_index, 0)
    reference = builder.EndObject()
    backend = _add_table(builder, {0: builder.CreateString(delegate), 1: reference})
    operator = _add_table(builder, {0: builder.CreateString(kernel)})
    builder.StartObject(2)
    builder.PrependInt32Slot(0, call_index, 0)
    call = _add_union(builder, _DELEGATE_CALL, builder.EndObject())
    kernel_call = _add_union(builder, _KERNEL_CALL, _add_table(builder, {}))
    calls = [call] * call_count + ([kernel_call] if kernel else [])
    chain = _add_table(builder, {2: _add_tables(builder, calls)})
    plan = _add_table(
        builder,
        {
            0: builder.CreateString("forward"),
            5: _add_tables(builder, [chain]),
            6: _add_tables(builder, [operator]),
            7: _add_tables(builder, [backend]),
        },
    )
    plans, parts = _add_tables(builder, [plan]), _add_tables(builder, [inline])
    builder.Finish(_add_table(builder, {1: plans, 3: parts}), b"ET12")
    return _insert_header(bytes(builder.Output()))


def _insert_header(program: bytes) -> bytes:
    """Insert ExecuTorch's extended header after the identifier of a program without segments."""
    (root,) = struct.unpack_from("<I", program)
    end = len(program) + _HEADER_BYTES
    header = struct.pack("<4sIQQQ", b"eh00", _HEADER_BYTES, end, 0, 0)
    return struct.pack("<I", root + _HEADER_BYTES) + program[4:8] + header + program[8:]
