"""Hostile safetensors files, and hostile folders with checkpoints and files of settings."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.checkpoint_crafting import SETTING_KEYS, TEXTS
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file
from tests.hostile.loaders.torch_checkpoints import NAMES, export_checkpoint
from tests.hostile.mutations import mutate_bytes, mutate_json
from tests.hostile.small_checkpoints import list_shapes, make_records, make_storage
from tests.hostile.special_files import make_special
from tests.hostile.torch_records import EXTREME_VALUES, write_archive, write_pickle

_JSON_VALUES = [value for value in EXTREME_VALUES if not isinstance(value, bytes)]
_HEADER = struct.Struct("<Q")
_FILES = ("config.json", "preprocessor_config.json", "args.yaml", "args.json", "hparams.yaml")
_CONFIG = {
    "architecture": "tiny_vit_5m_224",
    "num_classes": 5,
    "label_names": NAMES,
    "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3},
}
_PROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "rescale_factor": 1 / 255,
    "resample": 3,
    "size": {"height": 224, "width": 224},
}
_ARGUMENTS = "model: tiny_vit_5m_224\nmean:\n- 0.5\n- 0.5\n- 0.5\nstd: [0.5, 0.5, 0.5]\n"


@cache
def _make_weights() -> bytes:
    return write_archive(write_pickle(make_records()), {"0": make_storage()}, 8)


def _list_tensors(dtype: str = "F8_E4M3", size: int = 1) -> tuple[dict[str, Any], int]:
    """Return the header of a file in safetensors format, and the number of its bytes."""
    header: dict[str, Any] = {"__metadata__": {"license": "mit", "labels": json.dumps(NAMES)}}
    position = 0
    for name, shape in list_shapes().items():
        if not name.endswith("num_batches_tracked"):
            count = size
            for side in shape:
                count *= side
            offsets = [position, position + count]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
            position += count
    return header, position


def _write_tensors(header: Any, data_bytes: int, folder: Path, name: str = "a.safetensors") -> Path:
    """Write a file whose tensors are zeros, which need no space on the disk."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / name).write_bytes(_HEADER.pack(len(text)) + text)
    os.truncate(folder / name, 8 + len(text) + data_bytes)
    return folder / name


def make_safetensors(folder: Path) -> Sequence[Path]:
    """Make a file with labels and a license."""
    return [_write_tensors(*_list_tensors(), folder)]


def mutate_safetensors(data: bytes, generator: random.Random) -> bytes:
    """Mutate the header, and state its right size."""
    size = _HEADER.unpack(data[:8])[0]
    mutation = generator.choice((mutate_json, mutate_json, mutate_bytes))
    header = mutation(data[8 : 8 + size], generator)
    return _HEADER.pack(len(header)) + header + data[8 + size :]


def craft_safetensors(generator: random.Random) -> Iterator[HostileFile]:
    """Yield headers with extreme values, and files of gigabytes."""
    weight = "head.fc.weight"
    for value in _JSON_VALUES:
        for field in ("dtype", "shape", "data_offsets"):
            header, size = _list_tensors()
            header[weight][field] = value
            yield HostileFile(f"{field} {value!r:.30}", partial(_write_tensors, header, size))
        header, size = _list_tensors()
        header["__metadata__"] = value if generator.random() < 0.3 else {"labels": str(value)}
        yield HostileFile(f"metadata {value!r:.30}", partial(_write_tensors, header, size))
        key = generator.choice(SETTING_KEYS)
        header["__metadata__"] = {key: json.dumps(value), "args": json.dumps({key: value})}
        yield HostileFile(f"{key} {value!r:.30}", partial(_write_tensors, header, size))
    for dtype, width in (
        ("U16", 2),
        ("F8_E8M0", 1),
        ("I64", 8),
        ("F64", 8),
        ("BOOL", 1),
        ("C64", 8),
    ):
        yield HostileFile(dtype, partial(_write_tensors, *_list_tensors(dtype, width)))
    for text in TEXTS:
        header, size = _list_tensors()
        header["__metadata__"] = dict.fromkeys(("args", "transform", "config", "labels"), text)
        yield HostileFile(f"settings {text!r:.30}", partial(_write_tensors, header, size))
    for count, dtype, width in ((800_000, "F32", 4), (800_000, "F64", 8), (3_000_000, "F16", 2)):
        header, size = _list_tensors(dtype, width)
        shape, offsets = [count, 320], [size, size + count * 320 * width]
        header[weight] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        write = partial(_write_tensors, header, offsets[1])
        yield HostileFile(f"{count} classes of {dtype}", write)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    yield HostileFile(
        "200,000 empty tensors",
        lambda folder: _write_tensors({f"t{i}": empty for i in range(200_000)}, 0, folder),
    )
    for size in (0, 1, 2**24, 2**25, 2**63, 2**64 - 1):
        yield make_file("a.safetensors", f"a header of {size}", _HEADER.pack(size) + b"{}")
    deep = b'{"__metadata__":{"a":' + b"[" * 10**6
    yield make_file("a.safetensors", "a deep header", _HEADER.pack(len(deep)) + deep)


