"""A `MediaFile` reads what a path gives, to the bit, from wherever the bytes lie, and opens them once."""

import io
import multiprocessing
import os
import pickle
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import av
import fsspec
import numpy as np
import pytest
import small

import avlearn
from avlearn.errors import MediaError, NoAudioError, NoVideoError, WindowError
from avlearn.media import ClipReader, MediaFile, Selected, Slice, Window, open_file, probe, read_clip, remux, stream
from avlearn.media.decode_audio import Samples
from avlearn.media.selection import select_audio, track_number

pytestmark = pytest.mark.usefixtures("copies")

CONTAINERS = {
    "mp4": {},
    "mov": {"audio": "pcm_s16le"},
    "mkv": {"layouts": ("stereo",)},
    "ts": {"begin": 2.0},
    "avi": {"codec": "mpeg4", "audio": "libmp3lame"},
    "mpg": {"codec": "mpeg2video", "audio": "mp2", "rate": 44_100},
    "flv": {"rate": 44_100},
    "webm": {"codec": "libvpx", "audio": "libopus", "rate": 48_000},
}


@pytest.fixture(scope="module", params=CONTAINERS)
def media(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("media") / f"a.{request.param}"
    return small.write(path, 50, 2.0, **CONTAINERS[request.param])


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    return small.write(tmp_path_factory.mktemp("media") / "a.mp4", 50, 2.0, layouts=("stereo",))


def given(kind: str, path):
    """The file in one of the ways in which it can be given."""
    if kind == "bytes":
        return path.read_bytes()
    if kind == "file object":
        return io.BytesIO(path.read_bytes())
    if kind == "slice":
        whole = path.with_suffix(".tar")
        whole.write_bytes(b"\1" * 1000 + path.read_bytes() + b"\2" * 500)
        return Slice(whole, 1000, path.stat().st_size)
    if kind == "address":
        fsspec.filesystem("memory").pipe(f"/{path.name}", path.read_bytes())
        return f"memory://{path.name}"
    if kind == "address in an archive":
        with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
            archive.write(path, path.name)
        return f"zip://{path.name}::{path.with_suffix('.zip')}"
    return path


KINDS = ["path", "bytes", "file object", "slice", "address", "address in an archive"]


def alike(ours, theirs) -> bool:
    facts = [(clip.fps, clip.sample_rate, clip.start, clip.before) for clip in (*ours, *theirs)]
    return (
        len(ours) == len(theirs)
        and facts[: len(ours)] == facts[len(ours) :]
        and all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for a, b in zip(ours, theirs, strict=True)
            for name in ("video", "audio", "times")
        )
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_reads_what_a_path_gives_to_the_bit_and_again(media, kind):
    info = probe(media)
    windows = [Window(info.start + 0.9, 0.5), Window(info.start, 0.3, after=0.2, crop="square")]
    reader = ClipReader(fps=10, size=32, sample_rate=8000, mono=True)
    with MediaFile(given(kind, media)) as file:
        for _ in range(2):
            assert replace(file.info, path=str(media)) == info
            assert alike(reader.read(file, windows), reader.read(media, windows))
            clip = file[info.start + 0.5 : info.start + 1.0]
            assert alike([clip], [read_clip(media, info.start + 0.5, 0.5)])
            assert len(clip.video) == 12 or len(clip.video) == 13
            assert alike(list(file.stream(0.8, 0.4)), list(stream(media, 0.8, 0.4)))
            assert alike(file.clips(windows, size=24), ClipReader(size=24).read(media, windows))


def test_a_slice_of_seconds_is_a_clip(mp4):
    with avlearn.MediaFile(mp4) as file:
        assert (file.duration, file.fps) == (probe(mp4).duration, 25)
        assert alike([file[:]], [read_clip(mp4)])
        assert alike([file[1:]], [read_clip(mp4, 1.0)])
        assert alike([file[:0.4]], [read_clip(mp4, 0.0, 0.4)])
        for empty in (slice(1.0, 1.0), slice(1.0, 0.5), slice(50.0, 51.0)):
            with pytest.raises(WindowError):
                file[empty]
        for wrong in (3, slice(0, 2, 0.5)):
            with pytest.raises(TypeError, match=r"file\[2.0:4.0\]"):
                file[wrong]


def test_frames_are_those_that_are_shown_at_the_instants(mp4):
    whole = read_clip(mp4, audio=False).video
    with MediaFile(mp4) as file:
        times = [1.5, 0.0, 0.039, 0.04, 1.999, 0.58, 1.5]
        assert np.array_equal(file.frames(times), whole[[37, 0, 0, 1, 49, 14, 37]])
        assert file.frames(np.arange(50) / 25, size=24).shape == (50, 24, 32, 3)
        assert file.frames([]).shape == (0, 0, 0, 3)
        for outside in (2.5, -1.0):
            with pytest.raises(WindowError):
                file.frames([0.5, outside])


def test_tensors_have_channels_first(mp4):
    with MediaFile(mp4) as file:
        clip = file[0.2:1.0]
    video, audio = clip.tensor()
    assert (video.shape, str(video.dtype)) == ((20, 3, 48, 64), "torch.uint8")
    assert (audio.shape, str(audio.dtype)) == ((2, 12_800), "torch.float32")
    assert np.array_equal(video[3, :, 5, 7], clip.video[3, 5, 7]) and np.array_equal(audio, clip.audio)


def test_it_reads_whichever_of_video_and_audio_there_is(tmp_path):
    with MediaFile(small.write(tmp_path / "silent.mp4", 20, 0)) as file:
        assert file[0.0:0.4].video.shape == (10, 48, 64, 3) and file[0.0:0.4].audio.size == 0
        assert [len(clip.video) for clip in file.stream(0.4, 0.4)] == [10, 10]
    with MediaFile(small.write(tmp_path / "audio.mp4", 0, 1.0)) as file:
        assert file[0.0:0.4].audio.shape == (1, 6400) and file.fps is None
        assert next(clip.audio.shape for clip in file.stream(0.8, 0.8)) == (1, 12_800)
        with pytest.raises(NoVideoError):
            file.frames([0.1])


def test_tracks_and_channels_are_selected(tmp_path):
    path = small.write(tmp_path / "a.mkv", 20, 0.8, layouts=("mono", "stereo"), languages=("eng", "fra"))
    found = {}
    with MediaFile(path, track=2, channel="left") as file:
        found["at once"] = file[0.0:0.8].audio
        assert track_number(file) == 2
        assert np.array_equal(read_clip(Selected(file, 1)).audio, read_clip(Selected(path, 1, "left")).audio)
    with MediaFile(Selected(path, 2), channel="left") as file:
        found["given a selection"] = file[0.0:0.8].audio
    with MediaFile(path) as file:
        found["afterwards"] = read_clip(select_audio(file, "fra", "left"), 0.0, 0.8).audio
        with pytest.raises(NoAudioError, match="number 3"):
            read_clip(Selected(file, 3))
    for audio in found.values():
        assert np.array_equal(audio, read_clip(Selected(path, 2, "left"), 0.0, 0.8).audio)


@pytest.fixture
def opens(monkeypatch):
    """What is opened: by the system, and by FFmpeg."""
    seen = {"system": [], "ffmpeg": []}
    by_system, by_ffmpeg = open_file._opened_path, av.open

    def counted(path):
        seen["system"].append(path)
        return by_system(path)

    def counted_av(file, *args, **kwargs):
        seen["ffmpeg"].append(file)
        return by_ffmpeg(file, *args, **kwargs)

    monkeypatch.setattr(open_file, "_opened_path", counted)
    monkeypatch.setattr(av, "open", counted_av)
    return seen


def test_a_file_is_opened_once_and_probed_once(mp4, opens):
    with MediaFile(mp4) as file:
        assert file.info is file.info is probe(file)
        assert len(opens["ffmpeg"]) == 1
        for _ in stream(file, 1.0, 1.0):
            pass
        # The video has a decoder of its own, as the audio; what was only looked at is not opened again.
        assert len(opens["ffmpeg"]) == 3
    assert opens["system"] == [mp4] and not any(isinstance(each, str) for each in opens["ffmpeg"])


def test_headers_are_looked_at_without_opening_again(mp4, opens):
    with MediaFile(mp4) as file:
        for _ in range(3):
            assert track_number(select_audio(file, "1", "left")) == 1
            Samples(file, 0.0)
        assert Samples(file, 0.0).read(0, 100).shape == (2, 100)
    assert len(opens["ffmpeg"]) == 1


def test_a_transport_stream_is_searched_for_jumps_of_its_clock_once(tmp_path, opens):
    path = small.write(tmp_path / "a.ts")
    opens["ffmpeg"].clear()
    with MediaFile(path) as file:
        for _ in range(3):
            assert len(file[:].video) == 20
    assert len(opens["ffmpeg"]) == 2 + 3  # to probe, to search, to read


def test_what_is_closed_is_not_read(mp4):
    content = io.BytesIO(mp4.read_bytes())
    for source in (mp4, mp4.read_bytes(), content):
        with MediaFile(source) as file:
            left = stream(file, 0.2, 0.2)
            next(left)
        file.close()
        with pytest.raises(MediaError, match="is closed: open it again"):
            file[0.0:1.0]
        left.close()
    assert not content.closed and read_clip(MediaFile(content)).video.shape == (50, 48, 64, 3)


def read_elsewhere(file) -> np.ndarray | str:
    try:
        return file[0.4:1.2].audio
    except MediaError as error:
        return str(error)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_opens_a_path_anew(mp4, method):
    with MediaFile(mp4) as file, multiprocessing.get_context(method).Pool(1) as pool:
        whole = stream(file, 0.4, 0.4)
        assert alike([next(whole)], [read_clip(mp4, 0.0, 0.4)])
        assert np.array_equal(pool.apply(read_elsewhere, (file,)), file[0.4:1.2].audio)
        assert alike(list(whole), list(stream(mp4, 0.4, 0.4))[1:])


def test_what_has_no_path_is_not_sent_to_another_process(mp4):
    for source in (mp4.read_bytes(), io.BytesIO(mp4.read_bytes())):
        with MediaFile(source) as file, pytest.raises(MediaError, match="another process: give a path"):
            pickle.dumps(file)
    copy = pickle.loads(pickle.dumps(MediaFile(mp4, track=1, channel="right")))
    assert copy.track == 1 and copy[0.0:1.0].audio.shape == (1, 16_000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked on Unix only")
def test_a_fork_reads_its_own_file_or_none(mp4):
    content = open(mp4, "rb")  # noqa: SIM115
    with content, MediaFile(mp4) as path, MediaFile(content) as shared:
        expected = path[0.4:1.2].audio
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()

        def work():
            for file in (path, shared):
                results.put(read_elsewhere(file))

        child = context.Process(target=work)
        child.start()
        assert np.array_equal(results.get(), expected)
        assert "cannot be read in another process" in results.get()
        child.join()
        assert np.array_equal(shared[0.4:1.2].audio, expected)


def test_threads_read_at_a_time(mp4):
    whole = read_clip(mp4)
    with MediaFile(io.BytesIO(mp4.read_bytes())) as file, ThreadPoolExecutor(8) as pool:
        clips = list(pool.map(lambda k: file[k / 25 : k / 25 + 0.4], list(range(40)) * 2))
    for k, clip in enumerate(clips):
        assert np.array_equal(clip.video, whole.video[k % 40 : k % 40 + 10])


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_bytes_are_remuxed_as_a_path_is(tmp_path, suffix):
    path = small.write(tmp_path / f"a.{suffix}", 50, 2.0)
    remux(path, tmp_path / "b.mkv", audio_delay=0.1)
    with MediaFile(path.read_bytes()) as file:
        remux(file, tmp_path / "c.mkv", audio_delay=0.1)
    assert (tmp_path / "b.mkv").read_bytes() == (tmp_path / "c.mkv").read_bytes()


def test_a_playlist_reaches_for_no_other_file(tmp_path):
    other = small.write(tmp_path / "secret.ts")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:5,\n{other.name}\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.m3u8").write_text(playlist)
    with av.open(str(tmp_path / "a.m3u8")) as container:  # FFmpeg alone does: should it not, ours can go
        assert container.streams.video
    for source in (tmp_path / "a.m3u8", playlist.encode()):
        with MediaFile(source) as file, pytest.raises(MediaError):
            probe(file)


@pytest.mark.parametrize("kind", KINDS)
def test_headers_are_held_to_the_size_of_whatever_they_lie_in(tmp_path, kind):
    path = small.write(tmp_path / "a.mp4")

    def promise(content: bytes) -> bytes:
        return content[:4] + (1).to_bytes(4) + (100_000_000).to_bytes(4)

    path.write_bytes(small.change_box(path.read_bytes(), "moov/trak/mdia/minf/stbl/stsz", promise))
    with MediaFile(given(kind, path)) as file, pytest.raises(MediaError, match="100000000 samples"):
        probe(file)


class Broken(io.BytesIO):
    """A file whose line breaks on the way."""

    def read(self, count=-1):
        if self.tell() > 4000:
            raise zipfile.BadZipFile("the line broke\nand more")
        return super().read(count)


class Pipe(io.BytesIO):
    """What cannot be sought."""

    def seekable(self):
        return False


def test_what_cannot_be_read_is_refused_in_a_line(tmp_path, mp4, monkeypatch):
    closed = open(mp4, "rb")  # noqa: SIM115
    closed.close()
    refusals = {
        tmp_path: "is a folder",
        tmp_path / "none.mp4": "does not exist",
        "memory://none.mp4": "memory://none.mp4 is not there$",
        "nowhere://none.mp4": "nowhere://none.mp4 cannot be opened: Protocol not known",
        Pipe(b"1"): "cannot be searched back and forth",
        closed: "cannot be read",
        io.StringIO("text"): "open it with mode 'rb'",
        42: "a int is no media file",
    }
    for source, reason in refusals.items():
        with pytest.raises(MediaError, match=reason):
            MediaFile(source)
    with (
        MediaFile(Broken(mp4.read_bytes())) as file,
        pytest.raises(MediaError, match=r"cannot be read: the line broke$"),
    ):
        list(file.stream(1.0, 1.0))
    with pytest.raises(MediaError, match="is not a media file that can be read"):
        probe(MediaFile(b"nothing of the kind"))
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MediaError, match=r"needs fsspec: pip install 'avlearn\[remote\]'"):
        MediaFile("s3://bucket/a.mp4")


def test_bytes_that_are_missing_at_the_end_are_told_of_as_in_a_file(tmp_path):
    path = small.write(tmp_path / "a.mkv", 50, 2.0)
    path.write_bytes(path.read_bytes()[:-3000])
    with MediaFile(path.read_bytes()) as file:
        assert replace(file.info, path=str(path)) == probe(path)
