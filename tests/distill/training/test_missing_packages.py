"""A missing package of the extra `train` is reported before any file of the user is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.distill_data import write_class_folders
from tests.helpers.install_commands import install_command

# An entry None in `sys.modules` makes Python report that the module is not installed. The hook
# ends the process if it opens, lists or creates anything in the folder of the test.
SCRIPT = """
import os, sys
package, folder, *arguments = sys.argv[1:]
sys.modules[package] = None

def watch(event, values):
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir"):
        if isinstance(values[0], (str, os.PathLike)) and os.fspath(values[0]).startswith(folder):
            os.write(2, f"{event} {values[0]}".encode())
            os._exit(9)

sys.addaudithook(watch)
from tinyvit.distill.cli import main
sys.exit(main(arguments))
"""


@pytest.mark.parametrize(
    "package", ["torch", "safetensors", "tensorboard", "matplotlib", "tomli_w"]
)
def test_nothing_is_read_or_written_before_the_error(package: str, tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "data")
    checkpoint = tmp_path / "init.safetensors"
    checkpoint.write_bytes(b"not a checkpoint")
    config = tmp_path / "config.toml"
    config.write_text("not a settings file")
    command = ["train", "--init", checkpoint, "--config", config, "--data", data]
    arguments = [package, tmp_path, *command, "-o", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    remedy = install_command("train")
    assert done.stderr == f"error: {package} is not installed: {remedy}\n"
    assert not (tmp_path / "run").exists()
