"""TinyViT as implemented in the timm library, and its export by PyTorch's own ONNX exporter.

timm's models are baselines of benchmarks and teachers for distillation. timm is an optional
dependency: `pip install timm torchvision`.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.image_sizes import ImageSize, height_and_width
from tinyvit.install_command import format_packages_command
from tinyvit.manifest_parts import OutputSpec
from tinyvit.outputs import LOGITS, STAGES, OutputRequest, make_output_request

if TYPE_CHECKING:
    import torch

_DEFAULT_OPSET = 20
"""ONNX opset that `tinyvit-export` uses by default."""

_torchvision_libraries: list[Any] = []
"""Objects that declare torchvision's operators. A declaration ends when its object is deleted, so
they are kept here."""


def import_timm() -> Any:
    """Import timm, even if the builds of torch and torchvision do not match.

    timm imports torchvision. The compiled part of torchvision cannot be loaded if it was built for
    another build of torch, for example if torch is a CPU build and torchvision is from PyPI. Its
    Python part then fails because the compiled operators do not exist. In this case, this function
    declares the operators without implementation and imports timm again. timm's models do not call
    these operators.

    Returns:
        The module `timm`.

    Raises:
        MissingDependencyError: timm is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise MissingDependencyError(
            "timm is not installed", format_packages_command("timm", "torchvision")
        ) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _declare_torchvision_operators()
    # The failed import left these modules incomplete.
    for name in list(sys.modules):
        if name.split(".")[0] in ("timm", "torchvision"):
            del sys.modules[name]
    return importlib.import_module("timm")


def make_timm_model(variant: str, output: OutputRequest = LOGITS, seed: int = 0) -> torch.nn.Module:
    """Create timm's model of a variant with random weights of a realistic magnitude.

    Args:
        variant: Name of the variant in timm.
        output: What the model returns. Logits are those of 1000 classes. A model for feature maps,
            timm's `features_only`, returns a list.
        seed: Seed of the random weights.

    Returns:
        The model in eval mode.
    """
    import torch

    torch.manual_seed(seed)
    options: dict[str, Any] = {"num_classes": 1000 if output.kind == "logits" else 0}
    if output.kind == "features":
        options = {"features_only": True, "out_indices": output.stages}
    model: torch.nn.Module = import_timm().create_model(variant, **options).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("attention_biases"):
                value.normal_(0, 1)
            elif value.ndim > 1:
                inputs_per_output = value[0].numel()
                value.normal_(0, (1.5 / inputs_per_output) ** 0.5)
    return model


def find_output_request(outputs: Sequence[OutputSpec]) -> OutputRequest:
    """Return the request with which timm's model returns what an artifact returns.

    Args:
        outputs: The outputs in the artifact's manifest; at least one.

    Raises:
        RequestError: The artifact returns feature maps that are not those of stages.
    """
    kind, names = outputs[0].kind, [spec.name for spec in outputs]
    if kind != "features":
        return make_output_request(kind)
    stages = tuple(stage for stage in STAGES if f"stage{stage}" in names)
    if len(stages) != len(names):
        raise RequestError(
            f"timm's model does not return {', '.join(names)}",
            "compare a file that was exported with --output features",
        )
    return make_output_request(kind, stages)


def export_with_torch(model: torch.nn.Module, img_size: ImageSize, path: Path) -> None:
    """Export a model with `torch.onnx.export`, as a user would without this package.

    Args:
        model: A model whose input is float32 (1, 3, height, width).
        img_size: Size of the input in pixels.
        path: The ONNX file to write. The weights are stored in the same file.
    """
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, *height_and_width(img_size)),),
            path,
            dynamo=True,
            external_data=False,
            opset_version=_DEFAULT_OPSET,
            verbose=False,
        )


def _declare_torchvision_operators() -> None:
    """Declare the operators that torchvision's source code uses, without implementation."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("_meta_registrations.py").read_text(encoding="utf-8")
    names = {
        "nms",
        *re.findall(r"register_meta\(\"(\w+)\"", source),
        *re.findall(r"torchvision::(\w+)", source),
    }
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in sorted(names):
        library.define(f"{name}(Tensor x) -> Tensor")  # type: ignore[no-untyped-call]
    _torchvision_libraries.append(library)
