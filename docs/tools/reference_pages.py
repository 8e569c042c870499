"""Writes the reference pages of the commands and of the schemas.

    python docs/tools/reference_pages.py            # writes docs/reference/{commands,schemas}/*.md
    python docs/tools/reference_pages.py --check    # only says whether the pages are up to date

The pages of the commands are made from their argument parsers, those of the schemas from the JSON
files, which `schema_files.py` writes. No extra of the package is needed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from command_pages import FOLDER, make_command_pages
from generated_files import run_generator
from schema_pages import format_schema_page

DOCS = Path(__file__).parents[1]
"""Folder of the documentation."""

_SUFFIX = ".schema.json"


def make_files() -> dict[Path, str]:
    """Make every generated page of the reference, by its path."""
    pages = {DOCS / page.path: page.text for page in make_command_pages(DOCS.parent / "setup.cfg")}
    for path in sorted((DOCS / "reference" / "schemas").glob(f"*{_SUFFIX}")):
        name = path.name.removesuffix(_SUFFIX)
        schema = json.loads(path.read_text(encoding="utf-8"))
        pages[path.with_name(f"{name}.md")] = format_schema_page(name, schema)
    return pages


def list_orphans() -> list[Path]:
    """Return the committed pages of commands that no longer exist."""
    return sorted({*(DOCS / FOLDER).rglob("*.md")} - {*make_files()})


def main() -> int:
    """Run the command and return its exit code."""
    exit_code = run_generator("Write the reference pages of commands and schemas.", make_files)
    orphans = list_orphans()
    for path in orphans:
        print(f"no command has this page, delete it: {path}")
    return exit_code or int(bool(orphans))


if __name__ == "__main__":
    sys.exit(main())
