"""Makes teachers from PyTorch modules that a user's own Python function returns."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from tinyvit.distill.logits.module_teachers import (
    ModuleDescription,
    Teacher,
    hash_weights,
    make_module_teacher,
)
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.errors import RequestError
from tinyvit.preprocess import Preprocess, timm_preprocess

DEFAULT_SIZE = 224
"""Input size in pixels of a user's module without the attribute `preprocess`."""


def open_function_teacher(name: str, device: ComputeDevice) -> Teacher:
    """Make a teacher from the PyTorch module that a user's function returns.

    The user's code is executed. The module may have the attributes `preprocess` (a `Preprocess`)
    and `labels` (a tuple with one `Label` for each class).

    Args:
        name: "FILE.py:FUNCTION" or "package.module:FUNCTION".
        device: The device to run the module on.

    Raises:
        RequestError: The function cannot be called, or does not return a usable module.
    """
    module_name, _, function_name = name.rpartition(":")
    try:
        make_module = getattr(_import_python(module_name), function_name)
        module = make_module()
        if not isinstance(module, nn.Module):
            raise RequestError(
                f"{name} returned an object of type {type(module).__name__}",
                "return a torch.nn.Module, and set its attribute preprocess if the module needs "
                f"another preprocessing than timm's for ImageNet at {DEFAULT_SIZE} pixels",
            )
        preprocess = getattr(module, "preprocess", None)
        if not isinstance(preprocess, Preprocess):
            preprocess = timm_preprocess(DEFAULT_SIZE)
        description = ModuleDescription(
            name=name,
            sha256=hash_weights(module),
            labels=getattr(module, "labels", None),
            preprocess=preprocess,
            has_fixed_size=False,
        )
        return make_module_teacher(module.eval(), description, device)
    except RequestError:
        raise
    except ModuleNotFoundError as error:
        raise RequestError(
            f"{name} needs {error.name}, which is not installed",
            "install the Python packages that the teacher imports",
        ) from error
    except Exception as error:  # the user's code may raise any exception
        raise RequestError(
            f"{name} failed ({type(error).__name__}: {error})",
            "use a function without arguments that returns a module whose input is float32 "
            f"(B, 3, {DEFAULT_SIZE}, {DEFAULT_SIZE}), or of the size in its attribute preprocess",
        ) from error


def _import_python(module_name: str) -> ModuleType:
    """Import a Python file by its path, or a module by its dotted name."""
    if not module_name.endswith(".py"):
        return importlib.import_module(module_name)
    path = Path(module_name).absolute()
    # The name differs from those of installed modules, whatever the file is called.
    spec = importlib.util.spec_from_file_location(f"_teacher_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RequestError(f"{module_name} is not a Python file", "use FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look up the module of a class in sys.modules, also after the import.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module
