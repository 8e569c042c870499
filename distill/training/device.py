"""Selects the device and the precision with which PyTorch networks run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from tinyvit.errors import RequestError
from tinyvit.runtimes import processor

Precision = Literal["auto", "float32", "bfloat16"]
"""The precision that a user requests; "auto" is bfloat16 if the hardware supports it."""

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags in /proc/cpuinfo. Any of them shows that the processor supports bfloat16 ("bf16" is Arm's
flag). On other processors, torch emulates bfloat16, which is ten times slower than float32."""

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class ComputeDevice:
    """A device, and the precision in which networks run on it.

    Attributes:
        name: torch's name of the device, such as "cpu" or "cuda:0".
        uses_bfloat16: Whether matrix products and convolutions are computed in bfloat16, by torch's
            autocast. Weights stay float32 in any case.
    """

    name: str
    uses_bfloat16: bool

    def move_module(self, module: _Network) -> _Network:
        """Move a module to the device, with convolution weights in channels-last order.

        Args:
            module: The module, which is changed in place.

        Returns:
            The same module.
        """
        # torch's annotations lack the combination of a device and a memory format.
        same_module: _Network = module.to(  # type: ignore[call-overload]
            self.name, memory_format=torch.channels_last
        )
        return same_module

    def move_images(self, batch: Tensor) -> Tensor:
        """Move images to the device in channels-last order.

        Args:
            batch: float32 (B, 3, S, S).
        """
        return batch.to(self.name, memory_format=torch.channels_last, non_blocking=True)

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context in which forward passes use the precision of this device."""
        device_type = self.name.partition(":")[0]
        return torch.autocast(device_type, torch.bfloat16, enabled=self.uses_bfloat16)


def select_device(precision: Precision = "auto", local_rank: int = 0) -> ComputeDevice:
    """Select the GPU if there is one, else the CPU.

    A GPU without bfloat16 support computes in float32, even if bfloat16 was requested.

    Args:
        precision: The requested precision.
        local_rank: Index of this process among those on this machine. The process uses the GPU
            with the same index.

    Raises:
        RequestError: bfloat16 was requested on a CPU without bfloat16 instructions.
    """
    may_use_bfloat16 = precision != "float32"
    if torch.cuda.is_available():
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ComputeDevice(f"cuda:{local_rank}", uses_bfloat16=may_use_bfloat16 and has_bfloat16)
    has_bfloat16 = bool(BFLOAT16_FLAGS & (processor.read_flags() or frozenset()))
    if precision == "bfloat16" and not has_bfloat16:
        raise RequestError(
            "bfloat16 was requested, but this processor has no bfloat16 instructions, and "
            "emulation is ten times slower than float32",
            "request float32 with --precision float32 (save-logits) or --set "
            "'precision=\"float32\"' (train)",
        )
    return ComputeDevice("cpu", uses_bfloat16=may_use_bfloat16 and has_bfloat16)
