"""Measures what decoding JPEG files at a reduced size changes.

    python -m tinyvit.studies.reduced_decoding FOLDER [--filter F] [--limit N]
    python -m tinyvit.studies.reduced_decoding FOLDER --artifact FILE [--enlarge X] [--grain S]

The first form resizes each JPEG file of a folder after decoding it completely and after decoding it
at a half, a quarter and an eighth of its size, and shows the differences of the pixels. The size
after resizing is chosen so that the reduced image is larger by the ratios in the table.

The second form classifies the photographs of class folders, decoded in both ways. They are first
enlarged, given noise as that of a camera, and saved as JPEG, because data sets of large photographs
are rare.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.data.class_folders import read_labeled_images
from tinyvit.data.listing import list_images
from tinyvit.images.decoding import open_image, open_image_for_resizing
from tinyvit.images.reduced_size import DecodedImage, is_jpeg
from tinyvit.preprocess import FILTER_NAMES, Interpolation, Preprocess
from tinyvit.runtimes.classifier import Classifier

SCALES = (2, 4, 8)
RATIOS = (1.5, 2.0, 2.25, 3.0, 4.0)
"""Sizes of the reduced image, divided by the size after resizing."""
_MIN_SIDE_PX = 8
"""Photographs that would be resized to less than this are left out of a row."""
_QUALITY = 90
_EXAMPLES = "  python -m tinyvit.studies.reduced_decoding photographs/"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.reduced_decoding",
        "Measure what decoding JPEG files at a reduced size changes.",
        _EXAMPLES,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="Folder of JPEG files.")
    parser.add_argument("--filter", choices=FILTER_NAMES, default="bicubic", help="Filter.")
    parser.add_argument("--limit", type=positive_int, default=250, help="Number of files.")
    parser.add_argument("--artifact", type=Path, metavar="FILE", help="Classify with this file.")
    parser.add_argument("--enlarge", type=float, default=5.0, help="Factor of the enlargement.")
    parser.add_argument("--grain", type=float, default=8.0, help="Noise to add, in gray levels.")
    args = parser.parse_args(argv)
    if args.artifact is None:
        return run_guarded(lambda: _show_differences(args.folder, args.filter, args.limit))
    return run_guarded(lambda: _show_classes(args))


def measure_difference(file: Path, scale: int, size: int, interpolation: Interpolation) -> float:
    """Measure the mean difference of resized pixels, in levels, of decoding at a reduced size.

    Args:
        file: A JPEG file.
        scale: What the size is divided by: 2, 4 or 8.
        size: The size to which the shorter side is resized, in pixels.
        interpolation: The filter.
    """
    preprocess = Preprocess(size, size, interpolation=interpolation)
    full = preprocess.resize_and_crop(open_image(file, exif=False))
    with Image.open(file) as image:
        width, height = image.size
        drafted = image.draft(None, (width // scale, height // scale))
        assert drafted is not None
        reduced = DecodedImage(image.convert("RGB"), width, height, drafted[1])
    return float(np.abs(preprocess.resize_and_crop(reduced).astype(int) - full).mean())


def _show_differences(folder: Path, interpolation: Interpolation, limit: int) -> int:
    files = [file for file in list_images(folder) if _is_jpeg(file)]
    files = files[:: max(1, len(files) // limit)][:limit]
    print(f"{len(files)} photographs, {interpolation}; differences in levels of 255")
    print("| reduction | ratio | mean | 95% of the photographs below | largest |")
    print("|---|---|---|---|---|")
    for scale in SCALES:
        for ratio in RATIOS:
            differences = []
            for file in files:
                with Image.open(file) as image:
                    size = int(min(image.size) / (scale * ratio))
                if size >= _MIN_SIDE_PX:
                    differences.append(measure_difference(file, scale, size, interpolation))
            if differences:
                high = np.quantile(differences, 0.95)
                row = f"{np.mean(differences):.2f} | {high:.2f} | {max(differences):.2f}"
                print(f"| 1/{scale} | {ratio} | {row} |", flush=True)
    return 0


def _is_jpeg(file: Path) -> bool:
    with Image.open(file) as image:
        return is_jpeg(image)


def make_large_jpeg(file: Path, factor: float, grain: float, seed: int) -> bytes:
    """Enlarge a photograph, add noise, and encode it as JPEG.

    Args:
        file: An image file.
        factor: Factor of the enlargement.
        grain: Standard deviation of the noise, in gray levels.
        seed: Seed of the noise.
    """
    image = open_image(file, exif=False)
    size = (round(image.width * factor), round(image.height * factor))
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32)
    rng = np.random.default_rng(seed)
    noise = grain * rng.standard_normal((*pixels.shape[:2], 1), np.float32)
    noisy = np.clip(np.round(pixels + noise), 0, 255).astype(np.uint8)
    output = io.BytesIO()
    Image.fromarray(noisy).save(output, "JPEG", quality=_QUALITY)
    return output.getvalue()


def _show_classes(args: argparse.Namespace) -> int:
    with Classifier(args.artifact, threads=1) as classifier:
        images = read_labeled_images(args.folder, classifier.labels)
        step = max(1, len(images) // args.limit)
        indices = range(0, len(images), step)[: args.limit]
        classes = images.class_indices[indices.start : indices.stop : indices.step]
        contents = (
            make_large_jpeg(images.files[index], args.enlarge, args.grain, index)
            for index in indices
        )
        differences: list[float] = []
        pairs = list(_decode_twice(contents, classifier.preprocess, differences))
        # A Pillow image of the size of the network's input is not resized again.
        size = classifier.preprocess.size
        same_size = replace(classifier.preprocess, resize=size)
    with Classifier(args.artifact, threads=1, preprocess=same_size) as classifier:
        top1 = [classifier.logits(images_of_kind).argmax(axis=1) for images_of_kind in zip(*pairs)]
    for name, predicted in zip(("complete", "reduced"), top1):
        print(f"{name}: top-1 {np.mean(predicted == classes):.2%}")
    print(
        f"{len(pairs)} photographs: mean difference {np.mean(differences):.2f} levels, largest"
        f" {max(differences):.2f}; other class for {np.count_nonzero(top1[0] != top1[1])}"
    )
    return 0


def _decode_twice(
    contents: Iterator[bytes], preprocess: Preprocess, differences: list[float]
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Yield the resized pixels of each file, decoded completely and at a reduced size."""
    for content in contents:
        full = preprocess.resize_and_crop(open_image(content, exif=False))
        reduced = preprocess.resize_and_crop(
            open_image_for_resizing(content, preprocess.resized_size, exif=False)
        )
        differences.append(float(np.abs(full.astype(int) - reduced).mean()))
        yield full, reduced


if __name__ == "__main__":
    sys.exit(main())
