"""timm's own TinyViT, in PyTorch and through the stock ONNX exporter, for comparison and as a teacher.

timm is optional: `pip install timm torchvision`.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvit.errors import MissingDependencyError

if TYPE_CHECKING:
    import torch


def import_timm() -> Any:
    """timm, even beside a torchvision whose compiled half does not fit this torch (a CPU build of torch with PyPI's torchvision).

    There its operators are declared before the import, so that its Python half works: enough for timm's models.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise MissingDependencyError(
            "timm is not installed", "pip install timm torchvision"
        ) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _declare_torchvision_operators()
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "torchvision")]:
        del sys.modules[name]
    return importlib.import_module("timm")


def _declare_torchvision_operators() -> None:
    import torch

    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("_meta_registrations.py").read_text(encoding="utf-8")
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in sorted(
        {
            "nms",
            *re.findall(r"register_meta\(\"(\w+)\"", source),
            *re.findall(r"torchvision::(\w+)", source),
        }
    ):
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
            model,
            (torch.zeros(1, 3, img_size, img_size),),
            path,
            dynamo=True,
            external_data=False,
            opset_version=20,
            verbose=False,
        )
