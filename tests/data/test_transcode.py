"""Transcoding: frames, instants, audio and colours of files whose truth is known, and other decoders' word for it."""

import shutil
import subprocess
import sys
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from avlearn.data import transcode as transcoding
from avlearn.data.transcode import Settings, transcode
from avlearn.errors import MediaError, NoAudioError, NoVideoError, OutputError
from avlearn.media import probe, write_video, write_wav
from avlearn.media.packets import droppable_rule

sys.path.append(str(Path(__file__).parents[1] / "media"))
from golden import COLOURS, EVENTS, Golden, colours, flashes, golden, lag, number

RATE = 16000
CLOCKS = (
    "fps29.97", "variable", "variable_mkv", "variable_ts", "late_audio", "late_video", "late_audio_mkv",
    "late_video_mkv", "late_audio_ts", "late_video_ts", "edit_list", "open_gop_ts", "interlaced_mpeg2",
    "avi_mpeg4", "avi_mp3", "mpg_mpeg1", "flv", "aac_surround", "flac_192k",
)  # fmt: skip
SHAPES = (
    "fps25", "rotated90", "rotated180", "rotated90_mkv", "rotated_wide_pixels", "wide_pixels", "tall_pixels",
    "odd_444", "ten_bits", "full_range", "bt709_full", "bt601",
)  # fmt: skip


@cache
def made(name: str) -> tuple[Golden, Path, float, dict]:
    """A file, what it became, the instant of its first frame, and the columns."""
    truth = golden(name)
    path = truth.path.with_name(f"prepared-{name}.mp4")
    return truth, path, *transcode(truth.path, path, Settings(sample_rate=RATE))


