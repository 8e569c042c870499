"""Profiles that engines write while they run hostile models are read, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tinyvit.bench.profilers.onnxruntime import parse_profile
from tinyvit.errors import ArtifactError

ARGS: dict[str, Any] = {
    "op_name": "MatMul",
    "input_type_shape": [{"float": [1, 2]}, {"float": [2, 3]}],
    "output_type_shape": [{"float": [1, 3]}],
}
EVENT = {"cat": "Node", "name": "a_kernel_time", "dur": 1500, "args": ARGS}


def test_a_profile_is_read(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([{"cat": "Session"}, EVENT, EVENT]))
    (name,) = profiles = parse_profile(path, Path("a.onnx"))
    assert (name, profiles[name].times_ms) == ("a", [1.5, 1.5])
    assert profiles[name].event_args["op_name"] == "MatMul"


@pytest.mark.parametrize(
    "change",
    [
        {"args": None},
        {"args": {}},
        {"args": {**ARGS, "op_name": 1}},
        {"args": {**ARGS, "input_type_shape": [{"float": [-1]}]}},
        {"args": {**ARGS, "input_type_shape": [{"float": [10**400]}]}},
        {"args": {**ARGS, "output_type_shape": [None]}},
        {"dur": "1"},
        {"dur": float("nan")},
        {"dur": 1e308},
        {"dur": True},
        {"name": None},
    ],
)
def test_an_impossible_event_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([{**EVENT, **change}]))
    with pytest.raises(ArtifactError, match=r"onnxruntime's profile of a\.onnx cannot be read"):
        parse_profile(path, Path("a.onnx"))


@pytest.mark.parametrize("text", ["", "{", "null", "[1]", "[" * 100_000, '[{"name": "a"b"}]', "\0"])
def test_a_damaged_profile_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=r"onnxruntime's profile of a\.onnx cannot be read"):
        parse_profile(path, Path("a.onnx"))
