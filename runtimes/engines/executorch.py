"""ExecuTorch: opens its own .pte files on CPUs, with the XNNPACK delegate and the portable kernels that its package carries.

A file may ask for any delegate that the package knows, and some of those load libraries by name: only XNNPACK's is let through.
ExecuTorch has one pool of threads for the whole process, and a method keeps the pool that it was loaded with: it cannot be changed
under an open file.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest import TensorSpec
from tinyvit.output_capture import quiet_loggers, silence_file_descriptors
from tinyvit.runtimes.artifact import Artifact, content_sha256
from tinyvit.runtimes.base import (
    Runtime,
    RuntimeOptions,
    check_batch,
    closed_error,
    load_error,
    make_tensor_spec,
    physical_cores,
    run_error,
    stated_precision,
)
from tinyvit.runtimes.engines import _pte
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.formats.trailer import TrailerFormat

FORMATS: tuple[Format, ...] = (TrailerFormat("executorch", ".pte", b"ET12", at=4),)
PACKAGE = "executorch"
EXTRA = "executorch"

_METHOD, _DELEGATE = "forward", "XnnpackBackend"
_DTYPES = {0: "uint8", 1: "int8", 5: "float16", 6: "float32", 7: "float64"}
"""ExecuTorch's numbers for types, which are torch's (runtime/core/portable_type/scalar_type.h)."""

_TRIAL = (
    "import sys; from tinyvit.runtimes.engines import executorch; executorch.trial(sys.argv[1])"
)
_TRIAL_S = 120
_OUTLIVED: set[str] = set()
"""Hashes of the files without a manifest that another process has run and outlived."""

_POOL = threading.Lock()
_OPEN: weakref.WeakSet[_ExecuTorchRuntime] = weakref.WeakSet()
"""Files that are open in this process; they share the pool of threads."""


def open_runtime(artifact: Artifact, options: RuntimeOptions) -> Runtime:
    """Open a .pte file; raises RequestError for what ExecuTorch cannot do here, ArtifactError for a file that it refuses."""
    if options.device.lower() not in ("cpu", "xnnpack"):
        raise RequestError(
            f"ExecuTorch has no device {options.device!r} here",
            "it has cpu (XNNPACK); phones and NPUs run their own builds",
        )
    stated = stated_precision(artifact, options, "ExecuTorch")
    sdk = _sdk()
    data = _checked(artifact)
    with _POOL, _silent():
        threads = _settle(sdk, options.threads)
        try:
            module = sdk._load_for_executorch_from_buffer(data)
            meta = module.method_meta(_METHOD)
            inputs, outputs = _specs(meta, "input"), _specs(meta, "output")
        except (RuntimeError, IndexError, ValueError) as error:
            raise load_error(artifact.path, "ExecuTorch", error) from error
        runtime = _ExecuTorchRuntime(
            module,
            data,
            inputs,
            outputs,
            {"threads": threads, "precision": stated or "unstated (float32 ends)"},
        )
        _OPEN.add(runtime)
    return runtime


def _sdk() -> ModuleType:
    try:
        with _silent():
            from executorch.extension.pybindings import portable_lib
    except ImportError as error:
        raise MissingDependencyError.of("executorch", EXTRA) from error
    module: ModuleType = portable_lib
    return module


def _checked(artifact: Artifact) -> bytes:
    """The file, read once: ExecuTorch neither copies nor keeps it. Raises ArtifactError where it is damaged or wants another delegate.

    ExecuTorch's own checks are not enough: of files with a few bytes of their program changed, a quarter ended the process. What the
    manifest's hash does not vouch for is therefore run by another process first.
    """
    stated = artifact.manifest.content_sha256 if artifact.manifest else ""
    if stated and stated != content_sha256(artifact.path):
        raise ArtifactError(
            f"{artifact.path.name} is damaged: its content is not what its manifest was written for",
            "export it again",
        )
    try:
        data = artifact.path.read_bytes()
        program = _pte.read(data)
    except (OSError, ValueError) as error:
        raise load_error(artifact.path, "ExecuTorch", error) from error
    strange = [name for name in program.delegates if name != _DELEGATE]
    if strange or _METHOD not in program.methods:
        cause = (
            f"{artifact.path.name} wants the delegate {strange[0][:80]}"
            if strange
            else f"{artifact.path.name} has no method {_METHOD}"
        )
        raise ArtifactError(
            cause,
            "only XNNPACK's is run here, and none other is loaded: export with --target executorch",
        )
    if not stated:
        _outlive(artifact.path, hashlib.sha256(data).hexdigest())
    return data


def _outlive(path: Path, content: str) -> None:
    """Raise ArtifactError where another process, running the file once, does not live to say whether it can."""
    if content in _OUTLIVED:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL, str(path)],
            capture_output=True,
            timeout=_TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"{path.name} did not answer in {_TRIAL_S} s", "the file is damaged: export it again"
        ) from error
    if done.returncode < 0 or done.returncode > 127:
        raise ArtifactError(
            f"{path.name} ends the process that runs it in ExecuTorch",
            "the file is damaged or hostile: export it again",
        )
    _OUTLIVED.add(content)


def trial(path: str) -> None:
    """In a process of its own: run the file once on zeros. An ordinary error is nothing here: opening the file will meet it again."""
    sdk = _sdk()
    data = Path(path).read_bytes()  # lives as long as the module
    try:
        module = sdk._load_for_executorch_from_buffer(data)
        inputs = _specs(module.method_meta(_METHOD), "input")
        import torch

        module.forward(
            [torch.from_numpy(np.zeros([int(size) for size in x.shape], x.dtype)) for x in inputs]
        )
    except (RuntimeError, IndexError, ValueError, ArtifactError):
        return


def _settle(sdk: ModuleType, wanted: int | None) -> int:
    """Give the pool as many threads as asked for, one a physical core where nothing was; raises RequestError where it cannot have them.

    Changing the pool frees what open methods point to.
    """
    have = int(sdk._threadpool_get_thread_count())
    if _OPEN:
        if wanted in (None, have):
            return have
        raise RequestError(
            f"ExecuTorch has one pool of threads for a process, and an open file uses it with {have}, not {wanted}",
            f"close that file first, or ask for {have} threads",
        )
    asked = wanted or physical_cores()
    if have != asked:
        sdk._unsafe_reset_threadpool(asked)
        have = int(sdk._threadpool_get_thread_count())
    if wanted not in (None, have):
        raise RequestError(f"ExecuTorch takes {have} threads here, not {wanted}", f"ask for {have}")
    return have


class _ExecuTorchRuntime(Runtime):
    def __init__(
        self,
        module: Any,
        data: bytes,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        settled: dict[str, str | int],
    ) -> None:
        from importlib.metadata import version

        self.inputs, self.outputs = inputs, outputs
        self._held: tuple[Any, bytes] | None = (module, data)
        self._lock = threading.Lock()
        self._facts: dict[str, str | int] = {
            "engine": "executorch",
            "version": version("executorch"),
            "device": "cpu (XNNPACK)",
            **settled,
        }

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        import torch

        with self._lock:
            if self._held is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            # torch may not share memory that it cannot write to; the answer lies in a buffer that the next call overwrites.
            given = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
            try:
                return np.array(self._held[0].forward([given])[0].numpy(), np.float32)
            except RuntimeError as error:
                raise run_error("ExecuTorch", error) from error

    def describe(self) -> dict[str, str | int]:
        return dict(self._facts)

    def close(self) -> None:
        with _POOL, self._lock:
            self._held = None
            _OPEN.discard(self)


def _specs(meta: Any, side: str) -> tuple[TensorSpec, ...]:
    """What a method takes or gives; tensors have no names in a .pte."""
    made = []
    for i in range(getattr(meta, f"num_{side}s")()):
        info = getattr(meta, f"{side}_tensor_meta")(i)
        dtype = _DTYPES.get(info.dtype())
        if dtype is None:
            raise ArtifactError(
                f"an {side} is of ExecuTorch's type {info.dtype()}",
                "an image classifier of pictures is expected",
            )
        made.append(make_tensor_spec(f"{side}{i}", info.sizes(), dtype))
    return tuple(made)


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on stdout or stderr, ExecuTorch's native log included: it writes to the descriptors, what it loads and why it refuses."""
    with silence_file_descriptors(), quiet_loggers("torch", "torchao", "executorch", "root"):
        yield
