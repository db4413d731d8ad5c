"""Damaged media files, the same ones for a seed: bytes in, bytes out."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# ---------------------------------------------------------------- sources

# name, codecs of video and audio, options of the container
_FORMATS = (
    ("avc_aac.mp4", "libx264", "aac", {"movflags": "+faststart"}),
    ("avc_aac_index_last.mp4", "libx264", "aac", {}),
    ("avc_aac_fragments.mp4", "libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    ("hevc_opus.mkv", "libx265", "libopus", {}),
    ("vp9_vorbis.webm", "libvpx-vp9", "vorbis", {}),
    ("mpeg4_mp3.avi", "mpeg4", "libmp3lame", {}),
    ("avc_aac.ts", "libx264", "aac", {}),
    ("sorenson_mp3.flv", "flv", "libmp3lame", {}),
    ("mjpeg_float.mov", "mjpeg", "pcm_f32le", {}),
    ("avc_pcm.mov", "libx264", "pcm_s16le", {}),
    ("mpeg2_mp2.mpg", "mpeg2video", "mp2", {}),
    ("opus.ogg", None, "libopus", {}),
)
_AUDIO_RATES = {"pcm_f32le": 4_000, "pcm_s16le": 8_000, "libopus": 48_000}
_VIDEO_OPTIONS = {
    "libx264": {"preset": "veryfast", "g": "20", "x264-params": "mbtree=0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=20"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "g": "20"},
}


def make_sources(folder: Path) -> None:
    """Small files, 1.6 s long, in many containers and codecs."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (9, 13, 3)).repeat(12, 0).repeat(12, 1).astype(np.uint8)
    for name, video_codec, audio_codec, options in _FORMATS:
        rate = _AUDIO_RATES.get(audio_codec, 44_100)
        # Exact to the bit: no random numbers of segments and streams, so that an index names the same input always.
        with av.open(str(folder / name), "w", options={**options, "fflags": "+bitexact"}) as container:
            if video_codec:
                video = container.add_stream(video_codec, rate=25, options=_VIDEO_OPTIONS.get(video_codec, {}))
                video.width, video.height = 80, 60
                video.pix_fmt = "yuvj420p" if video_codec == "mjpeg" else "yuv420p"
                video.codec_context.thread_count = 1
            audio = container.add_stream(audio_codec, rate=rate, layout="stereo", options={"strict": "-2"})
            resampler = av.AudioResampler(audio.codec_context.format, "stereo", rate, audio.frame_size or 1024)
            for k in range(40):
                if video_codec:
                    image = np.ascontiguousarray(texture[k // 2 : k // 2 + 60, k : k + 80])
                    container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
                t = np.arange(k * rate // 25, (k + 1) * rate // 25)
                tone = (0.3 * np.sin(2 * np.pi * (300 + 5 * k) * t / rate)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), "fltp", "stereo")
                frame.sample_rate, frame.pts, frame.time_base = rate, int(t[0]), Fraction(1, rate)
                for piece in resampler.resample(frame):
                    container.mux(audio.encode(piece))
            if video_codec:
                container.mux(video.encode(None))
            container.mux(audio.encode(None))


# ---------------------------------------------------------------- kinds of damage

Rng = np.random.Generator
_EXTREMES = [
    bytes.fromhex(h) for h in ("00000000", "00000001", "7fffffff", "80000000", "ffffffff", "fffffff0", "0000ffff")
]
_NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"mvex", b"moof", b"traf", b"udta")
# What stands before fields that say how large, how many, how fast, how shaped: boxes, EBML elements, chunks, codes.
_MARKS = (
    b"tkhd", b"mvhd", b"mdhd", b"pasp", b"avcC", b"hvcC", b"esds", b"avc1", b"hvc1", b"mp4a", b"sowt", b"fl32",
    b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"elst", b"trun", b"tfhd", b"tfdt", b"mfhd", b"chan", b"colr",
    b"stss", b"sidx", b"\x2a\xd7\xb1", b"\x44\x89", b"\x54\xb0", b"\x54\xba", b"\xb0\x81", b"\xba\x81", b"\xb5\x84",
    b"\xb5\x88", b"\x9f\x81", b"\x23\xe3\x83", b"\xe7\x81", b"\xe7\x82", b"\xa3", b"\x1f\x43\xb6\x75", b"\x56\xaa",
    b"\x63\xa2", b"\x1c\x53\xbb\x6b", b"avih", b"strh", b"strf", b"idx1", b"fmt ", b"00dc", b"01wb", b"onMetaData",
    b"FLV", b"OggS", b"OpusHead", b"\0\0\1\xb3", b"\0\0\1\xb5", b"\0\0\1\xba", b"\0\0\1\xe0", b"\0\0\1\xc0",
    b"\0\0\1\x67", b"\0\0\1\x68", b"\0\0\1\x20", b"\x47\x40\x00", b"\x47\x41\x00", b"\x47\x50\x00", b"\xff\xc0",
    b"\xff\xf1",
)  # fmt: skip
_STREAMS = {  # what tells video from audio
    "mp4": (b"vide", b"soun"),
    "mov": (b"vide", b"soun"),
    "avi": (b"00dc", b"01wb"),
    "mkv": (b"\x83\x81\x01", b"\x83\x81\x02"),
    "webm": (b"\x83\x81\x01", b"\x83\x81\x02"),
    "ts": (b"\x47\x41\x00", b"\x47\x41\x01"),
    "mpg": (b"\x00\x00\x01\xe0", b"\x00\x00\x01\xc0"),
    "flv": (b"\x00\x00\x00\x08", b"\x00\x00\x00\x09"),
}


def boxes(data: bytes, begin: int = 0, end: int | None = None) -> list[tuple[int, int, bytes]]:
    """Offset, size and kind of the boxes of an MP4, those within others too."""
    found, end = [], len(data) if end is None else end
    while begin + 8 <= end:
        size, kind = int.from_bytes(data[begin : begin + 4]), data[begin + 4 : begin + 8]
        if size < 8 or begin + size > end:
            break
        found.append((begin, size, kind))
        if kind in _NESTED:
            found += boxes(data, begin + 8, begin + size)
        begin += size
    return found


def _range(rng: Rng, data: bytes) -> tuple[int, int]:
    """Begin and end of a stretch, mostly short."""
    length = min(int(np.exp(rng.uniform(0, np.log(len(data) + 1)))), len(data))
    begin = int(rng.integers(0, len(data) - length + 1))
    return begin, begin + length


def _flip(rng: Rng, data: bytes, bits: int, reach: int) -> bytes:
    out = np.frombuffer(data, np.uint8).copy()
    at = rng.integers(0, min(reach, len(out)) * 8, bits)
    np.bitwise_xor.at(out, at // 8, (1 << at % 8).astype(np.uint8))
    return out.tobytes()


def flip_few(rng: Rng, data: bytes) -> bytes:
    return _flip(rng, data, int(rng.integers(1, 9)), len(data))


def flip_many(rng: Rng, data: bytes) -> bytes:
    return _flip(rng, data, int(len(data) * rng.uniform(0.001, 0.05)) + 1, len(data))


def flip_head(rng: Rng, data: bytes) -> bytes:
    return _flip(rng, data, int(rng.integers(1, 30)), int(rng.choice([64, 512, 4096])))


def truncate(rng: Rng, data: bytes) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def behead(rng: Rng, data: bytes) -> bytes:
    return data[_range(rng, data)[1] :]


def delete(rng: Rng, data: bytes) -> bytes:
    begin, end = _range(rng, data)
    return data[:begin] + data[end:]


def double(rng: Rng, data: bytes) -> bytes:
    begin, end = _range(rng, data)
    return data[:end] + data[begin:]


def zero(rng: Rng, data: bytes) -> bytes:
    begin, end = _range(rng, data)
    return data[:begin] + bytes(end - begin) + data[end:]


def noise(rng: Rng, data: bytes) -> bytes:
    begin, end = _range(rng, data)
    return data[:begin] + rng.bytes(end - begin) + data[end:]


def extreme(rng: Rng, data: bytes) -> bytes:
    """Some 32-bit fields, most of them in the head, become extreme."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, max(min(len(out), rng.choice([256, 1024, 4096, len(out) + 1])) - 4, 1)))
        out[at : at + 4] = rng.choice(_EXTREMES)
    return bytes(out)


def _box(rng: Rng, data: bytes) -> tuple[int, int, bytes]:
    return boxes(data)[rng.integers(0, len(boxes(data)))]


def box_cut(rng: Rng, data: bytes) -> bytes:
    """A box goes; those around it keep their sizes, or do not."""
    at, size, _ = _box(rng, data)
    out = bytearray(data[:at] + data[at + size :])
    if rng.random() < 0.5:
        for outer, outer_size, _ in boxes(data):
            if outer < at < outer + outer_size:
                out[outer : outer + 4] = (outer_size - size).to_bytes(4)
    return bytes(out)


def box_rename(rng: Rng, data: bytes) -> bytes:
    at, _, _ = _box(rng, data)
    return (
        data[: at + 4] + bytes(rng.choice([b"free", b"stts", b"moov", b"mdat", b"trak", b"\0\0\0\0"])) + data[at + 8 :]
    )


def box_size(rng: Rng, data: bytes) -> bytes:
    at, size, _ = _box(rng, data)
    near = [max(size + d, 0).to_bytes(4) for d in (-8, -4, -1, 1, 4, 8, 1000)]
    return data[:at] + bytes(rng.choice(_EXTREMES + near)) + data[at + 4 :]


def box_field(rng: Rng, data: bytes) -> bytes:
    """A field of a box (an entry count, an offset, a length of time) becomes extreme, or another of the same."""
    inner = [box for box in boxes(data) if box[2] not in (*_NESTED, b"mdat", b"free") and box[1] >= 16]
    at, size, _ = inner[rng.integers(0, len(inner))]
    at += 8 + 4 * int(rng.integers(0, min((size - 8) // 4, 12)))
    value = bytes(rng.choice(_EXTREMES)) if rng.random() < 0.7 else rng.bytes(4)
    return data[:at] + value + data[at + 4 :]


def box_swap(rng: Rng, data: bytes) -> bytes:
    """Two boxes that do not hold one another change places: tracks, sample tables, header and data."""
    found = boxes(data)
    for _ in range(20):
        (a, n, _), (b, m, _) = sorted(found[k] for k in rng.integers(0, len(found), 2))
        if a + n <= b:
            return data[:a] + data[b : b + m] + data[a + n : b] + data[a : a + n] + data[b + m :]
    return data[::-1]


def box_copy(rng: Rng, data: bytes) -> bytes:
    at, size, _ = _box(rng, data)
    other, _, _ = _box(rng, data)
    return data[:other] + data[at : at + size] + data[other:]


def swap_ranges(rng: Rng, data: bytes) -> bytes:
    begin, end = _range(rng, data)
    other = int(rng.integers(0, len(data) - (end - begin) + 1))
    (a, b), (c, d) = sorted([(begin, end), (other, other + end - begin)])
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:] if b <= c else data


def marked(rng: Rng, data: bytes) -> bytes:
    """Fields near a mark become extreme: sizes, counts, clocks, rates, shapes, parameter sets, stamps."""
    present = [mark for mark in _MARKS if mark in data]
    out = bytearray(data)
    for _ in range(rng.integers(1, 4) if present else 0):
        mark = present[rng.integers(0, len(present))]
        places, at = [], data.find(mark)
        while at >= 0 and len(places) < 200:
            places.append(at)
            at = data.find(mark, at + 1)
        at = places[rng.integers(0, len(places))] + len(mark) + int(rng.exponential(12))
        length = int(rng.choice([1, 2, 4, 8]))
        value = (bytes(rng.choice(_EXTREMES)) * 2)[:length] if rng.random() < 0.6 else rng.bytes(length)
        out[at : at + length] = value[: max(len(out) - at, 0)]
    return bytes(out)


def repeat(rng: Rng, data: bytes) -> bytes:
    """The file after itself: clocks start again, parameters may change on the way."""
    return data + data[int(rng.choice([0, len(data) // 3])) :]


def box_edits(rng: Rng, data: bytes) -> bytes:
    """An edit list becomes another, of up to 200,000 entries; boxes around it keep their sizes, or do not."""
    found = [box for box in boxes(data) if box[2] == b"elst"]
    if not found:
        return data
    at, size, _ = found[rng.integers(0, len(found))]
    count = int(rng.choice([0, 1, 2, 5, 100, 3_000, 200_000]))
    entry = (
        data[at + 16 : at + 28] if rng.random() < 0.5 else rng.bytes(4) + bytes(rng.choice(_EXTREMES)) + rng.bytes(4)
    )
    stated = count if rng.random() < 0.8 else int(rng.integers(0, 2**32))
    box = (16 + 12 * count).to_bytes(4) + b"elst\0\0\0\0" + stated.to_bytes(4) + entry * count
    out = bytearray(data[:at] + box + data[at + size :])
    for outer, outer_size, _ in boxes(data):
        if outer < at < outer + outer_size:
            out[outer : outer + 4] = (outer_size + len(box) - size).to_bytes(4)
    return bytes(out)


ANY = (
    marked,
    marked,
    marked,
    swap_ranges,
    repeat,
    flip_few,
    flip_many,
    flip_head,
    truncate,
    behead,
    delete,
    double,
    zero,
    noise,
    extreme,
)
MP4 = (box_edits, box_edits, marked, box_cut, box_rename, box_size, box_field, box_swap, box_copy)


def swap_streams(data: bytes, suffix: str) -> bytes:
    """Video is called audio, and audio video."""
    video, audio = _STREAMS[suffix]
    mark = b"\0swap\0"
    return data.replace(video, mark).replace(audio, video).replace(mark, audio)


def no_media(rng: Rng) -> bytes:
    """Nothing, text, noise, or a header with nothing behind it."""
    ftyp = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"
    choices = (b"", b"\0", b"This is no video.\n" * 40, rng.bytes(3000), ftyp, ftyp + b"\0\0\0\x08moov", bytes(5000))
    return choices[rng.integers(0, len(choices))]


def damage(seed: int, index: int, sources: dict[str, bytes]) -> tuple[str, str, bytes]:
    """One damaged input: a name that tells how it came about, its suffix, its bytes."""
    rng = np.random.default_rng([seed, index])
    name = list(sources)[rng.integers(0, len(sources))]
    data, suffix = sources[name], name.rpartition(".")[2]
    kind = rng.random()
    if kind < 0.03:
        return f"{index} no media", f".{suffix}", no_media(rng)
    if kind < 0.07:
        return f"{index} {name} by another suffix", f".{rng.choice(list(_STREAMS))}", data
    done = []
    if kind < 0.12:
        other = list(sources)[rng.integers(0, len(sources))]
        data = (
            data[: int(len(data) * rng.uniform(0.1, 0.9))] + sources[other][int(len(sources[other]) * rng.random()) :]
        )
        done.append(f"spliced with {other}")
    elif kind < 0.17 and suffix in _STREAMS:
        data = swap_streams(data, suffix)
        done.append("swap_streams")
    for _ in range(rng.choice([0, 1]) if done else rng.choice([1, 1, 1, 2, 3])):
        if not data:
            break
        kinds: tuple[Callable[[Rng, bytes], bytes], ...] = ANY
        if len(boxes(data)) > 4:
            kinds = MP4 if rng.random() < 0.6 else ANY
        chosen = kinds[rng.integers(0, len(kinds))]
        data = chosen(rng, data)
        done.append(chosen.__name__)
    return f"{index} {name} {' + '.join(done)}", f".{suffix}", data
