"""Media by address: what comes is what a path gives, few requests are made, and what goes wrong is told in a line."""

import socket
import sys
import threading
from types import SimpleNamespace

import av
import fsspec
import numpy as np
import pytest
import small
from yarl import URL

from avlearn.errors import MediaError
from avlearn.media import ClipReader, MediaFile, Slice, Window
from avlearn.remote import cache, http
from avlearn.remote import file as remote_file
from avlearn.remote.file import BlockReader, RemoteFile

pytestmark = pytest.mark.usefixtures("copies")
MB = 1 << 20


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(remote_file, "_WAITS", (0.0, 0.0))
    monkeypatch.setattr(http, "SILENCE", 0.2)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Noise of 60 s in an MP4 of tens of MB."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", 25, {"preset": "ultrafast", "qp": "36", "g": "25"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for shift in range(1500):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, 17 * shift, 1))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


class Answers:
    """A server that answers every request with the same bytes, and then closes, or waits."""

    def __init__(self, answer: bytes, again: bytes = b"", wait: threading.Event | None = None):
        self.asked, self._answer, self._again, self._wait = 0, answer, again, wait
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/a.mp4"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answered, args=[connection], daemon=True).start()

    def _answered(self, connection):
        self.asked += 1
        try:
            with connection:
                connection.recv(65536)
                connection.sendall(self._answer)
                while self._again:
                    connection.sendall(self._again)
                if self._wait:
                    self._wait.wait()
        except OSError:
            pass

    def close(self):
        self._socket.close()


@pytest.fixture
def answers():
    """Make an `Answers`; all of them end with the test."""
    made, done = [], threading.Event()

    def make(answer, again=b"", wait=False):
        made.append(Answers(answer, again, done if wait else None))
        return made[-1]

    yield make
    done.set()
    for server in made:
        server.close()


def partial(size, begin, body, more=b""):
    end = begin + len(body) - 1
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {begin}-{end}/{size}\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body + more


def test_a_window_in_the_middle_of_a_large_file_takes_few_requests_and_few_bytes(nginx, large):
    (nginx.folder / "large.mp4").hardlink_to(large)
    windows, reader = [Window(30.2, 1.0)], ClipReader(fps=25, size=112, audio=False)
    nginx.requests()
    (clip,) = reader.read(f"{nginx.address}/large.mp4", windows)
    asked, size = nginx.requests(), large.stat().st_size
    assert size > 20 * MB
    assert np.array_equal(clip.video, reader.read(large, windows)[0].video)
    # Its size; its first block; its index, which is at the end; the window's.
    assert len(asked) <= 5 and sum(sent for _, _, sent in asked) < 0.15 * size


def test_what_is_read_in_order_takes_larger_parts(nginx):
    data = np.random.default_rng(0).bytes(40 * MB + 5)
    (nginx.folder / "a").write_bytes(data)
    reader = BlockReader(RemoteFile(f"{nginx.address}/a"), 0, len(data))
    found = b"".join(iter(lambda: reader.read(300_000), b""))
    assert found == data
    # One that asks for its size; then parts of 1, 2, 4 and 8 MB.
    assert [sent for _, _, sent in nginx.requests()][:5] == [1, 1 * MB, 2 * MB, 4 * MB, 8 * MB]
    reader.seek(0)
    assert reader.read(10) == data[:10]
    assert len(nginx.requests()) == 1  # it is gone from memory


def test_a_small_file_is_fetched_once(nginx, copies):
    path = small.write(nginx.folder / "a.mp4")
    for _ in range(2):
        with MediaFile(f"{nginx.address}/a.mp4") as file:
            assert np.array_equal(file[0.1:0.5].video, MediaFile(path)[0.1:0.5].video)
    sent = [sent for _, _, sent in nginx.requests()]
    assert sent == [1, path.stat().st_size, 1]
    small.write(path, 30, 1.2)  # another file now
    with MediaFile(f"{nginx.address}/a.mp4") as file:
        assert file.duration == pytest.approx(1.2, abs=0.05)
    assert {path.suffix for path in copies.iterdir() if not path.name.startswith(".")} == {""}


@pytest.mark.parametrize("way", ["", "/slow", "/whole", "/moved"])
def test_ways_to_a_file(nginx, way, monkeypatch):
    path = small.write(nginx.folder / "a.mp4", 50, 2.0)
    whole = b"\1" * 1000 + path.read_bytes() + b"\2" * 100_000
    (nginx.folder / "b").write_bytes(whole)
    within = Slice(f"{nginx.address}{way}/b", 1000, path.stat().st_size)
    for limit in (cache._SMALL, 0):  # a copy; and blocks
        monkeypatch.setattr(cache, "_SMALL", limit)
        for source in (f"{nginx.address}{way}/a.mp4", within):
            with MediaFile(source) as file:
                assert np.array_equal(file[0.5:1.0].video, MediaFile(path)[0.5:1.0].video)
                assert str(file) == str(source)


