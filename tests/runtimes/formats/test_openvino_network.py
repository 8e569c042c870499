"""What is read of OpenVINO's .xml files without OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.formats import openvino_network
from tinyvit.runtimes.formats.openvino_ir import OPENVINO_IR
from tinyvit.runtimes.formats.stated_operators import StatedNetwork
from tinyvit.runtimes.network_analysis.coverage import check_coverage
from tinyvit.runtimes.network_analysis.coverage_result import Coverage, RefusedOperator

SOURCE = (
    '<layer id="0" name="x" type="Parameter"><output><port id="0" precision="FP32">{}</port>'
    "</output></layer>"
)


def save(folder: Path, build: Any, shape: str = "1,3,8,8") -> Path:
    """Save a model that OpenVINO makes of an input."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset13

    source = opset13.parameter(openvino.PartialShape(shape), np.float32, name="x")
    path = folder / "a.xml"
    model = openvino.Model([build(opset13, source)], [source])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def read(folder: Path, build: Any, shape: str = "1,3,8,8") -> StatedNetwork:
    return OPENVINO_IR.read_stated_network(save(folder, build, shape))


def coverage_of(folder: Path, build: Any, shape: str = "1,3,8,8") -> Coverage:
    return check_coverage(read_artifact(save(folder, build, shape)))


def write(folder: Path, layers: str, edges: str = "") -> Path:
    """Write a model as text."""
    path = folder / "a.xml"
    path.write_text(f"<net><layers>{layers}</layers><edges>{edges}</edges></net>", "utf-8")
    return path


def convolve(ops: Any, value: Any, channels: int = 4) -> Any:
    kernel = ops.constant(np.ones((channels, value.shape[1], 3, 3), np.float32))
    return ops.convolution(value, kernel, [1, 1], [1, 1], [1, 1], [1, 1])


def round_values(ops: Any, value: Any) -> Any:
    ends = [ops.constant(np.float32(end)) for end in (-1, 1, -1, 1)]
    return ops.fake_quantize(value, *ends, 256)


def test_products_are_counted(tmp_path: Path) -> None:
    def build(ops: Any, x: Any) -> Any:
        grouped = ops.constant(np.ones((4, 1, 1, 3, 3), np.float32))
        value = ops.group_convolution(convolve(ops, x), grouped, [1, 1], [1, 1], [1, 1], [1, 1])
        kernel = ops.constant(np.ones((4, 2, 2, 2), np.float32))
        value = ops.convolution_backprop_data(value, kernel, [2, 2])
        flat = ops.reshape(value, ops.constant(np.int64([2, 256])), False)
        return ops.matmul(flat, ops.constant(np.ones((10, 2), np.float32)), True, True)

    network = read(tmp_path, build)
    assert not network.is_quantized
    assert not network.has_open_sizes
    assert [(item.name, item.max_rank, item.multiplications) for item in network.operators] == [
        ("Convolution", 4, 8 * 8 * 4 * 3 * 9),
        ("GroupConvolution", 4, 8 * 8 * 4 * 9),
        ("ConvolutionBackpropData", 4, 8 * 8 * 4 * 2 * 4),
        ("Reshape", 4, 0),
        ("MatMul", 2, 256 * 10 * 2),
    ]


def test_what_depends_only_on_constants_is_left_out(tmp_path: Path) -> None:
    def build(ops: Any, x: Any) -> Any:
        weight = ops.convert(ops.constant(np.ones((4, 3, 1, 1), np.int8)), "f32")
        scaled = ops.multiply(weight, ops.constant(np.float32([[[[0.5]]]] * 4)))
        return ops.convolution(x, scaled, [1, 1], [0, 0], [0, 0], [1, 1])

    assert [item.name for item in read(tmp_path, build).operators] == ["Convolution"]


def test_a_float_network_is_accepted(tmp_path: Path) -> None:
    coverage = coverage_of(tmp_path, lambda ops, x: ops.gelu(convolve(ops, x), "ERF"))
    assert coverage == Coverage(2, (), 0.0)


