"""Reads checkpoints of every layout and container, from files and folders that may be hostile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tinyvit.checkpoint_paths import CHECKPOINT_SUFFIXES, name_checkpoint
from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.metadata.label_sources import find_labels
from tinyvit.nn.checkpoints.metadata.settings_beside import add_settings_beside
from tinyvit.nn.checkpoints.metadata.settings_files import expand_settings_texts
from tinyvit.nn.checkpoints.preprocessing.training_preprocess import find_preprocess
from tinyvit.nn.checkpoints.problem_types import refuse_other_problem
from tinyvit.nn.checkpoints.state_dicts.fitting import complete_state_dict
from tinyvit.nn.checkpoints.state_dicts.layouts import (
    Architecture,
    convert_keys,
    recognize_architecture,
    recognize_layout,
)
from tinyvit.nn.checkpoints.training_windows import find_training_windows
from tinyvit.nn.checkpoints.weight_files import read_weights
from tinyvit.nn.checkpoints.weight_folders import find_weight_files, hash_weight_files
from tinyvit.nn.checkpoints.weights import Weights
from tinyvit.preprocess_settings import PreprocessSource

_MAX_LICENSE_LENGTH = 1000
"""Longer texts, in characters, are not taken for the name of a license. It becomes a part of every
artifact."""


def is_checkpoint_path(path: Path) -> bool:
    """Return whether a path is that of a checkpoint, and not the name of a released one.

    Args:
        path: The path, which need not exist.

    Returns:
        True for a name that ends with one of `CHECKPOINT_SUFFIXES`, and for a folder in which
        `find_weight_files` finds weights.
    """
    if path.is_dir():
        try:
            find_weight_files(path)
        except CheckpointError:
            return False
        return True
    return path.suffix.lower() in CHECKPOINT_SUFFIXES


def load_checkpoint(
    path: Path,
    name: str | None = None,
    options: PreprocessSource | None = None,
    reads_config: bool = True,
    requires_classifier: bool = True,
) -> Checkpoint:
    """Read a checkpoint of any layout.

    Args:
        path: A file or folder that `tinyvit.nn.checkpoints.weight_files.read_weights` accepts. It
            may come from an untrusted source.
        name: Name for messages and the manifest; by default the file name without suffix.
        options: Settings of the preprocessing that the user requested, with the name of their
            source for messages. They override those of the training. None if there are none.
        reads_config: Whether `config.json` and other files of settings beside the file are read.
        requires_classifier: Whether a file without a classifier (num_classes=0) is an error.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: The file cannot be read or does not contain a TinyViT, its classifier has
            only one output, its settings tell that an image can have several labels, or its
            training used a preprocessing that artifacts do not offer.
        MissingDependencyError: The file is in safetensors format, and safetensors is not installed.
    """
    weights = read_weights(path)
    weights = replace(weights, metadata=expand_settings_texts(weights.metadata))
    layout = recognize_layout(weights.tensors, path)
    state_dict = convert_keys(weights.tensors, layout)
    architecture = recognize_architecture(state_dict, path, requires_classifier)
    _refuse_single_output(architecture, path)
    if reads_config:
        weights = add_settings_beside(weights, architecture.variant, path)
    else:
        weights = replace(weights, config={})
    refuse_other_problem(weights, path)
    # Only the windows tell the image size, and windows that timm pads fit several sizes. So the
    # settings of the training, if there are any, decide.
    training_windows = find_training_windows(
        weights.metadata, weights.config, layout, architecture.img_size
    )
    license_name = weights.metadata.get("license", "")
    preprocessing = find_preprocess(weights, layout, training_windows.img_size, path, options)
    labels, labels_source = None, ""
    if architecture.num_classes:
        labels, labels_source = find_labels(weights, architecture.num_classes, path)
    return Checkpoint(
        name=name or name_checkpoint(path),
        variant=architecture.variant,
        img_size=training_windows.img_size,
        num_classes=architecture.num_classes,
        state_dict=complete_state_dict(state_dict, architecture, path),
        layout=layout,
        container=weights.container,
        preprocess=preprocessing.preprocess,
        preprocess_source=preprocessing.source,
        settings=preprocessing.settings,
        labels=labels,
        labels_source=labels_source,
        notes=(
            *_describe_ignored(weights),
            *weights.notes,
            *training_windows.notes,
            *preprocessing.notes,
        ),
        license=license_name if _is_license(license_name) else "unknown",
        sha256=hash_weight_files(path),
        default_windows=training_windows.default,
        default_windows_reason=training_windows.reason,
    )


def _is_license(name: object) -> bool:
    """Return whether a value can be the name of a license."""
    return isinstance(name, str) and 0 < len(name) <= _MAX_LICENSE_LENGTH


def _refuse_single_output(architecture: Architecture, path: Path) -> None:
    """Raise CheckpointError if the classifier has one output, whose softmax would always be 1."""
    if architecture.num_classes == 1:
        raise CheckpointError(
            f"the classifier in {path} has one output (for a sigmoid), and the probabilities of"
            " artifacts are the softmax of one output for each class",
            "replace it by an equivalent classifier with two outputs: insert zeros as the first row"
            " of its weight and of its bias, for the negative class",
        )


def _describe_ignored(weights: Weights) -> list[str]:
    """Return a sentence for each part of the file that was left out."""
    return [f"ignored: {text}" for text in weights.ignored]
