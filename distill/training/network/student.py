"""Makes the student, which is the network to train, and saves it as a checkpoint.

The head is the classifier of the network, its last linear layer. It has one row of weights for each
class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tinyvit.data.label_matching import shorten_names
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.files.file_io import write_atomically
from tinyvit.image_sizes import check_training_size
from tinyvit.labels import Label, numbered_labels
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.layers import MBConv
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess, timm_preprocess
from tinyvit.serialization import dump_readable_json
from tinyvit.text.plurals import format_count
from tinyvit.variants import VARIANTS, Variant, suggest_names

INITIAL_STD = 0.02
"""Standard deviation of the initial weights of linear layers (microsoft/Cream,
TinyViT/models/tiny_vit.py)."""
UNKNOWN_LICENSE = "unknown"
_RANDOM_HEAD = "the classifier starts with random weights"
_SIZE_FIELD_BYTES = 8
"""A safetensors file begins with the size of its header, which is a number of this many bytes."""
_ALIGNMENT_BYTES = 8
"""A safetensors header is padded, so that the tensors begin at a multiple of 8 bytes."""


@dataclass(frozen=True)
class Student:
    """A network to train.

    Attributes:
        model: The network.
        labels: One label for each row of the network's classifier.
        preprocess: The preprocessing of the network's input.
        license: License of the weights.
        init_sha256: Hex SHA-256 of the checkpoint with the initial weights; "" for random weights.
        head_origin: Clause that tells the user where the classifier's initial weights come from,
            and why they are random although there is a checkpoint.
    """

    model: TinyViT
    labels: tuple[Label, ...]
    preprocess: Preprocess
    license: str
    init_sha256: str
    head_origin: str


def make_student(
    name: str | None,
    init: Checkpoint | None,
    labels: tuple[Label, ...] | None,
    num_classes: int,
    size: int | None,
    seed: int,
) -> Student:
    """Make a student with random weights or those of a checkpoint.

    Args:
        name: Name of a variant, such as "tiny_vit_5m_224" or "tinyvit_5m"; not needed with `init`.
        init: Checkpoint with the initial weights; None for random weights.
        labels: Labels of the classes; None if they are not known. For a label that the checkpoint
            has too, the student starts with the checkpoint's row of the classifier.
        num_classes: Number of classes.
        size: Image size in pixels; None for that of the checkpoint or variant.
        seed: Seed of random weights.

    Raises:
        RequestError: The variant is not known, does not fit the checkpoint, or cannot run at
            this size.
    """
    torch.manual_seed(seed)
    if init is not None:
        return _make_student_from_checkpoint(name, init, labels, num_classes, size)
    variant = _find_variant(name)
    if size is not None:
        check_training_size(size)
    model = TinyViT(variant, num_classes, size)
    _initialize_weights(model)
    return Student(
        model=model,
        labels=labels or numbered_labels(num_classes),
        preprocess=timm_preprocess(model.img_size),
        license=UNKNOWN_LICENSE,
        init_sha256="",
        head_origin=_RANDOM_HEAD,
    )


def _find_variant(name: str | None) -> Variant:
    """Return the variant with this name or short name."""
    for variant in VARIANTS.values():
        if name in (variant.name, variant.short_name):
            return variant
    raise RequestError(
        f"no variant is called {name!r}",
        f"use a similar name ({suggest_names(name or '', VARIANTS)}), or use --init with a "
        "checkpoint instead of --student",
    )


def _make_student_from_checkpoint(
    name: str | None,
    init: Checkpoint,
    labels: tuple[Label, ...] | None,
    num_classes: int,
    size: int | None,
) -> Student:
    # Variants with equal dimensions differ only in their image size.
    if name is not None and _find_variant(name).embed_dims != init.variant.embed_dims:
        raise RequestError(
            f"{init.name} is a checkpoint of {init.variant.name}, not of {name}",
            "leave out --student, or use --init with another checkpoint",
        )
    if size is not None and size != init.img_size:
        check_training_size(size)
        # In the paper, fine-tuning at another size scales the windows in proportion.
        init = init.at_size(size, "scaled")
    model = init.build()
    # Without labels, the classes are assumed to be the checkpoint's if their numbers are equal.
    has_unlabeled_match = labels is None and num_classes == init.num_classes
    if has_unlabeled_match:
        labels = init.labels
    new_labels = labels or numbered_labels(num_classes)
    if has_unlabeled_match or (labels is not None and labels == init.labels):
        head_origin = "the classifier starts with the checkpoint's weights"
    else:
        copied_count = _replace_head(model, init.labels or (), new_labels)
        if copied_count:
            head_origin = (
                f"the classifier starts with the checkpoint's weights for {copied_count} of "
                f"{format_count(len(new_labels), 'class', 'classes')}"
            )
        else:
            head_origin = f"{_RANDOM_HEAD}, {_explain_random_head(init, labels, num_classes)}"
    return Student(
        model=model,
        labels=new_labels,
        preprocess=init.preprocess,
        license=init.license,
        init_sha256=init.sha256,
        head_origin=head_origin,
    )


def _explain_random_head(
    init: Checkpoint, labels: tuple[Label, ...] | None, num_classes: int
) -> str:
    """Return why no row of the checkpoint's classifier can be used, as a clause."""
    if labels is None:
        return (
            f"because {init.name} has {format_count(init.num_classes, 'class', 'classes')}, and "
            f"the student has {num_classes} without known names"
        )
    if not init.labels:
        return f"because {init.name} does not name its classes, so they cannot be matched"
    names = shorten_names([label.name for label in init.labels])
    return (
        f"because {init.name} and the images have no class in common (the classes of {init.name}: "
        f"{names})"
    )


