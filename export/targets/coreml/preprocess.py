"""What a Core ML model computes around the network: mean and std in front of it, probabilities behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.manifest import PreprocessStage
from tinyvit.preprocess import Preprocess

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingDependencyError.of("torch", "export") from error

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class Whole(nn.Module):
    """A network between its preprocessing and softmax.

    An image input of Core ML has one scale for all three channels, so that mean and std are arithmetic of the model's.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, stage: PreprocessStage) -> None:
        super().__init__()
        self.network, self.normalizes = network, stage == "normalize"
        for name, value in zip(("scale", "shift"), preprocess.scale_and_shift()):
            self.register_buffer(name, torch.from_numpy(value).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (1, 3, S, S), normalized or levels of 0 to 255 -> logits and probabilities, float32 (1, classes)."""
        logits = self.network(image * self.scale - self.shift if self.normalizes else image)
        return logits, logits.softmax(-1)


def around(
    program: ExportedProgram, size: int, preprocess: Preprocess, stage: PreprocessStage
) -> ExportedProgram:
    """The traced network with `stage` of the preprocessing in front and softmax behind, in torch's core operations."""
    whole = Whole(program.module(), preprocess, stage)
    with torch.no_grad():
        made: ExportedProgram = torch.export.export(
            whole, (torch.zeros(1, 3, size, size),)
        ).run_decompositions({})
    return made
