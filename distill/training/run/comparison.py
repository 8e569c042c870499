"""Compares the run in a folder with a requested run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinyvit.distill.training.config import MAX_CONFIG_BYTES
from tinyvit.distill.training.run.toml_files import parse_toml
from tinyvit.errors import RequestError
from tinyvit.files.file_io import read_text


def find_differences(path: Path, requested_text: str) -> list[str]:
    """Find the values of a run.toml that prevent the run from being resumed.

    A run can be resumed with more epochs, and then with another warm-up, or with another patience,
    because these change nothing about the finished epochs.

    Args:
        path: The run.toml of the run in the folder.
        requested_text: The run.toml of the requested run.

    Returns:
        The names ("table.name") of the other values that differ, sorted.

    Raises:
        RequestError: The file cannot be read or parsed.
    """
    existing_tables = _read_tables(path)
    requested_tables = parse_toml(requested_text)
    _accept_changes(existing_tables, requested_tables)
    differences = []
    for table, requested_values in requested_tables.items():
        existing_values = existing_tables.get(table, {})
        for name in requested_values.keys() | existing_values.keys():
            if requested_values.get(name) != existing_values.get(name):
                differences.append(f"{table}.{name}")
    return sorted(differences)


def _read_tables(path: Path) -> dict[str, dict[str, Any]]:
    """Read the tables of a run.toml."""
    try:
        tables = parse_toml(read_text(path, MAX_CONFIG_BYTES))
        if not all(isinstance(table, dict) for table in tables.values()):
            raise ValueError("it has values outside of tables")
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"{path} is damaged ({reason})",
            "use -o with a new folder, or --overwrite to replace that run",
        ) from error
    return tables


def _accept_changes(
    existing_tables: dict[str, dict[str, Any]], requested_tables: dict[str, dict[str, Any]]
) -> None:
    """Replace the values in `existing_tables` that may change when a run is resumed."""
    existing, requested = existing_tables.get("training", {}), requested_tables["training"]
    existing["patience"] = requested["patience"]
    epochs = existing.get("epochs")
    if not isinstance(epochs, int) or epochs == requested["epochs"]:
        return
    if epochs < requested["epochs"]:
        existing["epochs"] = requested["epochs"]
        # A short run has a shorter warm-up; see `presets.scale_warmup`.
        existing["warmup_epochs"] = requested["warmup_epochs"]
    existing_store = existing_tables.get("run", {}).get("store")
    requested_store = requested_tables["run"].get("store")
    if isinstance(existing_store, dict) and isinstance(requested_store, dict):
        # Another number of epochs uses another number of the store's epochs.
        existing_store["epochs"] = requested_store["epochs"]
