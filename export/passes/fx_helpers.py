"""Helpers, shared by several targets, for passes on traced torch graphs (`torch.fx`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinyvit.preprocess import Preprocess

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.fx import GraphModule, Node

_LAYER_NORM_DEFAULTS = (None, None, 1e-5)
"""Defaults of weight, bias and epsilon in torch's layer_norm."""


class GraphEditor:
    """Adds nodes and constants to a traced network.

    Attributes:
        module: The network, which is changed in place.
    """

    def __init__(self, module: GraphModule) -> None:
        """Prepare to edit a network.

        Args:
            module: The network to change in place.
        """
        self.module = module
        self._constant_names: dict[tuple[Any, ...], str] = {}

    def call(self, operator: str, *arguments: Any) -> Node:
        """Add a node that calls an operator of `torch.ops.aten`.

        Args:
            operator: Name and overload, such as "bmm.default".
            arguments: The operator's arguments: nodes and plain values.

        Returns:
            The new node, at the graph's current point of insertion.
        """
        import torch

        name, overload = operator.split(".")
        function = getattr(getattr(torch.ops.aten, name), overload)
        return self.module.graph.call_function(function, arguments)

    def add_constant(self, value: Tensor) -> Node:
        """Add a node that reads a constant; equal constants are stored once.

        Args:
            value: The constant.

        Returns:
            The new node, at the graph's current point of insertion.
        """
        key = (value.dtype, tuple(value.shape), value.numpy().tobytes())
        if key not in self._constant_names:
            self._constant_names[key] = f"tuned_{len(self._constant_names)}"
            self.module.register_buffer(self._constant_names[key], value)
        return self.module.graph.get_attr(self._constant_names[key])

    def read_constant(self, node: Node) -> Tensor | None:
        """Return the constant that a node reads, if it reads one.

        Args:
            node: Any node.

        Returns:
            The constant; None if the node is not a constant but an operator or an input.
        """
        if node.op != "get_attr":
            return None
        value: Any = self.module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        tensor: Tensor = value.detach()
        return tensor


@dataclass(frozen=True)
class LayerNormCall:
    """The arguments of a layer_norm node.

    Attributes:
        source: Node whose last axis is normalized.
        channels: Size of the last axis.
        weight: Node with the factors, (channels,); None if they are 1.
        bias: Node with the offsets, (channels,); None if they are 0.
        epsilon: Added to the variance.
    """

    source: Node
    channels: int
    weight: Node | None
    bias: Node | None
    epsilon: float

    def apply_affine(self, editor: GraphEditor, normalized: Node) -> Node:
        """Add the nodes that multiply by the weight and add the bias.

        Args:
            editor: Editor of the network.
            normalized: Node with the normalized values.

        Returns:
            The node with the result.
        """
        if self.weight is not None:
            normalized = editor.call("mul.Tensor", normalized, self.weight)
        if self.bias is not None:
            normalized = editor.call("add.Tensor", normalized, self.bias)
        return normalized


def parse_layer_norm(node: Node) -> LayerNormCall:
    """Read the arguments of a layer_norm node, with torch's defaults for those left out.

    Args:
        node: A call of `aten.layer_norm.default` that normalizes the last axis.

    Returns:
        The arguments.
    """
    arguments: tuple[Any, ...] = node.args
    source, normalized_shape, *optional = arguments
    # A fourth optional argument of layer_norm chooses a kernel and does not change the result.
    present = tuple(optional[: len(_LAYER_NORM_DEFAULTS)])
    all_optional: tuple[Any, ...] = (*present, *_LAYER_NORM_DEFAULTS[len(present) :])
    weight, bias, epsilon = all_optional
    return LayerNormCall(source, normalized_shape[-1], weight, bias, epsilon)


def node_shape(node: Node) -> list[int]:
    """Return the shape of a node's value.

    Args:
        node: A node of a program whose shapes are fixed.

    Returns:
        Sizes of all axes.
    """
    return list(node.meta["val"].shape)


def replace_node(node: Node, replacement: Node) -> None:
    """Replace all uses of a node by another node that computes the same value.

    Args:
        node: The node, which has no users afterwards.
        replacement: The node to use instead.
    """
    replacement.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(replacement)


def take_channels_last(network: torch.nn.Module, preprocess: Preprocess | None) -> torch.nn.Module:
    """Wrap a network so that it takes images with the channels last (NHWC).

    Args:
        network: A network that takes normalized float32 (N, 3, height, width).
        preprocess: The normalization to add, computed as in `Preprocess.normalize`; the input is
            then uint8 or float32 levels from 0 to 255. None if the input is normalized already.

    Returns:
        A network that takes (N, height, width, 3) and returns what `network` returns.
    """
    import torch

    class ChannelsLast(torch.nn.Module):
        """Normalizes and transposes the input of `network`."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            if preprocess is not None:
                for name, value in zip(("scale", "shift"), preprocess.scale_and_shift()):
                    self.register_buffer(name, torch.from_numpy(value))

        def forward(self, image: torch.Tensor) -> Any:
            """Run the network on (N, height, width, 3)."""
            if preprocess is not None:
                image = image.float() * self.get_buffer("scale") - self.get_buffer("shift")
            return self.network(image.permute(0, 3, 1, 2))

    wrapped = ChannelsLast()
    wrapped.training = False  # `eval()` would reach the traced network, which refuses it.
    return wrapped
