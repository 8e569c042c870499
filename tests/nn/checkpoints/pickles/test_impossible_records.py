"""Records that no program writes are refused before they reach NumPy, torch or other memory."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
import numpy as np
import torch

from tests.helpers.state_dicts import Save, make_state, refusal
from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.metadata.plain_values import PlainConverter
from tinyvit.nn.checkpoints.pickles.machine import read_pickle
from tinyvit.nn.checkpoints.pickles.numpy_records import read_array, read_dtype
from tinyvit.nn.checkpoints.pickles.records import (
    PickledName,
    PickledObject,
    PickleRecordError,
    StoredStorage,
)
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import make_stored_tensor
from tinyvit.nn.checkpoints.tensor_files.strided_copy import copy_strided
from tinyvit.nn.checkpoints.weight_files import read_weights

_STORAGE = StoredStorage("torch.FloatStorage", "0")


def make_tensor(shape: tuple[int, ...], strides: tuple[int, ...]) -> PickledObject:
    return PickledObject("torch._utils._rebuild_tensor_v2", (_STORAGE, 0, shape, strides))


def make_array(code: str, shape: tuple[int, ...], data: bytes) -> PickledObject:
    dtype = PickledObject("numpy.dtype", (code, False, True), state=(3, "<"))
    return PickledObject("numpy.core.multiarray._reconstruct", state=(1, shape, dtype, False, data))


def read_four_zeros(key: str) -> bytes:
    return bytes(16)


@pytest.mark.parametrize("offset", [b"I-1\n", b"I-1099511627776\n", b"N", b"G" + bytes(8), b"]"])
def test_a_view_of_a_storage_begins_inside_the_storage(offset: bytes) -> None:
    start = b"\x80\x02(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuI4\n(U\x010"
    with pytest.raises(PickleRecordError, match="impossible offset"):
        read_pickle(io.BytesIO(start + offset + b"I4\nttQ."))
    content = read_pickle(io.BytesIO(start + b"I2\nI4\nttQ."))
    assert content.root == StoredStorage("torch.FloatStorage", "0", 2)


def test_no_memory_before_a_storage_is_read() -> None:
    content = bytes(range(16))
    copied = copy_strided(content, 1, ((3,), (1,)), torch.int32)
    assert copied.tolist() == [0x07060504, 0x0B0A0908, 0x0F0E0D0C]
    for start, geometry in ((-1, ((4,), (1,))), (3, ((4,), (-1,)))):
        with pytest.raises(ValueError, match="begins before"):
            copy_strided(content, start, geometry, torch.int32)


@pytest.mark.parametrize("shape", [(10**9, 0), (3, 10**9, 0), (0, 2**39, 2**39)])
def test_empty_tensors_and_arrays_do_not_become_long_lists(shape: tuple[int, ...]) -> None:
    converter = PlainConverter(read_four_zeros)
    assert converter.convert(make_tensor(shape, (1,) * len(shape))) == []
    assert not converter.convert(make_array("f4", shape, b""))
    assert not converter.convert(make_array("U4", shape, b""))


def test_sizes_of_an_empty_tensor_do_not_overflow() -> None:
    tensor = make_stored_tensor(make_tensor((0, 2**39, 2**39), (1, 1, 1)), read_four_zeros)
    assert tensor is not None
    with pytest.raises(ValueError, match="impossible shape"):
        tensor.load()


@pytest.mark.parametrize(
    "code",
    ["f4,(1+)f4", "f4,f4", "i4," * 1000, "f4,(" + "(" * 500, "f", "f4\0", "U9999999999", "float32"],
)
def test_codes_of_several_types_are_not_parsed(code: str) -> None:
    assert read_dtype(PickledObject("numpy.dtype", (code, False, True))) is None
    assert read_array(make_array(code, (1,), bytes(8))) is None


def test_the_usual_codes_are_known() -> None:
    for code, name in (("f4", "float32"), ("i8", "int64"), ("b1", "bool"), ("?", "bool")):
        dtype: Any = read_dtype(PickledObject("numpy.dtype", (code, False, True)))
        assert dtype.name == name
    assert str(read_dtype(PickledObject("numpy.dtype", ("U12", False, True)))) == "<U12"


def test_the_type_of_a_tensor_imports_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> Any:
        raise AssertionError(f"torch would import {name}")

    monkeypatch.setattr(torch, "__getattr__", import_module)
    arguments = (_STORAGE, 0, (1,), (1,), False, {}, PickledName("torch.no_such_module"))
    with pytest.raises(ValueError, match="the unknown type no_such_module"):
        make_stored_tensor(
            PickledObject("torch._utils._rebuild_tensor_v3", arguments), read_four_zeros
        )


@pytest.mark.parametrize("value", [5, [1.0], np.array([None] * 7), np.array(["a"] * 7)])
def test_a_bias_that_is_no_tensor_is_not_left_out(save: Save, value: Any) -> None:
    path = save({**make_state(), "head.fc.bias": value})
    assert "head.fc.bias" in refusal(path)
    assert "is not a tensor" in refusal(path)


def test_many_operations_before_the_content_of_an_old_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    path.write_bytes(
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02N" + b"2" * 1001 + b"."
    )
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        read_weights(path)
