"""Connects the processes that train together. torchrun starts them.

Gradients are averaged over all processes. Only the first process evaluates and writes files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from tinyvit.errors import TinyViTError


@dataclass(frozen=True)
class ProcessGroup:
    """The position of this process among the processes that train together.

    Attributes:
        rank: Index of this process among all processes, from 0.
        count: Number of processes.
        local_rank: Index of this process among those on the same machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Return whether this process evaluates and writes files."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a wrapper of the model that averages gradients over all processes.

        Args:
            model: The model of this process.
        """
        if self.count == 1:
            return model
        device_ids = [self.local_rank] if torch.cuda.is_available() else None
        return DistributedDataParallel(model, device_ids=device_ids)

    def find_maximum(self, number: int) -> int:
        """Return the largest of the numbers that all processes pass to this method.

        Args:
            number: The number of this process.
        """
        if self.count == 1:
            return number
        device = f"cuda:{self.local_rank}" if torch.cuda.is_available() else "cpu"
        maximum = torch.tensor(number, device=device)
        dist.all_reduce(maximum, dist.ReduceOp.MAX)
        return int(maximum)

    def wait(self) -> None:
        """Wait until all processes have called this method."""
        if self.count > 1:
            dist.barrier()


def is_first_process() -> bool:
    """Return whether this process is the first of its group, before it has joined the group."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join_process_group() -> Iterator[ProcessGroup]:
    """Join the group that torchrun's environment variables describe; leave it after the context.

    Yields:
        The position of this process in the group. If torchrun did not start this process, it is the
        only process of its group.

    Raises:
        TinyViTError: The connection to another process is lost, for example because it has ended.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ProcessGroup()
        return
    store, rank, count = next(rendezvous("env://"))
    if os.environ.get("LOCAL_WORLD_SIZE") == str(count):
        # torchrun keeps the addresses of processes that it restarts, and a new process could
        # connect to one that is dead. The number of restarts is the same in all processes of a
        # machine, but not on all machines (docs/reference/training.md says what to set there).
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        # torch documents PrefixStore, but does not export it to type checkers.
        store = dist.PrefixStore(  # type: ignore[attr-defined]
            f"after {restarts} restarts", store
        )
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
        yield ProcessGroup(rank, count, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise TinyViTError(
            f"the process of rank {rank} has lost its connection to another ({error})",
            "look for the error of the process that ended first; then give the same command again,"
            " which continues from the last saved step, or let torchrun do so: --max-restarts N",
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_lost_connection(error: RuntimeError) -> bool:
    """Return whether torch raised an error because it cannot reach another process.

    NCCL's errors have a class of their own; those of Gloo are known by its name in the message.
    """
    return isinstance(error, dist.DistBackendError) or "gloo" in str(error).lower()
