"""Preprocessing inside an ONNX model equals the host's preprocessing, in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.preprocess_in_file import (
    PREPROCESS_KINDS,
    Runner,
    check_crop_position,
    check_hard_sizes,
    check_image,
    make_image,
    name_preprocess,
    read_photographs,
)
from tinyvit.errors import RequestError
from tinyvit.export.passes.onnx_preprocess import add_preprocessing
from tinyvit.preprocess import Preprocess

ir = pytest.importorskip("onnx_ir")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SMALL = Preprocess(32, 34)


def make_identity_network(
    preprocess: Preprocess, batch: int | str = 1, opset: int = 18
) -> ir.Model:
    """Make a model that returns its input, so that the input of a network can be seen."""
    shape = [batch, 3, preprocess.size, preprocess.size]
    image, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name in ("image", "logits")
    )
    node = onnx.helper.make_node("Identity", ["image"], ["logits"])
    graph = onnx.helper.make_graph([node], "graph", [image], [logits])
    opset_imports = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=opset_imports, ir_version=8)
    return ir.serde.deserialize_model(model)


def make_runner(model: ir.Model) -> Runner:
    """Check the model and open it in onnxruntime."""
    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda image: session.run(None, {"image": image})[0]


def make_full_runner(preprocess: Preprocess) -> Runner:
    """Open a model that resizes, crops and normalizes."""
    model = make_identity_network(preprocess)
    add_preprocessing(model, preprocess, "full")
    return make_runner(model)


@pytest.mark.parametrize("preprocess", PREPROCESS_KINDS, ids=name_preprocess)
def test_full_equals_the_host_within_a_level(preprocess: Preprocess) -> None:
    check_hard_sizes(make_full_runner(preprocess), preprocess)


def test_large_image_equals_the_host() -> None:
    preprocess = Preprocess(224, 235)
    check_image(make_full_runner(preprocess), make_image(1500, 2000), preprocess)


def test_photographs_equal_the_host(shared: Path) -> None:
    preprocess = Preprocess(224, 235)
    run = make_full_runner(preprocess)
    for name, pixels in read_photographs(shared):
        check_image(run, pixels, preprocess, name)


@pytest.mark.parametrize("opset", [18, 20, 23])
@pytest.mark.parametrize(("batch", "images"), [(1, 1), (3, 3), ("batch", 2)])
def test_normalize_equals_the_host_bit_for_bit(batch: int | str, images: int, opset: int) -> None:
    model = make_identity_network(SMALL, batch, opset)
    add_preprocessing(model, SMALL, "normalize")
    assert [str(x) for x in model.graph.inputs[0].shape] == [str(batch), "32", "32", "3"]
    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(make_runner(model)(pixels), SMALL.normalize(pixels))


def test_host_changes_nothing() -> None:
    model = make_identity_network(SMALL)
    before = ir.serde.serialize_model(model)
    add_preprocessing(model, SMALL, "host")
    assert ir.serde.serialize_model(model) == before


def test_open_batch_becomes_one_image() -> None:
    model = make_identity_network(SMALL, "batch")
    add_preprocessing(model, SMALL, "full")
    assert [str(x) for x in model.graph.inputs[0].shape] == ["1", "height", "width", "3"]
    assert list(model.graph.outputs[0].shape) == [1, 3, 32, 32]
    assert make_runner(model)(make_image(50, 40)[None]).shape == (1, 3, 32, 32)


def test_crop_position_is_halved_to_even() -> None:
    preprocess = Preprocess(32, 32)
    check_crop_position(make_full_runner(preprocess), preprocess)


@pytest.mark.parametrize(
    ("preprocess", "batch", "opset", "message"),
    [
        (Preprocess(32, 34, interpolation="lanczos"), 1, 18, "lanczos"),
        (SMALL, 1, 17, "--opset 18"),
        (SMALL, 4, 18, "takes 4"),
        (Preprocess(48, 50), 1, 18, "48"),
    ],
)
def test_unmet_requirements_are_refused(
    preprocess: Preprocess, batch: int, opset: int, message: str
) -> None:
    model = make_identity_network(SMALL, batch, opset)
    with pytest.raises(RequestError, match=message):
        add_preprocessing(model, preprocess, "full")
