"""Which of a file's audio tracks is listened to: the one that is asked for, or the one that belongs to the video."""

from avlearn.apply.sync import sync_file
from avlearn.errors import AvlearnError, MediaError, NoAudioError
from avlearn.media.selection import audio_tracks, select_audio
from avlearn.media.source import Selected, Source, opened_once
from avlearn.models.audiovisual import AudioVisual


def choose_audio(
    path: Source, track: str | None = None, channel: str | None = None, model: AudioVisual | None = None
) -> Selected:  # fmt: skip
    """A file with the audio track and channel that were asked for, as for `avlearn.media.selection.select_audio`.

    Args:
        path: the file, held open.
        track: also ``best``: the one that is most in sync (see `best_track`).
        channel: which channel of it.
        model: what finds the best track.

    Raises:
        AvlearnError: the best track is asked for without a model of video and audio.
        MediaError: there is no such track or channel, or the file cannot be read.
    """
    if track == "best":
        if not isinstance(model, AudioVisual):
            raise AvlearnError("--audio-track best goes with a model of video and audio: it is the track most in sync")
        track = str(best_track(path, model))
    return select_audio(path, track, channel)


@opened_once
def best_track(path: Source, model: AudioVisual) -> int:
    """Number from 1 of the track that is most in sync; where none can be synchronized, of the likeliest.

    Raises:
        NoAudioError: no track can be measured.
        MediaError: the file cannot be read.
    """
    ranks = {}
    for number in range(1, len(audio_tracks(path)) + 1):
        try:
            found = sync_file(Selected(path, number), model)
        except MediaError:  # one track that cannot be decoded is not the best
            continue
        known = found.offset is not None
        ranks[number] = (not known, abs(found.offset) if known else -found.confidence)
    if not ranks:
        raise NoAudioError(f"{path} has no audio track that can be measured")
    return min(ranks, key=ranks.get)
