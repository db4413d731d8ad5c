"""Is a file put right in every container that can be written? python tools/round_trips.py [WORK] [--json FILE]

Flash-and-beep files are made in each container (in Matroska where it cannot hold the case), their audio about 250 ms
early or late, and fixed by `avlearn.media.remux`, by the offset that their own flashes and beeps tell. FFmpeg decodes
what was written: the figure is how far the beeps lie from the flashes, in ms. A case passes within 10 ms, or when the
fix is refused in a line; and when streams, tags and chapters are those of before, or what is missing is said.

PyAV's own FFmpeg may forgive what others do not: where an `ffmpeg` is on PATH, it has to decode the H.264 of an MP4,
the same frames to the bit, from each container that takes it with start codes.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np

from avlearn.errors import AvlearnError
from avlearn.media import Selected, remux

FPS, RATE, SECONDS = 25, 48000, 6
FLASHES = (30, 63, 88, 117)  # frames
BEEP = 0.08  # seconds
WITHIN = 10.0  # ms
DELAYS = (-0.25, 0.25)
VARIANTS = (
    "starts at zero",
    "late audio",
    "late video",
    "negative stamps",
    "two audio tracks",
    "subtitles",
    "chapters",
)


@dataclass(frozen=True)
class Codecs:
    """How a container's files are made: video, its options, audio, layout, and subtitles it holds."""

    video: str
    options: dict
    audio: str
    subtitles: str | None = None
    size: tuple[int, int] = (64, 48)


_H264 = {"crf": "20", "preset": "veryfast", "x264-params": "bframes=2:scenecut=0", "g": "25"}
_PLAIN = {"crf": "20", "preset": "veryfast", "x264-params": "bframes=0:scenecut=0", "g": "25"}
# Frames of a size of their own each: program streams stamp one a packet.
_FILLED = {"x264-params": "bframes=2:scenecut=0:nal-hrd=cbr:bitrate=2000:vbv-maxrate=2000:vbv-bufsize=80", "g": "25"}
_MPEG2 = {"b": "2M", "bf": "2", "g": "12"}
_VP9 = {"crf": "20", "b": "0", "deadline": "realtime", "cpu-used": "8"}
MADE = {
    ".mp4": Codecs("libx264", _H264, "aac", "mov_text"),
    ".mov": Codecs("libx264", _H264, "pcm_s16le", "mov_text"),
    ".mkv": Codecs("libx264", _H264, "aac", "subrip"),
    ".webm": Codecs("libvpx-vp9", _VP9, "libopus", "webvtt"),
    ".avi": Codecs("mpeg4", {"b": "1M"}, "libmp3lame"),
    ".ts": Codecs("libx264", _H264, "aac"),
    ".mpg": Codecs("mpeg2video", _MPEG2, "mp2"),
    ".vob": Codecs("mpeg2video", _MPEG2, "ac3"),
    ".mxf": Codecs("mpeg2video", {"b": "2M", "bf": "0", "g": "1"}, "pcm_s16le"),
    ".flv": Codecs("libx264", _H264, "aac"),
    ".asf": Codecs("msmpeg4", {"b": "1M"}, "wmav2"),
}
STARTED = (".avi", ".mpg", ".vob", ".ts")  # H.264 has start codes there
_UNTIMED = (".avi", ".mxf")  # streams begin together there
_FORMATS = {".vob": "vob"}


