"""Defines what the study of scaling measures: all of it, or little of it to try the program."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tinyvit.variants import IMAGENET_1K, IMAGENET_22K

BASE_VARIANT = "tiny_vit_5m_224"
"""The variant of every part but the one that compares variants."""


@dataclass(frozen=True)
class ScalingPlan:
    """The values that each part varies, in ascending order, and the limits of time.

    Attributes:
        img_size: Size of the images in pixels where the size is not varied.
        threads: Numbers of CPU threads.
        batches: Numbers of images in a run.
        img_sizes: Sizes of images in pixels, for windows of the size that they have at `img_size`.
        scaled_sizes: Sizes of images in pixels, multiples of 32, for windows that grow with them.
        variants: Names of variants.
        classes: Numbers of classes.
        listing_counts: Numbers of pictures that are listed and not read.
        picture_counts: Numbers of pictures for accuracy.
        calibration_counts: Numbers of pictures for calibration, at least 32.
        workers: Numbers of Ray workers.
        worker_pictures: Number of pictures that the Ray workers classify together.
        depths: Blocks of the four stages, to make networks small; None for those of the variant.
        long_counts: Numbers of pictures for the parts that run only when named, at least 32.
        long_img_size: Size of the pictures, and of the images of the network, in these parts.
        long_part_seconds: Time of each of these parts, after which no further point of it begins.
        run_seconds: Time for the runs of one point, of which at least three are made.
        part_seconds: Time of a part, after which no further point of it begins.
        calibration_seconds: The same, for the part that calibrates.
        total_seconds: Time of all other parts, after which no further point of them begins.
    """

    img_size: int = 224
    threads: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    img_sizes: tuple[int, ...] = (128, 192, 224, 256, 320, 384, 448, 512, 768, 1024)
    scaled_sizes: tuple[int, ...] = (128, 224, 320, 384, 512)
    variants: tuple[str, ...] = ("tiny_vit_5m_224", "tiny_vit_11m_224", "tiny_vit_21m_224")
    classes: tuple[int, ...] = (10, 100, IMAGENET_1K, 5000, 10_000, IMAGENET_22K)
    listing_counts: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    picture_counts: tuple[int, ...] = (100, 300, 1000, 3000, 10_000)
    calibration_counts: tuple[int, ...] = (32, 100, 300, 1000, 10_000)
    workers: tuple[int, ...] = (1, 2, 4)
    worker_pictures: int = 1024
    depths: tuple[int, int, int, int] | None = None
    long_counts: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    long_img_size: int = 32
    long_part_seconds: float = 7200.0
    run_seconds: float = 2.0
    part_seconds: float = 400.0
    calibration_seconds: float = 1800.0
    total_seconds: float = 3000.0


FULL = ScalingPlan()
"""The plan of the published figures."""
QUICK = ScalingPlan(
    img_size=64,
    batches=(1, 2),
    img_sizes=(64, 96),
    scaled_sizes=(64, 96),
    variants=("tiny_vit_5m_224", "tiny_vit_11m_224"),
    classes=(10, 100),
    listing_counts=(8, 16),
    picture_counts=(8, 16),
    calibration_counts=(32, 40),
    long_counts=(32, 40),
    workers=(1, 2),
    worker_pictures=16,
    depths=(1, 1, 1, 1),
    run_seconds=0.05,
)
"""A plan that only shows that the program works."""


@dataclass
class Budget:
    """The time of one part.

    Attributes:
        seconds: The time after which no further point begins.
    """

    seconds: float
    _start_s: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        """The seconds since the part began."""
        return time.perf_counter() - self._start_s

    @property
    def remaining_s(self) -> float:
        """The seconds that are left, at least 0."""
        return max(0.0, self.seconds - self.elapsed_s)

    def allows(self, expected_s: float = 0.0) -> bool:
        """Return whether a point may begin.

        Args:
            expected_s: The time that the point is expected to take.
        """
        return self.elapsed_s + expected_s <= self.seconds
