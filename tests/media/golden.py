"""Flash-and-beep files whose truth is known: to the frame, to the sample, to the colour.

Every frame carries its own number as black and white cells that survive lossy coding, six colours, a cell that
flashes on the frames named in `EVENTS`, and a moving texture. The audio is a sum of sinusoids whose value is known
at every instant (a murmur that never repeats, another one in each channel) with a chirp at the instant of every
flash. A test can thus tell from pixels alone which frame it got, and from samples alone at which instant they belong.
"""

import atexit
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import av.filter
import numpy as np
from scipy.fft import next_fast_len

EVENTS = (12, 31, 47, 66, 88, 103, 120, 141, 166, 190, 214, 241, 263)  # frames that flash while a chirp sounds
COLOURS = np.array(
    [(200, 60, 50), (60, 160, 70), (50, 80, 190), (210, 190, 60), (70, 180, 190), (170, 70, 160)], np.uint8
)
_COLUMNS, _ROWS = 6, 4
_BITS = 9
_MATRIX = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}  # red's and blue's share of the luma
_SPACE = {"709": 1, "601": 6}  # as ITU-T H.273 numbers them
_CHIRP = 0.06  # seconds
_TONES = 60
_HIGHEST = 3500  # Hz: above all that we put in
_FOLDER = tempfile.TemporaryDirectory(prefix="golden-")
atexit.register(_FOLDER.cleanup)


@dataclass(frozen=True)
class Kind:
    """What sets a file apart; times in seconds.

    Attributes:
        variable: frames that follow no rate.
        rotation: degrees counter-clockwise that bring the stored frame upright.
        video_start, audio_start: delay one of the two.
        cut: the finished file's packets are copied with all times moved back by so much, so that an edit list hides
            what lies before zero.
        tick: the container's resolution of timestamps, where it is coarse.
        late: the audio lies so much later in the file than it was put, since the container cannot tell of the
            encoder's delay: no reader can know of it.
    """

    suffix: str = "mp4"
    codec: str = "libx264"
    options: dict = field(default_factory=dict)
    gop: int = 25
    fps: Fraction = Fraction(25)
    variable: bool = False
    seconds: float = 5.0
    size: tuple[int, int] = (96, 64)  # width, height as stored
    pixels: str = "yuv420p"
    matrix: str = "601"
    tagged: bool = False
    full: bool = False
    interlaced: bool = False
    rotation: int = 0
    aspect: Fraction = Fraction(1)
    audio: str = "aac"
    rate: int = 48000
    layout: str = "mono"
    bit_rate: int = 128_000
    video_start: float = 0.0
    audio_start: float = 0.0
    cut: float = 0.0
    muxer: dict = field(default_factory=dict)
    tick: float = 0.0
    late: float = 0.0

    @property
    def exact_clock(self) -> bool:
        """Whether the container keeps the instants that it was given (an edit list makes up for delays)."""
        return self.suffix in ("mp4", "mov") and "empty_moov" not in self.muxer.get("movflags", "")


def _x264(**params: object) -> dict:
    return {"crf": "16", "preset": "veryfast", "x264-params": ":".join(f"{k}={v}" for k, v in params.items())}


def _x265(**params: object) -> dict:
    params = {"log-level": "none", "pools": "none", "frame-threads": 1} | params
    return {"crf": "16", "preset": "ultrafast", "x265-params": ":".join(f"{k}={v}" for k, v in params.items())}


_H264 = _x264(bframes=3, scenecut=0)
_X265 = _x265(bframes=3, **{"open-gop": 0})
_OPEN_X265 = _x265(bframes=3, **{"open-gop": 1})
_OPEN_H264 = _x264(bframes=3, **{"open-gop": 1, "b-adapt": 0})
_VPX = {"deadline": "good", "cpu-used": "5", "lag-in-frames": "12", "auto-alt-ref": "1", "crf": "8", "b": "1M"}
_AV1 = {"preset": "8", "crf": "12", "svtav1-params": "lp=1"}
_MPEG = {"b": "3M", "bf": "2"}
_NO_B = {"b": "3M", "bf": "0"}
# Our frames are small: packets of the usual 2 kB would hold a dozen of them and one timestamp.
_STAMPED = {"packetsize": "96", "max_delay": "700000"}
_DELAYED = {"max_delay": "700000"}  # a transport stream of the usual kind begins at 1.4 s


