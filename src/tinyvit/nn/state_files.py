"""Writes the state of unfinished work, such as a training run, so that it can continue later."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tinyvit.files import write_atomically


def write_state_file(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state with `torch.save`, completely or not at all.

    Args:
        path: The file to write or replace.
        state: Tensors, numbers and containers of them, by name.

    Raises:
        OSError: The file cannot be written, for example on a full disk.
    """
    # Written by Python, because torch.save raises RuntimeError instead of OSError on a full disk.
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())
