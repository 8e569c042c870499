"""The network that learns, and the checkpoint that it becomes: from nothing, or from any checkpoint, for any classes and size."""

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
from tinyvit.nn.model import MBConv, TinyViT
from tinyvit.preprocess import Preprocess, timm_preprocess
from tinyvit.variants import VARIANTS, Variant, check_size, nearest_name

STD = 0.02
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Student:
    """A network to train, the labels of its rows, how pictures become its input, and its license. source: sha256 of what it began from, ""
    of nothing. head: what became of the classifier that it had, for people."""

    model: TinyViT
    labels: tuple[Label, ...]
    preprocess: Preprocess
    license: str
    source: str
    head: str


def make_student(
    name: str | None,
    init: Checkpoint | None,
    labels: tuple[Label, ...] | None,
    classes: int,
    size: int | None,
    seed: int,
) -> Student:
    """name: a variant's, or init: a checkpoint. labels: of the rows, None where `classes` have no
    names; those that the checkpoint has keep their rows. size: pixels, the variant's or the checkpoint's own where None. Raises
    RequestError and CheckpointError."""
    torch.manual_seed(seed)
    if init is not None:
        return _initialized(name, init, labels, classes, size)
    variant = _variant(name)
    if size is not None:
        check_size(size)
    model = TinyViT(variant, classes, size)
    _initialize(model)
    return Student(
        model,
        labels or numbered_labels(classes),
        timm_preprocess(model.img_size),
        UNKNOWN,
        "",
        "a new classifier",
    )


def _variant(name: str | None) -> Variant:
    for variant in VARIANTS.values():
        if name in (variant.name, variant.short_name):
            return variant
    raise RequestError(
        f"no variant is called {name!r}",
        f"nearest: {nearest_name(name or '', VARIANTS)}; or give --init a checkpoint",
    )


def _initialized(
    name: str | None,
    source: Checkpoint,
    labels: tuple[Label, ...] | None,
    classes: int,
    size: int | None,
) -> Student:
    if name is not None and _variant(name).embed_dims != source.variant.embed_dims:
        raise RequestError(
            f"{source.name} is a {source.variant.name}, not a {name}",
            "leave out --student, or give another --init",
        )
    source = source.at_size(size or source.img_size)
    model = source.build()
    head = "the classifier of the checkpoint"
    if labels is None and classes == source.num_classes:
        labels = source.labels
    elif labels is None or source.labels is None or labels != source.labels:
        head = _new_head(model, source.labels or (), labels or numbered_labels(classes))
    return Student(
        model,
        labels or numbered_labels(classes),
        source.preprocess,
        source.license,
        source.sha256,
        head,
    )


def read_init(init: Path) -> Checkpoint:
    """A file, or a released model by its name. Raises RequestError and CheckpointError."""
    return (
        load_checkpoint(init)
        if init.suffix in CHECKPOINT_SUFFIXES or init.is_file()
        else load_released(str(init))
    )


def _new_head(model: TinyViT, had: Sequence[Label], wanted: Sequence[Label]) -> str:
    """A classifier of `wanted`, whose rows are the old ones where there is such a label."""
    old = model.head.fc
    model.head.fc, model.num_classes = nn.Linear(old.in_features, len(wanted)), len(wanted)
    nn.init.trunc_normal_(model.head.fc.weight, std=STD)
    nn.init.zeros_(model.head.fc.bias)
    rows = {label: i for i, label in enumerate(had)}
    kept = [(i, rows[label]) for i, label in enumerate(wanted) if label in rows]
    with torch.no_grad():
        for new, row in kept:
            model.head.fc.weight[new], model.head.fc.bias[new] = old.weight[row], old.bias[row]
    return (
        f"{len(kept)} of {len(wanted)} rows of the classifier from the checkpoint"
        if kept
        else "a new classifier"
    )


def _initialize(model: TinyViT) -> None:
    """As microsoft/Cream's tiny_vit.py does: linear layers narrow, the last norm of an inverted bottleneck 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=STD)
            nn.init.zeros_(module.bias)
        if isinstance(module, MBConv):
            nn.init.zeros_(module.conv3.bn.weight)


def save_checkpoint(
    path: Path,
    state: dict[str, Tensor],
    labels: Sequence[Label],
    preprocess: Preprocess,
    license: str,
    rows: Sequence[int] | None = None,
) -> None:
    """A safetensors file that tinyvit-export takes as it is. rows: of the classifier, those that stay; labels are theirs."""
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingDependencyError.of("safetensors", "train") from error
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if rows is not None:
        for name in ("head.fc.weight", "head.fc.bias"):
            state[name] = state[name][list(rows)].contiguous()
    said = {
        "labels": json.dumps([label.wnid or label.name for label in labels], ensure_ascii=False),
        "preprocess": json.dumps(asdict(preprocess)),
        "license": license,
    }
    write_atomically(path, _ordered(save(state, said)))


def _ordered(data: bytes) -> bytes:
    """The same safetensors file with its metadata in order of name: the library leaves that to chance, and equal runs give equal bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]
