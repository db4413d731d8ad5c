"""Choice of the audio track that belongs to a file's video."""

from avlearn.apply.sync.file import sync_file
from avlearn.errors import MediaError, NoAudioError
from avlearn.media.selection import audio_tracks
from avlearn.media.source import Selected, Source, opened_once
from avlearn.models.audiovisual import AudioVisual


@opened_once
def best_track(path: Source, model: AudioVisual) -> int:
    """Number from 1 of the track that is most in sync; where none can be synchronized, of the likeliest.

    Raises:
        NoAudioError: there is no audio track.
        MediaError: the file cannot be read, or none of its tracks can be measured.
    """
    ranks = {}
    failure: MediaError = NoAudioError(f"{path} has no audio track")
    for number in range(1, len(audio_tracks(path)) + 1):
        try:
            found = sync_file(Selected(path, number), model)
        except MediaError as error:  # one track that cannot be decoded is not the best
            failure = error
            continue
        ranks[number] = (True, -found.confidence) if found.offset is None else (False, abs(found.offset))
    if not ranks:
        raise failure
    return min(ranks, key=ranks.__getitem__)
