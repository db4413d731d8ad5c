"""A server of parts of files that breaks off, for tests of what is streamed."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Cutting:
    """Serves ``files`` (path: bytes) by ranges, and notes each request's in ``asked``.

    What comes first in ``cuts`` is how many bytes of an answer are sent before the connection breaks; an answer of one
    byte, which says how long a file is, is always whole. ``change`` is called after each answer that was cut.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.asked: list[tuple[int, int]] = []
        self.version, self.change = "1", lambda: None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                data = owner.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                body = data[first : last + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", owner.version)
                self.end_headers()
                owner.asked.append((first, last))
                if len(body) > 1 and owner.cuts:
                    self.wfile.write(body[: owner.cuts.pop(0)])
                    owner.change()
                    return
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._web.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._web.server_port}"

    def close(self):
        self._web.shutdown()
        self._web.server_close()


@pytest.fixture
def cutting(copies, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Cutting()
    yield server
    server.close()
