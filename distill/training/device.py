"""The device that networks in torch run on, and the precision of their products."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from tinyvit.errors import RequestError
from tinyvit.runtimes import processor

Precision = Literal["auto", "float32", "bfloat16"]
"""The precision that a user asks for; "auto" is bfloat16 where it is fast."""

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of /proc/cpuinfo (the last one is Arm's) that show hardware support of bfloat16. Without
any of them, torch emulates bfloat16 and is ten times slower than in float32."""

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class ComputeDevice:
    """A device, and whether products are computed in bfloat16 on it.

    Attributes:
        name: torch's name of the device, such as "cpu" or "cuda:0".
        bfloat16: Whether products are computed in bfloat16; weights stay float32.
    """

    name: str
    bfloat16: bool

    def place(self, module: _Network) -> _Network:
        """Move a module to the device, with convolution weights in channels-last order.

        Args:
            module: The module, which is changed in place.

        Returns:
            The same module.
        """
        return module.to(self.name, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def images(self, batch: Tensor) -> Tensor:
        """Move images to the device in channels-last order.

        Args:
            batch: float32 (B, 3, S, S).
        """
        return batch.to(self.name, memory_format=torch.channels_last, non_blocking=True)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context for forward passes, which chooses the precision of products."""
        return torch.autocast(self.name.partition(":")[0], torch.bfloat16, enabled=self.bfloat16)


def select_device(precision: Precision = "auto", local_rank: int = 0) -> ComputeDevice:
    """Select the GPU if there is one, else the CPU.

    Args:
        precision: The precision that the user asked for.
        local_rank: Number of the GPU on this machine.

    Raises:
        RequestError: bfloat16 was asked for on a CPU that would emulate it.
    """
    if torch.cuda.is_available():
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ComputeDevice(f"cuda:{local_rank}", precision != "float32" and has_bfloat16)
    has_bfloat16 = bool(BFLOAT16_FLAGS & (processor.read_flags() or frozenset()))
    if precision == "bfloat16" and not has_bfloat16:
        raise RequestError(
            "this processor has no bfloat16 instructions, and torch would emulate them ten times "
            "slower than float32",
            "use --precision float32",
        )
    return ComputeDevice("cpu", precision != "float32" and has_bfloat16)
