"""Exports models with other tools ("peers"), for comparisons with tinyvit-export.

The peers are `torch.onnx.export` (applied to timm's TinyViT), litert-torch and ExecuTorch. A file
that one of them makes is called "stock".
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinyvit.bench.profilers import random_input
from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.nn.timm_models import export_with_torch, import_timm, make_timm_model
from tinyvit.processes.output_capture import silence_file_descriptors, silence_libraries
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.registry import open_runtime
from tinyvit.studies.export_process import run_export
from tinyvit.variants import VARIANTS

if TYPE_CHECKING:
    import torch


_MAX_DIFFERENCE = 1e-3
"""Largest allowed difference between the logits of two exports of the same weights."""
_PACKAGES = {
    "torch": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "openvino": "openvino",
}
"""Package that an export or a comparison with other tools needs -> extra that installs it."""


def check_export_packages() -> None:
    """Import every package that comparisons with other tools need, before any work is done.

    Raises:
        MissingDependencyError: A package is not installed.
    """
    for package, extra in _PACKAGES.items():
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingDependencyError.for_package(package, extra=extra) from error
    import_timm()


def export_pair(variant: str, folder: Path) -> tuple[Path, Path]:
    """Export timm's model with random weights twice: by torch.onnx.export and by tinyvit-export.

    The logits of the two files are compared in onnxruntime.

    Args:
        variant: Name of a TinyViT variant.
        folder: Existing folder for the files.

    Returns:
        The file of torch.onnx.export, and that of tinyvit-export with the same weights.

    Raises:
        ArtifactError: tinyvit-export fails, or the logits of the two files differ.
        MissingDependencyError: A package is not installed.
    """
    check_export_packages()
    from safetensors.torch import save_file

    model, size = make_timm_model(variant), VARIANTS[variant].img_size
    stock_path, own_path = folder / "stock.onnx", folder / "ours.onnx"
    weights_path = folder / "weights.safetensors"
    export_with_torch(model, size, stock_path)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, weights_path)
    options = ("--checkpoint", str(weights_path), "--target", "onnx", "-o", str(own_path))
    export_error = run_export(options)
    if export_error is not None:
        raise ArtifactError(f"tinyvit-export cannot export {variant}", export_error)
    image = random_input((1, 3, size, size), "float32")
    foreign = RuntimeOptions(allow_foreign_operators=True)  # Another tool wrote this file.
    with (
        open_runtime(stock_path, "onnxruntime", foreign) as stock,
        open_runtime(own_path, "onnxruntime") as own,
    ):
        difference = float(np.abs(stock.run(image) - own.run(image)).max())
    if difference > _MAX_DIFFERENCE:
        raise ArtifactError(
            f"the two exports of {variant} are not the same network: their logits differ by"
            f" {difference:.2g}",
            "report this as a bug of tinyvit-edge",
        )
    return stock_path, own_path


def _build_demo() -> torch.nn.Module:
    """Build the demo model, a TinyViT-5M with ten classes whose weights this package contains."""
    from tinyvit.nn.checkpoints.hub import load_released

    return load_released("demo").build()


def convert_with_litert_torch(folder: Path) -> Path:
    """Convert the demo model with litert-torch, as litert-torch's documentation describes.

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
            raise MissingDependencyError.for_package("litert-torch", extra="litert") from error
        path = folder / "stock.tflite"
        litert_torch.convert(_build_demo(), (torch.zeros(1, 3, 224, 224),)).export(str(path))
    return path


def convert_with_executorch(folder: Path) -> Path:
    """Convert the demo model with ExecuTorch for XNNPACK, as ExecuTorch's documentation describes.

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
            raise MissingDependencyError.for_package("executorch", extra="executorch") from error
        program = torch.export.export(_build_demo(), (torch.zeros(1, 3, 224, 224),))
        lowered_program = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path = folder / "stock.pte"
        path.write_bytes(bytes(lowered_program.to_executorch().buffer))
    return path
