"""Adds layers around the network of a Core ML model: normalization before it, softmax after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.manifest import EmbeddedPreprocessing
from tinyvit.preprocess import Preprocess

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingDependencyError.for_package("torch", extra="export") from error

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class ClassifierNetwork(nn.Module):
    """A network with a softmax after it, and normalization before it unless the caller does that.

    Core ML's image input supports only one scale for all three channels, so the mean and std of
    each channel are applied by the network itself.

    Attributes:
        scale: Factors of the normalization, float32 (1, 3, 1, 1).
        shift: Offsets to subtract after scaling, float32 (1, 3, 1, 1).
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
    ) -> None:
        """Wrap a network.

        Args:
            network: Takes normalized float32 (1, 3, size, size), returns logits.
            preprocess: The preprocessing that belongs to the network.
            embedded_preprocessing: "normalize" if this module normalizes the input, "host" if the
                caller does.
        """
        super().__init__()
        self.network, self.normalizes = network, embedded_preprocessing == "normalize"
        for name, value in zip(("scale", "shift"), preprocess.scale_and_shift()):
            self.register_buffer(name, torch.from_numpy(value).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Classify one image.

        Args:
            image: float32 (1, 3, size, size): levels from 0 to 255 if this module normalizes,
                otherwise normalized values.

        Returns:
            Logits and probabilities, each float32 (1, classes).
        """
        if self.normalizes:
            image = image * self.scale - self.shift
        logits = self.network(image)
        return logits, logits.softmax(-1)


def trace_classifier(
    program: ExportedProgram,
    size: int,
    preprocess: Preprocess,
    embedded_preprocessing: EmbeddedPreprocessing,
) -> ExportedProgram:
    """Trace a network as a `ClassifierNetwork`.

    Args:
        program: The traced network.
        size: Height and width of the network's input.
        preprocess: The preprocessing that belongs to the network.
        embedded_preprocessing: "host" or "normalize".

    Returns:
        A program (1, 3, size, size) -> logits and probabilities, in torch's core operators.
    """
    network = ClassifierNetwork(program.module(), preprocess, embedded_preprocessing)
    with torch.no_grad():
        traced = torch.export.export(network, (torch.zeros(1, 3, size, size),))
        decomposed: ExportedProgram = traced.run_decompositions({})
    return decomposed
