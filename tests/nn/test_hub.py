"""Released checkpoints from a hub on this machine, in a process of its own: huggingface_hub reads its settings when imported."""

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
pytest.importorskip("huggingface_hub")

from tinyvit.nn.model import TinyViT  # noqa: E402
from tinyvit.variants import VARIANTS  # noqa: E402

LOAD = """
from tinyvit.nn.hub import load_released
one = load_released("tinyvit_5m")
print(one.name, one.license, one.labels[0].name, one.sha256)
"""
TIME = """
import time
import huggingface_hub.file_download
from tinyvit.nn import hub
from tinyvit.variants import find_released
begin = time.perf_counter()
try:
    hub.fetch(find_released("tinyvit_5m"))
finally:
    print(time.perf_counter() - begin)
"""
PATH = "/timm/tiny_vit_5m_224.dist_in22k_ft_in1k/resolve/main/model.safetensors"
NOBODY = "http://127.0.0.1:9"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as one file needs; any token but the one that it knows is refused."""

    protocol_version = "HTTP/1.1"

    def __init__(self, data, asked, *arguments):
        self.data, self.asked = data, asked
        super().__init__(*arguments)

    def do_HEAD(self):
        self.asked.append((self.command, self.path))
        status = (
            404
            if self.path != PATH
            else 200
            if self.headers.get("authorization") in (None, "Bearer hf_good")
            else 401
        )
        self.send_response(status)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(self.data).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.data) if status == 200 else 0))
        self.end_headers()
        return status == 200

    def do_GET(self):
        if self.do_HEAD():
            self.wfile.write(self.data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    torch.manual_seed(0)
    data = safetensors_torch.save(TinyViT(VARIANTS["tiny_vit_5m_224"]).state_dict())
    asked = []
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Hub, data, asked)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", hashlib.sha256(data).hexdigest(), asked
        server.shutdown()


@pytest.fixture
def load(tmp_path):
    def load(endpoint, code=LOAD, **settings):
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment = {
            **kept,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path),
            "NO_PROXY": "127.0.0.1",
            **settings,
        }
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )

    return load


def said(done):
    """The one line of the error, whose traceback a bare call shows; nothing else may be there."""
    assert done.returncode == 1
    assert "Retrying" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_the_file_comes_from_the_hub_and_then_from_the_cache(hub, load):
    endpoint, digest, asked = hub
    done = load(endpoint)
    assert done.stdout.split() == [
        "tiny_vit_5m_224.dist_in22k_ft_in1k",
        "apache-2.0",
        "tench",
        digest,
    ], done.stderr
    assert asked.count(("GET", PATH)) == 1
    again = load(NOBODY)
    assert again.stdout == done.stdout, again.stderr
    assert "Retrying" not in again.stderr


def test_an_unreachable_hub_is_asked_once(load):
    done = load(NOBODY, TIME)
    assert "is not in the hub's cache, and the hub cannot be reached (" in said(done)
    assert "give that file instead of the name" in said(done)
    assert (
        float(done.stdout) < 5
    )  # six questions, as huggingface_hub asks by itself, wait for 23 seconds


def test_a_wrong_token_is_said(hub, load):
    assert "check the token in HF_TOKEN" in said(load(hub[0], HF_TOKEN="hf_bad"))


def test_a_file_that_the_hub_does_not_have(hub, load):
    assert "the hub answers 404" in said(load(hub[0], LOAD.replace("tinyvit_5m", "tinyvit_11m")))


def test_offline_mode_asks_nobody(hub, load):
    endpoint, _, asked = hub
    assert "give that file instead of the name" in said(load(endpoint, HF_HUB_OFFLINE="1"))
    assert asked == []
