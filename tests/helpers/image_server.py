"""An HTTP server on this machine, which sends prepared answers, for tests of downloads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """What the server sends for one path.

    Attributes:
        content: The body.
        status: The status code.
        headers: Additional headers.
        delay_s: Seconds before each of the bytes, which are then sent one by one; 0 to send all.
        repetitions: How often the body is sent.
    """

    content: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0
    repetitions: int = 1


@contextmanager
def serve(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Serve answers by their paths, such as "/cat.jpg"; yield the URL of the server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0], Answer(status=404))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for _ in range(answer.repetitions):
                    self._send(answer)
            except OSError:  # The client has closed the connection.
                pass

        def _send(self, answer: Answer) -> None:
            if not answer.delay_s:
                self.wfile.write(answer.content)
                return
            for byte in answer.content:
                time.sleep(answer.delay_s)
                self.wfile.write(bytes([byte]))

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
