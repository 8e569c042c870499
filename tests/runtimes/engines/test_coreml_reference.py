"""The Core ML reference evaluator runs packages as an engine and refuses hostile programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools")
pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb

from tests.helpers.coreml_package import (
    BATCH,
    BIAS,
    FEATURES,
    INT8_MATRIX,
    MATRIX,
    MODEL_FILE,
    SCALES,
    build_gelu_and_linear,
    build_package,
    edit_model,
    get_main_block,
)
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.install_command import format_requirement_command
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engines._mil_program import read_mil_program
from tinyvit.runtimes.engines.coreml_reference import ENGINE, list_matrix_products
from tinyvit.runtimes.formats.coreml import COREML


def open_package(path: Path, options: RuntimeOptions | None = None) -> Runtime:
    return ENGINE.open(Artifact(path, None), options or RuntimeOptions())


def test_float16_results_are_rounded_to_float16(tmp_path: Path) -> None:
    runtime = open_package(build_package(tmp_path, build_gelu_and_linear, float16=True))
    assert runtime.describe().precision == "float16"
    matrix, bias = torch.from_numpy(MATRIX).double(), torch.from_numpy(BIAS)
    features = F.gelu(torch.from_numpy(BATCH)).reshape(1, FEATURES).double()
    exact_logits = (features @ matrix.T + bias).numpy()
    logits = runtime.run(BATCH)
    assert 1e-4 < np.abs(logits - exact_logits).max() < 0.1
    assert np.array_equal(logits, logits.astype(np.float16).astype(np.float32))


def test_images_are_uint8_in_rows(tmp_path: Path) -> None:
    path = build_package(tmp_path, lambda x: mb.transpose(x=x, perm=[0, 2, 3, 1]), is_image=True)
    runtime = open_package(path)
    input_spec = runtime.inputs[0]
    assert (input_spec.dtype, input_spec.layout) == ("uint8", "NHWC")
    assert input_spec.shape == (1, 8, 8, 3)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), np.uint8)
    assert np.array_equal(runtime.run(pixels), pixels.reshape(1, -1).astype(np.float32))


def test_info_describes_the_evaluator(package: Path) -> None:
    info = open_package(package).describe()
    assert isinstance(info, RuntimeInfo)
    assert (info.engine, info.device) == ("coreml-reference", "cpu")
    assert (info.threads, info.precision) == (None, "float32")


def test_results_are_copies_and_closing_ends_the_runtime(package: Path) -> None:
    runtime = open_package(package)
    assert [spec.name for spec in (*runtime.inputs, *runtime.outputs)] == ["x", "logits"]
    logits = runtime.run(BATCH)
    original_logits = logits.copy()
    runtime.run(BATCH * 2)
    assert np.array_equal(logits, original_logits)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(runtime.run, [BATCH] * 20):
            assert np.array_equal(result, original_logits)
    with runtime:
        pass
    runtime.close()
    with pytest.raises(ArtifactError, match="closed"):
        runtime.run(BATCH)


@pytest.mark.parametrize(
    "batch",
    [
        BATCH[:, :, :7],
        BATCH.astype(np.float64),
        np.zeros((2, 3, 8, 8), np.float32),
        np.zeros((0, 3, 8, 8), np.float32),
    ],
)
def test_wrong_inputs_are_refused(package: Path, batch: Any) -> None:
    with pytest.raises(ArtifactError, match="the file takes"):
        open_package(package).run(batch)


@pytest.mark.parametrize(
    "options",
    [RuntimeOptions("gpu"), RuntimeOptions(threads=1), RuntimeOptions(precision="float16")],
)
def test_impossible_options_are_refused(package: Path, options: RuntimeOptions) -> None:
    with pytest.raises(RequestError):
        open_package(package, options)


def build_mixed_products(x: Any) -> Any:
    """A convolution of integers, a linear layer with integer weights, and a float product."""
    integers = mb.quantize(input=x, scale=np.float32(0.1), output_dtype="int8")
    rounded = mb.dequantize(input=integers, scale=np.float32(0.1))
    weight = mb.constexpr_affine_dequantize(
        quantized_data=INT8_MATRIX, zero_point=np.int8(0), scale=SCALES, axis=0
    )
    linear = mb.linear(x=mb.reshape(x=x, shape=(1, FEATURES)), weight=weight)
    kernel = mb.constexpr_affine_dequantize(
        quantized_data=INT8_MATRIX[:, :3].reshape(10, 3, 1, 1),
        zero_point=np.int8(0),
        scale=SCALES,
        axis=0,
    )
    conv = mb.conv(x=rounded, weight=kernel, pad_type="valid")
    return mb.add(
        x=mb.matmul(x=linear, y=MATRIX[:, :10]),
        y=mb.reduce_mean(x=conv, axes=[2, 3], keep_dims=False),
    )


def test_integer_products_need_two_integer_operands(tmp_path: Path) -> None:
    program = read_mil_program(build_package(tmp_path, build_mixed_products))
    assert sorted(list_matrix_products(program)) == [
        ("conv", 10 * 64 * 3, True),
        ("linear", 1920, False),
        ("matmul", 100, False),
    ]


def set_first_dimension(model: Any, size: int) -> None:
    """Change the declared shape of the program's last operation."""
    output = get_main_block(model).operations[-1].outputs[0]
    output.type.tensorType.dimensions[0].constant.size = size


