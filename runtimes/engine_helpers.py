"""Functions that several engines share: checks, descriptions of tensors, and errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.processes.python_process import read_last_line
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import RuntimeOptions

_MAX_MESSAGE_LENGTH = 200
"""Largest number of characters of an engine's error message that are shown."""

_MAX_SHOWN_OPERATORS = 5
"""Number of operators that an error message names."""

_CPU_SIBLINGS_FILE = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
"""Linux file that lists the hyper-threads of a core; {} is the number of any one of them."""


def import_library(module_name: str, error_if_missing: MissingDependencyError) -> ModuleType:
    """Import a module of an engine's library.

    Args:
        module_name: Full name of the module.
        error_if_missing: Error to raise if the library is not installed.

    Returns:
        The module.

    Raises:
        MissingDependencyError: If the module cannot be imported.
    """
    try:
        return import_module(module_name)
    except ImportError as error:
        raise error_if_missing from error


def make_tensor_spec(name: str, shape: Sequence[int | str], dtype: str) -> TensorSpec:
    """Make a description of an input or output, as an engine reports it.

    Args:
        name: Name of the tensor.
        shape: Sizes of its dimensions; a string is the name of a dimension of any size.
        dtype: Name of a numpy dtype.

    Returns:
        The description. The layout is guessed from the shape: "NC" for two dimensions; for four,
        "NHWC" if the last size is 3 and the second is not, otherwise "NCHW"; otherwise "".
    """
    layout = ""
    if len(shape) == 2:
        layout = "NC"
    elif len(shape) == 4:
        layout = "NHWC" if shape[3] == 3 and shape[1] != 3 else "NCHW"
    return TensorSpec(name, tuple(shape), dtype, layout)


def read_stated_precision(artifact: Artifact, options: RuntimeOptions, engine_name: str) -> str:
    """Read the precision that a file's manifest states, and refuse options that set a precision.

    This is for engines that cannot change the precision of a file. The only precision that options
    may set is "float32", for a file that is float32 or has no manifest.

    Args:
        artifact: The artifact to run.
        options: Options whose precision is checked.
        engine_name: Name of the engine for the error message.

    Returns:
        The manifest's precision; "" for a file without a manifest.

    Raises:
        RequestError: If the options set any other precision, even if it is that of the file.
    """
    precision = artifact.manifest.precision if artifact.manifest else ""
    if options.precision is None:
        return precision
    if options.precision != "float32" or precision not in ("", "float32"):
        stated_precision = f" ({precision})" if precision else ""
        raise RequestError(
            f"{engine_name} cannot run {artifact.path.name} in {options.precision}",
            f"leave --precision out; the precision is fixed in the file{stated_precision}",
        )
    return precision


def refuse_reference_options(options: RuntimeOptions, name: str, thread_note: str) -> None:
    """Refuse a device and a number of threads for an engine that only checks files.

    Args:
        options: Options whose device and threads are checked.
        name: Name of the engine in messages, such as "the emulator".
        thread_note: Clause that says which threads it uses, and that they cannot be chosen.

    Raises:
        RequestError: Another device than "cpu" was requested, or a number of threads.
    """
    if options.device != "cpu":
        raise RequestError(
            f"{name} has no device {options.device!r}", "leave --device out, or use --device cpu"
        )
    if options.threads is not None:
        raise RequestError(
            f"{name} {thread_note}",
            "leave --threads out; this engine is not for measuring latency",
        )


def describe_unstated_precision(outputs: Sequence[TensorSpec]) -> str:
    """Return the value of `RuntimeInfo.precision` for a file without a manifest.

    Args:
        outputs: Outputs of the network, as the engine reports them. Their dtypes do not show
            whether the network is quantized.

    Returns:
        Text such as "unstated (float32 output)".
    """
    return f"unstated ({', '.join(spec.dtype for spec in outputs)} output)"


def check_batch(batch: npt.NDArray[Any], inputs: tuple[TensorSpec, ...]) -> None:
    """Check a batch before an engine runs it, because some engines crash on a wrong one.

    Args:
        batch: Network input that a caller passed to `Runtime.run`.
        inputs: Inputs of the network, as the engine reports them.

    Raises:
        ArtifactError: If the file has several inputs, if the batch is empty, or if its shape or
            dtype is not that of the input.
    """
    if len(inputs) != 1:
        raise ArtifactError(
            f"the file has {len(inputs)} inputs", "an image classifier has exactly one input"
        )
    expected = inputs[0]
    has_expected_shape = len(batch.shape) == len(expected.shape) and all(
        isinstance(expected_size, str) or size == expected_size
        for size, expected_size in zip(batch.shape, expected.shape)
    )
    has_expected_dtype = batch.dtype == np.dtype(expected.dtype)
    if not has_expected_shape or not has_expected_dtype or batch.size == 0:
        shape = ", ".join(map(str, expected.shape))
        raise ArtifactError(
            f"the input is {batch.dtype} of shape {batch.shape}",
            f"the file takes {expected.dtype} of shape ({shape}), {expected.layout}",
        )


def count_physical_cores() -> int:
    """Return the number of physical CPU cores (not hyper-threads) that this process may use."""
    allowed_cpus = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else range(os.cpu_count() or 1)
    )
    try:
        # The hyper-threads of one core have the same list of siblings.
        return len({Path(_CPU_SIBLINGS_FILE.format(cpu)).read_text() for cpu in allowed_cpus})
    except OSError:
        return len(allowed_cpus)  # Only Linux has this file.


def cpu_threads_error(device: str) -> RequestError:
    """Return the error for a number of CPU threads on a device that is not a CPU."""
    return RequestError(
        f"--threads sets CPU threads, and the device is {device}",
        "leave --threads out, or use --device cpu",
    )


def closed_error() -> ArtifactError:
    """Return the error for a call after `Runtime.close`."""
    return ArtifactError("the file was closed", "open it again")


def load_error(path: Path, engine_name: str, error: Exception) -> ArtifactError:
    """Return the error for a file that an engine cannot open, with the engine's message."""
    return ArtifactError(
        f"{engine_name} cannot open {path.name} ({shorten_message(error)})",
        "the file is damaged or of another format: export it again",
    )


def foreign_operators_error(path: Path, operators: Sequence[str]) -> ArtifactError:
    """Return the error for a file with operators that image classifiers do not need.

    Args:
        path: The file.
        operators: Names of these operators.

    Returns:
        The error to raise.
    """
    shown = ", ".join(operators[:_MAX_SHOWN_OPERATORS])
    return ArtifactError(
        f"{path.name} contains operators that image classifiers do not need ({shown}); they could"
        " run forever or fill the memory",
        "if you trust the file, use --allow-foreign-operators, in Python"
        " allow_foreign_operators=True",
    )


def run_error(engine_name: str, error: Exception) -> ArtifactError:
    """Return the error for an inference that failed, with the engine's message."""
    return ArtifactError(
        f"{engine_name} failed ({shorten_message(error)})",
        "check the file with tinyvit-verify, or try another --runtime or --device",
    )


def shorten_message(error: Exception) -> str:
    """Shorten an engine's message to its last line, which states the reason.

    Args:
        error: Error that the engine raised.

    Returns:
        At most 200 characters of the text after the last " : " (ONNX Runtime puts error codes
        before it); the type of the error if it has no message.
    """
    message = read_last_line(str(error), if_empty=type(error).__name__, max_characters=None)
    return message.rsplit(" : ", 1)[-1][:_MAX_MESSAGE_LENGTH]
