"""Checks that the classifier of a network is a single linear layer, and completes its tensors.

A checkpoint states the sizes of its layers, but not what is computed between them, so a file is
refused if more than one layer may belong to the classifier. `refuse_second_classifier` and
`refuse_layers_before_classifier` are for files in which the classifier has its usual name: the
first looks for a rival outside of the TinyViT, the second inside its head. `find_linear_layer` is
for files in which the name is unknown. The two other functions make the weight a matrix and add a
bias, if the file does not have them in this form.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import StoredTensor


def refuse_second_classifier(
    name: str,
    weight: StoredTensor,
    extra: dict[str, StoredTensor],
    features: int,
    path: Path,
) -> None:
    """Raise CheckpointError if another linear layer could follow or replace the classifier.

    Like `find_linear_layer`, this function takes a 1 x 1 convolution for a linear layer.

    Args:
        name: Name of the classifier's weight.
        weight: The classifier's weight (classes, features).
        extra: Tensors of the file that do not belong to the TinyViT.
        features: Number of features, which are the inputs of the classifier.
        path: The file, for error messages.
    """
    # A layer whose inputs are as many as the features could replace the classifier. A layer whose
    # inputs are as many as the logits could follow it.
    input_counts = (features, weight.shape[0])
    rivals = [
        extra_name
        for extra_name, tensor in extra.items()
        if _is_matrix(extra_name, tensor) and tensor.shape[1] in input_counts
    ]
    if rivals:
        raise CheckpointError(
            f"{path} has the classifier {name} and other layers that could be the classifier or"
            f" follow it ({', '.join(rivals[:4])})",
            "save a TinyViT whose own classifier gives the logits: model.head.fc (timm) or"
            " model.head (the paper's code)",
        )


def has_linear_layer(tensors: dict[str, StoredTensor]) -> bool:
    """Return whether any tensor is the weight of a linear layer or of a 1 x 1 convolution."""
    return any(_is_matrix(name, tensor) for name, tensor in tensors.items())


def find_linear_layer(tensors: dict[str, StoredTensor], features: int, path: Path) -> str:
    """Return the name of the only linear layer among tensors that may belong to the classifier.

    Args:
        tensors: All tensors that may belong to the classifier, by name; `has_linear_layer` is true
            for them.
        features: Number of features, which are the inputs of the classifier.
        path: The file, for error messages.

    Returns:
        The name of the layer, without ".weight".

    Raises:
        CheckpointError: There are other tensors with which something may be computed between the
            features and the logits.
    """
    matrices = [name for name, tensor in tensors.items() if _is_matrix(name, tensor)]
    fitting = [name for name in matrices if tensors[name].shape[1] == features]
    layer = matrices[0].rpartition(".")[0]
    # Tensors of these sizes may belong to a step between the features and the logits.
    sizes = {features, tensors[matrices[0]].shape[0]}
    possible_steps = [
        name
        for name, tensor in tensors.items()
        if name.rpartition(".")[0] != layer and sizes & set(tensor.shape)
    ]
    if len(matrices) > 1 or len(fitting) != 1 or possible_steps:
        raise _make_layers_error({*matrices, *possible_steps}, features, path)
    return layer


def refuse_layers_before_classifier(
    tensors: dict[str, StoredTensor], classifier: str, features: int, path: Path
) -> None:
    """Raise CheckpointError if the head of a network has further layers beside its classifier.

    With `head_hidden_size`, timm puts a linear layer `head.pre_logits.fc` before the classifier.

    Args:
        tensors: The tensors of the network that are not in its body, by name.
        classifier: Name of the classifier, such as "head.fc".
        features: Number of features, which are the inputs of the head.
        path: The file, for error messages.
    """
    own_names = (f"{classifier}.weight", f"{classifier}.bias")
    head = f"{classifier.partition('.')[0]}."
    others = [name for name in tensors if name.startswith(head) and name not in own_names]
    layers = [name for name in others if _is_matrix(name, tensors[name])]
    if layers:
        raise _make_layers_error({own_names[0], *others}, features, path)


def _make_layers_error(names: set[str], features: int, path: Path) -> CheckpointError:
    """Return the error about a classifier that has several layers."""
    return CheckpointError(
        f"the classifier in {path} is not a single linear layer of {features} features"
        f" ({', '.join(sorted(names)[:6])})",
        "what is computed between these tensors is not in the file: train a TinyViT with a"
        " single linear layer as its classifier",
    )


def flatten_convolution(tensor: StoredTensor) -> StoredTensor:
    """Return the weight of a linear layer or of a 1 x 1 convolution as a matrix.

    Args:
        tensor: The weight, (out, in) or (out, in, 1, 1).

    Returns:
        The weight (out, in).
    """
    shape = tensor.shape[:2]
    return replace(
        tensor, shape=shape, storage_slice=None, load=lambda: tensor.load().reshape(shape)
    )


def complete_bias(
    tensors: dict[str, StoredTensor], classifier: str
) -> tuple[dict[str, StoredTensor], list[str]]:
    """Add a bias of zeros to a classifier without bias.

    Args:
        tensors: Tensors of the network.
        classifier: Name of the linear layer.

    Returns:
        The tensors with the bias, and a list with one note if it was added, otherwise empty.
    """
    weight = tensors.get(f"{classifier}.weight")
    if weight is None or f"{classifier}.bias" in tensors:
        return tensors, []
    shape = weight.shape[:1]
    bias = StoredTensor(shape, storage_slice=None, load=lambda: torch.zeros(shape))
    note = (
        f"the classifier {classifier} has no bias; it is assumed to be a plain linear layer, not"
        " one that normalizes its inputs or weights"
    )
    return {**tensors, f"{classifier}.bias": bias}, [note]


def _is_matrix(name: str, tensor: StoredTensor) -> bool:
    """Return whether a tensor is the weight of a linear layer or of a 1 x 1 convolution.

    Its shape is (outputs, inputs) or (outputs, inputs, 1, 1).
    """
    is_weight = name.rpartition(".")[2] == "weight"
    return is_weight and (len(tensor.shape) == 2 or tensor.shape[2:] == (1, 1))
