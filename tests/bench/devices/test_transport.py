"""Commands on a device are quoted, and limited in time and output."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tinyvit.bench.devices import transport
from tinyvit.bench.devices.process import CompletedCommand, make_device_error, run_process
from tinyvit.bench.devices.transport import LocalTransport, SshTransport
from tinyvit.errors import RequestError
from tinyvit.files.staging import temporary_folder

ODD_WORDS = [
    *("two words", "it's", '"quoted"', "$(touch pwned)", "`touch pwned`", "-rf", "--", "a;b", "*"),
    *(
        "",
        "\n",
        "line\ntouch pwned\n",
        "${IFS}",
        "~",
        "a\\",
        "!x",
        "&touch pwned|touch pwned>pwned",
    ),
    *("\x1b]0;t\x07", os.fsdecode(b"\xff$(touch pwned)")),
]
"""Arguments that a shell would change or execute if they were not quoted."""


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SshTransport:
    """A transport whose ssh runs the command line in a local shell, as a real host would."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\nexec sh -c "$1"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return SshTransport("user@board")


def test_every_word_reaches_the_program_on_the_host(fake_ssh: SshTransport, tmp_path: Path) -> None:
    folder = tmp_path / "-it's a $(touch pwned)\n folder"
    folder.mkdir()
    code = "import os, sys; print(ascii([os.getcwd(), sys.argv[1:]]))"
    command = [sys.executable, "-c", code, *ODD_WORDS]
    result = fake_ssh.run(command, 60, cwd=str(folder))
    assert result.stdout.strip() == ascii([str(folder), ODD_WORDS])
    assert not list(tmp_path.rglob("pwned"))


def test_folders_with_odd_names_are_filled_and_removed(
    fake_ssh: SshTransport, tmp_path: Path
) -> None:
    source, remote = tmp_path / "source", tmp_path / "$(touch pwned) it's"
    source.mkdir()
    remote.mkdir()
    names = ["-rf $(touch pwned)", "--checkpoint-action=exec=touch pwned", "line\ntouch pwned"]
    names.append(os.fsdecode(b"\xff`touch pwned`"))
    for name in names:
        (source / name).write_text("x")
    fake_ssh.upload(source, str(remote))
    assert sorted(os.listdir(remote)) == sorted(names)
    assert {(remote / name).read_text() for name in names} == {"x"}
    fake_ssh.remove_folder(str(remote))
    assert not remote.exists()
    assert source.exists()
    assert not list(tmp_path.rglob("pwned"))


def test_temporary_folder_is_created_on_the_host(fake_ssh: SshTransport, tmp_path: Path) -> None:
    folder = Path(fake_ssh.make_folder(is_kept=False))
    assert folder.is_dir()
    assert folder.parent == tmp_path


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "-l@host", "a b", "host;ls", ""])
def test_text_that_is_not_a_host_name_is_refused(host: str) -> None:
    with pytest.raises(RequestError, match="is not a host name: give USER@HOST"):
        SshTransport(host)


def test_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyvit.bench.devices.process.MAX_OUTPUT_BYTES", 2**20)
    command = [sys.executable, "-c", "while True: print('x' * 10000)"]
    with pytest.raises(RequestError, match="on board printed more than 1 MiB"):
        run_process(command, "board", 60)


def test_time_is_bounded() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(RequestError, match=r"on board took more than 0\.5 s"):
        run_process(command, "board", 0.5)


def test_missing_program_is_an_error() -> None:
    with pytest.raises(RequestError, match="no-such-program cannot be started"):
        LocalTransport().run(["no-such-program"], 5)


@pytest.mark.parametrize(
    ("exit_code", "stderr", "text"),
    [
        (1, "tar: x: No space left on device", "board has no space left: free some space there"),
        (2, "tar: ./x: Wrote only 512 of 10240 bytes\ntar: Exiting", "board has no space left"),
        (255, "me@board: Permission denied (publickey).", "board does not accept this key"),
        (255, "Host key verification failed.", "board is not a known host: connect once by hand"),
        (255, "ssh: Could not resolve hostname board", "board cannot be found: check its name"),
        (255, "connect to host: Connection refused", "board refuses the connection: check --port"),
        (255, "Connection timed out", "board does not answer"),
        (1, "Permission denied", "it failed on board (Permission denied)"),
        (7, "", "it failed on board (exit code 7)"),
    ],
)
def test_cause_of_a_failure_is_recognized(exit_code: int, stderr: str, text: str) -> None:
    error = make_device_error("board", CompletedCommand(exit_code, "", stderr), "it failed")
    assert str(error).startswith(text)


def test_ssh_checks_are_never_turned_off(
    fake_ssh: SshTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def record(command: list[str], *_: object) -> CompletedCommand:
        commands.append(command)
        return CompletedCommand(0, "", "")

    monkeypatch.setattr(transport, "run_process", record)
    fake_ssh.run(["true"], 5)
    (command,) = commands
    assert "BatchMode=yes" in command
    assert not [word for word in command if "StrictHostKeyChecking" in word]
    assert command[command.index("--") + 1 :] == ["user@board", "true"]


def test_a_folder_of_this_machine_is_removed_or_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    transport = LocalTransport()
    folder, kept = Path(transport.make_folder(is_kept=False)), Path(transport.make_folder(True))
    assert folder.is_dir()
    assert kept.is_dir()
    (folder / "model.onnx").touch()
    transport.remove_folder(str(folder))
    with temporary_folder():  # removes folders of processes that do not exist any more
        pass
    assert list(tmp_path.iterdir()) == [kept]
    transport.remove_folder(str(kept))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_on_this_machine_that_cannot_be_deleted_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    LocalTransport().upload(Path(__file__).parent, str(folder))
    LocalTransport().remove_folder(str(folder))
    assert not folder.exists()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RequestError, match=r"/file cannot be deleted on this machine \("):
        LocalTransport().remove_folder(str(file))


def test_files_that_cannot_be_copied_on_this_machine_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RequestError, match=r"^the files cannot be written on this machine \("):
        LocalTransport().upload(Path(__file__).parent, str(file))