@lru_cache(2)
def frames_of(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Instants and frames, by FFmpeg alone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return np.array([frame.time for frame in frames]), [frame.to_ndarray(format="rgb24") for frame in frames]


def audio_of(path: Path) -> np.ndarray:
    """Samples from the instant 0 on, by FFmpeg alone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    assert frames[0].pts == 0
    return np.concatenate([frame.to_ndarray() for frame in frames], 1)


def put(truth: Golden, begin: float, count: int) -> np.ndarray:
    """What all channels together hold from an instant on."""
    return np.mean([truth.samples(begin, RATE, count, channel) for channel in range(truth.channels)], 0)


# ---- clocks


@pytest.mark.parametrize("name", CLOCKS)
def test_every_frame_keeps_its_instant(name):
    truth, path, begin, row = made(name)
    times, images = frames_of(path)
    assert begin == pytest.approx(truth.times[0], abs=1e-5)
    assert [number(image) for image in images] == truth.numbers.tolist()
    assert times == pytest.approx(truth.times - truth.times[0], abs=max(0.51 * truth.kind.tick, 2e-5))
    assert probe(path).video.variable_fps == truth.kind.variable
    if not truth.kind.variable:
        assert row["fps"] == pytest.approx(float(truth.kind.fps), abs=1e-6)
        assert row["duration"] == pytest.approx(truth.end - truth.times[0], abs=1 / RATE)


@pytest.mark.parametrize("name", CLOCKS)
def test_the_audio_lies_where_it_lay(name):
    """To a tenth of a millisecond, by two witnesses: the whole track, and each beep at its flash."""
    truth, path, begin, _ = made(name)
    heard = audio_of(path)
    late, likeness = lag(heard[0], put(truth, begin, heard.shape[1]), RATE)
    assert heard.shape[0] == 1 and abs(late) < 1e-4 and likeness > 0.98
    times, images = frames_of(path)
    assert [number(image) for image in images if flashes(image)] == [n for n in truth.numbers if n in EVENTS]
    for time in [time for time, image in zip(times, images, strict=True) if flashes(image)][:3]:
        first = round(time * RATE) - 800
        if first >= 0 and truth.audio_start < begin + time - 0.05:
            window = heard[0, first : first + 2560]
            assert abs(lag(window, put(truth, begin + first / RATE, 2560), RATE)[0]) < 1e-4


@pytest.mark.parametrize("name", ["late_audio", "late_audio_mkv", "late_audio_ts"])
def test_there_is_silence_before_the_audio_begins(name):
    truth, path, begin, _ = made(name)
    quiet = round((truth.audio_start - begin - 0.07) * RATE)  # a frame of AAC rings ahead
    heard = audio_of(path)[0]
    assert quiet > 4000 and np.abs(heard[:quiet]).max() < 1e-3 < 0.05 < np.abs(heard[quiet:]).max()


def test_audio_that_ends_before_the_video_ends_early(tmp_path):
    """And is not read again for every frame that is left."""
    tone = 0.3 * np.sin(np.arange(RATE) * 0.2)[None].astype(np.float32)
    write_video(tmp_path / "a.mp4", np.zeros((300, 32, 32, 3), np.uint8), 25, audio=tone, sample_rate=RATE)
    _, row = transcode(tmp_path / "a.mp4", tmp_path / "b.mp4", Settings())
    assert row["duration"] == pytest.approx(1.0, abs=0.07)
    assert len(frames_of(tmp_path / "b.mp4")[0]) == 300


# ---- frames


@pytest.mark.parametrize("name", SHAPES)
def test_frames_are_upright_and_square_in_their_colours(name):
    truth, path, _, row = made(name)
    _, images = frames_of(path)
    assert [number(image) for image in images] == truth.numbers.tolist()
    assert (row["width"], row["height"]) == tuple(side // 2 * 2 for side in truth.display)
    assert images[0].shape[1::-1] == (row["width"], row["height"])
    with av.open(str(path)) as container:
        (video,) = container.streams.video
        assert (video.sample_aspect_ratio or 1) == 1 and next(container.decode(video)).rotation == 0
    # FFmpeg's own conversion takes BT.601 for granted where nothing is said; 4:2:0 blurs the edges of our small cells.
    found = np.mean([colours(image) for image in images[::10]], 0)
    limit = 14 if truth.kind.matrix == "601" else 40
    assert np.abs(found - COLOURS).max() < limit, found.round()


def test_the_matrix_of_colours_is_named():
    for name, space in (("bt709", 1), ("bt709_full", 1), ("bt601", 6), ("fps25", 6)):
        with av.open(str(made(name)[1])) as container:
            frame = next(container.decode(video=0))
        assert (int(frame.colorspace), int(frame.color_range)) == (space, 1), name


@pytest.mark.parametrize(("side", "size"), [(160, (96, 64)), (48, (72, 48)), (32, (48, 32))])
def test_the_short_side_shrinks_and_never_grows(tmp_path, side, size):
    truth = golden("fps25")
    _, row = transcode(truth.path, tmp_path / "a.mp4", Settings(short_side=side))
    assert (row["width"], row["height"]) == size
    assert number(frames_of(tmp_path / "a.mp4")[1][7]) == 7


@pytest.mark.parametrize("name", ["pyramid", "variable", "gop12"])
def test_frames_follow_one_pattern(name):
    """A keyframe every 32 frames, P frames every 8 and at a group's end, and nothing depends on the others."""
    with av.open(str(made(name)[1])) as container:
        (stream,) = container.streams.video
        unused = droppable_rule(stream.codec_context)
        packets = sorted((p for p in container.demux(stream) if p.size), key=lambda packet: packet.pts)
    last = len(packets) - 1
    assert [k for k, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, len(packets), 32))
    leaned = [k for k, packet in enumerate(packets) if not unused(packet)]
    assert leaned == [k for k in range(len(packets)) if k % 32 % 8 == 0 or k % 32 == 31 or k == last]


def test_the_same_source_gives_the_same_bytes(tmp_path):
    for name in ("late_video", "variable_mkv"):
        truth, path, begin, row = made(name)
        assert transcode(truth.path, tmp_path / "again.mp4", Settings()) == (begin, row)
        assert (tmp_path / "again.mp4").read_bytes() == path.read_bytes()


# ---- other decoders


def test_opencv_plays_it():
    truth, path, _, row = made("late_audio_mkv")
    player = cv2.VideoCapture(str(path))
    assert player.get(cv2.CAP_PROP_FPS) == pytest.approx(row["fps"])
    shown = []
    while (got := player.read())[0]:
        shown.append(number(got[1][..., ::-1]))
    assert shown == truth.numbers.tolist()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg on the PATH")
