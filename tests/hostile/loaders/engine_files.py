"""Hostile .engine files with their .json files (TensorRT), with a fake GPU and a fake TensorRT."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_tensorrt import FakeDriver, FakeEngine, make_fake_tensorrt, make_manifest
from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile import artifact_commands
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file
from tests.hostile.mutations import make_mutation, mutate_bytes, mutate_json
from tests.hostile.signed_samples import make_golden_manifest
from tests.hostile.special_files import make_sparse_writer, make_special_writer
from tests.hostile.trailer_attacks import list_manifests
from tinyvit.manifest import Manifest
from tinyvit.runtimes import cuda
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.engines.tensorrt import ENGINE

_NAME = "a.engine"
_INTEGERS = (0, 1, 63, 64, 255, 257, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


def _make_plan(magic: bytes = b"vtrt", size_bytes: int = 256, stated_bytes: int = 256) -> bytes:
    header = magic.ljust(16, b"\0") + struct.pack("<Q", stated_bytes) + bytes((1, 7, 1, 116))
    return header.ljust(size_bytes, b"\0")


def _with_fakes(action: Callable[[Path], None], path: Path) -> None:
    """Act as on a machine with TensorRT-RTX and a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        fake_driver = FakeDriver()
        patch.setattr(cuda, "load_driver", lambda: fake_driver)
        patch.setattr(cuda, "import_tensorrt", lambda flavor: make_fake_tensorrt(FakeEngine()))
        action(path)


def predict(path: Path) -> None:
    """Predict, with the fakes."""
    _with_fakes(artifact_commands.predict, path)


def verify_artifact(path: Path) -> None:
    """Verify, with the fakes."""
    _with_fakes(artifact_commands.verify_artifact, path)


def _save(folder: Path, plan: bytes, manifest: str | bytes | None) -> Path:
    path = folder / _NAME
    path.write_bytes(plan)
    if manifest is not None:
        data = manifest if isinstance(manifest, bytes) else manifest.encode("utf-8", "replace")
        (folder / f"{_NAME}.json").write_bytes(data)
    return path


@cache
def _make_golden() -> Manifest:
    """Make a manifest with golden vectors of the fake network."""
    manifests: list[Manifest] = []

    def make(path: Path) -> None:
        with ENGINE.open(Artifact(path, make_manifest()), RuntimeOptions("gpu")) as runtime:
            manifests.append(make_golden_manifest(runtime))

    with tempfile.TemporaryDirectory() as folder:
        _with_fakes(make, _save(Path(folder), _make_plan(), None))
    return manifests[0]


def _sign(plan: bytes, **changes: Any) -> str:
    """Make a manifest with golden vectors and the hash of a plan."""
    digest = hashlib.sha256(plan).hexdigest()
    return dataclasses.replace(_make_golden(), content_sha256=digest, **changes).to_json()


def make_samples(folder: Path) -> Sequence[Path]:
    """Make a plan with its manifest."""
    return [_save(folder, _make_plan(), _sign(_make_plan()))]


def _save_unsigned(folder: Path) -> Path:
    return _save(folder, _make_plan(), make_manifest().to_json())


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change bytes, or the plan with the right hash, or the manifest with the right digest."""
    kind = random.Random(seed).choice(("bytes", "plan", "manifest"))
    if kind == "bytes":
        return make_mutation(sample, seed)
    manifest = json.loads(sample.with_name(f"{_NAME}.json").read_bytes())

    def write(folder: Path) -> Path:
        generator = random.Random(seed)
        if kind == "manifest":
            changed = mutate_json(json.dumps(manifest).encode(), generator)
            return _save(folder, _make_plan(), changed)
        plan = b"vtrt" + mutate_bytes(_make_plan(), generator)[4:]
        plan = plan[:16] + struct.pack("<Q", len(plan)) + plan[24:]
        text = json.dumps({**manifest, "content_sha256": hashlib.sha256(plan).hexdigest()})
        return _save(folder, plan, text)

    return HostileFile(f"a changed {kind} with the seed {seed!r}", write)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield plans with extreme headers, special files, and manifests of all kinds."""
    for magic in (b"vtrt", b"ftrt", b"ptrt", b"VTRT", b"\0trt"):
        for size in (0, 1, 4, 63, 64, 65, 4096):
            yield make_file(_NAME, f"{magic!r} with {size} bytes", _make_plan(magic, 256)[:size])
    for stated in _INTEGERS:
        plan = _make_plan(stated_bytes=stated)
        yield make_file(_NAME, f"a stated size of {stated}", plan)
        yield _saved(f"a signed plan that states {stated} bytes", plan, _sign(plan))
    for description, make_text in list_manifests(make_manifest().to_json()):
        yield _saved(description, _make_plan(), make_text)
    yield _saved("not UTF-8", _make_plan(), b"\xff\xfe{}")
    other = _sign(_make_plan(b"ftrt"), tools={"tensorrt": "10"})
    yield _saved("a manifest of the other product", _make_plan(), other)
    for size_bytes in (3 * GIB, 2**40):
        plan = _make_plan(stated_bytes=size_bytes)
        writer = make_sparse_writer(_NAME, size_bytes, plan)
        yield HostileFile(f"a sparse plan of {size_bytes} bytes", writer)
    for name in (_NAME, f"{_NAME}.json"):
        for kind in ("pipe", "/dev/zero", "/proc/self/mem", "folder", "loop", "nothing"):
            yield HostileFile(f"{name} is {kind}", make_special_writer(_save_unsigned, name, kind))


def craft_with_signed(generator: random.Random) -> Iterator[HostileFile]:
    """Yield what `craft` yields, and signed plans with hostile texts, which `verify` accepts."""
    yield from craft(generator)
    yield _saved("a manifest of other tools", _make_plan(), _sign(_make_plan(), tools={"a": "1"}))
    hostile = {HOSTILE_TEXT: HOSTILE_TEXT}
    yield _saved("hostile tools", _make_plan(), _sign(_make_plan(), tools=hostile))


def _saved(description: str, plan: bytes, manifest: str | bytes | Callable[[], str]) -> HostileFile:
    def write(folder: Path) -> Path:
        return _save(folder, plan, manifest() if callable(manifest) else manifest)

    return HostileFile(description, write)


LOADERS = (
    Loader(
        "TensorRT: predict", predict, make_samples, craft_with_signed, mutate_sample=mutate_sample
    ),
    Loader("TensorRT: verify", verify_artifact, make_samples, craft, must_refuse=True),
    Loader(
        "TensorRT: inspect",
        artifact_commands.inspect,
        make_samples,
        craft_with_signed,
        mutate_sample=mutate_sample,
    ),
)
