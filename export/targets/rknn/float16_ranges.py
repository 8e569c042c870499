"""Finds values that are too large for float16, which the simulator does not show.

Rockchip's NPUs compute in float16. A value above 65504 becomes infinite on the chip, while the
simulator of rknn-toolkit2 computes the right result (airockchip/rknn-toolkit2, issue 346). So the
network is run in float32, and the largest values of all its tensors are compared with that limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

FLOAT16_MAX = 65504.0
"""Largest finite number of float16."""
MARGIN = 4.0
"""Factor between the largest value of the test images and the limit below which nothing is warned:
photographs may cause larger values than the test images."""


@dataclass(frozen=True)
class LargestValue:
    """The largest absolute value of a network's tensors.

    Attributes:
        name: Name of the tensor.
        value: The largest absolute value.
        is_square: Whether it is a square that a LayerNorm computes from its input, to find the
            variance.
    """

    name: str
    value: float
    is_square: bool = False

    @property
    def is_dangerous(self) -> bool:
        """Whether the value may overflow for other images."""
        return not self.value * MARGIN < FLOAT16_MAX  # also true for NaN

    def describe(self) -> str:
        """Return a sentence without a period."""
        source = "the squares in the LayerNorm of" if self.is_square else "the tensor"
        fact = f"the largest value for test images is {self.value:.3g}, in {source} {self.name}"
        if not self.is_dangerous:
            return f"{fact}; float16 ends at {FLOAT16_MAX:.0f}"
        return (
            f"WARNING: {fact}, and float16 ends at {FLOAT16_MAX:.0f}: the chip may return wrong"
            " outputs, although the simulator does not; check the file on the board with"
            " tinyvit-verify"
        )


def find_largest_value(network: bytes, images: list[npt.NDArray[np.float32]]) -> LargestValue:
    """Run a network in float32, and find the largest value that float16 must represent.

    Args:
        network: A serialized ONNX model.
        images: Inputs of the network.

    Returns:
        The largest value of all tensors, and of the squares in LayerNorms.
    """
    import onnx
    import onnxruntime

    model = onnx.load_model_from_string(network)
    norm_inputs = _list_norm_inputs(model)
    names = [name for node in model.graph.node for name in node.output if name]
    # onnxruntime finds out the types and shapes of the additional outputs.
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in known
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    largest = LargestValue("image", 0.0)
    for image in images:
        for name, values in zip(names, session.run(names, {session.get_inputs()[0].name: image})):
            for candidate in _measure(name, values, is_normalized=name in norm_inputs):
                if not candidate.value <= largest.value:
                    largest = candidate
    return largest


def _measure(name: str, values: npt.NDArray[Any], is_normalized: bool) -> list[LargestValue]:
    """Return the largest value of a tensor, and that of the squares if it is normalized."""
    if values.dtype != np.float32 or values.size == 0:
        return []
    found = [LargestValue(name, float(np.abs(values).max()))]
    if is_normalized:
        deviations = values - values.mean(axis=-1, keepdims=True)
        found.append(LargestValue(name, float(np.square(deviations).max()), is_square=True))
    return found


def _list_norm_inputs(model: onnx.ModelProto) -> set[str]:
    """Return the names of the tensors that a LayerNorm normalizes."""
    return {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
