"""Moving a file's audio, and putting another in its place, without touching the video."""

import resource
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from golden import EVENTS, chirp, golden, lag, number

from avlearn.errors import OutputError
from avlearn.media import Clip, Selected, probe, read_clip, remux, stream, write_wav
from avlearn.media.frames import every_frame
from avlearn.media.layout import codec_name
from avlearn.media.stamps import frame_times
from avlearn.media.written import CodedAudio, check_audio


def off(clip: Clip, event: int, delay: float) -> tuple[float, float]:
    """How much later a chirp lies than ``delay`` seconds after its flash, and how much it is like itself."""
    flash = next(t for image, t in zip(clip.video, clip.times, strict=True) if number(image) == EVENTS[event])
    rate = clip.sample_rate
    first = round((flash + delay - 0.2 - clip.start) * rate)
    heard = clip.audio[0, first : first + round(0.46 * rate)]
    instants = clip.start + (first + np.arange(len(heard))) / rate
    return lag(heard, chirp(instants - flash - delay), rate)


@pytest.mark.parametrize("name", ["fps25", "mov_aac", "hevc", "mkv", "open_gop", "late_audio"])
@pytest.mark.parametrize("delay", [0.3, 0.04, -0.12, -0.5])
def test_the_audio_moves_and_nothing_else(name, delay, tmp_path):
    truth = golden(name)
    moved = tmp_path / f"moved{truth.path.suffix}"
    remux(truth.path, moved, audio_delay=delay)
    before, after = read_clip(truth.path), read_clip(moved)
    assert np.array_equal(after.video, before.video)
    assert np.diff(after.times) == pytest.approx(np.diff(before.times), abs=1.1e-3)
    for event in (2, 4):
        late, same = off(after, event, delay)
        assert same > 0.5
        assert abs(late) <= (1e-3 if truth.path.suffix == ".mkv" else 1e-4)  # Matroska's ticks are milliseconds


def test_the_audio_is_replaced(tmp_path):
    tone = 0.5 * np.sin(np.arange(44100 * 5) * 0.1)[None].repeat(2, 0).astype(np.float32)
    write_wav(tmp_path / "tone.wav", tone, 44100)
    remux(golden("fps25").path, tmp_path / "replaced.mp4", replace_audio=tmp_path / "tone.wav")
    info = probe(tmp_path / "replaced.mp4")
    assert (info.audio.sample_rate, info.audio.channels) == (44100, 2)
    clip = read_clip(tmp_path / "replaced.mp4")
    assert np.corrcoef(clip.audio[0, :200000], tone[0, :200000])[0, 1] > 0.99
    assert [number(image) for image in clip.video] == list(range(125))


def test_refusals(tmp_path):
    path = golden("fps25").path
    with pytest.raises(OutputError, match="input itself"):
        remux(path, path)
    with pytest.raises(OutputError, match="no folder"):
        remux(path, tmp_path / "nowhere" / "out.mp4")
    with pytest.raises(OutputError, match=r"write a \.mkv"):
        remux(path, tmp_path / "out.webm")
    for name in ("out", "out.xyz", "out.gif"):
        with pytest.raises(OutputError, match=r"must end in one of .*\.mkv"):
            remux(path, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("late_video_ts", ".mp4"), ("late_video_ts", ".mkv"), ("late_video_mkv", ".ts"), ("late_video", ".mkv")],
)
def test_audio_that_replaces_another_begins_with_the_video_wherever_that_begins(name, suffix, tmp_path):
    path = golden(name).path
    audio = np.concatenate([clip.audio for clip in stream(path, 1.0, 1.0, video=False)], 1)
    write_wav(tmp_path / "own.wav", audio, probe(path).audio.sample_rate)
    out = tmp_path / f"replaced{suffix}"
    remux(path, out, replace_audio=tmp_path / "own.wav")
    before, after = read_clip(path), read_clip(out)
    for event in (2, 4):
        late, same = off(after, event, off(before, event, 0.0)[0])
        assert same > 0.5
        assert abs(late) < 2e-3


@pytest.mark.parametrize("name", ["late_video_ts", "late_video_mkv"])
def test_a_drift_is_counted_from_the_videos_first_frame(name, tmp_path):
    path, drift = golden(name).path, 0.01
    out = tmp_path / "drifting.mkv"
    assert remux(path, out, audio_drift=drift).encoded == ("audio track 1 (aac)",)
    clip, start = read_clip(out), read_clip(path).times[0]
    for event in (2, 4):
        flash = next(t for image, t in zip(clip.video, clip.times, strict=True) if number(image) == EVENTS[event])
        late, same = off(clip, event, (flash - clip.times[0]) * drift / (1 - drift))
        assert same > 0.4
        assert abs(late) < 3e-3
    assert abs(clip.times[0] - start) < 0.1  # the clock is kept, but for what an encoder puts before its first sample


