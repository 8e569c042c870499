"""The content of a checkpoint: weights, settings and whatever else was read from its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """Content of a checkpoint file or folder.

    Attributes:
        tensors: Tensors of the network by name, without the prefix. A classifier with another name
            has the name that it has in the layout (see
            `tinyvit.nn.checkpoints.state_dicts.classifier_heads`).
        container: Keys under which the file contains the state dict, joined with "."; "" if the
            file itself is the state dict.
        prefix: What was removed from the names of the tensors, such as "module.".
        metadata: All other values in the file as plain values: nested dicts and lists of strings,
            numbers, booleans and None; keys are strings. Objects such as argparse.Namespace are
            dicts. If the model normalizes images itself, "normalization" is a dict with the lists
            "mean" and "std" of that layer.
        config: Content of the config.json of a model of timm or Hugging Face that is in the folder
            or beside the file; {} if there is none.
        ignored: What was left out, in words; for example "2 tensors of other modules
            (criterion.weight, criterion.bias)".
        notes: Assumptions about the weights, each as a sentence without period.
    """

    tensors: dict[str, Tensor]
    container: str
    prefix: str
    metadata: dict[str, Any]
    config: dict[str, Any]
    ignored: tuple[str, ...]
    notes: tuple[str, ...] = ()
