"""Creates nodes for a pass that puts preprocessing in front of an ONNX network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx_ir as ir

    NodeInput = ir.Value | npt.NDArray[Any]


class NodeBuilder:
    """Creates nodes whose names differ from those of all nodes of the network."""

    def __init__(self) -> None:
        import onnx_ir as ir

        self.tape = ir.tape.Tape()

    def add_node(self, operator: str, *inputs: NodeInput | None, **attributes: Any) -> ir.Value:
        """Add a node and return its only output.

        Args:
            operator: Name of the ONNX operator.
            inputs: The inputs; arrays become initializers, and None leaves out an optional input.
            attributes: The attributes of the node.
        """
        import onnx_ir as ir

        values = [
            self._add_initializer(value) if isinstance(value, np.ndarray) else value
            for value in inputs
        ]
        name = f"preprocess/{len(self.tape.nodes)}/{operator}"
        return self.tape.op(operator, values, attributes, name=name, output=ir.Value(name=name))

    def _add_initializer(self, array: npt.NDArray[Any]) -> ir.Value:
        """Add a constant to the model and return it."""
        import onnx_ir as ir

        return self.tape.initializer(
            ir.Tensor(array, name=f"preprocess/constant/{len(self.tape.initializers)}")
        )
