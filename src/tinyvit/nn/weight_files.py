"""Reading weights from files that strangers made: any file -> a flat state dict and what else it said, or one clear error.

Nothing in a file is executed: safetensors, or torch's zip format with `weights_only=True`.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyvit.errors import CheckpointError, MissingDependencyError

MAX_BYTES = 8 * 2**30
"""A larger file is refused. The largest training checkpoint of the family (21M, optimizer and EMA) has 0.4 GB."""

_CONTAINERS = ("state_dict_ema", "model_ema", "ema", "model", "state_dict", "module")
"""Where the weights are in a training checkpoint; averaged ones first, as timm's loader takes them."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
_STATE_ONLY = "save the state dict alone: torch.save({'model': model.state_dict()}, path)"


class _Config(dict):  # type: ignore[type-arg]
    """Stands for yacs.config.CfgNode, the dict in which the paper's training checkpoints keep their configuration."""


@dataclass(frozen=True)
class Weights:
    """Tensors by name as the file has them, the container they were in ("" at top level), and plain metadata."""

    tensors: dict[str, Tensor]
    container: str
    metadata: dict[str, Any]


def read(path: Path) -> Weights:
    """Read a .safetensors or .pth file. Raises CheckpointError with the cause and the remedy."""
    head = _head(path)
    if head[:4] == b"PK\x03\x04" or head[:2] == b"\x80\x02":
        return _unwrap(_read_torch(path, is_zip=head[:2] == b"PK"), path)
    if len(head) >= 9 and head[8:9] == b"{":
        return _read_safetensors(path)
    text = head.lstrip()[:200].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path} is a web page, not a checkpoint",
            "download the file itself (the 'resolve' or 'raw' link), then try again",
        )
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a git-lfs pointer, not the checkpoint",
            "run git lfs pull, or download the file itself",
        )
    raise CheckpointError(
        f"{path} is neither a safetensors nor a torch file",
        "give a .safetensors or .pth checkpoint of TinyViT",
    )


def _head(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror})", "check the path of the checkpoint"
        ) from error
    if size == 0:
        raise CheckpointError(f"{path} is empty", "download it again")
    if size > MAX_BYTES:
        raise CheckpointError(
            f"{path} has {size / 2**30:.1f} GiB, more than any TinyViT checkpoint",
            "give the checkpoint of a TinyViT",
        )
    return head


def _read_safetensors(path: Path) -> Weights:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingDependencyError.of("safetensors", "export") from error
    try:
        with safe_open(path, framework="pt") as file:
            return Weights(
                {key: file.get_tensor(key) for key in file.keys()},  # noqa: SIM118 - a safe_open handle is not iterable
                "",
                _parsed(file.metadata() or {}),
            )
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is a damaged or truncated safetensors file ({error})", "download it again"
        ) from error


def _parsed(metadata: Mapping[str, str]) -> dict[str, Any]:
    """safetensors keeps strings only: those that are JSON are read as such."""
    parsed: dict[str, Any] = {}
    for key, text in metadata.items():
        try:
            parsed[key] = json.loads(text)
        except ValueError:
            parsed[key] = text
    return parsed


def _read_torch(path: Path, is_zip: bool) -> Any:
    truncated = CheckpointError(f"{path} is a damaged or truncated torch file", "download it again")
    if is_zip:
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise truncated from error
        if unpacked > MAX_BYTES:
            raise CheckpointError(
                f"{path} unpacks to {unpacked / 2**30:.0f} GiB, more than any TinyViT checkpoint",
                "do not trust this file",
            )
    harmless: list[Any] = [argparse.Namespace, (_Config, "yacs.config.CfgNode")]
    try:
        with torch.serialization.safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(
            r"(?:GLOBAL|Unsupported (?:global|class|operand)[^\n]*?)\s*:?\s*(?:GLOBAL )?`?([\w.]+)`?",
            str(error),
        )
        what = f" (`{found[1]}`)" if found else ""
        raise CheckpointError(
            f"{path} holds Python objects besides tensors{what}, which could run code when loaded",
            _STATE_ONLY,
        ) from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OSError,
        IndexError,
        struct.error,
    ) as error:
        raise truncated from error


def _unwrap(loaded: Any, path: Path) -> Weights:
    metadata = (
        {key: value for key, value in loaded.items() if isinstance(key, str)}
        if isinstance(loaded, Mapping)
        else {}
    )
    for container in ("", *_CONTAINERS):
        inner = loaded if not container else metadata.get(container)
        if isinstance(inner, Mapping):
            tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
            if len(tensors) > 10:
                return Weights(
                    _without_prefix(tensors),
                    container,
                    {k: v for k, v in metadata.items() if not isinstance(v, Tensor)},
                )
    raise CheckpointError(
        f"{path} holds no state dict (top level: {', '.join(list(metadata)[:5]) or type(loaded).__name__})",
        _STATE_ONLY,
    )


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Wrappers (DataParallel, torch.compile, Lightning) put a word before every name."""
    for _ in range(3):
        for prefix in _PREFIXES:
            if all(key.startswith(prefix) for key in tensors):
                tensors = {key[len(prefix) :]: value for key, value in tensors.items()}
    return tensors
