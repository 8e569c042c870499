"""Reading weights from untrusted checkpoint files.

No code in a file is executed: files are in safetensors format, or are loaded by `torch.load` with
`weights_only=True`. The result is a flat state dict and the metadata of the file.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyvit.errors import CheckpointError, MissingDependencyError
from tinyvit.serialization import parse_json, read_json

MAX_BYTES = 8 * 2**30
"""Larger files are refused. The largest training checkpoint of any variant (21M, with the state of
the optimizer and averaged weights) has 0.4 GB."""

_CONTAINERS = ("state_dict_ema", "model_ema", "ema", "model", "state_dict", "module")
"""Keys under which training checkpoints contain the state dict. If a file has several, the first of
this list is used. Averaged weights come first, as in timm's loader."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weight files in folders of Hugging Face's layout. The first that exists is read."""

_CONFIG_KEYS = ("architecture", "pretrained_cfg", "id2label", "num_classes", "model_args")
"""A config.json with one of these keys describes a model of timm or Hugging Face."""

_MAX_CONFIG_BYTES = 16 * 2**20
"""A larger config.json is not read."""

_MIN_TENSORS = 11
"""A mapping with fewer tensors is not a state dict of the network."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes that DataParallel, torch.compile and Lightning add to the names of all tensors."""

_SAVE_STATE_DICT = "save the state dict alone: torch.save({'model': model.state_dict()}, path)"

_START_BYTES = 512
"""Number of bytes at the start of a file from which its format is recognized."""

_ZIP_START, _PICKLE_START = b"PK\x03\x04", b"\x80\x02"

_REFUSED_GLOBAL = re.compile(
    r"(?:GLOBAL|Unsupported (?:global|class|operand)[^\n]*?)\s*:?\s*(?:GLOBAL )?`?([\w.]+)`?"
)
"""Finds the name of the refused Python object in an error message of `torch.load`."""

_TORCH_ERRORS = (
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    IndexError,
    struct.error,
)
"""All types of errors that `torch.load` was observed to raise for damaged files."""


class _YacsConfig(dict):  # type: ignore[type-arg]
    """A dict that is loaded in place of yacs.config.CfgNode.

    The paper's checkpoints contain their config as an object of that type.
    """


@dataclass(frozen=True)
class Weights:
    """Content of a checkpoint file or folder.

    Attributes:
        tensors: Tensors of the network by name, without the prefix.
        container: Keys under which the file contains the state dict, joined with "."; "" if the
            file itself is the state dict.
        prefix: What was removed from the names of the tensors, such as "module.".
        metadata: All other values in the file as plain values: nested dicts and lists of strings,
            numbers, booleans and None. Objects such as argparse.Namespace are dicts.
        config: Content of the config.json of a model of timm or Hugging Face that is in the folder
            or beside the file; {} if there is none.
        ignored: What was left out, in words; for example "2 tensors of other modules
            (criterion.weight, criterion.bias)".
    """

    tensors: dict[str, Tensor]
    container: str
    prefix: str
    metadata: dict[str, Any]
    config: dict[str, Any]
    ignored: tuple[str, ...]


def read_weights(path: Path) -> Weights:
    """Read a checkpoint file or folder. The format of a file is recognized by its content.

    Args:
        path: A safetensors file, a file of `torch.save`, or a folder of Hugging Face's layout: a
            config.json and one of these files.

    Returns:
        The weights and the metadata.

    Raises:
        CheckpointError: The file cannot be read, is damaged, is too large, has no state dict, or
            contains Python objects that could run code.
        MissingDependencyError: The file is in safetensors format, and safetensors is not installed.
    """
    weights = _read_file(find_weight_file(path))
    return replace(weights, config=_read_config(path))


def find_weight_file(path: Path) -> Path:
    """Return the file with the weights: `path` itself, or a file in the folder `path`."""
    if path.is_dir():
        for name in WEIGHT_FILES:
            if (path / name).is_file():
                return path / name
    return path


