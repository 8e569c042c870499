"""Writes files that programs generate, or checks that they are up to date."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path


def run_generator(description: str, make_files: Callable[[], Mapping[Path, str]]) -> int:
    """Run the command of a generator: write its files, or only check them with --check.

    Args:
        description: A sentence that describes the command.
        make_files: Function that returns the text of each file.

    Returns:
        The exit code; 1 if --check was given and a file is missing or out of date.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--check", action="store_true", help="Write nothing; say which files are out of date."
    )
    is_check = parser.parse_args().check
    outdated = []
    for path, text in make_files().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        outdated.append(path)
        if not is_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in outdated:
        print(f"{'out of date' if is_check else 'written'}: {path}")
    return int(is_check and bool(outdated))
