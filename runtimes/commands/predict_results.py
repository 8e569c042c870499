"""Collects and prints the results of tinyvit-predict: as text, JSON or CSV, and as images."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinyvit.errors import ImageError
from tinyvit.runtimes.predictions import Prediction
from tinyvit.text.csv_text import format_csv
from tinyvit.text.plurals import format_count

_CSV_HEADER = ("image", "rank", "index", "label", "wnid", "score", "error")
_SHOWN_CLASSES = 5
"""Number of classes that the summary names."""


@dataclass
class PredictResults:
    """The results for all images of a command, in the order of the images.

    Attributes:
        artifact: The file, as the user gave it.
        records: One JSON object for each image.
    """

    artifact: str
    records: list[dict[str, Any]] = field(default_factory=list)
    _start_s: float = field(default_factory=time.perf_counter)

    @property
    def has_errors(self) -> bool:
        """Whether any image could not be read."""
        return any("error" in record for record in self.records)

    def add(self, name: str, result: Sequence[Prediction] | ImageError) -> None:
        """Add the result for one image.

        Args:
            name: The path or URL of the image.
            result: Its predictions, or why it could not be read.
        """
        if isinstance(result, ImageError):
            self.records.append({"image": name, "error": str(result)})
        else:
            predictions = [asdict(prediction) for prediction in result]
            self.records.append({"image": name, "predictions": predictions})

    def format_json(self) -> str:
        """Return the results as one JSON object in one line."""
        return json.dumps({"artifact": self.artifact, "results": self.records})

    def format_csv(self) -> list[str]:
        """Return the lines of a table: one for each prediction, or for an unreadable image."""
        rows = []
        for record in self.records:
            if "error" in record:
                rows.append((record["image"], "", "", "", "", "", record["error"]))
            for rank, prediction in enumerate(record.get("predictions", ()), start=1):
                index, label = str(prediction["index"]), prediction["label"]
                score = f"{prediction['score']:.6f}"
                row = (record["image"], str(rank), index, label, prediction["wnid"], score, "")
                rows.append(row)
        return format_csv(_CSV_HEADER, rows).splitlines()

    def format_summary(self) -> str:
        """Return a line with the numbers of images, the most frequent classes, and the time."""
        seconds = time.perf_counter() - self._start_s
        labels = [
            record["predictions"][0]["label"] for record in self.records if "predictions" in record
        ]
        parts = [format_count(len(labels), "image") + " classified"]
        unreadable_count = len(self.records) - len(labels)
        if unreadable_count:
            parts.append(f"{unreadable_count} failed")
        most_common = Counter(labels).most_common()
        names = ", ".join(f"{label} ({count})" for label, count in most_common[:_SHOWN_CLASSES])
        if len(most_common) > _SHOWN_CLASSES:
            names += f" and {len(most_common) - _SHOWN_CLASSES} more"
        summary = ", ".join(parts)
        if names:
            summary += f"; top-1 classes: {names}"
        return f"{summary}; {seconds:.1f} s"


def choose_saved_names(images: Sequence[str]) -> list[str]:
    """Choose a different file name for each annotated image.

    Args:
        images: Names of the images: paths, or file names of downloads.

    Returns:
        For each image its name with the suffix ".jpg". If several images have one name, "-2", "-3"
        and so on are added to it.
    """
    names: list[str] = []
    used: set[str] = set()
    for image in images:
        stem = Path(image).stem or "image"
        number, name = 1, stem
        while name.lower() in used:  # On some systems, upper and lower case are the same file.
            number += 1
            name = f"{stem}-{number}"
        used.add(name.lower())
        names.append(f"{name}.jpg")
    return names
