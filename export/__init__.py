"""From a checkpoint to artifacts: `export(...)`, the call behind tinyvit-export. Needs pip install 'tinyvit-edge[export]'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyvit.export.pipeline import ExportedArtifact as ExportedArtifact
    from tinyvit.export.pipeline import FailedTarget as FailedTarget
    from tinyvit.export.pipeline import export as export

__all__ = ["ExportedArtifact", "FailedTarget", "export"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from tinyvit.export import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'tinyvit.export' has no attribute {name!r}")
