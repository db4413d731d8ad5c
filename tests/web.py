"""A web of one's own, for tests of what is fetched."""

import hashlib
import threading
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serves ``files`` (path: bytes) as the web and Hugging Face's hub do, and counts what is asked.

    What comes first in ``cuts`` of a path is how many bytes of an answer are sent; ``raw`` are whole answers by path.
    """
    import torch

    files: dict[str, bytes] = {}
    asked: list[str] = []
    stated: dict[str, str] = {}  # hashes that differ from the files'
    cuts: dict[str, list[int]] = {}
    raw: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self, start: int = 0):
            data = files.get(self.path)
            self.send_response(404 if data is None else 206 if start else 200)
            self.send_header("Content-Length", str(len(data or b"") - start))
            if data is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            else:
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("ETag", f'"{stated.get(self.path, digest(data))}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()

        def do_GET(self):
            asked.append(f"{self.path}{self.headers.get('Range', '').removeprefix('bytes=')}")
            if self.path in raw:
                self.wfile.write(raw[self.path])
                return
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            if start >= len(files.get(self.path, b"-")):
                self.send_error(416)
                return
            self.do_HEAD(start)
            end = start + cuts[self.path].pop(0) if cuts.get(self.path) else None
            self.wfile.write(files.get(self.path, b"")[start:end])

        def log_message(self, *_):
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    web.files, web.asked, web.stated, web.cuts, web.raw = files, asked, stated, cuts, raw
    web.address = f"http://127.0.0.1:{web.server_port}"
    yield web
    web.shutdown()


@pytest.fixture
def secure(server, monkeypatch):
    """The same server where an address of https leads to it, without a certificate."""
    from avlearn.models.weights import download

    really = download._open

    def plain(request: urllib.request.Request):
        request.full_url = request.full_url.replace("https://files.test", server.address)
        return really(request)

    monkeypatch.setattr(download, "_open", plain)
    return server


@pytest.fixture
def published(server, monkeypatch):
    """Publish files of a known system on the server; by default with their hash."""
    from avlearn.apply import released_systems as systems
    from avlearn.models.weights.systems import released_systems

    def publish(name: str, *contents: bytes, hashed: bool = True):
        known = released_systems()[name]
        files = []
        for file, data in zip(known.files, contents, strict=True):
            server.files[f"/{name}/{file.name}"] = data
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            address = f"{server.address}/{name}/{file.name}"
            files.append(replace(file, address=address, page="", hash=f"md5={md5}" if hashed else file.hash))
        found = replace(known, files=tuple(files))
        monkeypatch.setattr(systems, "released_systems", lambda: {**released_systems(), name: found})
        return found

    return publish
