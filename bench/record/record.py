"""Defines `Record`, and reads records from JSON files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from tinyvit import __version__
from tinyvit.bench.record.accuracy import AccuracyResult
from tinyvit.bench.record.artifact_and_device import DeviceInfo
from tinyvit.bench.record.counts import require_possible_counts
from tinyvit.bench.record.latency import BaselineResult, LatencyResult, PeakRates
from tinyvit.bench.record.ranges import require_possible_numbers
from tinyvit.bench.record.sensitivity import SensitivityResult
from tinyvit.errors import RequestError
from tinyvit.files.regular_files import open_regular_file
from tinyvit.serialization import parse_dataclass, parse_json

SCHEMA = 3
"""Version of the JSON format. Records of another version are refused."""
PACKAGE_VERSION = f"tinyvit-edge {__version__}"
"""Name and version of this package, for `Record.package`."""
MAX_BYTES = 256 * 2**20
"""Size of the largest record file that is read. A file may come from an untrusted source."""
_REMEDY = (
    "give a file with the output of tinyvit-bench latency --json, accuracy --json or sensitivity"
    " --json"
)

RecordKind = Literal["latency", "accuracy", "sensitivity"]
Scalar: TypeAlias = "str | int | float | bool | None"
"""Type of the values in `Record.settings` and `Record.dataset`."""


def current_time() -> str:
    """Return the current UTC time to the second, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Record:
    """The results of one run of tinyvit-bench.

    Attributes:
        kind: Whether latency, accuracy or sensitivity was measured.
        date: Start of the run, UTC, ISO 8601.
        package: Name and version of this package.
        device: The machine on which the artifacts were measured.
        settings: Values of the options that affect the results, by the option's name.
        warnings: Sentences about anything that makes the results less reliable.
        failures: One line per artifact or baseline that could not be measured: its name and the
            reason.
        latency: Results of a latency record; empty for other kinds.
        accuracy: Results of an accuracy record; empty for other kinds.
        sensitivity: Results of a sensitivity record; empty for other kinds.
        dataset: Facts about the images of an accuracy or sensitivity record: "source" (a
            description), "images" (their number) and, for accuracy, "names_and_classes_sha256".
            Empty for a latency record.
        peak_rates: Highest measured rates of the device; None if not measured.
        baselines: Baselines that were measured alternately with the artifacts of a latency record.
    """

    kind: RecordKind
    date: str
    package: str
    device: DeviceInfo
    settings: dict[str, Scalar]
    warnings: tuple[str, ...]
    failures: tuple[str, ...] = ()
    latency: tuple[LatencyResult, ...] = ()
    accuracy: tuple[AccuracyResult, ...] = ()
    sensitivity: tuple[SensitivityResult, ...] = ()
    dataset: dict[str, Scalar] = field(default_factory=dict)
    peak_rates: PeakRates | None = None
    baselines: tuple[BaselineResult, ...] = ()

    def to_json(self) -> str:
        """Return the record as one line of JSON.

        The JSON object has the key "schema" and the fields of the record as keys, except that
        "results" replaces "latency", "accuracy" and "sensitivity".
        """
        data = asdict(self)
        results = {kind: data.pop(kind) for kind in get_args(RecordKind)}[self.kind]
        return json.dumps({"schema": SCHEMA, **data, "results": results}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> Record:
        """Parse the JSON text of a record.

        Args:
            text: JSON in the format of `to_json`, as text or UTF-8 bytes. It may come from an
                untrusted source.
            name: Name of the record in error messages.

        Raises:
            RequestError: The text is not a record, has another schema version, contains a number
                that no measurement can have, or has too many entries (`counts`).
        """
        try:
            data = parse_json(text, MAX_BYTES)
            if not isinstance(data, dict) or "schema" not in data:
                raise ValueError("it has no schema version")
            _require_schema(data.pop("schema"), name)
            if "results" not in data or data.get("kind") not in get_args(RecordKind):
                raise ValueError("it has no results of a known kind")
            require_possible_counts(data)
            data[data["kind"]] = data.pop("results")  # the field `latency` or `accuracy`
            record = parse_dataclass(cls, data, name="it")
            require_possible_numbers(record)
            return record
        except UnicodeDecodeError as error:
            raise RequestError(f"{name} is not text in UTF-8", _REMEDY) from error
        except ValueError as error:
            cause = f"{name} is not a record of tinyvit-bench ({error})"
            raise RequestError(cause, _REMEDY) from error


def _require_schema(schema: Any, name: str) -> None:
    if schema != SCHEMA:
        raise RequestError(
            f"{name} is a record of schema version {schema!r}, but this version of tinyvit-edge"
            f" reads version {SCHEMA}",
            "measure again, or read it with the version of tinyvit-edge that wrote it",
        )


def read_record(path: Path) -> Record:
    """Read a record from a file.

    Args:
        path: File with the JSON text of a record.

    Raises:
        RequestError: The file is not a record, or is larger than `MAX_BYTES`.
        OSError: The file cannot be read.
    """
    with open_regular_file(path) as file:
        return Record.from_json(file.read(MAX_BYTES + 1), str(path))