def remove_first_dimension(model: Any) -> None:
    output = get_main_block(model).operations[-1].outputs[0]
    output.type.tensorType.dimensions[0].unknown.SetInParent()


def repeat_last_operation(model: Any) -> None:
    operations = get_main_block(model).operations
    operations.extend([operations[-1]])


def first_blob(model: Any) -> Any:
    """Return the first constant that is in the weight file."""
    values = (operation.attributes["val"] for operation in get_main_block(model).operations)
    return next(value.blobFileValue for value in values if value.blobFileValue.fileName)


def set_operation_kind(model: Any) -> None:
    get_main_block(model).operations[-1].type = "lstm"


def rename_output(model: Any) -> None:
    get_main_block(model).operations[-1].outputs[0].name = "other"


def replace_gelu_mode(model: Any) -> None:
    for operation in get_main_block(model).operations:
        if "val" in operation.attributes:
            strings = operation.attributes["val"].immediateValue.tensor.strings.values
            if list(strings) == ["EXACT"]:
                strings[0] = "TANH_APPROXIMATION"


def set_blob(**fields: Any) -> Callable[[Any], None]:
    """Make a function that changes fields of the first constant in the weight file."""

    def edit(model: Any) -> None:
        for name, value in fields.items():
            setattr(first_blob(model), name, value)

    return edit


HOSTILE_EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "unknown operation": (set_operation_kind, "does not support the operation lstm"),
    "another gelu": (replace_gelu_mode, "TANH"),
    "too large": (lambda model: set_first_dimension(model, 2**40), "too large"),
    "another shape": (lambda model: set_first_dimension(model, 7), "declared"),
    "no fixed shape": (remove_first_dimension, "no fixed shape"),
    "weights above the folder": (set_blob(fileName="@model_path/../../../x"), "no weight file"),
    "hidden weights": (set_blob(fileName="@model_path/.weights/weight.bin"), "no weight file"),
    "weights anywhere": (set_blob(fileName="/etc/passwd"), "no weight file"),
    "weights after the end": (set_blob(offset=2**63), "ends before"),
    "weights between others": (set_blob(offset=65), "has no float32"),
    "a cycle": (repeat_last_operation, "called logits"),
    "no output": (rename_output, "no operation computes logits"),
    "no input": (lambda model: model.description.ClearField("input"), "one input"),
    "two logits": (
        lambda model: model.description.output.add().CopyFrom(model.description.output[0]),
        "float arrays with different names as outputs",
    ),
    "no program": (lambda model: model.identity.SetInParent(), "no ML Program"),
    "no main function": (lambda model: model.mlProgram.functions.clear(), "no main"),
}


@pytest.mark.parametrize("name", HOSTILE_EDITS)
def test_hostile_programs_are_refused(package: Path, name: str) -> None:
    edit, message = HOSTILE_EDITS[name]
    edit_model(package, edit)
    with pytest.raises(ArtifactError, match=message) as caught:
        open_package(package).run(BATCH)
    assert "\n" not in str(caught.value)


def test_random_bytes_raise_only_artifact_errors(package: Path) -> None:
    original, rng = (package / MODEL_FILE).read_bytes(), np.random.default_rng(1)
    calls: list[Callable[[], Any]] = [
        lambda: open_package(package).run(BATCH),
        lambda: COREML.read_manifests(package),
    ]
    refusals = 0
    for _ in range(150):
        data = bytearray(original)
        for position in rng.integers(0, len(data), 3):
            data[position] = rng.integers(256)
        (package / MODEL_FILE).write_bytes(data)
        for call in calls:
            try:
                call()
            except ArtifactError:
                refusals += 1
    assert refusals > 20


def test_missing_coremltools_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    command = format_requirement_command("coremltools", "coreml")
    with pytest.raises(MissingDependencyError, match=re.escape(command)):
        open_package(package)
    assert COREML.read_manifests(package) == [], "reading a manifest needs no coremltools"
