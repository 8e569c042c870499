"""Reads the operators of an OpenVINO model, and the sizes of their tensors, without OpenVINO.

The .xml file states the sizes of every tensor. Layers that depend only on constants, such as the
conversion of 8-bit weights, are left out: OpenVINO computes them once, when it compiles the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from tinyvit.runtimes.formats.file_errors import damaged_error
from tinyvit.runtimes.formats.network_graph import check_rank
from tinyvit.runtimes.formats.openvino_layers import ALLOWED_LAYERS
from tinyvit.runtimes.formats.openvino_xml import XmlVisitor, parse_xml
from tinyvit.runtimes.formats.quantized_tensors import (
    TensorRole,
    TensorUse,
    computes_in_floats,
    find_quantized_tensors,
)
from tinyvit.runtimes.formats.stated_operators import StatedNetwork, StatedOperator, find_depth

_LAYER_PATH = ["net", "layers", "layer"]
_EDGE_PATH = ["net", "edges", "edge"]
_PORT_DEPTH = len(_LAYER_PATH) + 2
"""Number of open elements at a port, which is in the element "input" or "output" of a layer."""

_MAX_ELEMENTS = 1_000_000
"""Largest number of layers, ports, sizes and edges together. A TinyViT has fewer than 30,000."""
_MAX_NUMBER_CHARACTERS = 20
"""Largest number of characters of a size or an id; the largest 64-bit integer has 19 digits."""
_MAX_NAME_LENGTH = 200
"""Number of characters of a layer's name that are kept."""

_OPEN_SIZE = -1
_OPEN_RANK = "..."
"""Shape of an input whose number of dimensions is only known at run time."""

_PASSING_NAMES = """
Concat Gather Pad Reshape Slice Split Squeeze StridedSlice Transpose Unsqueeze VariadicSplit
"""
"""Types of layers that only move or select values, or add zeros."""

_ROLES = {
    "FakeQuantize": TensorRole.ROUNDS,
    **dict.fromkeys(_PASSING_NAMES.split(), TensorRole.PASSES),
}
"""Type of a layer -> what it does to its tensors; the others compute new values."""

_KERNEL_AXES = {
    "Convolution": 1,
    "ConvolutionBackpropData": 1,
    "GroupConvolution": 2,
    "GroupConvolutionBackpropData": 2,
}
"""Type of a layer -> the first axis of its weights over which products are added."""

_PRODUCTS = frozenset((*_KERNEL_AXES, "MatMul"))
_INTEGER_TYPES = ("I", "U", "BOOL")
"""Beginnings of the names of element types that are no floats."""


@dataclass
class _Port:
    """An input or output of a layer: its number, element type and sizes."""

    number: str
    precision: str
    sizes: list[int] = field(default_factory=list)


@dataclass
class _Layer:
    """A layer, as the file states it."""

    number: str
    kind: str
    name: str
    inputs: list[_Port] = field(default_factory=list)
    outputs: list[_Port] = field(default_factory=list)
    has_open_rank: bool = False

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of its outputs, for this module."""
        return tuple(f"{self.number}:{port.number}" for port in self.outputs)


class _LayerVisitor(XmlVisitor):
    """Collects the layers and edges of a model.

    Attributes:
        layers: The layers, in the order of the file.
        sources: Name of an input -> name of the output that it reads.
    """

    reads_text = True

    def __init__(self) -> None:
        """Begin without any layers."""
        super().__init__()
        self.layers: list[_Layer] = []
        self.sources: dict[str, str] = {}
        self._elements = 0
        self._size = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin a layer, a port, a size or an edge; see `XmlVisitor.start`."""
        path = self.open_elements
        if self._is_in_layer():
            self._start_part(name, attributes)
        elif path == _LAYER_PATH:
            self._count_element()
            layer_name = attributes.get("name", "")[:_MAX_NAME_LENGTH]
            self.layers.append(_Layer(_read_id(attributes), attributes.get("type", ""), layer_name))
        elif path == _EDGE_PATH:
            self._count_element()
            ends = [attributes.get(key, "") for key in ("from-layer", "from-port")]
            readers = [attributes.get(key, "") for key in ("to-layer", "to-port")]
            self.sources[":".join(readers)] = ":".join(ends)

    def end(self, name: str) -> None:
        """End a size; see `XmlVisitor.end`."""
        if name == "dim" and self._is_size():
            self._find_ports()[-1].sizes.append(_parse_size(self._size))

    def add_text(self, text: str) -> None:
        """Add digits to a size; see `XmlVisitor.add_text`."""
        if self._is_size() and len(self._size) <= _MAX_NUMBER_CHARACTERS:
            self._size += text

    def _start_part(self, name: str, attributes: dict[str, str]) -> None:
        """Begin a part of a layer: a port or a size."""
        layer, ports = self.layers[-1], self._find_ports()
        if name == "data" and len(self.open_elements) == len(_LAYER_PATH) + 1:
            layer.has_open_rank |= attributes.get("shape") == _OPEN_RANK
        elif name == "port" and len(self.open_elements) == _PORT_DEPTH:
            self._count_element()
            ports.append(_Port(_read_id(attributes), attributes.get("precision", "")))
        elif self._is_size():
            self._count_element()
            check_rank(ports[-1].sizes)
            self._size = ""

    def _is_in_layer(self) -> bool:
        return len(self.open_elements) > len(_LAYER_PATH) and self.open_elements[:3] == _LAYER_PATH

    def _is_size(self) -> bool:
        """Return whether the last element that began is a size of a port."""
        return (
            len(self.open_elements) == _PORT_DEPTH + 1
            and self.open_elements[-2:] == ["port", "dim"]
            and self._is_in_layer()
            and bool(self._find_ports())
        )

    def _find_ports(self) -> list[_Port]:
        """Return the ports to which the element that began belongs: inputs or outputs."""
        layer = self.layers[-1]
        return layer.inputs if self.open_elements[len(_LAYER_PATH)] == "input" else layer.outputs

    def _count_element(self) -> None:
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise ValueError(f"it has more than {_MAX_ELEMENTS} layers, sizes and edges")


