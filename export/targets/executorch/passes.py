"""Tuning a traced network for ExecuTorch's XNNPACK delegate: the same function, in operators that the delegate takes.

XNNPACK has no LayerNorm, no gather, and no mean but over the two inner axes of an image. What it does not take ends its delegate
and runs in ExecuTorch's portable kernels, on one thread. Rewritten so, a TinyViT is one delegate, with the gathers of the attention
biases before it. One thread, of onnxruntime's float32: 1.09 as torch wrote it, 1.06 with LayerNorm in products and
XNNPACK's own means, 0.91 with means as products and biases gathered by rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tinyvit.preprocess import Preprocess

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

_NORM_DEFAULTS: list[Any] = [None, None, 1e-5]
"""Of layer_norm's weight, bias and epsilon."""
_ROUNDING = "quantized_decomposed.quantize_per_tensor.default"


def tune(program: ExportedProgram, preprocess: Preprocess | None = None) -> ExportedProgram:
    """A tuned copy of a program whose shapes are all fixed. The function computed stays the same.

    preprocess: put its last step in front, and the input is uint8 (batch, size, size, 3) instead of float32 (batch, 3, size, size).
    """
    import torch

    assert program.example_inputs is not None
    example, module = program.example_inputs[0], program.module(check_guards=False)
    assert isinstance(module, torch.fx.GraphModule)
    editor = _Editor(module)
    for node in list(module.graph.nodes):
        if (rewrite := _REWRITES.get(str(node.target))) is not None:
            rewrite(editor, node)
    _share_roundings(module)
    module.graph.eliminate_dead_code()
    module.recompile()
    tuned: torch.nn.Module = module
    if preprocess is not None:
        tuned = _normalized(module, preprocess)
        example = (
            torch.zeros(len(example[0]), preprocess.size, preprocess.size, 3, dtype=torch.uint8),
        )
    with torch.no_grad():
        return torch.export.export(tuned, example)


class _Editor:
    """Writes nodes, and constants beside the network's own."""

    def __init__(self, module: GraphModule) -> None:
        self.module = module
        self._made: dict[tuple[Any, ...], str] = {}

    def constant(self, value: Tensor) -> Node:
        """A node that reads it; equal ones are stored once."""
        key = (value.dtype, tuple(value.shape), value.numpy().tobytes())
        if key not in self._made:
            self._made[key] = f"tuned_{len(self._made)}"
            self.module.register_buffer(self._made[key], value)
        return self.module.graph.get_attr(self._made[key])

    def value(self, node: Node) -> Tensor | None:
        """What a node always reads; None where it depends on the input."""
        if node.op != "get_attr":
            return None
        found: Any = self.module
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return found.detach()  # type: ignore[no-any-return]

    def call(self, name: str, *args: Any) -> Node:
        """One of torch's own operators, by name and overload: "bmm.default"."""
        import torch

        operator, overload = name.split(".")
        return self.module.graph.call_function(
            getattr(getattr(torch.ops.aten, operator), overload), args
        )


def _shape(node: Node) -> list[int]:
    return list(node.meta["val"].shape)


def _replace(node: Node, made: Node) -> None:
    made.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(made)


def _norm(editor: _Editor, node: Node) -> None:
    """LayerNorm of (tokens, channels) in products and sums. Means are products with 1 / channels, ten times as fast as XNNPACK's own
    mean of such a shape; epsilon is the bias of the second."""
    import torch

    given: tuple[Any, ...] = node.args
    x, channels = given[0], given[1][0]
    weight, bias, epsilon = [*given[2:5], *_NORM_DEFAULTS[len(given[2:5]) :]]
    with editor.module.graph.inserting_before(node):
        average = editor.constant(torch.full((1, channels), 1 / channels))
        centerd = editor.call("sub.Tensor", x, editor.call("linear.default", x, average))
        squares = editor.call("mul.Tensor", centerd, centerd)
        variance = editor.call(
            "linear.default", squares, average, editor.constant(torch.tensor([epsilon]))
        )
        made = editor.call("mul.Tensor", centerd, editor.call("rsqrt.default", variance))
        made = made if weight is None else editor.call("mul.Tensor", made, weight)
        made = made if bias is None else editor.call("add.Tensor", made, bias)
    _replace(node, made)


