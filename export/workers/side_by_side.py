"""Decides whether the artifacts of an export are made one after the other or side by side."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tinyvit.errors import RequestError
from tinyvit.export.artifact_writer import ExportedArtifact
from tinyvit.export.checks.parity import OnnxSubstitute
from tinyvit.export.export_results import FailedTarget, try_artifact
from tinyvit.export.network_preparation import FloatPreparer, NetworkPreparer, QuantizedPreparer
from tinyvit.export.plan import ExportPlan, PlannedArtifact
from tinyvit.export.source_network import SourceNetwork
from tinyvit.export.targets import get_target
from tinyvit.export.workers.shared_images import SharedImages, write_shared_images
from tinyvit.export.workers.target_processes import can_use_processes, make_in_processes
from tinyvit.export.workers.worker_messages import QuantizationSetup, WorkerSetup
from tinyvit.export.workspace import open_workspace
from tinyvit.files.staging import temporary_folder
from tinyvit.image_sizes import height_and_width
from tinyvit.nn.model import TinyViT
from tinyvit.processes.allocator import release_freed_memory
from tinyvit.processes.free_memory import measure_free_memory
from tinyvit.progress import Progress
from tinyvit.quant.images.pixel_source import MAX_CACHED_BYTES

MIN_GROUPS = 4
"""Number of groups of artifacts from which several processes are faster, if int8 is not measured: a
process takes as long to start as some targets take to make a file."""

_BASE_BYTES = 2**30
_BYTES_PER_PARAMETER = 60
_BYTES_PER_PIXEL = 8000
"""Memory of a process that makes artifacts (docs/lab-notes/engines.md, "Duration of the command").
"""


def make_artifacts(
    plan: ExportPlan,
    artifacts: Sequence[PlannedArtifact],
    source: SourceNetwork,
    preparer: NetworkPreparer,
    progress: Progress,
) -> Generator[ExportedArtifact | FailedTarget]:
    """Make artifacts, in several processes if that is requested, or is faster and memory suffices.

    With several processes, the network is deleted here. It uses no more memory if the caller does
    not keep it either.

    Args:
        plan: The plan of the export.
        artifacts: The artifacts of the plan that are to be made.
        source: The network to export.
        preparer: Prepares the network for each target.
        progress: Receives messages and counts.

    Yields:
        The artifacts, or why there is none, in any order.

    Raises:
        RequestError: Several processes are requested, and are not possible; or a file cannot be
            written.
        TinyViTError: A process had an unexpected error.
    """
    groups = group_artifacts(artifacts)
    measured = _find_measured(preparer)
    requested = plan.config.processes
    if requested is None and len(groups) < MIN_GROUPS and measured is None:
        requested = 1
    count = choose_process_count(requested, len(groups), source.folded)
    if count == 1 or not _fits_into_shared_files(measured):
        for planned in artifacts:
            yield try_artifact(planned, preparer, plan.config.overwrite, progress)
        return
    progress.message(f"making {len(artifacts)} files in {count} processes")
    with temporary_folder() as folder:
        images = None if measured is None else _share_images(measured, folder, progress)
        setup = _make_setup(plan, source, preparer, images)
        make_images = _get_image_factory(preparer)
        # The workers load the network themselves.
        del source, preparer, measured
        gc.collect()
        release_freed_memory()
        threads = max(1, torch.get_num_threads() // count)
        yield from make_in_processes(groups, setup, make_images, count, threads, progress)


def group_artifacts(artifacts: Sequence[PlannedArtifact]) -> list[tuple[PlannedArtifact, ...]]:
    """Divide artifacts into groups, each of which one process makes.

    Artifacts of one target are in one group. So are those of targets whose engines do not run on
    this machine, and whose accuracy is measured with the same ONNX file (`parity.OnnxSubstitute`).

    Args:
        artifacts: The artifacts.

    Returns:
        The groups, in the order of their first artifacts.
    """
    groups: dict[object, list[PlannedArtifact]] = {}
    for planned in artifacts:
        target = planned.target
        key: object = target.name
        if target.parity_method != "engine":
            key = OnnxSubstitute(target).scheme
        groups.setdefault(key, []).append(planned)
    return [tuple(group) for group in groups.values()]


def choose_process_count(requested: int | None, group_count: int, network: TinyViT) -> int:
    """Choose the number of processes that make artifacts at the same time.

    Args:
        requested: The number that was requested; None to choose it.
        group_count: Number of groups of artifacts that can be made at the same time.
        network: The network to export.

    Returns:
        The requested number, or one for each thread of torch as far as the free memory suffices;
        at most the number of groups.

    Raises:
        RequestError: Several processes are requested, which this system does not offer.
    """
    if requested is not None and requested > 1 and not can_use_processes():
        raise RequestError(
            f"--processes {requested} is not possible on Windows, which cannot pause processes"
            " while another one measures latency",
            "leave it out",
        )
    if group_count < 2 or not can_use_processes():
        return 1
    if requested is not None:
        return min(requested, group_count)
    affordable = measure_free_memory() // estimate_process_bytes(network)
    return max(1, min(torch.get_num_threads(), group_count, affordable))


def estimate_process_bytes(network: TinyViT) -> int:
    """Estimate the memory of a process that makes artifacts of a network.

    Args:
        network: The network.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    height, width = height_and_width(network.img_size)
    return _BASE_BYTES + _BYTES_PER_PARAMETER * parameters + _BYTES_PER_PIXEL * height * width


def _find_measured(preparer: NetworkPreparer) -> QuantizedPreparer | None:
    """Return the preparer if artifacts are compared with float32 on images, which takes long."""
    if isinstance(preparer, QuantizedPreparer) and preparer.quantization.is_measured:
        return preparer
    return None


def _fits_into_shared_files(measured: QuantizedPreparer | None) -> bool:
    """Return whether the images on which int8 is measured are few enough to be shared.

    With more images, most of the time is spent on measuring accuracy, for which one process already
    uses all cores.
    """
    if measured is None:
        return True
    height, width = height_and_width(measured.source.folded.img_size)
    return measured.quantization.count_images() * height * width * 3 <= MAX_CACHED_BYTES


def _make_setup(
    plan: ExportPlan, source: SourceNetwork, preparer: NetworkPreparer, images: SharedImages | None
) -> WorkerSetup:
    """Make the first message to the workers."""
    manifest = quantization = None
    if isinstance(preparer, FloatPreparer):
        manifest = preparer.manifest
    if isinstance(preparer, QuantizedPreparer):
        prepared = preparer.quantization
        quantization = QuantizationSetup(prepared.config, prepared.recipe, images)
    return WorkerSetup(plan, source.checkpoint.sha256, manifest, quantization)


def _get_image_factory(preparer: NetworkPreparer) -> Callable[[], Tensor] | None:
    """Return the function that makes the images on which layers are ranked; None for float32."""
    if isinstance(preparer, QuantizedPreparer):
        return preparer.quantization.make_sensitivity_images
    return None


def _share_images(preparer: QuantizedPreparer, folder: Path, progress: Progress) -> SharedImages:
    """Evaluate the float32 network, and write the images and its outputs into a folder."""
    quantization = preparer.quantization
    image_count = quantization.count_images()
    with open_workspace(preparer.source, get_target("onnx")) as workspace:
        float32 = workspace.save(workspace.lower(workspace.graph, "float32"), "float32")
        outputs = preparer.measurements.run_float32(
            workspace, float32, quantization.make_batches, image_count, progress
        )
    images = write_shared_images(folder, quantization.make_batches, image_count, outputs)
    quantization.forget_pixels()
    return images
