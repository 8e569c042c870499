"""The recipe: an int8 quantization as plain data, calibrated once and applied for every target.

A quantization point is a place where activations may become int8. It is named after the module of
the folded network that it belongs to: "stages.0.blocks.1.conv2:in" is the input of that layer and
"stages.0.blocks.1.conv2:out" its output. The recipe has a scale for both, because engines differ in
which of the two they round. The query, key and value layers of an attention have the same input and
share one point, such as "stages.1.blocks.0.attn.qkv:in".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.files import write_atomically
from tinyvit.serialization import parse_dataclass, read_json

FORMAT = 3
"""Version of the file format. Since version 2, keys and values have 7 bits and LayerNorms have
neither scale nor shift (nn/fold.py). Version 3 renames fields."""
MAX_BYTES = 4 * 2**20
WEIGHT_BITS = (4, 7, 8)
"""Widths of weights that exist."""


@dataclass(frozen=True)
class Recipe:
    """A symmetric int8 quantization: every real number is a scale times an integer.

    Activations are integers from -128 to 127 with one scale per tensor. Weights are integers from
    -m to m, where m = 2^(weight_bits - 1) - 1, with one scale per output channel: the channel's
    largest weight becomes m. A recipe without scales quantizes weights alone.

    Attributes:
        checkpoint_sha256: Hex digest of the checkpoint file that the recipe belongs to.
        img_size: Input size in pixels that it was calibrated at.
        scales: The scale of every quantization point, by name; each above 0.
        weight_bits: Width of the weights, one of `WEIGHT_BITS`.
        float_units: Names of the layers, and of the attentions whose two products, stay float32.
        method: The observer that chose the scales.
        calibration_sha256: Hex digest of the calibration images.
        calibration_count: Number of the calibration images.
    """

    checkpoint_sha256: str
    img_size: int
    scales: dict[str, float]
    weight_bits: int
    float_units: tuple[str, ...]
    method: str
    calibration_sha256: str
    calibration_count: int

    @property
    def weights_only(self) -> bool:
        """Whether activations stay float32."""
        return not self.scales

    def with_float_units(self, units: tuple[str, ...]) -> Recipe:
        """Return the same recipe with more units left in float32.

        Args:
            units: Names of layers and attentions, added to `float_units`.
        """
        return replace(self, float_units=tuple(sorted({*self.float_units, *units})))

    def to_json(self) -> str:
        """Return the recipe as indented JSON. Equal recipes give equal text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        """Hex digest of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the recipe to a file, completely or not at all.

        Args:
            path: The JSON file. An existing file is replaced.
        """
        write_atomically(path, self.to_json())


def weights_only_recipe(checkpoint_sha256: str, img_size: int) -> Recipe:
    """Return the recipe that quantizes all weights to 8 bits and leaves activations in float32.

    It needs no calibration, and 8 bits are safe on every processor: no sum of integers is computed.

    Args:
        checkpoint_sha256: Hex digest of the checkpoint file.
        img_size: Input size in pixels.
    """
    return Recipe(checkpoint_sha256, img_size, {}, 8, (), "weights only", "", 0)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe that `Recipe.save` wrote.

    Args:
        path: The JSON file.

    Raises:
        RequestError: The file cannot be read, is larger than `MAX_BYTES`, has another version, or
            is not a recipe.
    """
    try:
        return _parse_recipe(read_json(path, MAX_BYTES))
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    except ValueError as error:
        raise RequestError(
            f"{path} is not a recipe ({error})",
            "give a file that --recipe wrote, or the name of a file that does not exist yet",
        ) from error


def _parse_recipe(data: object) -> Recipe:
    """Parse the plain values of a recipe. Raises ValueError with the reason where they are none."""
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    if data.pop("format", None) != FORMAT:
        raise ValueError(f"its format is not version {FORMAT}")
    recipe = parse_dataclass(Recipe, data)
    if recipe.weight_bits not in WEIGHT_BITS:
        raise ValueError(f"weight_bits is {recipe.weight_bits}, and not one of {WEIGHT_BITS}")
    if not recipe.scales:
        raise ValueError("it has no scales")
    if not all(scale > 0 for scale in recipe.scales.values()):
        raise ValueError("a scale is not above 0")
    return recipe
