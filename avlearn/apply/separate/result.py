"""The result of `separate`: tracks that add up to the input, and what is told of each."""

from dataclasses import asdict, dataclass
from typing import Any

from avlearn.apply.separate.shot_tracks import ShotTracks
from avlearn.apply.separate.track_confidence import TrackEvidence
from avlearn.apply.separate.track_quality import TrackQuality
from avlearn.apply.separate.tracks import Format
from avlearn.files import printable

_TOLD = 12  # shots for people; JSON has all


@dataclass(frozen=True)
class Track:
    """A part of the input's audio, as long as all of it.

    Attributes:
        name: ``source1``, ``source2``, ...; ``onscreen``, ``offscreen``; or ``residual``.
        audio: the WAV.
        video: the MP4 or MKV with this audio alone; None for the residual.
        share: of the input's energy.
        id: of the source, as `avlearn localize --sources` numbers them; None where a place was asked for.
        place: x and y of the source as fractions of the frame, the median over time; None but for sources.
        present: share of the video's time for which the source is there; None but for sources.
        confidence: that it is the sound of its own place, in [0, 1]; None for what is off screen and for the residual.
        evidence: what that stands on; None but for sources, and for one whose track is silent.
        quality: how clean it is, an estimate; None but for sources of a file that is like the training data, whose
            confidence is 0.5 or more.
    """

    name: str
    audio: str
    video: str | None
    share: float
    id: int | None = None
    place: tuple[float, float] | None = None
    present: float | None = None
    confidence: float | None = None
    evidence: TrackEvidence | None = None
    quality: TrackQuality | None = None

    def text(self, calibrated: bool = True, placed: bool = True) -> str:
        """Human-readable text; ``calibrated``: whether the confidence is; ``placed``: whether to say where it is."""
        said = [f"{self.share:.0%} of the energy"]
        if self.place and placed:
            said.insert(0, f"at {self.place[0]:.0%} across, {self.place[1]:.0%} down")
        if self.present is not None and self.present < 0.995:
            said.append(f"there {self.present:.0%} of the time")
        if self.confidence is not None:
            said.append(f"confidence {self.confidence:.2f}{'' if calibrated else ', not calibrated'}")
        if self.quality is not None:
            said.append(f"SI-SDR about {self.quality.si_sdr:.0f} dB (within {self.quality.error:.0f})")
        return f"  {printable(self.audio)}  {', '.join(said)}"


@dataclass(frozen=True)
class SeparateResult:
    """Tracks that add up to the input.

    Attributes:
        path: the file.
        duration: seconds of the tracks.
        sample_rate, channels: of the tracks, as of the input.
        format: ``float`` (32 bits) or ``24`` (bits).
        calibrated: whether confidences were held to tracks with known truth; else each is the share of the track's
            place beside the best of the others.
        tracks: the last holds what belongs to no other.
        verdict: ``separated``, ``nothing on screen explains the sound``, ``silent``, or ``this model cannot tell``.
        reason: why it is not ``separated``, in plain words; else None.
        in_distribution: whether ``video`` and ``audio`` are like the training data; None where that was never measured.
        delay: seconds by which the audio was moved later to be measured, where it is out of sync; the tracks lie as in
            the input.
        notes: lines for people: of an offset, of quiet audio.
        notice: why the model cannot tell, where the file is unlike the training data; else None.
        shots: of the film, with the sources in each and their tracks; none of a released system that looks for none.
        system: the released system that separated in place of our model; else "".
    """

    path: str
    duration: float
    sample_rate: int
    channels: int
    format: Format
    calibrated: bool
    tracks: list[Track]
    verdict: str
    reason: str | None
    in_distribution: dict[str, bool | None]
    delay: float
    notes: tuple[str, ...]
    notice: str | None
    shots: tuple[ShotTracks, ...] = ()
    system: str = ""

    @property
    def sources(self) -> list[Track]:
        """All but the last."""
        return self.tracks[:-1]

    @property
    def residual(self) -> Track:
        """What belongs to no source."""
        return self.tracks[-1]

    def to_dict(self) -> dict[str, Any]:
        """JSON types; ``system`` is there where one separated."""
        values = asdict(self)
        if not self.system:
            del values["system"]
        return {"schema": "avlearn.separate/2", **values}

    def text(self) -> str:
        """Human-readable text."""
        count = len(self.sources)
        lines = [f"{printable(self.path)}: {count} track{'s' * (count != 1)} and what is left"]
        cut = len(self.shots) > 1
        lines += [track.text(self.calibrated, placed=not cut) for track in self.tracks]
        lines += [shot.text(number + 1) for number, shot in enumerate(self.shots[:_TOLD])] if cut else []
        lines += [f"  ... {len(self.shots)} shots in all: --json tells each"] if len(self.shots) > _TOLD else []
        lines += [self.reason] if self.reason else []
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])