def test_dimensions_operators_and_open_sizes_are_refused(tmp_path: Path) -> None:
    def fold(ops: Any, x: Any) -> Any:
        five = ops.reshape(x, ops.constant(np.int64([1, 3, 8, 2, 4])), False)
        return ops.reshape(ops.relu(five), ops.constant(np.int64([1, 192])), False)

    reason = "a tensor has 5 dimensions, more than 4"
    refused = coverage_of(tmp_path, fold).refused
    assert [(item.operator, item.reason) for item in refused] == [
        ("Reshape", reason),
        ("ReLU", reason),
        ("Reshape", reason),
    ]
    unusual = coverage_of(tmp_path, lambda ops, x: ops.erf(x))
    assert [item.reason for item in unusual.refused] == ["NPUs do not have this operator"]
    assert unusual.refused[0].operator == "Erf"
    for shape in ("1,3,?,?", "..."):
        open_sizes = coverage_of(tmp_path, lambda ops, x: ops.relu(x), shape)
        assert open_sizes.refused[0].reason == "sizes are only known at run time"
    assert coverage_of(tmp_path, lambda ops, x: ops.relu(x), "?,3,8,8").refused == ()


def test_unknown_sizes_give_no_share(tmp_path: Path) -> None:
    coverage = coverage_of(tmp_path, lambda ops, x: ops.erf(convolve_open(ops, x)), "?,3,8,8")
    assert coverage.refused_share is None
    assert coverage.describe()[0] == "coverage: accelerators refuse 1 of 2 operators"


def convolve_open(ops: Any, value: Any) -> Any:
    kernel = ops.constant(np.ones((4, 3, 3, 3), np.float32))
    return ops.convolution(value, kernel, [1, 1], [1, 1], [1, 1], [1, 1])


def test_floats_in_a_quantized_network_are_refused(tmp_path: Path) -> None:
    def build(ops: Any, x: Any) -> Any:
        flat = ops.reshape(round_values(ops, x), ops.constant(np.int64([1, 3, 64, 1])), False)
        biased = ops.add(convolve(ops, flat), ops.constant(np.ones((1, 4, 1, 1), np.float32)))
        return ops.gelu(round_values(ops, biased), "ERF")

    path = save(tmp_path, build)
    network = OPENVINO_IR.read_stated_network(path)
    assert network.is_quantized
    names = ["FakeQuantize", "Reshape", "Convolution", "Add", "FakeQuantize", "Gelu"]
    assert [item.name for item in network.operators] == names
    coverage = check_coverage(read_artifact(path))
    reason = "it computes in floats, in a quantized network"
    output = network.operators[-1].output
    assert coverage == Coverage(6, (RefusedOperator("Gelu", output, reason),), 0.0)


def test_quantized_weights_alone_do_not_make_a_network_quantized(tmp_path: Path) -> None:
    def build(ops: Any, x: Any) -> Any:
        kernel = round_values(ops, ops.constant(np.ones((4, 3, 1, 1), np.float32)))
        return ops.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1])

    assert not read(tmp_path, build).is_quantized


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("<dim>-2</dim>", "a negative size"),
        ("<dim>big</dim>", "invalid literal"),
        (f"<dim>{'9' * 5000}</dim>", "a size that is no number"),
        ("<dim>1</dim>" * 66, "more than 64"),
    ],
)
def test_damaged_sizes_are_refused(sizes: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=message):
        OPENVINO_IR.read_stated_network(write(tmp_path, SOURCE.format(sizes)))


def test_damaged_layers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, port = SOURCE.format("<dim>1</dim>"), '<port id="0" precision="FP32"/>'
    relu = f'<layer id="1" type="ReLU"><input>{port}</input></layer>'
    with pytest.raises(ArtifactError, match="an input of a layer reads nothing"):
        OPENVINO_IR.read_stated_network(write(tmp_path, source + relu))
    product = f'<layer id="1" type="MatMul"><input>{port}</input></layer>'
    edge = '<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>'
    with pytest.raises(ArtifactError, match="too few inputs or outputs"):
        OPENVINO_IR.read_stated_network(write(tmp_path, source + product, edge))
    for number in ('id="1"', 'id="0"'):
        long = relu.replace(number, f'id="{"1" * 21}"')
        with pytest.raises(ArtifactError, match="an id that is no number"):
            OPENVINO_IR.read_stated_network(write(tmp_path, source + long))
    monkeypatch.setattr(openvino_network, "_MAX_ELEMENTS", 4)
    with pytest.raises(ArtifactError, match="more than 4 layers, sizes and edges"):
        OPENVINO_IR.read_stated_network(write(tmp_path, source + relu, edge))


def test_sizes_outside_of_ports_and_layers_in_layers_do_not_count(tmp_path: Path) -> None:
    inner = f"<body><layers>{SOURCE.format('<dim>7</dim>')}</layers></body><dim>5</dim>"
    relu = f'<layer id="1" name="r" type="ReLU"><input><dim>3</dim></input>{inner}</layer>'
    path = write(tmp_path, SOURCE.format("<dim>1</dim>") + relu)
    assert OPENVINO_IR.read_stated_network(path).operators == ()
