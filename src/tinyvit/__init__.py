"""Export, run, verify and measure TinyViT on edge devices.

`Classifier`, `Encoder`, `Prediction` and `TinyViTError` are imported on first use, so that
`import tinyvit` takes almost no time. The import turns off the telemetry of other libraries
(`tinyvit.privacy`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyvit.privacy import disable_telemetry

if TYPE_CHECKING:
    from tinyvit.errors import TinyViTError as TinyViTError
    from tinyvit.runtimes import Classifier as Classifier
    from tinyvit.runtimes import Encoder as Encoder
    from tinyvit.runtimes import Prediction as Prediction

__version__ = "0.1.0"
__all__ = ["Classifier", "Encoder", "Prediction", "TinyViTError", "__version__"]

# This must happen before any module of this package imports onnxruntime.
disable_telemetry()


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in ("Classifier", "Encoder", "Prediction"):
        from tinyvit import runtimes

        return getattr(runtimes, name)
    if name == "TinyViTError":
        from tinyvit.errors import TinyViTError

        return TinyViTError
    raise AttributeError(f"module 'tinyvit' has no attribute {name!r}")
