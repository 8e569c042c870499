"""Rockchip's NPUs: the chips, and where Rockchip's compiler is installed.

The compiler, rknn-toolkit2, needs older versions of other packages than this project. So it has an
environment of its own, whose Python is started as another process
(`tinyvit.runtimes.rockchip.toolkit`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit.errors import MissingDependencyError, RequestError, TinyViTError

PYTHON_VARIABLE = "TINYVIT_RKNN_PYTHON"
"""Environment variable with the path of the Python that has rknn-toolkit2."""
PYTHON_OPTION = "--rknn-python"
"""Option of tinyvit-export with the same path."""

SETUP_COMMANDS = (
    "python3.11 -m venv rknn-env",
    "rknn-env/bin/pip install --no-deps rknn-toolkit2==2.5.0 numpy==1.26.4 onnx==1.18.0"
    " onnxruntime==1.19.2 protobuf==4.25.8 scipy==1.13.1 opencv-python-headless==4.10.0.84"
    " fast-histogram psutil ruamel.yaml tqdm typing-extensions",
)
"""The commands that create an environment with the toolkit. It works without torch, which it would
need only to read PyTorch files."""

_SWAPPING_RULES = ("swap_exmatmul_transpose_reshape", "fuse_exmatmul_transpose")
"""Rules of the toolkit that swap the operands of a product to save a Transpose. With them, the
numbers from a softmax would be the second operand, which has no zero point
(`tinyvit.runtimes.rockchip.ranges.make_second_operands_symmetric`)."""

MAX_OPSET = 19
"""Last ONNX opset that the toolkit reads."""


@dataclass(frozen=True)
class Chip:
    """A chip with an NPU of Rockchip.

    Attributes:
        name: Name for --soc, which is also that of the toolkit.
        title: The chip and its NPU in words.
        has_single_core_mode: Whether the toolkit has a mode for one core of the NPU, which makes
            the file smaller.
        fuses_attention: Whether the toolkit makes one operator of both products of an attention and
            the softmax between them. Otherwise, the products are on the NPU and the softmax is on
            the CPU.
    """

    name: str
    title: str
    has_single_core_mode: bool = False
    fuses_attention: bool = True

    def make_settings(self, is_quantized: bool) -> dict[str, Any]:
        """Return the settings of the toolkit for this chip.

        Args:
            is_quantized: Whether the network is int8.
        """
        settings: dict[str, Any] = {"target_platform": self.name}
        if self.has_single_core_mode:
            settings["single_core_mode"] = True
        if is_quantized and not self.fuses_attention:
            settings["disable_rules"] = list(_SWAPPING_RULES)
        return settings


CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip("rk3588", "RK3588 and RK3588S, an NPU of three cores", has_single_core_mode=True),
        Chip("rk3576", "RK3576, an NPU of two cores"),
        Chip("rk3566", "RK3566, an NPU of one core", fuses_attention=False),
        Chip("rk3568", "RK3568, an NPU of one core", fuses_attention=False),
    )
}
"""The chips that files are compiled for; the toolkit knows them by these names."""

DEFAULT_CHIP = CHIPS["rk3588"]
"""The chip that files are compiled for by default."""


def make_missing_error() -> MissingDependencyError:
    """Make the error for a machine on which no Python with the toolkit is known."""
    return MissingDependencyError(
        "rknn-toolkit2 needs an environment of its own, and none is known",
        f"run {' && '.join(SETUP_COMMANDS)}, and give {PYTHON_OPTION} rknn-env/bin/python or set"
        f" {PYTHON_VARIABLE} to this path",
    )


def explain_missing_python(path: str | None) -> TinyViTError | None:
    """Explain why there is no Python with the toolkit, without starting it.

    Args:
        path: Path of the Python; None for that of the environment variable.

    Returns:
        The error to raise or to report; None if there is a program.
    """
    chosen = path or os.environ.get(PYTHON_VARIABLE)
    if not chosen:
        return make_missing_error()
    program = Path(chosen).expanduser()
    if program.is_file() and os.access(program, os.X_OK):
        return None
    return RequestError(
        f"{chosen} is not a Python that can be started",
        f"give the path of the Python that has rknn-toolkit2 with {PYTHON_OPTION} or"
        f" {PYTHON_VARIABLE}",
    )


def find_python(path: str | None = None) -> str:
    """Find the Python that has the toolkit.

    Args:
        path: Path of the Python; None for that of the environment variable.

    Returns:
        An absolute path.

    Raises:
        MissingDependencyError: No path is known.
        RequestError: There is no program at the path.
    """
    error = explain_missing_python(path)
    if error is not None:
        raise error
    # Not resolved: the Python of an environment is a symbolic link to another one.
    return os.path.abspath(Path(path or os.environ[PYTHON_VARIABLE]).expanduser())
