"""Streams, chapters and tags of one file laid out on another that is about to be written."""

from collections.abc import Callable
from dataclasses import dataclass, field

import av
import av.container
import av.stream

from avlearn.media.annex_b import is_length_prefixed
from avlearn.media.containers import Container
from avlearn.media.source import open_again

_COVER = av.stream.Disposition.attached_pic
_FORMAT_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "software")
# Of streams: statistics that muxers of Matroska leave behind, and what MP4 says of its own making.
_STALE_TAGS = ("bps", "duration", "number_of_frames", "number_of_bytes", "_statistics", "encoder", "vendor_id",
               "handler_name")  # fmt: skip


@dataclass
class Layout:
    """Map from the streams of a source to those of the target.

    Attributes:
        copies: streams of the target by index of the source's, for packets that are copied.
        encoded: indices of the source's streams in whose place encoded ones are.
        left_out: what the target cannot hold, in a few words each.
    """

    copies: dict[int, av.stream.Stream] = field(default_factory=dict)
    encoded: list[int] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def codec_name(stream: av.stream.Stream) -> str | None:
    """FFmpeg's name of a stream's codec; of an attachment, its own name."""
    context = stream.codec_context
    return context.codec.canonical_name if context is not None else getattr(stream, "name", None)


def described(stream: av.stream.Stream) -> str:
    """A stream in a few words: ``subtitle track 3 (mov_text, eng)``."""
    language = stream.language if stream.language != "und" else None
    words = ", ".join(filter(None, (codec_name(stream), language)))
    kind = "cover picture" if stream.disposition & _COVER else f"{stream.type} track"
    return f"{kind} {stream.index}" + (f" ({words})" if words else "")


def file_tags(container: av.container.Container) -> dict[str, str]:
    """Tags of a file that are of its content, not of its format."""
    return {key: value for key, value in container.metadata.items() if key.lower() not in _FORMAT_TAGS}


def stream_tags(stream: av.stream.Stream) -> dict[str, str]:
    """Tags of a stream, without statistics that do not hold for a copy."""
    return {
        key: value
        for key, value in stream.metadata.items()
        if not key.lower().startswith(_STALE_TAGS) and (key.lower(), value) != ("language", "und")
    }


def is_of_the_format(stream: av.stream.Stream, container: av.container.Container) -> bool:
    """Whether a data stream is written anew from tags or chapters: timecode and chapters' titles of MP4 and MOV."""
    if stream.type != "data" or "mov" not in container.format.name:
        return False
    return "timecode" in stream.metadata or (stream.name == "bin_data" and bool(container.chapters()))


def lay_out(
    source: av.container.InputContainer,
    target: av.container.OutputContainer,
    kind: Container,
    encoded: dict[int, Callable[[], av.stream.Stream] | None],
    *,
    extras: bool = True,
    codec_tags: bool = True,
) -> Layout:
    """Add a stream to the target for each of the source, in their order, and its tags and chapters.

    Args:
        source, target: open.
        kind: of the target.
        encoded: by index of a source's stream, what adds another in its place, or None to leave it out.
        extras: whether to try streams that are neither video nor audio.
        codec_tags: whether codecs keep the names by which the source's container calls them.
    """
    layout = Layout()
    for stream in source.streams:
        if stream.index in encoded:
            if (add := encoded[stream.index]) is not None:
                _like(add(), stream)
                layout.encoded.append(stream.index)
        elif is_of_the_format(stream, source):
            continue
        elif stream.type == "attachment" or (stream.disposition & _COVER and kind.format == "matroska"):
            _attach(stream, target, kind, layout, source)
        elif not (stream.type in ("video", "audio") or (extras and _held(stream, kind))):
            layout.left_out.append(described(stream))
        else:
            _copy_of(stream, source, target, kind, layout, codec_tags)
    target.metadata.update(file_tags(source))
    target.set_chapters(source.chapters())
    return layout


def _held(stream: av.stream.Stream, kind: Container) -> bool:
    """Whether a container may hold a stream that is neither video nor audio."""
    return stream.type != "subtitle" or kind.subtitles is None or codec_name(stream) in kind.subtitles


def _copy_of(
    stream: av.stream.Stream,
    source: av.container.InputContainer,
    target: av.container.OutputContainer,
    kind: Container,
    layout: Layout,
    codec_tags: bool,
) -> None:
    """A stream for the packets of another, as much like it as the container allows."""
    try:
        copy = target.add_stream_from_template(stream, opaque=True)
    except (ValueError, av.error.FFmpegError):
        layout.left_out.append(described(stream))
        return
    layout.copies[stream.index] = copy
    _like(copy, stream)
    context, family = stream.codec_context, {"mp4": "mov"}.get(kind.format, kind.format)
    if context is not None and codec_tags and family in source.format.name.split(","):
        if context.codec_tag.isprintable():
            copy.codec_context.codec_tag = context.codec_tag
    elif codec_name(stream) == "hevc" and family == "mov":
        copy.codec_context.codec_tag = "hvc1"  # Apple's players take no other
    if isinstance(copy, av.VideoStream) and not stream.disposition & _COVER:
        rate = stream.average_rate or stream.guessed_rate
        if rate and (rate == stream.base_rate or not kind.starts):
            copy.codec_context.framerate = rate
        if rate and kind.format == "avi":
            copy.time_base = 1 / rate  # its ticks are its frames
    if kind.annex_b and is_length_prefixed(stream):
        copy.codec_context.extradata = None  # it speaks of lengths; with start codes, parameters lie in the packets
    if kind.format == "mpegts" and source.format.name == "mpegts":
        copy.id = stream.id


def _like(copy: av.stream.Stream, stream: av.stream.Stream) -> None:
    """Give a stream of the target the tags and the disposition of its original."""
    copy.metadata.update(stream_tags(stream))
    copy.disposition = stream.disposition


def _attach(
    stream: av.stream.Stream,
    target: av.container.OutputContainer,
    kind: Container,
    layout: Layout,
    source: av.container.InputContainer,
) -> None:
    """An attachment, or a cover picture where covers are attachments."""
    if kind.format != "matroska":
        layout.left_out.append(described(stream))
        return
    if isinstance(stream, av.stream.AttachmentStream):
        name, mime, data = stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data
    else:
        png = stream.codec_context is not None and stream.codec_context.name == "png"
        mime = stream.metadata.get("mimetype") or ("image/png" if png else "image/jpeg")
        name = stream.metadata.get("filename") or f"cover.{'png' if png else 'jpg'}"
        data = _cover(source, stream)
    target.add_attachment(name, mime, data)


def _cover(source: av.container.InputContainer, stream: av.stream.Stream) -> bytes:
    """The one packet of a cover picture."""
    with open_again(source) as again:
        packets = again.demux(again.streams[stream.index])
        return next((bytes(packet) for packet in packets if packet.size), b"")
