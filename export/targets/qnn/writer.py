"""Writes a file for a Hexagon NPU, with its manifest in the metadata of the ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit.export.targets.base import LoweredModel
from tinyvit.manifest import MANIFEST_KEY, Manifest
from tinyvit.manifest_parts import Compilation, Precision
from tinyvit.runtimes.network_analysis.npu_operators import describe_operators
from tinyvit.runtimes.qualcomm import Chip, CompiledNetwork


@dataclass(frozen=True)
class QnnModel(LoweredModel):
    """A network that was compiled for a Hexagon NPU.

    Attributes:
        data: The network before it was compiled, a serialized ONNX model.
        compiled: The compiled network.
        chip: The chip that it was compiled for.
        stores_compiled: Whether the file contains the compiled network. If not, it contains the
            network before, and the compiled one only shows what stays on the CPU.
        macs: Name of the output of each convolution, linear layer and matrix product -> its
            multiply-accumulates for one image.
    """

    data: bytes
    compiled: CompiledNetwork
    chip: Chip
    stores_compiled: bool
    macs: Mapping[str, int]

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write one file; see `LoweredModel.save`."""
        import onnx

        model = onnx.load_model_from_string(
            self.compiled.data if self.stores_compiled else self.data
        )
        model.producer_name = "tinyvit-edge"
        onnx.helper.set_model_props(model, {MANIFEST_KEY: manifest.to_json()})
        path.write_bytes(model.SerializeToString(deterministic=True))
        return [path]

    def add_to_manifest(self, manifest: Manifest) -> Manifest:
        """Add the chip and what stays on the CPU; see `LoweredModel.add_to_manifest`."""
        compilation = Compilation(
            chip=self.chip.name if self.stores_compiled else "",
            checked_chip=self.chip.name,
            compiler=self.compiled.compiler,
            cpu_operators=describe_operators(self.compiled.cpu_outputs),
            cpu_mac_fraction=round(self.cpu_share, 4),
        )
        return replace(manifest, compilation=compilation)

    def notes(self, precision: Precision) -> tuple[str, ...]:
        """Report what stays on the CPU; see `LoweredModel.notes`."""
        operators = self.describe_cpu_operators()
        if not self.stores_compiled:
            operators += (
                "; this chip is an example, because the file is compiled on the device"
                " (--soc compiles it for a chip)"
            )
        return (
            operators,
            "tinyvit-verify FILE --runtime qnn-emulator checks the file in Qualcomm's emulator,"
            " which takes several seconds for each image; no device has run it",
        )

    @property
    def cpu_share(self) -> float:
        """Return the share of the multiply-accumulates that stay on the CPU, 0 to 1."""
        on_cpu = sum(self.macs.get(name, 0) for name in self.compiled.cpu_outputs)
        return on_cpu / max(1, sum(self.macs.values()))

    def describe_cpu_operators(self) -> str:
        """Describe what the compiler leaves to the CPU, as a sentence without a period."""
        place = f"{self.compiled.compiler} for {self.chip.name} ({self.chip.title})"
        if not self.compiled.cpu_outputs:
            return f"{place} takes the whole network to the NPU"
        operators = describe_operators(self.compiled.cpu_outputs)
        return (
            f"{place} leaves {operators} to the CPU ({self.cpu_share:.1%} of the"
            " multiply-accumulates)"
        )
