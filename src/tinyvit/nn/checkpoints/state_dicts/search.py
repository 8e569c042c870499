"""Search for the state dict of a TinyViT in the content of a checkpoint.

Training programs save state dicts under many keys, and wrappers put prefixes before the names of
tensors. The search looks for the name of the first convolution: what is before it is the prefix.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.pickles.records import PickledObject
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import StoredTensor
from tinyvit.nn.checkpoints.tensor_files.tensor_collection import TensorCollector, is_module
from tinyvit.nn.checkpoints.tensor_files.torch_files import refuse_damaged_records

_WRAPPERS = r"(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)*"
"""Matches what torch.compile, FSDP and activation checkpointing put before a module's name."""

_FIRST_CONVOLUTION = re.compile(
    rf"(?:^|\.)patch_embed\.{_WRAPPERS}"
    rf"(?:conv1\.{_WRAPPERS}conv|seq\.{_WRAPPERS}0\.{_WRAPPERS}(?:c|conv2d))\.{_WRAPPERS}weight$"
)
"""Matches the end of the name of the first convolution's weight.

The names are those of timm, of the paper's code and of MMPretrain."""

AVERAGED_NAME = re.compile(r"(?<![a-z])ema(?![a-z])|ema_?model|model_?ema|(?<![a-z])swa|averag")
"""Matches a part of the lower-case keys and prefixes under which averaged weights are saved."""

_MAX_DEPTH = 10
"""Values that are nested deeper are not searched for state dicts."""

_MAX_VALUES = 200_000
"""The search for state dicts ends after this number of values."""

_MAX_KEY_LENGTH = 80
"""Number of characters of a key that `StateDict.container` contains. Without this limit, the joined
keys of nested dicts could fill the memory."""

MAX_NETWORKS = 64
"""Largest number of TinyViTs in one file; they are compared with each other."""

MIN_TENSORS = 11
"""A mapping with fewer tensors is not a state dict of a whole network."""


@dataclass(frozen=True)
class StateDict:
    """A mapping of tensors in a checkpoint, and the prefix of one TinyViT among the tensors.

    Attributes:
        container: Keys that lead to the mapping in the file, joined with "."; "" if the mapping is
            the whole content of the file.
        prefix: Text before the names of the network's tensors, such as "module."; it can be "".
        tensors: All tensors of the mapping by their whole names.
    """

    container: str
    prefix: str
    tensors: dict[str, StoredTensor]

    @property
    def name(self) -> str:
        """Return container and prefix, joined with ".", for messages."""
        return ".".join(filter(None, (self.container, self.prefix.rstrip(".")))) or "the file"

    @property
    def has_network(self) -> bool:
        """Return whether the mapping has the first convolution of a TinyViT with this prefix."""
        return self.prefix in _find_prefixes(self.tensors)

    @property
    def has_averaged_prefix(self) -> bool:
        """Return whether the prefix alone tells that the weights are an average over training."""
        return AVERAGED_NAME.search(self.prefix.lower()) is not None

    @property
    def is_averaged(self) -> bool:
        """Return whether the names tell that the weights are an average over training."""
        # torch.optim.swa_utils.AveragedModel has the network as `module`, and a counter beside it.
        counter = f"{self.prefix.removesuffix('module.')}n_averaged"
        name_match = AVERAGED_NAME.search(f"{self.container}.{self.prefix}".lower())
        return counter in self.tensors or name_match is not None

    def list_network_tensors(self) -> dict[str, StoredTensor]:
        """Return the tensors of the network, by their names without the prefix and wrappers."""
        return {
            re.sub(_WRAPPERS, "", name.removeprefix(self.prefix)): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(self.prefix) and not self._is_in_another_network(name)
        }

    def list_outside_tensors(self) -> dict[str, StoredTensor]:
        """Return the tensors of the mapping that belong to no TinyViT, by their whole names."""
        return {
            name: tensor
            for name, tensor in self.tensors.items()
            if not name.startswith(self.prefix) and not self._is_in_another_network(name)
        }

    @cached_property
    def _other_prefixes(self) -> tuple[str, ...]:
        """Return the prefixes of the other networks, except networks that contain this one."""
        prefixes = _find_prefixes(self.tensors)
        return tuple(prefix for prefix in prefixes if not self.prefix.startswith(prefix))

    def _is_in_another_network(self, name: str) -> bool:
        return name.startswith(self._other_prefixes)


