"""The whole road: checkpoint -> folded network -> traced graph -> artifact -> checked artifact, for one target or several.

Every artifact is opened by its own engine and held against the torch model before it is handed over.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from tinyvit import __version__
from tinyvit.bench.latency import Timing, alternate
from tinyvit.bench.machine import cpu_facts
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.export.draft import draft_manifest, golden_vectors
from tinyvit.export.graph import DEFAULT_OPSET, Graph, in_one_line, trace
from tinyvit.export.int8 import Quantized, Workshop, within_budget
from tinyvit.export.request import Request, check, unwritable
from tinyvit.export.targets import Lowered, Target
from tinyvit.files import publish, refuse_existing, staging
from tinyvit.labels import Label, numbered
from tinyvit.manifest import Manifest, Parity, Stage
from tinyvit.nn.checkpoint import Checkpoint, load
from tinyvit.nn.fold import fold
from tinyvit.nn.hub import load_released
from tinyvit.nn.model import TinyViT
from tinyvit.quant.network import exact
from tinyvit.quant.prepare import Int8, Prepared, prepare
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.base import Options, Runtime
from tinyvit.runtimes.registry import open_runtime
from tinyvit.runtimes.verify import compare, golden_batch
from tinyvit.variants import DEFAULT_MODEL

ROUNDS, BUDGET_S = 12, 2.0
"""How many turns, and for how many seconds at most, artifact and torch are timed."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """One artifact made, and what was measured of it on this machine.

    size_bytes counts all its files. engine_ms and baseline_ms are alternating runs on one thread, for `batch` images: the
    artifact in its engine, and `baseline`: in float32 the same network in eager torch, in int8 the float32 network in that
    engine. quantized: how the int8 network came about.
    """

    path: Path
    manifest: Manifest
    files: tuple[Path, ...]
    size_bytes: int
    engine: dict[str, str | int]
    engine_ms: Timing
    baseline_ms: Timing
    baseline: str
    quantized: Quantized | None = None


@dataclass(frozen=True)
class Failed:
    """A target asked for, and why it was not made."""

    target: str
    error: Exception


@dataclass(frozen=True)
class _Source:
    """The checkpoint as every target needs it: the network before folding and after, and the latter traced."""

    checkpoint: Checkpoint
    labels: tuple[Label, ...]
    original: TinyViT
    folded: TinyViT
    graph: Graph


@dataclass(frozen=True)
class _Lowerable:
    """What one artifact is made from: the traced graph, what the artifact will say, and how it is timed (None: measured already)."""

    graph: Graph
    draft: Manifest
    rival: TinyViT | None
    quantized: Quantized | None = None


def export(
    model: str | None = None,
    checkpoint: str | Path | None = None,
    *,
    target: str | Sequence[str] = "onnx",
    img_size: int | None = None,
    batch: int = 1,
    dynamic_batch: bool = False,
    preprocess: Stage = "host",
    labels: str | Path | Sequence[str] | None = None,
    output: str | Path | None = None,
    opset: int = DEFAULT_OPSET,
    overwrite: bool = False,
    int8: Int8 | None = None,
    progress: Progress | None = None,
) -> tuple[list[Exported], list[Failed]]:
    """Make an artifact for each target from a released model's name or a checkpoint file; without either, from DEFAULT_MODEL.

    target: names or aliases, or "all", which passes over those whose tools are not installed. output: a file for one
    target, a folder for several (or any folder that exists); by default the current folder, named after the model.
    Returns what was made, and what was asked for and could not be (its tools are missing); with one target the error is
    raised instead. int8: quantize, as it says. Raises TinyViTError; nothing is left behind then.
    """
    request = check(
        model,
        checkpoint,
        target=target,
        img_size=img_size,
        batch=batch,
        dynamic_batch=dynamic_batch,
        preprocess=preprocess,
        labels=labels,
        output=output,
        opset=opset,
        overwrite=overwrite,
        int8=int8,
    )
    return _make_all(request, progress or (lambda _: None))


def _read(request: Request, report: Progress) -> _Source:
    report("reading the checkpoint")
    source = load(request.checkpoint) if request.checkpoint else load_released(request.model or DEFAULT_MODEL)
    source = source.at_size(request.img_size or source.img_size)
    labels = _labels(request, source)
    original = source.build()
    report(f"tracing {source.variant.name}, {source.num_classes} classes, {source.img_size} x {source.img_size}")
    folded = fold(original)
    return _Source(source, labels, original, folded, trace(folded, batch=request.batch, opset=request.opset))


def _labels(request: Request, source: Checkpoint) -> tuple[Label, ...]:
    named = request.labels or source.labels or numbered(source.num_classes)
    if len(named) != source.num_classes:
        raise RequestError(
            f"{len(named)} labels were given and the model has {source.num_classes} classes",
            "give one label a class, in the order of the classifier's rows",
        )
    return named


def _make_all(request: Request, report: Progress) -> tuple[list[Exported], list[Failed]]:
    source = _read(request, report)
    what = _quantizer(request, request.int8, source, report) if request.int8 else _float32(request, source)
    made: list[Exported] = []
    failed: list[Failed] = []
    for target, path in zip(request.targets, request.paths):
        report(f"making and checking {target.name}")
        try:
            made.append(_make(target, what(target), path, request.overwrite))
        except MissingDependencyError as error:
            if request.alone:
                raise
            failed.append(Failed(target.name, error))
        except OSError as error:
            raise unwritable(path, error) from error
    return made, failed


def _float32(request: Request, source: _Source) -> Callable[[Target], _Lowerable]:
    """The same for every target."""
    draft = draft_manifest(source.checkpoint, source.labels, request.batch, request.stage)
    lowerable = _Lowerable(source.graph, replace(draft, golden=golden_vectors(source.original, draft)), source.folded)
    return lambda _: lowerable


def _quantizer(request: Request, asked: Int8, source: _Source, report: Progress) -> Callable[[Target], _Lowerable]:
    """One calibration, and a network of its own for every target."""
    prepared = prepare(asked, source.checkpoint, source.labels, source.original, source.folded, report)
    return lambda target: _int8(request, prepared, source, target, report)


def _int8(request: Request, prepared: Prepared, source: _Source, target: Target, report: Progress) -> _Lowerable:
    asked = prepared.asked
    basis = source.checkpoint, source.labels, request.batch
    with tempfile.TemporaryDirectory(prefix="tinyvit-int8-") as folder:
        shop = Workshop(Path(folder), target, source.folded, source.graph, draft_manifest(*basis, "host"))
        quantized = within_budget(shop, prepared, report)
    if asked.min_speedup is not None and quantized.speedup < asked.min_speedup:
        cause = f"int8 is {quantized.speedup:.2f} times as fast as float32 here ({cpu_facts()}), and {asked.min_speedup} were asked for"
        raise RequestError(cause, "keep float32 here, or leave out --min-speedup where the device is another processor")
    draft = draft_manifest(*basis, request.stage, "int8")
    record = quantized.record(asked.cpu, cpu_facts(), forced=not quantized.worth.within(asked.budget))
    draft = replace(draft, golden=golden_vectors(exact(quantized.network), draft), quantization=record)
    return _Lowerable(quantized.graph, draft, None, quantized)


def _make(target: Target, what: _Lowerable, path: Path, overwrite: bool) -> Exported:
    """Lower, save, check and time in the target's own engine, save again with what was found, and only then publish."""
    draft = what.draft
    with in_one_line(f"making the {target.name} artifact"):
        lowered = target.lower(what.graph, draft.preprocess, draft.stage)
    tools = target.tools if what.quantized is None else (*target.tools, "torchao")
    versions = {name: metadata.version(name) for name in tools}
    manifest = replace(draft, target=target.name, tools={"tinyvit-edge": __version__, **versions})
    with staging(path) as folder:
        staged = folder / path.name
        _save(lowered, staged, manifest)
        manifest = replace(manifest, content_sha256=content_sha256(staged))
        with open_runtime(Artifact(staged, manifest), None, Options(threads=1)) as runtime:
            manifest = replace(manifest, parity=_parity(runtime, manifest))
            engine, (engine_ms, baseline_ms, baseline) = runtime.describe(), _timings(runtime, manifest, what)
        files = _save(lowered, staged, manifest)
        size = sum(file.stat().st_size for file in files)
        for file in files:
            refuse_existing(path.with_name(file.name), overwrite)  # another export may have been quicker
        placed = publish(files, path.parent)
    return Exported(path, manifest, tuple(placed), size, engine, engine_ms, baseline_ms, baseline, what.quantized)


