"""`Engine` and `Runtime`, the interfaces of all engines, and helpers that engines share.

An engine is a library that runs artifacts (exported files), such as ONNX Runtime. A runtime is one
artifact that an engine has opened. Each module in `engines/` defines `ENGINE`, an instance of a
subclass of `Engine`, and imports the engine's library only inside functions, so that listing the
engines needs none of the libraries. Other modules get engines from `tinyvit.runtimes.registry`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest import TensorSpec
from tinyvit.runtimes.formats import Format

if TYPE_CHECKING:
    from tinyvit.runtimes.artifact import Artifact

PRECISIONS = ("float32", "bfloat16", "float16")
MAX_THREADS = 1024
AUTO_DEVICE = "auto"
_MAX_MESSAGE_LENGTH = 200


@dataclass(frozen=True)
class RuntimeOptions:
    """Options of a runtime. An engine that cannot use exactly these values raises RequestError.

    Attributes:
        device: "cpu", "gpu", "npu", or the engine's own name of a device, such as an ONNX Runtime
            provider or an OpenVINO device. "auto" means the engine's `default_device`.
        threads: CPU threads for one inference, 1 to 1024; None for the engine's default.
        precision: Precision of the arithmetic: "float32", "bfloat16" or "float16"; None for the
            precision in the artifact's manifest.
        cache: Folder in which an engine keeps the files that it compiles for this device, so that
            the artifact opens faster the next time. It is created if it does not exist. The files
            in it are executed without a check, so only the user should have write permission.

    Raises:
        RequestError: If a value is not allowed.
    """

    device: str = "cpu"
    threads: int | None = None
    precision: str | None = None
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and (
            not isinstance(self.threads, int) or not 1 <= self.threads <= MAX_THREADS
        ):
            raise RequestError(
                f"threads={self.threads!r} is not allowed",
                f"give a whole number from 1 to {MAX_THREADS}, or leave it out",
            )
        if self.precision not in (None, *PRECISIONS):
            raise RequestError(
                f"precision={self.precision!r} is not known",
                f"give one of {', '.join(PRECISIONS)}, or leave it out",
            )
        if not isinstance(self.device, str) or not self.device:
            raise RequestError(
                f"device={self.device!r} is not known",
                'give "cpu", "gpu", "npu", or the engine\'s own name of a device',
            )


@dataclass(frozen=True)
class RuntimeInfo:
    """The engine in use and its actual options, as the engine itself reports them.

    Attributes:
        engine: Name of the engine, such as "onnxruntime".
        version: Version of the engine's library.
        device: Device that computes, by the engine's own name, such as "CPUExecutionProvider".
        threads: CPU threads for one inference; None if the engine chooses the number itself or does
            not compute on the CPU.
        precision: Such as "float32", "int8", or "int8, the rest bfloat16". "unstated (float32
            output)" if neither a manifest nor the engine states it.
    """

    engine: str
    version: str
    device: str
    threads: int | None
    precision: str


class Runtime(Protocol):
    """An artifact that an engine has opened; a context manager that closes it.

    Several threads may call `run` at the same time.

    Attributes:
        inputs: Inputs of the network as the engine reports them; a classifier has one.
        outputs: Outputs of the network as the engine reports them; a classifier has one.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run the network on one batch of images.

        Args:
            batch: Network input with the shape and dtype of `inputs[0]`. NaN values are not
                rejected.

        Returns:
            Logits, float32 (batch, classes). The caller may keep and change the array.

        Raises:
            ArtifactError: If the shape or dtype is wrong, if the runtime is closed, or if the
                engine fails.
        """
        ...

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use."""
        ...

    def close(self) -> None:
        """Release the engine's memory. Calling it again has no effect."""
        ...

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Engine(ABC):
    """A library that runs artifacts. Creating an instance does not import the library.

    Attributes:
        name: Name for `--runtime`: the module's name, with hyphens instead of underscores.
        formats: File formats that the engine opens, its own format first.
        package: Name of the Python module that the engine is imported from.
        extra: Extra of tinyvit-edge that installs the engine; "" if every installation has it.
        default_device: Device that is used for "auto".
        is_reference: True for a reference evaluator: it computes the correct logits on machines
            where the real engine cannot run, and is not for measuring latency.
        caches_compiled_files: True if the engine compiles an artifact when it opens it, and can
            keep the compiled file in a folder (`RuntimeOptions.cache`).
    """

    name: str
    formats: tuple[Format, ...]
    package: str
    extra: str
    default_device: str = "cpu"
    is_reference: bool = False
    caches_compiled_files: bool = False

    @abstractmethod
    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open an artifact of one of `formats` with exactly the given options.

        Args:
            artifact: The artifact to open.
            options: Device, threads and precision. The device is never "auto", because
                `registry.open_runtime` replaces it with `default_device`.

        Returns:
            The opened artifact. The caller closes it.

        Raises:
            RequestError: If the engine cannot run the artifact with these options.
            ArtifactError: If the file is damaged, or the engine does not accept it.
            MissingDependencyError: If the engine is not installed.
        """


def make_tensor_spec(name: str, shape: Sequence[int | str], dtype: str) -> TensorSpec:
    """Describe an input or output that an engine reports.

    Args:
        name: Name of the tensor.
        shape: Sizes of its dimensions; a string is the name of a dimension of any size.
        dtype: Name of a numpy dtype.

    Returns:
        The description. The layout is guessed from the shape: "NC" for two dimensions; for four,
        "NHWC" if the last size is 3 and the second is not, otherwise "NCHW"; otherwise "".
    """
    layout = "NC" if len(shape) == 2 else ""
    if len(shape) == 4:
        layout = "NHWC" if shape[3] == 3 and shape[1] != 3 else "NCHW"
    return TensorSpec(name, tuple(shape), dtype, layout)


def check_precision(artifact: Artifact, options: RuntimeOptions, engine: str) -> str:
    """Check the options and return the manifest's precision.

    This is for engines that cannot change the precision of a file.

    Args:
        artifact: The artifact to run.
        options: Options whose precision is checked.
        engine: Name of the engine for the error message.

    Returns:
        The manifest's precision; "" for a file without a manifest.

    Raises:
        RequestError: If `options.precision` is set. "float32" is allowed if the file is float32 or
            has no manifest.
    """
    precision = artifact.manifest.precision if artifact.manifest else ""
    if options.precision and (options.precision != "float32" or precision not in ("", "float32")):
        raise RequestError(
            f"{engine} cannot run {artifact.path.name} in {options.precision}",
            "leave --precision out; the precision is fixed in the file"
            + (f" ({precision})" if precision else ""),
        )
    return precision


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
    same_shape = len(batch.shape) == len(expected.shape) and all(
        isinstance(required_size, str) or size == required_size
        for size, required_size in zip(batch.shape, expected.shape)
    )
    if not same_shape or batch.dtype != np.dtype(expected.dtype) or batch.size == 0:
        shape = ", ".join(map(str, expected.shape))
        raise ArtifactError(
            f"the input is {batch.dtype} of shape {batch.shape}",
            f"the file takes {expected.dtype} of shape ({shape}), {expected.layout}",
        )


def physical_cores() -> int:
    """Return the number of physical CPU cores (not hyper-threads) that this process may use."""
    allowed = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else range(os.cpu_count() or 1)
    )
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(topology.format(cpu)).read_text() for cpu in allowed})
    except OSError:
        return len(allowed)  # Only Linux has this file.


def closed_error() -> ArtifactError:
    """Return the error for a call after `Runtime.close`."""
    return ArtifactError("the file was closed", "open it again")


def load_error(path: Path, engine: str, error: Exception) -> ArtifactError:
    """Return the error for a file that an engine cannot open, with the engine's message."""
    return ArtifactError(
        f"{engine} cannot open {path.name} ({shorten_message(error)})",
        "the file is damaged or of another format: export it again",
    )


def run_error(engine: str, error: Exception) -> ArtifactError:
    """Return the error for an inference that failed, with the engine's message."""
    return ArtifactError(
        f"{engine} failed ({shorten_message(error)})",
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
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[-1] if lines else type(error).__name__
    return message.rsplit(" : ", 1)[-1][:_MAX_MESSAGE_LENGTH]