def full(path, audio="aac", **muxer):
    """A file with all that there may be: tracks, languages, dispositions, chapters, tags, a turned video, a cover."""
    with av.open(str(path), "w", options=muxer) as container:
        container.metadata.update(title="A title", creation_time="2020-01-02T03:04:05.000000Z", comment="by us")
        video = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none:pools=none"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.color_primaries = video.codec_context.color_trc = video.codec_context.colorspace = 1
        video.set_display_rotation(90)
        tracks = [container.add_stream(audio, rate=48000, layout="mono") for _ in range(2)]
        for track, language in zip(tracks, ("eng", "fra"), strict=True):
            track.metadata["language"] = language
        tracks[1].disposition = Disposition.comment | Disposition.visual_impaired
        if path.suffix == ".mp4":
            video.codec_context.codec_tag = "hvc1"
            video.metadata["timecode"] = "01:00:00:00"
            cover = container.add_stream("png")
            cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
            cover.disposition = Disposition.attached_pic
        else:
            container.add_attachment("font.ttf", "font/ttf", b"not a font")
            container.add_attachment("cover.png", "image/png", png())
        words = container.add_mux_stream("mov_text" if path.suffix == ".mp4" else "subrip")
        words.time_base = Fraction(1, 1000)
        words.metadata["language"] = "deu"
        words.disposition = Disposition.forced
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 900, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
        )
        container.start_encoding()
        if path.suffix == ".mp4":
            container.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), "rgb24")))
        noise = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 1, 75 * 1024)).astype(np.float32)
        for k in range(30):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 5 * k, np.uint8), "rgb24")))
        for number, track in enumerate(tracks):
            for k in range(75):
                frame = av.AudioFrame.from_ndarray(noise[number][:, 1024 * k : 1024 * (k + 1)], "fltp", "mono")
                frame.sample_rate, frame.pts = 48000, 1024 * k
                container.mux(track.encode(frame))
        packet = av.Packet((b"\0\5" if path.suffix == ".mp4" else b"") + b"hello")
        packet.stream, packet.time_base = words, Fraction(1, 1000)
        packet.pts, packet.dts, packet.duration = 200, 200, 500
        container.mux(packet)
        for stream in (video, *tracks):
            container.mux(stream.encode(None))
    return path


def png() -> bytes:
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 32, 32, "rgb24", Fraction(1, 25)
    return bytes(context.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), "rgb24"))[0])


def inventory(path):
    """All that a file holds besides its packets."""
    with av.open(str(path)) as container:
        streams = [
            (
                s.type, codec_name(s), s.codec_context and s.codec_context.codec_tag, s.language, s.disposition,
                s.metadata.get("timecode"), s.metadata.get("mimetype"),
            )
            for s in container.streams
        ]  # fmt: skip
        video = container.streams.video[0].codec_context
        colours = (video.color_primaries, video.color_trc, video.colorspace, video.color_range)
        chapters = [(c["start"] * c["time_base"], c["metadata"]) for c in container.chapters()]
        tags = {key: value for key, value in container.metadata.items() if key.lower() != "encoder"}
        return streams, chapters, tags, colours, probe(path).video.rotation


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_whole_file_is_kept(suffix, tmp_path):
    path = full(tmp_path / f"full{suffix}")
    done = remux(path, tmp_path / f"moved{suffix}", audio_delay=0.1)
    assert (done.track, done.tracks, done.left_out) == (1, 2, ())
    assert inventory(tmp_path / f"moved{suffix}") == inventory(path)
    if suffix == ".mp4":
        kinds = [kind[:3] for kind in inventory(path)[0]]
        assert ("video", "hevc", "hvc1") in kinds
        assert ("data", None, None) in kinds  # the timecode's track


def test_what_another_container_cannot_hold_is_said(tmp_path):
    path = full(tmp_path / "full.mkv")
    said = " ".join(remux(path, tmp_path / "moved.mp4", audio_delay=0.1).notes())
    for lost in ("subtitle track", "subrip, deu", "font.ttf"):
        assert lost in said
    with av.open(str(tmp_path / "moved.mp4")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
        assert len(container.chapters()) == 1


@pytest.mark.parametrize("chosen", [1, 2])
def test_the_chosen_audio_track_moves_and_the_others_stay(chosen, tmp_path):
    path = full(tmp_path / "full.mkv")
    done = remux(Selected(path, chosen), tmp_path / "moved.mkv", audio_delay=0.2)
    assert done.notes()[0] == f"moved audio track {chosen} of 2; the others stay"
    for track in (1, 2):
        before, after = (probe(Selected(p, track)).audio.start for p in (path, tmp_path / "moved.mkv"))
        assert after - before == pytest.approx(0.2 * (track == chosen), abs=2e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".flv"])
