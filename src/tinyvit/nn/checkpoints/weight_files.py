"""Reading weights from untrusted checkpoint files and folders.

No code in a file is executed: files are in safetensors format, or
`tinyvit.nn.checkpoints.tensor_files.torch_files` reads them without importing or calling anything.
The result is a flat state dict with the names of the network, and the metadata of the file.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyvit.errors import CheckpointError
from tinyvit.files.regular_files import open_regular_file
from tinyvit.nn.checkpoints.metadata.file_metadata import read_metadata
from tinyvit.nn.checkpoints.pickles.records import PickledObject
from tinyvit.nn.checkpoints.state_dicts.choice import choose_state_dict
from tinyvit.nn.checkpoints.state_dicts.classifier_heads import (
    Network,
    assemble_encoder,
    assemble_network,
)
from tinyvit.nn.checkpoints.state_dicts.foreign_checkpoints import (
    explain_names,
    explain_surrounding_model,
    has_neck,
)
from tinyvit.nn.checkpoints.state_dicts.layouts import (
    MOBILE_SAM,
    join_first,
    make_foreign_error,
    recognize_layout,
)
from tinyvit.nn.checkpoints.state_dicts.search import (
    StateDict,
    find_state_dicts,
    find_tensors_beside,
    name_key,
)
from tinyvit.nn.checkpoints.state_dicts.unnamed_averages import use_unnamed_averages
from tinyvit.nn.checkpoints.tensor_files.foreign_files import explain_start
from tinyvit.nn.checkpoints.tensor_files.safetensors_files import read_no_storage, read_safetensors
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import StoredTensor
from tinyvit.nn.checkpoints.tensor_files.tensor_values import check_problems, load_tensors
from tinyvit.nn.checkpoints.tensor_files.torch_files import (
    MAX_BYTES,
    SAVE_STATE_DICT,
    FileContent,
    read_torch_file,
    refuse_damaged_records,
)
from tinyvit.nn.checkpoints.weight_folders import find_weight_files, read_config
from tinyvit.nn.checkpoints.weights import Weights
from tinyvit.text.plurals import format_count

_ZIP_START = b"PK\x03\x04"
_TORCH_STARTS = (_ZIP_START, *(bytes((0x80, protocol)) for protocol in range(2, 6)))
"""Beginnings of the files of `torch.save`, which are zip archives or pickles."""

_START_BYTES = 512
"""Number of bytes at the start of a file from which its format is recognized."""

_OPERATION_COUNTERS = ("total_ops", "total_params")
"""Names of the tensors that thop.profile adds to every layer."""

_MMPRETRAIN_NAMES = (
    (r"\.conv2d\.", ".c."),
    (r"\.bn2d\.", ".bn."),
    (r"^stages\.", "layers."),
    (r"^norm3\.", "norm_head."),
)
"""Regular expressions for parts of MMPretrain's names, and the corresponding parts of the paper's
names (mmpretrain/models/backbones/tinyvit.py)."""

_UNUSED_SUFFIXES = ("attention_bias_idxs", "attention_bias_cache", "attn.ab", *_OPERATION_COUNTERS)
"""Endings of the names of tensors that the model computes, or that inference does not use."""


def read_weights(path: Path) -> Weights:
    """Read a checkpoint file or folder. The format of a file is recognized by its content.

    Args:
        path: A safetensors file, a file of `torch.save`, or a folder that contains one of them and
            no other checkpoint. Weights in Hugging Face's layout may be split into several files.

    Returns:
        The weights and the metadata.

    Raises:
        CheckpointError: The file cannot be read, is damaged, is too large, contains Python objects
            that could run code, does not contain a TinyViT, or contains several
            with different weights.
        MissingDependencyError: The file is in safetensors format, and safetensors is not installed.
    """
    files = find_weight_files(path)
    content, metadata = _read_file(files[0]) if len(files) == 1 else _read_parts(files)
    state_dict, ignored = _find_state_dict(content, path)
    state_dict, averaging_notes = use_unnamed_averages(content, state_dict, path)
    network = _read_network(state_dict, _find_outside_tensors(content, state_dict, path), path)
    with refuse_damaged_records(path):
        metadata = {**metadata, **read_metadata(content, state_dict)}
    if network.normalization:
        values = load_tensors(network.normalization, path)
        metadata["normalization"] = {
            name: value.float().flatten().tolist() for name, value in values.items()
        }
    if network.left_out:
        ignored = (*ignored, _describe_left_out(network.left_out))
    return Weights(
        tensors=load_tensors(network.tensors, path),
        container=state_dict.container,
        prefix=state_dict.prefix,
        metadata=metadata,
        config=read_config(path),
        ignored=ignored,
        notes=(*averaging_notes, *network.notes),
    )


def check_format(path: Path) -> None:
    """Check that a checkpoint has a known format, without reading its weights.

    Args:
        path: An existing file or folder, as for `read_weights`.

    Raises:
        CheckpointError: A file cannot be read, is empty or too large, or is of another format; or
            the folder has no weights, or several checkpoints.
    """
    for file in find_weight_files(path):
        start = _read_start(file)
        if not (start.startswith(_TORCH_STARTS) or _is_safetensors(start)):
            raise explain_start(start, file)


def _is_safetensors(start: bytes) -> bool:
    """Recognize safetensors: 8 bytes, which are the length of the header, and JSON."""
    return start[8:9] == b"{"


def _read_file(path: Path) -> tuple[FileContent, dict[str, Any]]:
    """Read a file; return its content, and the metadata of a safetensors file."""
    start = _read_start(path)
    if start.startswith(_TORCH_STARTS):
        return read_torch_file(path, is_zip=start.startswith(_ZIP_START)), {}
    if _is_safetensors(start):
        return read_safetensors(path)
    raise explain_start(start, path)


def _read_start(path: Path) -> bytes:
    """Return the first bytes of a file; raise CheckpointError if it is empty or too large."""
    try:
        with open_regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
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


def _read_parts(files: tuple[Path, ...]) -> tuple[FileContent, dict[str, Any]]:
    """Read a state dict that is split into several files."""
    joined: dict[str, StoredTensor] = {}
    for file in files:
        content, _ = _read_file(file)
        with refuse_damaged_records(file):
            tensors = content.collector.collect(content.root)
        # Storages of different files may have the same key, so slices of them cannot be compared.
        joined.update({name: replace(value, storage_slice=None) for name, value in tensors.items()})
    return FileContent(joined, read_no_storage), {}


def _find_state_dict(content: FileContent, path: Path) -> tuple[StateDict, tuple[str, ...]]:
    """Return the state dict with the network, and descriptions of networks that are left out."""
    candidates = find_state_dicts(content.root, content.collector, path)
    if not candidates:
        layers = _find_small_network(content)
        if layers:
            raise make_foreign_error(layers, path)
        entries = content.root if isinstance(content.root, dict) else {}
        names = ", ".join(name_key(key) for key in list(entries)[:5])
        top_level = names or _describe_type(content.root)
        raise CheckpointError(
            f"{path} contains no state dict (top level: {top_level})", SAVE_STATE_DICT
        )
    if not candidates[0].has_network:
        tensors = candidates[0].tensors
        raise explain_names(tensors, path) or make_foreign_error(tensors, path)
    return choose_state_dict(candidates, path)


def _find_small_network(content: FileContent) -> dict[str, StoredTensor]:
    """Return the tensors of a network that is too small for a TinyViT; {} if there is none."""
    root = content.root
    containers = [root, *root.values()] if isinstance(root, dict) else [root]
    found = [content.collector.collect(container) for container in containers]
    networks = [tensors for tensors in found if any(map(_is_weight, tensors))]
    return max(networks, key=len, default={})


def _is_weight(name: str) -> bool:
    return name.rpartition(".")[2] in ("weight", "bias")


def _describe_type(content: Any) -> str:
    """Return the name of the type of a record, as Python would name it."""
    return content.name if isinstance(content, PickledObject) else type(content).__name__


def _find_outside_tensors(
    content: FileContent, state_dict: StateDict, path: Path
) -> dict[str, StoredTensor]:
    """Find the tensors that belong to no TinyViT: in the state dict, and in dicts beside it."""
    with refuse_damaged_records(path):
        tensors_beside = find_tensors_beside(content.root, content.collector, state_dict)
    return {**tensors_beside, **state_dict.list_outside_tensors()}


def _read_network(
    state_dict: StateDict, outside_tensors: dict[str, StoredTensor], path: Path
) -> Network:
    """Find the tensors of the network, with the names of its layout."""
    tensors = state_dict.list_network_tensors()
    explanation = explain_names(tensors, path)
    if explanation is None and not has_neck(tensors):
        explanation = explain_surrounding_model(outside_tensors, path)
    if explanation is not None:
        raise explanation
    tensors = {
        name: tensor for name, tensor in tensors.items() if not name.endswith(_UNUSED_SUFFIXES)
    }
    check_problems(tensors, path)
    if any(0 in tensor.shape for name, tensor in tensors.items() if "patch_embed" in name):
        raise CheckpointError(
            f"the weights in {path} are empty, as in checkpoints of DeepSpeed ZeRO-3",
            "write the whole weights with the script zero_to_fp32.py beside the checkpoint",
        )
    tensors = _apply_pruning(tensors)
    if "patch_embed.seq.0.conv2d.weight" in tensors:
        tensors = {_convert_name(name): tensor for name, tensor in tensors.items()}
    layout = recognize_layout(tensors, path)
    if layout == MOBILE_SAM:
        return assemble_encoder(tensors, outside_tensors)
    return assemble_network(tensors, outside_tensors, layout, path)


def _convert_name(name: str) -> str:
    """Convert a name of MMPretrain to that of the paper's code."""
    for pattern, replacement in _MMPRETRAIN_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _apply_pruning(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Replace each weight that torch.nn.utils.prune saves as NAME_orig and NAME_mask by NAME."""
    result = dict(tensors)
    for name in tensors:
        weight_name = name.removesuffix("_orig")
        mask_name = f"{weight_name}_mask"
        if weight_name != name and mask_name in tensors:
            result[weight_name] = _multiply(result.pop(name), result.pop(mask_name))
    return result


def _multiply(tensor: StoredTensor, mask: StoredTensor) -> StoredTensor:
    """Return the product of a tensor and its mask; the tensor itself if they do not fit."""
    if tensor.shape != mask.shape or tensor.problem or mask.problem:
        return tensor
    return replace(tensor, storage_slice=None, load=lambda: tensor.load() * mask.load())


def _describe_left_out(names: tuple[str, ...]) -> str:
    """Describe tensors that are left out."""
    return f"{format_count(len(names), 'tensor')} of other modules ({join_first(names, 4)})"
