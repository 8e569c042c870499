"""The recipe: an int8 quantization as plain data, made once and applied for every target.

A point is a place where activations may become int8, named after the module of the folded network that it belongs to:
"stages.0.blocks.1.conv2:in" is that layer's input, "...:out" its output. Every quantized layer has both: engines differ in
which of them they round. Queries, keys and values share one input,
"stages.1.blocks.0.attn.qkv:in".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from tinyvit.errors import RequestError
from tinyvit.files import write_atomically

FORMAT = 2
"""2: keys and values have 7 bits, and LayerNorms neither scale nor shift (nn/fold.py)."""
MAX_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Recipe:
    """int8, symmetric: real = scale * integer, of -128 to 127 for activations (one scale a tensor), and for weights of
    -(2^(weight_bits - 1) - 1) to its opposite (one scale an output channel, its largest weight over the largest integer).

    checkpoint: sha256 of the weights' file. img_size, pixels: what it was calibrated at. scales: point -> scale.
    Without scales, weights alone are quantized. float_units: layers, and attentions whose products, stay float32. method, data,
    count: the observer, what was observed (a hash of the images) and how many.
    """

    checkpoint: str
    img_size: int
    scales: dict[str, float]
    weight_bits: int
    float_units: tuple[str, ...]
    method: str
    data: str
    count: int

    @property
    def weights_only(self) -> bool:
        """Whether activations stay float32."""
        return not self.scales

    def without(self, units: tuple[str, ...]) -> Recipe:
        """The same with these units left in float32 too."""
        return replace(self, float_units=tuple(sorted({*self.float_units, *units})))

    def to_json(self) -> str:
        """Indented JSON, for people to read; equal recipes give equal text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        """Hex digest of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_atomically(path, self.to_json())


def weights_only(checkpoint: str, img_size: int) -> Recipe:
    """All weights in 8 bits and nothing else: there is nothing to calibrate, and no sum of integers to saturate."""
    return Recipe(checkpoint, img_size, {}, 8, (), "weights only", "", 0)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file that `save` wrote. Raises RequestError where it is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
        return _recipe(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"{path} is no recipe ({error})",
            "give a file that --recipe wrote, or another name to write one",
        ) from error


def _recipe(data: dict[str, Any]) -> Recipe:
    if data.pop("format") != FORMAT:
        raise ValueError("of another version")
    recipe = Recipe(**{**data, "float_units": tuple(data["float_units"])})
    texts = (recipe.checkpoint, recipe.method, recipe.data, *recipe.scales, *recipe.float_units)
    numbers = (recipe.img_size, recipe.count, recipe.weight_bits)
    scales = recipe.scales.values()
    if (
        not all(isinstance(x, str) for x in texts)
        or not all(type(x) is int for x in numbers)
        or recipe.weight_bits not in (4, 7, 8)
    ):
        raise ValueError("a field is not what it should be")
    if not scales or not all(isinstance(x, float) and isfinite(x) and x > 0 for x in scales):
        raise ValueError("a scale is no positive number")
    return recipe