def find_state_dicts(content: Any, collector: TensorCollector, path: Path) -> list[StateDict]:
    """Find all mappings of tensors in the content of a checkpoint.

    Args:
        content: A tree of records (see `tinyvit.nn.checkpoints.pickles.records`).
        collector: Collects the tensors of the file.
        path: The file, for error messages.

    Returns:
        The mappings that contain a TinyViT; a mapping with several TinyViTs occurs once for the
        prefix of each. If no mapping contains one, the mappings that are large enough to be state
        dicts of whole networks, with the prefix "".

    Raises:
        CheckpointError: The file is damaged, or contains more than `MAX_NETWORKS` TinyViTs.
    """
    with refuse_damaged_records(path):
        mappings = [
            (container, tensors)
            for container, value in walk_records(content)
            if (tensors := collector.collect(value))
        ]
    prefixes = [(mapping, prefix) for mapping in mappings for prefix in _find_prefixes(mapping[1])]
    if len(prefixes) > MAX_NETWORKS:
        raise CheckpointError(
            f"{path} contains {len(prefixes)} TinyViTs, more than {MAX_NETWORKS}",
            "save the state dict of one of them alone: torch.save(state_dict, path)",
        )
    networks = [StateDict(mapping[0], prefix, mapping[1]) for mapping, prefix in prefixes]
    return networks or [
        StateDict(container, "", tensors)
        for container, tensors in mappings
        if len(tensors) >= MIN_TENSORS
    ]


def find_tensors_beside(
    content: Any, collector: TensorCollector, state_dict: StateDict
) -> dict[str, StoredTensor]:
    """Find the tensors of modules that are saved beside a state dict, such as a classifier.

    Args:
        content: The tree of records in which the state dict was found.
        collector: Collects the tensors of the file.
        state_dict: The state dict with the network.

    Returns:
        The tensors in those mappings beside the state dict that contain no TinyViT. Their names
        begin with the key of the mapping, as in "linear.weight".

    Raises:
        ValueError: The record of a tensor is damaged.
    """
    common_parent = state_dict.container.rpartition(".")[0]
    tensors: dict[str, StoredTensor] = {}
    for container, value in walk_records(content):
        parent, _, key = container.rpartition(".")
        if parent == common_parent and container not in ("", state_dict.container):
            module_tensors = collector.collect(value)
            if not _find_prefixes(module_tensors):
                tensors.update({f"{key}.{name}": tensor for name, tensor in module_tensors.items()})
    return tensors


def find_module(content: Any, state_dict: StateDict) -> PickledObject | None:
    """Find the pickled module that is the network of a state dict.

    Args:
        content: The tree of records in which the state dict was found.
        state_dict: The state dict with the network.

    Returns:
        The record of the module; None if the file contains the state dict without the module.
    """
    for container, value in walk_records(content):
        if container == state_dict.container and is_module(value):
            for name in filter(None, state_dict.prefix.split(".")):
                value = dict(value.state["_modules"]).get(name) if is_module(value) else None
            return value if is_module(value) else None
    return None


def walk_records(root: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over the containers and objects in a tree of records, from the top down.

    Yields:
        The shortened keys that lead to a container or object, joined with ".", and the container or
        object.
    """
    queue = deque([("", root, 0)])
    visited: set[int] = set()
    count = 0
    while queue and count < _MAX_VALUES:
        container, value, depth = queue.popleft()
        if id(value) in visited:
            continue
        visited.add(id(value))
        yield container, value
        if depth >= _MAX_DEPTH or is_module(value):
            continue
        for key, child in _list_children(value):
            count += 1
            if isinstance(child, (dict, list, tuple, PickledObject)):
                name = name_key(key)
                queue.append((f"{container}.{name}" if container else name, child, depth + 1))


def name_key(key: Any) -> str:
    """Return a key as a short text, whatever its type and length are.

    Args:
        key: The key of a dict in a tree of records.
    """
    if isinstance(key, (str, bytes, int, float)):
        return str(key[:_MAX_KEY_LENGTH] if isinstance(key, (str, bytes)) else key)
    return type(key).__name__


def _list_children(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return the keys and values in a dict, list or object."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)
    elif isinstance(value, PickledObject):
        yield from value.items.items()
        if isinstance(value.state, dict):
            yield from value.state.items()


def _find_prefixes(tensors: dict[str, StoredTensor]) -> list[str]:
    """Return the prefix of each TinyViT: what is before the name of its first convolution."""
    matches = [(name, _FIRST_CONVOLUTION.search(name)) for name in tensors]
    # A match may begin with a period, which belongs to the prefix.
    return [name[: match.start() + match[0].startswith(".")] for name, match in matches if match]
