"""A quantized network that the search for int8 has built for one target."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinyvit.export.int8.search_outcome import SearchOutcome
from tinyvit.export.targets import LoweredModel
from tinyvit.export.tracing import Graph
from tinyvit.nn.model import TinyViT
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant_scheme import QuantScheme


@dataclass(frozen=True)
class QuantizedCandidate:
    """An int8 network, which is accepted if it is within the budget, not measured, or forced.

    Attributes:
        network: The quantized network.
        graph: The quantized network, traced.
        lowered: The network as the target lowered it, without preprocessing; None if the target's
            engine does not run here, so that an ONNX file was measured instead.
        outcome: How the network was found, and what was measured.
    """

    network: TinyViT
    graph: Graph
    lowered: LoweredModel | None
    outcome: SearchOutcome

    def with_scheme(self, folded: TinyViT, scheme: QuantScheme) -> QuantizedCandidate:
        """Apply the same recipe with the scheme of a target whose engine does not run here.

        Args:
            folded: The folded float32 network.
            scheme: Which tensors the target's engine quantizes, and in which form.

        Returns:
            The candidate for that target, not lowered yet.
        """
        network = quantize_network(folded, self.outcome.recipe, scheme)
        return replace(self, network=network, graph=self.graph.retrace(network), lowered=None)
