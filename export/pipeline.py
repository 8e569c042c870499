"""The whole road: checkpoint -> folded network -> traced graph -> artifact -> checked artifact, for one target or several.

Every artifact is opened by its own engine and held against the torch model before it is handed over.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tinyvit import __version__, golden
from tinyvit import labels as label_sets
from tinyvit.bench.latency import Timing, alternate
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.export import targets
from tinyvit.export.graph import BATCH, DEFAULT_OPSET, INPUT, OUTPUT, Graph, trace
from tinyvit.files import publish, refuse_existing, staging
from tinyvit.labels import Label
from tinyvit.manifest import Golden, Manifest, Parity, Source, Stage, TensorSpec
from tinyvit.nn.checkpoint import Checkpoint, load
from tinyvit.nn.fold import fold
from tinyvit.nn.hub import load_released
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.base import Runtime
from tinyvit.runtimes.registry import open_runtime
from tinyvit.runtimes.verify import compare, golden_batch
from tinyvit.variants import DEFAULT_MODEL, DEMO_MODEL, RELEASED, find

RELATIVE_TOLERANCE: dict[Stage, float] = {"host": 1e-3, "normalize": 1e-3, "full": 1e-2}
"""Of the largest logit (1 at least): how far a float32 engine may be from the torch model. Engines differ by about 1e-5,
and where they resize, by what one of 255 levels in a few pixels makes."""

ROUNDS, BUDGET_S = 8, 2.0
"""How many turns, and for how many seconds at most, artifact and torch are timed."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """One artifact made, and what was measured of it on this machine.

    size_bytes counts all its files. engine_ms and torch_ms are alternating runs of the network alone, for `batch` images:
    the artifact in its engine, and the same network in eager torch.
    """

    path: Path
    manifest: Manifest
    files: tuple[Path, ...]
    size_bytes: int
    engine: dict[str, str | int]
    engine_ms: Timing
    torch_ms: Timing


@dataclass(frozen=True)
class Failed:
    """A target asked for, and why it was not made."""

    target: str
    error: Exception


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
    progress: Progress | None = None,
) -> tuple[list[Exported], list[Failed]]:
    """Make an artifact for each target from a released model's name or a checkpoint file; without either, from DEFAULT_MODEL.

    target: names or aliases, or "all", which passes over those whose tools are not installed. output: a file for one
    target, a folder for several (or any folder that exists); by default the current folder, named after the model.
    Returns what was made, and what was asked for and could not be (its tools are missing); with one target the error is
    raised instead. Raises TinyViTError; nothing is left behind then.
    """
    report = progress or (lambda _: None)
    wanted, every = _targets(target)
    if preprocess == "full" and (dynamic_batch or batch != 1):
        raise RequestError(
            "--preprocess full takes one picture at a time, of any size",
            "leave out --batch and --dynamic-batch, or use --preprocess normalize",
        )
    if not 1 <= batch <= 4096 or (dynamic_batch and batch != 1):
        raise RequestError("the batch is not clear", "give --batch of 1 to 4096, or --dynamic-batch alone")
    paths = _output_paths(output, wanted, _stem(model, checkpoint, img_size), overwrite, several=every or len(wanted) > 1)

    report("reading the checkpoint")
    source = _load(model, checkpoint)
    source = source.at_size(img_size) if img_size else source
    names = _labels(labels, source)
    original = source.build()
    report(f"tracing {source.variant.name}, {source.num_classes} classes, {source.img_size} x {source.img_size}")
    folded = fold(original)
    graph = trace(folded, batch=None if dynamic_batch else batch, opset=opset)
    draft = _draft(source, names, graph, preprocess, original)

    made: list[Exported] = []
    failed: list[Failed] = []
    for one, path in zip(wanted, paths):
        report(f"making and checking {one.name}")
        try:
            made.append(_make(one, graph, draft, path, folded, overwrite))
        except MissingDependencyError as error:
            if len(wanted) == 1 and not every:
                raise
            failed.append(Failed(one.name, error))
    return made, failed


def _targets(target: str | Sequence[str]) -> tuple[list[targets.Target], bool]:
    asked = [target] if isinstance(target, str) else list(target)
    if not asked:
        raise RequestError("no target was asked for", f"use --target {' or '.join(targets.names())} or all")
    every = "all" in asked
    found = [targets.get(name) for name in (targets.names() if every else asked)]
    return list({one.name: one for one in found}.values()), every


def _load(model: str | None, checkpoint: str | Path | None) -> Checkpoint:
    if model is not None and checkpoint is not None:
        raise RequestError("both a model's name and a checkpoint file were given", "give one of --model and --checkpoint")
    return load(Path(checkpoint)) if checkpoint is not None else load_released(model or DEFAULT_MODEL)


def _stem(model: str | None, checkpoint: str | Path | None, img_size: int | None) -> str:
    if checkpoint is not None:
        stem, size = Path(checkpoint).stem, None
    elif model == DEMO_MODEL:
        stem, size = DEMO_MODEL, 224
    else:
        released = find(model or DEFAULT_MODEL)
        tag = released.name.split(".")[1]
        stem = released.variant.short_name + ("" if released is RELEASED[f"{released.variant.name}.dist_in22k_ft_in1k"] else f".{tag}")
        size = released.variant.img_size
    return stem if img_size in (None, size) else f"{stem}_{img_size}"


def _output_paths(output: str | Path | None, wanted: list[targets.Target], stem: str, overwrite: bool, several: bool) -> list[Path]:
    place = Path(output) if output is not None else Path(".")
    is_folder = several or output is None or place.is_dir() or str(output).endswith("/")
    if is_folder and place.exists() and not place.is_dir():
        raise RequestError(f"{place} is a file, and several targets go into a folder", "give -o a folder")
    if not is_folder and place.suffix != wanted[0].suffix:
        raise RequestError(f"-o {place} does not end with {wanted[0].suffix}", f"name it {place.with_suffix(wanted[0].suffix)}")
    paths = [place / f"{stem}{one.suffix}" if is_folder else place for one in wanted]
    for path in paths:
        refuse_existing(path, overwrite)
    return paths


def _labels(given: str | Path | Sequence[str] | None, source: Checkpoint) -> tuple[Label, ...]:
    if given is None:
        return source.labels or label_sets.numbered(source.num_classes)
    named = label_sets.read(Path(given)) if isinstance(given, (str, Path)) else tuple(Label(name) for name in given)
    if len(named) != source.num_classes:
        raise RequestError(
            f"{len(named)} labels were given and the model has {source.num_classes} classes",
            "give one label a class, in the order of the classifier's rows",
        )
    return named


def _draft(source: Checkpoint, names: tuple[Label, ...], graph: Graph, stage: Stage, original: TinyViT) -> Manifest:
    """The manifest but for what depends on the target."""
    size, batch = graph.img_size, graph.batch or BATCH
    shapes: dict[Stage, TensorSpec] = {
        "host": TensorSpec(INPUT, (batch, 3, size, size), "float32", "NCHW"),
        "normalize": TensorSpec(INPUT, (batch, size, size, 3), "uint8", "NHWC"),
        "full": TensorSpec(INPUT, (1, "height", "width", 3), "uint8", "NHWC"),
    }
    return Manifest(
        model=source.name,
        variant=source.variant.name,
        img_size=size,
        target="",
        precision="float32",
        stage=stage,
        input=shapes[stage],
        output=TensorSpec(OUTPUT, (batch, graph.num_classes), "float32", "NC"),
        preprocess=source.preprocess,
        labels=names,
        source=Source(source.name, source.sha256),
        licence=source.licence,
        tools={},
        golden=_golden(original, source.preprocess, stage),
    )


def _golden(original: TinyViT, preprocess: Preprocess, stage: Stage) -> Golden:
    """What the network that came out of the checkpoint, before folding and tracing, answers to the golden inputs."""
    size = original.img_size
    height, width = (size * 5 // 4, size * 3 // 2) if stage == "full" else (size, size)
    logits = np.concatenate([_answer(original, preprocess, stage, golden.pattern(s, height, width)) for s in golden.PATTERNS])
    tolerance = RELATIVE_TOLERANCE[stage] * max(1.0, float(np.abs(logits).max()))
    rows = tuple(tuple(float(f"{value:.7g}") for value in row) for row in logits)
    return Golden(golden.FORMULA, golden.PATTERNS, height, width, rows, float(f"{tolerance:.3g}"))


def _answer(original: TinyViT, preprocess: Preprocess, stage: Stage, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    import torch
    from PIL import Image

    network_input = preprocess(Image.fromarray(picture)) if stage == "full" else preprocess.normalise(picture)
    with torch.no_grad():
        logits: npt.NDArray[np.float32] = original(torch.from_numpy(network_input)[None]).numpy()
    return logits


def _make(target: targets.Target, graph: Graph, draft: Manifest, path: Path, folded: TinyViT, overwrite: bool) -> Exported:
    lowered = target.lower(graph, draft.preprocess, draft.stage)
    versions = {name: metadata.version(name) for name in target.tools}
    assert draft.golden is not None
    expected = draft.golden
    manifest = replace(draft, target=target.name, tools={"tinyvit-edge": __version__, **versions})
    try:
        with staging(path) as folder:
            staged = folder / path.name
            lowered.save(staged, manifest)
            manifest = replace(manifest, content_sha256=content_sha256(staged))
            with open_runtime(Artifact(staged, manifest)) as runtime:
                manifest = replace(manifest, parity=_parity(runtime, manifest, expected))
                engine, timings = runtime.describe(), _time(runtime, manifest, expected, folded)
            files = lowered.save(staged, manifest)
            size = sum(file.stat().st_size for file in files)
            refuse_existing(path, overwrite)  # another export may have been quicker
            placed = publish(files, path.parent)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else error.strerror or str(error)
        raise RequestError(f"{path} cannot be written ({reason})", "free space there, or give another -o") from error
    return Exported(path, manifest, tuple(placed), size, engine, timings["engine"], timings["torch"])


def _parity(runtime: Runtime, manifest: Manifest, expected: Golden) -> Parity:
    """Hold the artifact against the torch model. Raises ArtifactError where it is another function."""
    results = compare(runtime, manifest, expected)
    worst = max(result.max_abs_diff for result in results)
    engine = str(runtime.describe()["engine"])
    if not all(result.max_abs_diff <= expected.tolerance for result in results):
        cause = f"the {manifest.target} artifact does not equal the torch model: in {engine}, logits differ by {worst:.2g}"
        raise ArtifactError(cause, "report this, with the model's variant and what pip list shows")
    return Parity(float(f"{worst:.1e}"), "torch, before folding", engine)


def _time(runtime: Runtime, manifest: Manifest, expected: Golden, folded: TinyViT) -> dict[Literal["engine", "torch"], Timing]:
    """The artifact in its engine and the network in eager torch, in turn, on one batch."""
    import torch

    batch = golden_batch(manifest, expected, 0)
    tensor = torch.zeros(len(batch), 3, manifest.img_size, manifest.img_size)
    with torch.inference_mode():
        runs: dict[str, Callable[[], object]] = {"engine": lambda: runtime.run(batch), "torch": lambda: folded(tensor)}
        timed = alternate(runs, rounds=ROUNDS, warmup=2, budget_s=BUDGET_S, block=4)
    return {"engine": timed["engine"], "torch": timed["torch"]}
