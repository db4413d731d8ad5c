"""Audio tracks of a copied file that are encoded: for a drift, for a container without starts, or in place of all."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import av
import numpy as np

from avlearn.media.audio_track import AudioTrack
from avlearn.media.containers import Container
from avlearn.media.decode_audio import Samples
from avlearn.media.layout import described
from avlearn.media.original import Move, Original
from avlearn.media.probe import probe
from avlearn.media.retime import Retimed
from avlearn.media.source import Source

_CHUNK = 4.0  # seconds of audio encoded at a time
_BEST_ENCODERS = {"mp3": "libmp3lame", "opus": "libopus", "vorbis": "libvorbis"}


class EncodedAudio:
    """The audio of a target that is encoded, not copied.

    Args:
        target: open, its header not yet written.
        kind: of the target.
        original: the file that is copied.
        move: of one of its tracks.
        replaced: a file whose audio takes the place of all.

    Attributes:
        tracks: as they were added to the target.
        names: those of the file's tracks that were encoded again, in a few words each.
    """

    def __init__(
        self,
        target: av.container.OutputContainer,
        kind: Container,
        original: Original,
        move: Move,
        replaced: Source | None,
    ):
        self.target, self.kind, self.original, self.move, self.replaced = target, kind, original, move, replaced
        self.tracks: list[_Track] = []
        self.names: list[str] = []

    def plan(self) -> dict[int, Callable[[], av.stream.Stream] | None]:
        """By index of an audio stream that is not copied: what adds another in its place, or None."""
        audio = list(self.original.container.streams.audio)
        if self.replaced is None:
            return {s.index: partial(self._add_again, s) for s in audio if self._is_encoded(s)}
        plan: dict[int, Callable[[], av.stream.Stream] | None] = dict.fromkeys((s.index for s in audio), None)
        if audio:
            plan[audio[0].index] = partial(self._add_replacement, self.replaced)
        return plan

    def complete(self) -> None:
        """Add what replaces the audio of a file that has none."""
        if self.replaced is not None and not self.tracks:
            self._add_replacement(self.replaced)

    def write_until(self, seconds: float) -> None:
        """Encode what plays before an instant on the file's clock."""
        for track in self.tracks:
            track.write_until(seconds if self.kind.starts else seconds - self.original.origin)

    def finish(self, seconds: float) -> None:
        """Encode all that is left; containers without starts of streams end with the shortest of them, and get silence
        until an instant on the file's clock."""
        for track in self.tracks:
            track.finish(0.0 if self.kind.starts else seconds - self.original.origin)

    def _is_encoded(self, stream: av.AudioStream) -> bool:
        if stream.codec_context is None:
            return False
        delay, drift = self.move.of(stream)
        if self.kind.starts:
            return bool(drift)
        return bool(drift or delay) or not self.original.container.format.name.startswith(self.kind.format)

    def _add_replacement(self, file: Source) -> av.stream.Stream:
        samples = Samples(file, probe(file).start)
        return self._add(samples, self.original.origin if self.kind.starts else 0.0, None)

    def _add_again(self, stream: av.AudioStream) -> av.stream.Stream:
        delay, drift = self.move.of(stream)
        track, early = self.original.track(stream), 0.0
        if self.kind.starts:  # what comes before the video stays before it
            early = self.original.origin - self.original.begin
        origin = self.original.origin - delay - early * (1 - drift)
        samples = Retimed(track, origin, 1 - drift) if drift else Samples(track, origin)
        self.names.append(described(stream))
        return self._add(samples, self.original.begin if self.kind.starts else 0.0, stream)

    def _add(self, samples: Samples | Retimed, start: float, like: av.AudioStream | None) -> av.stream.Stream:
        made = AudioTrack(
            self.target, samples.rate, samples.channels, _encoders(self.target, self.kind, like), start=start,
            stamped=self.kind.starts, rates=self.kind.rates,
            bit_rate=like.codec_context.bit_rate if like is not None else None,
        )  # fmt: skip
        self.tracks.append(_Track(made, samples, start))
        return made.stream


def _encoders(target: av.container.OutputContainer, kind: Container, like: av.AudioStream | None) -> list[str]:
    """Encoders for audio like a stream's: its own codec, where the container holds it, then the container's."""
    if like is None:
        return list(kind.audio)
    name = like.codec_context.codec.canonical_name
    name = _BEST_ENCODERS.get(name, name)
    try:
        # FFmpeg reads back an AVI's packets of AAC that are large as two.
        held = name in kind.audio or ((kind.starts or name.startswith("pcm_")) and name in target.supported_codecs)
        own = held and not av.codec.Codec(name, "w").experimental
    except ValueError:
        own = False
    return list(dict.fromkeys([name, *kind.audio] if own else kind.audio))


@dataclass
class _Track:
    """Audio that is encoded: the track of the target, its samples, and the instant of the first (seconds)."""

    track: AudioTrack
    samples: Samples | Retimed
    start: float

    def write_until(self, seconds: float | None) -> None:
        """Write what plays before an instant on the target's clock; None: all that is left."""
        while not self._ended() and (seconds is None or self.start + self.track.written / self.samples.rate < seconds):
            first, count = self.track.written, round(_CHUNK * self.samples.rate)
            piece, end = self.samples.read(first, count), self.samples.end()
            self.track.write(piece if end is None else piece[:, : max(end - first, 0)])
            self.samples.forget(self.track.written)
            if end is not None and not self._ended():
                self.track.written = end

    def finish(self, at_least: float) -> None:
        """Write all that is left, and silence until ``at_least`` seconds."""
        self.write_until(None)
        missing = round((at_least - self.start) * self.samples.rate) - self.track.written
        self.track.write(np.zeros((self.samples.channels, max(missing, 0)), np.float32))
        self.track.finish()

    def _ended(self) -> bool:
        end = self.samples.end()
        return end is not None and self.track.written >= end
