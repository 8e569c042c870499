"""Hostile .pte files (ExecuTorch)."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.artifact_commands import inspect, predict, verify_artifact
from tests.hostile.hostile_files import GIB, MIB, HostileFile, Loader, make_file
from tests.hostile.mutations import make_mutation
from tests.hostile.signed_samples import (
    make_archive_saver,
    make_golden_manifest,
    open_bare,
    save_signed,
)
from tests.hostile.trailer_attacks import craft_trailers
from tinyvit.manifest import Manifest
from tinyvit.runtimes.artifact import read_manifest
from tinyvit.runtimes.formats.pte_program import read_pte_program

_INTEGERS = (0, 1, -1, 2, 4, 255, 2**15, 2**20, 2**24, 2**30, 2**31 - 1, 2**32 - 1)
_HEADER_FIELDS = (0, 4, 8, 12, 16, 24, 32, 40)
"""Positions of the root offset, the magic numbers and the fields of the header."""


def export_network(marked: bool = False) -> bytes:
    """Export a convolution and a linear layer with XNNPACK, and a gather outside of it.

    Only the first call exports, whether `marked` is given by name or not: torch.export does not
    run in several threads at once, as the files of the campaign are written.
    """
    return _export_network(marked)


@cache
def _export_network(marked: bool) -> bytes:
    torch = pytest.importorskip("torch")
    pytest.importorskip("executorch")
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = torch.nn.Conv2d(3, 4, 3, 2), torch.nn.Linear(36, 10)
            self.register_buffer("order", torch.arange(9, -1, -1))

        def forward(self, image: Any) -> Any:
            features = self.conv(image).relu().flatten(1)
            return self.linear(features).index_select(1, self.order)

    torch.manual_seed(0)
    program = torch.export.export(Network().eval(), (torch.zeros(1, 3, 8, 8),))
    methods = {"tinyvit-edge": 1} if marked else None
    partitioner = [XnnpackPartitioner()]
    lowered = to_edge_transform_and_lower(
        program, partitioner=partitioner, constant_methods=methods
    )
    return bytes(lowered.to_executorch().buffer)


def make_signed_samples(folder: Path) -> Sequence[Path]:
    """Make a small classifier with a manifest."""
    return make_samples(folder)[:1]


def make_samples(folder: Path) -> Sequence[Path]:
    """Make small classifiers: with a manifest, without one, and with a mark but no manifest."""
    bare, signed = folder / "bare.pte", folder / "signed.pte"
    marked = folder / "marked.pte"
    bare.write_bytes(export_network())
    marked.write_bytes(export_network(marked=True))
    with open_bare(bare) as runtime:
        manifest = make_golden_manifest(runtime, target="executorch")
    save_signed(signed, manifest, make_archive_saver(export_network(marked=True)))
    return [signed, bare, marked]


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change bytes anywhere, or numbers in the tables with a valid hash in the manifest."""
    if random.Random(seed).random() < 0.3:
        return make_mutation(sample, seed)

    def write(folder: Path) -> Path:
        generator, manifest = random.Random(seed), read_manifest_or_none(sample)
        data = bytearray(export_network(marked="bare" not in sample.name))
        end = generator.choice((struct.unpack_from("<Q", data, 16)[0], len(data)))
        for _ in range(generator.choice((1, 1, 2, 4))):
            width = generator.choice((1, 4, 4, 8))
            position = generator.randrange(40, end - 8) // width * width
            value = generator.choice((*_INTEGERS, data[position] + 1, generator.randrange(64)))
            data[position : position + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
        path = folder / sample.name
        if manifest is None:
            path.write_bytes(data)
        else:
            save_signed(path, manifest, make_archive_saver(bytes(data)))
        return path

    return HostileFile(f"changed numbers of {sample.name} with the seed {seed!r}", write)


def read_manifest_or_none(sample: Path) -> Manifest | None:
    """Read the manifest of a sample; None for those without one."""
    return read_manifest(sample) if "signed" in sample.name else None


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files with extreme headers, with other names, and with hostile archives."""
    data = export_network()
    for position in _HEADER_FIELDS:
        for value in (0, 1, 39, 40, len(data) - 1, len(data) + 1, 2**32 - 1, 2**63, 2**64 - 1):
            changed = data[:position] + struct.pack("<Q", value) + data[position + 8 :]
            yield make_file("a.pte", f"{value} at byte {position}", changed)
    for name in (b"OpenvinoBackend", b"QnnBackend\0\0\0\0", b"\x1b[2JBackend\0\0\0"):
        changed = data.replace(b"XnnpackBackend", name[:14])
        yield make_file("a.pte", f"the delegate {name!r}", changed)
    for old, new in ((b"forward", b"for\x1b[2J"), (b"forward", b"forwar\xff"), (b"aten", b"back")):
        yield make_file("a.pte", f"{new!r} instead of {old!r}", data.replace(old, new))
    for length in range(0, len(data), max(len(data) // 20, 1)):
        yield make_file("a.pte", f"the first {length} bytes", data[:length])
    end = read_pte_program(data).end
    yield make_file("a.pte", "twice", data[:end] + data)
    yield from craft_trailers("a.pte", lambda: data, generator)


LOADERS = (
    Loader(
        "ExecuTorch: predict",
        predict,
        make_samples,
        craft,
        mutate_sample=mutate_sample,
        memory_bytes=4 * GIB + 512 * MIB,
    ),
    Loader("ExecuTorch: verify", verify_artifact, make_signed_samples, craft, must_refuse=True),
    Loader("ExecuTorch: inspect", inspect, make_samples, craft),
)
