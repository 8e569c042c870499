"""The whole road: checkpoint -> folded network -> traced graph -> artifact -> checked artifact, for one target or several.

Every artifact is opened by its own engine and held against the torch model before it is handed over.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from tinyvit import __version__
from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.machine import describe_cpu
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError, TinyViTError
from tinyvit.export.baseline_timing import beside_float32, beside_torch
from tinyvit.export.budget_search import (
    QuantizedCandidate,
    SharedMeasurements,
    Workspace,
    search_within_budget,
)
from tinyvit.export.config import ExportConfig, check_request, unwritable
from tinyvit.export.manifest_builder import build_manifest, make_golden_vectors
from tinyvit.export.parity import measurable, opened, require
from tinyvit.export.targets import LoweredModel, Target, input_for_target, unsupported_error
from tinyvit.export.tracing import DEFAULT_OPSET, Graph, in_one_line, trace
from tinyvit.files import publish_files, refuse_existing, size_bytes, staging_folder
from tinyvit.labels import Label, numbered_labels
from tinyvit.manifest import Manifest, Parity, PreprocessStage
from tinyvit.nn.checkpoint import Checkpoint, load_checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.nn.model import TinyViT
from tinyvit.quant.quantized_network import with_exact_arithmetic
from tinyvit.quant.quantizer import PreparedQuantization, QuantizationConfig, prepare_quantization
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.base import Runtime
from tinyvit.runtimes.verify import compare_golden, golden_batch
from tinyvit.variants import DEFAULT_MODEL

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportedArtifact:
    """One artifact made, and what was measured of it on this machine.

    size_bytes counts all its files. engine is what its logits were held against the network's in, its own where that runs here. engine_ms
    and baseline_ms, None where it does not, are alternating runs on one thread, for `batch` images: the artifact in its engine, and
    `baseline`: in float32 the same network in eager torch, in other precisions the float32 network in that engine. quantized: how the int8
    network came about. notes: see `LoweredModel`.
    """

    path: Path
    manifest: Manifest
    files: tuple[Path, ...]
    size_bytes: int
    engine: dict[str, str | int]
    engine_ms: Timing | None
    baseline_ms: Timing | None
    baseline: str
    quantized: QuantizedCandidate | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FailedTarget:
    """A target asked for, and why it was not made. absent: its tools are not installed, or it does not offer what was asked."""

    target: str
    error: TinyViTError
    absent: bool


@dataclass(frozen=True)
class _Source:
    """The checkpoint as every target needs it: the network before folding and after, and the latter traced."""

    checkpoint: Checkpoint
    labels: tuple[Label, ...]
    original: TinyViT
    folded: TinyViT
    graph: Graph


@dataclass(frozen=True)
class _ReportProgress:
    """Progress that passes its messages on to a callable."""

    report: Progress

    def message(self, text: str) -> None:
        """Pass a message on."""
        self.report(text)

    def advance(self, description: str, done: int, total: int) -> None:
        """Pass every quarter on."""
        if done < total and 4 * done // total != 4 * (done - 1) // total:
            self.report(f"{description}: {25 * (4 * done // total)}%")


@dataclass(frozen=True)
class _Lowerable:
    """What one artifact is made from: the traced graph, what the artifact will say, and what it is timed beside: the network in
    torch, or float32 in its engine, which was measured already, or nothing where its engine does not run here."""

    graph: Graph
    draft: Manifest
    rival: TinyViT | tuple[Timing, Timing] | None
    quantized: QuantizedCandidate | None = None


def export(
    model: str | None = None,
    checkpoint: str | Path | None = None,
    *,
    target: str | Sequence[str] = "onnx",
    img_size: int | None = None,
    batch: int = 1,
    dynamic_batch: bool = False,
    preprocess: PreprocessStage = "host",
    labels: str | Path | Sequence[str] | None = None,
    output: str | Path | None = None,
    opset: int = DEFAULT_OPSET,
    overwrite: bool = False,
    float16: bool = False,
    int8: QuantizationConfig | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[list[ExportedArtifact], list[FailedTarget]]:
    """Make an artifact for each target from a released model's name or a checkpoint file; without either, from DEFAULT_MODEL.

    target: names or aliases, or "all", which passes over those whose tools are not installed. output: a file for one
    target, a folder for several (or any folder that exists); by default the current folder, named after the model.
    Returns what was made, and what was asked for and could not be (its tools are missing); with one target the error is
    raised instead. half: 16 bits, for the targets that gain from it. int8: quantize, as it says. options: of single targets, by name
    (`targets.Option`). Raises TinyViTError; nothing is left behind then.
    """
    request = check_request(
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
        float16=float16,
        int8=int8,
        options=options or {},
    )
    return _make_all(request, progress or (lambda _: None))


def _read(request: ExportConfig, report: Progress) -> _Source:
    report("reading the checkpoint")
    source = (
        load_checkpoint(request.checkpoint)
        if request.checkpoint
        else load_released(request.model or DEFAULT_MODEL)
    )
    source = source.at_size(request.img_size or source.img_size)
    labels = _labels(request, source)
    original = source.build()
    report(
        f"tracing {source.variant.name}, {source.num_classes} classes, {source.img_size} x {source.img_size}"
    )
    folded = fold_model(original)
    return _Source(
        source, labels, original, folded, trace(folded, batch=request.batch, opset=request.opset)
    )


def _labels(request: ExportConfig, source: Checkpoint) -> tuple[Label, ...]:
    named = request.labels or source.labels or numbered_labels(source.num_classes)
    if len(named) != source.num_classes:
        raise RequestError(
            f"{len(named)} labels were given and the model has {source.num_classes} classes",
            "give one label a class, in the order of the classifier's rows",
        )
    return named


def _make_all(
    request: ExportConfig, report: Progress
) -> tuple[list[ExportedArtifact], list[FailedTarget]]:
    source = _read(request, report)
    what = _maker(request, source, report)
    made: list[ExportedArtifact] = []
    failed: list[FailedTarget] = []
    for target, path in zip(request.targets, request.paths):
        if (
            refused := unsupported_error(target, request.precision, request.stage, request.batch)
        ) is not None:
            failed.append(FailedTarget(target.name, refused, absent=True))
            continue
        try:
            require(target)
            report(f"making and checking {target.name}")
            made.append(_make(target, what(target), path, request.overwrite))
        except TinyViTError as error:
            if request.alone:
                raise
            failed.append(
                FailedTarget(target.name, error, absent=isinstance(error, MissingDependencyError))
            )
        except OSError as error:
            raise unwritable(path, error) from error
    return made, failed


def _maker(
    request: ExportConfig, source: _Source, report: Progress
) -> Callable[[Target], _Lowerable]:
    """What to lower for a target: in int8 a network of its own after one calibration, else the same for all of them."""
    if request.int8 is not None:
        prepared = prepare_quantization(
            request.int8,
            source.checkpoint,
            source.labels,
            source.original,
            source.folded,
            _ReportProgress(report),
        )
        measured = SharedMeasurements()
        return lambda target: _int8(request, prepared, source, target, measured, report)
    draft = build_manifest(
        source.checkpoint, source.labels, request.batch, request.stage, request.precision
    )
    draft = replace(draft, golden=make_golden_vectors(source.original, draft))
    if request.precision == "float32":
        return lambda _: _Lowerable(source.graph, draft, source.folded)
    return lambda target: _Lowerable(
        source.graph, draft, _beside_float32(request, source, target, report)
    )


def _workshop(
    request: ExportConfig, source: _Source, target: Target, folder: str, stands_in: bool = False
) -> Workspace:
    draft = build_manifest(source.checkpoint, source.labels, request.batch, "host")
    return Workspace(Path(folder), target, source.folded, source.graph, draft, stands_in)


def _beside_float32(
    request: ExportConfig, source: _Source, target: Target, report: Progress
) -> tuple[Timing, Timing] | None:
    """The same graph in the precision asked for, and in float32."""
    if target.proof != "engine":
        return None
    report(f"timing {request.precision} beside float32 in the {target.name} target's engine")
    with tempfile.TemporaryDirectory(prefix="tinyvit-") as folder:
        shop = _workshop(request, source, target, folder)
        return beside_float32(
            *(
                shop.save(shop.lower(source.graph), precision)
                for precision in (request.precision, "float32")
            )
        )


def _int8(
    request: ExportConfig,
    prepared: PreparedQuantization,
    source: _Source,
    target: Target,
    measured: SharedMeasurements,
    report: Progress,
) -> _Lowerable:
    asked, subject = prepared.config, measurable(target)
    runs_here = subject is target
    if not runs_here and asked.min_speedup is not None:
        raise RequestError(
            f"{target.name} files do not run on this machine: no speed can be a condition",
            "leave out --min-speedup",
        )
    quantized = None if runs_here else measured.stand_ins.get(subject.placement)
    if quantized is None:
        with tempfile.TemporaryDirectory(prefix="tinyvit-") as folder:
            quantized = search_within_budget(
                _workshop(request, source, subject, folder, not runs_here),
                prepared,
                measured,
                report,
            )
    if not runs_here:
        measured.stand_ins[subject.placement] = quantized
        quantized = quantized.placed(source.folded, target.placement)
    elif asked.min_speedup is not None and quantized.speedup < asked.min_speedup:
        cause = f"int8 is {quantized.speedup:.2f} times as fast as float32 here ({describe_cpu()}), and {asked.min_speedup} were asked for"
        raise RequestError(
            cause,
            "keep float32 here, or leave out --min-speedup where the device is another processor",
        )
    draft = build_manifest(
        source.checkpoint, source.labels, request.batch, request.stage, asked.precision
    )
    record = quantized.record(
        asked.cpu, describe_cpu(), forced=not asked.budget.allows(quantized.worth)
    )
    draft = replace(
        draft,
        golden=make_golden_vectors(with_exact_arithmetic(quantized.network), draft),
        quantization=record,
    )
    times = (
        None
        if quantized.int8_ms is None or quantized.float_ms is None
        else (quantized.int8_ms, quantized.float_ms)
    )
    return _Lowerable(quantized.graph, draft, times, quantized)


def _make(target: Target, what: _Lowerable, path: Path, overwrite: bool) -> ExportedArtifact:
    """Lower, save, check and time in the target's own engine, save again with what was found, and only then publish."""
    draft = what.draft
    with in_one_line(f"making the {target.name} artifact"):
        measured = (
            what.quantized.lowered if what.quantized is not None and draft.stage == "host" else None
        )
        lowered = measured or target.lower(what.graph, draft.preprocess, draft.stage)
    calibrated = what.quantized is not None and not what.quantized.recipe.weights_only
    tools = (*target.tools, "torchao") if calibrated else target.tools
    versions = {name: metadata.version(name) for name in tools}
    manifest = replace(
        draft,
        target=target.name,
        tools={"tinyvit-edge": __version__, **versions},
        input=input_for_target(draft.input, target),
    )
    with staging_folder(path) as folder:
        staged = folder / path.name
        _save(lowered, staged, manifest)
        manifest = lowered.recorded(replace(manifest, content_sha256=content_sha256(staged)))
        with opened(target, Artifact(staged, manifest), what.graph) as runtime:
            manifest = replace(manifest, parity=_parity(runtime, manifest))
            engine = runtime.describe()
            ours, theirs, baseline = (
                _timings(runtime, manifest, what) if target.proof == "engine" else (None, None, "")
            )
        files = _save(lowered, staged, manifest)
        size = sum(size_bytes(file) for file in files)
        for file in files:
            refuse_existing(
                path.with_name(file.name), overwrite
            )  # another export may have been quicker
        placed = publish_files(files, path.parent)
    return ExportedArtifact(
        path,
        manifest,
        tuple(placed),
        size,
        engine,
        ours,
        theirs,
        baseline,
        what.quantized,
        lowered.notes(draft.precision),
    )


