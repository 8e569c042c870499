"""What must be known of a file before pictures can go in and labels come out, and where each fact is from.

In: an opened artifact, its engine, and what the caller passed. Out: a `ModelIO`, or an error that says what is missing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.labels import Label, imagenet_labels, numbered_labels
from tinyvit.manifest import PreprocessStage, TensorSpec
from tinyvit.preprocess import Preprocess, timm_preprocess
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime

Pixels: TypeAlias = "npt.NDArray[np.float32] | npt.NDArray[np.uint8]"

_EXPECTED = (
    "an image classifier is expected: one input, float32 (batch, 3, size, size) or (batch, size, size, 3), or uint8 "
    "(batch, height, width, 3), "
    "and one output, float32 (batch, classes)"
)


@dataclass(frozen=True)
class ModelIO:
    """stage: where preprocessing ends. layout: of the input. batch: pictures a run takes, None for any number. labels: one a class."""

    stage: PreprocessStage
    layout: str
    preprocess: Preprocess
    labels: tuple[Label, ...]
    batch: int | None

    def input_of(self, image: Image.Image) -> Pixels:
        """An RGB picture -> what the network takes, without the batch axis: float32 (3, S, S) or (S, S, 3) for stage "host",
        uint8 (S, S, 3) for "normalize", the picture itself, uint8 (height, width, 3), for "full"."""
        if self.stage == "host":
            return self.preprocess(image, self.layout)
        return (
            self.preprocess.resize_and_crop(image)
            if self.stage == "normalize"
            else np.asarray(image)
        )


def resolve_model_io(
    artifact: Artifact,
    runtime: Runtime,
    preprocess: Preprocess | None,
    labels: Sequence[str | Label] | None,
) -> ModelIO:
    """Bring together the file's manifest, what the engine says of it, and what the caller passed, who comes first.

    A file without a manifest gets ImageNet's preprocessing and labels where the caller passed none, and a UserWarning.
    Raises ArtifactError for a file that is no image classifier, RequestError for arguments that do not fit it.
    """
    if len(runtime.inputs) != 1 or len(runtime.outputs) != 1:
        raise ArtifactError(
            f"{artifact.path.name} has {len(runtime.inputs)} inputs and {len(runtime.outputs)} outputs",
            _EXPECTED,
        )
    given, classes = runtime.inputs[0], _classes(runtime.outputs[0])
    stage, size = _input(given, artifact, preprocess)
    manifest = artifact.manifest
    if manifest and not _same_shape(manifest.input.shape, given.shape):
        raise ArtifactError(
            f"the input is {_shown(given)}, its manifest says {_shown(manifest.input)}",
            "export the file again",
        )
    used = preprocess or (manifest.preprocess if manifest else timm_preprocess(size))
    _check_preprocess(used, stage, size, artifact, given=preprocess is not None)
    named = _labels(artifact, classes, labels)
    if not manifest:
        _warn(artifact, used if preprocess is None else None, classes if labels is None else None)
    batch = 1 if stage == "full" else given.shape[0]
    return ModelIO(stage, given.layout, used, named, batch if isinstance(batch, int) else None)


def _classes(output: TensorSpec) -> int:
    if (
        len(output.shape) != 2
        or not isinstance(output.shape[1], int)
        or output.shape[1] < 1
        or output.dtype != "float32"
    ):
        raise ArtifactError(f"the output is {_shown(output)}", _EXPECTED)
    return output.shape[1]


def _input(
    given: TensorSpec, artifact: Artifact, preprocess: Preprocess | None
) -> tuple[PreprocessStage, int]:
    """(where preprocessing ends, side of the square input in pixels or 0 for a whole picture)."""
    kind = artifact.manifest.stage if artifact.manifest else None
    stage, sides = _layout(given)
    free = all(isinstance(side, str) for side in sides)
    if kind == "full" and stage == "normalize" and free:
        return "full", 0
    if stage and kind in (None, stage):
        if isinstance(sides[0], int) and sides[0] == sides[1]:
            return stage, sides[0]
        if free and preprocess:
            return stage, preprocess.size
        if free and not kind:
            cause = f"{artifact.path.name} takes pictures of any size, and has no manifest that says which size it was trained for"
            raise ArtifactError(
                cause,
                "from Python: Classifier(path, preprocess=tinyvit.preprocess.timm_eval(224)), 224 being that size",
            )
    raise ArtifactError(
        f"the input is {_shown(given)}"
        + (f", not what its manifest's stage {kind!r} means" if kind else ""),
        _EXPECTED,
    )


def _layout(given: TensorSpec) -> tuple[Literal["host", "normalize"] | None, tuple[int | str, ...]]:
    """(the stage whose input has this dtype and its three channels there, its height and width)."""
    if len(given.shape) != 4 or given.shape[1 if given.layout == "NCHW" else 3] != 3:
        return None, ()
    if given.dtype == "float32":
        return "host", given.shape[2:] if given.layout == "NCHW" else given.shape[1:3]
    return (
        ("normalize", given.shape[1:3])
        if given.dtype == "uint8" and given.layout == "NHWC"
        else (None, ())
    )


def _check_preprocess(
    used: Preprocess, stage: PreprocessStage, size: int, artifact: Artifact, given: bool
) -> None:
    name, manifest = artifact.path.name, artifact.manifest
    if stage == "full" and manifest and used != manifest.preprocess:
        raise RequestError(
            f"{name} resizes and crops by itself",
            "leave preprocess out, or export with --preprocess host",
        )
    if stage != "full" and used.size != size:
        cause = f"the preprocessing is for {used.size} pixels, {name} takes {size}"
        raise (
            RequestError(cause, f"pass a Preprocess of size {size}")
            if given
            else ArtifactError(cause, "export the file again")
        )


def _labels(
    artifact: Artifact, classes: int, labels: Sequence[str | Label] | None
) -> tuple[Label, ...]:
    if isinstance(labels, str):
        raise RequestError(
            f"labels={labels!r} is a string, not a list of names",
            "read the file first: tinyvit.labels.read(Path(...))",
        )
    if labels is not None:
        named = tuple(Label(x) if isinstance(x, str) else x for x in labels)
    else:
        named = (
            artifact.manifest.labels
            if artifact.manifest
            else imagenet_labels(classes) or numbered_labels(classes)
        )
    if len(named) != classes:
        cause = f"there are {len(named)} labels, {artifact.path.name} has {classes} classes"
        raise (
            RequestError(cause, f"pass {classes} labels")
            if labels is not None
            else ArtifactError(cause, "export the file again")
        )
    return named


def _same_shape(said: tuple[int | str, ...], real: tuple[int | str, ...]) -> bool:
    """Equal but for the names of the dimensions that are free."""
    return [x if isinstance(x, int) else None for x in said] == [
        x if isinstance(x, int) else None for x in real
    ]


def _shown(tensor: TensorSpec) -> str:
    return f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})"


def _warn(artifact: Artifact, preprocess: Preprocess | None, classes: int | None) -> None:
    assumed = {}
    if preprocess:
        values = f"resize {preprocess.resize}, crop {preprocess.size}, {preprocess.interpolation}, mean and std"
        assumed["preprocess=..."] = f"ImageNet's preprocessing ({values})"
    if classes:
        assumed["labels=..."] = (
            f"{'ImageNet' if imagenet_labels(classes) else 'numbered'} labels for its {classes} classes"
        )
    if assumed:
        what, how = " and ".join(assumed.values()), ", ".join(assumed)
        message = f"{artifact.path.name} has no manifest; assumed are {what}; to say otherwise, from Python: Classifier(path, {how})"
        warnings.warn(message, UserWarning, stacklevel=4)