def _replace_head(model: TinyViT, old_labels: Sequence[Label], new_labels: Sequence[Label]) -> int:
    """Replace the classifier by one for new labels, and copy the rows of labels that both have.

    The weights of the other rows are random.

    Returns:
        Number of rows that were copied.
    """
    old_head = model.head.fc
    new_head = nn.Linear(old_head.in_features, len(new_labels))
    nn.init.trunc_normal_(new_head.weight, std=INITIAL_STD)
    nn.init.zeros_(new_head.bias)
    old_rows = {label: row for row, label in enumerate(old_labels)}
    copied_count = 0
    with torch.no_grad():
        for new_row, label in enumerate(new_labels):
            if label in old_rows:
                new_head.weight[new_row] = old_head.weight[old_rows[label]]
                new_head.bias[new_row] = old_head.bias[old_rows[label]]
                copied_count += 1
    model.head.fc = new_head
    model.num_classes = len(new_labels)
    return copied_count


def _initialize_weights(model: TinyViT) -> None:
    """Initialize the weights as microsoft/Cream does (TinyViT/models/tiny_vit.py)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
            nn.init.zeros_(module.bias)
        if isinstance(module, MBConv):
            nn.init.zeros_(module.conv3.bn.weight)


def save_checkpoint(
    path: Path,
    state_dict: dict[str, Tensor],
    labels: Sequence[Label],
    preprocess: Preprocess,
    license: str,
    kept_outputs: Sequence[int] | None = None,
) -> None:
    """Write a safetensors checkpoint, with everything that tinyvit-export needs.

    Args:
        path: The file to write or replace.
        state_dict: The weights, with the parameter names of timm.
        labels: One label for each row of the classifier that is kept.
        preprocess: The preprocessing of the network's input.
        license: License of the weights.
        kept_outputs: Indices of the outputs of the classifier to keep; None keeps all.

    Raises:
        MissingDependencyError: safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingDependencyError.for_package("safetensors", extra="train") from error
    tensors = {name: value.detach().cpu().contiguous() for name, value in state_dict.items()}
    if kept_outputs is not None:
        for name in ("head.fc.weight", "head.fc.bias"):
            tensors[name] = tensors[name][list(kept_outputs)].contiguous()
    metadata = {
        "labels": dump_readable_json([label.wnid or label.name for label in labels]),
        "preprocess": json.dumps(asdict(preprocess)),
        "license": license,
    }
    write_atomically(path, _sort_metadata(save(tensors, metadata)))


def _sort_metadata(file_content: bytes) -> bytes:
    """Sort the metadata of a safetensors file by name.

    The library writes metadata in random order, but equal runs must give equal files. The file
    consists of the size of the header (uint64, little-endian), the header (JSON), and the tensors.
    """
    size_field, rest = file_content[:_SIZE_FIELD_BYTES], file_content[_SIZE_FIELD_BYTES:]
    header_bytes = int.from_bytes(size_field, "little")
    header_text, tensor_bytes = rest[:header_bytes], rest[header_bytes:]
    header = json.loads(header_text)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    new_text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    new_text += b" " * (-len(new_text) % _ALIGNMENT_BYTES)
    return len(new_text).to_bytes(_SIZE_FIELD_BYTES, "little") + new_text + tensor_bytes
