"""Training on several processes, as torchrun starts them: gradients are averaged, the first process evaluates and writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """rank of count; local_rank: on this machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """With gradients averaged over all processes."""
        if self.count == 1:
            return model
        return DistributedDataParallel(
            model, device_ids=[self.local_rank] if torch.cuda.is_available() else None
        )

    def wait(self) -> None:
        """For the others."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def processes() -> Iterator[Processes]:
    """What torchrun's environment says, connected; one alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()
