"""Recognition of the classifier of a checkpoint, whatever its name is.

A TinyViT ends with a LayerNorm of the pooled features and one linear layer. People replace this
layer, for example by dropout and a linear layer, or put their own classifier behind a network
without one. If their classifier is a single linear layer, it becomes the classifier of the network.
All others are refused, because the names of tensors do not tell what is computed between them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from tinyvit.nn.checkpoints.state_dicts.linear_classifiers import (
    complete_bias,
    find_linear_layer,
    flatten_convolution,
    has_linear_layer,
    refuse_layers_before_classifier,
    refuse_second_classifier,
)
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import StoredTensor

_NOT_IN_INFERENCE = re.compile(
    r"criterion|loss|metric|accuracy|train_acc|val_acc|(?:^|[._])(?:queue|prototypes|centers)\b"
    r"|(?:^|[._])n_averaged$|teacher|(?<![a-z])ema(?![a-z])|confusion|(?:^|[._])(?:tp|fp|tn|fn)$"
    r"|num_batches_tracked$|mixup"
)
"""Matches a part of the names of tensors that only training uses."""

_NORMALIZATION = re.compile(r"(?:^|[._])(mean|std)$")
"""Matches the end of the names of the mean and standard deviation in a layer that normalizes
images."""


@dataclass(frozen=True)
class _LayoutNames:
    """Names of the tensors in state dicts of one layout.

    Attributes:
        body: Matches the names of all tensors except those of the classifier.
        last_convolution: Name of the weight whose first dimension is the number of features, which
            are the inputs of the classifier.
        classifier: Name of the linear layer that is the classifier.
    """

    body: re.Pattern[str]
    last_convolution: str
    classifier: str


_LAYOUTS = {
    "timm": _LayoutNames(
        re.compile(r"^(?:patch_embed|stages)\.|^head\.norm\."),
        "stages.3.downsample.conv3.conv.weight",
        "head.fc",
    ),
    "official": _LayoutNames(
        re.compile(r"^(?:patch_embed|layers|norm_head)\."),
        "layers.2.downsample.conv3.c.weight",
        "head",
    ),
}


_ENCODER_NAMES = re.compile(r"^(?:patch_embed|layers|neck)\.")
"""Matches the names of the tensors of MobileSAM's image encoder."""


@dataclass(frozen=True)
class Network:
    """The tensors of a network with its classifier.

    Attributes:
        tensors: Tensors of the network, by the names of the layout. The classifier has the layout's
            name, too, whatever its name in the file is.
        left_out: Names of the tensors that are not in `tensors`.
        notes: Assumptions about the classifier, each as a sentence without period.
        normalization: Mean and standard deviation of a layer of the model that normalizes images,
            by "mean" and "std"; empty if there is none.
    """

    tensors: dict[str, StoredTensor]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    normalization: dict[str, StoredTensor]


def assemble_network(
    tensors: dict[str, StoredTensor],
    outside_tensors: dict[str, StoredTensor],
    layout: str,
    path: Path,
) -> Network:
    """Find the classifier, if there is one, and give it the name that it has in the layout.

    Args:
        tensors: Tensors with the prefix of the network, by their names without the prefix.
        outside_tensors: All tensors without this prefix, by name.
        layout: "timm" or "official".
        path: The file, for error messages.

    Returns:
        The network. Tensors that only training uses are left out.

    Raises:
        CheckpointError: The classifier is not a single linear layer.
    """
    names = _LAYOUTS[layout]
    extra_names = _find_extra_names(tensors, names, path)
    unused = {
        name: tensor
        for name, tensor in tensors.items()
        if not names.body.match(name)
        and (
            name in extra_names or _NOT_IN_INFERENCE.search(name) or _is_normalization(name, tensor)
        )
    }
    network = {name: tensor for name, tensor in tensors.items() if name not in unused}
    left_out = {**outside_tensors, **unused}
    normalization = {
        match[1]: tensor
        for name, tensor in left_out.items()
        if (match := _NORMALIZATION.search(name)) and _is_normalization(name, tensor)
    }
    # An outside tensor with the name of an unused tensor is ambiguous, so it is no candidate.
    candidates = {
        name: tensor
        for name, tensor in outside_tensors.items()
        if not _NOT_IN_INFERENCE.search(name) and name not in unused
    }
    notes: list[str] = []
    last_convolution = network.get(names.last_convolution)
    if last_convolution is not None and last_convolution.shape:
        features = last_convolution.shape[0]
        network, moved_names = _place_classifier(network, candidates, names, features, path)
        left_out = {name: tensor for name, tensor in left_out.items() if name not in moved_names}
        network, bias_notes = complete_bias(network, names.classifier)
        notes = [*_describe_moved_classifier(moved_names), *bias_notes]
    return Network(network, tuple(left_out), tuple(notes), normalization)


