"""Artifact -> logits -> labels: open an exported file with any engine, classify pictures, verify, inspect.

The names below are imported when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyvit.runtimes.artifact import Artifact as Artifact
    from tinyvit.runtimes.artifact import open_artifact as open_artifact
    from tinyvit.runtimes.base import Runtime as Runtime
    from tinyvit.runtimes.base import RuntimeOptions as RuntimeOptions
    from tinyvit.runtimes.classifier import Classifier as Classifier
    from tinyvit.runtimes.classifier import Prediction as Prediction
    from tinyvit.runtimes.registry import open_runtime as open_runtime

_HOMES = {
    "Artifact": "artifact",
    "open_artifact": "artifact",
    "RuntimeOptions": "base",
    "Runtime": "base",
    "Classifier": "classifier",
    "Prediction": "classifier",
    "open_runtime": "registry",
}
__all__ = [
    "Artifact",
    "Classifier",
    "Prediction",
    "Runtime",
    "RuntimeOptions",
    "open_artifact",
    "open_runtime",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
