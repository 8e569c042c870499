"""Crafted checkpoints: extreme fields of tensors and settings, repetition, depth, and archives."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.hostile_files import HostileFile, make_lazy_file
from tests.hostile.small_checkpoints import make_records, make_storage
from tests.hostile.torch_records import (
    EXTREME_VALUES,
    Call,
    Name,
    PersistentId,
    Storage,
    make_tensor,
    write_archive,
    write_pickle,
)

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
WEIGHT, BIAS = "head.fc.weight", "head.fc.bias"

SETTING_KEYS = (
    *("args", "hyper_parameters", "config", "cfg", "opt", "meta", "pretrained_cfg", "mean", "std"),
    *("img_size", "input_size", "crop_pct", "interpolation", "preprocess", "normalization"),
    *("transform", "val_transforms", "labels", "class_to_idx", "idx_to_class", "id2label"),
    *("class_names", "classes", "names", "num_classes", "license", "epoch", "arch", "problem_type"),
    *("data_preprocessor", "DATA", "image_mean", "size", "do_normalize", "crop_mode", "model"),
)
"""Keys that the reader looks for."""

TEXTS = (
    "mean = 0x" + "f" * 20_000 + "\nstd = {0x" + "f" * 20_000 + ": 1}",
    "a = " + "[" * 5_000,
    "a = " + "-" * 100_000 + "1",
    "a = x" + ".x" * 100_000,
    "a = 1" + " + 1" * 50_000,
    "a = (" * 3_000,
    "a = " + "f'{" * 200,
    "Compose(\n" + "    Resize(size=256)\n" * 10_000 + ")",
    "Compose(\n    Normalize(mean=[1e999, -1e999, 1e400], std=0x" + "f" * 9_000 + ")\n)",
    "mean: [" + "1," * 100_000,
    "? " * 50_000,
    "a: &a [*a, *a]",
    "mean: 1e999\nstd: .nan",
    '{"mean": ' + "9" * 4_000 + ', "std": NaN, "img_size": 1e400}',
    "x" * 300_000,
    HOSTILE_TEXT,
)
"""Settings as text, in Python's notation, as printed transforms, YAML and JSON."""


def craft_contents(generator: random.Random) -> Iterator[HostileFile]:
    """Yield archives whose pickles contain something hostile."""
    for description, make_content in _list_contents(generator):
        yield make_lazy_file("a.pth", description, partial(_write_content, make_content))
    for description, pickled in _list_pickles():
        archive = partial(write_archive, pickled, {"0": make_storage()}, zipfile.ZIP_DEFLATED)
        yield make_lazy_file("a.pth", description, archive)


def _write_content(make_content: Callable[[], Any]) -> bytes:
    storages = {"0": make_storage(), "1": make_storage()}
    return write_archive(write_pickle(make_content()), storages, zipfile.ZIP_DEFLATED)