def _product(editor: _Editor, node: Node) -> None:
    """A product of matrices with all other axes in one, without the expansions that torch writes around it."""
    operands: tuple[Any, ...] = node.args
    with editor.module.graph.inserting_before(node):
        made = editor.call(
            "bmm.default",
            *(editor.call("reshape.default", x, [-1, *_shape(x)[-2:]]) for x in operands),
        )
        made = editor.call("reshape.default", made, _shape(node))
    _replace(node, made)


def _pool(editor: _Editor, node: Node) -> None:
    """The mean over the tokens of (batch, tokens, channels) as one over the inner axes of an image."""
    given: tuple[Any, ...] = node.args
    if len(_shape(given[0])) != 3 or list(given[1]) != [1]:
        return
    batch, tokens, channels = _shape(given[0])
    with editor.module.graph.inserting_before(node):
        image = editor.call("reshape.default", given[0], [batch, tokens, 1, channels])
        image = editor.call("permute.default", image, [0, 3, 1, 2])
        made = editor.call(
            "reshape.default", editor.call("mean.dim", image, [2, 3], True), [batch, channels]
        )
    _replace(node, made)


def _bias(editor: _Editor, node: Node) -> None:
    """The gather of an attention's biases, (heads, window ** 2) -> (heads, window ** 4), by rows of a window, not by entries.

    A table whose columns are gathered, (heads, window ** 2, window), is small (0.3 MB at 5M), and the portable kernel copies its rows
    whole: a sixth of the time. Biases gathered in full would take 4.9 MB.
    """
    import torch

    given: tuple[Any, ...] = node.args
    table, index = editor.value(given[0]), editor.value(given[2])
    if table is None or index is None or given[1] != 1 or table.ndim != 2:
        return
    side = round(table.shape[1] ** 0.5)
    place = torch.arange(side)
    distance = (place[:, None] - place).abs()
    columns = (
        place[:, None, None] * side + distance
    ).flatten()  # by distance of rows, column, other column
    rows = (distance[:, None] * side + place[:, None]).flatten()  # by row, column, other row
    wide = table.index_select(1, columns).reshape(-1, side * side, side).contiguous()
    if not torch.equal(wide.index_select(1, rows).flatten(1), table.index_select(1, index)):
        return  # in another order than nn/model.py's
    with editor.module.graph.inserting_before(node):
        made = editor.call("index_select.default", editor.constant(wide), 1, editor.constant(rows))
        made = editor.call("reshape.default", made, _shape(node))
    _replace(node, made)


def _restored_bias(editor: _Editor, node: Node) -> None:
    """An int32 bias as floats: the delegate wants them so, and rounds them to the same integers again."""
    import torch

    given: tuple[Any, ...] = node.args
    integers, scales = editor.value(given[0]), editor.value(given[1])
    if integers is None or scales is None or integers.dtype != torch.int32:
        return
    with editor.module.graph.inserting_before(node):
        made = editor.constant((integers.double() * scales.double()).float())
    _replace(node, made)


_REWRITES: dict[str, Callable[[_Editor, Node], None]] = {
    "aten.layer_norm.default": _norm,
    "aten.matmul.default": _product,
    "aten.mean.dim": _pool,
    "aten.index_select.default": _bias,
    "quantized_decomposed.dequantize_per_channel.default": _restored_bias,
}


def _share_roundings(module: GraphModule) -> None:
    """Queries, keys and values round one input alike: once is enough."""
    seen: dict[tuple[Any, ...], Node] = {}
    for node in list(module.graph.nodes):
        if (
            str(node.target) == _ROUNDING
            and (first := seen.setdefault(tuple(node.args), node)) is not node
        ):
            node.replace_all_uses_with(first)


def _normalized(network: GraphModule, preprocess: Preprocess) -> torch.nn.Module:
    """The network behind the arithmetic of `Preprocess.normalize`: uint8 (batch, size, size, 3) in."""
    import torch

    class Normalized(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.scale, self.shift = map(torch.from_numpy, preprocess.scale_and_shift())

        def forward(self, pixels: Tensor) -> Any:
            return self.network((pixels.float() * self.scale - self.shift).permute(0, 3, 1, 2))

    return Normalized()
