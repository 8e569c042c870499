"""JSON becomes dataclasses whose fields have their declared types, within limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tinyvit.nesting_limits import MAX_DEPTH
from tinyvit.serialization import dump_readable_json, parse_dataclass, parse_json, read_json


@dataclass(frozen=True)
class Layer:
    name: str
    scale: float = 1.0


@dataclass(frozen=True)
class Network:
    size: int
    mode: Literal["fast", "exact", 3]
    layers: tuple[Layer, ...]
    limits: tuple[float, float] = (0.0, 1.0)
    counts: dict[str, int] = field(default_factory=dict)
    shape: tuple[int | str, ...] = ()
    quantized: bool = False
    first: Layer | None = None


NETWORK = Network(
    size=3,
    mode="exact",
    layers=(Layer("a", 0.5), Layer("b", 2)),
    counts={"conv": 4},
    shape=("batch", 3),
    first=Layer("a"),
)


def test_parsing_is_the_inverse_of_asdict() -> None:
    parsed = parse_dataclass(Network, json.loads(json.dumps(asdict(NETWORK))))
    assert parsed == NETWORK
    assert type(parsed.layers[1].scale) is int, "numbers are not converted"
    assert parse_dataclass(Network, asdict(NETWORK)) == NETWORK, "tuples may stay tuples"


def test_missing_fields_have_their_defaults() -> None:
    plain = {"size": 1, "mode": "fast", "layers": []}
    assert parse_dataclass(Network, plain) == Network(1, "fast", ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "3"}, "size is not a whole number"),
        ({"size": 3.0}, "size is not a whole number"),
        ({"size": True}, "size is not a whole number"),
        ({"size": 2**63}, "size is a number of more than 64 bits"),
        ({"size": -(10**400)}, "size is a number of more than 64 bits"),
        ({"size": None}, "size is not a whole number"),
        ({"mode": "slow"}, "mode is not one of 'fast', 'exact', 3"),
        ({"mode": []}, "mode is not one of"),
        ({"mode": 3.0}, "mode is not one of"),
        ({"layers": {}}, "layers is not a list"),
        ({"layers": ["a"]}, "an entry of layers is not an object with fields"),
        ({"layers": [{"scale": 1}]}, "an entry of layers has no field name"),
        (
            {"layers": [{"name": "a", "scale": "b"}]},
            "an entry of layers.scale is not a finite number",
        ),
        ({"layers": [{"name": "a", "bias": 1}]}, "has a field bias that is not known"),
        ({"limits": [0]}, "limits is not a list of 2 values"),
        ({"limits": [0, float("nan")]}, "an entry of limits is not a finite number"),
        ({"limits": [0, float("inf")]}, "an entry of limits is not a finite number"),
        ({"limits": [0, 10**400]}, "an entry of limits is not a finite number"),
        ({"limits": [0, 2**63]}, "an entry of limits is a number of more than 64 bits"),
        ({"limits": [0, True]}, "an entry of limits is not a finite number"),
        ({"counts": []}, "counts is not an object"),
        ({"counts": {"conv": 1.5}}, "an entry of counts is not a whole number"),
        ({"counts": {1: 1}}, "a key of counts is not a string"),
        ({"shape": [1.5]}, "an entry of shape is of none of the allowed types"),
        ({"quantized": 1}, "quantized is not true or false"),
        ({"first": {}}, "first has no field name"),
        ({"first": {"name": 1}}, "first.name is not a string"),
        ({"extra": 1}, "Network has a field extra that is not known"),
    ],
)
def test_wrong_values_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_dataclass(Network, {**asdict(NETWORK), **change})


@pytest.mark.parametrize("data", [None, 3, "x", [], [{}]])
def test_only_an_object_becomes_a_dataclass(data: object) -> None:
    with pytest.raises(ValueError, match="the recipe is not an object with fields"):
        parse_dataclass(Network, data, "the recipe")


def test_a_required_field_is_named() -> None:
    with pytest.raises(ValueError, match="Network has no field mode"):
        parse_dataclass(Network, {"size": 1, "layers": []})


def test_nesting_is_limited() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(ValueError, match=r"nested deeper than \d+ levels"):
            parse_json("[" * depth + "]" * depth)
    with pytest.raises(ValueError, match="nested deeper"):
        parse_json('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1))


def test_size_is_limited(tmp_path: Path) -> None:
    text = json.dumps(["x" * 2**20])
    (tmp_path / "large.json").write_text(text)
    assert parse_json(text, len(text)) == read_json(tmp_path / "large.json", len(text))
    for limit, message in ((2**20, "larger than 1 MiB"), (100, "larger than 100 bytes")):
        with pytest.raises(ValueError, match=message):
            parse_json(text, limit)
        with pytest.raises(ValueError, match=message):
            read_json(tmp_path / "large.json", limit)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"\0", b"[1]x", b"1" * 5000])
def test_bytes_that_are_not_json_are_a_value_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(data)
    with pytest.raises(ValueError):  # noqa: PT011 - the text is that of the JSON parser
        read_json(tmp_path / "bad.json")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing.json")


def test_readable_json_can_be_encoded_and_is_read_unchanged() -> None:
    data = {"é\udcff": ["\ud83d", "plain", 1.5]}
    text = dump_readable_json(data)
    assert text.encode() == b'{"\xc3\xa9\\udcff": ["\\ud83d", "plain", 1.5]}'
    assert parse_json(text) == data


@pytest.mark.parametrize("encode", [str, str.encode], ids=["text", "bytes"])
@pytest.mark.parametrize("item", ["{}", "[]", '"["'])
def test_the_number_of_lists_and_objects_is_limited_before_parsing(
    encode: Callable[[str], str | bytes], item: str
) -> None:
    # Of the 2,000,000 brackets that are allowed, the first one is that of the list itself.
    allowed = "[" + ",".join([item] * 1_999_999) + "]"
    assert len(parse_json(encode(allowed))) == 1_999_999
    start_s = time.process_time()
    with pytest.raises(ValueError, match="it has more than 2000000 lists and objects"):
        parse_json(encode("[" + ",".join([item] * 2_000_000) + "]"))
    assert time.process_time() - start_s < 1
