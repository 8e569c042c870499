"""Defines `ReopeningRuntime`, an opened artifact that can be copied to other processes."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError
from tinyvit.files.file_io import expand_home
from tinyvit.runtimes.artifact import Artifact, content_sha256, read_artifact
from tinyvit.runtimes.base import Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import closed_error
from tinyvit.runtimes.forking import keep_forever
from tinyvit.runtimes.registry import open_runtime


class ReopeningRuntime(Runtime):
    """An opened artifact that opens its file again where the engine's own object cannot be used.

    That is the case in a copy (`copy.deepcopy`, `pickle`), and in a child of `os.fork`, where the
    file is opened at the first call. The file must still be there, unchanged.
    """

    def __init__(
        self, artifact: Artifact, engine_name: str | None, options: RuntimeOptions
    ) -> None:
        """Open an artifact.

        Args:
            artifact: The artifact.
            engine_name: Name of the engine; None for the best installed one. A copy uses the same
                engine.
            options: Device, threads, precision and cache folder.

        Raises:
            RequestError: If the engine does not exist or does not support the file or an option.
            MissingDependencyError: If the engine is not installed.
            ArtifactError: If the file is damaged or cannot be opened.
        """
        # Another process may have another current folder.
        cache = None if options.cache is None else expand_home(options.cache).absolute()
        self._artifact = replace(artifact, path=artifact.path.absolute())
        self._options = replace(options, cache=cache)
        # A manifest contains the hash of its file, so only a file without a manifest is hashed.
        has_hash = artifact.manifest is not None
        self._content_sha256 = None if has_hash else content_sha256(self._artifact.path)
        self._is_closed = False
        self._lock = threading.Lock()
        self._process_id = os.getpid()
        self._runtime = open_runtime(self._artifact, engine_name, self._options)
        self._engine_name = self._runtime.describe().engine
        self.inputs, self.outputs = self._runtime.inputs, self._runtime.outputs

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        return self._get_runtime().run_outputs(batch)

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._get_runtime().describe()

    def close(self) -> None:
        """Release the engine; see `Runtime.close`.

        A child of `os.fork` does not close what it inherited, because it belongs to the parent.
        """
        if not self._is_closed and self._process_id == os.getpid():
            self._runtime.close()
        self._is_closed = True

    def __getstate__(self) -> dict[str, Any]:
        excluded = ("_lock", "_process_id", "_runtime")  # `__setstate__` makes new ones.
        return {name: value for name, value in self.__dict__.items() if name not in excluded}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._process_id = os.getpid()
        if not self._is_closed:
            self._runtime = self._open_again()

    def _get_runtime(self) -> Runtime:
        """Return the engine's object for this process; in a child of `os.fork`, open it first."""
        if self._is_closed:
            raise closed_error()
        if self._process_id != os.getpid():
            with self._lock:  # Only one of several threads opens the file.
                if self._process_id != os.getpid():
                    # Its destructor would wait for threads that only the parent process has.
                    keep_forever(self._runtime)
                    self._runtime = self._open_again()
                    self._process_id = os.getpid()
        return self._runtime

    def _open_again(self) -> Runtime:
        """Open the file again; raise ArtifactError if it was removed or replaced."""
        path = self._artifact.path
        if not path.exists():
            raise ArtifactError(
                f"{path} cannot be read: it was removed after it was opened, and a copy or another"
                " process opens it again",
                "keep the file, at this path on every machine that takes a copy of the model",
            )
        artifact = read_artifact(path)
        is_unchanged = artifact.manifest == self._artifact.manifest and (
            artifact.manifest is not None or content_sha256(path) == self._content_sha256
        )
        if not is_unchanged:
            raise ArtifactError(
                f"{path} was replaced after it was opened, so it cannot be opened again for a copy"
                " or in another process",
                "open the new file in every process",
            )
        return open_runtime(artifact, self._engine_name, self._options)
