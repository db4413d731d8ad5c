"""Reading against the truth: which frame is shown when, where the audio lies, which way is up, and each colour."""

import zlib

import av
import numpy as np
import pytest
from golden import COLOURS, EVENTS, KINDS, Golden, chirp, colours, flashes, golden, lag, number

from avlearn.errors import WindowError
from avlearn.media import Clip, ClipReader, Window, probe, read_clip

STEADY = [name for name, kind in KINDS.items() if not kind.variable]
CUT = [name for name, kind in KINDS.items() if kind.cut]
LOSSLESS = ("pcm_s16le", "flac")


def most_lag(truth: Golden) -> float:
    """Seconds: a twentieth of what is heard, where the container's clock is fine; a tick where it is coarse."""
    return 1e-4 if truth.kind.suffix in ("mp4", "mov") else 1e-3


def check_fps(truth: Golden, fps: float) -> None:
    """The file's own rate; where frames follow none, a rate between their widest and their narrowest gap."""
    if truth.kind.variable:
        assert 8 <= fps <= 59
    else:
        assert fps == pytest.approx(float(truth.kind.fps), rel=1e-3)


def check_video(truth: Golden, window: Window, clip: Clip) -> None:
    """Every frame is the one shown at its instant, and says when it came."""
    instants = window.start + np.arange(round(window.duration * clip.fps)) / clip.fps
    slack = max(truth.kind.tick, 1e-3)
    if truth.kind.variable:  # the last frame's time is the container's guess
        assert (instants <= truth.times[-1] - slack).sum() <= len(clip.video) <= len(instants)
    else:
        assert (instants < truth.end - slack).sum() <= len(clip.video) <= (instants < truth.end + slack).sum()
    assert len(clip.times) == len(clip.video)
    for image, time, instant in zip(clip.video, clip.times, instants, strict=False):
        got, wanted = number(image), truth.shown(instant)
        assert got in {truth.numbers[k] for k in wanted}, f"at {instant:.4f} s"
        shown = truth.numbers.tolist().index(got)
        assert time == pytest.approx(truth.times[shown], abs=0.51 * truth.kind.tick + 1e-5)


def check_audio(truth: Golden, window: Window, clip: Clip) -> None:
    """Samples lie where they were put, in every channel, and are what was put there."""
    rate = clip.sample_rate
    begin = window.start - window.before
    assert clip.before == window.before
    assert clip.audio.dtype == np.float32
    count = round((window.before + window.duration + window.after) * rate)
    assert clip.audio.shape == (truth.channels, count)
    alike = 0.95 if truth.kind.audio == "vorbis" else 0.99
    for channel, heard in enumerate(clip.audio):
        late, same = lag(heard, truth.samples(begin, rate, count, channel), rate)
        assert same >= alike, f"channel {channel}"
        assert abs(late) <= most_lag(truth), f"channel {channel}"


def some_windows(name: str, count: int) -> list[Window]:
    """Random windows within a file, with audio around them, and one that goes on past its end."""
    truth = golden(name)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    first = max(truth.times[0], truth.audio_start)
    last = min(truth.end, truth.audio_end)
    windows = [Window(rng.uniform(first + 0.2, last - 1.0), rng.uniform(0.5, 0.8), 0.2, 0.2) for _ in range(count - 1)]
    return [*windows, Window(last - rng.uniform(0.5, 0.7), 1.0, 0.3, 0.0)]


@pytest.mark.parametrize("name", KINDS)
def test_windows_show_and_sound_what_the_file_holds_there(name):
    truth = golden(name)
    windows = some_windows(name, 4)
    for window, clip in zip(windows, ClipReader().read(truth.path, windows), strict=True):
        assert clip.sample_rate == truth.kind.rate
        check_fps(truth, clip.fps)
        assert clip.start == window.start
        check_video(truth, window, clip)
        check_audio(truth, window, clip)


@pytest.mark.parametrize("name", KINDS)
def test_other_rates_keep_frames_and_audio_in_place(name):
    truth = golden(name)
    fps = (8.0, 12.5, 50.0, 59.94)[zlib.crc32(name.encode()) % 4]
    windows = some_windows(f"{name}", 3)[::-1]
    for window, clip in zip(windows, ClipReader(fps=fps, sample_rate=16000).read(truth.path, windows), strict=True):
        assert (clip.fps, clip.sample_rate) == (fps, 16000)
        check_video(truth, window, clip)
        check_audio(truth, window, clip)


@pytest.mark.parametrize("name", KINDS)
def test_flash_and_beep_coincide(name):
    """By the clip alone, whatever the file's clock: the frame that lights up comes when the chirp begins."""
    truth = golden(name)
    event = truth.numbers.tolist().index(EVENTS[3])
    [clip] = ClipReader(fps=120).read(truth.path, [Window(truth.times[event] - 0.1, 0.3)])
    lit = [flashes(image) for image in clip.video].index(True)
    assert number(clip.video[lit]) == EVENTS[3]
    instants = clip.start + np.arange(clip.audio.shape[1]) / clip.sample_rate
    late, same = lag(clip.audio[0], chirp(instants - clip.times[lit]), clip.sample_rate)
    assert same > 0.5
    assert abs(late - truth.kind.late) <= most_lag(truth)


