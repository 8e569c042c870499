"""Passes that rewrite a traced network with operators that ExecuTorch's XNNPACK delegate supports.

A delegate is a library, here XNNPACK, that runs parts of a network for ExecuTorch. XNNPACK has no
LayerNorm, no gather, and no mean except over height and width of an image. An operator that it
does not support splits the network into several parts for XNNPACK, and runs between them in
ExecuTorch's portable kernels, on one thread. With these passes, XNNPACK runs a TinyViT as one part,
and only the gathers of the attention biases run before it.

On one thread, the latency of the float32 demo model, divided by that of onnxruntime, is 1.09
without these passes, 1.06 with LayerNorm written as products and XNNPACK's own means, and 0.91 with
means written as products too and biases gathered by rows (docs/lab-notes/engines.md, "ExecuTorch").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tinyvit.export.passes.fx_helpers import (
    GraphEditor,
    node_shape,
    parse_layer_norm,
    replace_node,
    take_channels_last,
)
from tinyvit.preprocess import Preprocess

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

_QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"


def rewrite_for_xnnpack(
    program: ExportedProgram, preprocess: Preprocess | None = None
) -> ExportedProgram:
    """Run every pass of this module on a copy of a program.

    Args:
        program: A traced network (batch, 3, height, width) whose shapes are all fixed.
        preprocess: The preprocessing whose normalization is put in front of the network, which then
            takes uint8 (batch, height, width, 3); None to put nothing in front.

    Returns:
        A new program that computes the same function, after the normalization if there is one.
    """
    import torch

    assert program.example_inputs is not None
    example_inputs = program.example_inputs[0]
    module = program.module(check_guards=False)
    assert isinstance(module, torch.fx.GraphModule)
    editor = GraphEditor(module)
    for node in list(module.graph.nodes):
        rewrite = _REWRITES.get(str(node.target))
        if rewrite is not None:
            rewrite(editor, node)
    share_quantization(module)
    module.graph.eliminate_dead_code()
    module.recompile()
    network: torch.nn.Module = module
    if preprocess is not None:
        network = take_channels_last(module, preprocess)
        shape = (len(example_inputs[0]), preprocess.height, preprocess.width, 3)
        example_inputs = (torch.zeros(shape, dtype=torch.uint8),)
    with torch.no_grad():
        return torch.export.export(network, example_inputs)


def expand_layer_norm(editor: GraphEditor, node: Node) -> None:
    """Write a LayerNorm as products and sums.

    Requires: a layer_norm over the last axis of (tokens, channels).
    Changes: both means become linear layers with weights of 1 / channels, and epsilon becomes the
        bias of the layer that computes the variance.
    Why: XNNPACK has no LayerNorm. In the demo model, XNNPACK's own means would take 2.5 ms; the
        linear layers take 0.5 ms.

    Args:
        editor: Editor of the network.
        node: The node to rewrite.
    """
    import torch

    call = parse_layer_norm(node)
    with editor.module.graph.inserting_before(node):
        averaging = editor.add_constant(torch.full((1, call.channels), 1 / call.channels))
        mean = editor.call("linear.default", call.source, averaging)
        centered = editor.call("sub.Tensor", call.source, mean)
        squares = editor.call("mul.Tensor", centered, centered)
        epsilon = editor.add_constant(torch.tensor([call.epsilon]))
        variance = editor.call("linear.default", squares, averaging, epsilon)
        scale = editor.call("rsqrt.default", variance)
        normalized = editor.call("mul.Tensor", centered, scale)
        result = call.apply_affine(editor, normalized)
    replace_node(node, result)


def flatten_matmul(editor: GraphEditor, node: Node) -> None:
    """Write a matrix product of any rank as a batched product of three axes.

    Requires: nothing.
    Changes: all axes but the last two become one.
    Why: torch decomposes a matmul of higher rank with expand operators around it, which XNNPACK
        does not support.

    Args:
        editor: Editor of the network.
        node: The node to rewrite.
    """
    operands: tuple[Any, ...] = node.args
    with editor.module.graph.inserting_before(node):
        flat = [
            editor.call("reshape.default", operand, [-1, *node_shape(operand)[-2:]])
            for operand in operands
        ]
        product = editor.call("bmm.default", *flat)
        result = editor.call("reshape.default", product, node_shape(node))
    replace_node(node, result)


def pool_as_image(editor: GraphEditor, node: Node) -> None:
    """Write the mean over tokens as a mean over height and width of an image.

    Requires: a mean of (batch, tokens, channels) over tokens; any other mean is left as it is.
    Changes: the operand becomes (batch, channels, tokens, 1).
    Why: XNNPACK supports no other mean.

    Args:
        editor: Editor of the network.
        node: The node to rewrite.
    """
    arguments: tuple[Any, ...] = node.args
    source, axes = arguments[:2]
    if len(node_shape(source)) != 3 or list(axes) != [1]:
        return
    batch, tokens, channels = node_shape(source)
    with editor.module.graph.inserting_before(node):
        image = editor.call("reshape.default", source, [batch, tokens, 1, channels])
        image = editor.call("permute.default", image, [0, 3, 1, 2])
        mean = editor.call("mean.dim", image, [2, 3], True)  # keepdim=True
        result = editor.call("reshape.default", mean, [batch, channels])
    replace_node(node, result)


def gather_bias_by_rows(editor: GraphEditor, node: Node) -> None:
    """Gather attention biases by rows of a window instead of by single entries.

    Requires: a gather (heads, window^2) -> (heads, window^4) in the order of `nn/attention.py`; any
        other gather is left as it is.
    Changes: the table becomes (heads, window^2, window): entries are gathered along columns at
        export, so that the gather on the device copies rows of `window` entries.
    Why: the portable kernel copies whole rows in 0.45 ms and single entries in 2.47 ms. The table
        stays small: 0.3 MB for a TinyViT-5M; completely gathered biases would take 4.9 MB.

    Args:
        editor: Editor of the network.
        node: The node to rewrite.
    """
    import torch

    arguments: tuple[Any, ...] = node.args
    table_node, axis, index_node = arguments
    table, index = editor.read_constant(table_node), editor.read_constant(index_node)
    if table is None or index is None or axis != 1 or table.ndim != 2:
        return
    # The table has one entry per (distance between rows, distance between columns) of two tokens.
    side = round(table.shape[1] ** 0.5)
    position = torch.arange(side)
    distance = (position[:, None] - position).abs()
    # Axes before flattening: distance between rows, column, other column.
    columns = (position[:, None, None] * side + distance).flatten()
    # Axes before flattening: row, column, other row.
    rows = (distance[:, None] * side + position[:, None]).flatten()
    wide_table = table.index_select(1, columns).reshape(-1, side * side, side).contiguous()
    by_rows = wide_table.index_select(1, rows).flatten(1)
    if not torch.equal(by_rows, table.index_select(1, index)):
        return
    with editor.module.graph.inserting_before(node):
        gathered = editor.call(
            "index_select.default", editor.add_constant(wide_table), 1, editor.add_constant(rows)
        )
        result = editor.call("reshape.default", gathered, node_shape(node))
    replace_node(node, result)


def dequantize_bias(editor: GraphEditor, node: Node) -> None:
    """Store an int32 bias as float32.

    Requires: a dequantization of constants; only int32 is rewritten.
    Changes: the bias becomes a float32 constant.
    Why: the delegate accepts biases only as floats, and rounds them to the same integers as before.

    Args:
        editor: Editor of the network.
        node: The node to rewrite.
    """
    import torch

    arguments: tuple[Any, ...] = node.args
    integers_node, scales_node = arguments[:2]
    integers, scales = editor.read_constant(integers_node), editor.read_constant(scales_node)
    if integers is None or scales is None or integers.dtype != torch.int32:
        return
    with editor.module.graph.inserting_before(node):
        result = editor.add_constant((integers.double() * scales.double()).float())
    replace_node(node, result)


def share_quantization(module: GraphModule) -> None:
    """Quantize each value once.

    Requires: nothing.
    Changes: quantizations of the same value with the same scale become one.
    Why: the layers of queries, keys and values each quantize their common input.

    Args:
        module: The network to change in place.
    """
    first_by_arguments: dict[tuple[Any, ...], Node] = {}
    for node in list(module.graph.nodes):
        if str(node.target) != _QUANTIZE:
            continue
        first = first_by_arguments.setdefault(tuple(node.args), node)
        if first is not node:
            node.replace_all_uses_with(first)


_REWRITES: dict[str, Callable[[GraphEditor, Node], None]] = {
    "aten.layer_norm.default": expand_layer_norm,
    "aten.matmul.default": flatten_matmul,
    "aten.mean.dim": pool_as_image,
    "aten.index_select.default": gather_bias_by_rows,
    "quantized_decomposed.dequantize_per_channel.default": dequantize_bias,
}
"""Operator -> the pass that rewrites it."""
