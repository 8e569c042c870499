"""Baselines without this project: timm's TinyViT and the demo model from stock exporters."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.nn.timm_models import export_with_torch, import_timm, make_timm_model
from tinyvit.output_capture import silence_file_descriptors, silence_libraries
from tinyvit.runtimes.registry import open_runtime
from tinyvit.variants import VARIANTS

if TYPE_CHECKING:
    import torch


_MAX_DIFFERENCE = 1e-3
"""Largest difference between the logits of one network that was exported twice."""
_PACKAGES = {
    "torch": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "openvino": "openvino",
}
"""Packages that a comparison needs, and the extra that installs each."""


def check_installed() -> None:
    """Import everything that a comparison needs, so that nothing is measured in vain.

    Raises:
        MissingDependencyError: A package is not installed.
    """
    for package, extra in _PACKAGES.items():
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingDependencyError.of(package, extra) from error
    import_timm()


def export_pair(variant: str, folder: Path) -> tuple[Path, Path]:
    """Export one network, timm's model with random weights, in two ways.

    The logits of the two files are compared in onnxruntime.

    Args:
        variant: Name of a TinyViT variant.
        folder: Existing folder for the files.

    Returns:
        The stock export of timm's model, and tinyvit-export's file of the same weights.

    Raises:
        ArtifactError: The export by tinyvit-export fails, or the logits differ.
        MissingDependencyError: A package is not installed.
    """
    from safetensors.torch import save_file

    check_installed()
    model, size = make_timm_model(variant), VARIANTS[variant].img_size
    stock, own = folder / "stock.onnx", folder / "ours.onnx"
    weights = folder / "weights.safetensors"
    export_with_torch(model, size, stock)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    command = [sys.executable, "-m", "tinyvit.export.cli", "--checkpoint", str(weights)]
    command += ["--target", "onnx", "-o", str(own)]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise ArtifactError(
            f"tinyvit-export cannot export {variant}", process.stderr.strip().splitlines()[-1]
        )
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    with open_runtime(stock, "onnxruntime") as first, open_runtime(own, "onnxruntime") as second:
        difference = float(np.abs(first.run(image) - second.run(image)).max())
    if difference > _MAX_DIFFERENCE:
        raise ArtifactError(
            f"the two exports of {variant} are not the same network: their logits differ by"
            f" {difference:.2g}",
            "report this",
        )
    return stock, own


def _build_demo() -> torch.nn.Module:
    from tinyvit.nn.hub import load_released

    return load_released("demo").build()


def convert_with_litert_torch(folder: Path) -> Path:
    """Convert the demo model with litert-torch, as its documentation shows.

    Args:
        folder: Existing folder for the file.

    Returns:
        The .tflite file.

    Raises:
        MissingDependencyError: litert-torch is not installed.
    """
    import torch

    with silence_libraries("root", "litert_torch", "absl"), silence_file_descriptors():
        try:
            import litert_torch
        except ImportError as error:
            raise MissingDependencyError.of("litert-torch", "litert") from error
        path = folder / "stock.tflite"
        litert_torch.convert(_build_demo(), (torch.zeros(1, 3, 224, 224),)).export(str(path))
    return path


def convert_with_executorch(folder: Path) -> Path:
    """Lower the demo model for XNNPACK with ExecuTorch, as its documentation shows.

    Args:
        folder: Existing folder for the file.

    Returns:
        The .pte file.

    Raises:
        MissingDependencyError: ExecuTorch is not installed.
    """
    import torch

    with silence_libraries("torch", "torchao", "executorch", "root"):
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise MissingDependencyError.of("executorch", "executorch") from error
        program = torch.export.export(_build_demo(), (torch.zeros(1, 3, 224, 224),))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path = folder / "stock.pte"
        path.write_bytes(bytes(lowered.to_executorch().buffer))
    return path
