"""The network to export, loaded and traced once for all targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit.data.label_matching import shorten_names
from tinyvit.errors import RequestError
from tinyvit.export.checks.request_checks import make_label_count_error
from tinyvit.export.checks.run_cost import check_batch_bytes
from tinyvit.export.config import ExportConfig
from tinyvit.export.plan import ExportPlan
from tinyvit.export.tracing import Graph, trace
from tinyvit.image_sizes import can_scale_windows, describe_size
from tinyvit.labels import Label, describe_labels, numbered_labels
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.nn.model import TinyViT
from tinyvit.outputs import IMAGE_EMBEDDINGS, LOGITS, OutputRequest, make_output_request
from tinyvit.progress import Progress
from tinyvit.text.safe_text import quote_argument
from tinyvit.variants import DEFAULT_MODEL, DEMO_MODEL, RELEASED_NAMES, find_released

_TRACING_STEPS = "tracing, steps"
"""Description of the progress of folding and tracing."""


@dataclass(frozen=True)
class SourceNetwork:
    """The float32 network in the forms that lowering and quantization need.

    Attributes:
        checkpoint: The checkpoint, at the requested image size.
        labels: One label for each class, in the order of the logits; empty for other outputs.
        output: What the network returns.
        original: The network before folding; its BatchNorms are still layers.
        folded: The network after `fold_model`: BatchNorms, and the scale and shift of LayerNorms,
            are merged into neighboring layers.
        graph: The folded network, traced with the requested batch and opset.
    """

    checkpoint: Checkpoint
    labels: tuple[Label, ...]
    output: OutputRequest
    original: TinyViT
    folded: TinyViT
    graph: Graph


def load_source_network(plan: ExportPlan, progress: Progress) -> SourceNetwork:
    """Load the checkpoint of a plan, fold the network and trace it.

    Args:
        plan: The plan of the export.
        progress: Receives a message for each step.

    Returns:
        The network.

    Raises:
        CheckpointError: The checkpoint cannot be read or is not a TinyViT.
        RequestError: The number of labels is not the number of classes, or a batch is too large
            for every runtime.
        ArtifactError: torch cannot trace the network.
    """
    config = plan.config
    checkpoint = _load_checkpoint(config, progress)
    checkpoint = _resize_checkpoint(checkpoint, config, progress)
    _check_padding(config, checkpoint)
    output = _choose_output(config, checkpoint, progress)
    labels = _choose_labels(plan.labels, checkpoint) if output.kind == "logits" else ()
    if labels and plan.labels is None and checkpoint.labels is None:
        progress.message(
            f"warning: {checkpoint.name} does not name its classes, so they are called"
            f" {shorten_names([label.name for label in labels])} (--labels FILE names them)"
        )
    if plan.labels is not None:
        progress.message(f"read {describe_labels(labels)}")
        if _is_reordered(labels, checkpoint.labels):
            progress.message(
                "the checkpoint has the same labels in another order; those of --labels are used"
            )
        checkpoint = replace(checkpoint, labels_source=_name_labels_source(config))
    original = checkpoint.build(output)
    check_batch_bytes(config.batch, checkpoint.img_size, original.describe_outputs())
    description = output.describe() if output.kind != "logits" else f"{len(labels)} classes"
    size = describe_size(checkpoint.img_size)
    progress.message(f"tracing {checkpoint.architecture_name}, {description}, {size}")
    progress.advance(_TRACING_STEPS, 0, 2)
    folded = fold_model(original)
    progress.advance(_TRACING_STEPS, 1, 2)
    graph = trace(folded, batch=config.batch, opset=config.opset)
    progress.advance(_TRACING_STEPS, 2, 2)
    return SourceNetwork(checkpoint, labels, output, original, folded, graph)


def _check_padding(config: ExportConfig, checkpoint: Checkpoint) -> None:
    """Raise RequestError if images are padded before they are passed to the artifact as uint8."""
    if checkpoint.preprocess.crop == "pad" and config.preprocess == "normalize":
        raise RequestError(
            f"--preprocess normalize is not possible for {checkpoint.name}: SAM pads images with"
            " zeros after the normalization, and no uint8 pixel is exactly 0 after it",
            "use --preprocess full, which also resizes and pads, or --preprocess host",
        )


def _choose_output(
    config: ExportConfig, checkpoint: Checkpoint, progress: Progress
) -> OutputRequest:
    """Return the requested output, else logits, or what the network without classifier returns."""
    if checkpoint.is_mobile_sam:
        output = _choose_encoder_output(config, checkpoint)
    elif config.output is not None:
        output = make_output_request(config.output, config.stages)
    elif checkpoint.num_classes:
        output = LOGITS
    else:
        output = make_output_request("embedding")
        progress.message(
            f"{checkpoint.name} has no classifier (num_classes=0), so its embedding is exported"
        )
    if not checkpoint.num_classes and config.labels is not None:
        raise RequestError(
            f"{checkpoint.name} has no classes that --labels could name", "leave out --labels"
        )
    if config.quantization is not None:
        config.quantization.check_output(output.kind)
    return output


def _choose_encoder_output(config: ExportConfig, checkpoint: Checkpoint) -> OutputRequest:
    """Return the output of MobileSAM's encoder, or a request that `build` refuses."""
    if config.output is None or (config.output == "features" and config.stages is None):
        return IMAGE_EMBEDDINGS
    return make_output_request(config.output, config.stages)


