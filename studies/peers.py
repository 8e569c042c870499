"""What a user gets today without this project: timm's TinyViT, and our demo model, through stock exporters. For comparison only."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.nn.timm_models import import_timm, stock_export, stock_model
from tinyvit.output_capture import silence_file_descriptors, silence_libraries
from tinyvit.runtimes.registry import open_runtime
from tinyvit.variants import VARIANTS

if TYPE_CHECKING:
    import torch


_SAME = 1e-3
"""Largest difference of the logits of one network, exported twice."""


def check_installed() -> None:
    """Raise MissingDependencyError for the first thing that a comparison lacks, so that it is known before anything is measured."""
    for package, extra in (
        ("torch", "export"),
        ("onnxscript", "export"),
        ("safetensors", "export"),
        ("openvino", "openvino"),
    ):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingDependencyError.of(package, extra) from error
    import_timm()


def make_pair(variant: str, folder: Path) -> tuple[Path, Path]:
    """(the stock export of timm's model with seeded weights, tinyvit-export's of the same weights), one network: their logits are held
    against each other in onnxruntime. Raises ArtifactError where they differ, or our export fails."""
    from safetensors.torch import save_file

    check_installed()
    model, size = stock_model(variant), VARIANTS[variant].img_size
    stock, ours, weights = (
        folder / "stock.onnx",
        folder / "ours.onnx",
        folder / "weights.safetensors",
    )
    stock_export(model, size, stock)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    command = [
        sys.executable,
        "-m",
        "tinyvit.export.cli",
        "--checkpoint",
        str(weights),
        "--target",
        "onnx",
        "-o",
        str(ours),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ArtifactError("our own export failed", done.stderr.strip().splitlines()[-1])
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    with open_runtime(stock, "onnxruntime") as theirs, open_runtime(ours, "onnxruntime") as mine:
        difference = float(np.abs(theirs.run(image) - mine.run(image)).max())
    if difference > _SAME:
        raise ArtifactError(
            f"the two exports of {variant} are not the same network (logits differ by {difference:.2g})",
            "report this",
        )
    return stock, ours


def _demo() -> torch.nn.Module:
    from tinyvit.nn.hub import load_released

    return load_released("demo").build()


def stock_litert(folder: Path) -> Path:
    """litert-torch's conversion of the demo model, as a user types it."""
    import torch

    with silence_libraries("root", "litert_torch", "absl"), silence_file_descriptors():
        try:
            import litert_torch
        except ImportError as error:
            raise MissingDependencyError.of("litert-torch", "litert") from error
        path = folder / "stock.tflite"
        litert_torch.convert(_demo(), (torch.zeros(1, 3, 224, 224),)).export(str(path))
    return path


def stock_executorch(folder: Path) -> Path:
    """ExecuTorch's lowering of the demo model for XNNPACK, as its documentation has it."""
    import torch

    with silence_libraries("torch", "torchao", "executorch", "root"):
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise MissingDependencyError.of("executorch", "executorch") from error
        program = torch.export.export(_demo(), (torch.zeros(1, 3, 224, 224),))
        path = folder / "stock.pte"
        path.write_bytes(
            bytes(
                to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
                .to_executorch()
                .buffer
            )
        )
    return path
