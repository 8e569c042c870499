"""Runs artifacts (files that tinyvit-export wrote) on images, and verifies artifacts.

An engine is an inference library that runs artifacts, such as onnxruntime or OpenVINO. The public
names below are imported when they are first used, which keeps `import tinyvit.runtimes` fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyvit.runtimes.artifact import Artifact as Artifact
    from tinyvit.runtimes.artifact import read_artifact as read_artifact
    from tinyvit.runtimes.base import Runtime as Runtime
    from tinyvit.runtimes.base import RuntimeInfo as RuntimeInfo
    from tinyvit.runtimes.base import RuntimeOptions as RuntimeOptions
    from tinyvit.runtimes.classifier import Classifier as Classifier
    from tinyvit.runtimes.encoder import Encoder as Encoder
    from tinyvit.runtimes.image_model import ModelInfo as ModelInfo
    from tinyvit.runtimes.predictions import Prediction as Prediction
    from tinyvit.runtimes.registry import open_runtime as open_runtime

_MODULES_BY_NAME = {
    "Artifact": "artifact",
    "read_artifact": "artifact",
    "Runtime": "base",
    "RuntimeInfo": "base",
    "RuntimeOptions": "base",
    "Classifier": "classifier",
    "Encoder": "encoder",
    "ModelInfo": "image_model",
    "Prediction": "predictions",
    "open_runtime": "registry",
}
__all__ = [
    "Artifact",
    "Classifier",
    "Encoder",
    "ModelInfo",
    "Prediction",
    "Runtime",
    "RuntimeInfo",
    "RuntimeOptions",
    "open_runtime",
    "read_artifact",
]


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name not in _MODULES_BY_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES_BY_NAME[name]}"), name)
