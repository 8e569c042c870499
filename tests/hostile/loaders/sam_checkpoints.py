"""Hostile checkpoints of MobileSAM, whose names and shapes of tensors lie.

The loader of torch files tries the container; this one keeps it valid.
"""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.helpers.mobile_sam import name_as_released
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_lazy_file
from tests.hostile.loaders.torch_checkpoints import export_checkpoint
from tests.hostile.small_checkpoints import VALUE, list_strides
from tests.hostile.torch_records import (
    EXTREME_VALUES,
    Storage,
    make_tensor,
    write_archive,
    write_pickle,
)
from tinyvit.nn.mobile_sam import MobileSamEncoder
from tinyvit.variants import VARIANTS

_NAME = "mobile_sam.pt"
_PREFIX = "image_encoder."
_WINDOWS = (0, 1, 2, 7, 13, 15, 63, 64, 65, 4096, 10**5, 2**31)
_SIZES = (0, 1, 2, 255, 257, 4096, 2**31, 2**40)
_REPLACED = ("neck.0.weight", "neck.1.weight", "neck.2.weight", "neck.3.bias")
_PREFIXES = ("", "module.", "model.", "image_encoder.module.", "image_encoder.image_encoder.")
_PREFIXES += ("image_encoder", "mask_decoder.", "vision_encoder.", HOSTILE_TEXT, "x" * 10_000)
_MUTATIONS = 60
_STORAGE_COUNT = 2**21
"""Number of elements of the storage of which all tensors are parts; the neck has 0.6 million."""

Shapes = dict[str, tuple[int, ...]]


@cache
def _list_shapes() -> Shapes:
    """Return the shapes of the encoder's weights by their released names."""
    with torch.device("meta"):
        network = MobileSamEncoder(VARIANTS["tiny_vit_5m_224"])
    shapes = {
        name_as_released(name): tuple(value.shape) for name, value in network.state_dict().items()
    }
    return {name: shape for name, shape in shapes.items() if "num_batches" not in name}


@cache
def _make_storage() -> bytes:
    """Return the bytes of the storage, float16."""
    return torch.full((_STORAGE_COUNT,), VALUE, dtype=torch.float16).numpy().tobytes()


def _make_record(shape: Any) -> Any:
    """Return the record of a tensor of any shape; a large one repeats one number (strides of 0)."""
    storage = Storage(count=_STORAGE_COUNT)
    try:
        is_small = torch.Size(shape).numel() <= storage.count
        strides = list_strides(shape) if is_small else (0,) * len(shape)
    except (TypeError, RuntimeError, OverflowError):
        strides = (1,)
    return make_tensor(storage, 0, shape, strides)


def _write(change: Callable[[Shapes], dict[str, Any]], prefix: str = _PREFIX) -> bytes:
    """Return a file with the encoder, after a change of its names and shapes."""
    shapes = change(dict(_list_shapes()))
    content: dict[str, Any] = {
        f"{prefix}{name}": _make_record(shape) for name, shape in shapes.items()
    }
    content["mask_decoder.output_upscaling.1.weight"] = _make_record((64,))
    content["prompt_encoder.point_embeddings.0.weight"] = _make_record((1, 256))
    return write_archive(write_pickle(content), {"0": _make_storage()}, zipfile.ZIP_DEFLATED)


def _keep(shapes: Shapes) -> Shapes:
    return shapes


