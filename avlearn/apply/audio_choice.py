"""The audio track and channel of a file that are listened to."""

from avlearn.errors import AvlearnError
from avlearn.media.selection import select_audio
from avlearn.media.source import Selected, Source


def choose_audio(path: Source, track: str | None = None, channel: str | None = None, model: object = None) -> Selected:
    """A file with the audio track and channel that were asked for, as for `avlearn.media.selection.select_audio`.

    Args:
        path: the file, held open.
        track: also ``best``: the one that is most in sync (see `avlearn.apply.sync.best_track`).
        channel: which channel of it.
        model: what finds the best track.

    Raises:
        AvlearnError: the best track is asked for without a model of video and audio.
        MediaError: there is no such track or channel, or the file cannot be read.
    """
    if track == "best":
        # PyTorch is loaded for models alone.
        from avlearn.apply.sync.best_track import best_track
        from avlearn.models.audiovisual import AudioVisual

        if not isinstance(model, AudioVisual):
            raise AvlearnError("--audio-track best goes with a model of video and audio: it is the track most in sync")
        track = str(best_track(path, model))
    return select_audio(path, track, channel)
