"""Refusal of networks whose outputs are not the logits of classes that exclude each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.metadata.metadata_search import walk_dicts
from tinyvit.nn.checkpoints.preprocessing.setting_keys import lower_keys
from tinyvit.nn.checkpoints.weights import Weights

_TYPE_KEYS = ("problem_type", "task", "task_type")
"""Keys of the name of the problem, such as `problem_type` of transformers."""

_SWITCH_KEYS = ("multi_label", "multilabel", "is_multilabel", "is_multi_label")
"""Keys whose value True means that an image can have several labels."""

_OTHER_TYPES = frozenset(("multilabel", "multilabelclassification", "regression"))
"""Names of problems that are no classification with one class per image, without "_" and "-"."""


def refuse_other_problem(weights: Weights, path: Path) -> None:
    """Raise CheckpointError if the settings state that an image does not have exactly one class.

    Such a network gives an image several labels, or a number instead of a class (regression).

    Args:
        weights: The content of the checkpoint, with the files of settings beside it.
        path: The checkpoint, for the message.
    """
    located_dicts = [
        *(("config.json", values) for _, values in walk_dicts(weights.config)),
        *(
            (f"{keys} in {path}" if keys else str(path), values)
            for keys, values in walk_dicts(weights.metadata)
        ),
    ]
    for location, values in located_dicts:
        statement = _find_statement(lower_keys(values))
        if statement:
            raise CheckpointError(
                f"{location} states {statement}, and the probabilities of"
                " artifacts are the softmax over classes of which one is right",
                "if one class per image is right, or if you only use the logits, remove this entry"
                " or save the state dict alone: torch.save(state_dict, path)",
            )


def _find_statement(values: Mapping[str, Any]) -> str:
    """Return the entry that names another problem than classification, for messages; "" if none."""
    for key in _TYPE_KEYS:
        name = values.get(key)
        if isinstance(name, str):
            plain_name = name[:80].lower().replace("_", "").replace("-", "").replace(" ", "")
            if plain_name in _OTHER_TYPES:
                return f"{key} {name[:80]}"
    return next((f"{key} True" for key in _SWITCH_KEYS if values.get(key) is True), "")
