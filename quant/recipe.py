"""The recipe: all numbers of an int8 quantization, in a JSON file.

A recipe is calibrated once, and every export target (such as onnx or openvino) quantizes the
network with it.

A quantization point is a tensor of the network that may become int8: the input or the output of a
layer, or the output of a softmax. A point is named after its module in the folded network
(`tinyvit.nn.fold`): "stages.0.blocks.1.conv2:in" is the input of that layer and
"stages.0.blocks.1.conv2:out" its output. A recipe has a scale for both, because some engines
quantize only inputs, and others quantize outputs too. The query, key and value layers of an
attention module have the same input and share one point, such as "stages.1.blocks.0.attn.qkv:in".

A unit is a part of the network that is quantized as a whole: one layer, or the two matrix products
of one attention module. A unit has the name of its module.

If the network has outlier channels, it is rewritten before it is calibrated
(`tinyvit.quant.channel_ranges.equalization`). The recipe states how, and all names are those of the
result.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.errors import RequestError
from tinyvit.files.file_io import write_atomically
from tinyvit.image_sizes import ImageSize, Windows
from tinyvit.preprocess import IMAGENET_MEAN, IMAGENET_STD
from tinyvit.quant.channel_ranges.equalization import Equalization
from tinyvit.serialization import parse_dataclass, read_json

if TYPE_CHECKING:
    from tinyvit.nn.checkpoints.checkpoint import Checkpoint

FORMAT = 5
"""Version of the file format. In version 2, keys and values got 7 bits, and the scales and shifts
of LayerNorms were folded (nn/fold.py), which changed the scales. Version 3 renamed fields. Version
4 added `windows`, `mean` and `std`, and version 5 added `equalization`."""
FORMAT_WITH_SCALES = 6
"""Version of a recipe with `Equalization.scales` and without `ranges`."""
FORMAT_WITH_RANGES = 7
"""Version of a recipe with `ranges` of two numbers for each tensor."""
FORMATS = (FORMAT, FORMAT_WITH_SCALES, FORMAT_WITH_RANGES)
"""All versions that can be read."""
MAX_BYTES = 4 * 2**20
"""Largest size of a recipe file."""
MIN_SCALE, MAX_SCALE = 1e-30, 1e30
"""Smallest and largest scale. With others, float32 overflows."""
WEIGHT_BITS = (4, 7, 8)
"""Numbers of bits that weights may have: 4 only after quantization-aware training; 7, with which no
sum of products saturates on any processor; 8 for processors with VNNI instructions and for recipes
that quantize only the weights."""


@dataclass(frozen=True)
class Recipe:
    """An int8 quantization: a real number is represented by a scale times an integer.

    Activations are integers with one scale per tensor: from -63 to 63 for the keys and values of
    attention (`quantized_network.SEVEN_BIT_OPERANDS`), and from -128 to 127 for all others. Targets
    that quantize every tensor derive other scales, with zero points, from `ranges`. Weights
    are integers from -m to m with m = 2^(weight_bits - 1) - 1 and one scale per output channel,
    chosen so that the largest absolute value of the channel becomes m. Scales of weights are not
    stored, because they follow from the weights. A recipe without scales quantizes only the
    weights.

    Attributes:
        checkpoint_sha256: Hex digest of the checkpoint file whose network was calibrated.
        img_size: Size of the input in pixels at which the network was calibrated.
        scales: The scale of every quantization point, by the name of the point; each above 0.
        weight_bits: Number of bits of the weights, one of `WEIGHT_BITS`.
        float_units: Names of the units that stay float32.
        method: The method that chose the scales, such as "torchao HistogramObserver".
        calibration_sha256: `CalibrationSet.sha256` of the calibration images.
        calibration_count: Number of calibration images.
        windows: Whether the attention windows of the network are those of the checkpoint, or were
            scaled to the image size.
        mean: Mean with which the calibration images were normalized.
        std: Standard deviation with which the calibration images were normalized.
        is_synthetic: Whether the calibration images were made from the network itself.
        equalization: How the folded network was rewritten before it was calibrated.
        ranges: The smallest and the largest value that every tensor had for the calibration
            images, by the name of the point; at most 0 and above 0. The zero points of 8-bit
            integers and the scales of 16-bit ones follow from them. Empty unless the recipe was
            calibrated for a target that quantizes every tensor (`QuantScheme.every_tensor`);
            `scales` then has these points, too.
    """

    checkpoint_sha256: str
    img_size: ImageSize
    scales: dict[str, float]
    weight_bits: int
    float_units: tuple[str, ...]
    method: str
    calibration_sha256: str
    calibration_count: int
    windows: Windows = "checkpoint"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    is_synthetic: bool = False
    equalization: Equalization = field(default_factory=Equalization)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def weights_only(self) -> bool:
        """Return whether activations stay float32."""
        return not self.scales

    def is_for(self, checkpoint: Checkpoint) -> bool:
        """Return whether the recipe is for a checkpoint, with its size, windows, mean and std.

        Args:
            checkpoint: The checkpoint at the image size of the network that will be quantized.
        """
        preprocess = checkpoint.preprocess
        return (
            self.checkpoint_sha256 == checkpoint.sha256
            and (self.img_size, self.windows) == (checkpoint.img_size, checkpoint.windows)
            and (self.mean, self.std) == (preprocess.mean, preprocess.std)
        )

    def with_more_float_units(self, units: tuple[str, ...]) -> Recipe:
        """Return a copy of the recipe in which more units stay float32.

        Args:
            units: Names of the units that are added to `float_units`.
        """
        return replace(self, float_units=tuple(sorted({*self.float_units, *units})))

    def to_json(self) -> str:
        """Return the recipe as indented JSON. Equal recipes give equal text."""
        fields = asdict(self)
        if not self.is_synthetic:
            # Left out, so that recipes from before this field existed keep their digests.
            del fields["is_synthetic"]
        if not self.ranges:
            # For the same reason.
            del fields["ranges"]
        if not self.equalization.scales:
            # For the same reason.
            del fields["equalization"]["scales"]
        version = FORMAT_WITH_SCALES if self.equalization.scales else FORMAT
        if self.ranges:
            version = FORMAT_WITH_RANGES
        return json.dumps({"format": version, **fields}, indent=1, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        """Return the hex digest of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the recipe to a file. If writing fails, no incomplete file remains.

        Args:
            path: The JSON file. An existing file is replaced.
        """
        write_atomically(path, self.to_json())


def weights_only_recipe(
    checkpoint_sha256: str, img_size: ImageSize, windows: Windows = "checkpoint"
) -> Recipe:
    """Return the recipe that quantizes weights to 8 bits and leaves activations in float32.

    The recipe needs no calibration. It works on every processor: engines multiply in float32, so
    there are no sums of integers that could saturate.

    Args:
        checkpoint_sha256: Hex digest of the checkpoint file.
        img_size: Size of the input in pixels.
        windows: Whether the attention windows are those of the checkpoint, or were scaled.
    """
    return Recipe(
        checkpoint_sha256=checkpoint_sha256,
        img_size=img_size,
        scales={},
        weight_bits=8,
        float_units=(),
        method="weights only",
        calibration_sha256="",
        calibration_count=0,
        windows=windows,
    )


def read_recipe(path: Path) -> Recipe:
    """Read a recipe that `Recipe.save` wrote.

    Args:
        path: The JSON file.

    Raises:
        RequestError: The file cannot be read, is larger than `MAX_BYTES`, has another format
            version, or is not a recipe.
    """
    try:
        return _parse_recipe(read_json(path, MAX_BYTES))
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    except ValueError as error:
        raise RequestError(
            f"{path} is not a recipe ({error})",
            "give a file that an export with --recipe wrote, or a file that does not exist yet",
        ) from error


def _parse_recipe(data: object) -> Recipe:
    """Check parsed JSON and convert it. Raises ValueError with the reason if it is not a recipe."""
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    if data.pop("format", None) not in FORMATS:
        raise ValueError(f"its format version is not {FORMAT} to {FORMAT_WITH_RANGES}")
    recipe = parse_dataclass(Recipe, data)
    if recipe.weight_bits not in WEIGHT_BITS:
        raise ValueError(f"weight_bits is {recipe.weight_bits}, but must be one of {WEIGHT_BITS}")
    if not recipe.scales:
        raise ValueError("it has no scales")
    if not all(scale > 0 for scale in recipe.scales.values()):
        raise ValueError("a scale is not above 0")
    if not all(MIN_SCALE <= scale <= MAX_SCALE for scale in recipe.scales.values()):
        raise ValueError(f"a scale is not between {MIN_SCALE} and {MAX_SCALE}")
    for smallest, largest in recipe.ranges.values():
        if not -MAX_SCALE <= smallest <= 0:
            raise ValueError(f"the start of a range is not between {-MAX_SCALE} and 0")
        if not MIN_SCALE <= largest <= MAX_SCALE:
            raise ValueError(f"the end of a range is not between {MIN_SCALE} and {MAX_SCALE}")
    return recipe
