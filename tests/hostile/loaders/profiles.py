"""Hostile profiles of engines: what they report about a hostile model that they have run."""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.crafting import craft_fields, craft_json_texts
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file
from tests.hostile.loaders import onnx_files, openvino_files, pte_files
from tests.hostile.mutations import change_number, insert_text, mutate_bytes
from tinyvit.bench.kernel_profile import profile_kernels
from tinyvit.bench.profilers import executorch
from tinyvit.bench.profilers._litert_profile import parse_summary
from tinyvit.bench.profilers.onnxruntime import parse_profile
from tinyvit.errors import ArtifactError

_EVENT = {
    "cat": "Node",
    "name": "a_kernel_time",
    "dur": 1500,
    "args": {
        "op_name": "MatMul",
        "input_type_shape": [{"float": [1, 2]}, {"float": [2, 3]}],
        "output_type_shape": [{"float": [1, 3]}],
    },
}
_LITERT_ROWS = """\
================ Run Order ================
            [node type]   [first]  [avg ms]      [%]   [cdf%]  [mem KB]  [times called]  [Name]
  Delegate/Convolution (NHWC, F32) IGEMM    0.001     0.002    0.003  10.0%  10.0%  0.0  9   []:0
  Fully Connected (NC, QS8) GEMM    0.001     0.002    0.004  10.0%  20.0%  0.0  9  [a]:1

Number of nodes executed: 2
"""


def read_onnxruntime_profile(path: Path) -> None:
    """Read a profile of onnxruntime."""
    parse_profile(path, Path("a.onnx"))


def make_onnxruntime_samples(folder: Path) -> Sequence[Path]:
    """Make a profile with two entries."""
    path = folder / "profile.json"
    path.write_text(json.dumps([{"cat": "Session"}, _EVENT, _EVENT]))
    return [path]


def craft_onnxruntime(generator: random.Random) -> Iterator[HostileFile]:
    """Yield profiles with extreme fields, and with many entries."""
    name = "profile.json"
    yield from craft_json_texts(name, [_EVENT])
    yield from craft_fields(name, [_EVENT], generator, count=80)
    for count in (10_000, 500_000):
        text = json.dumps([_EVENT])[1:-1]
        yield make_file(name, f"{count} events", f"[{', '.join([text] * count)}]".encode())


def read_litert_summary(path: Path) -> None:
    """Parse the summary of LiteRT's profiler."""
    if not parse_summary(path.read_bytes().decode("utf-8", "replace")):
        raise ArtifactError("there is no profile", "export the file again")


def make_litert_samples(folder: Path) -> Sequence[Path]:
    """Make a summary of two kernels."""
    path = folder / "summary.txt"
    path.write_text(_LITERT_ROWS)
    assert len(parse_summary(_LITERT_ROWS)) == 2
    return [path]


def craft_litert(generator: random.Random) -> Iterator[HostileFile]:
    """Yield summaries with long lines and repeated parts, and changed rows."""
    for text in ("  ", " a", "  1.0", "%", " 9 [", "\n\n", "Run Order", "  Delegate/", "\x1b[2J"):
        for count in (300, 2**20):
            repeated = _LITERT_ROWS.replace("  Fully", "  Fully" + text * count)
            yield make_file("a.txt", f"{count} times {text!a}", repeated.encode())
    for number in range(40):
        row = random.Random(f"{generator.random()} {number}")
        changed = row.choice((change_number, insert_text))(_LITERT_ROWS.encode(), row)
        yield make_file("a.txt", f"a changed summary {number}", changed)
    yield make_file("a.txt", "10^5 rows", (_LITERT_ROWS.replace("\n\n", "\n") * 25_000).encode())


@cache
def _make_network() -> bytes:
    """Return a small .pte file with a graph of XNNPACK."""
    return pte_files.export_network()


