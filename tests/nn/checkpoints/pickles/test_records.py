"""Pickles are read without importing or calling what they name, in bounded time and memory."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
import numpy as np
import torch

from tests.helpers.state_dicts import make_state
from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.metadata.plain_values import PlainConverter
from tinyvit.nn.checkpoints.pickles.machine import read_pickle
from tinyvit.nn.checkpoints.pickles.names import DangerousNameError
from tinyvit.nn.checkpoints.pickles.records import PickledObject, PickleRecordError
from tinyvit.nn.checkpoints.weight_files import read_weights


def read(data: bytes) -> Any:
    return read_pickle(io.BytesIO(data)).root


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read(protocol: int) -> None:
    value = {
        "text": "ü" * 300,
        "numbers": [0, -1, 300, 70_000, 2**40, 2**100, 0.5, True, None],
        "bytes": b"abc",
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "set": {1},
    }
    assert read(pickle.dumps(value, protocol)) == {**value, "set": [1]}


@pytest.mark.parametrize(
    "call",
    [
        Call(os.system, "echo"),
        Call(eval, "1"),
        Call(subprocess.run, ["true"]),
        Call(open, "executed", "w"),
        Call(torch.load, "file"),
        Call(sys.exit),
    ],
)
def test_functions_that_run_code_are_refused(call: Call, tmp_path: Path) -> None:
    with pytest.raises(DangerousNameError):
        read(pickle.dumps({"extra": call}))
    torch.save({"extra": call}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        read_weights(tmp_path / "weights.pth")


def fail() -> None:
    raise AssertionError("a function in a pickle was called")


class Trap:
    """An object that fails when it is created, filled or restored."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (fail, (), {"a": 1}, iter([1]), iter([("k", 2)]))

    def __setstate__(self, state: Any) -> None:
        fail()


def test_unknown_functions_are_recorded_and_not_called() -> None:
    record = read(pickle.dumps(Trap()))
    assert isinstance(record, PickledObject)
    assert record.name == f"{__name__}.fail"
    assert (record.state, record.entries, record.items) == ({"a": 1}, [1], {"k": 2})


def test_a_class_in_a_package_named_code_is_recorded() -> None:
    assert read(b"\x80\x02ccode.model\nTinyViT\n)R.").name == "code.model.TinyViT"


def test_no_module_is_imported() -> None:
    data = b"\x80\x02cantigravity\nfly\n)R."
    assert read(data).name == "antigravity.fly"
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b".",
        b"\x80\x02]",
        b"\x80\x02(.",
        b"\x80\x02K\x01a.",
        b"\x80\x02h\x05.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x02K\x01K\x02R.",
        b"\x80\x02ca\nb\nK\x02R.",
        b"\x80\x02}]K\x01s.",
        b"\x80\x02Pabc\n.",
        b"\x80\x02U\x03abcQ.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_damaged_pickles_are_refused(data: bytes) -> None:
    with pytest.raises(PickleRecordError):
        read(data)


def test_attacks_on_time_and_memory_are_bounded() -> None:
    start = time.monotonic()
    # The memo is a dict, so a large index needs no memory.
    assert read(b"\x80\x02K\x01r\xff\xff\xff\xff.") == 1
    # Hashing a tuple of tuples of tuples would take exponential time.
    with pytest.raises(PickleRecordError):
        read(b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.")
    # Ten references to a list of ten references to a list of ... have 10**30 entries.
    content = b"]q\x00"
    for index in range(30):
        reference = b"h" + bytes([index])
        content += b"](" + reference * 10 + b"eq" + bytes([index + 1])
    assert PlainConverter(lambda key: b"").convert(read(b"\x80\x02" + content + b".")) is None
    cycle = read(b"\x80\x02]q\x00h\x00a.")
    assert PlainConverter(lambda key: b"").convert(cycle) is not cycle
    assert time.monotonic() - start < 20


TWO_REFERENCES = b"h\x01h\x01\x86"  # the tuple of the memo's value 1, twice


@pytest.mark.parametrize(
    "data",
    [
        # Each path is the last one twice, so the last of them would have 2**60 characters.
        b"cpathlib\nPurePosixPath\nq\x00X\x04\x00\x00\x00abcdq\x01"
        + (b"h\x00" + TWO_REFERENCES + b"Rq\x01") * 58,
        b"cpathlib\nPureWindowsPath\nq\x00X\x04\x00\x00\x00abcdq\x01"
        + (b"h\x00" + TWO_REFERENCES + b"Rq\x01") * 58,
        # Every name has a megabyte, but is written with few bytes.
        b"X\x00\x00\x10\x00" + b"a" * 2**20 + b"q\x01" + b"h\x01h\x01\x93" * 400,
        b"c_codecs\nencode\nq\x00X\x00\x00\x10\x00"
        + b"a" * 2**20
        + b"q\x01"
        + b"h\x00h\x01\x85R" * 600,
        # Every copy of a list has 100,000 entries.
        b"c__builtin__\nlist\nq\x00](" + b"N" * 100_000 + b"eq\x01" + b"h\x00h\x01\x85R" * 60,
    ],
)
def test_copies_of_large_values_are_bounded(data: bytes) -> None:
    with pytest.raises(PickleRecordError, match="copy too much"):
        read(b"\x80\x04" + data + b".")


def test_a_storage_key_must_be_a_text() -> None:
    # The text of a tuple of two tuples of two tuples of ... would have 2**60 characters.
    nested = b")" + b"2\x86" * 60
    identifier = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + nested + b"N" + b"N" + b"t"
    with pytest.raises(PickleRecordError, match="not a text"):
        read(b"\x80\x02" + identifier + b"Q.")


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_gives_an_error_of_this_package(tmp_path: Path, seed: int) -> None:
    content = {
        "state_dict": make_state(),
        "args": argparse.Namespace(mean=np.ones(3), names=np.array(["a", "b"])),
        "scores": collections.defaultdict(list, {"a": [np.float64(1)]}),
        "objects": np.array(["a", None], dtype=object),
    }
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    random = np.random.default_rng(seed)
    for _ in range(300):
        data = bytearray(whole)
        for position in random.integers(0, min(len(data), 5000), random.integers(1, 5)):
            data[position] = random.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(CheckpointError):
            read_weights(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"patch_embed.conv1.conv.weight": torch.ones(4)}, tmp_path / "good.pth")
    for old, new in (
        (b"K\x04\x85q", b"K\x05\x85q"),
        (b"K\x00K\x04\x85", b"K\x01K\x04\x85"),
        (b"K\x01\x85q", b"K\x07\x85q"),
        (b"K\x04\x85q", b"J\xff\xff\xff\xff\x85q"),
    ):
        with zipfile.ZipFile(tmp_path / "good.pth") as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        name = next(name for name in entries if name.endswith("data.pkl"))
        assert old in entries[name]
        entries[name] = entries[name].replace(old, new)
        with zipfile.ZipFile(tmp_path / "bad.pth", "w") as archive:
            for entry, data in entries.items():
                archive.writestr(entry, data)
        with pytest.raises(CheckpointError, match="damaged"):
            read_weights(tmp_path / "bad.pth")
