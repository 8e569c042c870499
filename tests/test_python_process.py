"""A new Python process does not import files of strangers from the current folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tinyvit.python_process import make_module_command, make_python_command

MODULES = ("json", "numpy", "runpy", "sys", "tinyvit", "onnxruntime", "argparse", "encodings")
"""Modules that the processes import, or that Python imports for them."""


@pytest.fixture
def folder_of_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, whose modules would create the file "pwned"."""
    for name in MODULES:
        (tmp_path / f"{name}.py").write_text("open('pwned', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        make_python_command("import json, numpy, sys; print(sys.argv[1:])", "-c", "a b"),
        make_module_command("json.tool", "--help"),
    ],
)
def test_modules_of_the_current_folder_are_not_imported(
    command: list[str], folder_of_a_stranger: Path
) -> None:
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout == "['-c', 'a b']\n" or process.stdout.startswith("usage: ")
    assert not (folder_of_a_stranger / "pwned").exists()
