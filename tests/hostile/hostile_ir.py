"""OpenVINO models, written as text, that need too much memory or time, or contradict themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from xml.sax.saxutils import quoteattr

import numpy as np

from tests.helpers.hostile_text import HOSTILE_TEXT

_PRECISIONS = {"f32": "FP32", "i64": "I64", "i32": "I32"}
_LONG = 40_000


class IrBuilder:
    """Builds the .xml and the .bin file of a model, layer by layer.

    Attributes:
        weights: The .bin file.
    """

    def __init__(self) -> None:
        """Start a model that takes an image, (1, 3, 32, 32)."""
        self.weights = b""
        self._layers: list[str] = []
        self._edges: list[str] = []
        self.image = self.add("Parameter", {"shape": "1,3,32,32", "element_type": "f32"}, [])

    def constant(self, values: object, element_type: str = "f32") -> str:
        """Add a constant, and return the number of its layer."""
        array = np.asarray(values, {"f32": np.float32, "i64": np.int64}[element_type])
        data = {
            "element_type": element_type,
            "shape": ",".join(map(str, array.shape)),
            "offset": len(self.weights),
            "size": array.nbytes,
        }
        self.weights += array.tobytes()
        return self.add("Const", data, [])

    def add(
        self, kind: str, data: dict[str, object], inputs: list[str], version: str = "opset1"
    ) -> str:
        """Add a layer, and return its number."""
        number = str(len(self._layers))
        attributes = " ".join(f"{name}={quoteattr(str(value))}" for name, value in data.items())
        ports = "".join(
            f'<port id="{port}" precision="FP32"><dim>1</dim></port>' for port in range(len(inputs))
        )
        out = f'<output><port id="{len(inputs)}" precision="FP32"><dim>1</dim></port></output>'
        self._layers.append(
            f'<layer id="{number}" name="layer{number}" type={quoteattr(kind)} version="{version}">'
            f"<data {attributes}/>{f'<input>{ports}</input>' if inputs else ''}"
            f"{'' if kind == 'Result' else out}</layer>"
        )
        for port, source in enumerate(inputs):
            layer, _, source_port = source.partition(":")
            self._edges.append(
                f'<edge from-layer="{layer}" from-port="{source_port or 0}"'
                f' to-layer="{number}" to-port="{port}"/>'
            )
        return f"{number}:{len(inputs)}"

    def finish(self, result: str) -> tuple[str, bytes]:
        """Reduce a result to logits; return the .xml and the .bin file."""
        image = self.add(
            "ReduceMean",
            {"keep_dims": "false"},
            [self.image, self.constant([0, 1, 2, 3], "i64")],
        )
        flat = self.add("Reshape", {"special_zero": "false"}, [result, self.constant([-1], "i64")])
        mean = self.add("ReduceMean", {"keep_dims": "false"}, [flat, self.constant([0], "i64")])
        total = self.add("Add", {"auto_broadcast": "numpy"}, [mean, image])
        logits = self.add(
            "Multiply", {"auto_broadcast": "numpy"}, [total, self.constant(np.ones((1, 10)))]
        )
        self.add("Result", {}, [logits])
        return self.to_xml(), self.weights

    def to_xml(self) -> str:
        """Return the .xml file."""
        layers, edges = "".join(self._layers), "".join(self._edges)
        return (
            '<?xml version="1.0"?><net name="a" version="11">'
            f"<layers>{layers}</layers><edges>{edges}</edges><rt_info/></net>"
        )


Files = "tuple[str, bytes]"


def _make_outer_product(kind: str) -> tuple[str, bytes]:
    builder = IrBuilder()
    column, row = builder.constant(np.ones((_LONG, 1))), builder.constant(np.ones((1, _LONG)))
    data: dict[str, object] = {"auto_broadcast": "numpy"}
    if kind == "MatMul":
        data = {"transpose_a": "false", "transpose_b": "false"}
    return builder.finish(builder.add(kind, data, [column, row]))


def _make_filled(kind: str, sizes: list[int]) -> tuple[str, bytes]:
    builder = IrBuilder()
    number, target = builder.constant([1.0]), builder.constant(sizes, "i64")
    if kind == "Broadcast":
        result = builder.add("Broadcast", {"mode": "numpy"}, [number, target], "opset3")
    elif kind == "Tile":
        result = builder.add("Tile", {}, [number, target])
    elif kind == "Range":
        ends = [builder.constant(value, "i64") for value in (0, sizes[0], 1)]
        result = builder.add("Range", {"output_type": "f32"}, ends, "opset4")
    elif kind == "OneHot":
        depth = builder.constant(sizes[0], "i64")
        on, off = builder.constant(1.0), builder.constant(0.0)
        indices = builder.constant(np.zeros(1000), "i64")
        result = builder.add("OneHot", {"axis": "-1"}, [indices, depth, on, off])
    elif kind == "Pad":
        zeros = builder.constant([0, 0, 0, 0], "i64")
        ends = [builder.image, zeros, builder.constant([0, 0, *sizes[:2]], "i64")]
        result = builder.add("Pad", {"pad_mode": "edge"}, ends)
    elif kind == "Interpolate":
        scales = builder.constant([1.0, 1.0])
        axes = builder.constant([2, 3], "i64")
        data: dict[str, object] = {"mode": "cubic", "shape_calculation_mode": "sizes"}
        data |= {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "floor"}
        data |= {"antialias": "false", "pads_begin": "0", "pads_end": "0", "cube_coeff": "-0.75"}
        inputs = [builder.image, builder.constant(sizes[:2], "i64"), scales, axes]
        result = builder.add("Interpolate", data, inputs, "opset4")
    else:
        result = builder.add(kind, {"output_type": "f32"}, [target], "opset9")
    return builder.finish(result)


def _make_chain(kind: str, length: int) -> tuple[str, bytes]:
    builder = IrBuilder()
    result = builder.image
    for _ in range(length):
        if kind == "Concat":
            result = builder.add("Concat", {"axis": "0"}, [result, result])
        else:
            result = builder.add(kind, {}, [result])
    return builder.finish(result)


def _make_convolution(**changes: object) -> tuple[str, bytes]:
    builder = IrBuilder()
    data: dict[str, object] = {"strides": "1,1", "dilations": "1,1", "auto_pad": "explicit"}
    data |= {"pads_begin": "0,0", "pads_end": "0,0"}
    kernel = builder.constant(np.ones((8, 3, 3, 3)))
    return builder.finish(builder.add("Convolution", {**data, **changes}, [builder.image, kernel]))


def _make_constant(**changes: object) -> tuple[str, bytes]:
    builder = IrBuilder()
    builder.constant(np.ones(4))
    data = {"element_type": "f32", "shape": "4", "offset": 0, "size": 16}
    return builder.finish(builder.add("Const", {**data, **changes}, []))


def _make_parameter(**changes: object) -> tuple[str, bytes]:
    builder = IrBuilder()
    extra = builder.add("Parameter", {"shape": "1", "element_type": "f32", **changes}, [])
    return builder.finish(extra)


def _make_layer(kind: str, version: str, text: str) -> tuple[str, bytes]:
    builder = IrBuilder()
    return builder.finish(builder.add(kind, {text or "a": text}, [builder.image], version))


def _replace(old: str, new: str) -> tuple[str, bytes]:
    builder = IrBuilder()
    xml, weights = builder.finish(builder.add("ReLU", {}, [builder.image]))
    return xml.replace(old, new), weights


def list_hostile_ir() -> Iterator[tuple[str, Callable[[], tuple[str, bytes]]]]:
    """Yield descriptions, and functions that make the .xml and the .bin file."""
    for kind in ("MatMul", "Multiply", "Add", "Maximum", "Equal", "Power"):
        yield f"{kind} of two vectors", partial(_make_outer_product, kind)
    for kind in ("Broadcast", "Tile", "Range", "OneHot", "Pad", "Interpolate", "Eye", "Bucketize"):
        for sizes in ([10**5, 10**5], [2**31, 2], [2**62, 2], [-1, -5], [0, 0]):
            yield f"{kind} {sizes}", partial(_make_filled, kind, sizes)
    for kind, length in (("Concat", 45), ("ReLU", 5000), ("Sigmoid", 30_000)):
        yield f"{length} times {kind}", partial(_make_chain, kind, length)
    yield from _list_attributes()
    yield from _list_replacements()


def _list_attributes() -> Iterator[tuple[str, Callable[[], tuple[str, bytes]]]]:
    """Yield models with extreme values in the attributes of layers."""
    for name in ("strides", "dilations", "pads_begin", "pads_end"):
        for value in ("0,0", "-1,-1", "100000,100000", f"{2**62},{2**62}", "x", "", "1," * 10_000):
            yield f"Convolution: {name} {value[:9]}", partial(_make_convolution, **{name: value})
    for name, values in {
        "element_type": ("f64", "string", "u1", "i4", "nf4", "dynamic", "x", "", "boolean"),
        "shape": ("1000000,1000000", f"{2**62},8", "-1", "", "0", "x", "4," * 5000, "?", "..."),
        "offset": ("-1", "100", str(2**63), str(2**64 - 8), "x", ""),
        "size": ("-1", "0", "1", str(2**63), str(2**64 - 1), "x", ""),
    }.items():
        for value in values:
            yield f"Const: {name} {value[:9]}", partial(_make_constant, **{name: value})
            if name in ("element_type", "shape"):
                yield f"Parameter: {name} {value[:9]}", partial(_make_parameter, **{name: value})
    for kind in ("If", "Loop", "TensorIterator", "Assign", "ReadValue", "Unknown", "", "Custom"):
        for version in ("opset1", "opset8", "extension", "", "x"):
            yield f"{kind} {version}", partial(_make_layer, kind, version, "a")


def _list_replacements() -> Iterator[tuple[str, Callable[[], tuple[str, bytes]]]]:
    """Yield models in which a text is replaced by another one."""
    for old, new in (
        ('from-layer="0"', 'from-layer="99"'),
        ('to-layer="1"', 'to-layer="1" to-layer="2"'),
        ('to-port="0"', 'to-port="-1"'),
        ('id="1"', 'id="0"'),
        ('id="1"', f'id="{2**64}"'),
        ('version="11"', 'version="-1"'),
        ('version="11"', ""),
        ("<edges>", "<edges><edge/>"),
        ("<layers>", "<layers><layer/>"),
        ("<rt_info/>", "<rt_info>" + "<a>" * 300 + "</a>" * 300 + "</rt_info>"),
        ("<rt_info/>", "<a>" * 100_000),
        ("<rt_info/>", "<!-- -->" * 100_000),
        ("<net ", '<!DOCTYPE a [<!ENTITY b "c">]><net '),
        ("<net ", "<?a b?>" * 10_000 + "<net "),
        ('name="a"', f'name="{"x" * 1_000_000}"'),
        ('name="layer1"', 'name="&#27;[2J&#8238;"'),
        ('type="ReLU"', 'type="&#10;&#155;&#8238;"'),
        ('<?xml version="1.0"?>', '<?xml version="1.0" encoding="utf-7"?>'),
        ('<?xml version="1.0"?>', '<?xml version="9.9" encoding="UTF-8" standalone="no"?>'),
        ("</net>", "</net></net>"),
        ("</net>", "</net>" + HOSTILE_TEXT.encode("ascii", "ignore").decode()),
    ):
        yield f"{new[:40]!a} instead of {old}", partial(_replace, old, new)
