"""A visit by ssh to a real OpenSSH server on the loopback address, which each test run starts for itself."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tinyvit.bench import cli
from tinyvit.bench.devices.session import RemoteMeasurement, measure_on_device
from tinyvit.bench.devices.transport import Ssh
from tinyvit.bench.record import read_record
from tinyvit.errors import RequestError

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None,
    reason="needs OpenSSH's server: apt-get install openssh-server",
)


@dataclass
class Server:
    """A server; config: for its client, whose known_hosts lies beside; temporary: where its sessions make temporary folders."""

    process: subprocess.Popen[bytes]
    config: Path
    temporary: Path

    def transport(self) -> Ssh:
        return Ssh("127.0.0.1", config=self.config)


def key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host, user = key(tmp_path / "host"), key(tmp_path / "user")
    (tmp_path / "authorized").write_text(user.with_suffix(".pub").read_text())
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {host.with_suffix('.pub').read_text()}")
    (tmp_path / "there").mkdir()
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {host}",
        f"AuthorizedKeysFile {tmp_path / 'authorized'}",
        "StrictModes no",
    ]
    lines += [
        "UsePAM no",
        "PasswordAuthentication no",
        "PermitRootLogin yes",
        f"PidFile {tmp_path / 'pid'}",
        f"SetEnv TMPDIR={tmp_path / 'there'}",
    ]
    (tmp_path / "sshd_config").write_text("\n".join(lines) + "\n")
    client = [
        f"Port {port}",
        f"IdentityFile {user}",
        "IdentitiesOnly yes",
        f"UserKnownHostsFile {tmp_path / 'known'}",
        "StrictHostKeyChecking yes",
    ]
    (tmp_path / "ssh_config").write_text("\n".join(client) + "\n")
    assert SSHD is not None
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=subprocess.DEVNULL
    )
    for _ in range(100):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield Server(process, tmp_path / "ssh_config", tmp_path / "there")
    stop(process.pid)
    process.wait()


def stop(pid: int) -> None:
    """End a process and all that it started, as when a host loses its power."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    doomed = {pid}
    while more := {child for child, parent in parents.items() if parent in doomed} - doomed:
        doomed |= more
    for each in doomed:
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_the_whole_visit(
    server: Server, demo: dict[str, Path], folders: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "my demo's $file.onnx"
    shutil.copy(demo["onnx"], odd)
    command = [
        "device",
        str(odd),
        "--ssh",
        "127.0.0.1",
        "--ssh-config",
        str(server.config),
        "--use-env",
        sys.prefix,
        "-o",
        str(tmp_path / "out"),
    ]
    assert (
        cli.main(
            [*command, "--data", str(folders), "--images", "8", "--threads", "1", "--runs", "3"]
        )
        == 0
    )
    assert (
        read_record(tmp_path / "out" / "127.0.0.1.latency.json").latency[0].subject.artifact
        == odd.name
    )
    assert read_record(tmp_path / "out" / "127.0.0.1.accuracy.json").accuracy[0].top1 == 100
    assert (tmp_path / "out" / "127.0.0.1.verify.json").is_file()
    assert list(server.temporary.glob("tinyvit-*")) == []


@pytest.mark.slow
def test_an_environment_is_made_there(
    server: Server, demo: dict[str, Path], tmp_path: Path
) -> None:
    """From wheels that were sent along, as for a device without a network."""
    wheels = tmp_path / "wheels"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "-d",
            str(wheels),
            "numpy",
            "pillow",
            "onnxruntime",
        ],
        check=True,
    )
    asked = RemoteMeasurement(
        (demo["onnx"],), python=sys.executable, wheels=wheels, arguments=("--runs", "3")
    )
    found = measure_on_device(server.transport(), asked, lambda line: None)
    assert found.problems == ()
    assert found.latency is not None
    assert (
        found.latency.latency[0].subject.int8_macs == 0
    )  # read from the profile, with no onnx package there
    assert list(server.temporary.glob("tinyvit-*")) == []


def test_the_folder_stays_where_that_is_asked_for(server: Server, demo: dict[str, Path]) -> None:
    asked = RemoteMeasurement(
        (demo["onnx"],), use_env=sys.prefix, arguments=("--runs", "3"), keep=True
    )
    found = measure_on_device(server.transport(), asked, lambda line: None)
    assert found.problems == ()
    assert found.kept is not None
    assert (Path(found.kept) / "demo.onnx").is_file()


def test_a_host_that_is_lost_in_mid_run(server: Server, demo: dict[str, Path]) -> None:
    def say(line: str) -> None:
        if line.endswith("timing"):
            threading.Timer(1.5, stop, [server.process.pid]).start()

    found = measure_on_device(
        server.transport(),
        RemoteMeasurement((demo["onnx"],), use_env=sys.prefix, arguments=("--runs", "100000")),
        say,
    )
    assert found.latency is None
    assert found.verified["demo.onnx"]["passed"] is True  # what came back before is kept
    assert found.kept is not None
    assert found.kept.startswith(str(server.temporary))
    assert "may be left on 127.0.0.1" in found.problems[1]


def test_a_wrong_key(server: Server, tmp_path: Path, demo: dict[str, Path]) -> None:
    server.config.write_text(
        server.config.read_text().replace(str(tmp_path / "user"), str(key(tmp_path / "other")))
    )
    with pytest.raises(RequestError, match=r"127.0.0.1 does not let this key in: .*--identity"):
        measure_on_device(server.transport(), RemoteMeasurement((demo["onnx"],)), lambda line: None)


def test_a_host_that_is_not_known(server: Server, tmp_path: Path, demo: dict[str, Path]) -> None:
    (tmp_path / "known").write_text("")
    with pytest.raises(RequestError, match=r"127.0.0.1 is not known: connect once by hand"):
        measure_on_device(server.transport(), RemoteMeasurement((demo["onnx"],)), lambda line: None)


def test_no_server(server: Server, demo: dict[str, Path]) -> None:
    stop(server.process.pid)
    server.process.wait()
    with pytest.raises(RequestError, match="refuses the connection"):
        measure_on_device(server.transport(), RemoteMeasurement((demo["onnx"],)), lambda line: None)


def test_a_full_disk(server: Server, demo: dict[str, Path]) -> None:
    small = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(server.temporary)]
    if os.geteuid() or subprocess.run(small, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(RequestError, match=r"127\.0\.0\.1 has no space left"):
            measure_on_device(
                server.transport(), RemoteMeasurement((demo["onnx"],)), lambda line: None
            )
        assert list(server.temporary.glob("tinyvit-*")) == []
    finally:
        subprocess.run(["umount", str(server.temporary)], check=True)


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "-l@host", "a b", "host;ls", ""])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(RequestError, match="is no host"):
        Ssh(host)
