"""Large images are used in smaller numbers."""

from __future__ import annotations

import pytest

from tinyvit.quant.images.image_counts import choose_batch_size, scale_image_count


@pytest.mark.parametrize(
    ("height", "width", "batch"),
    [(224, 224, 8), (256, 256, 8), (384, 384, 3), (512, 512, 2), (512, 1024, 1), (2048, 4096, 1)],
)
def test_fewer_large_images_pass_through_the_network_together(
    height: int, width: int, batch: int
) -> None:
    assert choose_batch_size(height, width) == batch


@pytest.mark.parametrize(
    ("count", "side", "scaled"),
    [(256, 224, 256), (256, 512, 256), (256, 1024, 64), (1000, 1024, 250), (256, 768, 113)],
)
def test_numbers_of_images_shrink_with_their_size(count: int, side: int, scaled: int) -> None:
    assert scale_image_count(count, side, side) == scaled