def make_samples(folder: Path) -> Sequence[Path]:
    """Make a valid file with the whole network's prefix, and one of the encoder alone."""
    samples = []
    for name, prefix in (("whole", _PREFIX), ("encoder", "")):
        (folder / name).mkdir()
        samples.append(folder / name / _NAME)
        samples[-1].write_bytes(_write(_keep, prefix))
    return samples


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change the names and shapes of one to three tensors."""
    prefix = _PREFIX if sample.parent.name == "whole" else ""
    return make_lazy_file(
        _NAME, f"changed, {seed!r}", partial(_write, partial(_change, seed), prefix)
    )


def _change(seed: str, shapes: Shapes) -> dict[str, Any]:
    generator, changed = random.Random(seed), dict[str, Any](shapes)
    for _ in range(generator.choice((1, 1, 2, 3))):
        name = generator.choice(sorted(changed))
        shape = changed[name]
        action = generator.choice(("size", "size", "axes", "remove", "rename", "value"))
        if action == "remove":
            del changed[name]
        elif action == "rename":
            changed[generator.choice((name + "x", HOSTILE_TEXT, f"neck.{name}"))] = changed.pop(
                name
            )
        elif action == "axes":
            changed[name] = generator.choice(((*shape, 1), shape[1:], shape[::-1], ()))
        elif action == "value":
            changed[name] = generator.choice(EXTREME_VALUES)
        elif shape:
            axis = generator.randrange(len(shape))
            changed[name] = (*shape[:axis], generator.choice(_SIZES), *shape[axis + 1 :])
    return changed


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files whose neck, tables of positions, names and parts are not those of MobileSAM."""
    for prefix in _PREFIXES:
        yield make_lazy_file(_NAME, f"the prefix {prefix[:20]!a}", partial(_write, _keep, prefix))
    for width in _SIZES:
        yield _make_changed(f"a neck of {width} channels", partial(_change_neck, width))
        for name in generator.sample(_REPLACED, 2):
            yield _make_changed(f"{name} with {width} entries", partial(_change_width, name, width))
    for window in _WINDOWS:
        for stage in (1, 2, 3):
            yield _make_changed(
                f"a window of {window} in stage {stage}",
                partial(_change_tables, (stage,), lambda heads, side=window: (heads, side**2)),
            )
        yield _make_changed(
            f"windows of {window}",
            partial(_change_tables, (1, 2, 3), lambda heads, side=window: (heads, side**2)),
        )
    for shape in ((), (0,), (0, 0), (4, 196, 1), (4, 195), (4, 2**62), (2**31, 2**31), (-1, 196)):
        yield _make_changed(
            f"a table of the shape {shape}",
            partial(_change_tables, (2,), lambda heads, shape=shape: shape),
        )
    for text in ("neck", "neck.", "layers.3", "patch_embed", "norm_head", "layers.2.blocks"):
        yield _make_changed(f"without {text}", partial(_remove, text))
        yield _make_changed(f"only {text}", partial(_keep_only, text))
    yield _make_changed("100,000 further tensors of the neck", _add_tensors)
    for number in range(_MUTATIONS):
        seed = f"{generator.random()} {number}"
        yield _make_changed(f"changed, {seed}", partial(_change, seed))


def _make_changed(description: str, change: Callable[[Shapes], dict[str, Any]]) -> HostileFile:
    return make_lazy_file(_NAME, description, partial(_write, change))


def _change_neck(width: int, shapes: Shapes) -> Shapes:
    sizes = {256: width}
    return {
        name: tuple(sizes.get(size, size) for size in shape) if name.startswith("neck.") else shape
        for name, shape in shapes.items()
    }


def _change_width(name: str, width: int, shapes: Shapes) -> Shapes:
    return {**shapes, name: (width, *shapes[name][1:])}


def _change_tables(
    stages: tuple[int, ...], make_shape: Callable[[int], tuple[int, ...]], shapes: Shapes
) -> Shapes:
    """Change the tables of the attention biases of all blocks in some stages."""
    changed = dict(shapes)
    for name, shape in shapes.items():
        is_table = name.endswith("attention_biases")
        if is_table and name.startswith(tuple(f"layers.{stage}." for stage in stages)):
            changed[name] = make_shape(shape[0])
    return changed


def _remove(text: str, shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if not name.startswith(text)}


def _keep_only(text: str, shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if name.startswith(text)}


def _add_tensors(shapes: Shapes) -> Shapes:
    return shapes | {f"neck.{number}.weight": (1,) for number in range(4, 100_004)}


LOADERS = (
    Loader(
        "weights: MobileSAM",
        export_checkpoint,
        make_samples,
        craft,
        mutate_sample=mutate_sample,
        memory_bytes=3 * GIB,
    ),
)
