"""A web server as people run them, for tests of what is read by address."""

import contextlib
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

_CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    log_format told '$request_method $request_uri $status $body_bytes_sent';
    access_log {folder}/access.log told;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        location /slow/ {{ alias {folder}/files/; limit_rate 200k; }}
        location /listed/ {{ alias {folder}/files/; autoindex on; }}
        location /whole/ {{ alias {folder}/files/; max_ranges 0; }}
        location /forbidden/ {{ return 403; }}
        location /busy/ {{ return 503; }}
        location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
        location /away/ {{ return 302 file:///etc/passwd; }}
    }}
}}
"""


class Nginx:
    """A server of the files in ``folder``; by ``/slow/``, ``/whole/`` (without ranges), ``/moved/`` they come as well,
    and by ``/listed/`` with pages of what lies in folders.

    Requests for what begins with ``/forbidden/``, ``/busy/`` and ``/away/`` (a redirect to a local file) fail.
    """

    def __init__(self, folder: Path, port: int):
        self.folder, self._log = folder / "files", folder / "access.log"
        self.address, self._read = f"http://127.0.0.1:{port}", 0

    def requests(self) -> list[tuple[str, int, int]]:
        """Path, status and bytes sent, of each request since this was asked the last time."""
        mark = f"/mark-{time.monotonic_ns()}"
        with contextlib.suppress(OSError):  # it is not there
            urllib.request.urlopen(self.address + mark, timeout=10)
        while mark not in (text := self._log.read_text()[self._read :]):
            time.sleep(0.01)
        self._read += len(text)
        lines = [line.split() for line in text.splitlines() if mark not in line]
        return [(path, int(status), int(sent)) for _, path, status, sent in lines]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def nginx_server(tmp_path_factory):
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("needs nginx: apt-get install nginx-light")
    folder, port = tmp_path_factory.mktemp("nginx"), _free_port()
    (folder / "files").mkdir()
    (folder / "nginx.conf").write_text(_CONFIG.format(folder=folder, port=port))
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command)
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.01)
        else:
            pytest.fail(f"nginx does not start: {(folder / 'error.log').read_text()}")
        yield Nginx(folder, port)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def nginx(nginx_server, copies, monkeypatch):
    """An `Nginx` without files yet, nothing of it in the cache."""
    monkeypatch.setenv("no_proxy", "*")
    shutil.rmtree(nginx_server.folder)
    nginx_server.folder.mkdir()
    nginx_server.requests()
    return nginx_server


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The folder of copies of remote files, of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "avlearn" / "remote"
