"""Suffixes of checkpoint files, and names for checkpoints. This module does not import torch."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
"""Endings of the names of checkpoint files. timm's train.py writes model_best.pth.tar."""


RUN_FILE = "run.toml"
"""Name of the file that describes a training in the folder that tinyvit-distill train wrote."""

BEST_CHECKPOINT = "best.safetensors"
LAST_CHECKPOINT = "last.safetensors"
"""Names of the networks after the best and the last epoch in such a folder."""


def name_checkpoint(path: Path) -> str:
    """Name a checkpoint after its file or folder.

    Args:
        path: The file or folder.

    Returns:
        For a folder, its name. For a file that tinyvit-distill train wrote, the name of its folder,
        because each training writes "best.safetensors". For another file, its name without the
        suffixes of checkpoint files: "model_best" for "model_best.pth.tar". If its last suffix is
        any other, only that suffix is removed.
    """
    if path.is_dir():
        return path.resolve().name
    run_folder = path.resolve().parent
    is_from_run = path.name in (BEST_CHECKPOINT, LAST_CHECKPOINT)
    if is_from_run and run_folder.name and (run_folder / RUN_FILE).is_file():
        return run_folder.name
    if path.suffix not in CHECKPOINT_SUFFIXES:
        return path.stem
    while path.suffix in CHECKPOINT_SUFFIXES:
        path = path.with_suffix("")
    return path.name
