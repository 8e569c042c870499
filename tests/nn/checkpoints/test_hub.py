"""Released checkpoints are loaded from a small hub on this machine.

Each load runs in a process of its own, because huggingface_hub reads its settings when imported.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
pytest.importorskip("huggingface_hub")
import safetensors.torch
import torch

from tinyvit.nn.model import TinyViT
from tinyvit.variants import VARIANTS

LOAD_CODE = """
from tinyvit.nn.checkpoints.hub import load_released
checkpoint = load_released("tinyvit_5m")
print(checkpoint.name, checkpoint.license, checkpoint.labels[0].name, checkpoint.sha256)
"""
TIMED_FETCH_CODE = """
import time
import huggingface_hub.file_download
from tinyvit.nn.checkpoints import hub
from tinyvit.variants import find_released
start = time.perf_counter()
try:
    hub.fetch_checkpoint(find_released("tinyvit_5m"))
finally:
    print(time.perf_counter() - start)
"""
FILE_PATH = "/timm/tiny_vit_5m_224.dist_in22k_ft_in1k/resolve/main/model.safetensors"
UNREACHABLE = "http://127.0.0.1:9"
VALID_TOKEN = "hf_good"

Load = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass
class FakeHub:
    """A hub with one file.

    Attributes:
        endpoint: Its URL.
        sha256: Hex digest of the file.
        requests: Methods and paths of all requests so far.
    """

    endpoint: str
    sha256: str
    requests: list[tuple[str, str]] = field(default_factory=list)


class HubHandler(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for one file, and refuses every token except VALID_TOKEN."""

    protocol_version = "HTTP/1.1"

    def __init__(self, data: bytes, requests: list[tuple[str, str]], *arguments: Any) -> None:
        self.data, self.requests = data, requests
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self.send_head()

    def do_GET(self) -> None:
        if self.send_head():
            self.wfile.write(self.data)

    def send_head(self) -> bool:
        """Send the status and the headers; return whether the file follows."""
        self.requests.append((self.command, self.path))
        status = 200
        if self.path != FILE_PATH:
            status = 404
        elif self.headers.get("authorization") not in (None, f"Bearer {VALID_TOKEN}"):
            status = 401
        self.send_response(status)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(self.data).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.data) if status == 200 else 0))
        self.end_headers()
        return status == 200

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A running hub that has only the 5M checkpoint, with random weights."""
    torch.manual_seed(0)
    data = safetensors.torch.save(TinyViT(VARIANTS["tiny_vit_5m_224"]).state_dict())
    requests: list[tuple[str, str]] = []
    handler = functools.partial(HubHandler, data, requests)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        yield FakeHub(endpoint, hashlib.sha256(data).hexdigest(), requests)
        server.shutdown()


@pytest.fixture
def run_with_hub(tmp_path: Path) -> Load:
    """A function that runs code in a process with a hub's endpoint and a cache of its own."""

    def run_code(
        endpoint: str, code: str = LOAD_CODE, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment = {
            **inherited,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path),
            "NO_PROXY": "127.0.0.1",
            **variables,
        }
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )

    return run_code


def error_line(process: subprocess.CompletedProcess[str]) -> str:
    """Return the last line of the traceback; huggingface_hub may not have written others."""
    assert process.returncode == 1
    assert "Retrying" not in process.stderr
    return process.stderr.strip().splitlines()[-1]


def test_the_file_comes_from_the_hub_and_then_from_the_cache(
    hub: FakeHub, run_with_hub: Load
) -> None:
    first = run_with_hub(hub.endpoint)
    assert first.stdout.split() == [
        "tiny_vit_5m_224.dist_in22k_ft_in1k",
        "apache-2.0",
        "tench",
        hub.sha256,
    ], first.stderr
    assert hub.requests.count(("GET", FILE_PATH)) == 1
    second = run_with_hub(UNREACHABLE)
    assert second.stdout == first.stdout, second.stderr
    assert "Retrying" not in second.stderr


def test_an_unreachable_hub_gets_one_request(run_with_hub: Load) -> None:
    process = run_with_hub(UNREACHABLE, TIMED_FETCH_CODE)
    message = error_line(process)
    assert "is not in the hub's cache, and the hub cannot be reached (" in message
    assert "give that file instead of the name" in message
    # huggingface_hub by itself asks six times, which takes 23 seconds.
    assert float(process.stdout) < 5


def test_a_wrong_token_is_reported(hub: FakeHub, run_with_hub: Load) -> None:
    process = run_with_hub(hub.endpoint, HF_TOKEN="hf_bad")
    assert "check the token in HF_TOKEN" in error_line(process)


def test_a_file_that_the_hub_does_not_have_is_reported(hub: FakeHub, run_with_hub: Load) -> None:
    process = run_with_hub(hub.endpoint, LOAD_CODE.replace("tinyvit_5m", "tinyvit_11m"))
    assert "the hub answers 404" in error_line(process)


def test_offline_mode_sends_no_request(hub: FakeHub, run_with_hub: Load) -> None:
    process = run_with_hub(hub.endpoint, HF_HUB_OFFLINE="1")
    assert "give that file instead of the name" in error_line(process)
    assert hub.requests == []
