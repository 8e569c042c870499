"""Checks the options of an export and resolves them into a plan: targets, labels, output paths.

Making a plan takes milliseconds, so an impossible request fails before the checkpoint is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvit.checkpoint_paths import CHECKPOINT_SUFFIXES, name_checkpoint
from tinyvit.errors import RequestError
from tinyvit.export.config import ALL_TARGETS, ExportConfig
from tinyvit.export.target_options import check_option_owners, with_own_options
from tinyvit.export.targets import Target, get_target, target_names
from tinyvit.files.file_io import explain_os_error, refuse_existing
from tinyvit.files.staging import staging_folder
from tinyvit.image_sizes import ImageSize, format_size
from tinyvit.labels import Label, LabelNames, labels_from_data, read_labels
from tinyvit.text.safe_text import quote_argument
from tinyvit.variants import DEFAULT_MODEL, DEMO_MODEL, ReleasedCheckpoint, find_released

_DEMO_SIZE: ImageSize = 224
"""Size of the demo model's input, in pixels. Its training images had 64 pixels per side
and were enlarged."""

_USUAL_TRAINING = "dist_in22k_ft_in1k"
"""End of the full name of every checkpoint that a short model name can select. It states the
training: distillation on ImageNet-22k, then fine-tuning on ImageNet-1k."""


@dataclass(frozen=True)
class PlannedArtifact:
    """One artifact of an export.

    Attributes:
        target: The target, with the options that were given for it.
        path: The file to write; a folder for formats that are folders.
    """

    target: Target
    path: Path


@dataclass(frozen=True)
class ExportPlan:
    """The checked options of an export, with targets, labels and output paths resolved.

    Attributes:
        config: The options as they were given.
        artifacts: The artifacts to make, one for each target.
        labels: The labels that were given, in the order of the logits; None if the checkpoint's
            own labels are used.
    """

    config: ExportConfig
    artifacts: tuple[PlannedArtifact, ...]
    labels: tuple[Label, ...] | None


def make_plan(config: ExportConfig) -> ExportPlan:
    """Check the options of an export and resolve the targets, the labels and the output paths.

    Args:
        config: The options.

    Returns:
        The plan. To test that the output can be written, a folder is created and removed.

    Raises:
        RequestError: The request is impossible or contradicts itself, or a target, a label file
            or the output path cannot be used.
    """
    config.validate()
    targets = resolve_targets(config)
    labels = resolve_labels(config.labels)
    paths = _resolve_paths(config, targets)
    artifacts = tuple(PlannedArtifact(target, path) for target, path in zip(targets, paths))
    return ExportPlan(config, artifacts, labels)


def resolve_targets(config: ExportConfig) -> tuple[Target, ...]:
    """Find the requested targets and set the options of each.

    Args:
        config: The options; `targets` and `target_options` are read.

    Returns:
        The targets in the order of the request, one for each artifact.

    Raises:
        RequestError: No target was requested, a name or an option is unknown, or an option belongs
            to none of the requested targets.
    """
    if isinstance(config.targets, str):
        raise RequestError(
            f"targets={config.targets!r} is a string, and a tuple of names is needed",
            f"give targets=({config.targets!r},)",
        )
    if not config.targets:
        raise RequestError(
            "no target was requested",
            f"use --target {' or '.join(target_names())}, or {ALL_TARGETS}",
        )
    names = target_names() if ALL_TARGETS in config.targets else config.targets
    targets = {target.name: target for target in map(get_target, names)}
    check_option_owners(config.target_options, targets)
    return tuple(
        part
        for target in targets.values()
        for part in with_own_options(target, config.target_options, targets.values()).split()
    )


def requests_several(config: ExportConfig) -> bool:
    """Return whether several targets are requested; their artifacts then go into one folder.

    Args:
        config: The options; `targets` and `target_options` are read.

    Returns:
        True for "all" and for two or more different targets.

    Raises:
        RequestError: See `resolve_targets`.
    """
    several_targets = len(resolve_targets(config)) > 1
    return several_targets or ALL_TARGETS in config.targets


def make_write_error(path: Path, error: OSError) -> RequestError:
    """Explain why a path cannot be written.

    Args:
        path: The path that was to be written.
        error: The operating system's error.

    Returns:
        An error with a remedy that fits the reason.
    """
    reason, remedy = explain_os_error(error)
    name = f"the current folder ({Path.cwd()})" if path == Path(".") else path
    return RequestError(f"{name} cannot be written ({reason})", f"{remedy} (-o)")


def resolve_labels(labels: str | Path | LabelNames | None) -> tuple[Label, ...] | None:
    """Read or check the labels of a request.

    Args:
        labels: A file of labels, or the names; see `ExportConfig.labels`.

    Returns:
        The labels, whose number is not checked; None if none were given.

    Raises:
        RequestError: The labels are not understood, or one is empty.
    """
    if labels is None:
        return None
    if isinstance(labels, (str, Path)):
        return read_labels(Path(labels))
    try:
        parsed = labels_from_data(labels)
    except ValueError as error:
        raise RequestError(
            f"the labels are not understood ({error})", "give one name for each class"
        ) from error
    if not all(label.name for label in parsed):
        raise RequestError("a label is empty or is not a string", "give one name for each class")
    return parsed


def _resolve_paths(config: ExportConfig, targets: Sequence[Target]) -> tuple[Path, ...]:
    """Name one path for each target, and test that the first can be written."""
    try:
        paths = _name_paths(config, targets)
        for path in paths:
            refuse_existing(path, config.overwrite)
        # The artifact writer will create a staging folder there, for files that are not checked
        # yet. Creating one now is the best test that the folder can be written.
        with staging_folder(paths[0]):
            return paths
    except OSError as error:
        raise make_write_error(Path(config.output_path or "."), error) from error


def _name_paths(config: ExportConfig, targets: Sequence[Target]) -> tuple[Path, ...]:
    """Name one path for each target: in the folder `output`, or `output` itself if it is a file."""
    output = Path(".") if config.output_path is None else Path(config.output_path)
    stem = choose_file_stem(config)  # Called even if unused, because it refuses unknown models.
    if _output_is_folder(config, output, targets[0].suffix):
        suffixes = tuple(get_target(name).suffix for name in target_names())
        is_file_name = not output.exists() and str(config.output_path).endswith(suffixes)
        if is_file_name or (output.exists() and not output.is_dir()):
            raise RequestError(
                f"-o {output} names a file, and the artifacts of several targets go into a folder",
                "give -o a folder, such as out/",
            )
        return tuple(output / f"{stem}{target.suffix}" for target in targets)
    suffix = targets[0].suffix  # Only one target is requested.
    if not output.name.endswith(suffix):
        others = [name for name in target_names() if output.name.endswith(get_target(name).suffix)]
        remedy = f"name it {output.with_suffix(suffix)}"
        if others:
            remedy += f", or give --target {' or '.join(others)}"
        raise RequestError(
            f"-o {output} does not end with {suffix}, as files for {targets[0].name} do", remedy
        )
    return (output,)


def _output_is_folder(config: ExportConfig, output: Path, suffix: str) -> bool:
    """Return whether the output is a folder for artifacts, not the path of one artifact."""
    if (
        config.output_path is None
        or str(config.output_path).endswith("/")
        or requests_several(config)
    ):
        return True
    # An existing folder with the target's suffix is an earlier artifact, such as x.mlpackage.
    return output.is_dir() and not output.name.endswith(suffix)


def find_released_model(model: str) -> ReleasedCheckpoint:
    """Find a released checkpoint; if the name is that of a file, suggest --checkpoint.

    Args:
        model: Name of the checkpoint.

    Returns:
        The checkpoint.

    Raises:
        RequestError: No released checkpoint has this name.
    """
    try:
        return find_released(model)
    except RequestError as error:
        path = Path(model).expanduser()
        if path.exists():
            raise RequestError(
                f"--model takes the name of a released checkpoint, and {model} is a"
                f" {'folder' if path.is_dir() else 'file'}",
                f"use --checkpoint {quote_argument(model)}",
            ) from error
        if path.suffix.lower() in CHECKPOINT_SUFFIXES or len(path.parts) > 1:
            raise RequestError(
                f"no released model is called {model!r}, and there is no file of this name",
                "give an existing file with --checkpoint, or see tinyvit-export --list",
            ) from error
        raise


def choose_file_stem(config: ExportConfig) -> str:
    """Name the files of an export whose output is a folder.

    Args:
        config: The options.

    Returns:
        The file name without its suffix, such as "tinyvit_5m" or "tinyvit_5m_256.int8". It begins
        with the file name of the checkpoint, or with the model's short name. The name of the
        training follows the short name unless it is the usual one (`_USUAL_TRAINING`). At the end
        are the image size and the precision, if they are not the defaults.

    Raises:
        RequestError: No released checkpoint has the requested name.
    """
    usual_size: ImageSize | None = None
    if config.checkpoint is not None:
        stem = name_checkpoint(Path(config.checkpoint))
    elif config.model == DEMO_MODEL:
        stem, usual_size = DEMO_MODEL, _DEMO_SIZE
    else:
        released = find_released_model(config.model or DEFAULT_MODEL)
        usual_size = released.variant.img_size
        stem = released.variant.short_name
        training = released.name.removeprefix(f"{released.variant.name}.")
        if training != _USUAL_TRAINING:
            stem += f".{training}"
    if config.output == "features" and config.stages is not None:
        stem += f".stages{''.join(map(str, sorted(config.stages)))}"
    elif config.output not in (None, "logits"):
        stem += f".{config.output}"
    if config.img_size is not None and config.img_size != usual_size:
        stem += f"_{format_size(config.img_size).replace(' ', '')}"
    return stem if config.precision == "float32" else f"{stem}.{config.precision}"
