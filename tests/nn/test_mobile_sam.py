"""The image encoder of MobileSAM equals the public implementation, and its files are recognized."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from tests.helpers.golden_weights import load_formulas
from tests.helpers.mobile_sam import make_mobile_sam_state, save_mobile_sam
from tinyvit.errors import CheckpointError, RequestError
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.outputs import IMAGE_EMBEDDINGS, LOGITS, make_output_request
from tinyvit.preprocess import Preprocess

REFERENCE_96 = (
    (0.20929892, 0.44711733, -1.32573760, 1.63609684),
    (0.89302522, 2.40916467, -0.44353542, 0.89960009),
    (2.53626919, -1.07622766, 0.12076575, -1.83415425),
    (-0.58809364, 1.74412143, -0.35154697, 0.54111594),
)
"""What MobileSAM's code computes at 96 pixels, with the resolution of its last view corrected, from
the weights and the image of the formulas: every 64th channel, rows 0 and 3, columns 0 and 5."""

REFERENCE_256 = (0.33487681, 0.37495282, 0.66665220, 0.15739085)
"""The same at 256 pixels: the first channel, row 0, columns 0, 5, 10 and 15."""


@pytest.fixture(scope="module")
def golden_checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The encoder with the weights of the formulas, saved as MobileSAM's file has them."""
    formulas = load_formulas(shared)
    shapes = json.loads((shared / "golden" / "mobile_sam.encoder.keys.json").read_text())
    state = {
        f"image_encoder.{key}": torch.from_numpy(formulas.weights(key, shape))
        for key, shape in shapes.items()
        if not key.endswith("num_batches_tracked")
    }
    path = tmp_path_factory.mktemp("golden") / "mobile_sam.pt"
    torch.save({**state, "mask_decoder.iou_token.weight": torch.zeros(1, 256)}, path)
    return load_checkpoint(path, requires_classifier=False)


def run(network: Any, shared: Path, size: int) -> np.ndarray:
    image = torch.from_numpy(load_formulas(shared).image(size, 1))
    with torch.inference_mode():
        return network(image).numpy()  # type: ignore[no-any-return]


@pytest.mark.slow
def test_the_encoder_equals_the_public_one_at_1024(
    golden_checkpoint: Checkpoint, shared: Path
) -> None:
    golden = np.load(shared / "golden" / "mobile_sam.encoder.npz")
    network = golden_checkpoint.build(IMAGE_EMBEDDINGS)
    for candidate in (network, fold_model(network)):
        embeddings = run(candidate, shared, 1024)
        assert embeddings.shape == (1, 256, 64, 64)
        assert np.abs(embeddings[:, ::8, ::4, ::4] - golden["features"]).max() < 1e-4
        assert np.abs(embeddings.mean((2, 3)) - golden["mean"]).max() < 1e-4


@pytest.mark.parametrize("size", [96, 256])
def test_smaller_images_keep_the_windows(
    golden_checkpoint: Checkpoint, shared: Path, size: int
) -> None:
    network = golden_checkpoint.at_size(size).build(IMAGE_EMBEDDINGS)
    embeddings = run(network, shared, size)
    assert embeddings.shape == (1, 256, size // 16, size // 16)
    if size == 96:
        selected = embeddings[0, ::64, ::3, ::5].reshape(4, 4)
        assert np.abs(selected - REFERENCE_96).max() < 1e-4
    else:
        assert np.abs(embeddings[0, 0, 0, ::5] - REFERENCE_256).max() < 1e-4


def test_the_released_layout_is_recognized(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_mobile_sam(tmp_path / "m.pt"), requires_classifier=False)
    assert (checkpoint.layout, checkpoint.architecture_name) == ("mobile_sam", "mobile_sam_5m")
    assert (checkpoint.img_size, checkpoint.window_sizes) == (1024, (7, 7, 14, 7))
    assert checkpoint.preprocess == Preprocess(
        size=1024,
        resize=1024,
        crop="pad",
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    assert checkpoint.preprocess_source == "the preprocessing of SAM"
    assert checkpoint.describe_windows() is None
    (note,) = checkpoint.notes
    assert note.startswith("ignored: 7 tensors of other modules (prompt_encoder.point_embeddings")


def test_the_state_dict_of_the_encoder_alone_is_the_same_network(tmp_path: Path) -> None:
    whole = load_checkpoint(save_mobile_sam(tmp_path / "m.pt"), requires_classifier=False)
    torch.save(make_mobile_sam_state(), tmp_path / "encoder.pt")
    alone = load_checkpoint(tmp_path / "encoder.pt", requires_classifier=False)
    assert alone.layout == "mobile_sam"
    image = torch.ones(1, 3, 64, 96)
    with torch.inference_mode():
        expected = whole.at_size((64, 96)).build(IMAGE_EMBEDDINGS)(image)
        assert torch.equal(alone.at_size((64, 96)).build(IMAGE_EMBEDDINGS)(image), expected)
    assert expected.shape == (1, 256, 4, 6)


def test_the_output_is_described_as_decoders_expect_it(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_mobile_sam(tmp_path / "m.pt"), requires_classifier=False)
    (spec,) = checkpoint.build(IMAGE_EMBEDDINGS).describe_outputs()
    assert (spec.name, spec.shape) == ("image_embeddings", ("batch", 256, 64, 64))
    assert (spec.dtype, spec.layout, spec.kind, spec.stride) == ("float32", "NCHW", "features", 16)


def test_other_outputs_and_windows_are_refused(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_mobile_sam(tmp_path / "m.pt"), requires_classifier=False)
    stages = make_output_request("features", (1, 2))
    for output, name in ((LOGITS, "logits"), (stages, "feature maps of stages 1, 2")):
        with pytest.raises(RequestError, match=f"returns image embeddings, not {name}"):
            checkpoint.build(output)
    with pytest.raises(RequestError, match="--windows scaled is not possible for m"):
        checkpoint.at_size(512, "scaled")


def test_a_mobile_sam_is_no_classifier(tmp_path: Path) -> None:
    path = save_mobile_sam(tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="is a MobileSAM, which has a neck for segmentation"):
        load_checkpoint(path)


def test_an_incomplete_neck_is_refused(tmp_path: Path) -> None:
    state = make_mobile_sam_state()
    del state["neck.3.weight"]
    torch.save(state, tmp_path / "encoder.pt")
    with pytest.raises(CheckpointError, match=r"missing 1: neck\.3\.weight"):
        load_checkpoint(tmp_path / "encoder.pt", requires_classifier=False)
    state = {**make_mobile_sam_state(), "neck.0.weight": torch.zeros(128, 320, 1, 1)}
    torch.save(state, tmp_path / "encoder.pt")
    with pytest.raises(CheckpointError, match=r"neck\.0\.weight \(128, 320, 1, 1\) instead of"):
        load_checkpoint(tmp_path / "encoder.pt", requires_classifier=False)
