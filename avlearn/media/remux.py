"""Put a file's sound where it belongs, or another sound in its place, without encoding the picture."""

from pathlib import Path

import av

from avlearn.errors import NoVideoError, OutputError
from avlearn.files import replacing
from avlearn.media.decode import Samples
from avlearn.media.probe import probe
from avlearn.media.retime import Retimed
from avlearn.media.source import audio_stream, open_media, video_stream
from avlearn.media.writer import WRITE_ERRORS, SoundTrack

_CHUNK = 4.0  # seconds of replacing sound encoded at a time


def remux(
    path: str | Path,
    out: str | Path,
    *,
    audio_delay: float = 0.0,
    audio_drift: float = 0.0,
    replace_audio: str | Path | None = None,
) -> None:
    """Copy picture and sound packet by packet, the sound shifted in time.

    Only a drift, or another sound, makes the sound be encoded again.

    Args:
        path: the file.
        out: another file; its suffix names the container.
        audio_delay: seconds by which the sound plays later (negative: earlier; what would come before the
            picture is dropped).
        audio_drift: seconds a second by which that delay grows from the picture's first frame on; the sound is
            resampled.
        replace_audio: a file whose sound (from the picture's first frame on) takes the place of the old.

    Raises:
        MediaError: a file cannot be read.
        OutputError: ``out`` is the input, or its container cannot hold the codecs.
    """
    path, out = Path(path), Path(out)
    if out.resolve() == path.resolve():
        raise OutputError(f"{out} is the input itself: give another name")
    origin = probe(path).start
    with open_media(path) as source, replacing(out, WRITE_ERRORS) as part:
        picture = video_stream(source)
        if picture is None:
            raise NoVideoError(f"{path} has no picture")
        copied = replace_audio is None and not audio_drift
        sound = audio_stream(source) if copied else None
        # Delays are edit lists, in ticks of the whole file: milliseconds, unless told otherwise.
        fine = sound is not None and out.suffix.lower() in (".mp4", ".m4v", ".mov")
        options = {"movie_timescale": str(sound.time_base.denominator)} if fine else {}
        with av.open(str(part), "w", options=options) as target:
            try:
                copies = {picture.index: target.add_stream_from_template(picture)}
                if sound is not None:
                    copies[sound.index] = target.add_stream_from_template(sound)
                track = samples = None
                if not copied:
                    if replace_audio is not None:
                        samples = Samples(replace_audio, probe(replace_audio).start)
                    else:
                        samples = Retimed(path, origin - audio_delay, 1 - audio_drift)
                    track = SoundTrack(target, samples.rate, samples.channels)
                target.start_encoding()
            except (ValueError, av.error.FFmpegError) as error:
                raise OutputError(f"{out.suffix} cannot hold the streams of {path}: write a .mkv") from error
            _copy(source, target, copies, sound, audio_delay, origin, track, samples)


def _copy(source, target, copies, sound, delay, origin, track, samples) -> None:
    """Interleave the copied packets with the new track, if there is one."""
    streams = [s for s in source.streams if s.index in copies]
    for packet in source.demux(streams):
        if packet.dts is None and packet.pts is None:
            continue
        stream = packet.stream
        base = stream.time_base
        if sound is not None and stream.index == sound.index and delay:
            shift = round(delay / base)
            packet.pts = packet.pts + shift if packet.pts is not None else None
            packet.dts = packet.dts + shift if packet.dts is not None else None
            end = ((packet.pts or packet.dts) + (packet.duration or 0)) * base
            if delay < 0 and end <= origin:
                continue
        if track:
            now = float((packet.pts if packet.pts is not None else packet.dts) * base) - origin
            while track.written / samples.rate < now and not _finished(track, samples):
                _feed(track, samples)
        packet.stream = copies[stream.index]
        target.mux(packet)
    if track:
        while not _finished(track, samples):
            _feed(track, samples)
        track.finish()


def _finished(track: SoundTrack, samples: Samples | Retimed) -> bool:
    end = samples.end()
    return end is not None and track.written >= end


def _feed(track: SoundTrack, samples: Samples | Retimed) -> None:
    wanted = round(_CHUNK * samples.rate)
    piece = samples.read(track.written, wanted)
    end = samples.end()
    if end is not None:
        piece = piece[:, : max(end - track.written, 0)]
        if not piece.shape[1]:
            track.written = max(track.written, end)
            return
    track.write(piece)
    samples.forget(track.written)
