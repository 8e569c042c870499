"""Computes how much memory and time a network needs, before an engine sees the file.

A file of a few kilobytes can multiply two vectors to a matrix of gigabytes, enlarge an image again
and again, or repeat a long computation. The sizes of all tensors follow from the size of the input,
the constants in the file and the operators, so nothing has to be run. Engines also compute what
does not depend on the image, when they open the file; this is included.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import prod

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.network_graph import MAX_KNOWN_VALUES, Constant, NetworkGraph, Node
from tinyvit.runtimes.network_analysis.node_order import sort_nodes
from tinyvit.runtimes.network_analysis.shape_rules import COMBINED_OPERATORS, apply_rule
from tinyvit.runtimes.network_analysis.small_values import compute_values
from tinyvit.runtimes.network_analysis.tensor_facts import Shape, Tensor, UnknownCostError
from tinyvit.text.byte_counts import format_gib

MAX_MEMORY_BYTES = 3 * 2**30
"""Largest memory for the results of operators that exist at the same time. TinyViT-5M with images
of 224 x 224 pixels takes 6.9 MiB for each image, so a fixed batch may have 445."""

MAX_OPERATIONS = 2 * 10**11
"""Largest number of multiplications for one image, or for `ASSUMED_BATCH_SIZE` images if the
network takes any number. It is about a hundred times as many as TinyViT-5M needs for an image of
224 x 224 pixels (2 x 10^9), and more than the largest TinyViT for 1024 x 1024 pixels."""

MAX_OPERATORS = 10_000
"""Largest number of operators. The largest artifacts have 1,500; engines need minutes to optimize
60,000."""

ASSUMED_BATCH_SIZE = 8
"""Number of images that are assumed for a network that takes any number."""

ASSUMED_SIDE = 512
"""Height and width, in pixels, that are assumed for a network that takes images of any size."""

_OPERATIONS_PER_ELEMENT = 16
"""An element of a result counts as so many multiplications, because functions such as Erf, and
reading and writing, take longer than one multiplication in a product of matrices."""

_SIZE_INPUTS = {"Pad": (1, 3), "Resize": (1, 2, 3)}
"""For the operators that enlarge a tensor: which of their inputs state the size."""

_REMEDY = (
    "export it with a smaller batch or --dynamic-batch; if you trust the file, use"
    " --allow-foreign-operators, in Python allow_foreign_operators=True"
)


@dataclass
class InferenceCost:
    """Adds up what a network needs for one run; raises ArtifactError above a limit.

    Attributes:
        file_name: Name of the file for messages.
        batch_size: Number of images in the run.
        live_bytes: Memory for the results that exist now.
        memory_bytes: Largest memory for results that existed at the same time.
        operations: Number of multiplications, in which an element of a result counts as 16.
    """

    file_name: str
    batch_size: int = 1
    live_bytes: int = 0
    memory_bytes: int = 0
    operations: int = 0

    def add_result(self, shape: Shape, element_bytes: int) -> None:
        """Add a tensor that an operator computes.

        Args:
            shape: Its sizes.
            element_bytes: Size of one element, in bytes.
        """
        self.live_bytes += prod(shape) * element_bytes
        self.memory_bytes = max(self.memory_bytes, self.live_bytes)
        if self.memory_bytes > MAX_MEMORY_BYTES:
            raise cost_error(
                self.file_name,
                f"it needs {format_gib(self.memory_bytes)} of memory for one run, more than"
                f" {MAX_MEMORY_BYTES >> 30}",
            )
        self.add_operations(prod(shape) * _OPERATIONS_PER_ELEMENT)

    def add_operations(self, count: int) -> None:
        """Add a number of multiplications."""
        self.operations += count
        if self.operations > MAX_OPERATIONS * self.batch_size:
            raise cost_error(
                self.file_name,
                f"it needs more than {MAX_OPERATIONS // 10**9:,} billion multiplications for one"
                " image, which no TinyViT does",
            )

    def release(self, shape: Shape, element_bytes: int) -> None:
        """Remove a tensor that is not used any more; see `add_result`."""
        self.live_bytes -= prod(shape) * element_bytes


def check_operator_count(count: int, file_name: str) -> None:
    """Raise ArtifactError if a network has more than `MAX_OPERATORS` operators."""
    if count > MAX_OPERATORS:
        raise cost_error(file_name, f"it has {count:,} operators, more than {MAX_OPERATORS:,}")


def cost_error(file_name: str, reason: str) -> ArtifactError:
    """Return the error for a file that needs too much.

    Args:
        file_name: Name of the file.
        reason: What it needs, as a clause.
    """
    return ArtifactError(f"{file_name} is refused, because {reason}", _REMEDY)


def check_inference_cost(graph: NetworkGraph, file_name: str) -> bool:
    """Check that a network needs no more memory and time than networks for images do.

    Args:
        graph: The network.
        file_name: Name of the file for messages.

    Returns:
        Whether the cost could be computed. If not, the network has an operator whose result has an
        unknown size, and nothing is known about it.

    Raises:
        ArtifactError: If the network needs more than the limits of this module, or if a size in it
            depends on the pixels of the image.
    """
    try:
        CostWalk(graph, InferenceCost(file_name)).run()
    except UnknownCostError:
        return False
    return True


class CostWalk:
    """Visits the operators of a network in the order in which they can be computed."""

    def __init__(self, graph: NetworkGraph, cost: InferenceCost) -> None:
        """Prepare the walk.

        Args:
            graph: The network.
            cost: What is added up, from 0.
        """
        self._graph, self._file_name, self._cost = graph, cost.file_name, cost
        self._tensors: dict[str, Tensor] = {}
        self._uses: dict[str, int] = defaultdict(int)

    def run(self) -> None:
        """Visit all operators.

        Raises:
            ArtifactError: If a limit is exceeded, or if a size depends on the pixels of the image.
            UnknownCostError: If the size of a result is not known.
        """
        check_operator_count(len(self._graph.nodes), self._file_name)
        self._add_constants()
        self._add_inputs()
        for node in self._graph.nodes:
            for name in node.inputs:
                self._uses[name] += 1
        unknown_cost = False
        for node in sort_nodes(self._graph.nodes, set(self._tensors), self._file_name):
            self._check_size_inputs(node)
            if unknown_cost:
                continue
            try:
                self._visit(node)
            except UnknownCostError:
                # The remaining operators are only checked for sizes that depend on pixels.
                unknown_cost = True
        if unknown_cost:
            raise UnknownCostError(self._file_name)

    def _add_constants(self) -> None:
        stated_bytes = 0
        for name, constant in self._graph.constants.items():
            self._tensors[name] = _describe_constant(constant)
            stated_bytes += prod(constant.shape) * constant.element_bytes
        if stated_bytes > 2 * MAX_FILE_BYTES:
            reason = f"its weights take {format_gib(stated_bytes)}"
            raise cost_error(self._file_name, reason)

    def _add_inputs(self) -> None:
        for name, sizes in self._graph.inputs.items():
            if name in self._tensors:
                continue
            shape = tuple(
                size or (ASSUMED_SIDE if axis else ASSUMED_BATCH_SIZE)
                for axis, size in enumerate(sizes)
            )
            if sizes and sizes[0]:
                self._cost.batch_size = max(self._cost.batch_size, sizes[0])
            # Its memory belongs to the caller, and `tensor_limits` checks it.
            self._tensors[name] = Tensor(shape, 0, depends_on_pixels=True)

    def _check_size_inputs(self, node: Node) -> None:
        for index in _SIZE_INPUTS.get(node.operator, ()):
            name = node.inputs[index] if index < len(node.inputs) else ""
            tensor = self._tensors.get(name)
            if name and (tensor is None or tensor.depends_on_pixels):
                raise ArtifactError(
                    f"in {self._file_name}, the size to which {node.operator} enlarges an image"
                    " depends on the pixels",
                    _REMEDY,
                )

    def _visit(self, node: Node) -> None:
        inputs = [self._tensors[name] if name else None for name in node.inputs]
        operations = 0
        if node.operator == "Constant":
            results = [self._read_constant(node)]
        else:
            shapes, operations = apply_rule(node, inputs)
            results = [
                _describe_result(node, inputs, shape, is_first=index == 0)
                for index, shape in enumerate(shapes)
            ]
        # Optional results that the rule does not list are no larger than the first.
        results += [results[0]] * (len(node.outputs) - len(results))
        for name, result in zip(node.outputs, results):
            self._tensors[name] = result
            self._cost.add_result(result.shape, result.element_bytes)
        self._cost.add_operations(operations)
        self.record(node, [result.shape for result in results], operations)
        for name in {*node.inputs, *(name for name in node.outputs if not self._uses[name])}:
            self._release(name, node)

    def record(self, node: Node, shapes: list[Shape], operations: int) -> None:
        """Take note of a visited operator; subclasses may keep what they need.

        Args:
            node: The operator.
            shapes: The sizes of its results.
            operations: Its multiplications.
        """

    def _read_constant(self, node: Node) -> Tensor:
        value = next(iter(node.attributes.values()), None)
        if isinstance(value, Constant):
            return _describe_constant(value)
        raise UnknownCostError("Constant")

    def _release(self, name: str, node: Node) -> None:
        """Count down the uses of a tensor, and its memory if this was the last.

        Results that do not depend on the image are computed when the file is opened, and stay.
        """
        tensor = self._tensors.get(name)
        self._uses[name] -= node.inputs.count(name)
        if tensor is not None and self._uses[name] <= 0 and not tensor.is_constant:
            self._cost.release(tensor.shape, tensor.element_bytes)


def _describe_constant(constant: Constant) -> Tensor:
    return Tensor(constant.shape, constant.element_bytes, constant.values, is_constant=True)


def _describe_result(
    node: Node, inputs: list[Tensor | None], shape: Shape, is_first: bool
) -> Tensor:
    """Describe an output of an operator."""
    tensors = [tensor for tensor in inputs if tensor is not None]
    values = None
    if is_first and prod(shape) <= MAX_KNOWN_VALUES:
        values = compute_values(node, inputs, shape)
    states_size = node.operator in ("Shape", "Size")
    return Tensor(
        shape,
        _find_element_bytes(node, tensors),
        values,
        is_constant=all(tensor.is_constant for tensor in tensors),
        depends_on_pixels=not states_size and any(tensor.depends_on_pixels for tensor in tensors),
    )


def _find_element_bytes(node: Node, inputs: list[Tensor]) -> int:
    """Return the size of an element of a result in bytes, or more."""
    if node.operator in ("Cast", "Shape", "Size"):
        return 8
    if node.operator in ("QuantizeLinear", "DynamicQuantizeLinear"):
        return 1
    sources = inputs if node.operator in COMBINED_OPERATORS else inputs[:1]
    return max([4, *(tensor.element_bytes for tensor in sources)])
