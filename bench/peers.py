"""What a user gets today without this project: timm's TinyViT, and our demo model, through stock exporters. For comparison only."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyvit.errors import ArtifactError, MissingDependencyError
from tinyvit.quiet import silent, silent_descriptors
from tinyvit.runtimes.registry import open_runtime
from tinyvit.variants import VARIANTS

if TYPE_CHECKING:
    import torch


_SAME = 1e-3
"""Largest difference of the logits of one network, exported twice."""


def import_timm() -> Any:
    """timm, even beside a torchvision whose compiled half does not fit this torch (a CPU build of torch with PyPI's torchvision).

    There its operators are declared before the import, so that its Python half works: enough for timm's models.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise MissingDependencyError("timm is not installed", "pip install timm torchvision") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _declare_torchvision_operators()
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "torchvision")]:
        del sys.modules[name]
    return importlib.import_module("timm")


def check_installed() -> None:
    """Raise MissingDependencyError for the first thing that a comparison lacks, so that it is known before anything is measured."""
    for package, extra in (("torch", "export"), ("onnxscript", "export"), ("safetensors", "export"), ("openvino", "openvino")):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingDependencyError.of(package, extra) from error
    import_timm()


def _declare_torchvision_operators() -> None:
    import torch

    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("_meta_registrations.py").read_text(encoding="utf-8")
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in sorted({"nms", *re.findall(r"register_meta\(\"(\w+)\"", source), *re.findall(r"torchvision::(\w+)", source)}):
        library.define(f"{name}(Tensor x) -> Tensor")  # type: ignore[no-untyped-call]
    _declared.append(library)  # the declarations live as long as this object


_declared: list[Any] = []


def stock_model(variant: str, seed: int = 0) -> torch.nn.Module:
    """timm's model of a variant, 1000 classes, eval mode, with seeded weights of a trained network's size."""
    import torch

    torch.manual_seed(seed)
    model: torch.nn.Module = import_timm().create_model(variant, num_classes=1000).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("attention_biases"):
                value.normal_(0, 1)
            elif value.ndim > 1:
                value.normal_(0, (1.5 / value[0].numel()) ** 0.5)
    return model


def stock_export(model: torch.nn.Module, img_size: int, path: Path) -> None:
    """torch.onnx.export as a user types it, in one file, at our default opset."""
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(1, 3, img_size, img_size),), path, dynamo=True, external_data=False, opset_version=20, verbose=False
        )


def make_pair(variant: str, folder: Path) -> tuple[Path, Path]:
    """(the stock export of timm's model with seeded weights, tinyvit-export's of the same weights), one network: their logits are held
    against each other in onnxruntime. Raises ArtifactError where they differ, or our export fails."""
    from safetensors.torch import save_file

    check_installed()
    model, size = stock_model(variant), VARIANTS[variant].img_size
    stock, ours, weights = folder / "stock.onnx", folder / "ours.onnx", folder / "weights.safetensors"
    stock_export(model, size, stock)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    command = [sys.executable, "-m", "tinyvit.export.cli", "--checkpoint", str(weights), "--target", "onnx", "-o", str(ours)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ArtifactError("our own export failed", done.stderr.strip().splitlines()[-1])
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    with open_runtime(stock, "onnxruntime") as theirs, open_runtime(ours, "onnxruntime") as mine:
        difference = float(np.abs(theirs.run(image) - mine.run(image)).max())
    if difference > _SAME:
        raise ArtifactError(f"the two exports of {variant} are not the same network (logits differ by {difference:.2g})", "report this")
    return stock, ours


def _demo() -> torch.nn.Module:
    from tinyvit.nn.hub import load_released

    return load_released("demo").build()


def stock_litert(folder: Path) -> Path:
    """litert-torch's conversion of the demo model, as a user types it."""
    import torch

    with silent("root", "litert_torch", "absl"), silent_descriptors():
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

    with silent("torch", "torchao", "executorch", "root"):
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise MissingDependencyError.of("executorch", "executorch") from error
        program = torch.export.export(_demo(), (torch.zeros(1, 3, 224, 224),))
        path = folder / "stock.pte"
        path.write_bytes(bytes(to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer))
    return path
