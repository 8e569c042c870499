"""Hostile files in the folder that the process of Rockchip's toolkit leaves behind."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.crafting import craft_fields, craft_json_texts
from tests.hostile.hostile_files import GIB, HostileFile, Loader
from tests.hostile.special_files import make_sparse_writer, make_special
from tinyvit.processes.limited_program import EndedProcess
from tinyvit.runtimes.rockchip.simulator import _read_array
from tinyvit.runtimes.rockchip.toolkit import read_compiled_network
from tinyvit.text.safe_text import print_lines

_FOLDER = "exchange"
_ANSWER = {"toolkit": "2.5.0", "error": "", "own_scale_count": 1, "tensor_count": 2}
_ROW = "D RKNN: [11:37:33.763] 1 Conv FLOAT16 NPU (1) (1) 0/0/0 0 Conv:node_conv2d\n"
_SHAPE = (1, 12)
_LIMIT_BYTES = 2**24
"""Largest text file; see `_MAX_TEXT_BYTES` of the product."""


def read_answer(folder: Path) -> None:
    """Read everything that the process has written."""
    network = read_compiled_network(folder, EndedProcess(0, b"", b""), has_analysis=True)
    print_lines(*(f"{layer.operator} {layer.processor} {layer.name}" for layer in network.layers))
    print_lines(network.compiler, network.layer_errors[:1000], network.quantization[:1000])
    _read_array(folder / "output_0.npy", _SHAPE)


def _make_array(dtype: str = "<f4", shape: tuple[int, ...] = _SHAPE) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(shape, dtype))
    return buffer.getvalue()


def _list_contents() -> dict[str, bytes]:
    """Return valid files by their names."""
    return {
        "answer.json": json.dumps(_ANSWER).encode(),
        "log.txt": (_ROW * 3 + "E RKNN: [11:36:19.029] Unkown op target: 0\n").encode(),
        "layers.txt": b"[Input] 1",
        "network.quantization.cfg": b"quantize_parameters: {}",
        "network.rknn": b"RKNN" + bytes(4) + b"compiled",
        "output_0.npy": _make_array(),
    }


def _save(folder: Path, changes: dict[str, bytes]) -> Path:
    folder = folder / _FOLDER
    folder.mkdir(exist_ok=True)
    for name, data in (_list_contents() | changes).items():
        (folder / name).write_bytes(data)
    return folder


def make_samples(folder: Path) -> Sequence[Path]:
    """Make a folder with all files."""
    return [_save(folder, {})]


def _make_changed(name: str, description: str, make: Callable[[], bytes]) -> HostileFile:
    return HostileFile(f"{name}: {description}", lambda folder: _save(folder, {name: make()}))


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield odd answers, logs, tables and arrays, and special files in place of each."""
    for make_files in (
        lambda: craft_json_texts("answer.json", _ANSWER),
        lambda: craft_fields("answer.json", _ANSWER, generator, 30),
    ):
        for file in make_files():
            yield HostileFile(file.description, _make_writer(file))
    logs = {
        "hostile text": _ROW.replace("node_conv2d", HOSTILE_TEXT),
        "words without an end": "D RKNN: " + "a " * 1_000_000,
        "a number of a million digits": _ROW.replace("] 1 ", f"] {'9' * 10**6} "),
        "100,000 layers": "".join(_ROW.replace("] 1 ", f"] {n} ") for n in range(100_000)),
        "errors": ("E " + HOSTILE_TEXT + "\n") * 10_000,
        "colors": "\x1b[0m\x1b[1;31m" * 500_000,
        "the largest size": "x" * _LIMIT_BYTES,
        "more than the largest size": "x" * (_LIMIT_BYTES + 1),
    }
    for name in ("log.txt", "layers.txt", "network.quantization.cfg"):
        for description, text in logs.items():
            data = text.encode("utf-8", "surrogatepass")
            yield _make_changed(name, description, lambda data=data: data)
    for dtype in ("<f8", "<f2", ">f4", "<i4", "<c8", "<U3", "S9", "?"):
        yield _make_changed("output_0.npy", dtype, lambda dtype=dtype: _make_array(dtype))
    for shape in ((), (0,), (1, 13), (13,), (12, 1), (2, 2, 3), (1, 10**6)):
        yield _make_changed(
            "output_0.npy", f"{shape}", lambda shape=shape: _make_array("<f4", shape)
        )
    for header in (b"(" * 900, b"{'descr': '|O', 'fortran_order': False, 'shape': (12,)}", b"\xff"):
        data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48)
        yield _make_changed("output_0.npy", f"{header[:9]!r}", lambda data=data: data)
    for name in _list_contents():
        for kind in ("pipe", "/dev/zero", "/proc/self/mem", "folder", "loop", "nothing", "sparse"):
            yield HostileFile(f"{name} is {kind}", _make_special_writer(name, kind))


def _make_writer(file: HostileFile) -> Callable[[Path], Path]:
    """Make a function that writes all files, and a crafted one over one of them."""

    def write(folder: Path) -> Path:
        path = _save(folder, {})
        file.write(path)
        return path

    return write


def _make_special_writer(name: str, kind: str) -> Callable[[Path], Path]:
    """Make a function that replaces one of the files by something special."""

    def write(folder: Path) -> Path:
        path = _save(folder, {})
        (path / name).unlink()
        if kind == "sparse":
            make_sparse_writer(name, 3 * GIB, _list_contents()[name])(path)
        else:
            make_special(path / name, kind)
        return path

    return write


LOADERS = (Loader("RKNN: answers of the toolkit", read_answer, make_samples, craft),)
