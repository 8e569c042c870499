"""From the store to the paper's layout and back."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from tinyvit.distill.augmentation.pictures import read_training_images
from tinyvit.distill.logits.release import open_release, records_for, write_release
from tinyvit.distill.logits.store import (
    HEADER,
    Store,
    StoreWriter,
    open_store,
    read_header,
    require_matching_images,
)
from tinyvit.errors import RequestError

BLOCK = 2**14
"""Records that are written at once."""


def convert_store(source: Path, data: Path, layout: str, output: Path) -> list[Path]:
    """What was written. layout "store" needs the store.json that layout "tinyvit" puts beside the release's folders: without it nobody
    knows which augmentation the logits are of. Raises RequestError."""
    if output.exists():
        raise RequestError(f"{output} exists", "give -o the name of a new folder")
    pictures = read_training_images(data)
    if layout == "tinyvit":
        store = open_store(source)
        require_matching_images(store, pictures)
        made = write_release(store, pictures.keys, output)
        shutil.copyfile(source / HEADER, output / HEADER)
        return made
    release = open_release(source)
    if not (source / HEADER).is_file():
        raise RequestError(
            f"{source} has no {HEADER}: its augmentation, the release's own, is not reproduced here",
            "make a store with save-logits",
        )
    header = read_header(source / HEADER)
    store = Store(output, header)
    require_matching_images(store, pictures)
    header.save(output / HEADER)
    for epoch in sorted(release.epochs):
        records = records_for(release, epoch, header, pictures.keys)
        with StoreWriter(store, epoch) as writer:
            for start in range(0, len(records), BLOCK):
                block = records[start : start + BLOCK]
                writer.write(
                    start,
                    block["seed"],
                    block["classes"].astype(np.int64),
                    block["probabilities"].astype(np.float64),
                )
    return [store.path(epoch) for epoch in sorted(release.epochs)]