def _read_id(attributes: dict[str, str]) -> str:
    """Return the number of a layer or port, of which the names of all outputs are made."""
    number = attributes.get("id", "")
    if len(number) > _MAX_NUMBER_CHARACTERS:
        raise ValueError("a layer or a port has an id that is no number")
    return number


def _parse_size(text: str) -> int:
    """Parse a size; raise ValueError unless it is a number from -1."""
    if len(text) > _MAX_NUMBER_CHARACTERS:
        raise ValueError("a tensor has a size that is no number")
    size = int(text)
    if size < _OPEN_SIZE:
        raise ValueError("a tensor has a negative size")
    return size


def read_network(path: Path) -> StatedNetwork:
    """Read the operators of a model.

    Args:
        path: Path of the .xml file.

    Returns:
        The operators.

    Raises:
        ArtifactError: If the file is damaged or hostile, or larger than a limit.
    """
    visitor = _LayerVisitor()
    parse_xml(path, visitor)
    try:
        return _describe_network(visitor)
    except ValueError as error:
        raise damaged_error(path, error) from error


def _describe_network(visitor: _LayerVisitor) -> StatedNetwork:
    rows = list(_list_operators(visitor))
    quantized = find_quantized_tensors([use for _layer, use in rows])
    integers = {
        name
        for layer in visitor.layers
        for name, port in zip(layer.output_names, layer.outputs)
        if port.precision.startswith(_INTEGER_TYPES)
    }
    exact = quantized | integers
    return StatedNetwork(
        "openvino",
        tuple(
            StatedOperator(
                name=layer.kind[:_MAX_NAME_LENGTH],
                output=layer.name,
                max_rank=_find_max_rank(layer, use, visitor.sources),
                has_floats=computes_in_floats(use, exact),
                multiplications=_count_multiplications(layer),
            )
            for layer, use in rows
        ),
        is_quantized=bool(quantized),
        has_open_sizes=any(
            layer.has_open_rank or any(_OPEN_SIZE in port.sizes[1:] for port in layer.outputs)
            for layer in visitor.layers
            if layer.kind == "Parameter"
        ),
    )


def _list_operators(visitor: _LayerVisitor) -> Iterator[tuple[_Layer, TensorUse]]:
    """Yield the layers that depend on an input of the network, with their tensors."""
    constants: set[str] = set()
    products: set[str] = set()
    for layer in visitor.layers:
        if layer.kind in ("Parameter", "Result"):
            continue
        sources = [_find_source(layer, port, visitor.sources) for port in layer.inputs]
        if constants.issuperset(sources) and layer.kind in ALLOWED_LAYERS:
            constants.update(layer.output_names)
            continue
        inputs = tuple(source for source in sources if source not in constants)
        role = _ROLES.get(layer.kind, TensorRole.COMPUTES)
        if layer.kind in _PRODUCTS:
            products.update(layer.output_names)
        elif layer.kind == "Add" and len(inputs) == 1 and products.issuperset(inputs):
            role = TensorRole.PASSES
        yield layer, TensorUse(role, inputs, layer.output_names)


def _find_source(layer: _Layer, port: _Port, sources: dict[str, str]) -> str:
    """Return the name of the output that an input reads."""
    source = sources.get(f"{layer.number}:{port.number}")
    if source is None:
        raise ValueError("an input of a layer reads nothing")
    return source


def _find_max_rank(layer: _Layer, use: TensorUse, sources: dict[str, str]) -> int:
    """Return the largest number of dimensions of the outputs, and of the inputs in `use`.

    Constants do not count: the weights of a GroupConvolution have five.
    """
    names = set(use.inputs)
    computed = [port for port in layer.inputs if sources[f"{layer.number}:{port.number}"] in names]
    return max((len(port.sizes) for port in computed + layer.outputs), default=0)


def _count_multiplications(layer: _Layer) -> int | None:
    """Count the multiplications of a product; 0 for other layers, None for unknown sizes."""
    if layer.kind not in _PRODUCTS:
        return 0
    if len(layer.inputs) < 2 or not layer.outputs:
        raise ValueError(f"a {layer.kind} has too few inputs or outputs")
    first, second = (port.sizes for port in layer.inputs[:2])
    result = layer.outputs[0].sizes
    if _OPEN_SIZE in (*first, *second, *result):
        return None
    if layer.kind == "MatMul":
        return prod(result) * find_depth(first, result)
    # A transposed convolution multiplies each element of its input instead.
    elements = prod(first if layer.kind.endswith("BackpropData") else result)
    return elements * prod(second[_KERNEL_AXES[layer.kind] :])
