"""Preprocessing inside an OpenVINO file equals the host's preprocessing, on the CPU plugin."""

from __future__ import annotations

import time
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
from tinyvit.export.targets.openvino.preprocess import add_preprocessing
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.engines.openvino import shared_core

openvino = pytest.importorskip("openvino")

SMALL = Preprocess(32, 34)
OPEN_BATCH = -1


def make_identity_network(preprocess: Preprocess, batch: int = 1) -> openvino.Model:
    """Make a model that returns its input, so that the input of a network can be seen.

    It computes relu(x) - relu(-x), because OpenVINO would remove an identity.
    """
    from openvino import opset11 as ops

    shape = openvino.PartialShape([batch, 3, preprocess.size, preprocess.size])
    image = ops.parameter(shape, openvino.Type.f32, name="image")
    image.output(0).set_names({"image"})
    result = ops.result(ops.subtract(ops.relu(image), ops.relu(ops.negative(image))))
    return openvino.Model([result], [image], "network")


def make_runner(model: openvino.Model, folder: Path) -> Runner:
    """Save the model and open the file on two threads."""
    openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
    compiled = shared_core().compile_model(str(folder / "model.xml"), "CPU", settings)
    return lambda image: compiled({"image": image})[0]


def make_full_runner(preprocess: Preprocess, folder: Path) -> Runner:
    """Open a model that resizes, crops and normalizes."""
    network = make_identity_network(preprocess)
    return make_runner(add_preprocessing(network, preprocess, "full"), folder)


@pytest.mark.parametrize("preprocess", PREPROCESS_KINDS, ids=name_preprocess)
def test_full_equals_the_host_within_a_level(preprocess: Preprocess, tmp_path: Path) -> None:
    check_hard_sizes(make_full_runner(preprocess, tmp_path), preprocess)


def test_large_image_equals_the_host(tmp_path: Path) -> None:
    preprocess = Preprocess(224, 235)
    check_image(make_full_runner(preprocess, tmp_path), make_image(1500, 2000), preprocess)


def test_photographs_equal_the_host(tmp_path: Path, shared: Path) -> None:
    preprocess = Preprocess(224, 235)
    run = make_full_runner(preprocess, tmp_path)
    for name, pixels in read_photographs(shared):
        check_image(run, pixels, preprocess, name)


def test_new_image_size_needs_no_compilation(tmp_path: Path) -> None:
    """OpenVINO's own Interpolate takes a second for each image size that it has not seen."""
    run = make_full_runner(Preprocess(224, 235), tmp_path)
    run(make_image(374, 499)[None])
    begin = time.perf_counter()
    for height in range(375, 385):
        run(make_image(height, 500)[None])
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(("batch", "images"), [(1, 1), (3, 3), (OPEN_BATCH, 2)])
def test_normalize_equals_the_host(batch: int, images: int, tmp_path: Path) -> None:
    model = add_preprocessing(make_identity_network(SMALL, batch), SMALL, "normalize")
    assert model.input("image").get_partial_shape() == openvino.PartialShape([batch, 32, 32, 3])
    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), np.uint8)
    # Not bit for bit: the plugin multiplies and subtracts with a single rounding.
    actual = make_runner(model, tmp_path)(pixels)
    np.testing.assert_allclose(actual, SMALL.normalize(pixels), atol=1e-6)


def test_host_changes_nothing() -> None:
    model = make_identity_network(SMALL)
    assert add_preprocessing(model, SMALL, "host") is model
    assert model.input("image").get_element_type() == openvino.Type.f32


def test_open_batch_becomes_one_image(tmp_path: Path) -> None:
    model = add_preprocessing(make_identity_network(SMALL, OPEN_BATCH), SMALL, "full")
    assert model.input("image").get_partial_shape() == openvino.PartialShape([1, -1, -1, 3])
    assert model.output(0).get_partial_shape() == openvino.PartialShape([1, 3, 32, 32])
    assert make_runner(model, tmp_path)(make_image(50, 40)[None]).shape == (1, 3, 32, 32)


def test_crop_position_is_halved_to_even(tmp_path: Path) -> None:
    preprocess = Preprocess(32, 32)
    check_crop_position(make_full_runner(preprocess, tmp_path), preprocess)


@pytest.mark.parametrize(
    ("preprocess", "size", "batch", "message"),
    [
        (Preprocess(32, 34, interpolation="lanczos"), 32, 1, "lanczos"),
        (SMALL, 32, 4, "takes 4"),
        (Preprocess(48, 50), 32, 1, "48"),
    ],
)
def test_unmet_requirements_are_refused(
    preprocess: Preprocess, size: int, batch: int, message: str
) -> None:
    network = make_identity_network(Preprocess(size, size), batch)
    with pytest.raises(RequestError, match=message):
        add_preprocessing(network, preprocess, "full")
