"""Every real file reads as its index says, or is refused with the right reason."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avlearn.errors import NoAudioError, NoVideoError
from avlearn.media import ClipReader, Window, probe

# What the index calls something else than what a viewer gets, and why we are right.
_DIFFERENT = {
    # The index has stored pixels; these are displayed, their pixels are not square.
    "specvqgan/video_01951.mp4": {"WxH": "299x224"},
    "specvqgan/video_02754.mp4": {"WxH": "299x224"},
    "specvqgan/video_02480.mp4": {"WxH": "299x224"},
    "mmaction2/demo.mp4": {"WxH": "427x256"},
    "mmaction2/0ff6f7_demo.mp4": {"WxH": "455x256"},
    # The index has the first of two audio tracks; the second is the better one.
    "torchcodec/nasa_13013.mp4": {"sample_rate": "16000"},
    # A cover image is no video.
    "stempeg/The_Easton_Ellises_-_Falcon_69.stem.mp4": {"WxH": "0x0", "vcodec": "-", "fps": "0"},
    # The index has the ticks of the container's clock, and counts from 0.
    "exoplayer/sample.flv": {"fps": "60", "duration_s": "1.09"},
    "exoplayer/sample.mkv": {"fps": "60"},
    # The index counts from 0; the first frame is shown later than that.
    "python-videointelligence/googlework_short.mp4": {"duration_s": "34.23"},
    "exoplayer/sample_fragmented_seekable.mp4": {"duration_s": "1.07"},
}
_NO_FRAME = "exoplayer/init.mp4"  # the header of a stream whose fragments are elsewhere
_NO_VIDEO = ("exoplayer/sample_opus.mp4", "stempeg/The_Easton_Ellises_-_Falcon_69.stem.mp4")
_NO_AUDIO = (
    "human-action-recognition-ucf101/v_BenchPress_g01_c01.avi",
    "human-action-recognition-ucf101/v_Diving_g01_c01.avi",
    "imageio-binaries/0b243c_cockatoo.mp4",
    "mmaction2/0ff6f7_demo.mp4",
    "mmaction2/demo.mp4",
)
_FPS, _SIDE, _RATE = 30, 64, 16_000


def index(folder: Path) -> dict[str, dict[str, str]]:
    """Rows by file, as they ought to be."""
    with open(folder.parent / "INDEX.tsv", newline="") as lines:
        rows = {row["path"].removeprefix("real/"): row for row in csv.DictReader(lines, delimiter="\t", quoting=3)}
    return {name: row | _DIFFERENT.get(name, {}) for name, row in rows.items()}


def read_and_check(path: Path, windows: list[Window], video: bool, audio: bool) -> None:
    """Windows of at most half a second, all within the file: everything promised is there."""
    reader = ClipReader(fps=_FPS, size=_SIDE, sample_rate=_RATE, mono=True, video=video, audio=audio)
    for clip, window in zip(reader.read(path, windows), windows, strict=True):
        count = round(window.duration * _FPS)
        if video:
            assert clip.video.dtype == np.uint8 and clip.video.shape[0] == count and clip.video.shape[3] == 3
            assert min(clip.video.shape[1:3]) == _SIDE
            assert clip.times.dtype == np.float64 and clip.times.shape == (count,)
            instants = window.start + np.arange(count) / _FPS
            assert (clip.times <= np.maximum(instants, clip.times[0]) + 1e-3).all()
            assert (np.diff(clip.times) >= 0).all()
        if audio:
            assert clip.audio.dtype == np.float32 and clip.audio.shape == (1, round(window.duration * _RATE))
            assert np.isfinite(clip.audio).all()


def test_the_index_and_the_folder_agree(real_videos):
    found = {str(path.relative_to(real_videos)) for path in real_videos.rglob("*") if path.is_file()}
    assert found == set(index(real_videos)) >= {*_DIFFERENT, _NO_FRAME, *_NO_VIDEO, *_NO_AUDIO}


def test_every_file_is_what_the_index_says_and_its_middle_reads(real_videos):
    wrong = []
    for name, row in index(real_videos).items():
        if name == _NO_FRAME:
            continue
        info = probe(real_videos / name)
        video, audio = info.video, info.audio
        told = {
            "WxH": f"{video.width}x{video.height}" if video else "0x0",
            "vcodec": video.codec if video else "-",
            "acodec": audio.codec if audio else "-",
            "sample_rate": str(audio.sample_rate if audio else 0),
            "channels": str(audio.channels if audio else 0),
        }
        wrong += [f"{name}: {key} {value}, not {row[key]}" for key, value in told.items() if value != row[key]]
        if abs(info.duration - float(row["duration_s"])) > 0.02:
            wrong.append(f"{name}: {info.duration:.3f} s, not {row['duration_s']}")
        if video and abs(video.fps - float(row["fps"])) > 0.01:
            wrong.append(f"{name}: {video.fps:.3f} fps, not {row['fps']}")
        length = min(0.5, info.duration / 3)
        windows = [Window(info.start + info.duration / 2 - length / 2, length), Window(info.start, length)]
        read_and_check(real_videos / name, windows, video is not None, audio is not None)
    assert not wrong, "\n".join(wrong)


def test_a_header_without_frames_is_refused(real_videos):
    path = real_videos / _NO_FRAME
    with pytest.raises(NoVideoError, match="holds no frame"):
        probe(path)
    with pytest.raises(NoVideoError, match="holds no frame"):
        ClipReader().read(path, [Window(0.0, 1.0)])


@pytest.mark.parametrize("name", _NO_VIDEO)
def test_a_video_that_is_not_there_is_refused(real_videos, name):
    assert probe(real_videos / name).video is None
    with pytest.raises(NoVideoError, match="has no video"):
        ClipReader().read(real_videos / name, [Window(0.0, 0.5)])


@pytest.mark.parametrize("name", _NO_AUDIO)
def test_audio_that_is_not_there_is_refused(real_videos, name):
    assert probe(real_videos / name).audio is None
    with pytest.raises(NoAudioError, match="has no audio track"):
        ClipReader().read(real_videos / name, [Window(0.0, 0.5)])


def test_sentences_of_grid_read(real_videos):
    folder = real_videos.parent / "corpora" / "grid"
    paths = sorted(folder.rglob("*.mp4"))
    for k in np.random.default_rng(0).choice(len(paths), 30, replace=False):
        info = probe(paths[k])
        video, audio = info.video, info.audio
        form = (video.width, video.height, audio.sample_rate, audio.channels)
        # Stored 256 wide with a pixel of 255:256; or, of one speaker, as it was distributed.
        assert form == (255, 204, 16_000, 1) or (form == (320, 256, 44_100, 2) and paths[k].parent.name == "s4"), paths[
            k
        ]
        assert (video.fps, video.codec, audio.codec) == (25.0, "h264", "aac"), paths[k]
        assert info.duration == pytest.approx(3.0, abs=0.1)
        read_and_check(paths[k], [Window(1.25, 0.5), Window(2.3, 0.5)], True, True)


def test_recordings_of_esc10_sound_as_libsndfile_decodes_them(real_videos):
    folder = real_videos.parent / "corpora" / "esc10"
    paths = sorted(folder.rglob("*.ogg"))
    for k in np.random.default_rng(0).choice(len(paths), 30, replace=False):
        reference, rate = soundfile.read(paths[k], dtype="float32")
        info = probe(paths[k])
        assert info.video is None
        assert (info.audio.sample_rate, info.audio.channels, rate) == (32_000, 1, 32_000), paths[k]
        assert info.start + info.duration == pytest.approx(len(reference) / rate, abs=0.02), paths[k]
        read_and_check(paths[k], [Window(2.25, 0.5), Window(info.duration - 0.6, 0.5)], False, True)
        audio = ClipReader(video=False).read(paths[k], [Window(2.25, 0.5)])[0].audio[0]
        # Sample for sample, up to one offset: a Vorbis stream may be stamped up to a block (11 ms) off its samples.
        first = round(2.25 * rate)
        apart = [abs(reference[first + lag :][: len(audio)] - audio).max() for lag in range(-350, 351)]
        assert min(apart) < 1e-3, paths[k]
