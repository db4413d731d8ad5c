"""A clip of a data set, and what annotations place within it."""

from dataclasses import dataclass, field
from pathlib import Path

from avlearn.data.cells import as_number, as_text
from avlearn.errors import DataError, MediaError
from avlearn.media import Slice
from avlearn.media.source import Source
from avlearn.remote.address import file_name
from avlearn.remote.file import RemoteFile


@dataclass(frozen=True)
class Event:
    """Something that the annotations place within a clip.

    Attributes:
        label: its class, or the word that is said.
        start, end: seconds on the file's own clock; equal for an instant.
        box: left, top, right, bottom as shares of the frame's width and height; None for the whole frame.

    Raises:
        ValueError: a value is of another kind, or cannot be true.
    """

    label: str
    start: float
    end: float
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        """Hold annotations to what they mean, wherever they come from."""
        as_text(self.label)
        if as_number(self.end, -LATEST, LATEST) < as_number(self.start, -LATEST, LATEST):
            raise ValueError(f"the event ends at {self.end:g} s, before it begins")
        if self.box is not None:
            if not isinstance(self.box, tuple) or len(self.box) != 4:
                raise ValueError("a box is left, top, right and bottom")
            for side in self.box:
                as_number(side, -1, 2)  # annotators draw over the edge


@dataclass(frozen=True)
class Entry:
    """A file as a corpus lists it, before anyone has looked into it.

    Attributes:
        path: where the file is, or would be.
        labels: classes of the whole clip.
        split: ``train``, ``val``, ``test`` or "".
        events: what the annotations place within it.
        folds: the split in each fold of a corpus that has several; those of `Row`.
        version: of a file at an address, what its folder's listing says of it.
    """

    path: Path | str
    labels: tuple[str, ...] = ()
    split: str = ""
    events: tuple[Event, ...] = ()
    folds: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True)
class Row:
    """A clip.

    Attributes:
        path: of the file, or of the tar that holds it; text where that is an address.
        start: instant of the first frame on the file's own clock, seconds.
        duration: seconds from there for which there is video and audio.
        video_codec, fps, width, height: of the video as displayed ("" and 0 without).
        audio_codec, sample_rate, channels: of the audio ("" and 0 without).
        labels: classes.
        split: ``train``, ``val``, ``test`` or "".
        flags: facts about the clip, like ``silent`` or ``variable-fps``.
        reason: why the clip cannot be used; "" for one that can.
        hash: of the content.
        bytes: length of the content.
        offset: first byte of the content within a tar; None for a file of its own.
        events: what the annotations place within the clip.
        truth: file with exact ground truth, or its address; None without.
        folds: the split in each fold, of a corpus that is published with several: ``("test", "train", "train")`` of a
            clip that the first of three tests; "" for one that a fold leaves out.
        number: of the row in the manifest that it was read from, from 1; 0 of others. It is not written.
    """

    path: Path | str
    start: float = 0.0
    duration: float = 0.0
    video_codec: str = ""
    fps: float = 0.0
    width: int = 0
    height: int = 0
    audio_codec: str = ""
    sample_rate: int = 0
    channels: int = 0
    labels: tuple[str, ...] = ()
    split: str = ""
    flags: tuple[str, ...] = ()
    reason: str = ""
    hash: str = ""
    bytes: int = 0
    offset: int | None = None
    events: tuple[Event, ...] = ()
    truth: Path | str | None = None
    folds: tuple[str, ...] = ()
    number: int = field(default=0, compare=False)

    def reason_for(self, *, video: bool, audio: bool) -> str:
        """Why the clip cannot be used by what takes its video, its audio, or either; "" where it can.

        A clip that lacks what is not taken can: no audio is no fault for who does not listen.
        """
        lacks = {NO_VIDEO: video, NO_AUDIO: audio}
        return self.reason if lacks.get(self.reason, True) else ""

    @property
    def name(self) -> str:
        """Of the file."""
        return file_name(self.path)

    @property
    def source(self) -> Source:
        """What a reader opens."""
        return self.path if self.offset is None else Slice(self.path, self.offset, self.bytes)

    @property
    def fingerprint(self) -> str:
        """What changes when the content does: the hash, or the file's length and date where there is none.

        Of a file that is not there, or whose server cannot be asked, "": whoever reads it is told why.
        """
        try:
            state = None if self.hash else self._state()
        except MediaError:
            state = None
        return self.hash if state is None else f"{state[0]}-{state[1]}"

    def require_unchanged(self) -> None:
        """Raise where the file is gone, or has another length than when it was scanned.

        Raises:
            DataError: it has.
            MediaError: the file's server cannot be asked.
        """
        if self.bytes and self.offset is None:
            state = self._state()
            if state is None or state[0] != self.bytes:
                raise DataError(f"{self.path}: it is gone, or has changed since the scan")

    def _state(self) -> tuple[int, int | str] | None:
        """The file's length, and its date or what its server says of its version."""
        if isinstance(self.path, str):
            with RemoteFile(self.path) as file:
                return file.size, file.version
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns


NO_VIDEO, NO_AUDIO = "there is no video", "there is no audio track"  # reasons of clips that can be used for the other
LATEST = 1e10  # seconds: clocks that count from 1970 are at 1.8e9
LONGEST = 1e8  # seconds of a clip: three years
