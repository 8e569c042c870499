"""The images that an export to int8 uses are chosen by number and size."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.preprocess import sam_preprocess
from tinyvit.quant.config import QuantizationConfig
from tinyvit.quant.images import distinct_images, quantization_images
from tinyvit.quant.images.calibration_data import MIN_IMAGES
from tinyvit.quant.images.image_decoding import decode_images
from tinyvit.quant.images.quantization_images import SENSITIVITY_COUNT, QuantizationImages


@pytest.mark.parametrize(("side", "count"), [(64, SENSITIVITY_COUNT), (1024, 4)])
def test_layers_are_ranked_on_fewer_images_if_they_are_large(
    side: int, count: int, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (MIN_IMAGES + 20, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "images.npz", pixels)
    checkpoint = cast(Any, SimpleNamespace(preprocess=sam_preprocess(side)))
    config = QuantizationConfig(calib_data=tmp_path / "images.npz", calib_count=MIN_IMAGES)
    no_network = cast(Any, None)  # only synthetic images are made from it
    images = QuantizationImages(config, checkpoint, no_network, RecordedProgress())
    assert images.count_measurement_images() == 20
    assert images.make_sensitivity_images().shape == (count, 3, side, side)


@pytest.mark.parametrize(("has_val_data", "calibration_count"), [(False, 32), (True, 40)])
def test_no_image_is_held_out_if_others_are_measured_on(
    has_val_data: bool, calibration_count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (MIN_IMAGES + 20, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "images.npz", pixels)
    checkpoint = cast(Any, SimpleNamespace(preprocess=sam_preprocess(16)))
    config = QuantizationConfig(
        calib_data=tmp_path / "images.npz",
        calib_count=40,
        val_data=tmp_path if has_val_data else None,
    )
    decoded_count = 0

    def count_images(*arguments: Any) -> Any:
        nonlocal decoded_count
        for image in decode_images(*arguments):
            decoded_count += 1
            yield image

    monkeypatch.setattr(distinct_images, "decode_images", count_images)
    images = QuantizationImages(config, checkpoint, cast(Any, None), RecordedProgress())
    assert len(images.calibration.pixels) == calibration_count
    assert decoded_count == (40 if has_val_data else 52)
    assert len(images.make_sensitivity_images()) == SENSITIVITY_COUNT


@pytest.mark.parametrize(
    ("config", "counts"),
    [
        (QuantizationConfig(), [32, 32]),
        (QuantizationConfig(every_tensor=True), [64, 32]),
        (QuantizationConfig(every_tensor=True, calib_count=48), [48, 48]),
    ],
)
def test_more_images_are_made_if_every_tensor_gets_a_range(
    config: QuantizationConfig, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make_no_images(_network: Any, _preprocess: Any, synthetic: Any, *_: Any) -> Any:
        made.append(synthetic.count)
        return SimpleNamespace(pixels=np.zeros((1, 4, 4, 3), np.uint8))

    monkeypatch.setattr(quantization_images, "synthesize_images", make_no_images)
    network = cast(Any, SimpleNamespace(num_classes=2, feature_stages=None))
    checkpoint = cast(Any, SimpleNamespace(preprocess=sam_preprocess(16), sha256="0"))
    images = QuantizationImages(config, checkpoint, network, RecordedProgress())
    assert images.count_measurement_images() == 1
    assert made == counts
