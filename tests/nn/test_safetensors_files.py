"""Files in safetensors format are read exactly, and refused if they are damaged or shrink."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import torch
from safetensors.torch import save_file

from tinyvit.errors import CheckpointError
from tinyvit.nn.safetensors_files import read_safetensors

_TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


def write(path: Path, header: object, data: bytes = bytes(8)) -> Path:
    content = json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


def describe(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


def test_every_type_is_read_exactly(tmp_path: Path) -> None:
    values = torch.arange(-6, 6).reshape(2, 2, 3)
    tensors = {name: values.to(getattr(torch, name)) for name in _TYPES}
    tensors |= {"bool": values > 0, "float8": values.to(torch.float8_e5m2)}
    tensors |= {"empty": torch.zeros(2, 0), "scalar": torch.tensor(1.5)}
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, {"labels": '["a"]', "text": "b"})
    content, metadata = read_safetensors(path)
    assert metadata == {"labels": ["a"], "text": "b"}
    assert content.root.keys() == tensors.keys()
    for name, tensor in tensors.items():
        loaded = content.root[name].load()
        assert (loaded.dtype, loaded.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(loaded.double(), tensor.double())


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", describe())
    tensor = read_safetensors(path)[0].root["a"]
    assert tensor.load().tolist() == [0.0, 0.0]
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ValueError, match="has become shorter"):
        tensor.load()


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ([], "not an object"),
        ({}, "0 bytes, but 8 follow"),
        ({"a": 5}, "not subscriptable"),
        ({"a": {}}, "data_offsets"),
        ({"__metadata__": {"b": 1}, **describe()}, "metadata are not texts"),
        ({"__metadata__": [], **describe(data_offsets=[0, 4])}, "4 bytes, but 8"),
        (describe(data_offsets=[4, 8]), "do not follow each other"),
        (describe(data_offsets=[8, 0]), "offsets .* not possible"),
        (describe(data_offsets=[0.0, 8]), "offsets .* not possible"),
        (describe(data_offsets=[0, 2**70]), "but 8 follow"),
        (describe(shape=[3]), "another size"),
        (describe(shape=[-2]), "shape .* not possible"),
        (describe(shape=[1] * 9), "shape .* not possible"),
        (describe(shape="2"), "shape .* not possible"),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, header: object, reason: str) -> None:
    with pytest.raises(CheckpointError, match=f"damaged or truncated.*{reason}"):
        read_safetensors(write(tmp_path / "a.safetensors", header))


def test_an_unknown_type_is_named(tmp_path: Path) -> None:
    content, _ = read_safetensors(write(tmp_path / "a.safetensors", describe(dtype="F4")))
    assert content.root["a"].problem == "has elements of the type F4"
