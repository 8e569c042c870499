"""The targets: one folder for each kind of artifact that tinyvit-export makes.

Each folder has a module `target.py` with `TARGET`, an instance of a subclass of `Target`. Every
folder here is a target; there is no other list. Modules import their SDK only inside functions, so
that every target can be listed without its tools.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from tinyvit.discovery import list_plugins, load_plugin
from tinyvit.errors import RequestError
from tinyvit.export.targets.base import Feature as Feature
from tinyvit.export.targets.base import LoweredModel as LoweredModel
from tinyvit.export.targets.base import Target as Target
from tinyvit.export.targets.base import TargetOption as TargetOption
from tinyvit.export.targets.base import adapt_input_to_target as adapt_input_to_target
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.variants import suggest_names

_PRECISION_FLAGS: Mapping[Precision, str] = {"float16": "--float16", "int8": "--int8"}
"""Options that a target without float32 may offer instead."""


def target_names() -> list[str]:
    """List the targets.

    Returns:
        Sorted names, one for each folder of this package.
    """
    return list(list_plugins(sys.modules[__name__], packages_only=True))


def get_target(name: str) -> Target:
    """Find a target.

    Args:
        name: Name or alias of the target.

    Returns:
        The target.

    Raises:
        RequestError: No target has this name; the remedy lists the names.
    """
    names = target_names()
    # An alias is known only to the target itself, so all targets must be loaded to find one.
    candidates = [name] if name in names else names
    for candidate in candidates:
        target: Target = load_plugin(
            sys.modules[__name__], candidate, attribute="TARGET", submodule="target"
        )
        if name in (target.name, *target.aliases):
            return target
    raise RequestError(
        f"no target is called {name!r}",
        f"use one of {', '.join(names)} or all (nearest: {suggest_names(name, names)})",
    )


def explain_unsupported(
    target: Target,
    precision: Precision,
    embedded_preprocessing: EmbeddedPreprocessing,
    batch: int | None,
) -> RequestError | None:
    """Explain why a target does not offer a combination of options.

    Args:
        target: The target that was requested.
        precision: Precision of the artifact.
        embedded_preprocessing: How much of the preprocessing becomes part of the artifact.
        batch: Images per call; None for a dynamic batch.

    Returns:
        The error to raise or to report; None if the target offers the combination.
    """
    if precision in target.unsupported:
        flags = _PRECISION_FLAGS.items() if precision == "float32" else ()
        offered = [flag for name, flag in flags if name not in target.unsupported]
        alternative = f", or give {' or '.join(offered)}" if offered else ""
        return _make_feature_error(
            target, precision, option=f"in {precision}", alternative=alternative
        )
    if embedded_preprocessing in target.unsupported:
        return _make_feature_error(
            target,
            embedded_preprocessing,
            option=f"with --preprocess {embedded_preprocessing}",
            alternative=", or leave out --preprocess: the application then resizes and normalizes"
            if "normalize" in target.unsupported
            else ", or use --preprocess normalize and resize images beforehand",
        )
    if batch != 1 and target.batch_sizes == "one":
        return RequestError(
            f"{target.name} artifacts take one image at a time",
            "leave out --batch and --dynamic-batch",
        )
    if batch is None and target.batch_sizes == "fixed":
        return RequestError(
            f"{target.name} artifacts have a fixed batch: a fixed number of images per call",
            "give --batch N instead of --dynamic-batch",
        )
    return None


def _make_feature_error(
    target: Target, feature: Feature, option: str, alternative: str
) -> RequestError:
    """Make the error with the reason, and with the targets that do offer the feature.

    `option` completes "artifacts are not made ...", and `alternative` is appended to the remedy.
    """
    supporting = [name for name in target_names() if feature not in get_target(name).unsupported]
    return RequestError(
        f"{target.name} artifacts are not made {option}: {target.unsupported[feature]}",
        f"use --target {' or '.join(supporting)}{alternative}",
    )


def check_supported(
    target: Target,
    precision: Precision,
    embedded_preprocessing: EmbeddedPreprocessing,
    batch: int | None,
) -> None:
    """Check that a target offers a combination of options.

    Args:
        target: The target that was requested.
        precision: Precision of the artifact.
        embedded_preprocessing: How much of the preprocessing becomes part of the artifact.
        batch: Images per call; None for a dynamic batch.

    Raises:
        RequestError: The target does not offer it.
    """
    error = explain_unsupported(target, precision, embedded_preprocessing, batch)
    if error is not None:
        raise error