@dataclass(frozen=True)
class Row:
    """What became of a case: ``error`` in ms, or what the refusal said; what differs, and what was said of that."""

    container: str
    variant: str
    delay: float
    error: float | None
    refused: str | None
    differs: tuple[str, ...]
    said: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether it is in sync and as before, or says why not."""
        if self.error is None:
            return bool(self.refused)
        return abs(self.error) <= WITHIN and (not self.differs or any("not kept" in note for note in self.said))


def make(folder: Path, suffix: str, variant: str, early: float, codecs: Codecs | None = None) -> Path:
    """A file whose beeps come ``early`` seconds before its flashes (negative: after)."""
    codecs = codecs or MADE[suffix]
    untimed = suffix in _UNTIMED and variant in ("late audio", "late video", "negative stamps")
    foreign = (
        untimed
        or (variant == "subtitles" and not codecs.subtitles)
        or (variant == "chapters" and suffix not in (".mp4", ".mov", ".mkv", ".webm", ".asf"))
    )
    held = ".mkv" if foreign else suffix
    codecs = MADE[".mkv"] if foreign and suffix == ".asf" else codecs
    path = folder / f"made{held}"
    video_at = 0.52 if variant == "late video" else 0.0
    audio_at = 0.48 if variant == "late audio" else 0.0
    if variant == "negative stamps":
        video_at = audio_at = -0.32
    options = {"movie_timescale": str(RATE)} if held in (".mp4", ".mov") else {}
    with av.open(str(path), "w", format=_FORMATS.get(held), options=options) as container:
        video = _video(container, codecs)
        tracks = [_audio(container, codecs, language) for language in ("eng", "fra")[: 1 + (variant.startswith("two"))]]
        words = None
        if variant == "subtitles":
            words = container.add_mux_stream("subrip" if foreign else codecs.subtitles)
            words.time_base = Fraction(1, 1000)
            words.metadata["language"] = "deu"
        container.metadata["title"] = "A title"
        if variant == "chapters":
            container.set_chapters(
                [
                    {"id": 1, "start": 0, "end": 3000, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}},
                    {"id": 2, "start": 3000, "end": 6000, "time_base": Fraction(1, 1000), "metadata": {"title": "two"}},
                ]
            )
        container.start_encoding()
        packets = [*_video_packets(video, video_at)]
        for number, track in enumerate(tracks):
            packets += _audio_packets(track, audio_at, video_at - early + 0.5 * number)
        if words is not None:
            packets += _texts(words, not foreign and codecs.subtitles == "mov_text", video_at)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _video(container, codecs: Codecs):
    stream = container.add_stream(codecs.video, rate=FPS, options=codecs.options)
    stream.width, stream.height, stream.pix_fmt = *codecs.size, "yuv420p"
    stream.codec_context.time_base = Fraction(1, FPS)
    stream.codec_context.thread_count = 1
    return stream


def _audio(container, codecs: Codecs, language: str):
    stream = container.add_stream(codecs.audio, rate=RATE, layout="mono")
    if not codecs.audio.startswith("pcm"):
        stream.bit_rate = 128_000
    if codecs.audio == "libmp3lame":
        stream.format = "fltp"
    stream.metadata["language"] = language
    return stream


def _video_packets(stream, start: float) -> list[av.Packet]:
    packets = []
    for number in range(FPS * SECONDS):
        image = np.full((stream.height, stream.width, 3), 235 if number in FLASHES else 30, np.uint8)
        image[number % 40 : number % 40 + 8, :8] = 128
        frame = av.VideoFrame.from_ndarray(image, "rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        packets += stream.encode(frame)
    return [_later(packet, start) for packet in packets + stream.encode(None)]


def _audio_packets(stream, start: float, beeps: float) -> list[av.Packet]:
    """Packets of a track that begins at ``start``; its beeps come ``beeps`` seconds after the flashes' numbers."""
    instants = start + np.arange(RATE * SECONDS) / RATE
    audio = 0.002 * np.random.default_rng(0).standard_normal(len(instants))
    for flash in FLASHES:
        since = instants - (flash / FPS + beeps)
        inside = (since >= 0) & (since < BEEP)
        audio[inside] += 0.7 * np.sin(2 * np.pi * 1000 * since[inside])
    form = stream.codec_context.format.name
    data = (audio * 32767).astype(np.int16) if form.startswith("s16") else audio.astype(np.float32)
    stream.codec_context.open(strict=False)
    size = stream.codec_context.frame_size or 1920
    packets = []
    for first in range(0, len(data) // size * size, size):
        frame = av.AudioFrame.from_ndarray(data[None, first : first + size], form, "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
        packets += stream.encode(frame)
    return [_later(packet, start) for packet in packets + stream.encode(None)]


def _later(packet: av.Packet, seconds: float) -> av.Packet:
    shift = round(Fraction(seconds) / packet.time_base)
    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
    return packet


def _texts(stream, framed: bool, start: float) -> list[av.Packet]:
    packets = []
    for second, text in ((1, b"hello"), (3, b"there")):
        packet = av.Packet(len(text).to_bytes(2, "big") + text if framed else text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = round((second + start) * 1000)
        packet.duration = 1000
        packets.append(packet)
    return packets


def first_track(path: Path) -> int:
    """Number from 1 of the audio track that was put in first: MPEG program streams list them as they come."""
    with av.open(str(path)) as container:
        tracks = container.streams.audio
        return min(range(len(tracks)), key=lambda k: tracks[k].id if container.format.name == "mpeg" else k) + 1


def measure(path: Path) -> float:
    """Milliseconds by which the beeps of a file come after its flashes, the median; by FFmpeg's own stamps."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(stream)]
        shown = [(number / FPS if time is None else time, light) for number, (time, light) in enumerate(shown)]
    flashes = [time for (time, light), (_, before) in zip(shown[1:], shown, strict=False) if light > 130 > before]
    with av.open(str(path)) as container:
        pieces, begin, rate = [], None, 0
        for frame in container.decode(container.streams.audio[first_track(path) - 1]):
            begin = frame.time if begin is None else begin
            rate = frame.sample_rate
            samples = frame.to_ndarray().astype(np.float64)
            samples = samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T
            pieces.append(samples[0] / (1.0 if frame.format.name.startswith("flt") else 2.0 ** (frame.format.bits - 1)))
    loud = np.abs(np.concatenate(pieces)) > 0.25
    places = np.flatnonzero(loud) / rate + begin
    beeps = [place for k, place in enumerate(places) if k == 0 or place - places[k - 1] > 0.2]
    if len(flashes) < 2 or not beeps:
        raise ValueError(f"{path}: {len(flashes)} flashes and {len(beeps)} beeps")
    nearest = [min((beep - flash for beep in beeps), key=abs) for flash in flashes]
    return float(np.median(nearest)) * 1000


def listing(path: Path) -> list[str]:
    """Streams, their languages and dispositions, chapters, and the title, as lines."""
    with av.open(str(path)) as container:
        lines = [f"title {container.metadata.get('title', container.metadata.get('TITLE'))}"]
        for stream in container.streams:
            if stream.type != "data":
                codec = stream.codec_context.codec.canonical_name if stream.codec_context else "none"
                language = stream.language if stream.language != "und" else None
                lines.append(f"{stream.type} {codec} {language} {int(stream.disposition)}")
        lines += [
            f"chapter {c['metadata'].get('title')} {float(c['start'] * c['time_base']):.2f}"
            for c in container.chapters()
        ]
    return lines


def round_trip(folder: Path, suffix: str, variant: str, early: float) -> Row:
    """Make, break, fix and measure one case."""
    made = make(folder, suffix, variant, early)
    fixed = folder / f"fixed{suffix}"
    fixed.unlink(missing_ok=True)
    try:
        done = remux(Selected(made, first_track(made)), fixed, audio_delay=-measure(made) / 1000)
    except AvlearnError as error:
        return Row(suffix, variant, early, None, str(error), (), ())
    before, after = listing(made), listing(fixed)
    differs = [f"- {line}" for line in before if line not in after] + [
        f"+ {line}" for line in after if line not in before
    ]
    return Row(suffix, variant, early, round(measure(fixed), 2), None, tuple(differs), tuple(done.notes()))


def decoded_elsewhere(path: Path) -> list[str]:
    """A digest of each frame that the `ffmpeg` on PATH shows of a file."""
    words = ["ffmpeg", "-v", "error", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return [line.split(",")[-1].strip() for line in done.stdout.splitlines() if not line.startswith("#")]


def round_trip_elsewhere(folder: Path, suffix: str) -> str:
    """Move the audio of an MP4 with H.264 into another container: what another FFmpeg decodes of that, in a line."""
    codecs = Codecs("libx264", _FILLED, "ac3")  # audio that program streams hold, too
    made, fixed = make(folder, ".mp4", "starts at zero", 0.25, codecs), folder / f"elsewhere{suffix}"
    try:
        remux(made, fixed, audio_delay=0.25)
    except AvlearnError as error:
        return f"ok   {suffix:6}refused  {error}"
    before, after = decoded_elsewhere(made), decoded_elsewhere(fixed)
    same = bool(before) and before == after
    return f"{'ok  ' if same else 'FAIL'} {suffix:6}{len(after)} of {len(before)} frames" + ("" if same else " differ")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, nargs="?", help="a folder for the files; a temporary one by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=list(MADE), metavar="SUFFIX")
    args = parser.parse_args(words)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, variant, early in product(args.only, VARIANTS, DELAYS):
            row = round_trip(folder, suffix, variant, early)
            rows.append(row)
            figure = f"{row.error:+7.2f} ms" if row.error is not None else "   refused"
            said = row.refused or "; ".join([*row.said, *row.differs])
            print(
                f"{'ok  ' if row.passed else 'FAIL'} {suffix:6}{variant:18}{early * 1000:+5.0f} ms {figure}  {said}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    elsewhere = []
    if shutil.which("ffmpeg"):
        with tempfile.TemporaryDirectory() as temporary:
            for suffix in (suffix for suffix in STARTED if suffix in args.only):
                elsewhere.append(round_trip_elsewhere(Path(temporary), suffix))
                print(f"by the ffmpeg on PATH: {elsewhere[-1]}", flush=True)
    else:
        print("no ffmpeg on PATH: H.264 from an MP4 was not decoded by another")
    failed = sum(not row.passed for row in rows) + sum(line.startswith("FAIL") for line in elsewhere)
    print(f"{len(rows)} cases, {sum(row.error is None for row in rows)} refused, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
