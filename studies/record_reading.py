"""Compares the time of reading records from a store and from files in the TinyViT paper's format.

A store is a folder of saved teacher predictions, and a record is the prediction for one augmented
image.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.data.class_folders import ImageFolder
from tinyvit.distill.logits.paper_format import (
    make_paper_record_dtype,
    open_paper_logits,
    write_paper_logits,
)
from tinyvit.distill.logits.store import Store
from tinyvit.distill.training.batches.sample_order import shuffle_indices

MAX_TIMED_RECORDS = 2000
"""Maximum number of records whose reading is timed."""
_ROUNDS = 7


@dataclass(frozen=True)
class RecordTimes:
    """Median time of reading one record, in microseconds.

    Attributes:
        store_us: Time of reading and checking a record of the store.
        paper_us: Time of reading a record in the paper's format, including its share of the time
            of reading the epoch's keys (the names of the images, in the order of their records).
    """

    store_us: float
    paper_us: float


def time_record_reading(store: Store, images: ImageFolder) -> RecordTimes:
    """Time reading random records, from the store and from files in the paper's format.

    Args:
        store: The store.
        images: The images for which the store has predictions.
    """
    record_count = min(len(images), MAX_TIMED_RECORDS)
    positions = shuffle_indices(seed=0, epoch=0, sample_count=store.header.records_per_epoch)[
        :record_count
    ].tolist()
    records = store.read_epoch(epoch=0)

    def read_store() -> None:
        for position in positions:
            store.read_record(epoch=0, records=records, position=position)

    with tempfile.TemporaryDirectory(prefix="tinyvit-") as folder:
        epoch_folder = write_paper_logits(store, images.keys, Path(folder))[0]
        paper_logits = open_paper_logits(epoch_folder.parent)
        # The views (augmented versions) of one image have successive positions.
        keys = [images.keys[position // store.header.views_per_image] for position in positions]
        values_path = next(paper_logits.epoch_folders[0].glob("*-values.bin"))
        dtype = make_paper_record_dtype(paper_logits.top_k)

        def read_paper_format() -> None:
            key_lines = values_path.with_name("rank0-keys.txt").read_text(encoding="utf-8")
            offsets = {
                key: index * dtype.itemsize for index, key in enumerate(key_lines.splitlines())
            }
            with values_path.open("rb") as file:
                for key in keys:
                    file.seek(offsets[key])
                    record = np.frombuffer(file.read(dtype.itemsize), dtype)
                    # A training run converts these values too.
                    record["classes"][0].astype(np.int64)
                    record["probabilities"][0].astype(np.float32)

        readers = {"store": read_store, "paper": read_paper_format}
        timings = run_interleaved(readers, rounds=_ROUNDS, warmup=1)
    return RecordTimes(
        store_us=1e3 * timings["store"].median_ms / record_count,
        paper_us=1e3 * timings["paper"].median_ms / record_count,
    )