def assemble_encoder(
    tensors: dict[str, StoredTensor], outside_tensors: dict[str, StoredTensor]
) -> Network:
    """Select the tensors of the image encoder of a MobileSAM.

    Args:
        tensors: Tensors with the prefix of the encoder, by their names without the prefix.
        outside_tensors: All tensors without this prefix, such as those of the mask decoder.

    Returns:
        The encoder. The released file also contains a classifier that the encoder does not use; it
        is left out.
    """
    names = {name for name in tensors if _ENCODER_NAMES.match(name)}
    return Network(
        tensors={name: tensor for name, tensor in tensors.items() if name in names},
        left_out=(*outside_tensors, *(name for name in tensors if name not in names)),
        notes=(),
        normalization={},
    )


def _find_extra_names(
    tensors: dict[str, StoredTensor], names: _LayoutNames, path: Path
) -> frozenset[str]:
    """Find the tensors of extra modules, such as a projection, that inference does not use.

    Args:
        tensors: Tensors with the prefix of the network, by their names without the prefix.
        names: The names of the layout.
        path: The file, for error messages.

    Returns:
        The names of these tensors. Two kinds of tensors are not among them, because the network may
        compute with them: tensors that are in no module, and tensors with a dimension as large as
        the number of features or, if they have several dimensions, of logits. Names that
        `_NOT_IN_INFERENCE` matches are not among them either, because the caller finds these. The
        result is empty if the network has no classifier with the usual name.

    Raises:
        CheckpointError: A linear layer of an extra module could follow or replace the classifier.
    """
    weight_name = f"{names.classifier}.weight"
    weight = tensors.get(weight_name)
    last_convolution = tensors.get(names.last_convolution)
    if not weight or len(weight.shape) != 2 or not last_convolution or not last_convolution.shape:
        return frozenset()
    features, num_classes = last_convolution.shape[0], weight.shape[0]
    modules = {name.partition(".")[0] for name in tensors if names.body.match(name)}
    modules.add(names.classifier.partition(".")[0])
    extra = {
        name: tensor
        for name, tensor in tensors.items()
        if "." in name
        and name.partition(".")[0] not in modules
        and not _NOT_IN_INFERENCE.search(name)
    }
    refuse_second_classifier(weight_name, weight, extra, features, path)
    return frozenset(
        name
        for name, tensor in extra.items()
        if features not in tensor.shape
        and (len(tensor.shape) < 2 or num_classes not in tensor.shape)
    )


def _is_normalization(name: str, tensor: StoredTensor) -> bool:
    """Return whether a tensor is the mean or standard deviation of the colors of images."""
    return bool(_NORMALIZATION.search(name)) and math.prod(tensor.shape) in (1, 3)


def _place_classifier(
    tensors: dict[str, StoredTensor],
    candidates: dict[str, StoredTensor],
    names: _LayoutNames,
    features: int,
    path: Path,
) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """Give the classifier the name of the layout.

    Args:
        tensors: Tensors of the network.
        candidates: Tensors outside of the network that may be its classifier.
        names: The names of the layout.
        features: Number of features, which are the inputs of the classifier.
        path: The file, for error messages.

    Returns:
        The tensors of the network with the classifier, and the names of those candidates that are
        now the classifier.
    """
    weight_name = f"{names.classifier}.weight"
    weight = tensors.get(weight_name)
    head = {name: tensor for name, tensor in tensors.items() if not names.body.match(name)}
    if weight is not None and len(weight.shape) == 2:
        refuse_second_classifier(weight_name, weight, candidates, features, path)
        refuse_layers_before_classifier(head, names.classifier, features, path)
        return tensors, ()
    if not has_linear_layer({**head, **candidates}):
        return tensors, ()  # The network was saved without a classifier.
    layer = find_linear_layer({**head, **candidates}, features, path)
    body = {name: tensor for name, tensor in tensors.items() if name not in head}
    classifier = {
        f"{names.classifier}.{name.rpartition('.')[2]}": tensor
        for name, tensor in {**candidates, **head}.items()
        if name.rpartition(".")[0] == layer
    }
    classifier[weight_name] = flatten_convolution(classifier[weight_name])
    # Unknown tensors stay in the network, so that the check of its keys reports them.
    unknown = {name: head[name] for name in head if name.rpartition(".")[0] != layer}
    moved_names = tuple(name for name in candidates if name.rpartition(".")[0] == layer)
    return {**body, **classifier, **unknown}, moved_names


def _describe_moved_classifier(moved_names: tuple[str, ...]) -> list[str]:
    """Return the note about a classifier from outside of the network, if there is one."""
    if not moved_names:
        return []
    layer = moved_names[0].rpartition(".")[0]
    return [
        f"the classifier is {layer}, which the file has outside of the network; it is assumed to"
        " receive the pooled features after the network's last LayerNorm"
    ]
