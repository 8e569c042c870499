"""Warns of what is assumed about a file that does not state it."""

from __future__ import annotations

import warnings

from tinyvit.image_sizes import format_size
from tinyvit.labels import imagenet_labels
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import Artifact
from tinyvit.text.safe_text import escape_text


def warn_of_assumptions(
    artifact: Artifact,
    assumed_preprocess: Preprocess | None,
    assumed_class_count: int | None,
    class_name: str,
) -> None:
    """Warn that preprocessing or labels are assumed for a file without a manifest.

    Args:
        artifact: The file.
        assumed_preprocess: Preprocessing that is assumed; None if the caller passed it.
        assumed_class_count: Number of classes whose labels are assumed; None if the caller passed
            the labels, or if there are none.
        class_name: Name of the class that opens the file, whose caller sees the warning.
    """
    # Argument of the class -> what is assumed instead.
    assumptions = {}
    if assumed_preprocess:
        assumptions["preprocess=..."] = (
            f"ImageNet's preprocessing (resize {format_size(assumed_preprocess.resize)},"
            f" crop {format_size(assumed_preprocess.size)}, {assumed_preprocess.interpolation},"
            " mean and std)"
        )
    if assumed_class_count:
        kind = "ImageNet's" if imagenet_labels(assumed_class_count) else "numbered"
        assumptions["labels=..."] = f"{kind} labels for its {assumed_class_count} classes"
    if assumptions:
        warnings.warn(
            f"{escape_text(artifact.path.name)} has no manifest, so it is used with"
            f" {' and '.join(assumptions.values())}; to use others, from Python:"
            f" {class_name}(path, {', '.join(assumptions)})",
            UserWarning,
            stacklevel=3,  # the line that calls Classifier or Encoder
        )
