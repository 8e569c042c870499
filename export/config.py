"""What is asked of an export, checked before any work is done: everything here costs milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tinyvit import labels as label_sets
from tinyvit.errors import RequestError
from tinyvit.export import targets
from tinyvit.export.tracing import check_opset
from tinyvit.files import explain_os_error, refuse_existing, staging_folder
from tinyvit.labels import Label
from tinyvit.manifest import Precision, PreprocessStage
from tinyvit.quant.quantizer import QuantizationConfig
from tinyvit.variants import DEFAULT_MODEL, DEMO_MODEL, RELEASED, check_size, find_released

MAX_BATCH = 4096


@dataclass(frozen=True)
class ExportConfig:
    """A checked request. Without model and checkpoint it is DEFAULT_MODEL; img_size None is the checkpoint's own, batch None any.

    paths has one path a target. alone: one target was named, so that its error is the whole call's.
    """

    model: str | None
    checkpoint: Path | None
    targets: tuple[targets.Target, ...]
    paths: tuple[Path, ...]
    alone: bool
    img_size: int | None
    batch: int | None
    stage: PreprocessStage
    labels: tuple[Label, ...] | None
    opset: int
    overwrite: bool
    float16: bool
    int8: QuantizationConfig | None

    @property
    def precision(self) -> Precision:
        """Of every artifact."""
        return _precision(self.float16, self.int8)


def _precision(float16: bool, int8: QuantizationConfig | None) -> Precision:
    return "float16" if float16 else "float32" if int8 is None else int8.precision


def check_request(
    model: str | None,
    checkpoint: str | Path | None,
    *,
    target: str | Sequence[str],
    img_size: int | None,
    batch: int,
    dynamic_batch: bool,
    preprocess: PreprocessStage,
    labels: str | Path | Sequence[str] | None,
    output: str | Path | None,
    opset: int,
    overwrite: bool,
    float16: bool,
    int8: QuantizationConfig | None,
    options: Mapping[str, Any],
) -> ExportConfig:
    """The request, the output's folder tried out. Raises RequestError for what can be seen to be impossible already."""
    wanted, every = _targets(target, options)
    _check_shapes(img_size, batch, dynamic_batch, preprocess)
    check_opset(opset)
    if int8 is not None:
        int8.validate()
    if float16 and int8 is not None:
        raise RequestError(
            "float16 and int8 were both asked for",
            "give one of --float16, --int8 and --int8-weights-only",
        )
    precision = _precision(float16, int8)
    named = None if labels is None else _labels(labels)
    several = every or len(wanted) > 1
    if (
        not several
        and (
            refused := targets.unsupported_error(
                wanted[0], precision, preprocess, None if dynamic_batch else batch
            )
        )
        is not None
    ):
        raise refused
    stem = _stem(model, checkpoint, img_size) + ("" if precision == "float32" else f".{precision}")
    paths = _tried_paths(output, wanted, stem, overwrite, several)
    return ExportConfig(
        model=model,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        targets=wanted,
        paths=paths,
        alone=not several,
        img_size=img_size,
        batch=None if dynamic_batch else batch,
        stage=preprocess,
        labels=named,
        opset=opset,
        overwrite=overwrite,
        float16=float16,
        int8=int8,
    )


def unwritable(path: Path, error: OSError) -> RequestError:
    """The error for a path that the system refused to write, with the remedy for its reason."""
    reason, remedy = explain_os_error(error)
    return RequestError(f"{path} cannot be written ({reason})", f"{remedy} (-o)")


