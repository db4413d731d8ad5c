"""Tracks written piece by piece: a WAV each, and a video each. All appear whole, or none."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Literal

import numpy as np
import soundfile

from avlearn.errors import OutputError
from avlearn.files import unfinished
from avlearn.media import remux
from avlearn.media.source import Source, opened
from avlearn.media.wav import without_clock

Format = Literal["float", "24"]
_SUBTYPES = {"float": ("FLOAT", 4), "24": ("PCM_24", 3)}  # libsndfile's name, bytes a sample
_WAV_HOLDS = 2**31  # bytes; twice as many do fit, but lengths are estimates


@contextmanager
def staged_folder(folder: Path, stem: str, stale: Sequence[str]) -> Iterator[Path]:
    """A hidden folder to write to; at the end its files move to ``folder``, and what failed leaves nothing.

    Args:
        folder: made where it is not there.
        stem: of the files' names.
        stale: patterns of files in ``folder`` that an earlier call left; the new ones take their place.

    Raises:
        OutputError: what the disk said.
    """
    part = unfinished(folder / stem)
    there = folder.exists()
    if there and not folder.is_dir():
        raise OutputError(f"{folder} is a file: the tracks go to a folder, give another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            for path in [path for pattern in stale for path in folder.glob(pattern)]:
                path.unlink()
            for path in part.iterdir():
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        if not there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


class WavFiles:
    """WAV files of equal length, open together.

    Args:
        paths: of the files; RF64 where they get longer than a WAV can say.
        rate, channels: of each.
        form: ``float`` (32 bits) or ``24`` (bits; what exceeds full scale is clipped).
        seconds: that they are to last, about.

    Raises:
        OutputError: what the disk said.
    """

    def __init__(self, paths: Sequence[Path], rate: int, channels: int, form: Format, seconds: float):
        subtype, size = _SUBTYPES[form]
        container = "WAV" if seconds * rate * channels * size < _WAV_HOLDS else "RF64"
        self.folder, self.paths, self.rate, self.closing = paths[0].parent.parent, paths, rate, ExitStack()
        with self._reporting():
            self.files = [
                self.closing.enter_context(soundfile.SoundFile(path, "w", rate, channels, subtype, format=container))
                for path in paths
            ]

    def __enter__(self) -> "WavFiles":
        return self

    def write(self, tracks: np.ndarray) -> None:
        """Append ``[K, C, S]``."""
        with self._reporting():
            for file, track in zip(self.files, tracks, strict=True):
                file.write(track.T)

    def __exit__(self, *failure: object) -> None:
        with self._reporting():
            self.closing.close()
            for path in self.paths if failure[0] is None else ():
                without_clock(path)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (OSError, soundfile.SoundFileError) as error:
            raise OutputError(f"cannot write {self.folder}: {error}") from error


def write_videos(source: Source, wavs: Sequence[Path], progress: Callable[[int, int], None]) -> list[Path]:
    """The video of a file with each track, beside them, all at once: MP4, or MKV where MP4 cannot hold it.

    Args:
        source: the file.
        wavs: the tracks.
        progress: is told how many videos are done, of how many.

    Raises:
        MediaError, OutputError: as `remux`.
    """
    done: SimpleQueue[tuple[int, Path | BaseException]] = SimpleQueue()

    def work(number: int, wav: Path) -> None:
        try:
            done.put((number, _video(source, wav)))
        except BaseException as error:
            done.put((number, error))

    for number, wav in enumerate(wavs):
        # Of their own accord such threads end with the process only: Ctrl-C does not wait for them.
        Thread(target=work, args=(number, wav), daemon=True).start()
    found: dict[int, Path | BaseException] = {}
    for count in range(len(wavs)):
        progress(count, len(wavs))
        number, result = done.get()
        found[number] = result
    progress(len(wavs), len(wavs))
    videos = {}
    for number, result in found.items():
        if isinstance(result, BaseException):
            raise result
        videos[number] = result
    return [videos[number] for number in range(len(wavs))]


def _video(source: Source, wav: Path) -> Path:
    out = wav.with_suffix(".mp4")
    with opened(wav) as audio:
        try:
            remux(source, out, replace_audio=audio)
        except OutputError:
            out = out.with_suffix(".mkv")  # holds the codecs that MP4 does not
            remux(source, out, replace_audio=audio)
    return out