def test_what_goes_wrong_is_told_in_a_line(nginx, impatient, answers, copies):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refused = f"http://127.0.0.1:{closed.getsockname()[1]}/a.mp4"
    (nginx.folder / "folder").mkdir()
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    again = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    silent, cut = answers(b"", wait=True), answers(partial(5000, 0, b"1"))
    lying = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n" + bytes(500))
    refusals = {
        f"{nginx.address}/none.mp4": "is not there",
        f"{nginx.address}/forbidden/a.mp4": r"may not be read \(the server says 403 Forbidden\)",
        f"{nginx.address}/busy/a.mp4": "cannot be reached: the server says 503 Service",
        f"{nginx.address}/away/a.mp4": "sends on to file:///etc/passwd, which is no address",
        refused: "cannot be reached: Connection refused; check the address",
        "http://nowhere.invalid/a.mp4": "cannot be reached: ",
        "nowhere://a.mp4": "cannot be opened: Protocol not known",
        silent.address: "the server was silent, 3 times",
        cut.address: "sends another part than was asked for",
        lying.address: "broke off in the middle, 3 times",
        answers(endless, again).address: "does not say how long it is",
        answers(b"nonsense\r\n\r\n").address: "what the server answers is not HTTP",
    }  # fmt: skip
    for address, reason in refusals.items():
        with pytest.raises(MediaError, match=reason) as caught:
            MediaFile(address)
        assert str(caught.value).startswith(address) and "\n" not in str(caught.value)
    assert silent.asked == 3 and lying.asked == 4
    assert not [path for path in copies.glob("*") if not path.name.startswith(".")]


@pytest.mark.parametrize("hops", [["https", "http"], ["http", "https", "http"], ["http", "https"], ["https"], ["http"]])
def test_https_stays_https(hops):
    *history, last = [SimpleNamespace(url=URL(f"{scheme}://host/a"), status=200, reason="OK") for scheme in hops]
    last.history = history
    if hops[-1] == "http" and "https" in hops:
        with pytest.raises(ValueError, match="the server sends on to http://host/a, which is not https"):
            http.WebFile._check(None, last, 200)
    else:
        http.WebFile._check(None, last, 200)


def test_what_has_to_be_installed(monkeypatch):
    for module, address, said in (
        ("fsspec.core", "https://host/a.mp4", r"is remote, and needs fsspec: pip install 'avlearn\[remote\]'"),
        ("aiohttp", "https://host/a.mp4", r"is remote, and needs aiohttp: pip install 'avlearn\[remote\]'"),
        ("gcsfs", "gs://bucket/a.mp4", "needs gcsfs: pip install gcsfs"),
    ):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            without.delitem(sys.modules, "avlearn.remote.http", raising=False)
            with pytest.raises(MediaError, match=f"^{address} {said}$"):
                MediaFile(address)


def test_more_than_was_asked_for_is_not_read(impatient, answers):
    server = answers(
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/1\r\n\r\n", again=bytes(1 << 16)
    )  # no length: until the connection ends
    assert RemoteFile(server.address).read(0, 1) == b"\0"


def test_a_file_that_changes_while_it_is_read(nginx, impatient, monkeypatch):
    monkeypatch.setattr(cache, "_SMALL", 0)
    path = nginx.folder / "a"
    path.write_bytes(bytes(3 * MB))
    with MediaFile(f"{nginx.address}/a") as file:
        path.write_bytes(bytes(4 * MB))
        with pytest.raises(MediaError, match="has the file changed"):
            file.path.read(2 * MB, 10)


def test_any_address_that_fsspec_knows(tmp_path, monkeypatch):
    path = small.write(tmp_path / "a.mp4")
    memory = fsspec.filesystem("memory")
    memory.pipe("/b", bytes(100) + path.read_bytes())
    for limit in (cache._SMALL, 0):
        monkeypatch.setattr(cache, "_SMALL", limit)
        with MediaFile(Slice("memory://b", 100, path.stat().st_size)) as file:
            assert np.array_equal(file[0.1:0.5].video, MediaFile(path)[0.1:0.5].video)
    memory.makedirs("/c", exist_ok=True)
    with pytest.raises(MediaError, match="memory://c is a folder"):
        MediaFile("memory://c")
