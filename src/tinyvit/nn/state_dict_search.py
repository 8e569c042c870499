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

import torch

from tinyvit.errors import CheckpointError
from tinyvit.nn.pickle_records import PickledObject
from tinyvit.nn.stored_tensors import ReadStorage, StoredTensor
from tinyvit.nn.tensor_collection import collect_tensors, is_module
from tinyvit.nn.tensor_values import load_tensors
from tinyvit.nn.torch_files import make_damaged_error

_WRAPPERS = r"(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)*"
"""Matches what torch.compile, FSDP and activation checkpointing put before the names of a part."""

_FIRST_CONVOLUTION = re.compile(
    rf"(?:^|\.)patch_embed\.{_WRAPPERS}"
    rf"(?:conv1\.{_WRAPPERS}conv|seq\.{_WRAPPERS}0\.{_WRAPPERS}(?:c|conv2d))\.{_WRAPPERS}weight$"
)
"""Matches the end of the name of the first convolution's weight.

The names are those of timm, of the paper's code and of MMPretrain."""

_AVERAGED = re.compile(r"(?<![a-z])ema(?![a-z])|ema_?model|model_?ema|(?<![a-z])swa|averag")
"""Occurs in the names of averaged weights, in lower case."""

_CURRENT_WEIGHTS = "current_model_state"
"""Key under which Lightning's WeightAveraging saves the weights that are not averaged."""

_MAX_DEPTH, _MAX_VALUES = 10, 200_000
"""The search for a state dict visits at most so many nested levels, and so many values."""

_MAX_KEY_LENGTH = 80
"""Longer keys are shortened in the names of places, because nested keys are joined."""

MIN_TENSORS = 11
"""A mapping with fewer tensors is not a state dict of a whole network."""


@dataclass(frozen=True)
class StateDict:
    """A mapping of tensors in a checkpoint, and the place of a TinyViT in it.

    Attributes:
        container: Keys under which the mapping was found, joined with "."; "" if it is the
            whole content of the file.
        prefix: What is before the names of the network's tensors.
        tensors: All tensors of the mapping by their whole names.
    """

    container: str
    prefix: str
    tensors: dict[str, StoredTensor]

    @property
    def name(self) -> str:
        """Container and prefix, as a name for messages."""
        return ".".join(filter(None, (self.container, self.prefix.rstrip(".")))) or "the file"

    @property
    def has_network(self) -> bool:
        """Whether the mapping has the first convolution of a TinyViT after the prefix."""
        return self.prefix in _find_prefixes(self.tensors)

    @property
    def is_averaged(self) -> bool:
        """Whether the weights are an average over training, as far as the names tell."""
        # torch.optim.swa_utils.AveragedModel has the wrapped network as `module`.
        counter = f"{self.prefix.removesuffix('module.')}n_averaged"
        is_named_so = _AVERAGED.search(f"{self.container}.{self.prefix}".lower())
        return counter in self.tensors or is_named_so is not None

    def network(self) -> dict[str, StoredTensor]:
        """Return the tensors whose names have the prefix, under their names without the prefix."""
        return {
            re.sub(_WRAPPERS, "", name.removeprefix(self.prefix)): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(self.prefix) and not self._is_in_another_network(name)
        }

    def others(self) -> dict[str, StoredTensor]:
        """Return the tensors that are in no network."""
        return {
            name: tensor
            for name, tensor in self.tensors.items()
            if not name.startswith(self.prefix) and not self._is_in_another_network(name)
        }

    @cached_property
    def _other_prefixes(self) -> tuple[str, ...]:
        """Prefixes of other networks in the same mapping; none is the start of this prefix."""
        prefixes = _find_prefixes(self.tensors)
        return tuple(prefix for prefix in prefixes if not self.prefix.startswith(prefix))

    def _is_in_another_network(self, name: str) -> bool:
        return name.startswith(self._other_prefixes)


def find_state_dicts(content: Any, read_storage: ReadStorage, path: Path) -> list[StateDict]:
    """Find all mappings of tensors in the content of a checkpoint.

    Args:
        content: A tree of records (see `tinyvit.nn.pickle_records`).
        read_storage: Returns the bytes of a storage.
        path: The file, for error messages.

    Returns:
        The mappings with a TinyViT, one for each prefix; if there is none, the other mappings that
        could be state dicts of whole networks, with the prefix "".

    Raises:
        CheckpointError: The file is damaged.
    """
    try:
        mappings = [
            (container, tensors)
            for container, value in _walk(content)
            if (tensors := collect_tensors(value, read_storage))
        ]
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise make_damaged_error(path) from error
    networks = [
        StateDict(container, prefix, tensors)
        for container, tensors in mappings
        for prefix in _find_prefixes(tensors)
    ]
    return networks or [
        StateDict(container, "", tensors)
        for container, tensors in mappings
        if len(tensors) >= MIN_TENSORS
    ]


