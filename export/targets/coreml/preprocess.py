"""Adds layers around the network of a Core ML model: normalization, and softmax after logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.image_sizes import height_and_width
from tinyvit.manifest_parts import EmbeddedPreprocessing
from tinyvit.preprocess import Preprocess

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingDependencyError.for_package("torch", extra="export") from error

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from tinyvit.export.tracing import Graph


class CoreMlNetwork(nn.Module):
    """A network with normalization before it unless the caller does that, and softmax after logits.

    Core ML's image input supports only one scale for all three channels, so the mean and std of
    each channel are applied by the network itself.

    Attributes:
        scale: Factors of the normalization, float32 (1, 3, 1, 1).
        shift: Offsets to subtract after scaling, float32 (1, 3, 1, 1).
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: nn.Module, preprocess: Preprocess, normalizes: bool, has_softmax: bool
    ) -> None:
        """Wrap a network.

        Args:
            network: Takes normalized float32 (1, 3, height, width), returns a tensor or several.
            preprocess: The preprocessing that belongs to the network.
            normalizes: Whether this module normalizes the input.
            has_softmax: Whether probabilities are computed from the network's only output.
        """
        super().__init__()
        self.network, self.normalizes, self.has_softmax = network, normalizes, has_softmax
        for name, value in zip(("scale", "shift"), preprocess.scale_and_shift()):
            self.register_buffer(name, torch.from_numpy(value).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the outputs for one image.

        Args:
            image: float32 (1, 3, height, width): levels from 0 to 255 if this module normalizes,
                otherwise normalized values.

        Returns:
            With softmax, logits and probabilities, each float32 (1, classes); otherwise what the
            network returns.
        """
        if self.normalizes:
            image = image * self.scale - self.shift
        outputs: Tensor | tuple[Tensor, ...] = self.network(image)
        if self.has_softmax:
            assert isinstance(outputs, Tensor)
            return outputs, outputs.softmax(-1)
        return outputs


def trace_for_coreml(
    graph: Graph, preprocess: Preprocess, embedded_preprocessing: EmbeddedPreprocessing
) -> ExportedProgram:
    """Trace a network as a `CoreMlNetwork`.

    Args:
        graph: The traced network.
        preprocess: The preprocessing that belongs to the network.
        embedded_preprocessing: "host" or "normalize".

    Returns:
        A program that takes (1, 3, height, width), in torch's core operators. A classifier returns
        logits and probabilities; another network returns its outputs.
    """
    network = CoreMlNetwork(
        graph.program.module(),
        preprocess,
        normalizes=embedded_preprocessing == "normalize",
        has_softmax=graph.outputs[0].kind == "logits",
    )
    image = torch.zeros(1, 3, *height_and_width(graph.img_size))
    with torch.no_grad():
        traced = torch.export.export(network, (image,))
        decomposed: ExportedProgram = traced.run_decompositions({})
    return decomposed
