"""One's own footage: which files can be learned from, by how much their audio is off, and small copies in sync."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.run_many import Tool
from avlearn.data.content import FLAGS
from avlearn.data.manifest import Row
from avlearn.errors import DataError, MissingExtraError
from avlearn.media import write_video
from avlearn.media.clip import Window
from avlearn.media.reader import ClipReader
from avlearn.media.source import Source, opened_once

IN_SYNC = 0.04  # seconds: audio that is nearer is left where it is
AGREE = 0.08  # seconds within which experts mean the same delay
FEWEST_SURE = 3  # files that a common delay stands on
_MAJORITY = 0.8  # of the files that experts are sure of: they have the common delay
_LONGEST, _SHORTEST, _MANY = 30.0, 6.0, 48  # seconds of a stretch, and stretches that there are of little footage
_MOST = 240  # stretches of all footage
_UNUSED = ("silent", "static", "duplicate")  # flags of files that teach nothing
_CRF = 12  # of copies: their frames are as small as the model sees them


@dataclass(frozen=True)
class Stretch:
    """A part of a file, in sync as far as that is known.

    Attributes:
        file: its path.
        start, end: seconds from the file's first frame.
        delay: seconds by which the file's audio leads, which the copy makes good.
        copy: the small copy that is learned from.
    """

    file: str
    start: float
    end: float
    delay: float
    copy: Path


@dataclass(frozen=True)
class Delays:
    """By how much the audio of files leads, as far as anyone can tell.

    Attributes:
        sure: of the files that an expert was sure of, seconds.
        asked: how many files experts were asked about.
        common: what nearly all of the sure ones have, if that is off; else None.
        lacking: what experts would need to be installed; "" where nothing lacks.
    """

    sure: dict[str, float]
    asked: int
    common: float | None
    lacking: str = ""

    def of(self, file: str) -> float:
        """Seconds by which the audio of a file is moved: none where it is not known, or near enough."""
        known = self.sure.get(file, self.common or 0.0)
        return known if abs(known) > IN_SYNC else 0.0

    def lines(self, files: Sequence[str]) -> list[str]:
        """What was found, for people, and what cannot be known."""
        moved = [file for file in files if self.of(file)]
        unknown = len(files) - sum(file in self.sure for file in files)
        said = f"offsets: experts were sure of {len(self.sure)} of {self.asked} files"
        said += f"; the audio of {len(moved)} files was moved before the training" if moved else ""
        lines = [said + (f" ({self.lacking})" if self.lacking else "")]
        if self.common is not None:
            lines.append(f"common delay: the audio {_leads(self.common)}, taken for the other {unknown} files too")
        elif unknown and len(self.sure) < FEWEST_SURE:
            lines.append(f"common delay: nobody can tell; if {unknown} files share one, it is learned as in sync")
        elif unknown:
            lines.append(f"common delay: none; {unknown} files that nobody was sure of are taken to be in sync")
        return lines


def _leads(delay: float) -> str:
    return f"{'leads' if delay > 0 else 'lags'} by {abs(round(1000 * delay))} ms"


def why_not(row: Row, least: float) -> str:
    """Why a scanned file cannot be learned from; "" where it can."""
    if row.reason:
        return row.reason
    for flag in _UNUSED:
        if flag in row.flags:
            return FLAGS[flag]
    return f"shorter than {least:.1f} s" if row.duration < least - 1e-3 else ""


@opened_once
def true_offset(path: Source) -> ExpertAnswer:
    """The offset of a file by the first expert that is sure; by none where nobody is, or it changes.

    Raises:
        MediaError: the file cannot be read.
    """
    from avlearn.apply.sync.self_calibrated import self_calibrated_sync
    from avlearn.apply.sync.speech import speech_sync

    lacking, answer = "", None
    for judge in (speech_sync, self_calibrated_sync):
        try:
            answer = judge(path)
        except MissingExtraError as error:
            lacking = str(error)
            continue
        if answer.course and (answer.course.drift or answer.course.steps):
            return replace(answer, reason=answer.reason or "its offset changes, and one delay does not mend that")
        if answer.offset is not None:
            return answer
    assert answer is not None  # the second one needs nothing
    return replace(answer, reason=lacking or answer.reason)


def delays(answers: dict[str, ExpertAnswer]) -> Delays:
    """What experts know of files, and the delay that nearly all of these share, where they do."""
    sure = {file: answer.offset for file, answer in answers.items() if answer.offset is not None}
    lacking = next((a.reason for a in answers.values() if "pip install" in a.reason), "")
    common = None
    if len(sure) >= FEWEST_SURE:
        middle = float(np.median(list(sure.values())))
        near = sum(abs(delay - middle) <= AGREE for delay in sure.values())
        if abs(middle) > IN_SYNC and near >= _MAJORITY * len(sure):
            common = middle
    return Delays(sure, len(answers), common, lacking)


def stretches(rows: Sequence[Row], known: Delays, folder: Path, least: float, seed: int) -> list[Stretch]:
    """Parts of files, spread over them; of much footage no more than can be learned from in a while.

    Args:
        rows: usable files.
        known: their delays.
        folder: of the copies.
        least: seconds that a part has to last.
        seed: of the choice.
    """
    seconds = sum(row.duration for row in rows)
    length = min(max(seconds / _MANY, _SHORTEST, least), _LONGEST)
    found: list[list[Stretch]] = []
    for number, row in enumerate(rows):
        delay = known.of(str(row.path))
        first, last = max(delay, 0.0), row.duration + min(delay, 0.0)  # where there is audio of its own
        count = max(int((last - first) / length), 1)
        size = min(length, last - first)
        starts = np.linspace(first, last - size, count)
        found.append([
            Stretch(str(row.path), round(float(s), 3), round(float(s + size), 3), delay, folder / f"{number}-{k}.mkv")
            for k, s in enumerate(starts)
            if size >= least - 1e-3
        ])  # fmt: skip
    rng = np.random.default_rng(seed)
    while (total := sum(map(len, found))) > _MOST:
        # Of files with many parts first.
        most = max(map(len, found))
        for parts in (parts for parts in found if len(parts) == most):
            if total > _MOST:
                del parts[int(rng.integers(len(parts)))]
                total -= 1
    return [part for parts in found for part in parts]


@opened_once
def copy_stretches(
    path: Source, *, parts: Sequence[Stretch], origin: float, fps: float, size: int, sample_rate: int
) -> int:
    """Write small copies of parts of a file, their audio put right; those that are there stay.

    Args:
        path: the file.
        parts: of it.
        origin: the instant of its first frame, seconds on its own clock.
        fps, size, sample_rate: of the copies; ``size`` is the short side, pixels.

    Returns:
        How many there are.

    Raises:
        MediaError: a part cannot be read.
        DataError: it is cut short.
        OutputError: a copy cannot be written.
    """
    reader = ClipReader(fps=fps, size=size, sample_rate=sample_rate, mono=True)
    for part in parts:
        if part.copy.exists():
            continue
        before, after = max(part.delay, 0.0), max(-part.delay, 0.0)
        seconds = part.end - part.start
        clip = reader.read(path, [Window(origin + part.start, seconds, before, after)])[0]
        first = round((clip.before - part.delay) * sample_rate)
        audio = clip.audio[:, first : first + round(len(clip.video) / fps * sample_rate)]
        if len(clip.video) < 0.9 * seconds * fps:
            raise DataError(f"the part at {part.start:.2f} s is cut short")
        write_video(part.copy, clip.video, fps, audio=audio, sample_rate=sample_rate, crf=_CRF)
    return len(parts)


TRUE_OFFSET = Tool(
    "avlearn.adapt/1", "avlearn.adapt.footage:true_offset", "", lambda answer: answer.expert, lambda _: 0, lambda _: {}
)
COPY = Tool(
    "avlearn.adapt/1", "avlearn.adapt.footage:copy_stretches", "", lambda _: "copied", lambda _: 0, lambda _: {}
)