@cache
def _make_trace() -> bytes:
    """Run the network with ExecuTorch's profiler, and return the event trace."""
    torch = pytest.importorskip("torch")
    portable_lib = pytest.importorskip("executorch.extension.pybindings.portable_lib")
    module = portable_lib._load_for_executorch_from_buffer(_make_network(), enable_etdump=True)
    module.forward([torch.zeros(1, 3, 8, 8)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.etdp")
        module.write_etdump_result_to_file(str(path))
        return path.read_bytes()


def read_executorch_trace(path: Path) -> None:
    """Read an event trace of ExecuTorch."""
    executorch.read_trace(path, "a.pte")


def make_trace_samples(folder: Path) -> Sequence[Path]:
    """Make an event trace."""
    path = folder / "trace.etdp"
    path.write_bytes(_make_trace())
    return [path]


def craft_traces(generator: random.Random) -> Iterator[HostileFile]:
    """Yield traces with extreme numbers, such as offsets and lengths of vectors."""
    data = _make_trace()
    for number in range(80):
        position = generator.randrange(len(data) // 4) * 4
        value = generator.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1))
        changed = data[:position] + value.to_bytes(4, "little") + data[position + 4 :]
        yield make_file("a.etdp", f"{value} at byte {position} ({number})", changed)


def read_executorch_graphs(path: Path) -> None:
    """Decode the graphs of XNNPACK in a .pte file."""
    executorch.read_products(path.read_bytes(), path.name)


def make_graph_samples(folder: Path) -> Sequence[Path]:
    """Make a .pte file."""
    path = folder / "a.pte"
    path.write_bytes(_make_network())
    return [path]


def mutate_graph(data: bytes, generator: random.Random) -> bytes:
    """Change numbers in the first graph of a .pte file."""
    header = re.search(rb"XH00", data)
    assert header is not None
    changed = bytearray(data)
    for _ in range(generator.choice((1, 2, 4))):
        position = header.start() + generator.randrange(700) * 4
        value = generator.choice((0, 1, 4, 2**16, 2**31 - 1, 2**32 - 1, changed[position] + 1))
        changed[position : position + 4] = value.to_bytes(4, "little")
    return bytes(changed)


def craft_graphs(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files with many graphs, and graphs of extreme sizes."""
    data = _make_network()
    header = re.search(rb"XH00\x1e\x00", data)
    assert header is not None
    for count in (10, 257):
        yield make_file("a.pte", f"{count} headers", data + header[0] * count)
    for size in (0, 1, 2**24, 2**32 - 1):
        start = header.end()
        changed = data[: start + 4] + size.to_bytes(4, "little") + data[start + 8 :]
        yield make_file("a.pte", f"a graph of {size} bytes", changed)
    for number in range(20):
        yield make_file("a.pte", f"a changed file {number}", mutate_bytes(data, generator))


def profile_openvino(path: Path) -> None:
    """Profile a model with OpenVINO."""
    _profile(path, "openvino")


def profile_onnxruntime(path: Path) -> None:
    """Profile a model with onnxruntime."""
    _profile(path, "onnxruntime")


def _profile(path: Path, engine: str) -> None:
    profile: Any = profile_kernels(path, threads=1, engine_name=engine)
    assert 0 <= profile.integer_share <= 1


LOADERS = (
    Loader(
        "profiles: onnxruntime's JSON",
        read_onnxruntime_profile,
        make_onnxruntime_samples,
        craft_onnxruntime,
    ),
    Loader("profiles: LiteRT's summary", read_litert_summary, make_litert_samples, craft_litert),
    Loader("profiles: ExecuTorch's trace", read_executorch_trace, make_trace_samples, craft_traces),
    Loader(
        "profiles: ExecuTorch's graphs",
        read_executorch_graphs,
        make_graph_samples,
        craft_graphs,
        mutate=mutate_graph,
    ),
    Loader(
        "profiles: OpenVINO",
        profile_openvino,
        openvino_files.make_samples,
        openvino_files.craft_all,
        memory_bytes=4 * GIB,
    ),
    Loader(
        "profiles: onnxruntime",
        profile_onnxruntime,
        onnx_files.make_samples,
        onnx_files.craft,
        memory_bytes=4 * GIB,
    ),
)
