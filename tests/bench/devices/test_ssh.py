"""Sessions over ssh work with a real OpenSSH server, which each test starts on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.ssh_server import ADDRESS, SSHD, SshServer, make_key, run_ssh_server
from tinyvit.bench import cli
from tinyvit.bench.devices.config import SessionConfig
from tinyvit.bench.devices.session import DeviceResults, measure_on_device
from tinyvit.bench.record import read_record
from tinyvit.errors import RequestError
from tinyvit.progress import NullProgress

pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None,
    reason="needs OpenSSH's server: apt-get install openssh-server",
)

QUICK = ("--runs", "3", "--cold", "0")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    """A running OpenSSH server."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    with run_ssh_server(folder) as server:
        yield server


def measure(server: SshServer, artifact: Path) -> DeviceResults:
    """Measure an artifact with this environment's Python on the server."""
    config = SessionConfig((artifact,), use_env=sys.prefix, latency_arguments=QUICK)
    return measure_on_device(server.make_transport(), config, NullProgress())


def test_records_are_returned_and_the_folder_is_deleted(
    server: SshServer, small_classifier: Path, predicted_class_folders: Path, tmp_path: Path
) -> None:
    artifact = tmp_path / "my demo's $(touch pwned).onnx"
    shutil.copy(small_classifier, artifact)
    output = tmp_path / "out"
    device = ["--ssh", ADDRESS, "--ssh-config", str(server.client_config), "--use-env", sys.prefix]
    data = ["--data", str(predicted_class_folders), "--images", "8"]
    options = ["--threads", "1", "--runs", "3", "-o", str(output)]
    assert cli.main(["device", str(artifact), *device, *data, *options]) == 0
    latency = read_record(output / f"{ADDRESS}.latency.json")
    assert latency.latency[0].artifact.path == artifact.name
    assert read_record(output / f"{ADDRESS}.accuracy.json").accuracy[0].top1 == 100
    assert (output / f"{ADDRESS}.verify.json").is_file()
    assert list(server.temporary_folder.glob("tinyvit-*")) == []
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.slow
def test_environment_is_created_from_wheels(
    server: SshServer, small_classifier: Path, tmp_path: Path
) -> None:
    """The wheels are sent along, as for a device without a network."""
    wheels = tmp_path / "wheels"
    download = [sys.executable, "-m", "pip", "download", "-q", "-d", str(wheels)]
    subprocess.run([*download, "numpy", "pillow", "onnxruntime"], check=True)
    config = SessionConfig(
        (small_classifier,), python=sys.executable, wheels=wheels, latency_arguments=QUICK
    )
    results = measure_on_device(server.make_transport(), config, NullProgress())
    assert results.problems == ()
    assert results.latency is not None
    # Read from onnxruntime's profile, although the environment has no onnx package.
    assert results.latency.latency[0].artifact.int8_mac_share == 0
    assert list(server.temporary_folder.glob("tinyvit-*")) == []


def test_folder_is_kept_on_request(server: SshServer, small_classifier: Path) -> None:
    config = SessionConfig(
        (small_classifier,), use_env=sys.prefix, latency_arguments=QUICK, keep_folder=True
    )
    results = measure_on_device(server.make_transport(), config, NullProgress())
    assert results.problems == ()
    assert results.remaining_folder is not None
    assert (Path(results.remaining_folder) / small_classifier.name).is_file()


class LosePowerWhileMeasuring(NullProgress):
    """Ends the server shortly after the latency measurement has begun."""

    def __init__(self, server: SshServer) -> None:
        self.server = server

    def message(self, text: str) -> None:
        if text.endswith("measuring latency"):
            threading.Timer(1.5, self.server.kill).start()


def test_results_before_a_lost_connection_are_kept(
    server: SshServer, small_classifier: Path
) -> None:
    config = SessionConfig(
        (small_classifier,), use_env=sys.prefix, latency_arguments=("--runs", "100000000")
    )
    results = measure_on_device(server.make_transport(), config, LosePowerWhileMeasuring(server))
    assert results.latency is None
    assert results.verifications[small_classifier.name]["passed"] is True
    assert results.remaining_folder is not None
    assert results.remaining_folder.startswith(str(server.temporary_folder))
    assert f"may be left on {ADDRESS}" in results.problems[1]


def test_wrong_key_is_explained(server: SshServer, tmp_path: Path, small_classifier: Path) -> None:
    other_key = make_key(tmp_path / "other")
    config = server.client_config.read_text().replace(str(server.user_key), str(other_key))
    server.client_config.write_text(config)
    with pytest.raises(RequestError, match=f"{ADDRESS} does not accept this key: .*--identity"):
        measure(server, small_classifier)


def test_unknown_host_is_explained(server: SshServer, small_classifier: Path) -> None:
    server.known_hosts.write_text("")
    with pytest.raises(RequestError, match=f"{ADDRESS} is not a known host: connect once by hand"):
        measure(server, small_classifier)


def test_missing_server_is_explained(server: SshServer, small_classifier: Path) -> None:
    server.kill()
    with pytest.raises(RequestError, match="refuses the connection"):
        measure(server, small_classifier)


def test_full_disk_is_explained(server: SshServer, small_classifier: Path) -> None:
    folder = str(server.temporary_folder)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(RequestError, match=f"{ADDRESS} has no space left"):
            measure(server, small_classifier)
        assert list(server.temporary_folder.glob("tinyvit-*")) == []
    finally:
        subprocess.run(["umount", folder], check=True)