@pytest.mark.parametrize("name", STEADY)
def test_a_whole_file_gives_every_frame_once(name):
    truth = golden(name)
    clip = read_clip(truth.path, audio=False)
    assert [number(image) for image in clip.video] == truth.numbers.tolist()


@pytest.mark.parametrize("name", ["fps25", "late_video", "late_audio", "edit_list", "ts_h264", "mkv", "avi_mpeg4"])
def test_beyond_the_file(name):
    truth = golden(name)
    early = Window(truth.times[0] - 0.3, 0.5)
    [clip] = ClipReader(fps=10).read(truth.path, [early])
    check_video(truth, early, clip)
    assert [number(image) for image in clip.video[:3]] == [truth.numbers[0]] * 3
    late = Window(truth.end - 0.35, 1.0, 0.0, 0.5)
    [clip] = ClipReader(fps=10).read(truth.path, [late])
    assert len(clip.video) == len(clip.times) == 4
    assert clip.audio.shape[1] == round(1.5 * clip.sample_rate)
    for start in (min(truth.times[0], truth.audio_start) - 2.0, max(truth.end, truth.audio_end) + 0.5):
        with pytest.raises(WindowError):
            ClipReader().read(truth.path, [Window(start, 1.0)])
    for window, reason in ((Window(1.0, 0.0), "cannot last 0 s"), (Window(1.0, 0.01), "holds no frame")):
        with pytest.raises(WindowError, match=reason):
            ClipReader(fps=10).read(truth.path, [window])


