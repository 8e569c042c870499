"""Reading of the metadata in checkpoint files: settings, labels and whatever is not a weight."""

from __future__ import annotations

from typing import Any

from tinyvit.nn.checkpoints.metadata.plain_values import (
    MAX_KEY_LENGTH,
    PlainConverter,
    is_transform,
)
from tinyvit.nn.checkpoints.pickles.records import PickledObject
from tinyvit.nn.checkpoints.state_dicts.search import MIN_TENSORS, StateDict, find_module
from tinyvit.nn.checkpoints.tensor_files.tensor_collection import is_module
from tinyvit.nn.checkpoints.tensor_files.torch_files import FileContent


def read_metadata(content: FileContent, state_dict: StateDict) -> dict[str, Any]:
    """Read all values in a file that are not weights, as plain values.

    Args:
        content: The content of the file.
        state_dict: The state dict with the network.

    Returns:
        The values at the top level of the file, except state dicts and modules. If the file is a
        whole model of timm (not only its state dict), the settings in the model are added.
    """
    converter = PlainConverter(content.read_storage)
    return {
        **_read_top_level(content, state_dict, converter),
        **_read_module_settings(content, state_dict, converter),
    }


def _read_top_level(
    content: FileContent, state_dict: StateDict, converter: PlainConverter
) -> dict[str, Any]:
    """Return all values at the top level of a file, except state dicts and modules."""
    root = content.root
    entries = root
    if isinstance(root, PickledObject):
        # The file contains an object: a dict of a subclass, or an object with public attributes.
        attributes = root.state if isinstance(root.state, dict) else {}
        entries = root.items or {
            name: value
            for name, value in attributes.items()
            if isinstance(name, str) and not name.startswith("_")
        }
    if not isinstance(entries, dict):
        return {}
    # The top-level key that leads to the state dict. If the file itself is the state dict, the keys
    # of its tensors.
    weight_keys = (
        {state_dict.container.partition(".")[0]} if state_dict.container else state_dict.tensors
    )
    metadata = {
        str(key): converter.convert(value)
        for key, value in entries.items()
        if isinstance(key, str)
        and len(key) <= MAX_KEY_LENGTH
        and key not in weight_keys
        and not _is_state_dict(value, content)
    }
    return {key: value for key, value in metadata.items() if value is not None}


def _is_state_dict(value: Any, content: FileContent) -> bool:
    """Return whether a value is a module or a state dict, which is not metadata."""
    if not isinstance(value, (dict, PickledObject)) or is_transform(value):
        return False
    return is_module(value) or len(content.collector.collect(value)) >= MIN_TENSORS


def _read_module_settings(
    content: FileContent, state_dict: StateDict, converter: PlainConverter
) -> dict[str, Any]:
    """Return the settings that timm stores as attributes of a model; {} for a state dict."""
    module = find_module(content.root, state_dict)
    attributes = module.state if module is not None else {}
    return {
        name: converter.convert(attributes[name])
        for name in ("pretrained_cfg", "default_cfg")
        if attributes.get(name) is not None
    }
