"""Preprocessing: from a decoded image to the input of the network.

An image is resized, cropped or padded, and normalized. Every artifact (exported file) contains the
settings, the fields of a `Preprocess`. Calibration, accuracy measurement and prediction all use the
same object, so a measured accuracy also holds for predictions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.errors import ArtifactError
from tinyvit.image_sizes import (
    ImageSize,
    describe_size,
    format_size,
    height_and_width,
    make_image_size,
)
from tinyvit.images.reduced_size import DecodedImage
from tinyvit.images.resampling import resample_image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PREPROCESS_FIELDS = ("size", "resize", "mean", "std")
"""Fields that every file with a `Preprocess` must contain. `mean` and `std` have defaults in this
class, but a file must state them: if it was made with other values, assuming those of ImageNet
would silently lower the accuracy."""

_MAX_SIZE, _MAX_RESIZE = 4096, 8192
"""Limits in pixels. A file from an untrusted source must not cause huge images."""

Interpolation = Literal["bicubic", "bilinear", "lanczos"]
"""Name of a resampling filter of Pillow."""

Crop = Literal["center", "squash", "pad"]
"""How an image gets the shape of the network's input; see `Preprocess.crop`."""

_FILTERS: dict[str, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}

FILTER_NAMES = tuple(_FILTERS)
"""The values of `Preprocess.interpolation`."""


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing that turns an image into the input of the network.

    Attributes:
        size: Size of the network's input in pixels: the side of a square, or (height, width).
        resize: Size in pixels that the image covers after resizing, before the crop. For "center"
            with a square, it is the length of the shorter side; with (height, width), the image
            keeps its aspect ratio, and one of its sides gets this length, the other at least this
            length. For "squash" and "pad" it equals `size`. It is nowhere smaller than `size`.
        crop: "center" keeps the aspect ratio and crops the center; "squash" resizes to `size`
            without keeping the aspect ratio, and crops nothing; "pad" keeps the aspect ratio,
            makes the image as large as it fits into `size`, and adds zeros to the normalized image
            at the bottom or at the right, as SAM does.
        interpolation: Name of a resampling filter of Pillow. Pillow's filters are antialiased, and
            its bicubic kernel has the coefficient a = -0.5, unlike OpenCV's (-0.75).
        mean: Mean of each RGB channel, for pixel values from 0 to 1.
        std: Standard deviation of each RGB channel, for pixel values from 0 to 1.
    """

    size: ImageSize
    resize: ImageSize
    crop: Crop = "center"
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        # Two equal sides are stored as one number, so that equal sizes compare equal.
        object.__setattr__(self, "size", make_image_size(*height_and_width(self.size)))
        object.__setattr__(self, "resize", make_image_size(*height_and_width(self.resize)))
        sides = zip(height_and_width(self.size), height_and_width(self.resize))
        is_valid = (
            self.crop in get_args(Crop)
            and self.interpolation in _FILTERS
            and all(1 <= side <= _MAX_SIZE and side <= full <= _MAX_RESIZE for side, full in sides)
            and (self.crop == "center" or self.resize == self.size)
            and len(self.mean) == len(self.std) == 3
            and all(value > 0 for value in self.std)
        )
        if not is_valid:
            raise ArtifactError(
                f"this preprocessing is not possible: {asdict(self)}",
                f"it needs 1 <= size <= {_MAX_SIZE}, size <= resize <= {_MAX_RESIZE} (equal for"
                f" crop='squash' and crop='pad'), an interpolation of {', '.join(_FILTERS)}, three"
                " means, and three standard deviations above 0",
            )

    @property
    def height(self) -> int:
        """Height of the network's input in pixels."""
        return height_and_width(self.size)[0]

    @property
    def width(self) -> int:
        """Width of the network's input in pixels."""
        return height_and_width(self.size)[1]

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size that an image has after resizing and before the crop.

        If `resize` is one number, lengths are rounded down, as torchvision's `Resize` does. If it
        is (height, width), they are rounded to the nearest number, a half to the even one, as
        timm's `ResizeKeepRatio` does. For "pad", lengths are rounded to the nearest number, a half
        up, as in SAM's `ResizeLongestSide` (facebookresearch/segment-anything,
        segment_anything/utils/transforms.py), and are at least 1.

        Args:
            width: Width of the original image in pixels.
            height: Height of the original image in pixels.

        Returns:
            Width and height in pixels.
        """
        resize_height, resize_width = height_and_width(self.resize)
        if self.crop == "squash":
            return resize_width, resize_height
        if self.crop == "pad":
            # The smaller of the two scales, so that the image fits into both lengths.
            fits_width = resize_width * height <= resize_height * width
            new, old = (resize_width, width) if fits_width else (resize_height, height)
            width, height = (2 * side * new + old for side in (width, height))
            return max(1, width // (2 * old)), max(1, height // (2 * old))
        if resize_width == resize_height:
            if width <= height:
                return resize_width, int(resize_width * height / width)
            return int(resize_height * width / height), resize_height
        # The larger of the two scales, so that the image covers both lengths.
        if resize_width * height >= resize_height * width:
            return resize_width, round(Fraction(height * resize_width, width))
        return round(Fraction(width * resize_height, height)), resize_height

    def resize_and_crop(self, image: Image.Image | DecodedImage) -> npt.NDArray[np.uint8]:
        """Resize an image, and crop or pad it, without normalizing it.

        The result is the same as after resizing the whole image and then cropping it, but only
        pixels inside the crop are computed. Very long images therefore take no longer than others.

        The padding of "pad" has the levels that are nearest to the mean. After normalization they
        are nearly zeros: at most 0.01 for the mean and std of ImageNet. A call of this object pads
        with zeros exactly.

        Args:
            image: A Pillow image of mode RGB, or the result of `open_image_for_resizing`.

        Returns:
            Pixels, uint8 (height, width, 3).
        """
        decoded = _as_decoded(image)
        if self.crop != "pad":
            return self._resize_and_crop(decoded)
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        pixels[:] = np.round(255 * np.asarray(self.mean))
        resized = self._resize_to_fit(decoded)
        pixels[: resized.shape[0], : resized.shape[1]] = resized
        return pixels

    def _resize_to_fit(self, decoded: DecodedImage) -> npt.NDArray[np.uint8]:
        """Resize an image for "pad", and return its pixels without padding."""
        width, height = self.resized_size(decoded.width, decoded.height)
        size, resampling = (height, width), _FILTERS[self.interpolation]
        return np.asarray(resample_image(decoded.image, size, resampling, decoded.box))

    def _resize_and_crop(self, decoded: DecodedImage) -> npt.NDArray[np.uint8]:
        """Resize and crop an image for "center" and "squash"."""
        width, height = self.resized_size(decoded.width, decoded.height)
        left, top = round((width - self.width) / 2), round((height - self.height) / 2)
        # The crop, in pixels of the decoded image: only this part of it is resampled.
        x, y, right, bottom = decoded.box
        x_scale, y_scale = (right - x) / width, (bottom - y) / height
        box = (
            x + left * x_scale,
            y + top * y_scale,
            min(x + (left + self.width) * x_scale, right),
            min(y + (top + self.height) * y_scale, bottom),
        )
        return np.asarray(
            resample_image(decoded.image, self.size, _FILTERS[self.interpolation], box)
        )

    def scale_and_shift(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the constants with which normalization is `pixels * scale - shift`.

        Returns:
            Scale and shift of each RGB channel for pixel values from 0 to 255, each float32 (3,).
        """
        std = np.asarray(self.std, np.float32)
        return np.float32(1 / 255) / std, np.asarray(self.mean, np.float32) / std

    def normalize(
        self, pixels: npt.NDArray[np.uint8], layout: str = "NCHW"
    ) -> npt.NDArray[np.float32]:
        """Normalize pixels by the mean and the standard deviation.

        Args:
            pixels: RGB values, uint8 (..., height, width, 3).
            layout: "NCHW" to move the channel axis before the rows, "NHWC" to leave it last.

        Returns:
            Values, float32 (..., 3, height, width) for "NCHW", (..., height, width, 3) for "NHWC".
        """
        scale, shift = self.scale_and_shift()
        if layout == "NHWC":
            return np.asarray(pixels * scale - shift, np.float32)
        values = np.empty((*pixels.shape[:-3], 3, *pixels.shape[-3:-1]), np.float32)
        # Writing each channel to its place is faster than moving the channel axis, and converting
        # integers before multiplying them is faster than multiplying them.
        for channel in range(3):
            plane = values[..., channel, :, :]
            plane[...] = pixels[..., channel]
            plane *= scale[channel]
            plane -= shift[channel]
        return values

    def __call__(
        self, image: Image.Image | DecodedImage, layout: str = "NCHW"
    ) -> npt.NDArray[np.float32]:
        """Resize, crop or pad, and normalize an image.

        Args:
            image: A Pillow image of mode RGB, or the result of `open_image_for_resizing`.
            layout: "NCHW" or "NHWC", as for `normalize`.

        Returns:
            Values, float32 (3, height, width) for "NCHW", (height, width, 3) for "NHWC".
        """
        decoded = _as_decoded(image)
        if self.crop != "pad":
            return self.normalize(self._resize_and_crop(decoded), layout)
        resized = self._resize_to_fit(decoded)
        height, width, _ = resized.shape
        padding = ((0, self.height - height), (0, self.width - width))
        values = self.normalize(resized, layout)
        return np.pad(values, ((0, 0), *padding) if layout == "NCHW" else (*padding, (0, 0)))


