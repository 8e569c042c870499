"""What is read of Core ML packages without coremltools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")

import coremltools as ct
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

from tests.helpers import coreml_package as helper
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.formats import mil_messages
from tinyvit.runtimes.formats.coreml import COREML
from tinyvit.runtimes.formats.stated_operators import StatedNetwork
from tinyvit.runtimes.network_analysis.coverage import check_coverage
from tinyvit.runtimes.network_analysis.coverage_result import Coverage

FLOATS = "it computes in floats, in a quantized network"


def read(folder: Path, build: Any) -> StatedNetwork:
    return COREML.read_stated_network(helper.build_package(folder, build))


def coverage_of(folder: Path, build: Any) -> Coverage:
    return check_coverage(read_artifact(helper.build_package(folder, build)))


def change(folder: Path, edit: Any) -> Path:
    """Build the smallest classifier, and change its message."""
    path = helper.build_package(folder, helper.build_gelu_and_linear)
    helper.edit_model(path, edit)
    return path


def find_linear(model: Any) -> Any:
    """Return the message of the linear layer."""
    operations = helper.get_main_block(model).operations
    return next(operation for operation in operations if operation.type == "linear")


def round_values(x: Any) -> Any:
    scale = np.float32(0.01)
    integers = mb.quantize(input=x, scale=scale, output_dtype="int8")
    return mb.dequantize(input=integers, scale=scale)


def test_operations_are_read_with_their_products(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        features = mb.conv(x=x, weight=helper.KERNEL, pad_type="valid")
        depthwise = mb.conv(x=x, weight=helper.DEPTHWISE_KERNEL, pad_type="valid", groups=3)
        matrix = mb.reshape(x=depthwise, shape=(27, 4))
        product = mb.matmul(x=matrix, y=np.ones((27, 5), np.float32), transpose_x=True)
        up = mb.conv_transpose(x=features, weight=np.ones((5, 2, 2, 2), np.float32))
        flat = mb.concat(
            values=[mb.reshape(x=up, shape=(1, 98)), mb.reshape(x=product, shape=(1, 20))], axis=1
        )
        return mb.linear(x=flat, weight=np.ones((10, 118), np.float32))

    network = read(tmp_path, build)
    assert not network.is_quantized
    assert not network.has_open_sizes
    found = [
        (item.name, item.multiplications) for item in network.operators if item.multiplications
    ]
    assert found == [
        ("conv", 5 * 6 * 6 * 27),
        ("conv", 3 * 6 * 6 * 9),
        ("matmul", 4 * 5 * 27),
        ("conv_transpose", 5 * 6 * 6 * 2 * 4),
        ("linear", 10 * 118),
    ]
    assert {item.max_rank for item in network.operators if item.name == "conv"} == {4}


def test_constants_and_compressed_weights_are_left_out(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        weight = mb.constexpr_affine_dequantize(
            quantized_data=helper.INT8_MATRIX,
            zero_point=np.int8(0),
            scale=np.float32(0.01),
            axis=np.int32(0),
        )
        return mb.linear(x=mb.reshape(x=x, shape=(1, helper.FEATURES)), weight=weight)

    network = read(tmp_path, build)
    assert [item.name for item in network.operators] == ["reshape", "linear", "reshape"]
    assert not network.is_quantized


def test_a_float_network_is_accepted(tmp_path: Path) -> None:
    coverage = coverage_of(tmp_path, helper.build_gelu_and_linear)
    assert coverage == Coverage(4, (), 0.0)


def test_dimensions_and_operators_are_refused(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return mb.erf(x=mb.relu(x=mb.reshape(x=x, shape=(1, 3, 2, 4, 8))))

    refused = coverage_of(tmp_path, build).refused
    reason = "a tensor has 5 dimensions, more than 4"
    assert [(item.operator, item.reason) for item in refused] == [
        ("reshape", reason),
        ("relu", reason),
        ("erf", "NPUs do not have this operator"),
        ("reshape", reason),
    ]


def test_open_sizes_are_refused_except_the_number_of_images(tmp_path: Path) -> None:
    def save(name: str, flexible: tuple[Any, ...]) -> Coverage:
        @mb.program(
            input_specs=[mb.TensorSpec(shape=flexible, dtype=types.fp32)],
            opset_version=ct.target.iOS17,
        )
        def program(x: Any) -> Any:
            return mb.relu(x=x)

        shape = [ct.RangeDim(1, 9) if size is None else size for size in sizes]
        model = ct.convert(
            program,
            convert_to="mlprogram",
            inputs=[ct.TensorType("x", ct.Shape(shape))],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
        path = tmp_path / f"{name}.mlpackage"
        model.save(str(path))
        return check_coverage(read_artifact(path))

    from coremltools.converters.mil.mil import get_new_symbol

    sizes: tuple[Any, ...] = (None, 3, 8, 8)
    assert save("batch", (get_new_symbol(), 3, 8, 8)).refused == ()
    sizes = (1, 3, None, 8)
    refused = save("height", (1, 3, get_new_symbol(), 8)).refused
    assert [item.reason for item in refused] == ["sizes are only known at run time"]


def test_floats_in_a_quantized_network_are_refused(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        flat = mb.reshape(x=round_values(x), shape=(1, helper.FEATURES))
        logits = round_values(mb.linear(x=flat, weight=helper.MATRIX))
        return mb.gelu(x=logits, mode="EXACT")

    path = helper.build_package(tmp_path, build)
    assert COREML.read_stated_network(path).is_quantized
    coverage = check_coverage(read_artifact(path))
    assert coverage.operator_count == 8
    # The last reshape, of the helper, moves the result of the GELU.
    refused = [(item.operator, item.reason) for item in coverage.refused]
    assert refused == [("gelu", FLOATS), ("reshape", FLOATS)]


def test_a_loop_is_one_operation_that_npus_do_not_have(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return mb.while_loop(
            _cond=lambda value: mb.less(x=mb.reduce_max(x=value), y=np.float32(1)),
            _body=lambda value: mb.add(x=value, y=np.float32(1)),
            loop_vars=(x,),
        )

    coverage = coverage_of(tmp_path, build)
    assert coverage.refused[0].operator == "while_loop"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda model: model.ClearField("mlProgram"), "0 ML Programs instead of one"),
        (lambda model: model.mlProgram.functions.clear(), "no function main"),
        (
            lambda model: model.mlProgram.functions["main"].block_specializations.clear(),
            "no code for its opset",
        ),
        (
            lambda model: find_linear(model).inputs.pop("weight"),
            "a linear has no weight",
        ),
    ],
)
def test_damaged_programs_are_refused(edit: Any, message: str, tmp_path: Path) -> None:
    path = change(tmp_path, edit)
    with pytest.raises(ArtifactError, match=message):
        COREML.read_stated_network(path)


def test_programs_beyond_the_limits_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_sizes(model: Any) -> None:
        output = helper.get_main_block(model).operations[-1].outputs[0]
        for _ in range(65):
            output.type.tensorType.dimensions.add().constant.size = 1

    with pytest.raises(ArtifactError, match="more than 64"):
        COREML.read_stated_network(change(tmp_path / "sizes", add_sizes))
    monkeypatch.setattr(mil_messages, "_MAX_PROGRAM_BYTES", 100)
    with pytest.raises(ArtifactError, match="its program is larger than"):
        COREML.read_stated_network(change(tmp_path / "size", lambda model: None))


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = helper.build_package(tmp_path, helper.build_gelu_and_linear)
    model = path / helper.MODEL_FILE
    model.write_bytes(model.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="damaged or incomplete"):
        COREML.read_stated_network(path)
