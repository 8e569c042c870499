"""Processes that this package starts do not import files of strangers from the current folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.helpers.processes import TIMEOUT_S
from tinyvit.processes import python_process
from tinyvit.processes.python_process import (
    make_module_command,
    make_options_for_code,
    make_options_for_module,
    make_python_command,
    protect_worker_processes,
    read_last_line,
)

MODULES = (
    *("json", "numpy", "torch", "onnxruntime", "tinyvit", "runpy", "sys", "argparse", "encodings"),
    *("multiprocessing", "pickle", "signal", "socket", "struct", "threading", "venv", "pip"),
)
"""Modules that the processes import, or that Python imports for them."""

WORKER = """
import multiprocessing, os, sys
from tinyvit.processes.python_process import protect_worker_processes

def describe():
    import json
    return json.__file__

if __name__ == "__main__":
    os.chdir(sys.argv[1])
    context = multiprocessing.get_context(sys.argv[2])
    with protect_worker_processes(), context.Pool(1) as pool:
        print(pool.apply(describe))
    assert "PYTHONSAFEPATH" not in os.environ
"""


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
        [sys.executable, *make_options_for_code("import json; print(sys.argv[1:])"), "-c", "a b"],
        [sys.executable, *make_options_for_module("json.tool"), "--help"],
        [sys.executable, *make_options_for_module("venv"), "--help"],
        [sys.executable, *make_options_for_module("pip"), "--help"],
    ],
)
def test_modules_of_the_current_folder_are_not_imported(
    command: list[str], folder_of_a_stranger: Path
) -> None:
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    output = process.stdout.strip()
    assert output == "['-c', 'a b']" or output.lower().startswith("usage:")
    assert not (folder_of_a_stranger / "pwned").exists()


def test_a_new_process_has_the_folders_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("name = 'found'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "relative", *sys.path])
    command = make_python_command("import only_here; print(only_here.name, sys.path)")
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output == f"found {sys.path[2:]}\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has only one way to start workers")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_do_not_look_in_the_current_folder(
    method: str, folder_of_a_stranger: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = tmp_path_factory.mktemp("script") / "script.py"
    script.write_text(WORKER)
    process = subprocess.run(
        [sys.executable, script, folder_of_a_stranger, method],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert process.stderr == ""
    assert Path(process.stdout).parent.parent == Path(sysconfig.get_path("stdlib"))
    assert not (folder_of_a_stranger / "pwned").exists()


def test_the_setting_of_the_user_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "yes")
    with protect_worker_processes():
        pass
    assert os.environ["PYTHONSAFEPATH"] == "yes"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork server")
def test_workers_of_python_3_10_are_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing import spawn

    options = spawn.get_command_line(pipe_handle=7)
    monkeypatch.setattr(python_process.sys, "version_info", (3, 10, 13))
    with protect_worker_processes():
        isolated_options = spawn.get_command_line(pipe_handle=7)
    assert [word for word in isolated_options if word not in options] == ["-I"]
    assert spawn.get_command_line(pipe_handle=7) == options


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("one\ntwo\n\n  \n", "two"),
        (b"one\n  two \xff\n", "two \N{REPLACEMENT CHARACTER}"),
        ("", "nothing"),
        (b" \n", "nothing"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_the_last_line_is_the_reason(output: str | bytes, line: str) -> None:
    assert read_last_line(output, if_empty="nothing") == line


def test_a_line_is_shortened_as_requested() -> None:
    assert read_last_line("a\nbcd", if_empty="", max_characters=2) == "bc"
    assert read_last_line("x" * 1000, if_empty="", max_characters=None) == "x" * 1000