def find_tensors_beside(
    content: Any, read_storage: ReadStorage, state_dict: StateDict
) -> dict[str, StoredTensor]:
    """Find the tensors of modules that a file has in dicts of their own, such as a classifier.

    Args:
        content: The tree of records in which the state dict was found.
        read_storage: Returns the bytes of a storage.
        state_dict: The state dict with the network.

    Returns:
        The tensors in the mappings beside the state dict that contain no TinyViT, by the key of the
        mapping and their name, such as "linear.weight".

    Raises:
        ValueError: The record of a tensor is damaged.
    """
    place = state_dict.container.rpartition(".")[0]
    tensors: dict[str, StoredTensor] = {}
    for container, value in _walk(content):
        parent, _, key = container.rpartition(".")
        if parent == place and container not in ("", state_dict.container):
            beside = collect_tensors(value, read_storage)
            if not _find_prefixes(beside):
                tensors.update({f"{key}.{name}": tensor for name, tensor in beside.items()})
    return tensors


def choose_state_dict(candidates: list[StateDict], path: Path) -> tuple[StateDict, tuple[str, ...]]:
    """Choose between several state dicts of a TinyViT.

    Averaged weights are preferred, because they are usually more accurate (as in timm's loader).

    Args:
        candidates: The state dicts, at least one.
        path: The file, for error messages.

    Returns:
        The chosen one; and a tuple with a description of those that are not averaged, which is
        empty if there are none.

    Raises:
        CheckpointError: Two are equally good, but not equal.
    """
    averaged = [candidate for candidate in candidates if candidate.is_averaged]
    # Lightning saves the averaged weights under the key "state_dict", which does not tell this.
    not_current = [
        candidate for candidate in candidates if _CURRENT_WEIGHTS not in candidate.container
    ]
    best = averaged or not_current or candidates
    first = best[0]
    for other in best[1:]:
        if not _are_equal(first, other, path):
            names = ", ".join(candidate.name for candidate in best)
            raise CheckpointError(
                f"{path} contains several TinyViTs with different weights ({names})",
                "save the state dict of one of them alone: torch.save(state_dict, path)",
            )
    left_out = [candidate.name for candidate in candidates if candidate not in best]
    if not left_out:
        return first, ()
    return first, (f"the weights in {', '.join(left_out)}; those in {first.name} are averaged",)


def find_module(content: Any, state_dict: StateDict) -> PickledObject | None:
    """Return the pickled module with the network, if a whole model was saved.

    Args:
        content: The tree of records in which the state dict was found.
        state_dict: The state dict.

    Returns:
        The record of the module; None if the file contains only its state dict.
    """
    for container, value in _walk(content):
        if container == state_dict.container and is_module(value):
            for name in filter(None, state_dict.prefix.split(".")):
                value = dict(value.state["_modules"]).get(name) if is_module(value) else None
            return value if is_module(value) else None
    return None


def _walk(root: Any) -> Iterator[tuple[str, Any]]:
    """Return all values in a tree with their shortened keys, joined with ".", from the top down."""
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
                name = _name_key(key)
                queue.append((f"{container}.{name}" if container else name, child, depth + 1))


def _name_key(key: Any) -> str:
    """Return a key as a short text, whatever its type and length are."""
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
    """Return what is before the name of the first convolution, for each time it occurs."""
    matches = [(name, _FIRST_CONVOLUTION.search(name)) for name in tensors]
    # A match may begin with a period, which belongs to the prefix.
    return [name[: match.start() + match[0].startswith(".")] for name, match in matches if match]


def _are_equal(first: StateDict, other: StateDict, path: Path) -> bool:
    """Return whether two state dicts have the same tensors."""
    tensors, other_tensors = first.network(), other.network()
    if tensors.keys() != other_tensors.keys():
        return False
    # Tensors with the same identity have the same values, which need not be compared.
    pairs: list[tuple[StoredTensor, StoredTensor]] = [
        (tensors[name], other_tensors[name])
        for name in tensors
        if tensors[name].identity is None or tensors[name].identity != other_tensors[name].identity
    ]
    return all(
        pair[0].shape == pair[1].shape
        and torch.equal(*(load_tensors({"": tensor}, path)[""] for tensor in pair))
        for pair in pairs
    )
