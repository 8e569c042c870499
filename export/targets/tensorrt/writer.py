"""Writes a TensorRT engine file, with its manifest in a .json file beside it.

TensorRT calls a compiled network an engine; in this folder, an engine is such a compiled network.
The manifest is not inside the engine file, because TensorRT's loaders reject a file that contains
anything besides the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit.export.targets.base import LoweredModel
from tinyvit.export.targets.tensorrt.engine_builder import EnginePlan
from tinyvit.export.targets.tensorrt.options import TensorRtOptions
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import Precision
from tinyvit.runtimes import cuda
from tinyvit.runtimes.formats.sidecar import manifest_path


@dataclass(frozen=True)
class TensorRtModel(LoweredModel):
    """A built engine (a compiled network) that is ready to be written.

    Attributes:
        plan: The engine and its layers.
        macs: Name of each matrix product and convolution of the ONNX graph -> its
            multiply-accumulates for one image.
        options: How the engine was built.
    """

    plan: EnginePlan
    macs: Mapping[str, int]
    options: TensorRtOptions

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the .engine file and its .json file; see `LoweredModel.save`."""
        sidecar_path = manifest_path(path)
        sidecar_path.write_text(manifest.to_json(), encoding="utf-8")
        path.write_bytes(self.plan.data)
        return [sidecar_path, path]

    def add_to_manifest(self, manifest: Manifest) -> Manifest:
        """Add the share of int8 in the engine; see `LoweredModel.add_to_manifest`."""
        record = manifest.quantization
        if record is None or manifest.precision != "int8":
            return manifest
        record = replace(
            record,
            int8_mac_fraction=round(self.int8_share, 4),
            int8_summary=self.summarize_int8(),
        )
        return replace(manifest, quantization=record)

    def notes(self, precision: Precision) -> tuple[str, ...]:
        """Report the share of int8 in the engine; see `LoweredModel.notes`."""
        return (self.summarize_int8(),) if precision == "int8" else ()

    @property
    def int8_share(self) -> float:
        """Return the share of the multiply-accumulates in layers with int8 input, 0 to 1."""
        int8_nodes = self.plan.find_int8_nodes(self.macs)
        return sum(self.macs[node] for node in int8_nodes) / max(1, sum(self.macs.values()))

    def summarize_int8(self) -> str:
        """Summarize how many matrix products and convolutions the engine computes in int8.

        Returns:
            One sentence without a period.
        """
        flavor = self.options.resolved_flavor
        count = len(self.plan.find_int8_nodes(self.macs))
        capabilities = ", ".join(self.options.resolved_compute)
        devices = f"compute capability {capabilities}" if capabilities else "this GPU"
        summary = (
            f"{cuda.PRODUCTS[flavor].name} {self.plan.version} plans {count} of {len(self.macs)} "
            f"matrix products and convolutions ({self.int8_share:.1%} of the "
            f"multiply-accumulates) in int8, for {devices}"
        )
        if flavor == "classic":
            return summary
        # The other flavor is TensorRT-RTX.
        return (
            f"{summary}; NVIDIA's support matrix for TensorRT-RTX lists int8 only for weights, and "
            "the kernels are chosen on the device: prefer --float16"
        )
