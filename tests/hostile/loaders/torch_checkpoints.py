"""Hostile checkpoints of torch: zip archives, files of old versions, and whole pickles."""

from __future__ import annotations

import io
import pickletools
import random
import struct
import sys
import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.archive_crafting import craft_damaged_archives
from tests.hostile.checkpoint_crafting import MAGIC_NUMBER, craft_contents
from tests.hostile.hostile_files import GIB, HostileFile, Loader
from tests.hostile.mutations import mutate_bytes
from tests.hostile.small_checkpoints import (
    CLASS_COUNT,
    convert_to_official,
    make_records,
    make_storage,
)
from tests.hostile.torch_records import write_archive, write_old_format, write_pickle
from tinyvit.export import pipeline, source_network
from tinyvit.export.config import ExportConfig
from tinyvit.export.manifest_builder import build_manifest
from tinyvit.manifest import Manifest
from tinyvit.privacy import use_temporary_caches
from tinyvit.progress import LogProgress

NAMES = ["cat", "dog", "owl", "bat", "cow"]
_OPERATIONS: tuple[bytes, ...] = (
    *(b"N", b"\x88", b"]", b"}", b")", b"(", b"0", b"1", b"2", b"R", b"b", b"s", b"u", b"a", b"e"),
    *(b"t", b"\x85", b"\x86", b"\x87", b"\x81", b"\x93", b"Q", b"K\xff", b"J\xff\xff\xff\xff"),
    *(b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"G\x7f\xf8" + bytes(6), b"h\x00", b"j\xff\xff\x00\x00"),
    *(b"cos\nsystem\n", b"ctorch\nload\n", b"I" + b"9" * 300 + b"\n", b"V\\ud800\n", b"\x94", b"."),
)
"""Operations of pickles, most of which need something else on the stack."""


def export_checkpoint(path: Path) -> None:
    """Read a checkpoint as tinyvit-export does, up to the tracing."""
    with use_temporary_caches(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_network, "trace", lambda *arguments, **options: None)
        plan = pipeline._make_plan(ExportConfig(checkpoint=path))
        progress = LogProgress(sys.stdout)
        network = source_network.load_source_network(plan, progress)
    checkpoint = network.checkpoint
    for text in (checkpoint.preprocess_source, checkpoint.license, *checkpoint.notes):
        progress.message(text)
    outputs = () if network.labels else network.original.describe_outputs()
    manifest = build_manifest(checkpoint, network.labels, 1, "host", outputs=outputs)
    Manifest.from_json(manifest.to_json())


def make_samples(folder: Path) -> Sequence[Path]:
    """Make files of several training scripts, in all forms of `torch.save`."""
    storages = {"0": make_storage()}
    arguments = {"model": "tiny_vit_5m_224", "mean": [0.5] * 3, "std": (0.5, 0.5, 0.5)}
    arguments |= {"crop_pct": 0.9, "interpolation": "bicubic", "img_size": 224}
    contents = {
        "plain.pth": make_records(),
        "script.pth": {
            "state_dict": {f"module.{name}": value for name, value in make_records().items()},
            "args": arguments,
            "class_to_idx": {name: index for index, name in enumerate(NAMES)},
            "epoch": 3,
            "license": "mit",
        },
        "paper.pth": {
            "model": convert_to_official(make_records()),
            "config": {"DATA": {"IMG_SIZE": 224}, "TEST": {"CROP": True}},
            "meta": {"cfg": "mean = [0.5] * 3\nx = dict(type='Normalize', mean=mean, std=mean)"},
        },
        "average.ckpt": {
            "state_dict": make_records(),
            "state_dict_ema": make_records(),
            "hyper_parameters": {"val_transform": "Compose(\n    Resize(size=256)\n)"},
            "names": dict(enumerate(NAMES)),
        },
    }
    for name, content in contents.items():
        data = write_archive(write_pickle(content), storages, zipfile.ZIP_DEFLATED)
        (folder / name).write_bytes(data)
    stored = struct.pack("<q", len(make_storage()) // 2) + make_storage()
    parts = (MAGIC_NUMBER, 1001, {"little_endian": True}, contents["script.pth"], ["0"])
    (folder / "old.pth").write_bytes(write_old_format(parts, {"0": stored}))
    return [*(folder / name for name in contents), folder / "old.pth"]


def _list_positions(data: bytes) -> list[tuple[int, int]]:
    """Return the start and end of each operation of the pickles at the start of a file."""
    stream, starts = io.BytesIO(data), []
    try:
        while data[stream.tell() : stream.tell() + 1] == b"\x80":
            starts += [position for _, _, position in pickletools.genops(stream)]
            starts.append(stream.tell())
    except (ValueError, struct.error):
        pass
    return [(start or 0, end or 0) for start, end in pairwise(starts)]


def _mutate_operations(data: bytes, generator: random.Random) -> bytes:
    """Replace, remove, repeat or exchange operations of a pickle."""
    for _ in range(generator.choice((1, 1, 2, 5))):
        positions = _list_positions(data)
        if not positions:
            return mutate_bytes(data, generator)
        start, end = generator.choice(positions)
        other = data[slice(*generator.choice(positions))]
        text = HOSTILE_TEXT.encode("utf-8", "surrogatepass")
        choices = [generator.choice(_OPERATIONS), b"", data[start:end] * 2, other]
        choices.append(b"X" + struct.pack("<I", len(text)) + text)
        data = data[:start] + generator.choice(choices) + data[end:]
    return data


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Mutate operations of the pickle, and write the archive with correct checksums."""
    if not data.startswith(b"PK"):
        return _mutate_operations(data, generator)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        pickled, storage = archive.read("a/data.pkl"), archive.read("a/data/0")
    changed = _mutate_operations(pickled, generator)
    return write_archive(changed, {"0": storage}, zipfile.ZIP_DEFLATED)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield archives with hostile contents, and damaged archives."""
    yield from craft_contents(generator)
    yield from craft_damaged_archives()


assert len(NAMES) == CLASS_COUNT

LOADERS = (
    Loader(
        "weights: torch file",
        export_checkpoint,
        make_samples,
        craft,
        mutate=mutate,
        memory_bytes=3 * GIB,
    ),
)
