"""Makes the student (the network to train), and saves it as a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.files import write_atomically
from tinyvit.labels import Label, numbered_labels
from tinyvit.nn.checkpoint import CHECKPOINT_SUFFIXES, Checkpoint, load_checkpoint
from tinyvit.nn.hub import load_released
from tinyvit.nn.layers import MBConv
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess, timm_preprocess
from tinyvit.variants import VARIANTS, Variant, check_size, suggest_names

INITIAL_STD = 0.02
"""Standard deviation of the initial weights of linear layers (microsoft/Cream,
TinyViT/models/tiny_vit.py)."""
UNKNOWN_LICENSE = "unknown"


@dataclass(frozen=True)
class Student:
    """A network to train.

    Attributes:
        model: The network.
        labels: One label for each row of its classifier.
        preprocess: The preprocessing of its input.
        license: License of the weights.
        init_sha256: Hex SHA-256 of the checkpoint with the initial weights; "" for random weights.
        head_origin: Origin of the classifier's initial weights, as a phrase for the start message.
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
        name: Name of a variant; not needed with `init`.
        init: Checkpoint with the initial weights; None for random weights.
        labels: Labels of the classes; None if they are not known. If the checkpoint has
            a class with the same label, its row of the classifier is kept.
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
        check_size(size)
    model = TinyViT(variant, num_classes, size)
    _initialize_weights(model)
    return Student(
        model,
        labels or numbered_labels(num_classes),
        timm_preprocess(model.img_size),
        UNKNOWN_LICENSE,
        "",
        "a new classifier",
    )


def _find_variant(name: str | None) -> Variant:
    for variant in VARIANTS.values():
        if name in (variant.name, variant.short_name):
            return variant
    raise RequestError(
        f"no variant is called {name!r}",
        f"the nearest name is {suggest_names(name or '', VARIANTS)}; or give --init a checkpoint",
    )


def _make_student_from_checkpoint(
    name: str | None,
    init: Checkpoint,
    labels: tuple[Label, ...] | None,
    num_classes: int,
    size: int | None,
) -> Student:
    if name is not None and _find_variant(name).embed_dims != init.variant.embed_dims:
        raise RequestError(
            f"{init.name} is a {init.variant.name}, not a {name}",
            "leave out --student, or give another --init",
        )
    init = init.at_size(size or init.img_size)
    model = init.build()
    head_origin = "the classifier of the checkpoint"
    if labels is None and num_classes == init.num_classes:
        labels = init.labels
    elif labels is None or init.labels is None or labels != init.labels:
        new_labels = labels or numbered_labels(num_classes)
        head_origin = _replace_head(model, init.labels or (), new_labels)
    return Student(
        model,
        labels or numbered_labels(num_classes),
        init.preprocess,
        init.license,
        init.sha256,
        head_origin,
    )


def read_init(init: Path) -> Checkpoint:
    """Load the checkpoint with the initial weights.

    Args:
        init: A checkpoint file, or the name of a released checkpoint.

    Raises:
        CheckpointError: The file cannot be used, or the checkpoint cannot be fetched.
        RequestError: No released checkpoint has this name.
    """
    if init.suffix in CHECKPOINT_SUFFIXES or init.is_file():
        return load_checkpoint(init)
    return load_released(str(init))


def _replace_head(model: TinyViT, old_labels: Sequence[Label], new_labels: Sequence[Label]) -> str:
    """Replace the classifier, but keep the rows of known labels; return `Student.head_origin`."""
    old = model.head.fc
    model.head.fc = nn.Linear(old.in_features, len(new_labels))
    model.num_classes = len(new_labels)
    nn.init.trunc_normal_(model.head.fc.weight, std=INITIAL_STD)
    nn.init.zeros_(model.head.fc.bias)
    old_rows = {label: row for row, label in enumerate(old_labels)}
    kept = [(row, old_rows[label]) for row, label in enumerate(new_labels) if label in old_rows]
    with torch.no_grad():
        for row, old_row in kept:
            model.head.fc.weight[row] = old.weight[old_row]
            model.head.fc.bias[row] = old.bias[old_row]
    if not kept:
        return "a new classifier"
    return f"{len(kept)} of {len(new_labels)} rows of the classifier from the checkpoint"


def _initialize_weights(model: TinyViT) -> None:
    """Initialize weights like TinyViT/models/tiny_vit.py of microsoft/Cream."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
            nn.init.zeros_(module.bias)
        if isinstance(module, MBConv):
            nn.init.zeros_(module.conv3.bn.weight)


def save_checkpoint(
    path: Path,
    state: dict[str, Tensor],
    labels: Sequence[Label],
    preprocess: Preprocess,
    license: str,
    kept_rows: Sequence[int] | None = None,
) -> None:
    """Write a safetensors checkpoint, with everything that tinyvit-export needs.

    Args:
        path: The file to write or replace.
        state: The state dict, with the parameter names of timm.
        labels: One label for each row of the classifier that is kept.
        preprocess: The preprocessing of the network's input.
        license: License of the weights.
        kept_rows: Rows of the classifier to keep; None keeps all.

    Raises:
        MissingDependencyError: safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingDependencyError.for_package("safetensors", extra="train") from error
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if kept_rows is not None:
        for name in ("head.fc.weight", "head.fc.bias"):
            state[name] = state[name][list(kept_rows)].contiguous()
    metadata = {
        "labels": json.dumps([label.wnid or label.name for label in labels], ensure_ascii=False),
        "preprocess": json.dumps(asdict(preprocess)),
        "license": license,
    }
    write_atomically(path, _sort_metadata(save(state, metadata)))


def _sort_metadata(data: bytes) -> bytes:
    """Sort the metadata of a safetensors file by name.

    The library writes metadata in random order, but equal runs must give equal files.
    """
    header_bytes = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_bytes])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + header_bytes :]
