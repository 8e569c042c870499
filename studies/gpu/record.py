"""Writes the record of the study: a JSON file that is written again after every row."""

from __future__ import annotations

import json
import math
import platform
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinyvit.bench.machine import count_cores, describe_cpu
from tinyvit.files.file_io import write_atomically
from tinyvit.processes.limited_program import ProcessLimitError, RunLimits, run_bounded

SIGNIFICANT_DIGITS = 5
"""Number of significant decimal digits to which the floats in a record are rounded."""
NO_TIME = "skipped: time budget"
"""Status of a row or part that did not fit into the time budget."""

_MAX_ERROR_LENGTH = 300

Row = dict[str, Any]


class Part:
    """One part of the record, with its rows, checks and time budget.

    Attributes:
        rows: The rows, in the order of measurement.
        failed: Whether a check or a measurement failed.
    """

    def __init__(self, name: str, deadline_s: float, save: Callable[[], None]) -> None:
        """Begin a part.

        Args:
            name: Name of the part.
            deadline_s: Time of `time.monotonic` after which no measurement begins.
            save: A function that writes the whole record.
        """
        self._name, self._deadline_s, self._save = name, deadline_s, save
        self._begin_s = time.monotonic()
        self._seconds = 0.0
        self._checks: list[Row] = []
        self.rows: list[Row] = []
        self.failed = False

    @property
    def remaining_s(self) -> float:
        """Seconds that are left of the part's time budget; negative if it is used up."""
        return self._deadline_s - time.monotonic()

    def run(self, fill: Callable[[Part], None]) -> None:
        """Fill the part, or record why that is not possible.

        Args:
            fill: A function that adds the rows and checks of the part.
        """
        if self.remaining_s <= 0:
            self.add({"status": NO_TIME})
            return
        try:
            fill(self)
        except Exception as error:  # one failure must not prevent the other parts
            self._add_failure({}, error)
        self._update()

    def measure(
        self, case: Row, measurement: Callable[[], Row], needed_s: float = 0.0
    ) -> Row | None:
        """Make a measurement and record its row, or the reason why there is none.

        Args:
            case: The first entries of the row, which say what is measured.
            measurement: A function that returns the other entries.
            needed_s: Estimate of the seconds that the measurement takes.

        Returns:
            The row; None if the measurement failed or did not fit into the time budget.
        """
        if self.remaining_s < needed_s or self.remaining_s <= 0:
            self.add({**case, "status": NO_TIME})
            return None
        try:
            row = {**case, **measurement()}
        except Exception as error:  # one failure must not prevent the other measurements
            self._add_failure(case, error)
            return None
        self.add(row)
        return row

    def _add_failure(self, case: Row, error: Exception) -> None:
        self.failed = True
        traceback.print_exception(error)
        first_line = next(iter(str(error).splitlines()), "")[:_MAX_ERROR_LENGTH]
        self.add({**case, "status": f"failed: {type(error).__name__}: {first_line}"})

    def add(self, row: Row) -> None:
        """Add a row, write the record, and print the row.

        Args:
            row: The entries of the row.
        """
        self.rows.append(row)
        self._update()
        text = ", ".join(f"{name} {value}" for name, value in round_floats(row).items())
        print(f"{self._name}: {text}", flush=True)

    def check(self, name: str, value: float, limit: float) -> None:
        """Record whether a value is at most a limit. NaN fails.

        Args:
            name: A phrase that says what the value is.
            value: The value.
            limit: The largest allowed value.
        """
        passed = value <= limit
        self.failed = self.failed or not passed
        self._checks.append({"name": name, "value": value, "limit": limit, "passed": passed})
        self._update()

    def _update(self) -> None:
        """Update the duration of the part, and write the whole record."""
        self._seconds = time.monotonic() - self._begin_s
        self._save()

    def describe(self) -> Row:
        """Return the JSON values of the part in the record."""
        return {"seconds": self._seconds, "checks": self._checks, "rows": self.rows}


class Record:
    """The record of one run of the study.

    Attributes:
        parts: The parts that have begun, by name.
    """

    def __init__(self, path: Path, settings: Row, total_s: float) -> None:
        """Begin a record.

        Args:
            path: The file to write.
            settings: The settings of the study, as JSON values.
            total_s: Seconds from now after which no measurement begins.
        """
        self._path, self._settings = path, settings
        self._begin_s = time.monotonic()
        self._deadline_s = self._begin_s + total_s
        self._machine = describe_machine()
        self.parts: dict[str, Part] = {}

    @property
    def passed(self) -> bool:
        """Whether no check and no measurement failed."""
        return not any(part.failed for part in self.parts.values())

    def begin_part(self, name: str, budget_s: float) -> Part:
        """Begin a part.

        Args:
            name: Name of the part.
            budget_s: Seconds from now after which the part begins no measurement.
        """
        deadline_s = min(time.monotonic() + budget_s, self._deadline_s)
        self.parts[name] = Part(name, deadline_s, self.save)
        return self.parts[name]

    def save(self) -> None:
        """Write the record to its file, in place of the previous version."""
        data = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": self._machine,
            "settings": self._settings,
            "seconds": time.monotonic() - self._begin_s,
            "passed": self.passed,
            "parts": {name: part.describe() for name, part in self.parts.items()},
        }
        write_atomically(self._path, json.dumps(round_floats(data), indent=1) + "\n")


def round_floats(value: Any) -> Any:
    """Round all floats in JSON values to `SIGNIFICANT_DIGITS`; NaN and infinity become strings.

    Args:
        value: A value of any JSON type; tuples are allowed too.
    """
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {name: round_floats(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [round_floats(item) for item in value]
    return value


def describe_machine() -> Row:
    """Describe the GPU, the processor and the software, without the name of the machine."""
    has_gpu = torch.cuda.is_available()
    return {
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
        "gpu_memory_bytes": torch.cuda.get_device_properties(0).total_memory if has_gpu else None,
        "driver": _read_driver_version() if has_gpu else None,
        "cuda": torch.version.cuda,
        "cudnn": _read_cudnn_version() if has_gpu else None,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "cpu": describe_cpu(),
        "cores": count_cores(),
    }


def _read_cudnn_version() -> int | None:
    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return version


def _read_driver_version() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        process = run_bounded(command, RunLimits(seconds=20, output_bytes=2**20))
    except (OSError, ProcessLimitError):
        return None
    return next(iter(process.stdout.decode("utf-8", "replace").split()), None)
