"""Recipe files are written and read, and damaged ones are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tinyvit.errors import RequestError
from tinyvit.quant.channel_ranges.equalization import Equalization
from tinyvit.quant.recipe import Recipe, read_recipe

RECIPE = Recipe("abc", 64, {"a:in": 0.5, "b:out": 0.25}, 8, (), "an observer", "def", 24)


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    RECIPE.with_more_float_units(("head",)).save(path)
    assert read_recipe(path) == RECIPE.with_more_float_units(("head",))
    assert read_recipe(path).sha256 != RECIPE.sha256


def test_a_recipe_of_synthetic_images_says_so(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    replace(RECIPE, is_synthetic=True).save(path)
    assert json.loads(path.read_text())["is_synthetic"] is True
    assert read_recipe(path).is_synthetic
    assert "is_synthetic" not in json.loads(RECIPE.to_json())


def test_an_equalization_is_read_as_it_was_written(tmp_path: Path) -> None:
    equalization = Equalization({"a.norm": (0, -3)}, {"b": (0.5, -1.25)}, {"mlp": (1, 2)})
    path = tmp_path / "recipe.json"
    replace(RECIPE, equalization=equalization).save(path)
    assert read_recipe(path).equalization == equalization
    assert json.loads(path.read_text())["equalization"] == {
        "exponents": {"a.norm": [0, -3]},
        "offsets": {"b": [0.5, -1.25]},
        "outliers": {"mlp": [1, 2]},
    }


def test_only_recipes_with_factors_of_their_own_have_the_new_format(tmp_path: Path) -> None:
    """The files of all others keep their bytes and their digests."""
    plain = json.loads(RECIPE.to_json())
    assert (plain["format"], "scales" in plain["equalization"]) == (5, False)
    path = tmp_path / "recipe.json"
    recipe = replace(RECIPE, equalization=Equalization(scales={"mlp.fc2_input": (0, -4)}))
    recipe.save(path)
    data = json.loads(path.read_text())
    assert (data["format"], data["equalization"]["scales"]) == (6, {"mlp.fc2_input": [0, -4]})
    assert read_recipe(path) == recipe


def test_float_units_are_added() -> None:
    assert RECIPE.with_more_float_units(("b", "a")).with_more_float_units(
        ("c", "a")
    ).float_units == (
        "a",
        "b",
        "c",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"format": 4},
        {"weight_bits": 5},
        {"calibration_count": "many"},
        {"scales": {"a": -1.0}},
        {"scales": {"a": float("nan")}},
        {"scales": {"a": 5e-324}},
        {"scales": {"a": 1e308}},
        {"scales": {}},
        {"scales": [1]},
        {"more": 1},
        {"equalization": {"exponents": {"a.norm": ["1"]}}},
        {"equalization": {"exponents": {"a.norm": [0.5]}}},
        {"equalization": {"offsets": {"a": [float("inf")]}}},
        {"equalization": []},
    ],
)
def test_a_file_with_a_wrong_field_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**json.loads(RECIPE.to_json()), **change}))
    with pytest.raises(RequestError, match="is not a recipe"):
        read_recipe(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[" * 100_000, "\x00"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(RequestError, match="is not a recipe"):
        read_recipe(path)


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(RECIPE.to_json() + " " * (4 * 2**20))
    with pytest.raises(RequestError, match=r"is not a recipe.*larger than"):
        read_recipe(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_recipe(tmp_path / "recipe.json")