def _list_contents(generator: random.Random) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield descriptions, and functions that make the content of a file."""
    fields = ("storage", "type", "key", "offset", "shape", "strides")
    for value in EXTREME_VALUES:
        field = generator.choice(fields)
        yield f"the {field} {value!r:.40} of a tensor", partial(_with_field, field, value)
        key = generator.choice(SETTING_KEYS)
        yield f"the setting {key} {value!r:.40}", partial(_with_settings, {key: value})
        everywhere = dict.fromkeys(SETTING_KEYS, value)
        yield f"{value!r:.40} as all settings", partial(_with_settings, everywhere)
        inner = dict.fromkeys(("args", "config", "pretrained_cfg", "DATA", "meta"), everywhere)
        yield f"{value!r:.40} as all inner settings", partial(_with_settings, inner)
        names = {"class_names": [value] * 5, "id2label": dict.fromkeys(range(5), value)}
        yield f"{value!r:.40} as names", partial(_with_settings, names)
    for text in TEXTS:
        settings = dict.fromkeys(("args", "config", "transform", "val_transforms", "cfg"), text)
        yield f"settings as text: {text!r:.40}", partial(_with_settings, settings)
    for name in ("complex32", "quint8", "uint16", "uint4", "float8_e8m0fnu", "float4_e2m1fn_x2"):
        if hasattr(torch, name):
            yield f"a tensor of the type {name}", partial(_with_type, getattr(torch, name))
    for name, record in _list_array_records():
        yield name, partial(_with_settings, {"mean": record, "std": [record], "names": record})
    yield from (
        ("a long chain of parameters", _make_chain),
        ("lists that contain each other in 400 settings", _make_repetition),
        ("one dict of 20,000 tensors under 5,000 keys", _make_same_dict),
        ("10,000 networks in one dict", _make_networks),
        ("2,000 modules inside each other, with long names", _make_modules),
        ("keys that are objects", _make_object_keys),
        ("a name of 60 MB", lambda: {**make_records(), "x" * 60_000_000: make_records()[WEIGHT]}),
        ("a name with control characters", lambda: {**make_records(), HOSTILE_TEXT: _number()}),
        ("tensors that alternate between two storages", _make_alternating),
        ("a text of 100 MB as every setting", _make_long_texts),
        ("a million settings", lambda: {"model": make_records(), "a": list(range(10**6))}),
        ("a million classes", lambda: {"model": make_records(), "names": ["a"] * 10**6}),
        ("100,000 transforms", lambda: {"model": make_records(), "transforms": _TRANSFORMS}),
    )


_TRANSFORMS = [{"name": "Normalize", "mean": [0.5] * 3, "std": HOSTILE_TEXT}] * 100_000


def _number() -> Call:
    return make_tensor(Storage(count=1), 0, (1,), (1,))


def _with_field(field: str, value: Any) -> dict[str, Any]:
    """Return a state dict in which a field of one tensor has another value."""
    arguments = [Storage(count=10_000), 0, (5, 320), (320, 1)]
    if field in ("type", "key"):
        kind = {"type": value} if field == "type" else {"key": value}
        arguments[0] = Storage(kind.get("type", torch.HalfStorage), kind.get("key", "0"))
    else:
        arguments[("storage", "offset", "shape", "strides").index(field)] = value
    return {**make_records(), WEIGHT: make_tensor(*arguments)}


def _with_type(dtype: torch.dtype) -> dict[str, Any]:
    """Return a state dict in which the classifier has another type."""
    storage = Storage(torch.storage.UntypedStorage, "0", 100_000)
    function = Name("torch._utils", "_rebuild_tensor_v3")
    weight = Call(function, storage, 0, (5, 320), (320, 1), False, {}, dtype, {})
    return {**make_records(), WEIGHT: weight}


def _with_settings(settings: dict[str, Any]) -> dict[str, Any]:
    return {"state_dict": make_records(), **settings}


def _list_array_records() -> Iterator[tuple[str, Any]]:
    """Yield records of NumPy's arrays and scalars with wrong fields."""
    reconstruct = Name("numpy._core.multiarray", "_reconstruct")
    scalar, dtype_name = Name("numpy._core.multiarray", "scalar"), Name("numpy", "dtype")
    codes = ("f99", "i3", "U999999999999", "S0", "\ud800", b"\xff", "O", "f8", "U1")
    for code in codes:
        dtype = Call(dtype_name, code, False, True, state=(3, "<", None, None, None, -1, -1, 0))
        yield f"an array of the type {code!r}", _make_array(reconstruct, (2,), dtype)
        yield f"a scalar of the type {code!r}", Call(scalar, dtype, b"\xff" * 8)
    dtype = Call(dtype_name, "f8", False, True, state=(3, "<", None, None, None, -1, -1, 0))
    for shape in ((2**70,), (-1, 0), (2**31, 2**31, 0), (1,) * 100, None, "a", (1.5,)):
        yield f"an array of the shape {shape!r:.30}", _make_array(reconstruct, shape, dtype)


def _make_array(reconstruct: Name, shape: Any, dtype: Any) -> Call:
    return Call(reconstruct, None, (0,), b"b", state=(1, shape, dtype, False, bytes(16)))