def test_the_program_ffmpeg_plays_it():
    truth, path, begin, _ = made("late_video_ts")
    words = ["ffmpeg", "-v", "error", "-xerror", "-i", path]
    done = subprocess.run([*words, "-f", "f32le", "-"], capture_output=True, check=True)
    heard = np.frombuffer(done.stdout, np.float32)
    assert abs(lag(heard, put(truth, begin, len(heard)), RATE)[0]) < 1e-4
    done = subprocess.run([*words, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    assert done.stderr == b""
    images = np.frombuffer(done.stdout, np.uint8).reshape(-1, truth.display[1], truth.display[0], 3)
    assert [number(image) for image in images] == truth.numbers.tolist()


# ---- what cannot be used


def hurt(path: Path, to: Path, kind: str) -> Path:
    """A copy whose packets of a kind are noise from the middle on, for six packets."""
    with av.open(str(path)) as source, av.open(str(to), "w") as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        seen = 0
        for packet in source.demux():
            if not packet.size:
                continue
            seen += packet.stream.type == kind
            if packet.stream.type == kind and 50 <= seen < 56:
                data = bytes(packet)[:5] + np.random.default_rng(seen).bytes(packet.size - 5)
                noise = av.Packet(data)
                noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
                noise.duration, noise.is_keyframe = packet.duration, packet.is_keyframe
                packet, noise.stream = noise, packet.stream
            packet.stream = streams[packet.stream]
            target.mux(packet)
    return to


def refused(path: Path, tmp_path: Path, kind: type = MediaError) -> str:
    """The reason why a file cannot be transcoded; nothing is left of the try."""
    (tmp_path / "out").mkdir()
    with pytest.raises(kind) as caught:
        transcode(path, tmp_path / "out" / "b.mp4", Settings())
    assert not list((tmp_path / "out").iterdir())
    return str(caught.value)


@pytest.mark.parametrize(("name", "kind"), [("no_b", "video"), ("mkv", "video"), ("fps25", "audio")])
def test_damage_is_refused(tmp_path, name, kind):
    path = hurt(golden(name).path, tmp_path / f"hurt{golden(name).path.suffix}", kind)
    assert "damaged" in refused(path, tmp_path)


def test_a_file_cut_short_is_refused(tmp_path):
    data = golden("faststart").path.read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: len(data) * 2 // 3])
    assert refused(tmp_path / "a.mp4", tmp_path)


def test_what_lacks_video_is_refused(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros((1, RATE), np.float32), RATE)
    refused(tmp_path / "a.wav", tmp_path, NoVideoError)


def test_what_lacks_audio_is_transcoded_without(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((25, 32, 32, 3), np.uint8), 25)
    begin, columns = transcode(tmp_path / "a.mp4", tmp_path / "out.mp4", Settings())
    assert begin == 0 and columns["duration"] == pytest.approx(1.0) and "audio_codec" not in columns
    info = probe(tmp_path / "out.mp4")
    assert info.audio is None and info.video.codec == "h264"


def test_audio_that_never_meets_the_video_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 32
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for k in range(25):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = k + 50, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        beep = av.AudioFrame.from_ndarray(np.full((1, RATE), 9000, np.int16), "s16", "mono")
        beep.sample_rate, beep.pts = RATE, 0
        container.mux([*audio.encode(beep), *audio.encode(None)])
    assert "no audio plays" in refused(tmp_path / "a.mkv", tmp_path, NoAudioError)


@pytest.mark.parametrize("fault", ["audio", "video"])
def test_what_was_not_written_as_it_should_be_is_refused(tmp_path, monkeypatch, fault):
    """Encoders that lose something: the end of the audio, or a frame."""
    if fault == "audio":
        monkeypatch.setattr(transcoding.AudioTrack, "finish", lambda track: None)
    else:
        monkeypatch.setattr(transcoding, "_video_stream", _forgetful)
    assert "written" in refused(golden("fps25").path, tmp_path)


_video_stream = transcoding._video_stream


def _forgetful(*given):
    stream = _video_stream(*given)

    class Forgetful:
        def encode(self, frame):
            return [] if frame is not None and frame.pts == 7 else stream.encode(frame)

    return Forgetful()


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="there is no folder"):
        transcode(golden("fps25").path, tmp_path / "none" / "a.mp4", Settings())
