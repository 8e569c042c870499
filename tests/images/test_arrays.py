"""Tensors become images, or an ImageError says how to convert them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinyvit.errors import ImageError
from tinyvit.images.decoding import open_image

COLORS = np.random.default_rng(1).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def test_tensors_of_both_layouts_are_read(torch: Any) -> None:
    tensor = torch.from_numpy(COLORS)
    for image in (tensor, tensor.permute(2, 0, 1), tensor.permute(2, 0, 1).contiguous()):
        assert np.array_equal(open_image(image), COLORS)
        assert np.array_equal(open_image(image, channels="bgr"), COLORS[:, :, ::-1])


def test_subclasses_of_tensors_are_read(torch: Any) -> None:
    class ImageTensor(torch.Tensor):
        pass

    image = torch.from_numpy(COLORS).permute(2, 0, 1).as_subclass(ImageTensor)
    assert np.array_equal(open_image(image), COLORS)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((3, 5, 3), "uint8", r"may be \(channels, height, width\) or"),
        ((3, 3, 3), "uint8", r"may be \(channels, height, width\) or"),
        ((5, 6), "uint8", "no color axis"),
        ((1, 5, 6), "uint8", r"x\.expand\(3, -1, -1\)"),
        ((4, 5, 6), "uint8", r"x\[:3\]"),
        ((2, 3, 5, 6), "uint8", "three channels"),
        ((3, 0, 6), "uint8", "is empty"),
        ((3, 5, 6), "float32", r"not uint8: .*\(255 \* x\)\.round\(\)\.to\(torch\.uint8\)"),
        ((3, 5, 6), "bfloat16", "not uint8"),
        ((3, 5, 6), "int64", "not uint8"),
    ],
)
def test_other_tensors_are_refused_with_a_remedy(
    torch: Any, shape: tuple[int, ...], dtype: str, message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(torch.zeros(shape, dtype=getattr(torch, dtype)))


def test_a_tensor_without_values_is_refused(torch: Any) -> None:
    with pytest.raises(ImageError, match="cannot be converted to a numpy array"):
        open_image(torch.zeros((3, 5, 6), dtype=torch.uint8, device="meta"))


def test_arrays_of_other_libraries_are_read() -> None:
    class ForeignArray:
        shape, dtype = COLORS.shape, COLORS.dtype

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            return COLORS

    assert np.array_equal(open_image(ForeignArray()), COLORS)


class TensorFlowTensor:
    """A stand-in for a tensor of TensorFlow, which has no numpy methods such as `transpose`."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)
        self.shape, self.dtype = self._values.shape, self._values.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._values

    def __rmul__(self, factor: float) -> TensorFlowTensor:
        return TensorFlowTensor(factor * self._values)


@pytest.mark.parametrize(
    ("values", "conversion"),
    [
        (COLORS.transpose(2, 0, 1), "np.transpose(x, (1, 2, 0))"),
        (COLORS.astype(np.float32) / 255, "np.round(255 * x).astype('uint8')"),
    ],
)
def test_remedies_work_for_tensors_of_tensorflow(values: Any, conversion: str) -> None:
    tensor: Any = TensorFlowTensor(values)
    with pytest.raises(ImageError) as caught:
        open_image(tensor)
    assert caught.value.remedy.endswith(conversion)
    image = open_image(eval(conversion, {"np": np, "x": tensor}))
    assert np.array_equal(np.asarray(image), COLORS)
