"""Writes a file for a Rockchip NPU, and beside it what the simulator and a reader need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit.export.targets.base import LoweredModel
from tinyvit.export.targets.rknn.float16_ranges import LargestValue
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import Compilation, Precision
from tinyvit.runtimes.engines.rknn_simulator import hash_sources
from tinyvit.runtimes.formats.rknn import layer_errors_path, network_path, quantization_path
from tinyvit.runtimes.formats.sidecar import manifest_path
from tinyvit.runtimes.network_analysis.npu_operators import describe_operators
from tinyvit.runtimes.rockchip.toolkit import CompiledNetwork, ToolkitRequest

_FUSED_SUFFIXES = ("_2sdpa", "_2gelu")
"""What the compiler appends to the name of an operator that it made from several nodes."""


@dataclass(frozen=True)
class RknnModel(LoweredModel):
    """A network that was compiled for a Rockchip NPU.

    Attributes:
        request: The network before it was compiled.
        compiled: The compiled network.
        macs: Name of each convolution, linear layer and matrix product of the network before it was
            compiled -> its multiply-accumulates for one image.
        largest_value: The largest value of the network in float32; None for int8.
    """

    request: ToolkitRequest
    compiled: CompiledNetwork
    macs: Mapping[str, int]
    largest_value: LargestValue | None

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the .rknn file and the files beside it; see `LoweredModel.save`."""
        texts = {
            manifest_path(path): manifest.to_json(),
            layer_errors_path(path): self.compiled.layer_errors,
            quantization_path(path): self.compiled.quantization,
        }
        written = {file: text for file, text in texts.items() if text}
        for file, text in written.items():
            file.write_text(text, encoding="utf-8")
        network_path(path).write_bytes(self.request.network)
        path.write_bytes(self.compiled.data)
        return [*written, network_path(path), path]

    def add_to_manifest(self, manifest: Manifest) -> Manifest:
        """Add the chip and what stays on the CPU; see `LoweredModel.add_to_manifest`."""
        compilation = Compilation(
            chip=self.request.chip.name,
            checked_chip=self.request.chip.name,
            compiler=self.compiled.compiler,
            cpu_operators=describe_operators(self.cpu_layers),
            cpu_mac_fraction=round(self.cpu_share, 4),
            source_sha256=hash_sources(self.request.network, self.compiled.quantization),
            quantizer=self.describe_quantizer(),
        )
        return replace(manifest, compilation=compilation)

    def notes(self, precision: Precision) -> tuple[str, ...]:
        """Report what stays on the CPU and the largest value; see `LoweredModel.notes`."""
        place = f"{self.compiled.compiler} for {self.request.chip.name}"
        if not self.compiled.layers:
            work = f"{place} does not state which layers stay on the CPU"
        elif self.cpu_layers:
            work = (
                f"{place} leaves {describe_operators(self.cpu_layers)} to the CPU"
                f" ({self.cpu_share:.1%} of the multiply-accumulates)"
            )
        else:
            work = f"{place} takes the whole network to the NPU"
        largest = () if self.largest_value is None else (self.largest_value.describe(),)
        return (
            work,
            *largest,
            "the network ran in Rockchip's simulator only, and no board has run it",
            f"a board needs only the .rknn file ({len(self.compiled.data) / 1e6:.1f} MB) and its"
            " .json file",
        )

    def describe_quantizer(self) -> str:
        """Describe whose scales the network has, as a clause; "" for float16."""
        if self.request.ranges is None:
            return ""
        own, total = self.compiled.own_range_count, self.compiled.tensor_count
        return (
            f"by {self.compiled.compiler}, with the recipe's scales for {own} of {total} tensors,"
            " and its own for the others"
        )

    @property
    def cpu_layers(self) -> dict[str, str]:
        """Return the operator of each layer that stays on the CPU, by the name of the layer."""
        layers = self.compiled.layers
        return {layer.name: layer.operator for layer in layers if layer.processor != "NPU"}

    @property
    def cpu_share(self) -> float:
        """Return the share of the multiply-accumulates that stay on the CPU, 0 to 1."""
        on_cpu = sum(
            macs
            for name, macs in self.macs.items()
            if any(is_layer_of(layer, name) for layer in self.cpu_layers)
        )
        return on_cpu / max(1, sum(self.macs.values()))


def is_layer_of(layer_name: str, node_name: str) -> bool:
    """Return whether the compiler made a layer from a node.

    It names the layer after the node, and appends "#2" or the name of an operator that it fused.

    Args:
        layer_name: `Layer.name`.
        node_name: Name of a node of the ONNX network.
    """
    if not layer_name.startswith(node_name):
        return False
    remainder = layer_name[len(node_name) :]
    # The names of nodes differ in numbers: node_linear_1 is another node than node_linear.
    is_longer_name = remainder[:1] not in ("", "#", "_") or remainder[1:2].isdecimal()
    return remainder.startswith(("#", *_FUSED_SUFFIXES)) or not is_longer_name
