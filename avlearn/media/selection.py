"""Selection of a file's audio track, and of its channels, by the names that people use."""

from avlearn.errors import MediaError, NoAudioError
from avlearn.media.source import Channel, Selected, Source, audio_stream, open_media

_CHANNELS: dict[str, Channel] = {"left": "left", "right": "right", "mix": "mix"}


def select_audio(path: Source, track: str | None = None, channel: str | None = None) -> Selected:
    """A file with the audio track and channel that were asked for.

    Args:
        path: the file.
        track: a number from 1, or a language as the file names it (``eng``); None: the one that FFmpeg deems best.
        channel: ``left``, ``right``, ``mix``, or a number from 1; None: all of them.

    Raises:
        NoAudioError: there is no such track; says which there are.
        MediaError: there is no such channel, or the file cannot be read.
    """
    wanted = _channel(channel)
    selected = Selected(path, None if track is None else _number(path, track), wanted)
    if selected.channel is None:
        return selected
    with open_media(path, look=True) as container:
        stream = audio_stream(container, selected)
        if stream is None:
            raise NoAudioError(f"{path} has no audio track that can be decoded")
        selected.check_channels(stream.codec_context.channels)
    return selected


def _channel(text: str | None) -> Channel | None:
    if text is None:
        return None
    channel = _CHANNELS.get(text, int(text) if text.isdecimal() else 0)
    if not channel:
        raise MediaError(f"'{text}' is no channel: give left, right, mix, or a number from 1")
    return channel


def audio_tracks(path: Source) -> list[str]:
    """Audio tracks of a file in their order, each in a few words: ``1 (eng, aac)``."""
    with open_media(path, look=True) as container:
        return [
            f"{number} ({', '.join(filter(None, (stream.language, stream.codec_context.codec.canonical_name)))})"
            if stream.codec_context is not None
            else f"{number} (unknown codec)"
            for number, stream in enumerate(container.streams.audio, 1)
        ]


def track_number(path: Source) -> int | None:
    """Number from 1 of the track that is listened to; None where there is none."""
    with open_media(path, look=True) as container:
        stream = audio_stream(container, path)
        indices = [other.index for other in container.streams.audio]
        return indices.index(stream.index) + 1 if stream is not None else None


def _number(path: Source, track: str) -> int:
    with open_media(path, look=True) as container:
        languages = [stream.language or "" for stream in container.streams.audio]
    if track.isdecimal() and 1 <= int(track) <= len(languages):
        return int(track)
    matching = [number for number, name in enumerate(languages, 1) if name.lower() == track.lower()]
    if len(matching) == 1:
        return matching[0]
    tracks = ", ".join(audio_tracks(path)) or "none"
    if matching:
        raise NoAudioError(f"{path} has {len(matching)} audio tracks in '{track}', give a number: {tracks}")
    raise NoAudioError(f"{path} has no audio track '{track}'; it has: {tracks}")