def _kind(**given: object) -> Kind:
    given.setdefault("options", _H264)
    if given.get("suffix") in ("mkv", "webm", "flv"):
        given["tick"] = 1e-3
    if given.get("suffix") == "ts":
        given["muxer"] = _DELAYED
    if given.get("suffix") in ("mpg", "vob"):
        given["muxer"] = _STAMPED
    return Kind(**given)


KINDS: dict[str, Kind] = {
    # Rates of frames.
    "fps24": _kind(fps=Fraction(24)),
    "fps25": _kind(),
    "fps29.97": _kind(fps=Fraction(30000, 1001)),
    "fps30": _kind(fps=Fraction(30)),
    "fps60": _kind(fps=Fraction(60)),
    "variable": _kind(variable=True),
    "variable_mkv": _kind(variable=True, suffix="mkv"),
    "variable_webm": _kind(variable=True, suffix="webm", codec="libvpx-vp9", options=_VPX, audio="libopus"),
    "variable_ts": _kind(variable=True, suffix="ts"),
    # Beginnings.
    "late_audio": _kind(audio_start=0.5, muxer={"movie_timescale": "48000"}),
    "late_video": _kind(video_start=0.52),
    "late_audio_mov": _kind(audio_start=0.5, suffix="mov", audio="pcm_s16le"),
    "late_video_mov": _kind(video_start=0.52, suffix="mov", audio="pcm_s16le"),
    "late_audio_mkv": _kind(audio_start=0.5, suffix="mkv"),
    "late_video_mkv": _kind(video_start=0.52, suffix="mkv"),
    "late_audio_ts": _kind(audio_start=0.5, suffix="ts"),
    "late_video_ts": _kind(video_start=0.52, suffix="ts"),
    "edit_list": _kind(cut=1.4, seconds=6),
    "edit_list_no_b": _kind(cut=1.4, seconds=6, options=_x264(bframes=0)),
    "edit_list_mov": _kind(cut=1.4, seconds=6, suffix="mov", audio="pcm_s16le"),
    "edit_list_hevc": _kind(cut=1.4, seconds=6, codec="libx265", options=_X265),
    # Structures of video.
    "pyramid": _kind(options=_x264(bframes=7, **{"b-adapt": 0, "b-pyramid": "normal"})),
    "no_b": _kind(options=_x264(bframes=0)),
    "gop12": _kind(gop=12),
    "gop250": _kind(gop=250, seconds=10.5),
    "open_gop": _kind(gop=12, options=_OPEN_H264),
    "open_gop_mkv": _kind(gop=12, options=_OPEN_H264, suffix="mkv"),
    "open_gop_ts": _kind(gop=12, options=_OPEN_H264, suffix="ts"),
    "intra_refresh": _kind(options=_x264(bframes=0, **{"intra-refresh": 1})),
    "all_intra": _kind(gop=1),
    "interlaced": _kind(interlaced=True, options=_H264 | {"flags": "+ildct+ilme"}),
    "interlaced_mpeg2": _kind(
        interlaced=True, suffix="vob", codec="mpeg2video", options=_MPEG | {"flags": "+ildct+ilme"}, gop=12, audio="mp2"
    ),
    # Containers.
    "mov": _kind(suffix="mov", audio="pcm_s16le"),
    "mov_aac": _kind(suffix="mov"),
    "fragmented": _kind(muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "fragmented_delayed": _kind(muxer={"movflags": "frag_keyframe+delay_moov+default_base_moof"}),
    "faststart": _kind(muxer={"movflags": "faststart"}),
    "mkv": _kind(suffix="mkv"),
    "mkv_flac": _kind(suffix="mkv", audio="flac"),
    "webm_vp8": _kind(suffix="webm", codec="libvpx", options=_VPX, audio="vorbis", layout="stereo", bit_rate=400_000),
    "webm_vp9": _kind(suffix="webm", codec="libvpx-vp9", options=_VPX, audio="libopus"),
    "webm_av1": _kind(suffix="webm", codec="libsvtav1", options=_AV1, audio="libopus"),
    "avi_mjpeg": _kind(
        suffix="avi", codec="mjpeg", options={"q": "3"}, pixels="yuvj420p", full=True, audio="pcm_s16le"
    ),
    "avi_mpeg4": _kind(suffix="avi", codec="mpeg4", options=_NO_B, audio="pcm_s16le"),
    "avi_mp3": _kind(
        suffix="avi",
        codec="mpeg4",
        options=_NO_B,
        audio="libmp3lame",
        late=1105 / 48000,
        muxer={"avoid_negative_ts": "disabled"},
    ),
    "mpg_mpeg1": _kind(suffix="mpg", codec="mpeg1video", options=_MPEG, gop=12, audio="mp2"),
    "vob_mpeg2": _kind(suffix="vob", codec="mpeg2video", options=_MPEG, gop=12, audio="ac3", bit_rate=192_000),
    "ts_h264": _kind(suffix="ts"),
    "ts_hevc": _kind(suffix="ts", codec="libx265", options=_X265),
    "ts_mpeg2": _kind(suffix="ts", codec="mpeg2video", options=_MPEG, gop=12, audio="mp2"),
    "ts_ac3": _kind(suffix="ts", audio="ac3", bit_rate=192_000),
    "flv": _kind(suffix="flv", rate=44100),
    "flv_mp3": _kind(suffix="flv", audio="libmp3lame", rate=44100),
    # Codecs of the video.
    "hevc": _kind(codec="libx265", options=_X265),
    "hevc_open_gop": _kind(codec="libx265", options=_OPEN_X265, gop=12),
    "hevc_mkv": _kind(codec="libx265", options=_X265, suffix="mkv"),
    "av1": _kind(codec="libsvtav1", options=_AV1),
    "vp9": _kind(codec="libvpx-vp9", options=_VPX),
    "mpeg4": _kind(codec="mpeg4", options=_MPEG),
    # Codecs and rates of the audio.
    "mp3": _kind(audio="libmp3lame", rate=44100),
    "mp3_mkv": _kind(audio="libmp3lame", rate=44100, suffix="mkv"),
    "opus": _kind(audio="libopus"),
    "ac3": _kind(audio="ac3", bit_rate=192_000),
    "flac": _kind(audio="flac"),
    "vorbis_mkv": _kind(audio="vorbis", layout="stereo", bit_rate=400_000, suffix="mkv"),
    "aac_8k": _kind(rate=8000, bit_rate=48_000),
    "aac_16k": _kind(rate=16000, bit_rate=64_000),
    "aac_22k": _kind(rate=22050, bit_rate=96_000),
    "aac_96k": _kind(rate=96000, bit_rate=256_000),
    "aac_stereo": _kind(rate=44100, layout="stereo", bit_rate=192_000),
    "aac_surround": _kind(layout="5.1", bit_rate=640_000),
    "ac3_surround": _kind(audio="ac3", layout="5.1", bit_rate=640_000, suffix="mkv"),
    "flac_surround": _kind(audio="flac", layout="5.1", suffix="mkv"),
    "pcm_8k": _kind(suffix="mov", audio="pcm_s16le", rate=8000),
    "flac_192k": _kind(suffix="mkv", audio="flac", rate=192_000),
    "pcm_192k": _kind(suffix="mov", audio="pcm_s16le", rate=192_000, layout="stereo"),
    # Pixel formats of the video.
    "ten_bits": _kind(codec="libx265", options=_X265, pixels="yuv420p10le"),
    "ten_bits_422": _kind(pixels="yuv422p10le"),
    "ten_bits_av1": _kind(suffix="webm", codec="libsvtav1", options=_AV1, pixels="yuv420p10le", audio="libopus"),
    "422": _kind(pixels="yuv422p"),
    "444": _kind(pixels="yuv444p"),
    "odd_444": _kind(pixels="yuv444p", size=(95, 63)),
    "odd_vp9": _kind(suffix="webm", codec="libvpx-vp9", options=_VPX, size=(95, 63), audio="libopus"),
    "odd_mpeg4": _kind(suffix="avi", codec="mpeg4", options=_NO_B, size=(97, 65), audio="pcm_s16le"),
    "full_range": _kind(full=True),
    "bt709": _kind(matrix="709", tagged=True),
    "bt709_full": _kind(matrix="709", tagged=True, full=True),
    "bt601": _kind(matrix="601", tagged=True),
    "wide_pixels": _kind(size=(72, 64), aspect=Fraction(4, 3)),
    "tall_pixels": _kind(size=(128, 64), aspect=Fraction(3, 4)),
    "wide_pixels_mkv": _kind(size=(72, 64), aspect=Fraction(4, 3), suffix="mkv"),
    "rotated90": _kind(rotation=90),
    "rotated180": _kind(rotation=180),
    "rotated270": _kind(rotation=270),
    "rotated90_mov": _kind(rotation=90, suffix="mov", audio="pcm_s16le"),
    "rotated90_mkv": _kind(rotation=90, suffix="mkv"),
    "rotated_wide_pixels": _kind(rotation=90, size=(72, 64), aspect=Fraction(4, 3)),
}


@dataclass(frozen=True)
class Golden:
    """A file and its truth.

    Attributes:
        path, kind: the file, and what it was meant to be.
        times: float64 ``[N]``, the instants at which frames appear, seconds on the file's own clock.
        numbers: int ``[N]``, the number that each of these frames carries.
        end: instant at which the last frame's time is over (of ``variable`` kinds: about).
        clock: the file's own clock at the instant that was zero when the file was made.
        audio_start, audio_end: where the track lies, on the file's clock.
    """

    path: Path
    kind: Kind
    times: np.ndarray
    numbers: np.ndarray
    end: float
    clock: float
    audio_start: float
    audio_end: float

    def shown(self, instant: float) -> set[int]:
        """Which of the frames may be shown at an instant: two of them within half a tick of the change."""
        slack = max(self.kind.tick * 0.51, 1.01e-4)
        found = np.searchsorted(self.times, [instant - slack, instant + slack], "right") - 1
        return set(found.clip(0).tolist())

    def samples(self, start: float, rate: float, count: int, channel: int = 0) -> np.ndarray:
        """float64 ``[count]``: what was put at the instants ``start + n / rate`` of the file's clock."""
        moments = start - self.clock - self.kind.late
        samples = _audio(self.kind, moments, rate, count, channel)
        instants = start + np.arange(count) / rate
        return np.where((instants >= self.audio_start) & (instants < self.audio_end), samples, 0.0)

    @property
    def channels(self) -> int:
        return av.AudioLayout(self.kind.layout).nb_channels

    @property
    def display(self) -> tuple[int, int]:
        """Width and height as displayed."""
        width, height = round(self.kind.size[0] * self.kind.aspect), self.kind.size[1]
        return (height, width) if self.kind.rotation % 180 else (width, height)


@cache
def golden(name: str) -> Golden:
    """The file of a kind, made at its first use in a process, with its truth."""
    kind = KINDS[name]
    path = Path(_FOLDER.name) / f"{name}.{kind.suffix}"
    moments, audio_end = _encode(path, kind)
    if kind.cut:
        whole = path.with_name(f"{name}-whole.{kind.suffix}")
        path.rename(whole)
        _cut(whole, path, kind.cut)
    clock = -kind.cut if kind.exact_clock else _first_instant(path) - moments[0]
    numbers = np.arange(len(moments))
    times = moments + clock
    shown = times >= -1e-9 if kind.cut else np.ones(len(times), bool)
    return Golden(
        path, kind, times[shown], numbers[shown], 2 * times[-1] - times[-2], clock,
        max(kind.audio_start + clock, 0.0 if kind.cut else -np.inf) + kind.late, audio_end + clock + kind.late,
    )  # fmt: skip


# ---- what is in a frame


def number(image: np.ndarray) -> int:
    """The number that a displayed frame carries, uint8 ``[H, W, 3]``.

    Raises:
        ValueError: the cells are neither black nor white, or their check fails: no whole frame of ours.
    """
    light = np.array([_cell(image, k).mean() for k in range(12)])
    if ((light > 90) & (light < 165)).any():
        raise ValueError(f"cells are neither black nor white: {light.round()}")
    word = int(((light > 128) << np.arange(12)).sum())
    value, check = word % 2**_BITS, word >> _BITS
    if check != _check(value):
        raise ValueError(f"{value} does not go with its check {check}")
    return value


def flashes(image: np.ndarray) -> bool:
    """Whether the cells that flash are lit."""
    return bool(_cell(image, 18).mean() > 128)


def colours(image: np.ndarray) -> np.ndarray:
    """Mean colours of the six patches, float ``[6, 3]``; they should be `COLOURS`."""
    return np.stack([_cell(image, 12 + k).reshape(-1, 3).mean(0) for k in range(6)])


def _cell(image: np.ndarray, k: int) -> np.ndarray:
    """The inner half of a cell."""
    height, width = image.shape[0] / _ROWS, image.shape[1] / _COLUMNS
    row, column = divmod(k, _COLUMNS)
    top, left = round((row + 0.25) * height), round((column + 0.25) * width)
    return image[top : round((row + 0.75) * height), left : round((column + 0.75) * width)]


def _check(value: int) -> int:
    return 7 - value % 7  # never 0: a black frame carries no number


def _draw(kind: Kind, value: int) -> np.ndarray:
    """Upright frame with the pixels' own aspect, float ``[H, W, 3]`` in 0..1."""
    width, height = kind.size
    if kind.rotation % 180:
        width, height = height, width
    word = value | _check(value) << _BITS
    cells = np.zeros((_ROWS * _COLUMNS, 3))
    cells[:12] = ((word >> np.arange(12)) & 1)[:, None]
    cells[12:18] = COLOURS / 255
    cells[18:20] = 1.0 if value in EVENTS else 0.15
    rows = np.arange(height) * _ROWS // height
    columns = np.arange(width) * _COLUMNS // width
    image = cells[rows[:, None] * _COLUMNS + columns]
    y, x = np.mgrid[:height, :width]
    wave = 0.5 + 0.2 * np.sin((x + 1.7 * value) / 4) * np.cos((y - 0.6 * value) / 3)
    image[(rows[:, None] == 3) & (columns >= 2)] = wave[(rows[:, None] == 3) & (columns >= 2)][:, None]
    return np.rot90(image, -kind.rotation // 90)


def _frame(kind: Kind, value: int) -> av.VideoFrame:
    """The frame as stored; colours are turned into luma and chroma here, not by FFmpeg."""
    rgb = _draw(kind, value)
    frame = av.VideoFrame(kind.size[0], kind.size[1], kind.pixels)
    deep = 4 if "10" in kind.pixels else 1
    red, blue = _MATRIX[kind.matrix]
    luma = rgb @ (red, 1 - red - blue, blue)
    planes = [luma, (rgb[..., 2] - luma) / (2 * (1 - blue)), (rgb[..., 0] - luma) / (2 * (1 - red))]
    for plane, values, chroma in zip(frame.planes, planes, (False, True, True), strict=True):
        across, down = -(-kind.size[0] // plane.width), -(-kind.size[1] // plane.height)
        padded = np.pad(values, ((0, -values.shape[0] % down), (0, -values.shape[1] % across)), "edge")
        values = padded.reshape(plane.height, down, plane.width, across).mean((1, 3))
        if kind.full:
            levels = values * 255 + 128 * chroma
        else:
            levels = values * 224 + 128 if chroma else values * 219 + 16
        levels = np.clip(levels * deep, 0, 256 * deep - 1).round()
        lines = np.zeros((plane.height, plane.line_size // (1 + (deep > 1))), np.uint16 if deep > 1 else np.uint8)
        lines[:, : plane.width] = levels
        plane.update(lines.tobytes())
    frame.color_range = 2 if kind.full else 1
    if kind.tagged:
        frame.colorspace = _SPACE[kind.matrix]
    return frame


# ---- what is in the audio


@cache
def _tones(channel: int, low: bool) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz and complex amplitudes of a channel's murmur, rms 0.1."""
    rng = np.random.default_rng(channel)
    phases = np.exp(2j * np.pi * rng.random(_TONES))
    return rng.uniform(*((30, 100) if low else (250, 2800)), _TONES), phases * 0.1 * np.sqrt(2 / _TONES)


def _audio(kind: Kind, start: float, rate: float, count: int, channel: int) -> np.ndarray:
    """Samples at ``start + n / rate`` seconds after the instant zero of the making."""
    low = av.AudioLayout(kind.layout).channels[channel].name == "LFE"  # codecs keep nothing high in it
    frequencies, amplitudes = _tones(channel, low)
    # Instants are block + rest, and the exponential of a sum is a product: one matrix product instead of many sines.
    step = 256
    blocks = start + np.arange(-(-count // step))[:, None] * step / rate
    rest = np.arange(step)[:, None] / rate
    turn = 2j * np.pi * frequencies
    samples = ((np.exp(blocks * turn) * amplitudes) @ np.exp(rest * turn).T).real.ravel()[:count]
    instants = start + np.arange(count) / rate
    moments = _moments(kind)
    for event in [] if low else moments[[e for e in EVENTS if e < len(moments)]]:
        inside = np.flatnonzero((instants >= event) & (instants < event + _CHIRP))
        samples[inside] += chirp(instants[inside] - event)
    return samples


def chirp(seconds: np.ndarray) -> np.ndarray:
    """The sound of a flash, from its first instant on; it lasts 60 ms."""
    window = np.where((seconds >= 0) & (seconds < _CHIRP), np.sin(np.pi * seconds / _CHIRP) ** 2, 0.0)
    return 0.4 * window * np.sin(2 * np.pi * (600 * seconds + 15000 * seconds**2))


def lag(heard: np.ndarray, put: np.ndarray, rate: float) -> tuple[float, float]:
    """How much later (seconds) ``heard`` lies than ``put``, to a small part of a sample, and their correlation there.

    Looks 100 ms either way: beyond that the correlation is low.
    """
    taper = np.hanning(len(put))
    heard, put = np.asarray(heard, np.float64) * taper, put * taper
    scale = np.sqrt((heard**2).sum() * (put**2).sum())
    if not scale:
        return 0.0, 0.0
    reach = round(0.1 * rate)
    size = next_fast_len(len(put) + reach, real=True)
    spectrum = np.fft.rfft(heard, size) * np.fft.rfft(put, size).conj()
    curve = np.fft.irfft(spectrum, size)
    top = float(np.concatenate([curve[-reach:], curve[: reach + 1]]).argmax() - reach)
    # Between samples the curve is the sum of its spectrum's waves: Newton's steps to its top.
    turns = 2j * np.pi * np.arange(len(spectrum)) / size
    spectrum, turns = spectrum[: round(_HIGHEST / rate * size)], turns[: round(_HIGHEST / rate * size)]
    for _ in range(4):
        waves = spectrum * np.exp(turns * top)
        slope, bend = (waves * turns).real.sum(), (waves * turns**2).real.sum()
        top -= float(np.clip(slope / bend, -0.5, 0.5))
    peak = 2 * (spectrum * np.exp(turns * top)).real.sum() / size
    return top / rate, float(peak / scale)


# ---- making a file


@cache
def _irregular() -> np.ndarray:
    """Instants of frames that follow no rate, in whole milliseconds."""
    gaps = np.random.default_rng(7).choice([17, 20, 33, 40, 50, 83, 125], 400)
    return np.cumsum(np.concatenate([[0], gaps])) / 1000


def _moments(kind: Kind) -> np.ndarray:
    """Instants of all frames, seconds since zero."""
    if kind.variable:
        moments = _irregular()
        return kind.video_start + moments[moments < kind.seconds]
    count = round(kind.seconds * kind.fps)
    return kind.video_start + np.arange(count) / float(kind.fps)


def _encode(path: Path, kind: Kind) -> tuple[np.ndarray, float]:
    """Write the file; returns the frames' instants and the end of the audio, in seconds since zero."""
    moments = _moments(kind)
    with av.open(str(path), "w", options=kind.muxer) as container:
        video = container.add_stream(kind.codec, rate=kind.fps, options=kind.options | {"g": str(kind.gop)})
        video.width, video.height, video.pix_fmt = *kind.size, kind.pixels
        context = video.codec_context
        context.thread_count = 1
        context.sample_aspect_ratio = kind.aspect
        context.color_range = 2 if kind.full else 1
        if kind.tagged:
            context.colorspace = context.color_primaries = context.color_trc = _SPACE[kind.matrix]
        if kind.variable:
            context.time_base = Fraction(1, 90000 if kind.suffix == "ts" else 1000)
        else:
            context.time_base = 1 / kind.fps
        if kind.rotation:
            video.set_display_rotation(kind.rotation)
        # AAC may code noise as noise, with other samples: our murmur must stay itself.
        choices = {"aac_pns": "0"} if kind.audio == "aac" else {"strict": "experimental"}
        track = container.add_stream(kind.audio, rate=kind.rate, layout=kind.layout, options=choices)
        if kind.audio == "libmp3lame":
            track.format = "fltp"
        track.bit_rate = kind.bit_rate
        track.codec_context.open()
        blocks, end = _audio_blocks(kind, track.codec_context)
        pieces = [(moment, video, frame) for moment, frame in _frames(kind, moments, context.time_base)]
        pieces += [(moment, track, frame) for moment, frame in blocks]
        pieces.sort(key=lambda piece: piece[0])
        for _, stream, frame in [*pieces, (end, video, None), (end, track, None)]:
            for packet in stream.encode(frame):
                if stream is video:  # encoders count from zero: the delay is put in afterwards
                    late = round(kind.video_start / packet.time_base)
                    packet.pts, packet.dts = packet.pts + late, packet.dts + late
                container.mux(packet)
    return moments, end


def _frames(kind: Kind, moments: np.ndarray, base: Fraction) -> Iterator[tuple[float, av.VideoFrame]]:
    graph = None
    if kind.interlaced:
        graph = av.filter.Graph()
        source = graph.add_buffer(width=kind.size[0], height=kind.size[1], format=kind.pixels, time_base=base)
        field_order, sink = graph.add("setfield", "tff"), graph.add("buffersink")
        source.link_to(field_order)
        field_order.link_to(sink)
        graph.configure()
    for value, moment in enumerate(moments):
        frame = _frame(kind, value)
        frame.pts, frame.time_base = round((moment - kind.video_start) / base), base
        if graph:
            graph.push(frame)
            frame = graph.pull()
        yield moment, frame


def _audio_blocks(kind: Kind, context: av.AudioCodecContext) -> tuple[list, float]:
    """Frames of audio as the encoder wants them, with their instants; and the instant of the end."""
    size = context.frame_size or 1024
    length = kind.video_start + kind.seconds - kind.audio_start
    count = -(-round(length * kind.rate) // size) * size
    channels = context.layout.nb_channels
    samples = np.stack([_audio(kind, kind.audio_start, kind.rate, count, c) for c in range(channels)])
    form = context.format.name
    if form.startswith("s16"):
        samples = np.round(samples * 32767).clip(-32768, 32767).astype(np.int16)
    else:
        samples = samples.astype(np.float32)
    pieces = []
    for first in range(0, count, size):
        block = samples[:, first : first + size]
        block = block if context.format.is_planar else block.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), form, kind.layout)
        frame.sample_rate, frame.time_base = kind.rate, Fraction(1, kind.rate)
        frame.pts = first + round(kind.audio_start * kind.rate)
        pieces.append((kind.audio_start + first / kind.rate, frame))
    return pieces, kind.audio_start + count / kind.rate


def _cut(whole: Path, path: Path, seconds: float) -> None:
    """Copy packets from the last keyframe at or before an instant on; that instant becomes zero."""
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        video, track = source.streams.video[0], source.streams.audio[0]
        copies = {s.index: target.add_stream_from_template(s) for s in (video, track)}
        packets = [p for p in source.demux(video, track) if p.size]
        keys = [p.pts * p.time_base for p in packets if p.stream is video and p.is_keyframe]
        begin = max(key for key in keys if key <= seconds)
        started = False
        for packet in packets:
            if packet.stream is video:
                started |= packet.pts * packet.time_base >= begin
                if not started:
                    continue
            elif packet.pts * packet.time_base < begin:
                continue
            shift = round(seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = copies[packet.stream.index]
            target.mux(packet)


def _first_instant(path: Path) -> float:
    """The earliest timestamp of the video's packets."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stamps = [p.pts for p in container.demux(stream) if p.pts is not None and p.size]
        return float(min(stamps) * stream.time_base) if stamps else 0.0