def _write_folder(folder: Path, files: dict[str, bytes | str]) -> Path:
    """Write a folder with weights and further files."""
    root = folder / "model"
    root.mkdir()
    for name, content in {"pytorch_model.bin": _make_weights(), **files}.items():
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def make_folders(folder: Path) -> Sequence[Path]:
    """Make folders of Hugging Face and of timm, and one whose weights are split."""
    samples = []
    texts = (
        {"config.json": json.dumps(_CONFIG)},
        {"config.json": json.dumps(_CONFIG), "preprocessor_config.json": json.dumps(_PROCESSOR)},
        {"args.yaml": _ARGUMENTS, "hparams.yaml": "img_size: 224\n"},
    )
    for number, files in enumerate(texts):
        (folder / str(number)).mkdir()
        samples.append(_write_folder(folder / str(number), dict(files)))
    return samples


def mutate_settings(data: bytes, generator: random.Random) -> bytes:
    """Mutate a file of settings; weights are mutated by another loader."""
    if data.startswith(b"{"):
        return mutate_json(data, generator)
    if data.startswith(b"PK"):
        return data + b" "
    lines = data.decode("utf-8", "replace").split("\n")
    value = generator.choice(("1e999", "[" * 40, "&a", "*a", HOSTILE_TEXT, "{a: b}", "9" * 999, ""))
    lines.insert(generator.randrange(len(lines)), f"{generator.choice(SETTING_KEYS)}: {value}")
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def craft_folders(generator: random.Random) -> Iterator[HostileFile]:
    """Yield folders with hostile settings, indices, links and special files."""
    for value in _JSON_VALUES:
        config, processor = dict(_CONFIG), dict(_PROCESSOR)
        config |= dict.fromkeys(generator.sample(SETTING_KEYS, 5), value)
        config["pretrained_cfg"] = dict.fromkeys((*SETTING_KEYS, "mean", "std"), value)
        processor |= dict.fromkeys(generator.sample(sorted(processor), 3), value)
        texts = {_FILES[0]: json.dumps(config), _FILES[1]: json.dumps(processor)}
        yield _folder(f"config {value!r:.30}", texts)
        index = json.dumps({"weight_map": {"a": value, "b": "pytorch_model.bin"}})
        yield _folder(f"index {value!r:.30}", {"model.safetensors.index.json": index})
        whole = {generator.choice(_FILES): json.dumps(value)}
        yield _folder(f"settings {value!r:.30}", whole)
    for text in TEXTS:
        yield _folder(f"text {text!r:.30}", {"args.yaml": text, "hparams.yaml": text})
    large = {
        "lists": lambda: '{"num_classes": 5, "a": [' + "[]," * 5_000_000 + "[]]}",
        "dicts": lambda: '{"num_classes": 5, "a": [' + '{"mean":0},' * 1_400_000 + "{}]}",
        "names": lambda: json.dumps({"id2label": {str(i): "a" for i in range(700_000)}}),
        "2,000 dicts under a long key": lambda: json.dumps(
            {"num_classes": 5, "x" * 8_000_000: {str(i): {"mean": 0} for i in range(2000)}}
        ),
        "deep": lambda: '{"id2label":' * 500_000,
    }
    for name, make_text in large.items():
        yield HostileFile(f"a config.json of {name}", partial(_write_large, make_text))
    names = [f"part{number}" for number in range(1000)]
    yield HostileFile("an index of 1000 links to 4 GiB", partial(_write_links, names))
    for name in ("../a", "/dev/zero", "a/b", "", ".", "\0", "pipe", "loop", "\udcff"):
        index = json.dumps({"weight_map": {"a": name}})
        yield HostileFile(f"an index of {name!r}", partial(_write_special, index))
    for name in (*_FILES, "model.safetensors", "snapshots", "a.pth", "pytorch_model.bin"):
        for kind in ("pipe", "/dev/zero", "loop", "folder", "file", "/proc/kmsg"):
            yield HostileFile(f"{name} is {kind}", partial(_write_kind, name, kind))


def _folder(description: str, texts: dict[str, str]) -> HostileFile:
    return HostileFile(description, partial(_write_folder, files=dict(texts)))


def _write_large(make_text: Callable[[], str], folder: Path) -> Path:
    return _write_folder(folder, {"config.json": make_text()})


def _write_links(names: list[str], folder: Path) -> Path:
    index = json.dumps({"weight_map": {name: name for name in names}})
    root = _write_folder(folder, {"model.safetensors.index.json": index})
    (root / "large").write_bytes(_HEADER.pack(2) + b"{}")
    os.truncate(root / "large", 4 * GIB)
    for name in names:
        os.link(root / "large", root / name)
    return root


def _write_special(index: str, folder: Path) -> Path:
    root = _write_folder(folder, {"model.safetensors.index.json": index})
    for kind in ("pipe", "loop"):
        make_special(root / kind, kind)
    return root


def _write_kind(name: str, kind: str, folder: Path) -> Path:
    root = _write_folder(folder, {"config.json": json.dumps(_CONFIG)})
    (root / name).unlink(missing_ok=True)
    if kind == "file":
        (root / name).write_text("a")
    else:
        make_special(root / name, kind)
    if name == "snapshots" and kind == "folder":
        (root / "pytorch_model.bin").rename(root / "snapshots" / "b")
    elif kind == "folder":
        (root / name / "a").mkdir()
    return root


LOADERS = (
    Loader(
        "weights: safetensors",
        export_checkpoint,
        make_safetensors,
        craft_safetensors,
        mutate=mutate_safetensors,
        memory_bytes=4 * GIB,
    ),
    Loader(
        "weights: folder", export_checkpoint, make_folders, craft_folders, mutate=mutate_settings
    ),
)
