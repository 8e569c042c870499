"""The command that messages of this clone suggest for a missing package."""

from __future__ import annotations

from tests.helpers.module_graph import ROOT


def install_command(extra: str) -> str:
    """Return the command that installs an extra into this clone, with the tested versions."""
    return f"pip install -c {ROOT}/constraints.txt -e '{ROOT}[{extra}]'"
