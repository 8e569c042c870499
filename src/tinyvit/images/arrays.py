"""Conversion of arrays and tensors to images, without importing torch or TensorFlow."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.errors import ImageError

ChannelOrder: TypeAlias = Literal["rgb", "bgr"]
"""Order of the color channels of an array; OpenCV uses "bgr"."""


@runtime_checkable
class SupportsArray(Protocol):
    """An object that numpy can convert to an array, such as a tensor of torch or TensorFlow."""

    @property
    def shape(self) -> Any:
        """Sizes of the axes."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the elements, in the library's own notation."""
        ...

    def __array__(self, *args: Any, **options: Any) -> npt.NDArray[Any]:
        """Return the values as a numpy array."""
        ...


def is_array_like(x: object) -> TypeGuard[SupportsArray]:
    """Return whether an object is an array or a tensor. A single number is not one.

    Args:
        x: Any object.
    """
    return isinstance(x, SupportsArray) and not isinstance(x, (np.generic, Image.Image))


def is_torch_tensor(x: object) -> bool:
    """Return whether an object is a tensor of torch.

    Args:
        x: Any object. torch is not imported to find out.
    """
    return any(
        base.__module__.split(".")[0] == "torch" and base.__name__ == "Tensor"
        for base in type(x).__mro__
    )


def describe_array(array: SupportsArray) -> str:
    """Describe an array for an error message, such as "the Tensor (3, 4, 4) of torch.uint8".

    Args:
        array: An array or a tensor.
    """
    kind = "array" if isinstance(array, np.ndarray) else type(array).__name__
    return f"the {kind} {tuple(array.shape)} of {array.dtype}"


def convert_array(array: SupportsArray, channels: ChannelOrder) -> Image.Image:
    """Convert an array or a tensor to an image.

    Args:
        array: uint8 (height, width, 3); a tensor of torch may also be uint8 (3, height, width).
        channels: Order of the color channels.

    Returns:
        A new image of mode RGB.

    Raises:
        ImageError: The array has another shape or dtype. The message says how to correct it.
    """
    name = describe_array(array)
    pixels = _read_tensor(array, name) if is_torch_tensor(array) else _read_array(array, name)
    if pixels.size == 0:
        raise ImageError(f"{name} is empty", "give an image of at least 1 x 1 pixels")
    rgb = pixels if channels == "rgb" else pixels[:, :, ::-1]
    return Image.fromarray(np.ascontiguousarray(rgb))


def to_numpy(array: SupportsArray) -> npt.NDArray[Any]:
    """Convert an array or a tensor, also one on a GPU, to a numpy array.

    Args:
        array: The array or tensor.

    Returns:
        The array, which may share memory with the tensor.

    Raises:
        ImageError: The library of the tensor refuses the conversion.
    """
    tensor: Any = array
    try:
        if is_torch_tensor(tensor):
            tensor = tensor.detach().cpu()
        return np.asarray(tensor)
    except Exception as error:  # each library has its own errors
        raise ImageError(
            f"{describe_array(array)} cannot be converted to a numpy array"
            f" ({type(error).__name__})",
            "give a dense uint8 array in the memory of the CPU",
        ) from error


def _read_array(array: SupportsArray, name: str) -> npt.NDArray[np.uint8]:
    """Return the pixels of an array, uint8 (height, width, 3)."""
    pixels = to_numpy(array)
    # The remedies use functions of numpy, because a tensor of TensorFlow has no such methods.
    if pixels.dtype != np.uint8:
        raise _make_dtype_error(name, "np.round(255 * x).astype('uint8')")
    if pixels.ndim == 2:
        raise ImageError(
            f"{name} has no color axis", "convert a gray image with np.stack([x] * 3, axis=-1)"
        )
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        remedy = "give (height, width, 3)"
        if pixels.ndim == 3 and pixels.shape[0] == 3:
            remedy += ": np.transpose(x, (1, 2, 0))"
        elif pixels.ndim == 3 and pixels.shape[2] == 4:
            remedy += ": x[:, :, :3], or give a Pillow image, whose transparency is handled"
        raise ImageError(f"{name} does not have three channels as its last axis", remedy)
    return pixels


def _read_tensor(tensor: SupportsArray, name: str) -> npt.NDArray[np.uint8]:
    """Return the pixels of a tensor of torch, uint8 (height, width, 3), in either layout."""
    if str(tensor.dtype) != "torch.uint8":
        raise _make_dtype_error(name, "(255 * x).round().to(torch.uint8)")
    shape = tuple(tensor.shape)
    remedy = "give (3, height, width) or (height, width, 3)"
    if len(shape) == 2:
        raise ImageError(f"{name} has no color axis", f"{remedy}: x.expand(3, -1, -1)")
    if len(shape) != 3 or 3 not in (shape[0], shape[2]):
        if len(shape) == 3 and shape[0] == 1:
            remedy += ": x.expand(3, -1, -1)"
        elif len(shape) == 3 and shape[0] == 4:
            remedy += ": x[:3], or give a Pillow image, whose transparency is handled"
        raise ImageError(f"{name} does not have three channels as its first or last axis", remedy)
    if shape[0] == shape[2]:
        raise ImageError(
            f"{name} may be (channels, height, width) or (height, width, channels)",
            "give a numpy array (height, width, 3): x.permute(1, 2, 0).numpy() if the channels"
            " are the first axis, otherwise x.numpy()",
        )
    pixels = to_numpy(tensor)
    return pixels.transpose(1, 2, 0) if shape[0] == 3 else pixels


def _make_dtype_error(name: str, conversion: str) -> ImageError:
    return ImageError(
        f"{name} is not uint8",
        f"give values from 0 to 255 as uint8; convert values from 0 to 1 with {conversion}",
    )
