"""The command that messages of this clone suggest for a missing package."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.helpers.module_graph import ROOT

_HAS_PIP = shutil.which("pip") == str(Path(sys.executable).with_name("pip"))
"""Whether the shell that started the tests finds the pip of their Python."""

PIP_INSTALL = "pip install" if _HAS_PIP else f"{sys.executable} -m pip install"
"""How messages call pip."""


def install_command(extra: str) -> str:
    """Return the command that installs an extra into this clone, with the tested versions."""
    return f"{PIP_INSTALL} -c {ROOT}/constraints.txt -e '{ROOT}[{extra}]'"
