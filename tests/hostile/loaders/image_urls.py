"""Hostile answers of web servers to tinyvit-predict, which downloads images from URLs.

A hostile file is a list of answers, each of which is sent on one connection: all bytes of a
response, or what the server does instead.
"""

from __future__ import annotations

import io
import json
import random
import socket
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.commands import parse_strict_json, run_command
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_lazy_file
from tests.hostile.mutations import mutate_bytes
from tests.hostile.small_artifact import write_small_artifact
from tinyvit.runtimes import cli
from tinyvit.runtimes.commands import image_download
from tinyvit.runtimes.commands.image_download import download_image

_NAME = "answers.json"
_ADDRESS = "URL_OF_THE_SERVER"
"""Text in an answer that the server replaces by its own URL."""
_TIMEOUT_S, _ANSWER_TIMEOUT_S = 2.0, 0.5
"""The limits on time in the product are longer."""
_MAX_CONNECTIONS = 40
_SIDE = 24
_REDIRECTS = (301, 302, 303, 307, 308)
_LOCATIONS = (
    *("file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd", "//localhost/etc/passwd"),
    *("ftp://127.0.0.1/a", "data:image/png;base64,AAAA", "gopher://127.0.0.1", "unix:/tmp/a"),
    *(_ADDRESS, f"{_ADDRESS}/a", "/", "?", "#", "", "http://", "http://[", "http://a:99999999/"),
    *("http://127.0.0.1:0/", "http://127.0.0.1:1/", "http://\0/", "http://" + "a" * 300, "\x1b[2J"),
    *("/" + "a" * 60_000, "http://user:password@127.0.0.1:1/", "https://127.0.0.1:1/", "\\\\a\\b"),
)
_LENGTHS = ("0", "1", "-1", "99999999999999999999", "1e3", "0x10", "", "a", "1, 2", "9" * 4000)


def predict(path: Path) -> None:
    """Predict the class of an image at a URL whose server sends the answers in a file."""
    answers = json.loads(path.read_text())
    stopped = threading.Event()
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as server:
        patch.setenv("no_proxy", "*")
        patch.setattr(image_download, "download_image", _download_soon)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        arguments = (server, url, answers, stopped)
        thread = threading.Thread(target=_serve, args=arguments, daemon=True)
        thread.start()
        try:
            output = run_command(cli.predict, [write_small_artifact(), f"{url}/a.png", "--json"])
        finally:
            stopped.set()
    for line in output.splitlines():
        parse_strict_json(line)


def _download_soon(url: str) -> bytes:
    return download_image(url, _TIMEOUT_S, _ANSWER_TIMEOUT_S)


def _serve(
    server: socket.socket, url: str, answers: list[dict[str, Any]], stopped: threading.Event
) -> None:
    """Send each of the answers on a connection, and the last one again and again."""
    with suppress(OSError):
        for number in range(_MAX_CONNECTIONS):
            connection, _ = server.accept()
            with connection, suppress(OSError):
                answer = answers[min(number, len(answers) - 1)]
                _answer(connection, url, answer, stopped)


def _answer(
    connection: socket.socket, url: str, answer: dict[str, Any], stopped: threading.Event
) -> None:
    """Send an answer in the way that it states."""
    connection.settimeout(5)
    connection.recv(2**16)
    data = b64decode(answer["data"]).replace(_ADDRESS.encode(), url.encode())
    if answer["way"] == "silent":
        stopped.wait(10)
        return
    if answer["way"] == "slow":
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            if stopped.is_set():
                return
            time.sleep(0.05)
    connection.sendall(data)
    while answer["way"] == "endless" and not stopped.is_set():
        connection.sendall(b64decode(answer["again"]))
    connection.shutdown(socket.SHUT_WR)


def _encode(data: bytes, way: str = "", again: bytes = b"") -> dict[str, str]:
    encoded = {"data": b64encode(data).decode(), "again": b64encode(again).decode()}
    return {**encoded, "way": way}


def _make_answers(description: str, *answers: dict[str, str]) -> HostileFile:
    return make_lazy_file(_NAME, description, lambda: json.dumps(answers).encode())


def _make_response(body: bytes, status: object = 200, *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} OK", *headers, ""))
    return lines.encode("utf-8", "surrogatepass") + body


