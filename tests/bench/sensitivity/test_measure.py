"""The sensitivity of a network of two layers agrees with values computed by hand.

The input is (1.2, 0.7), and both layers are the identity, so that their only error comes from
rounding the input: to multiples of 0.4 in the first layer, and of 0.3 in the second.

    both layers in float32     1.2, 0.7
    only the first in int8     1.2, 0.8      noise 0.01
    only the second in int8    1.2, 0.6      noise 0.01
    both layers in int8        1.2, 0.9      noise 0.04
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.recorded_progress import RecordedProgress
from tests.helpers.two_layers import IDENTITY, WEIGHTS, TwoLayers, build_two_layers, onnx
from tinyvit.bench.record import NetworkSensitivity
from tinyvit.bench.sensitivity.inputs import NetworkInputs
from tinyvit.bench.sensitivity.measure import measure_sensitivity
from tinyvit.bench.sensitivity.onnx_models import Int8Model, read_float_weights
from tinyvit.bench.sensitivity.onnx_network import OnnxNetwork
from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import Artifact

SIGNAL = 1.2**2 + 0.7**2


def measure(model: bytes, batches: list[list[list[float]]]) -> NetworkSensitivity:
    arrays = tuple(np.array(batch, np.float32) for batch in batches)
    inputs = NetworkInputs(arrays, image_count=sum(map(len, batches)), source="by hand")
    network = OnnxNetwork(
        Artifact(Path("two.onnx"), None), Int8Model(model, WEIGHTS, "two.onnx"), inputs, threads=1
    )
    progress = RecordedProgress()
    sensitivity = measure_sensitivity(network, progress)
    assert progress.done == [1, 2]
    return sensitivity


@pytest.mark.parametrize("batches", [[[[1.2, 0.7]]], [[[1.2, 0.7]] * 2, [[1.2, 0.7]]]])
def test_figures_are_those_computed_by_hand(batches: list[list[list[float]]]) -> None:
    sensitivity = measure(build_two_layers(), batches)
    assert sensitivity.image_count == sum(map(len, batches))
    assert sensitivity.mean_square_error == pytest.approx(0.02, rel=1e-4)
    assert sensitivity.snr_db == pytest.approx(10 * math.log10(SIGNAL / 0.04), abs=1e-3)
    assert sensitivity.cosine == pytest.approx((1.2**2 + 0.63) / math.sqrt(SIGNAL * 2.25))
    units = {unit.unit: unit for unit in sensitivity.units}
    assert units.keys() == {"first", "second"}
    for unit in units.values():
        # The noise of the logits is 0.01 instead of 0.04 if only this unit is in int8.
        assert unit.error == pytest.approx(0.005, rel=1e-4)
        assert unit.share == pytest.approx(0.25, rel=1e-4)
        assert unit.snr_db == pytest.approx(22.8556, abs=1e-3)
        assert unit.macs == 4
    assert units["first"].cosine == pytest.approx(0.998205, abs=1e-6)  # 2 / sqrt(1.93 * 2.08)
    assert units["second"].cosine == pytest.approx(0.997925, abs=1e-6)  # 1.86 / sqrt(1.93 * 1.8)


def test_an_exact_network_has_no_error() -> None:
    """Both numbers are multiples of both scales."""
    sensitivity = measure(build_two_layers(), [[[1.2, 2.4]]])
    assert sensitivity.mean_square_error == pytest.approx(0, abs=1e-12)
    assert [unit.error for unit in sensitivity.units] == pytest.approx([0, 0], abs=1e-12)


def test_a_quantized_tensor_outside_of_layers_is_refused() -> None:
    layers = TwoLayers()
    hidden = layers.linear("image", "first", 0.4, "hidden")
    layers.add("Add", [hidden, layers.round("image", "other", 0.1)], "logits")
    with pytest.raises(RequestError, match="1 layers have integer weights, and 2 nodes") as error:
        Int8Model(layers.serialize(), WEIGHTS, "two.onnx")
    assert error.value.remedy == "give an int8 .onnx file that tinyvit-export wrote"


def test_a_quantized_output_belongs_to_its_layer() -> None:
    """The output (1.2, 0.8) is rounded to multiples of 0.5: (1.0, 1.0)."""
    layers = TwoLayers()
    hidden = layers.linear("image", "first", 0.4, "hidden")
    layers.add("Identity", [layers.round(hidden, "output", 0.5)], "logits")
    arrays = (np.array([[1.2, 0.7]], np.float32),)
    network = OnnxNetwork(
        Artifact(Path("one.onnx"), None),
        Int8Model(layers.serialize(), WEIGHTS, "one.onnx"),
        NetworkInputs(arrays, image_count=1, source="by hand"),
        threads=1,
    )
    assert network.units == ["first"]
    assert network.compute_logits(()).tolist() == [[1.0, 1.0]]
    assert network.compute_logits(("first",)) == pytest.approx(arrays[0])
    (unit,) = measure_sensitivity(network).units
    assert unit.share == pytest.approx(1)
    assert unit.snr_db == pytest.approx(10 * math.log10(SIGNAL / (0.2**2 + 0.3**2)), abs=1e-3)


def test_a_file_without_quantized_layers_is_refused() -> None:
    layers = TwoLayers()
    layers.add("Relu", ["image"], "logits")
    with pytest.raises(RequestError, match="0 layers have integer weights"):
        Int8Model(layers.serialize(), WEIGHTS, "two.onnx")


@pytest.mark.parametrize(
    "weights", [{"first.weight": IDENTITY}, {**WEIGHTS, "second.weight": np.eye(3, dtype="f")}]
)
def test_a_reference_without_the_weights_of_a_layer_is_refused(weights: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"no weights of shape \(2, 2\) for the layer second"):
        Int8Model(build_two_layers(), weights, "two.onnx")


@pytest.mark.parametrize(
    ("second", "is_same"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], True),
        ([[1.0, 1.4], [0.0, 1.0]], True),  # 1.4 steps from the integer 0
        ([[1.0, 1.6], [0.0, 1.0]], False),
        ([[8.0, 0.0], [0.0, 1.0]], True),  # the largest integer may stand for a clipped weight
        ([[0.0, 8.0], [8.0, 0.0]], False),
    ],
)
def test_a_reference_with_other_weights_is_refused(second: Any, is_same: bool) -> None:
    weights = {**WEIGHTS, "second.weight": np.array(second, np.float32)}
    if is_same:
        Int8Model(build_two_layers(), weights, "two.onnx")
        return
    message = "the weights of the layer second of two.onnx are not the rounded weights"
    with pytest.raises(RequestError, match=message) as caught:
        Int8Model(build_two_layers(), weights, "two.onnx")
    assert "tinyvit-export --int8 --sensitivity" in caught.value.remedy


def test_only_float32_weights_stored_as_bytes_are_read() -> None:
    layers = TwoLayers()
    layers.add("Relu", ["image"], "logits")
    layers.constant("matrix", np.array([[1.5, -2], [0, 4]], np.float32))
    layers.constant("integers", np.array([1, 2], np.int8))
    layers.constants.append(
        onnx.helper.make_tensor("listed", onnx.TensorProto.FLOAT, (2,), [1.0, 2.0])
    )
    weights = read_float_weights(layers.serialize())
    assert {name: values.tolist() for name, values in weights.items()} == {
        "matrix": [[1.5, -2.0], [0.0, 4.0]]
    }