def _targets(
    target: str | Sequence[str], options: Mapping[str, Any]
) -> tuple[tuple[targets.Target, ...], bool]:
    """(the targets, each with those of the options that are its own; whether "all" was asked for)."""
    asked = [target] if isinstance(target, str) else list(target)
    if not asked:
        raise RequestError(
            "no target was asked for", f"use --target {' or '.join(targets.target_names())} or all"
        )
    every = "all" in asked
    found = {
        one.name: one
        for one in (
            targets.get_target(name) for name in (targets.target_names() if every else asked)
        )
    }
    own = {one.name: {option.name for option in one.options} for one in found.values()}
    for name in options:
        if not any(name in names for names in own.values()):
            owners = [
                other
                for other in targets.target_names()
                if name in {option.name for option in targets.get_target(other).options}
            ]
            flag = f"--{name.replace('_', '-')}"
            if not owners:
                raise RequestError(f"no target has an option {flag}", "see tinyvit-export --help")
            raise RequestError(
                f"{flag} is an option of --target {' or '.join(owners)}",
                f"leave it out for {', '.join(found)}",
            )
    given = {
        name: {key: value for key, value in options.items() if key in own[name]} for name in found
    }
    return tuple(
        one.configured(given[one.name]) if given[one.name] else one for one in found.values()
    ), every


def _check_shapes(
    img_size: int | None, batch: int, dynamic_batch: bool, preprocess: PreprocessStage
) -> None:
    if preprocess not in get_args(PreprocessStage):
        raise RequestError(
            f"preprocess={preprocess!r} is not known",
            f"use one of {', '.join(get_args(PreprocessStage))}",
        )
    if preprocess == "full" and (dynamic_batch or batch != 1):
        raise RequestError(
            "--preprocess full takes one picture at a time, of any size",
            "leave out --batch and --dynamic-batch, or use --preprocess normalize",
        )
    if not 1 <= batch <= MAX_BATCH or (dynamic_batch and batch != 1):
        raise RequestError(
            "the batch is not clear", f"give --batch of 1 to {MAX_BATCH}, or --dynamic-batch alone"
        )
    if img_size is not None:
        check_size(img_size)


def _labels(given: str | Path | Sequence[str]) -> tuple[Label, ...]:
    """How many there must be is known with the checkpoint."""
    if isinstance(given, (str, Path)):
        return label_sets.read_labels(Path(given))
    if not all(isinstance(name, str) and name for name in given):
        raise RequestError("a label is empty, or no text", "give one name a class")
    return tuple(Label(name) for name in given)


def _stem(model: str | None, checkpoint: str | Path | None, img_size: int | None) -> str:
    """What the files are called where -o names a folder."""
    if model is not None and checkpoint is not None:
        raise RequestError(
            "both a model's name and a checkpoint file were given",
            "give one of --model and --checkpoint",
        )
    if checkpoint is not None:
        stem, size = Path(checkpoint).stem, None
    elif model == DEMO_MODEL:
        stem, size = DEMO_MODEL, 224
    else:
        released = find_released(model or DEFAULT_MODEL)
        tag = released.name.split(".")[1]
        stem = released.variant.short_name + (
            "" if released is RELEASED[f"{released.variant.name}.dist_in22k_ft_in1k"] else f".{tag}"
        )
        size = released.variant.img_size
    return stem if img_size in (None, size) else f"{stem}_{img_size}"


def _tried_paths(
    output: str | Path | None,
    wanted: Sequence[targets.Target],
    stem: str,
    overwrite: bool,
    several: bool,
) -> tuple[Path, ...]:
    """One path a target; that they can be written is tried out."""
    try:
        paths = _paths(output, wanted, stem, several)
        for path in paths:
            refuse_existing(path, overwrite)
        with staging_folder(
            paths[0]
        ):  # the surest way to know that it can be made there; leaves nothing
            return paths
    except OSError as error:
        raise unwritable(Path(output or "."), error) from error


def _paths(
    output: str | Path | None, wanted: Sequence[targets.Target], stem: str, several: bool
) -> tuple[Path, ...]:
    place = Path(output) if output is not None else Path(".")
    named = place.name.endswith(wanted[0].suffix)  # an artifact may itself be a folder
    is_folder = (
        several or output is None or (place.is_dir() and not named) or str(output).endswith("/")
    )
    if is_folder and place.exists() and not place.is_dir():
        raise RequestError(
            f"{place} is a file, and several targets go into a folder", "give -o a folder"
        )
    if not is_folder and not named:
        raise RequestError(
            f"-o {place} does not end with {wanted[0].suffix}",
            f"name it {place.with_suffix(wanted[0].suffix)}",
        )
    return tuple(place / f"{stem}{one.suffix}" if is_folder else place for one in wanted)
