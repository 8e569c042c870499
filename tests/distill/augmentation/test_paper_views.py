"""Views by the paper's rules are equal, bit by bit, to those that the paper's code makes.

The hashes are those of the float32 arrays (3, size, size) that the transform of microsoft/Cream
(TinyViT/data/augmentation, with its default settings and ImageNet's mean and standard deviation)
returned for the same images and seeds, with Pillow 9.5.0 and numpy 2.4.6. 400 views were compared.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tinyvit.distill.augmentation.paper_views import make_paper_view
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.augmentation.views import ViewSource, make_view
from tinyvit.errors import RequestError

MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)


def make_image(index: int) -> Image.Image:
    """Make an image of colored squares and noise, without any function of Pillow."""
    random = np.random.RandomState(100 + index)
    height, width = 40 + 17 * index % 90 + index, 52 + 31 * index % 70
    squares = random.randint(0, 256, (height // 8 + 2, width // 8 + 2, 3)).astype(np.uint8)
    large = np.kron(squares, np.ones((8, 8, 1), np.uint8))[:height, :width]
    noise = random.randint(0, 128, (height, width, 3))
    return Image.fromarray((large // 2 + noise).astype(np.uint8))


def make_normalized_view(number: int, size: int) -> npt.NDArray[np.float32]:
    """Make view `number` of the reference, normalized as torchvision does."""
    pixels, erasure = make_paper_view(make_image(number % 12), 1000 + 77 * number, size)
    view = (pixels.astype(np.float32) / np.float32(255) - MEAN) / STD
    view = np.ascontiguousarray(view.transpose(2, 0, 1))
    if erasure is not None:
        _, height, width = erasure.noise.shape
        rows = slice(erasure.top, erasure.top + height)
        view[:, rows, erasure.left : erasure.left + width] = erasure.noise
    return view


@pytest.mark.parametrize(
    ("number", "size", "expected"),
    [
        (0, 32, "21f75cc693939ed5"),
        (1, 32, "981584a91f2050e4"),
        (2, 32, "eef1d81554c0d5a5"),  # with erasing, as 6, 9 and 13
        (3, 32, "152783b39bfad6cd"),
        (6, 32, "a277764d583749ce"),
        (9, 32, "0b503c4f1fa80652"),
        (13, 32, "6c1958359da4e320"),
        (0, 48, "55e59bcdc2390592"),
        (2, 48, "d5f1d031e15c2641"),
        (6, 48, "01d2c9f226a90d2e"),
    ],
)
def test_a_view_is_that_of_the_papers_code(number: int, size: int, expected: str) -> None:
    view = make_normalized_view(number, size)
    assert hashlib.sha256(view.tobytes()).hexdigest()[:16] == expected


def test_a_hundred_views_are_those_of_the_papers_code() -> None:
    """They include all operations, both signs, and images that are higher or wider."""
    views = np.stack([make_normalized_view(number, 32) for number in range(100)])
    assert hashlib.sha256(views.tobytes()).hexdigest()[:16] == "d38160829c2c9ca5"


def test_views_at_another_size_have_the_same_random_numbers() -> None:
    for seed in range(60):
        small, large = (make_paper_view(make_image(3), seed, size)[1] for size in (56, 112))
        assert (small is None) == (large is None)
        if small is not None and large is not None:
            assert abs(2 * small.top - large.top) <= 1
            assert abs(2 * small.noise.shape[1] - large.noise.shape[1]) <= 1


@pytest.mark.parametrize("size", [(400, 20), (20, 400), (500, 3), (3, 500), (1, 1)])
def test_narrow_images_have_views_too(size: tuple[int, int]) -> None:
    for seed in range(5):
        assert make_paper_view(Image.new("RGB", size), seed, 32)[0].shape == (32, 32, 3)


def test_a_view_source_follows_the_papers_rule() -> None:
    source = ViewSource(make_image, 12, 32, Augmentation(rule="paper"))
    view = make_view(source, 2, 1000 + 77 * 2)
    pixels, erasure = make_paper_view(make_image(2), 1000 + 77 * 2, 32)
    assert np.array_equal(view.pixels, pixels)
    assert view.erasure is not None
    assert erasure is not None
    assert np.array_equal(view.erasure.noise, erasure.noise)
    assert (view.partner, view.own_fraction) == (2, 1.0)


def test_the_papers_rule_has_no_other_settings() -> None:
    with pytest.raises(RequestError, match='rule "paper" was combined with another value of flip'):
        Augmentation(rule="paper", flip=0.3)
    assert Augmentation(rule="paper", mixup=0.8, cutmix=1.0).mixup == 0.8
