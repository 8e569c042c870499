"""Exports checkpoints to artifacts: files that run on edge devices.

`export` makes the artifact of one target, such as "onnx", and `export_all` makes one artifact for
each requested target. Both take an `ExportConfig`, and tinyvit-export is their command line. They
need `pip install 'tinyvit-edge[export]'`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyvit.export.artifact_writer import ExportedArtifact as ExportedArtifact
    from tinyvit.export.config import ExportConfig as ExportConfig
    from tinyvit.export.export_results import ExportReport as ExportReport
    from tinyvit.export.export_results import FailedTarget as FailedTarget
    from tinyvit.export.pipeline import export as export
    from tinyvit.export.pipeline import export_all as export_all

_MODULES = {
    "ExportConfig": "config",
    "ExportReport": "export_results",
    "ExportedArtifact": "artifact_writer",
    "FailedTarget": "export_results",
    "export": "pipeline",
    "export_all": "pipeline",
}
"""Public name -> the module that defines it, imported when the name is first used."""

__all__ = [
    "ExportConfig",
    "ExportReport",
    "ExportedArtifact",
    "FailedTarget",
    "export",
    "export_all",
]


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"tinyvit.export.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'tinyvit.export' has no attribute {name!r}")
