"""From a decoded picture to the network's input: resize, crop, normalize.

One `Preprocess` object travels with every artifact and serves calibration, prediction and accuracy
alike, so that a number measured by one means the same in the others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.errors import ArtifactError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TALL_ASPECT_RATIO = 16
"""A picture more than this many times taller than wide is resized height first, all others width first, as Pillow did until 12."""

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the network's input.

    size: side of the square input, pixels.
    resize: before the crop the shorter side is brought to this many pixels ("center"), or both
        sides are ("squash").
    crop: "center" keeps the aspect ratio and cuts the middle out; "squash" does not keep it.
    interpolation: a filter of Pillow, antialiased: "bicubic" (a = -0.5), "bilinear" or "lanczos".
    mean, std: of RGB in the range 0 to 1.
    """

    size: int
    resize: int
    crop: Literal["center", "squash"] = "center"
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        sound = (
            self.crop in ("center", "squash")
            and self.interpolation in _FILTERS
            and 1 <= self.size <= 8192
            and self.size <= self.resize <= 16384
            and (self.crop == "center" or self.resize == self.size)
            and len(self.mean) == len(self.std) == 3
            and all(s > 0 for s in self.std)
        )
        if not sound:
            raise ArtifactError(
                f"not a usable preprocessing: {asdict(self)}",
                "size <= resize <= 16384 (equal for crop='squash'), a filter of Pillow, three means and three stds > 0",
            )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Preprocess:
        """The inverse of `dataclasses.asdict`; raises ArtifactError on anything else."""
        try:
            return cls(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})
        except (TypeError, KeyError) as error:
            raise ArtifactError(
                f"not a preprocessing record: {error}", "export the file again"
            ) from error

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels of the resized picture, before the crop; rounds as torchvision's Resize does."""
        if self.crop == "squash":
            return self.resize, self.resize
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def resize_and_crop(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """RGB picture -> uint8 (size, size, 3): resized and cropped, not yet normalized.

        Only the part that the crop keeps is computed, so a picture of 1 x 5000 costs no more than
        any other; the values are those of resizing first and cropping then.
        """
        width, height = self.resized_size(*image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        x, y = image.width / width, image.height / height
        box = (left * x, top * y, (left + self.size) * x, (top + self.size) * y)
        box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
        return np.asarray(resample_image(image, self.size, _FILTERS[self.interpolation], box))

    def scale_and_shift(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Of each channel, float32 (3,) both: levels of 0 to 255 times the scale less the shift have mean 0 and std 1."""
        std = np.asarray(self.std, np.float32)
        return np.float32(1 / 255) / std, np.asarray(self.mean, np.float32) / std

    def normalize(
        self, pixels: npt.NDArray[np.uint8], layout: str = "NCHW"
    ) -> npt.NDArray[np.float32]:
        """uint8 (..., size, size, 3) -> float32 (..., 3, size, size), mean 0 and std 1 by `mean` and `std`.

        layout "NHWC" leaves the channels last.
        """
        scale, shift = self.scale_and_shift()
        if layout == "NHWC":
            return np.asarray(pixels * scale - shift, np.float32)
        values = np.empty((*pixels.shape[:-3], 3, *pixels.shape[-3:-1]), np.float32)
        for channel in range(3):  # a quarter of the time that moving the axis takes
            plane = values[..., channel, :, :]
            np.multiply(pixels[..., channel], scale[channel], out=plane)
            plane -= shift[channel]
        return values

    def __call__(self, image: Image.Image, layout: str = "NCHW") -> npt.NDArray[np.float32]:
        """RGB picture -> float32 (3, size, size), normalized; layout as `normalize`'s."""
        return self.normalize(self.resize_and_crop(image), layout)


def resample_image(
    image: Image.Image, size: int, taps: Image.Resampling, box: tuple[float, float, float, float]
) -> Image.Image:
    """The part `box` (left, top, right, bottom; pixels) of an RGB picture as size x size pixels: width first, but height first where
    that spares memory.

    Each pass rounds to 8 bits, so their order shows in the values; Pillow 13 chooses it by cost, which differs with the box,
    earlier ones always take width first. Two calls of one pass each give the same values with every Pillow.
    """
    left, top, right, bottom = box
    if image.height > TALL_ASPECT_RATIO * image.width:
        image = image.resize((image.width, size), taps, box=(0, top, image.width, bottom))
        return image.resize((size, size), taps, box=(left, 0, right, size))
    image = image.resize((size, image.height), taps, box=(left, 0, right, image.height))
    return image.resize((size, size), taps, box=(0, top, size, bottom))


def timm_preprocess(size: int) -> Preprocess:
    """timm's evaluation of TinyViT (timm/models/tiny_vit.py): crop 0.95 at 224, 1.0 at 384, squash at 512."""
    if size >= 512:
        return Preprocess(size, size, "squash")
    return Preprocess(size, size if size >= 384 else int(size / 0.95))


def paper_preprocess(size: int) -> Preprocess:
    """The paper's evaluation (microsoft/Cream, TinyViT/data/build.py and its configs): 256/224 and a crop at 224, squash above."""
    if size > 224:
        return Preprocess(size, size, "squash")
    return Preprocess(size, int(256 / 224 * size))