def _read_config(path: Path) -> dict[str, Any]:
    """Read config.json in the folder, or beside the file, if it describes a model."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        config = read_json(file, _MAX_CONFIG_BYTES)
    except (OSError, ValueError):
        return {}
    is_model = isinstance(config, dict) and any(key in config for key in _CONFIG_KEYS)
    return config if is_model else {}


def _read_file(path: Path) -> Weights:
    """Read one file of weights."""
    start = _read_start(path)
    if start.startswith((_ZIP_START, _PICKLE_START)):
        loaded = _read_torch(path, is_zip=start.startswith(_ZIP_START))
        return _find_state_dict(loaded, path)
    # A safetensors file begins with 8 bytes, the length of the header, and the header in JSON.
    if start[8:9] == b"{":
        return _read_safetensors(path)
    raise _explain_format(start, path)


def _explain_format(start: bytes, path: Path) -> CheckpointError:
    """Return the error for a file that begins with these bytes and is not a checkpoint."""
    text = start.lstrip()[:200].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return CheckpointError(
            f"{path} is a web page, not a checkpoint",
            "download the file itself (the 'resolve' or 'raw' link), then try again",
        )
    if text.startswith(b"version https://git-lfs"):
        return CheckpointError(
            f"{path} is a git-lfs pointer, not the checkpoint",
            "run git lfs pull, or download the file itself",
        )
    return CheckpointError(
        f"{path} is neither a safetensors nor a torch file",
        "give a .safetensors or .pth checkpoint of TinyViT",
    )


def _read_start(path: Path) -> bytes:
    """Return the first bytes of a file; raise CheckpointError if it is empty or too large."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
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
    return start


def _read_safetensors(path: Path) -> Weights:
    """Read a file in safetensors format."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingDependencyError.for_package("safetensors", extra="export") from error
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            metadata = _parse_metadata(file.metadata() or {})
            return Weights(tensors, "", "", metadata, config={}, ignored=())
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is a damaged or truncated safetensors file ({error})", "download it again"
        ) from error


def _parse_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Parse those values of safetensors metadata that are JSON. All values are strings."""
    parsed: dict[str, Any] = {}
    for key, text in metadata.items():
        try:
            parsed[key] = parse_json(text)
        except ValueError:
            parsed[key] = text
    return parsed


def _read_torch(path: Path, is_zip: bool) -> Any:
    """Load a file of `torch.save` without executing any code that it contains."""
    damaged = CheckpointError(f"{path} is a damaged or truncated torch file", "download it again")
    if is_zip:
        _check_unpacked_size(path, damaged)
    # Types of the options that training scripts save. Objects of these types only hold data.
    harmless: list[Any] = [argparse.Namespace, (_YacsConfig, "yacs.config.CfgNode")]
    try:
        with torch.serialization.safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        match = _REFUSED_GLOBAL.search(str(error))
        name = f" (`{match[1]}`)" if match else ""
        raise CheckpointError(
            f"{path} contains Python objects other than tensors{name}, and loading them could run"
            " code",
            _SAVE_STATE_DICT,
        ) from error
    except _TORCH_ERRORS as error:
        raise damaged from error


def _check_unpacked_size(path: Path, damaged: CheckpointError) -> None:
    """Raise CheckpointError if a zip archive unpacks to more than MAX_BYTES.

    If the archive cannot be read, the error is `damaged`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise damaged from error
    if unpacked_bytes > MAX_BYTES:
        raise CheckpointError(
            f"{path} unpacks to {unpacked_bytes / 2**30:.0f} GiB, more than any TinyViT checkpoint",
            "do not trust this file",
        )


def _find_state_dict(loaded: Any, path: Path) -> Weights:
    """Find the state dict: the loaded object itself, or its value for one of `_CONTAINERS`."""
    entries: dict[str, Any] = {}
    if isinstance(loaded, Mapping):
        entries = {key: value for key, value in loaded.items() if isinstance(key, str)}
    for container in ("", *_CONTAINERS):
        candidate = entries.get(container) if container else loaded
        if not isinstance(candidate, Mapping):
            continue
        tensors = {str(key): value for key, value in candidate.items() if isinstance(value, Tensor)}
        if len(tensors) >= _MIN_TENSORS:
            metadata = {
                key: _make_plain(value)
                for key, value in entries.items()
                if key != container and not isinstance(value, Tensor)
            }
            tensors, prefix = _remove_prefixes(tensors)
            return Weights(tensors, container, prefix, metadata, config={}, ignored=())
    content = ", ".join(list(entries)[:5]) or type(loaded).__name__
    raise CheckpointError(f"{path} contains no state dict (top level: {content})", _SAVE_STATE_DICT)


def _make_plain(value: Any) -> Any:
    """Convert objects to dicts, sequences to lists, and everything unknown to None."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): _make_plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_make_plain(entry) for entry in value]
    return None


def _remove_prefixes(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Remove the prefixes that wrappers add to all names; return the new names and the prefix."""
    removed = ""
    # Wrappers may be nested in any order, so a prefix may appear only after another is removed.
    for _ in _PREFIXES:
        for prefix in _PREFIXES:
            if all(key.startswith(prefix) for key in tensors):
                tensors = {key[len(prefix) :]: value for key, value in tensors.items()}
                removed += prefix
    return tensors, removed