def _as_decoded(image: Image.Image | DecodedImage) -> DecodedImage:
    return image if isinstance(image, DecodedImage) else DecodedImage.from_full(image)


def describe_resize(preprocess: Preprocess) -> str:
    """Describe the resize, and the crop or the padding of a preprocessing, for a message."""
    if preprocess.crop == "squash":
        return f"resize to {describe_size(preprocess.resize)}"
    if preprocess.crop == "pad":
        return (
            f"resize to fit into {describe_size(preprocess.size)}, padding at the bottom or right"
        )
    size, resize = format_size(preprocess.size), format_size(preprocess.resize)
    if isinstance(preprocess.resize, int):
        return f"resize to {resize}, center crop to {size}"
    return f"resize to cover {resize} (height x width), center crop to {size}"


def enlarge_size(size: ImageSize, factor: float) -> ImageSize:
    """Multiply a height and a width by a factor, and round both down."""
    height, width = height_and_width(size)
    return make_image_size(int(factor * height), int(factor * width))


def divide_size(size: ImageSize, fraction: float) -> ImageSize:
    """Divide a height and a width by a crop_pct, and round both down, as timm does."""
    height, width = height_and_width(size)
    return make_image_size(int(height / fraction), int(width / fraction))


def timm_preprocess(size: ImageSize) -> Preprocess:
    """Return the preprocessing of timm's evaluation (timm/models/tiny_vit.py).

    Args:
        size: Size of the network's input in pixels. Its shorter side selects the rule.

    Returns:
        Below 384: a resize to `size` / 0.95, rounded down, and a center crop (timm's crop_pct
        0.95).
        From 384 to 511: a resize to `size` and a center crop (crop_pct 1.0).
        From 512: "squash" (timm's crop_mode "squash").
    """
    side = min(height_and_width(size))
    if side >= 512:
        return Preprocess(size, resize=size, crop="squash")
    return Preprocess(size, resize=size if side >= 384 else divide_size(size, 0.95))


def sam_preprocess(size: ImageSize) -> Preprocess:
    """Return the preprocessing of SAM and MobileSAM.

    It is in facebookresearch/segment-anything, segment_anything/utils/transforms.py (the resize)
    and segment_anything/modeling/sam.py (`Sam.preprocess`). SAM's mean and standard deviation are
    those of ImageNet, for pixel values from 0 to 255.

    Args:
        size: Size of the network's input in pixels.

    Returns:
        A bilinear resize after which the image fits into `size`, and zeros at its bottom or right.
    """
    return Preprocess(size, resize=size, crop="pad", interpolation="bilinear")


def paper_preprocess(size: ImageSize) -> Preprocess:
    """Return the preprocessing of the paper's evaluation (microsoft/Cream, TinyViT/data/build.py).

    Args:
        size: Size of the network's input in pixels. Its shorter side selects the rule.

    Returns:
        Up to 224: a resize to `size` * 256/224, rounded down, and a center crop. For larger sizes:
        "squash".
    """
    if min(height_and_width(size)) > 224:
        return Preprocess(size, resize=size, crop="squash")
    return Preprocess(size, resize=enlarge_size(size, 256 / 224))
