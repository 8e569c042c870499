"""Where the networks run and in which precision: a GPU where there is one, else the processor."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from tinyvit.errors import RequestError
from tinyvit.runtimes import processor as cpu

Precision = Literal["auto", "float32", "bfloat16"]
BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of /proc/cpuinfo (the last one Arm's). Without one of them torch computes bf16 ten times slower than float32."""
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class ComputeDevice:
    """name: "cuda:0", "cpu". bfloat16: whether products are computed in it; weights stay float32."""

    name: str
    bfloat16: bool

    def place(self, module: Network) -> Network:
        """The module there, its convolutions' weights in the order that they are fastest in."""
        return module.to(self.name, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def images(self, batch: Tensor) -> Tensor:
        """float32 (B, 3, S, S), there and in that order."""
        return batch.to(self.name, memory_format=torch.channels_last, non_blocking=True)

    def autocast(self) -> AbstractContextManager[object]:
        """What the network's forward pass runs in."""
        return torch.autocast(self.name.partition(":")[0], torch.bfloat16, enabled=self.bfloat16)


def select_device(precision: Precision = "auto", local_rank: int = 0) -> ComputeDevice:
    """The best there is here. Raises RequestError for bfloat16 where it is emulated."""
    if torch.cuda.is_available():
        return ComputeDevice(
            f"cuda:{local_rank}",
            precision != "float32" and torch.cuda.is_bf16_supported(including_emulation=False),
        )
    able = bool(BF16 & (cpu.flags() or frozenset()))
    if precision == "bfloat16" and not able:
        raise RequestError(
            "this processor has no bf16 products: torch would emulate them, ten times slower",
            "--precision float32",
        )
    return ComputeDevice("cpu", precision != "float32" and able)
