"""Checks of an export request that need neither torch nor the checkpoint.

They take milliseconds, and tinyvit-export makes them before it imports torch, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from tinyvit.errors import MissingDependencyError, RequestError, TinyViTError
from tinyvit.export.config import ExportConfig
from tinyvit.export.plan import find_released_model, resolve_labels, resolve_targets
from tinyvit.export.targets import Target, explain_unsupported, get_target
from tinyvit.labels import Label, describe_labels
from tinyvit.manifest_parts import Precision
from tinyvit.text.plurals import format_count
from tinyvit.variants import DEFAULT_MODEL, DEMO_MODEL

_EXPORT_EXTRA = "export"
"""The extra with the tools that all targets need, such as torch."""


def check_request(config: ExportConfig, precision: Precision) -> None:
    """Check the options, targets, tools, this machine and labels, before any work is done.

    If several targets are requested, the reasons why one of them cannot be made are not raised,
    because the others can still be made.

    Args:
        config: The options; `quantization` is not read.
        precision: Precision of the artifacts.

    Raises:
        RequestError: Options contradict each other, a target or an option is unknown, the only
            target cannot be made as requested or on this machine, or the number of labels is not
            that of the released checkpoint.
        MissingDependencyError: A tool of the only target is not installed.
    """
    config.validate()
    targets = resolve_targets(config)
    if len(targets) == 1:
        error = explain_impossible(targets[0], config, precision)
        if error is not None:
            raise error
    labels = resolve_labels(config.labels)
    if labels is not None:
        check_label_count(config, labels)


def explain_impossible(
    target: Target, config: ExportConfig, precision: Precision
) -> TinyViTError | None:
    """Explain why a target cannot be made as requested, with the installed tools, or here.

    Args:
        target: The target, with its own options set.
        config: The options; `preprocess` and `batch` are read.
        precision: Precision of the artifact.

    Returns:
        The error to raise or to report; None if nothing is known that prevents the export.
    """
    error = explain_unsupported(target, precision, config.preprocess, config.batch)
    return error or explain_missing_tools(target) or target.explain_machine()


def explain_missing_tools(target: Target) -> MissingDependencyError | None:
    """Explain which tools of a target are not installed.

    Args:
        target: The target.

    Returns:
        The error, whose remedy installs all of the missing tools; None if none is missing.
    """
    missing = [tool for tool in target.tools if not _is_installed(tool)]
    if not missing:
        return None
    shared_tools = get_target("onnx").tools
    extras = [_EXPORT_EXTRA if tool in shared_tools else target.extra for tool in missing]
    return MissingDependencyError.for_package(missing[0], extra=",".join(dict.fromkeys(extras)))


def check_label_count(config: ExportConfig, labels: Sequence[Label]) -> None:
    """Check the number of labels for a released checkpoint, whose number of classes is known.

    That of other checkpoints is known when they have been read.

    Args:
        config: The options; `model` and `checkpoint` are read.
        labels: The labels that were given.

    Raises:
        RequestError: The numbers differ, or no released checkpoint has the requested name.
    """
    if config.checkpoint is not None or config.model == DEMO_MODEL:
        return
    class_count = find_released_model(config.model or DEFAULT_MODEL).num_classes
    if len(labels) != class_count:
        raise make_label_count_error(labels, class_count)


def make_label_count_error(labels: Sequence[Label], class_count: int) -> RequestError:
    """Make the error for labels whose number is not that of the classes.

    Args:
        labels: The labels that were given.
        class_count: Number of classes of the model.

    Returns:
        The error, with the first and the last label.
    """
    verb = "was" if len(labels) == 1 else "were"
    return RequestError(
        f"{format_count(len(labels), 'label')} {verb} given and the model has"
        f" {format_count(class_count, 'class', 'classes')} ({describe_labels(tuple(labels))})",
        "give one label for each class, in the order of the logits",
    )


def _is_installed(tool: str) -> bool:
    """Return whether a Python distribution is installed; nothing is imported."""
    try:
        metadata.version(tool)
    except metadata.PackageNotFoundError:
        return False
    return True