def _make_image(form: str = "PNG", side: int = _SIDE, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def _make_chunks(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


def make_samples(folder: Path) -> Sequence[Path]:
    """Make valid answers: with a length, in chunks, and after a redirect."""
    image = _make_image()
    answers = {
        "plain": [_make_response(image, 200, f"Content-Length: {len(image)}")],
        "chunks": [_make_response(_make_chunks(image), 200, "Transfer-Encoding: chunked")],
        "moved": [_make_response(b"", 302, f"Location: {_ADDRESS}/b"), _make_response(image)],
    }
    samples = []
    for name, responses in answers.items():
        (folder / name).mkdir()
        samples.append(folder / name / _NAME)
        samples[-1].write_text(json.dumps([_encode(response) for response in responses]))
    return samples


def mutate_sample(sample: Path, seed: str) -> HostileFile:
    """Change the bytes of one answer, near its beginning or anywhere."""
    generator = random.Random(seed)
    answers = json.loads(sample.read_text())
    number = generator.randrange(len(answers))
    data = b64decode(answers[number]["data"])
    end = generator.choice((min(60, len(data)), len(data)))
    answers[number] = _encode(mutate_bytes(data[:end], generator) + data[end:])
    return _make_answers(f"a changed answer, seed {seed!r}", *answers)


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield redirects, wrong lengths, slow and endless answers, bombs, and odd headers."""
    for location in _LOCATIONS:
        status = generator.choice(_REDIRECTS)
        response = _encode(_make_response(b"", status, f"Location: {location}"))
        yield _make_answers(f"a redirect ({status}) to {location[:40]!a}", response)
    for status in (
        100,
        101,
        204,
        206,
        304,
        401,
        407,
        418,
        500,
        999,
        0,
        -1,
        "x" * 70_000,
        "200\x1b",
    ):
        yield _make_answers(f"status {status!r:.20}", _encode(_make_response(b"", status)))
    image = _make_image()
    for length in _LENGTHS:
        response = _make_response(image, 200, f"Content-Length: {length}")
        yield _make_answers(f"a length of {length[:20]!r}", _encode(response))
    for size in (
        b"ffffffffffffffffff",
        b"-1",
        b"",
        b"z",
        b"0x10",
        b"9" * 70_000,
        b"5;" + b"a" * 70_000,
    ):
        body = size + b"\r\n" + image
        response = _make_response(body, 200, "Transfer-Encoding: chunked")
        yield _make_answers(f"a chunk of {size[:20]!r} bytes", _encode(response))
    yield from _craft_endless(image)
    yield from _craft_bodies()
    for header in (HOSTILE_TEXT, "a" * 70_000, ": ", "\0: \0", "Content-Type: " + HOSTILE_TEXT):
        yield _make_answers(
            f"the header {header[:20]!a}", _encode(_make_response(image, 200, header))
        )
    yield _make_answers("1,000 headers", _encode(_make_response(image, 200, *["a: b"] * 1000)))
    for coding in ("gzip", "deflate", "br", "zstd", "compress", "identity", HOSTILE_TEXT):
        response = _make_response(image, 200, f"Content-Encoding: {coding}")
        yield _make_answers(f"the coding {coding[:20]!a}", _encode(response))


def _craft_endless(image: bytes) -> Iterator[HostileFile]:
    """Yield answers without an end, and slow ones."""
    start = _make_response(b"")
    for description, data, again in (
        ("zeros", start, bytes(2**16)),
        ("an image and zeros", start + image, bytes(2**16)),
        (
            "chunks",
            start.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
            b"1\r\na\r\n",
        ),
        ("headers", b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
        ("a header", b"HTTP/1.1 200 OK\r\na: ", b"a" * 2**16),
        ("a status line", b"HTTP/1.1 200 ", b"a" * 2**16),
        ("provisional answers", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ):
        yield _make_answers(f"endless: {description}", _encode(data, "endless", again))
    for description, data in (("a status", b"HTTP/1.1 200 OK\r\n"), ("a body", start + image)):
        yield _make_answers(f"slow: {description}", _encode(data, "slow"))
    yield _make_answers("nothing, for long", _encode(b"", "silent"))
    yield _make_answers("nothing", _encode(b""))


def _craft_bodies() -> Iterator[HostileFile]:
    """Yield bodies that are no images, or images that need much memory."""
    large = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(large, "PNG")
    bodies = {
        "an image of 20,000 x 20,000 pixels": large.getvalue(),
        "32 MiB": bytes(2**25),
        "32 MiB and one byte": bytes(2**25 + 1),
        "nothing": b"",
        "HTML": b"<!doctype html><img src=file:///etc/passwd>",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "a ZIP archive": b"PK\3\4" + bytes(100),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file\n",
        "a cut image": _make_image()[:-40],
        "a TIFF": _make_image("TIFF"),
        "a JPEG": _make_image("JPEG", quality=5),
    }
    for description, body in bodies.items():
        yield _make_answers(f"a body: {description}", _encode(_make_response(body)))


LOADERS = (
    Loader(
        "images: URLs",
        predict,
        make_samples,
        craft,
        mutate_sample=mutate_sample,
        memory_bytes=2 * GIB,
    ),
)
