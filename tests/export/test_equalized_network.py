"""A network that the recipe equalizes can be exported to every target."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch

from tests.helpers.demo_network import load_demo
from tinyvit.errors import MissingDependencyError
from tinyvit.export import ExportConfig, export
from tinyvit.export.targets import get_target, target_names
from tinyvit.nn.fold import fold_model
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.channel_ranges.equalization import Equalization, equalize_network
from tinyvit.quant.config import QuantizationConfig
from tinyvit.quant.observers import METHOD
from tinyvit.quant.recipe import Recipe
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.network_analysis.accelerator_rules import FLOATS
from tinyvit.runtimes.network_analysis.coverage import check_coverage

SIZE = 64
EQUALIZATION = Equalization(
    exponents={
        "stages.1.blocks.0.attn.qkv.q": (3, -3) * 64,
        "stages.1.blocks.0.attn.qkv.v": (4, -1) * 64,
        "stages.2.blocks.0.attn.norm": (-4, *(0,) * 159),
        "stages.2.blocks.0.mlp.norm": (*(0,) * 159, -5),
    },
    offsets={"stages.2.downsample.conv1": (1.5, *(0.0,) * 127)},
    outliers={
        "stages.0.blocks.0": tuple(range(8)),
        "stages.2.blocks.0.mlp": (0, 1, 2, 3, 4, 5, 6, 639),
    },
    scales={
        "patch_embed.conv2_input": (2, -1) * 16,
        "stages.0.blocks.0.conv1_output": (3, 0) * 124,
        "stages.0.blocks.0.conv2_input": (0, -3) * 124,
        "stages.1.downsample.conv1_input": (1, -1) * 32,
        "stages.1.blocks.0.mlp.fc1_output": (0, 2) * 256,
        "stages.1.blocks.0.mlp.fc2_input": (0, -2) * 256,
    },
)
"""Every kind of change, in different layers of the shortened demo model."""
TARGETS = [name for name in target_names() if not get_target(name).scheme.every_tensor]
"""The targets for which networks are equalized by multiplications."""


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with `EQUALIZATION` for the shortened demo model at 64 pixels."""
    checkpoint = load_demo("demo").at_size(SIZE, "scaled")
    network = equalize_network(fold_model(checkpoint.build()), EQUALIZATION)
    noise = torch.randn(16, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    recipe = Recipe(
        checkpoint_sha256=checkpoint.sha256,
        img_size=SIZE,
        scales=calibrate(network, noise),
        weight_bits=7,
        float_units=(),
        method=METHOD,
        calibration_sha256="noise",
        calibration_count=len(noise),
        windows="scaled",
        mean=checkpoint.preprocess.mean,
        std=checkpoint.preprocess.std,
        equalization=EQUALIZATION,
    )
    path = tmp_path_factory.mktemp("equalized") / "recipe.json"
    recipe.save(path)
    return path


FLOATS_BETWEEN_LAYERS = ("coreml", "executorch", "litert", "onnx", "openvino", "ort")
"""Targets whose int8 files have layers that return floats."""


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_an_equalized_network_is_exported(recipe_path: Path, target: str, tmp_path: Path) -> None:
    """The export compares the artifact's logits with those of the network."""
    config = ExportConfig(
        model="demo",
        targets=(target,),
        img_size=SIZE,
        windows="scaled",
        output_path=f"{tmp_path}/",
        quantization=QuantizationConfig(recipe=recipe_path),
    )
    try:
        artifact = export(config)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert artifact.search is not None
    assert artifact.search.recipe.equalization == EQUALIZATION
    share = artifact.search.integer_kernel_share
    assert share is None or share > 0.85
    coverage = check_coverage(read_artifact(artifact.path))  # Every target states it in int8, too.
    assert coverage.refused_share is not None
    if target in FLOATS_BETWEEN_LAYERS:
        assert FLOATS in {item.reason for item in coverage.refused}
    elif coverage.decided_by == "rules":
        assert coverage.refused == ()