def _timings(runtime: Runtime, manifest: Manifest, what: _Lowerable) -> tuple[Timing, Timing, str]:
    if isinstance(what.rival, tuple):
        return *what.rival, f"float32 in {runtime.describe()['engine']}"
    assert manifest.golden is not None
    assert what.rival is not None
    return *beside_torch(
        runtime, golden_batch(manifest, manifest.golden, 0), what.rival
    ), "eager torch"


def _save(lowered: LoweredModel, path: Path, manifest: Manifest) -> list[Path]:
    with in_one_line(f"writing {path.name}"):
        return lowered.save(path, manifest)


def _parity(runtime: Runtime, manifest: Manifest) -> Parity:
    """Hold the artifact against the torch model. Raises ArtifactError where it is another function."""
    expected = manifest.golden
    assert expected is not None
    results = compare_golden(runtime, manifest, expected)
    worst = max(result.max_abs_diff for result in results)
    engine = str(runtime.describe()["engine"])
    if not all(result.max_abs_diff <= expected.tolerance for result in results):
        cause = f"the {manifest.target} artifact does not equal {_against(manifest)}: in {engine}, logits differ by {worst:.2g}"
        raise ArtifactError(cause, "report this, with the model's variant and what pip list shows")
    return Parity(float(f"{worst:.1e}"), _against(manifest), engine)


def _against(manifest: Manifest) -> str:
    return (
        "torch, before folding"
        if manifest.quantization is None
        else "the quantized network, computed exactly"
    )