def test_a_long_file_of_one_rate_is_not_called_variable(tmp_path):
    """Packets come in decoding order: the last that are looked at leave gaps that are filled later."""
    with av.open(str(tmp_path / "long.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "4", "b_strategy": "0", "sc_threshold": "0"})
        stream.width = stream.height = 64
        texture = np.random.default_rng(0).integers(0, 255, (8, 58, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        for k in range(400):
            image = np.ascontiguousarray(texture[:, k : k + 64])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    assert probe(tmp_path / "long.mp4").video.variable_fps is False


@pytest.mark.parametrize("name", ["late_audio", "late_audio_mov", "late_audio_mkv", "late_audio_ts"])
def test_there_is_silence_before_the_audio_begins(name):
    truth = golden(name)
    [clip] = ClipReader().read(truth.path, [Window(truth.times[0], 0.45, 0.5)])
    assert clip.video.shape[0] == 11
    assert not clip.audio[:, : round(0.95 * clip.sample_rate)].any()


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("before", [0.02, 0.05, 0.1, 0.4, 1.0])
def test_audio_that_an_edit_list_hides_stays_hidden(name, before):
    truth = golden(name)
    assert truth.audio_start == 0
    [clip] = ClipReader().read(truth.path, [Window(0.0, 0.3, before)])
    hidden = round(before * clip.sample_rate)
    assert not clip.audio[:, :hidden].any()
    assert clip.audio[:, hidden:].any()


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.audio in LOSSLESS])
def test_lossless_audio_is_exact_and_ends_where_it_ends(name):
    truth = golden(name)
    rate = truth.kind.rate
    window = Window(truth.audio_end - 0.3, 0.2, 0.3, 0.4)
    [clip] = ClipReader(video=False).read(truth.path, [window])
    begin, count = window.start - window.before, clip.audio.shape[1]
    assert not clip.audio[:, round((0.6 + truth.kind.tick) * rate) + 1 :].any()
    if not truth.kind.tick and truth.kind.suffix == "mov":  # elsewhere whole ticks may part the file from the truth
        for channel, heard in enumerate(clip.audio):
            # The window begins within half a sample of where it was asked to.
            ways = [truth.samples(begin + shift / rate, rate, count, channel) for shift in np.linspace(-0.5, 0.5, 41)]
            assert min(np.abs(heard - way)[: round(0.59 * rate)].max() for way in ways) < 2e-3


SHAPED = [name for name in KINDS if name.startswith(("rotated", "wide_", "tall_", "odd_"))]


@pytest.mark.parametrize("name", SHAPED)
def test_frames_are_upright_with_square_pixels(name):
    truth = golden(name)
    window = Window(truth.times[0] + 1.02, 0.2)
    [clip] = ClipReader(audio=False).read(truth.path, [window])
    assert clip.video.shape[2:0:-1] == truth.display
    check_video(truth, window, clip)  # its number can be read off an upright frame only
    [small] = ClipReader(audio=False, size=32).read(truth.path, [window])
    width, height = truth.display
    assert min(small.video.shape[1:3]) == 32
    assert small.video.shape[2] / small.video.shape[1] == pytest.approx(width / height, rel=0.05)
    assert [number(image) for image in small.video] == [number(image) for image in clip.video]
    info = probe(truth.path)
    assert (info.video.width, info.video.height, info.video.rotation) == (width, height, truth.kind.rotation)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [None, (60, 90)])
def test_colours_are_the_ones_that_were_drawn(name, size):
    truth = golden(name)
    [clip] = ClipReader(audio=False, size=size).read(truth.path, [Window(truth.times[0] + 1.02, 0.1)])
    assert np.abs(colours(clip.video[0]) - COLOURS).max() <= 5


@pytest.mark.parametrize("name", KINDS)
def test_probe_tells_what_is_there(name):
    truth, info = golden(name), probe(golden(name).path)
    tick = truth.kind.tick + 1e-6
    assert (info.video.width, info.video.height) == truth.display
    assert info.video.rotation == truth.kind.rotation
    assert (info.audio.sample_rate, info.audio.channels) == (truth.kind.rate, truth.channels)
    assert info.start == pytest.approx(truth.times[0], abs=tick)
    assert info.video.start == pytest.approx(truth.times[0], abs=tick)
    assert info.video.variable_fps is truth.kind.variable
    check_fps(truth, info.video.fps)


def by_index(truth: Golden, windows: list[Window]) -> list[Clip]:
    """What a reader gives that counts frames and samples instead of looking at their times."""
    with av.open(
        str(truth.path), options={"ignore_editlist": "1"} if truth.kind.suffix in ("mp4", "mov") else {}
    ) as file:
        stream = file.streams.video[0]
        fps = float(stream.average_rate)
        images = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    with av.open(
        str(truth.path), options={"ignore_editlist": "1"} if truth.kind.suffix in ("mp4", "mov") else {}
    ) as file:
        rate = file.streams.audio[0].rate
        blocks = [frame.to_ndarray() for frame in file.decode(audio=0)]
    audio = np.concatenate(blocks, 1).astype(np.float32)
    audio /= 32768 if blocks[0].dtype == np.int16 else 1
    clips = []
    for window in windows:
        indices = (np.round(window.start * fps) + np.arange(round(window.duration * fps))).astype(int)
        indices = indices[indices < len(images)]
        first = round((window.start - window.before) * rate)
        count = round((window.before + window.duration + window.after) * rate)
        samples = np.zeros((1, count), np.float32)
        cut = audio[:1, first : first + count]
        samples[:, : cut.shape[1]] = cut
        clips.append(
            Clip(np.stack([images[k] for k in indices]), samples, fps, rate, window.start, indices / fps, window.before)
        )
    return clips


def aligned(truth: Golden) -> list[Window]:
    """Windows that begin with a frame, so that rounding an instant to an index is no excuse."""
    return [Window(truth.times[k] + 1e-3, 0.8, 0.1, 0.1) for k in (21, 40, 55)]


# One rate, upright, stamps that begin at zero, audio without an encoder's delay: there counting is right.
PLAIN = (
    "open_gop_mkv", "mov", "mkv", "mkv_flac", "webm_vp9", "webm_av1", "avi_mjpeg", "avi_mpeg4", "avi_mp3", "hevc_mkv",
    "mp3_mkv", "opus", "flac", "pcm_8k", "flac_192k", "ten_bits_av1", "odd_vp9", "odd_mpeg4", "wide_pixels_mkv",
)  # fmt: skip
NO_RATE = "variable_ts"  # there is nothing to count by


@pytest.mark.parametrize("name", PLAIN)
def test_counting_does_for_the_plainest_files(name):
    truth = golden(name)
    for window, clip in zip(aligned(truth), by_index(truth, aligned(truth)), strict=True):
        check_video(truth, window, clip)
        check_audio(truth, window, clip)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in (*PLAIN, NO_RATE)])
def test_a_reader_that_counts_is_found_out_in_all_others(name):
    truth = golden(name)
    for window, clip in zip(aligned(truth), by_index(truth, aligned(truth)), strict=True):
        # Frames that were not turned are of another shape.
        with pytest.raises((AssertionError, ValueError)):
            check_video(truth, window, clip)
            check_audio(truth, window, clip)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("variable", check_video),
        ("variable_mkv", check_video),
        ("variable_webm", check_video),
        ("late_audio", check_audio),
        ("late_audio_mov", check_audio),
        ("late_audio_mkv", check_audio),
        ("late_video", check_video),
        ("late_video_mov", check_video),
        ("late_video_mkv", check_video),
        ("edit_list", check_video),
        ("edit_list", check_audio),
        ("edit_list_no_b", check_video),
        ("ts_h264", check_video),
        ("ts_h264", check_audio),
        ("mpg_mpeg1", check_video),
        ("mpg_mpeg1", check_audio),
        ("fragmented", check_video),
        ("fps25", check_audio),  # the encoder's delay, which the edit list takes away
    ],
)
def test_the_checks_find_out_a_reader_that_counts(name, wrong):
    truth = golden(name)
    windows = aligned(truth)
    found = 0
    for window, clip in zip(windows, by_index(truth, windows), strict=True):
        try:
            wrong(truth, window, clip)
        except AssertionError:
            found += 1
    assert found == len(windows)
