"""Recognition of the classifier of a checkpoint, whatever its name is.

A TinyViT ends with a LayerNorm of the pooled features and one linear layer. People replace this
layer, for example by dropout and a linear layer, or put their own classifier behind a network
without one. If what they built is one linear layer, it becomes the classifier of the network. All
else is refused, because the names of tensors do not tell what is computed between them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tinyvit.errors import CheckpointError
from tinyvit.nn.stored_tensors import StoredTensor

_NOT_IN_INFERENCE = re.compile(
    r"criterion|loss|metric|accuracy|train_acc|val_acc|(?:^|[._])(?:queue|prototypes|centers)\b"
    r"|(?:^|[._])n_averaged$|teacher|(?<![a-z])ema(?![a-z])|confusion|(?:^|[._])(?:tp|fp|tn|fn)$"
    r"|num_batches_tracked$|mixup"
)
"""Occurs in names of tensors that only training uses."""

_NORMALIZATION = re.compile(r"(?:^|[._])(mean|std)$")
"""Ends the names of the mean and standard deviation of a layer that normalizes images."""


@dataclass(frozen=True)
class _Layout:
    """Names in the state dict of a network of one layout.

    Attributes:
        body: Matches the names of all tensors except those of the classifier.
        features: Name of a tensor whose first dimension is the number of features.
        classifier: Name of the linear layer.
    """

    body: re.Pattern[str]
    features: str
    classifier: str


_LAYOUTS = {
    "timm": _Layout(
        re.compile(r"^(?:patch_embed|stages)\.|^head\.norm\."),
        "stages.3.downsample.conv3.conv.weight",
        "head.fc",
    ),
    "official": _Layout(
        re.compile(r"^(?:patch_embed|layers|norm_head)\."),
        "layers.2.downsample.conv3.c.weight",
        "head",
    ),
}


@dataclass(frozen=True)
class Network:
    """The tensors of a network with its classifier.

    Attributes:
        tensors: Tensors with the names of the layout. The classifier has the layout's name.
        others: Names of tensors that are left out.
        notes: Assumptions about the classifier, each as a sentence without period.
        normalization: Mean and standard deviation of a layer of the model that normalizes images,
            by "mean" and "std"; empty if there is none.
    """

    tensors: dict[str, StoredTensor]
    others: tuple[str, ...]
    notes: tuple[str, ...]
    normalization: dict[str, StoredTensor]


def assemble_network(
    tensors: dict[str, StoredTensor], others: dict[str, StoredTensor], layout: str, path: Path
) -> Network:
    """Find the classifier and give it the name that it has in the layout.

    Args:
        tensors: Tensors with the prefix of the network, without the prefix.
        others: All other tensors of the state dict.
        layout: "timm" or "official".
        path: The file, for error messages.

    Returns:
        The network.

    Raises:
        CheckpointError: There is no classifier, or it is not a single linear layer.
    """
    rules = _LAYOUTS[layout]
    foreign = _find_foreign_layers(tensors, rules, path)
    unused = {
        name: tensor
        for name, tensor in tensors.items()
        if not rules.body.match(name)
        and (name in foreign or _NOT_IN_INFERENCE.search(name) or _is_normalization(name, tensor))
    }
    kept = {name: tensor for name, tensor in tensors.items() if name not in unused}
    pool = {**others, **unused}
    normalization = {
        match[1]: tensor
        for name, tensor in pool.items()
        if (match := _NORMALIZATION.search(name)) and _is_normalization(name, tensor)
    }
    candidates = {
        name: tensor
        for name, tensor in others.items()
        if not _NOT_IN_INFERENCE.search(name) and name not in unused
    }
    notes: list[str] = []
    features = kept[rules.features].shape[0] if kept.get(rules.features) else None
    if features is not None:
        kept, used = _place_classifier(kept, candidates, (rules, features), path)
        pool = {name: tensor for name, tensor in pool.items() if name not in used}
        notes += _describe_use(used)
        kept, bias_notes = _complete_bias(kept, rules.classifier)
        notes += bias_notes
    return Network(kept, tuple(pool), tuple(notes), normalization)


def _find_foreign_layers(
    tensors: dict[str, StoredTensor], rules: _Layout, path: Path
) -> frozenset[str]:
    """Find tensors of modules beside the parts of a network that has its classifier.

    Args:
        tensors: Tensors with the prefix of the network, without the prefix.
        rules: The names of the layout.
        path: The file, for error messages.

    Returns:
        The names of tensors that inference does not use. A tensor without a module, and one whose
        shape fits the features or the logits, is not among them: the network may compute with it.

    Raises:
        CheckpointError: Another linear layer could follow or replace the classifier.
    """
    classifier = tensors.get(f"{rules.classifier}.weight")
    features = tensors.get(rules.features)
    if not classifier or len(classifier.shape) != 2 or not features or not features.shape:
        return frozenset()
    parts = {name.partition(".")[0] for name in tensors if rules.body.match(name)}
    foreign = {
        name: tensor
        for name, tensor in tensors.items()
        if "." in name
        and name.partition(".")[0] not in {*parts, rules.classifier.partition(".")[0]}
        and not _NOT_IN_INFERENCE.search(name)
    }
    name, channels = f"{rules.classifier}.weight", features.shape[0]
    _refuse_second_classifier(name, classifier, foreign, channels, path)
    return frozenset(
        name
        for name, tensor in foreign.items()
        if channels not in tensor.shape
        and (len(tensor.shape) < 2 or classifier.shape[0] not in tensor.shape)
    )


def _is_normalization(name: str, tensor: StoredTensor) -> bool:
    """Return whether a tensor is the mean or standard deviation of the colors of images."""
    return bool(_NORMALIZATION.search(name)) and math.prod(tensor.shape) in (1, 3)


def _place_classifier(
    tensors: dict[str, StoredTensor],
    others: dict[str, StoredTensor],
    network: tuple[_Layout, int],
    path: Path,
) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """Give the classifier the name of the layout.

    Args:
        tensors: Tensors of the network.
        others: Other tensors that inference may use.
        network: The names of the layout and the number of features.
        path: The file, for error messages.

    Returns:
        The tensors of the network, and the names of those among them that were in `others`.
    """
    rules, features = network
    weight_name = f"{rules.classifier}.weight"
    weight = tensors.get(weight_name)
    if weight is not None and len(weight.shape) == 2:
        _refuse_second_classifier(weight_name, weight, others, features, path)
        return tensors, ()
    head = {name: tensor for name, tensor in tensors.items() if not rules.body.match(name)}
    layer = _find_linear_layer({**head, **others}, features, path)
    body = {name: tensor for name, tensor in tensors.items() if name not in head}
    unknown = [name for name in head if name.rpartition(".")[0] != layer]
    pool = {**others, **head}
    classifier = {
        f"{rules.classifier}.{name.rpartition('.')[2]}": tensor
        for name, tensor in pool.items()
        if name.rpartition(".")[0] == layer
    }
    classifier[weight_name] = _flatten(classifier[weight_name])
    used = tuple(name for name in others if name.rpartition(".")[0] == layer)
    return {**body, **classifier, **{name: head[name] for name in unknown}}, used


def _refuse_second_classifier(
    name: str,
    weight: StoredTensor,
    others: dict[str, StoredTensor],
    features: int,
    path: Path,
) -> None:
    """Raise CheckpointError if another linear layer could follow or replace the classifier."""
    inputs = (features, weight.shape[0])
    second = [
        other
        for other, tensor in others.items()
        if other.endswith(".weight") and len(tensor.shape) == 2 and tensor.shape[1] in inputs
    ]
    if second:
        raise CheckpointError(
            f"{path} has the classifier {name} and other layers that could be the classifier or"
            f" follow it ({', '.join(second[:4])})",
            "save a TinyViT whose own classifier gives the logits: model.head.fc (timm) or"
            " model.head (the paper's code)",
        )


def _find_linear_layer(pool: dict[str, StoredTensor], features: int, path: Path) -> str:
    """Return the name of the only linear layer among tensors that are not the network's body."""
    matrices = [name for name, tensor in pool.items() if _is_matrix(name, tensor)]
    if not matrices:
        shown = f" (other tensors: {', '.join(list(pool)[:4])})" if pool else ""
        raise CheckpointError(
            f"{path} has no classifier: the network was saved without one (num_classes=0){shown}",
            "export a checkpoint that was trained with its classifier",
        )
    fitting = [name for name in matrices if pool[name].shape[1] == features]
    layer = matrices[0].rpartition(".")[0]
    # Tensors of these sizes may belong to a step between the features and the logits.
    possible_steps = [
        name
        for name, tensor in pool.items()
        if name.rpartition(".")[0] != layer
        and {features, pool[matrices[0]].shape[0]} & set(tensor.shape)
    ]
    if len(matrices) > 1 or len(fitting) != 1 or possible_steps:
        names = ", ".join(sorted({*matrices, *possible_steps})[:6])
        raise CheckpointError(
            f"the classifier in {path} is not a single linear layer of {features} features"
            f" ({names})",
            "what is computed between these tensors is not in the file: train a TinyViT with a"
            " single linear layer as its classifier",
        )
    return layer


