"""Checks that the seeds of stored predictions are those of their images and epochs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from tinyvit.distill.augmentation.views import compute_view_seed
from tinyvit.distill.logits.header import StoreHeader
from tinyvit.errors import RequestError

RecordIdentity = tuple[str, int, int]
"""Key of the image, number of the view and seed of a record."""


def check_seeds(header: StoreHeader, epoch: int, records: Iterable[RecordIdentity]) -> None:
    """Check that each record's seed is what `compute_view_seed` gives.

    Another seed means that the predictions are for other views, for example because a header of
    this project was put beside files of the paper's code. The seeds of a store whose views follow
    the paper's rules are arbitrary, and are not checked.

    Args:
        header: Header of the store.
        epoch: Epoch of the records, from 0.
        records: The identities of the records.

    Raises:
        RequestError: A seed differs.
    """
    if header.augmentation.rule == "paper":
        return
    for key, view_number, seed in records:
        expected_seed = compute_view_seed(header.seed, epoch, key, view_number)
        if seed != expected_seed:
            raise RequestError(
                f"the predictions for {key} in epoch {epoch} have the seed {seed} instead of "
                f"{expected_seed}, so they are for another view of this image",
                "make the store again with tinyvit-distill save-logits; for the paper's released "
                "logits, remove store.json and use convert-logits",
            )


def check_ordered_seeds(
    header: StoreHeader, epoch: int, keys: Sequence[str], seeds: Iterable[int]
) -> None:
    """Check the seeds of all records of an epoch in the order of the store.

    Args:
        header: Header of the store.
        epoch: Epoch of the records, from 0.
        keys: Keys of the images, in order.
        seeds: The seed of every record: those of all views of the first image, and so on.

    Raises:
        RequestError: A seed differs.
    """
    images_and_views = product(keys, range(header.views_per_image))
    records = ((key, view, seed) for (key, view), seed in zip(images_and_views, seeds))
    check_seeds(header, epoch, records)
