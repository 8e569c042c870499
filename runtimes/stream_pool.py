"""Defines `StreamPool`, an artifact that is opened several times to run several batches at once.

One inference on many threads uses them worse than as many inferences on one thread each, because
threads of one inference wait for each other at every layer. For many images, streams therefore
increase the throughput; the latency of one image grows. docs/lab-notes/pixels.md has figures.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.runtimes.base import Runtime, RuntimeInfo


class StreamPool(Runtime):
    """Several opened copies of one artifact; each call of `run` uses one that is free.

    Calls wait while all copies are in use.
    """

    def __init__(self, open_one: Callable[[], Runtime], streams: int) -> None:
        """Open the copies.

        Args:
            open_one: Function that opens the artifact once.
            streams: Number of copies.

        Raises:
            TinyViTError: What `open_one` raises. Copies that were opened before are closed.
        """
        with ExitStack() as opened:
            self._runtimes = [opened.enter_context(open_one()) for _ in range(streams)]
            opened.pop_all()
        self.inputs, self.outputs = self._runtimes[0].inputs, self._runtimes[0].outputs
        self._free: SimpleQueue[Runtime] = SimpleQueue()
        for runtime in self._runtimes:
            self._free.put(runtime)

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network on one batch with a free copy; see `Runtime.run_outputs`."""
        runtime = self._free.get()
        try:
            return runtime.run_outputs(batch)
        finally:
            self._free.put(runtime)

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision, which are those of every copy."""
        return self._runtimes[0].describe()

    def close(self) -> None:
        """Close all copies; see `Runtime.close`."""
        for runtime in self._runtimes:
            runtime.close()