def _load_checkpoint(config: ExportConfig, progress: Progress) -> Checkpoint:
    """Load the checkpoint file of a request, or the released checkpoint that it names."""
    message, options = "reading the checkpoint", config.preprocess_options
    if config.checkpoint is None:
        model = config.model or DEFAULT_MODEL
        progress.message(
            message if model == DEMO_MODEL else find_released(model).describe_download()
        )
        return load_released(model, options)
    path = Path(config.checkpoint).expanduser()
    # If the file does not exist, the error is the only output: no message says that it is read.
    if path.exists():
        progress.message(message)
    elif str(config.checkpoint) in RELEASED_NAMES:
        raise RequestError(
            f"--checkpoint takes a file or a folder, and {path} is the name of a released model",
            f"use --model {quote_argument(path)}",
        )
    return load_checkpoint(path, options=options, requires_classifier=False)


def _name_labels_source(config: ExportConfig) -> str:
    """Name the source of the labels that were requested."""
    if isinstance(config.labels, (str, Path)):
        return f"--labels {Path(config.labels).name}"
    return "the labels of the request"


def _resize_checkpoint(
    checkpoint: Checkpoint, config: ExportConfig, progress: Progress
) -> Checkpoint:
    """Adapt a checkpoint to the requested image size, and report the windows that it gets."""
    resized = checkpoint.at_size(config.img_size or checkpoint.img_size, config.windows)
    windows = resized.describe_windows()
    if windows is None:
        return resized
    message = f"attention windows: {windows}"
    if config.windows is None:
        message += f" ({checkpoint.choose_windows(resized.img_size)[1]}"
        alternative = "scaled" if resized.windows == "checkpoint" else "checkpoint"
        if alternative == "checkpoint" or can_scale_windows(resized.img_size):
            message += f"; --windows {alternative} makes another network"
        message += ")"
    progress.message(message)
    return resized


def _is_reordered(labels: tuple[Label, ...], checkpoint_labels: tuple[Label, ...] | None) -> bool:
    """Return whether labels have the names of the checkpoint's own labels in another order."""
    names = [label.name for label in labels]
    checkpoint_names = [label.name for label in checkpoint_labels or ()]
    return names != checkpoint_names and sorted(names) == sorted(checkpoint_names)


def _choose_labels(
    requested: tuple[Label, ...] | None, checkpoint: Checkpoint
) -> tuple[Label, ...]:
    """Return the requested labels, else the checkpoint's own, else numbered labels."""
    labels = requested or checkpoint.labels or numbered_labels(checkpoint.num_classes)
    if len(labels) != checkpoint.num_classes:
        raise make_label_count_error(labels, checkpoint.num_classes)
    return labels
