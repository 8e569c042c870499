"""Checkpoints that are small and state a lot: repetition, depth, and reading again and again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.state_dicts import make_state, refusal
from tests.hostile.torch_records import (
    Call,
    Name,
    Storage,
    make_tensor,
    write_archive,
    write_old_format,
    write_pickle,
)
from tinyvit.nn.checkpoints.metadata.metadata_search import walk_dicts
from tinyvit.nn.checkpoints.metadata.settings_files import expand_settings_texts
from tinyvit.nn.checkpoints.metadata.settings_text import parse_settings_text
from tinyvit.nn.checkpoints.tensor_files import tensor_collection, torch_files
from tinyvit.nn.checkpoints.weight_files import read_weights

Save = Callable[..., Path]
CONVOLUTION = "patch_embed.conv1.conv.weight"
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


def write(folder: Path, content: Any, **storages: bytes) -> Path:
    (folder / "a.pth").write_bytes(write_archive(write_pickle(content), storages))
    return folder / "a.pth"


def make_number(key: str = "s") -> Call:
    return make_tensor(Storage(torch.FloatStorage, key), 0, (1,), (1,))


def make_module(tensors: dict[Any, Any], children: dict[Any, Any]) -> Call:
    state = {"_parameters": tensors, "_buffers": {}, "_modules": children}
    return Call(Name("torch.nn", "Linear"), state=state)


def test_thousands_of_parameters_inside_each_other_are_refused(tmp_path: Path) -> None:
    parameter = b"ctorch._utils\n_rebuild_parameter\n"
    chain = parameter * 50_000 + b")" + b"\x85R" * 50_000
    pickled = b"\x80\x04}X\x01\0\0\0a" + chain + b"s."
    (tmp_path / "a.pth").write_bytes(write_archive(pickled, {}))
    assert "is a damaged or truncated torch file" in refusal(tmp_path / "a.pth")


def test_more_than_64_networks_are_refused(tmp_path: Path) -> None:
    number = make_number()
    path = write(tmp_path, {f"n{index}.{CONVOLUTION}": number for index in range(65)})
    assert f"{path} contains 65 TinyViTs, more than 64" in refusal(path)


def test_keys_that_are_objects_are_not_written_as_text(tmp_path: Path) -> None:
    """The text of the key would have 2^60 characters."""
    value: Any = "a"
    for _ in range(60):
        value = (value, value)
    key = Call(Name("module", "Class"), value)
    assert "(top level: PickledObject)" in refusal(write(tmp_path, {key: 1}))
    module = make_module({key: make_number()}, {key: make_module({}, {})})
    assert "(top level: a, PickledObject)" in refusal(write(tmp_path, {"a": module, key: module}))


def test_modules_inside_each_other_cannot_make_long_names(tmp_path: Path) -> None:
    """All names together would have 900 MB."""
    number = make_number()
    module = make_module({}, {})
    for _ in range(600):
        module = make_module({f"p{index}": number for index in range(30)}, {"m" * 160: module})
    path = write(tmp_path, {"model": make_records(), "module": module}, s=bytes(4), w=bytes(4096))
    weights = read_weights(path)
    assert weights.tensors.keys() == make_state().keys()
    # 7 modules of 30 tensors have names of up to 1000 characters.
    assert weights.ignored[0].startswith("210 tensors of other modules")


def make_records() -> dict[str, Call]:
    """Return the records of `make_state`, whose tensors share a storage of zeros."""
    storage = Storage(torch.FloatStorage, "w", 1024)
    return {
        name: make_tensor(storage, 0, tuple(value.shape), value.stride())
        for name, value in make_state().items()
    }


def test_settings_that_contain_each_other_are_counted(tmp_path: Path) -> None:
    value: Any = ["a"] * 10
    for _ in range(4):
        value = [value] * 12
    settings = {f"setting {index}": value for index in range(20)}
    path = write(tmp_path, {"model": make_records(), **settings}, w=bytes(4096))
    # Each has 1 + 12 + 144 + 1,728 + 20,736 + 207,360 entries, and 3 million are converted.
    assert list(read_weights(path).metadata) == [f"setting {index}" for index in range(13)]


def test_one_dict_under_many_keys_is_searched_once(tmp_path: Path) -> None:
    number = make_number()
    tensors = {f"tensor {index}": number for index in range(1000)}
    content = {"model": make_records(), **{f"key {index}": tensors for index in range(1000)}}
    assert read_weights(write(tmp_path, content, w=bytes(4096))).metadata == {}


def test_too_many_tensors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_collection, "MAX_TENSORS", 100)
    number = make_number()
    path = write(tmp_path, {str(index): number for index in range(100)})
    assert "is not a TinyViT" in refusal(path)
    path = write(tmp_path, {str(index): number for index in range(101)})
    assert "is a damaged or truncated torch file" in refusal(path)


def make_alternating(first: str, second: str) -> dict[str, Call]:
    records = {}
    for index, (name, value) in enumerate(make_state().items()):
        storage = Storage(torch.FloatStorage, (first, second)[index % 2], 1024)
        records[name] = make_tensor(storage, 0, tuple(value.shape), value.stride())
    return records


def test_every_storage_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_files, "_MAX_READ_BYTES", 2 * 4096)
    path = write(tmp_path, make_alternating("a", "b"), a=bytes(4096), b=b"\0\0\x80\x3f" * 1024)
    values = list(read_weights(path).tensors.values())
    assert [float(value.flatten()[0]) for value in values[:4]] == [0.0, 1.0, 0.0, 1.0]


def test_storages_that_are_read_again_and_again_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, make_alternating("a", "b"), a=bytes(4096), b=bytes(4096))
    assert len(read_weights(path).tensors) == len(make_state())
    monkeypatch.setattr(torch_files, "_MAX_READ_BYTES", 4096)
    assert "reading its tensors needs more than" in refusal(path)


@pytest.mark.parametrize("keys", [None, 5, 1.5, [None], [[]], {"a": 1}])
def test_wrong_keys_of_storages_in_an_old_file_are_refused(tmp_path: Path, keys: object) -> None:
    parts = (MAGIC_NUMBER, 1001, {}, make_records(), keys)
    data = write_old_format(parts, {"w": struct.pack("<q", 1024) + bytes(4096)})
    (tmp_path / "a.pth").write_bytes(data)
    assert "is a damaged or truncated torch file" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["uint16", "float8_e8m0fnu", "float4_e2m1fn_x2", "quint8"])
def test_weights_that_torch_cannot_convert_are_refused(tmp_path: Path, name: str) -> None:
    dtype = getattr(torch, name, None)
    if dtype is None:
        pytest.skip(f"this version of torch has no {name}")
    storage = Storage(torch.storage.UntypedStorage, "w", 4096)
    function = Name("torch._utils", "_rebuild_tensor_v3")
    weight = Call(function, storage, 0, (7, 6), (6, 1), False, {}, dtype, {})
    path = write(tmp_path, {**make_records(), "head.fc.weight": weight}, w=bytes(4096))
    assert f"head.fc.weight in {path} has elements of the type {name}" in refusal(path)


def make_dtype(code: object) -> Call:
    state = (3, "<", None, None, None, -1, -1, 0)
    return Call(Name("numpy", "dtype"), code, False, True, state=state)


@pytest.mark.parametrize("code", ["f99", "i3", "U999999999999", "S0", b"\xff", "O"])
def test_numbers_of_unknown_types_are_left_out(tmp_path: Path, code: object) -> None:
    scalar = Call(Name("numpy._core.multiarray", "scalar"), make_dtype(code), b"\xff" * 8)
    content = {"model": make_records(), "scalar": scalar, "epoch": 3}
    assert read_weights(write(tmp_path, content, w=bytes(4096))).metadata == {"epoch": 3}


@pytest.mark.parametrize("shape", [(2**70,), (2**31, 2**31), "a", (1.5,), (1,) * 100])
def test_arrays_of_impossible_shapes_are_refused(tmp_path: Path, shape: object) -> None:
    reconstruct = Name("numpy._core.multiarray", "_reconstruct")
    state = (1, shape, make_dtype("f8"), False, bytes(16))
    array = Call(reconstruct, None, (0,), b"b", state=state)
    path = write(tmp_path, {"model": make_records(), "array": array}, w=bytes(4096))
    assert "is a damaged or truncated torch file" in refusal(path)


def test_integers_of_thousands_of_digits_in_a_text_are_not_read() -> None:
    text = f"mean = 0x{'f' * 20_000}\nstd = {{0x{'f' * 20_000}: 1}}\nsize = 0xff"
    assert parse_settings_text(text) == {"mean": None, "std": {}, "size": 255}


def test_all_texts_of_settings_together_are_limited() -> None:
    text = "x = 5  # " + "a" * 200_000
    expanded = expand_settings_texts(dict.fromkeys(("args", "config", "cfg", "opt"), text))
    assert [isinstance(value, dict) for value in expanded.values()] == [True, True, False, False]
    assert expanded["args"] == {"x": 5}


def test_long_keys_of_settings_are_not_read(tmp_path: Path) -> None:
    content = {"model": make_records(), "x" * 1001: 1, "y" * 1000: 2}
    assert read_weights(write(tmp_path, content, w=bytes(4096))).metadata == {"y" * 1000: 2}


def test_dicts_under_long_keys_are_not_searched() -> None:
    """All paths together would have 2 GB."""
    metadata = {"x" * 1_000_000: {str(index): {} for index in range(2000)}, "a": {"b": {}}}
    assert [path for path, _ in walk_dicts(metadata)] == ["", "a", "a.b"]
