"""Prepare the demo model's training images: links to them, and small copies of some.

    python prepare.py --imagenette DIR --tiny-imagenet DIR --photographs DIR -o DATA

DATA then contains three folders:

- train/ and val/: the training images of all folders. Every 25th image of a demo class is in val/.
- last/train/ and last/val/: the same images of the demo's classes only, for the last stage. Some
  images have small copies there, and all photographs of cats are in the tabby's folder.

The images of the tabby and of the espresso have only 64 pixels. Without small copies of the others,
a network learns that a blurred image shows a cat or a coffee, and a sharp one does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

TINY_CLASSES = ("n02123045", "n07920052")
"""WordNet ids of the demo's classes that Imagenette does not have: tabby and espresso."""
LAST_PHOTOGRAPHS = {
    "n02123045": "n02123045",
    "n02123159": "n02123045",
    "n02123394": "n02123045",
    "n02123597": "n02123045",
    "n02124075": "n02123045",
    "n07920052": "n07920052",
}
"""WordNet id of a photograph -> class folder of the last stage. The first five are cats: without
sharp photographs of cats, the network takes their fur for something else."""
HELD_OUT_INTERVAL, SMALL_INTERVAL = 25, 8
"""One of so many images is held out, and one of so many has a small copy."""
PHOTOGRAPH_COPIES, LAST_PHOTOGRAPH_COPIES = 4, 60
"""How often a photograph is used in an epoch, in the first stages and in the last one."""
SMALL_SIZE = 64
"""Width and height of a small copy in pixels."""


def prepare_images(
    class_folders: dict[str, Path], photographs: tuple[Path, ...], output: Path
) -> None:
    """Make the folder of training images.

    Args:
        class_folders: Folders of images by WordNet id: the demo's classes.
        photographs: Images of any classes, whose names begin with a WordNet id and "_".
        output: The folder to make. It must not exist.
    """
    for wnid, folder in class_folders.items():
        images = sorted(file for file in folder.iterdir() if file.is_file())
        for index, image in enumerate(images):
            split = "val" if index % HELD_OUT_INTERVAL == 7 else "train"
            for root in (output, output / "last"):
                _link(image, root / split / wnid / image.name)
            is_copied = split == "train" and index % SMALL_INTERVAL == 0
            if is_copied and wnid not in TINY_CLASSES:
                _save_small_copy(image, output / "last" / "train" / wnid)
    for photograph in photographs:
        wnid = photograph.name.partition("_")[0]
        for number in range(PHOTOGRAPH_COPIES):
            _link(photograph, output / "train" / wnid / f"copy{number}_{photograph.name}")
        if wnid in LAST_PHOTOGRAPHS:
            folder = output / "last" / "train" / LAST_PHOTOGRAPHS[wnid]
            for number in range(LAST_PHOTOGRAPH_COPIES):
                _link(photograph, folder / f"copy{number}_{photograph.name}")


def _link(image: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(image.resolve())


def _save_small_copy(image: Path, folder: Path) -> None:
    """Save the center square of an image with `SMALL_SIZE` pixels on each side."""
    with Image.open(image) as opened:
        pixels = opened.convert("RGB")
    scale = SMALL_SIZE / min(pixels.size)
    width, height = (round(side * scale) for side in pixels.size)
    left, top = (width - SMALL_SIZE) // 2, (height - SMALL_SIZE) // 2
    small = pixels.resize((width, height), Image.Resampling.BICUBIC)
    folder.mkdir(parents=True, exist_ok=True)
    square = small.crop((left, top, left + SMALL_SIZE, top + SMALL_SIZE))
    square.save(folder / f"small_{image.stem}.png")


def _list_photographs(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(file for file in folder.iterdir() if file.name.startswith("n"))


def main() -> None:
    """Run the command with the arguments of the process."""
    parser = argparse.ArgumentParser(description="Prepare the demo model's training images.")
    add = parser.add_argument
    add("--imagenette", type=Path, required=True, help="Imagenette's folder train.")
    add("--tiny-imagenet", type=Path, required=True, help="Folder of Tiny ImageNet's classes.")
    add(
        "--photographs",
        type=Path,
        action="append",
        default=[],
        help="Folder of photographs named by WordNet id, such as n02123045_tabby.JPEG.",
    )
    add("-o", "--output", type=Path, required=True, help="Folder to make.")
    arguments = parser.parse_args()
    class_folders = {folder.name: folder for folder in sorted(arguments.imagenette.iterdir())}
    class_folders |= {wnid: arguments.tiny_imagenet / wnid for wnid in TINY_CLASSES}
    arguments.output.mkdir(parents=True)
    photographs = tuple(_list_photographs(arguments.photographs))
    prepare_images(class_folders, photographs, arguments.output)


if __name__ == "__main__":
    main()
