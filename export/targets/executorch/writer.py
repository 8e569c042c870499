"""Writes an ExecuTorch program, followed by a ZIP archive with its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinyvit.export.targets.base import LoweredModel
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import Precision
from tinyvit.runtimes.formats import trailer

DELEGATE_CALL = "executorch_call_delegate"
"""Name of the operator that runs a delegate."""


@dataclass(frozen=True)
class ExecuTorchProgram(LoweredModel):
    """An ExecuTorch program that is ready to be written.

    Attributes:
        data: The program's bytes.
        operator_counts: Name of an operator outside the delegate -> number of times it occurs. The
            call of the delegate itself is one of these operators.
    """

    data: bytes
    operator_counts: Mapping[str, int]

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write one .pte file; see `LoweredModel.save`."""
        path.write_bytes(trailer.add_archive(self.data, trailer.archive_members(manifest)))
        return [path]

    def notes(self, precision: Precision) -> tuple[str, ...]:
        """List the operators outside XNNPACK's delegate; see `LoweredModel.notes`."""
        operators = ", ".join(
            f"{count} x {name}"
            for name, count in sorted(self.operator_counts.items())
            if name != DELEGATE_CALL
        )
        return (f"operators that run outside XNNPACK's delegate: {operators}",) if operators else ()
