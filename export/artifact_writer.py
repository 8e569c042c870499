"""Writes one artifact: lowers the network, saves it, checks its logits, and moves it into place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from tinyvit import __version__
from tinyvit.export.checks.baseline_timing import QuietPeriod, SpeedComparison, compare_with_torch
from tinyvit.export.checks.parity import measure_parity, open_for_parity
from tinyvit.export.int8.search_outcome import SearchOutcome
from tinyvit.export.network_preparation import PreparedNetwork
from tinyvit.export.targets import LoweredModel, Target, adapt_input_to_target
from tinyvit.export.tracing import explain_tool_errors
from tinyvit.files.file_io import publish_files, refuse_existing, size_bytes
from tinyvit.files.staging import staging_folder
from tinyvit.manifest import Manifest
from tinyvit.progress import NullProgress, Progress
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.base import Runtime, RuntimeInfo
from tinyvit.runtimes.golden_comparison import make_golden_batch

_STAGES = ("converted", "written", "checked", "timed")
"""What happens to an artifact, in this order."""

_CALIBRATION_TOOL = "torchao"
"""The package whose observers determine the scales of a calibrated network."""


@dataclass(frozen=True)
class ExportedArtifact:
    """An artifact that was written, and what was measured on this machine.

    Attributes:
        path: The file to open; a folder for formats that are folders.
        manifest: The manifest in the artifact.
        files: All files of the artifact, `path` last.
        size_bytes: Size of all files.
        engine: The engine that computed the logits for the check; the target's own engine if that
            runs on this machine.
        speed: Latency of one batch, and of the baseline, on one thread each. The baseline is the
            same network in eager torch for float32, and the float32 artifact in the same engine for
            other precisions. None if the target's engine does not run on this machine.
        search: How the int8 network was found; None for other precisions.
        notes: Facts that a user should know; see `Checkpoint.notes` and `LoweredModel.notes`.
    """

    path: Path
    manifest: Manifest = field(repr=False)
    files: tuple[Path, ...]
    size_bytes: int
    engine: RuntimeInfo
    speed: SpeedComparison | None
    search: SearchOutcome | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()


def write_artifact(
    target: Target,
    network: PreparedNetwork,
    path: Path,
    overwrite: bool,
    progress: Progress = NullProgress(),
    quiet: QuietPeriod = nullcontext,
) -> ExportedArtifact:
    """Write an artifact, and check it before it is published.

    The artifact is saved in a staging folder, opened and measured there, saved again with the
    measurements in its manifest, and only then moved to its final path.

    Args:
        target: The target.
        network: The network that was prepared for this target.
        path: The file to write.
        overwrite: Whether existing files are replaced.
        progress: Receives the number of finished stages.
        quiet: Makes the context in which latency is measured.

    Returns:
        The artifact.

    Raises:
        ArtifactError: A tool failed, or the artifact's logits differ from the network's.
        RequestError: The target does not offer what is requested, or a file exists already.
        OSError: A file cannot be written. Nothing is left behind then.
    """
    report_stage = _make_stage_reporter(target, progress)
    lowered = _lower(target, network)
    report_stage("converted")
    manifest = _complete_manifest(target, network)
    with staging_folder(path) as folder:
        staged = folder / path.name
        _save(lowered, staged, manifest)
        report_stage("written")
        # The hash covers the network and not the manifest, so it stays valid when the artifact is
        # saved again with the complete manifest.
        manifest = replace(manifest, content_sha256=content_sha256(staged))
        manifest = lowered.add_to_manifest(manifest)
        with open_for_parity(target, Artifact(staged, manifest), network.graph) as runtime:
            manifest = replace(manifest, parity=measure_parity(runtime, manifest))
            report_stage("checked")
            engine = runtime.describe()
            speed = _measure_speed(target, network, runtime, manifest, quiet)
        report_stage("timed")
        files = _save(lowered, staged, manifest)
        total_bytes = sum(map(size_bytes, files))
        published = _publish(files, path.parent, overwrite)
    return ExportedArtifact(
        path=path,
        manifest=manifest,
        files=tuple(published),
        size_bytes=total_bytes,
        engine=engine,
        speed=speed,
        search=None if network.candidate is None else network.candidate.outcome,
        notes=(*network.notes, *lowered.notes(manifest.precision)),
    )


def _publish(files: list[Path], folder: Path, overwrite: bool) -> list[Path]:
    """Move files into a folder, and return their paths there."""
    for file in files:
        # This was checked before the export began, but another export may have written since.
        refuse_existing(folder / file.name, overwrite)
    return publish_files(files, folder)


def _make_stage_reporter(target: Target, progress: Progress) -> Callable[[str], None]:
    """Return a function that reports one of `_STAGES` as finished."""

    def report(stage: str) -> None:
        done = _STAGES.index(stage) + 1
        progress.advance(f"making {target.name}, steps", done, len(_STAGES))

    progress.advance(f"making {target.name}, steps", 0, len(_STAGES))
    return report


def _lower(target: Target, network: PreparedNetwork) -> LoweredModel:
    """Lower the network for the target.

    The search for an int8 network has lowered it already, but without preprocessing. That model is
    reused if the artifact has no preprocessing either (embedded preprocessing "host").
    """
    manifest, candidate = network.manifest, network.candidate
    if (
        manifest.embedded_preprocessing == "host"
        and candidate is not None
        and candidate.lowered is not None
    ):
        return candidate.lowered
    with explain_tool_errors(f"making the {target.name} artifact"):
        return target.lower(
            network.graph, manifest.preprocess, manifest.embedded_preprocessing, manifest.precision
        )


def _complete_manifest(target: Target, network: PreparedNetwork) -> Manifest:
    """Add the target, the tools' versions and the target's input layout to the manifest."""
    candidate, tools = network.candidate, list(target.tools)
    if candidate is not None and not candidate.outcome.recipe.weights_only:
        tools.append(_CALIBRATION_TOOL)
    versions = {name: metadata.version(name) for name in tools}
    return replace(
        network.manifest,
        target=target.name,
        tools={"tinyvit-edge": __version__, **versions},
        input=adapt_input_to_target(network.manifest.input, target),
    )


def _save(lowered: LoweredModel, path: Path, manifest: Manifest) -> list[Path]:
    with explain_tool_errors(f"writing {path.name}"):
        return lowered.save(path, manifest)


def _measure_speed(
    target: Target,
    network: PreparedNetwork,
    runtime: Runtime,
    manifest: Manifest,
    quiet: QuietPeriod,
) -> SpeedComparison | None:
    """Compare a float32 artifact with eager torch.

    An artifact of another precision has no `torch_baseline`. It was compared with the float32
    artifact when the network was prepared, and that comparison is returned: `network.speed`. It is
    None for a float32 network, and if the target's engine does not run on this machine.
    """
    if target.parity_method != "engine" or network.torch_baseline is None:
        return network.speed
    assert manifest.golden is not None
    batch = make_golden_batch(manifest, manifest.golden, index=0)
    with quiet():
        return compare_with_torch(runtime, batch, network.torch_baseline)
