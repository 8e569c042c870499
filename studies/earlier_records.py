"""Reads the record of an earlier run of a study, which keeps what it does not measure again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tinyvit.bench.record import DeviceInfo
from tinyvit.errors import RequestError
from tinyvit.serialization import read_json

Item = TypeVar("Item")


def read_earlier_items(path: Path, read_items: Callable[[Any], list[Item]]) -> list[Item]:
    """Read the measurements in the record of an earlier run.

    Args:
        path: The record.
        read_items: Reads the measurements from the content of the file.

    Returns:
        What `read_items` returns; no measurements if there is no record.

    Raises:
        RequestError: The file is not a record of the study.
    """
    if not path.exists():
        return []
    try:
        return read_items(read_json(path))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{path} is not a record of this study ({type(error).__name__})",
            "move it away, or give another folder with -o",
        ) from error


def list_comparable_items(record: Any, key: str, device: DeviceInfo, is_quick: bool) -> list[Any]:
    """List the measurements of a record that can stand beside those of this run.

    Args:
        record: The content of the file.
        key: The field with the measurements.
        device: The present machine.
        is_quick: Whether the present sizes only try the program.

    Returns:
        The content of the field; [] if the record is of another processor or kind of sizes.
    """
    if not isinstance(record, dict) or record.get("quick") is not is_quick:
        return []
    if record.get("device", {}).get("cpu") != device.cpu:
        return []
    return list(record[key])