def _is_matrix(name: str, tensor: StoredTensor) -> bool:
    """Return whether a tensor is the weight of a linear layer or of a 1 x 1 convolution."""
    is_weight = name.rpartition(".")[2] == "weight"
    return is_weight and (len(tensor.shape) == 2 or tensor.shape[2:] == (1, 1))


def _flatten(tensor: StoredTensor) -> StoredTensor:
    """Return the weight of a 1 x 1 convolution as that of a linear layer."""
    shape = tensor.shape[:2]
    return replace(tensor, shape=shape, identity=None, load=lambda: tensor.load().reshape(shape))


def _describe_use(used: tuple[str, ...]) -> list[str]:
    """Describe the assumption about a classifier outside of the network."""
    if not used:
        return []
    layer = used[0].rpartition(".")[0]
    return [
        f"the classifier is {layer}, which the file has outside of the network; it is assumed to"
        " receive the pooled features after the network's last LayerNorm"
    ]


def _complete_bias(
    tensors: dict[str, StoredTensor], classifier: str
) -> tuple[dict[str, StoredTensor], list[str]]:
    """Add a bias of zeros to a classifier without bias."""
    weight = tensors.get(f"{classifier}.weight")
    if weight is None or f"{classifier}.bias" in tensors:
        return tensors, []
    shape = weight.shape[:1]
    bias = StoredTensor(shape, identity=None, load=lambda: torch.zeros(shape))
    note = f"the classifier {classifier} has no bias; it is assumed to be a plain linear layer"
    return {**tensors, f"{classifier}.bias": bias}, [note]