def _make_chain() -> dict[str, Any]:
    """Return parameters inside parameters, as often as Python's own pickle module can write."""
    record: Any = _number()
    for _ in range(200):
        record = Call(torch._utils._rebuild_parameter, record, False, {})
    return {**make_records(), WEIGHT: record}


def _make_repetition() -> dict[str, Any]:
    """Return settings that are small in the file, and have 250,000 entries each."""
    value: Any = ["a"] * 10
    for _ in range(4):
        value = [value] * 12
    return {"model": make_records(), **{f"setting {number}": value for number in range(400)}}


def _make_same_dict() -> dict[str, Any]:
    number = _number()
    tensors = {f"tensor {index}": number for index in range(20_000)}
    return {"model": make_records(), **{f"key {index}": tensors for index in range(5_000)}}


def _make_networks() -> dict[str, Any]:
    number = _number()
    return {f"n{index}.patch_embed.conv1.conv.weight": number for index in range(10_000)}


def _make_modules() -> Any:
    module: Any = {}
    number = _number()
    layer = Name("torch.nn.modules.linear", "Linear")
    for _ in range(150):
        state = {"_parameters": {f"p{i}": number for i in range(50)}, "_buffers": {}}
        module = Call(layer, state={**state, "_modules": {"m" * 5_000: module}})
    return {"model": make_records(), "module": module}


def _make_object_keys() -> Any:
    """Return dicts whose keys are objects that are long if they are written as text."""
    value: Any = "a"
    for _ in range(40):
        value = (value, value)
    key = Call(Name("module", "Class"), value)
    module = Call(Name("torch.nn", "Linear"), state={"_parameters": {key: _number()}})
    module.state |= {"_buffers": {key: _number()}, "_modules": {key: module.state}}
    return {key: _number(), "model": {key: module}, "module": module}


def _make_alternating() -> dict[str, Any]:
    """Return tensors of which each is in another storage than the one before."""
    first, second = make_records("0"), make_records("1")
    return {name: (first, second)[i % 2][name] for i, name in enumerate(first)}


def _make_long_texts() -> dict[str, Any]:
    return {"model": make_records(), **dict.fromkeys(SETTING_KEYS[:-1], "a b," * 25_000_000)}


def _list_pickles() -> Iterator[tuple[str, bytes]]:
    """Yield pickles that Python's pickle module would not write."""
    start = b"\x80\x04"
    yield "3,000,000 empty lists", start + b"(" + b"]" * 3_000_000 + b"l."
    yield "3,000,000 empty dicts in a dict", start + b"}(" + b"K\x01}" * 1_500_000 + b"u."
    yield "100,000 lists inside each other", start + b"]" * 100_000 + b"a" * 99_999 + b"."
    yield "100,000 tuples inside each other", start + b")" + b"\x85" * 100_000 + b"."
    record = b"ctorch._utils\n_rebuild_parameter\n"
    chain = record * 50_000 + b")" + b"\x85R" * 50_000
    yield "50,000 parameters inside each other", start + b"}X\x01\0\0\0a" + chain + b"s."
    chain = record.replace(b"_utils\n_re", b"nn.parameter\nParameter\n#") * 1
    yield "a comment", start + chain + b"."
    yield "a list that contains itself", start + b"]\x94h\x00a."
    yield "a dict that contains itself", start + b"}\x94X\x01\0\0\0ah\x00s."
    yield "an object whose state is itself", start + b"cmodule\nClass\n)R\x94h\x00b."
    yield "a persistent id that is no tuple", start + b"K\x01Q."
    ids = [("storage", Name("torch", "FloatStorage"), "0", "cpu", 1, view) for view in (1, (), [])]
    for identifier in (*ids, ("storage",), ("module", "a"), (b"\xff", 1, 2), ((),)):
        yield f"the persistent id {identifier!r:.40}", write_pickle([PersistentId(identifier)])
    for name in ("os system", "builtins eval", "torch.hub load", "\x1b[2J \x1b]0;a\x07"):
        yield f"the name {name!r}", start + f"c{name.replace(' ', chr(10))}\n)R.".encode()