def _timings(runtime: Runtime, manifest: Manifest, what: _Lowerable) -> tuple[Timing, Timing, str]:
    if what.quantized is not None:
        return what.quantized.int8_ms, what.quantized.float_ms, f"float32 in {runtime.describe()['engine']}"
    assert what.rival is not None
    return *_time(runtime, manifest, what.rival), "eager torch"


def _save(lowered: Lowered, path: Path, manifest: Manifest) -> list[Path]:
    with in_one_line(f"writing {path.name}"):
        return lowered.save(path, manifest)


def _parity(runtime: Runtime, manifest: Manifest) -> Parity:
    """Hold the artifact against the torch model. Raises ArtifactError where it is another function."""
    expected = manifest.golden
    assert expected is not None
    results = compare(runtime, manifest, expected)
    worst = max(result.max_abs_diff for result in results)
    engine = str(runtime.describe()["engine"])
    if not all(result.max_abs_diff <= expected.tolerance for result in results):
        cause = f"the {manifest.target} artifact does not equal {_against(manifest)}: in {engine}, logits differ by {worst:.2g}"
        raise ArtifactError(cause, "report this, with the model's variant and what pip list shows")
    return Parity(float(f"{worst:.1e}"), _against(manifest), engine)


def _against(manifest: Manifest) -> str:
    return "torch, before folding" if manifest.quantization is None else "the quantized network, computed exactly"


def _time(runtime: Runtime, manifest: Manifest, folded: TinyViT) -> tuple[Timing, Timing]:
    """The artifact in its engine and the network in eager torch, in turn, on one batch and one thread each.

    With more threads, torch's wait for one another hundreds of times a run: where anything else runs on the machine, that
    multiplies its time by 2 to 50 and the engine's by 2. On one thread both slow down alike (docs/performance.md).
    """
    import torch

    assert manifest.golden is not None
    batch = golden_batch(manifest, manifest.golden, 0)
    tensor = torch.zeros(len(batch), 3, manifest.img_size, manifest.img_size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            runs: dict[str, Callable[[], object]] = {"engine": lambda: runtime.run(batch), "torch": lambda: folded(tensor)}
            timed = alternate(runs, rounds=ROUNDS, warmup=2, budget_s=BUDGET_S, block=2)
    finally:
        torch.set_num_threads(threads)
    return timed["engine"], timed["torch"]
