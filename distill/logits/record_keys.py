"""Relates the keys of records in the paper's format to the images of a folder.

Files that convert-logits wrote have "KEY" for the first view of an image, and "KEY#1", "KEY#2", ...
for further views. KEY is the path of the image relative to the data set.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import PurePosixPath

from tinyvit.errors import RequestError


def find_released_keys(known_keys: Set[str], image_keys: tuple[str, ...]) -> list[str]:
    """Return the keys of all images in the form that files of the paper's code use.

    The paper's code uses the file name without suffix for ImageNet-22k, and the number of the image
    for other class folders (TinyViT/data/imagenet22k_dataset.py and dataset_wrapper.py). Paths are
    accepted too.

    Args:
        known_keys: Some keys of the files.
        image_keys: Keys of the images (paths relative to the data set), in order.

    Raises:
        RequestError: The known keys have none of these forms, or two images have the same key.
    """
    stems = [PurePosixPath(key).stem for key in image_keys]
    numbers = [str(number) for number in range(len(image_keys))]
    for form in (list(image_keys), stems, numbers):
        if known_keys <= set(form) and len(set(form)) == len(form):
            return form
    raise RequestError(
        f"the keys of the logits, such as {min(known_keys, default='(none)')}, are not those of "
        f"the images, such as {image_keys[0]}",
        "use --data with the folder of images that the logits were computed from",
    )


def make_record_keys(image_keys: tuple[str, ...], views_per_image: int) -> list[str]:
    """Return the keys of all records of an epoch in converted files, in the order of the store.

    Args:
        image_keys: Keys of the images, in order.
        views_per_image: Number of views of each image.
    """
    record_keys = []
    for key in image_keys:
        record_keys.append(key)
        record_keys += [f"{key}#{view_number}" for view_number in range(1, views_per_image)]
    return record_keys


def split_record_key(record_key: str) -> tuple[str, int]:
    """Return the key of the image and the number of the view of a key in converted files.

    Args:
        record_key: A key such as "a/1.jpg" for view 0, or "a/1.jpg#2" for view 2.
    """
    key, separator, number = record_key.rpartition("#")
    if separator and number.isdecimal():
        return key, int(number)
    return record_key, 0
