"""Write quickstart.ipynb from quickstart.py: a cell for each block, comments that open one as text above it."""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent


def cells(script: str) -> list[dict[str, object]]:
    """The notebook's cells, in nbformat 4.5's form without outputs."""
    title, *blocks = re.split(r"\n\n(?! )", script.strip())
    found = [text("# Quickstart\n\n" + title.strip('"'))]
    for block in blocks:
        lines = block.split("\n")
        if lines[0].startswith("# "):
            found.append(text(lines.pop(0)[2:]))
        found.append(
            {
                "cell_type": "code",
                "execution_count": None,
                "metadata": {},
                "outputs": [],
                "source": "\n".join(lines),
            }
        )
    return [{"id": f"cell-{i}", **cell} for i, cell in enumerate(found)]


def text(source: str) -> dict[str, object]:
    """A cell of Markdown."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


if __name__ == "__main__":
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {
        "cells": cells((HERE / "quickstart.py").read_text()),
        "metadata": kernel,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (HERE / "quickstart.ipynb").write_text(json.dumps(notebook, indent=1) + "\n")
