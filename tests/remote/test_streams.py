"""Copies come as one stream, which goes on where it broke off."""

import errno
import os

import pytest

from avlearn.errors import MediaError, OutputError
from avlearn.remote import file as remote_file
from avlearn.remote.cache import local_copy
from avlearn.remote.file import RemoteFile

MB = 1 << 20


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(remote_file, "_WAITS", (0.0, 0.0))


def test_a_whole_file_is_one_request(nginx):
    data = os.urandom(20 * MB)
    (nginx.folder / "a").write_bytes(data)
    assert local_copy(f"{nginx.address}/a").read_bytes() == data
    assert [sent for _, _, sent in nginx.requests()] == [1, len(data)]


def test_a_stream_goes_on_where_it_broke(cutting, impatient):
    data = os.urandom(9 * MB)
    cutting.files["/a"] = data
    cutting.cuts = [2 * MB, 10, 3 * MB, 0, MB]  # never three in a row without a block between
    assert local_copy(f"{cutting.address}/a").read_bytes() == data
    begins = [first for first, last in cutting.asked if last]
    assert begins == [0, 2 * MB, 2 * MB + 10, 5 * MB + 10, 5 * MB + 10, 6 * MB + 10]
    assert {last for _, last in cutting.asked if last} == {len(data) - 1}


def test_who_breaks_off_again_and_again_is_given_up(cutting, impatient, copies):
    cutting.files["/a"] = os.urandom(3 * MB)
    cutting.cuts = [2 * MB, *[100] * 20]
    with pytest.raises(MediaError, match="/a cannot be read: the server broke off in the middle, 3 times"):
        local_copy(f"{cutting.address}/a")
    assert len(cutting.asked) == 4 and not [path for path in copies.iterdir() if path.suffix != ".lock"][1:]


def test_what_changed_meanwhile_is_not_gone_on_with(cutting, impatient):
    cutting.files["/a"], cutting.cuts = os.urandom(3 * MB), [2 * MB]
    cutting.change = lambda: setattr(cutting, "version", "2")
    with pytest.raises(MediaError, match="it was changed while it was read: try again"):
        local_copy(f"{cutting.address}/a")


@pytest.mark.parametrize("way", ["", "/whole"])
def test_a_disk_that_is_full_is_no_fault_of_the_server(nginx, monkeypatch, way):
    (nginx.folder / "a").write_bytes(bytes(MB))
    written = RemoteFile.save

    class Full:
        def __init__(self, file):
            self.seek, self.tell, self.truncate = file.seek, file.tell, file.truncate

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RemoteFile, "save", lambda self, file, *part: written(self, Full(file), *part))
    with pytest.raises(OutputError, match=r"/a cannot be kept in .*: No space left on device; XDG_CACHE_HOME"):
        local_copy(f"{nginx.address}{way}/a")
