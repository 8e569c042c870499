"""A worker process of an export: makes the artifacts of targets while other workers do the same.

`target_processes` starts the workers, and describes how they work together.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from tinyvit.cli import explain_error
from tinyvit.errors import CheckpointError, TinyViTError
from tinyvit.export.export_results import try_artifact
from tinyvit.export.int8.shared_measurements import SharedMeasurements
from tinyvit.export.network_preparation import FloatPreparer, NetworkPreparer, QuantizedPreparer
from tinyvit.export.plan import PlannedArtifact
from tinyvit.export.source_network import SourceNetwork, load_source_network
from tinyvit.export.workers.worker_messages import (
    Aborted,
    Finished,
    QuantizationSetup,
    QuietEnd,
    QuietRequest,
    Ready,
    Report,
    SensitivityImagesRequest,
    WorkerSetup,
)
from tinyvit.processes.allocator import release_freed_memory, use_one_arena
from tinyvit.processes.stop_signals import catch_stop_signals, raise_if_stopped
from tinyvit.progress import NullProgress
from tinyvit.quant.channel_ranges.equalization import equalize_network
from tinyvit.quant.quantizer import PreparedQuantization


def run_worker(descriptor: int) -> None:
    """Make the artifacts that the process of the export requests, until it closes the connection.

    Args:
        descriptor: File descriptor of a socket that is connected to that process.
    """
    # Signals of the export reach the programs that this process starts, too. If the export is
    # killed while this process is paused, the system lets the group continue, and ends it.
    os.setpgid(0, 0)
    use_one_arena()  # It saves memory and loses no time (docs/lab-notes/engines.md).
    endings = (KeyboardInterrupt, EOFError, OSError)
    with Connection(descriptor) as connection, suppress(*endings), catch_stop_signals():
        _Worker(connection).run()


class _Worker:
    """Makes artifacts, and is the `Progress` of this work."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._target = ""

    def run(self) -> None:
        """Answer requests until the connection is closed, or until the export must end."""
        try:
            self._connection.send(Ready())
            setup: WorkerSetup = self._connection.recv()
            preparer = self._make_preparer(setup)
            while True:
                group: tuple[PlannedArtifact, ...] = self._connection.recv()
                for planned in group:
                    self._target = planned.target.name
                    result = try_artifact(
                        planned, preparer, setup.plan.config.overwrite, self, self.quiet
                    )
                    self._connection.send(Finished(result))
                gc.collect()
                release_freed_memory()
                self._connection.send(Ready())
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            self._connection.send(Aborted(explain_error(error)))

    def message(self, text: str) -> None:
        """Send a message; see `Progress.message`."""
        raise_if_stopped()
        self._connection.send(Report(text if self._target in text else f"{self._target}: {text}"))

    def advance(self, description: str, done: int, total: int) -> None:
        """Send nothing: the counts of several processes would alternate."""
        raise_if_stopped()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Let the export pause all other workers while latency is measured in the block."""
        self._connection.send(QuietRequest())
        self._connection.recv()
        try:
            yield
        finally:
            self._connection.send(QuietEnd())

    def _make_preparer(self, setup: WorkerSetup) -> NetworkPreparer:
        """Read the checkpoint, and make the preparer that the export has."""
        source = load_source_network(setup.plan, NullProgress())
        if source.checkpoint.sha256 != setup.checkpoint_sha256:
            raise CheckpointError(
                f"{source.checkpoint.name} was changed while it was exported",
                "export it again, when no other program writes it",
            )
        if setup.quantization is None:
            assert setup.manifest is not None
            return FloatPreparer(source, setup.manifest, self, self.quiet)
        return self._make_quantized_preparer(setup, source, setup.quantization)

    def _make_quantized_preparer(
        self, setup: WorkerSetup, source: SourceNetwork, quantization: QuantizationSetup
    ) -> QuantizedPreparer:
        equalized = equalize_network(source.folded, quantization.recipe.equalization)
        images = quantization.images
        measurements = SharedMeasurements()
        if images is not None:
            measurements.float32_outputs = images.read_float32_outputs()
        return QuantizedPreparer(
            setup.plan.config,
            replace(source, folded=equalized),
            PreparedQuantization(
                quantization.config,
                quantization.recipe,
                make_batches=_yield_nothing if images is None else images.batches,
                count_images=lambda: 0 if images is None else images.listed_count,
                make_sensitivity_images=self._request_sensitivity_images,
                is_measured=images is not None,
            ),
            self,
            measurements,
            self.quiet,
        )

    def _request_sensitivity_images(self) -> Tensor:
        """Return the images on which layers are ranked, which the export reads or makes once."""
        self._connection.send(SensitivityImagesRequest())
        answer: Any = self._connection.recv()
        if isinstance(answer, TinyViTError):
            raise answer
        return torch.from_numpy(answer)


def _yield_nothing() -> Iterator[Any]:
    """Yield no batch; the `BatchFactory` of an export that does not compare int8 with float32."""
    return iter(())
