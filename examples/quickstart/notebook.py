"""Write quickstart.ipynb from quickstart.py, run it, and keep its outputs.

    python examples/quickstart/notebook.py

Each block of the script becomes a code cell. A comment in the first line of a block becomes a text
cell above it. This needs `pip install nbclient nbformat ipykernel`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent

Cell = dict[str, object]


def make_cells(script: str) -> list[Cell]:
    """Make the cells of the notebook.

    Args:
        script: Source of the script. It begins with a docstring of one line, and empty lines
            separate its blocks.

    Returns:
        The cells without outputs, in version 4.5 of the notebook format.
    """
    # An empty line before an indented line is inside a block, and does not end it.
    docstring, *blocks = re.split(r"\n\n(?! )", script.strip())
    title = docstring.strip('"')
    cells = [make_text_cell(f"# Quickstart\n\n{title}")]
    for block in blocks:
        lines = block.split("\n")
        if lines[0].startswith("# "):
            cells.append(make_text_cell(lines.pop(0).removeprefix("# ")))
        cells.append(make_code_cell("\n".join(lines)))
    return [{"id": f"cell-{i}", **cell} for i, cell in enumerate(cells)]


def make_text_cell(source: str) -> Cell:
    """Make a Markdown cell without an id; `make_cells` adds it."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def make_code_cell(source: str) -> Cell:
    """Make a Python cell without outputs and without an id; `make_cells` adds it."""
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": source,
    }


def run_notebook(notebook: dict[str, object]) -> dict[str, object]:
    """Run a notebook in a temporary folder beside the images.

    Args:
        notebook: The notebook without outputs.

    Returns:
        The notebook with what its cells print. Times and warnings of the machine are left out.
    """
    import nbclient
    import nbformat

    with TemporaryDirectory() as folder:
        examples = Path(folder, "examples")
        examples.mkdir()
        (examples / "images").symlink_to(HERE.parent / "images")
        node = nbformat.from_dict(notebook)
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(node, timeout=600, resources=resources).execute()
    for cell in node.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("name") == "stdout"]
    # nbformat.writes would split every text into a list of lines.
    result: dict[str, object] = json.loads(json.dumps(node))
    return result


def main() -> None:
    """Write the notebook beside the script."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook: dict[str, object] = {
        "cells": make_cells((HERE / "quickstart.py").read_text()),
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = json.dumps(run_notebook(notebook), indent=1, ensure_ascii=False)
    (HERE / "quickstart.ipynb").write_text(text + "\n")


if __name__ == "__main__":
    main()