def test_the_same_input_gives_the_same_bytes(suffix, tmp_path):
    path = golden("fps25").path
    made = []
    for name in ("first", "second"):
        out = tmp_path / f"{name}{suffix}"
        remux(path, out, audio_delay=0.1)
        made.append(out.read_bytes())
    assert made[0] == made[1]


def test_frames_of_an_avi_with_b_frames_are_shown_in_their_order(tmp_path):
    path = tmp_path / "b.avi"
    remux(golden("fps25").path, path)
    remux(path, tmp_path / "b.mkv", audio_delay=0.1)
    shown = list(every_frame(tmp_path / "b.mkv"))
    assert [number(image) for _, image in shown] == list(range(125))
    assert [seconds for seconds, _ in shown] == pytest.approx(np.arange(125) / 25, abs=1.1e-3)
    late, same = off(read_clip(tmp_path / "b.mkv"), 2, 0.1)
    assert same > 0.5 and abs(late) < 2e-3


def test_h264_in_an_avi_has_start_codes_and_keyframes_as_its_header_says(tmp_path):
    remux(golden("fps25").path, tmp_path / "b.avi")
    with av.open(str(tmp_path / "b.avi")) as container:
        assert not (container.streams.video[0].codec_context.extradata or b"").startswith(b"\1")
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) == 5


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mov"])
def test_frames_of_no_rate_keep_their_times(suffix, tmp_path):
    path = golden("variable").path
    remux(path, tmp_path / f"moved{suffix}", audio_delay=-0.1)
    before, after = (np.array(frame_times(p)) for p in (path, tmp_path / f"moved{suffix}"))
    assert np.abs(np.diff(after) - np.diff(before)).max() < 1.1e-3


def test_a_container_that_would_show_frames_at_other_times_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"beside their time; write a \.mkv or \.mp4"):
        remux(golden("variable").path, tmp_path / "moved.avi", audio_delay=0.1)
    assert list(tmp_path.iterdir()) == []


def coded(path, spoiled: bool = False) -> CodedAudio:
    audio = CodedAudio()
    with av.open(str(path)) as container:
        for number, packet in enumerate(p for p in container.demux(audio=0) if p.size):
            if spoiled and number == 40:
                data = bytearray(bytes(packet))
                data[-1] ^= 1
                packet.update(bytes(data))
            audio.add(packet)
    return audio


def test_copied_audio_is_the_same_to_the_bit(tmp_path):
    path = golden("fps25").path
    remux(path, tmp_path / "copy.ts")  # its packets of AAC have headers
    assert coded(tmp_path / "copy.ts").digest() == coded(path).digest()
    with pytest.raises(OutputError, match=r"would hold other audio \((\d+) bytes, not \1\)"):
        check_audio(path, tmp_path / "copy.ts", 1, lambda t: t, coded(path, spoiled=True))


def test_audio_beside_its_time_is_found_out(tmp_path):
    path = golden("fps25").path
    check_audio(path, path, 1, lambda t: t, coded(path))
    with pytest.raises(OutputError, match=r"the audio -40 ms beside its time"):
        check_audio(path, path, 1, lambda t: t + 0.04, coded(path))
    with pytest.raises(OutputError, match="other audio"):
        check_audio(path, golden("late_audio_ts").path, 1, lambda t: t + 0.9, None)


def test_audio_that_an_edit_list_hides_stays_hidden(tmp_path):
    path = golden("edit_list").path
    remux(path, tmp_path / "moved.mkv", audio_delay=0.5)
    video, audio = probe(tmp_path / "moved.mkv").video, probe(tmp_path / "moved.mkv").audio
    shown = read_clip(path).times[0]
    with av.open(str(tmp_path / "moved.mkv")) as container:
        frame = next(f for f in container.decode(video=0) if number(f.to_ndarray(format="rgb24")) == EVENTS[3])
    first = audio.start - frame.time  # against a frame that is known
    with av.open(str(path)) as container:
        original = next(f for f in container.decode(video=0) if number(f.to_ndarray(format="rgb24")) == EVENTS[3])
    assert first == pytest.approx(shown + 0.5 - original.time, abs=2 * 1024 / 48000)
    assert video.start <= audio.start


def test_a_disk_that_is_full_from_the_start_is_called_so(tmp_path):
    path, limits = full(tmp_path / "full.mkv"), resource.getrlimit(resource.RLIMIT_FSIZE)
    for out in ("out.mp4", "out.mkv"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            with pytest.raises(OutputError, match=rf"cannot write .*{out}: File too large"):
                remux(path, tmp_path / out, audio_delay=0.1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["full.mkv"]
