"""Suffixes of checkpoint files, and names for checkpoints. This module does not import torch."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
"""Endings of the names of checkpoint files. timm's train.py writes model_best.pth.tar."""


def name_checkpoint(path: Path) -> str:
    """Name a checkpoint after its file or folder.

    Args:
        path: The file or folder.

    Returns:
        For a folder, its name. For a file, its name without the suffixes of checkpoint files:
        "model_best" for "model_best.pth.tar". If its last suffix is any other, only that suffix is
        removed.
    """
    if path.is_dir():
        return path.resolve().name
    if path.suffix not in CHECKPOINT_SUFFIXES:
        return path.stem
    while path.suffix in CHECKPOINT_SUFFIXES:
        path = path.with_suffix("")
    return path.name
