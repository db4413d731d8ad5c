"""One audio track of several, or one channel of it, is listened to."""

import av
import numpy as np
import pytest

from avlearn.errors import MediaError, NoAudioError
from avlearn.media import Selected, probe, read_clip, stream
from avlearn.media.selection import audio_tracks, select_audio, track_number

RATE = 16000
TONES = {1: (500, 700), 2: (1100, 1300)}  # Hz of the left and right channel of each track


@pytest.fixture(scope="module")
def two_tracks(tmp_path_factory):
    path = tmp_path_factory.mktemp("selection") / "two.mkv"
    instants = np.arange(3 * RATE) / RATE
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25, width=64, height=48)
        video.pix_fmt = "yuv420p"
        tracks = []
        for language in ("eng", "fra"):
            track = container.add_stream("pcm_s16le", rate=RATE, layout="stereo")
            track.metadata["language"] = language
            tracks.append(track)
        for _ in range(75):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24")))
        container.mux(video.encode(None))
        for track, tones in zip(tracks, TONES.values(), strict=True):
            audio = np.stack([0.5 * np.sin(2 * np.pi * tone * instants) for tone in tones], 1)
            frame = av.AudioFrame.from_ndarray((audio * 32767).astype(np.int16).reshape(1, -1), "s16", "stereo")
            frame.sample_rate = RATE
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return path


def tone(audio: np.ndarray) -> list[int]:
    """The strongest frequency of each channel, Hz."""
    return [round(float(np.abs(np.fft.rfft(channel)).argmax()) * RATE / audio.shape[1]) for channel in audio]


@pytest.mark.parametrize(("asked", "number"), [("1", 1), ("2", 2), ("eng", 1), ("FRA", 2)])
def test_a_track_is_chosen_by_number_and_by_language(two_tracks, asked, number):
    chosen = select_audio(two_tracks, asked)
    assert track_number(chosen) == number
    assert probe(chosen).audio.language == ("eng", "fra")[number - 1]
    assert tone(read_clip(chosen, 0.5, 2.0, video=False).audio) == list(TONES[number])
    assert tone(next(stream(chosen, 2.0, 2.0)).audio) == list(TONES[number])


@pytest.mark.parametrize(("asked", "place"), [("left", 0), ("right", 1), ("1", 0), ("2", 1)])
def test_a_channel_is_chosen(two_tracks, asked, place):
    chosen = select_audio(two_tracks, "2", asked)
    assert probe(chosen).audio.channels == 1
    for clip in (read_clip(chosen, 0.5, 2.0, video=False), next(stream(chosen, 2.0, 2.0))):
        assert tone(clip.audio) == [TONES[2][place]]


def test_the_mix_is_the_mean_of_the_channels(two_tracks):
    whole = read_clip(Selected(two_tracks, 2), video=False).audio
    mixed = read_clip(select_audio(two_tracks, "2", "mix"), video=False).audio
    assert mixed.shape[0] == 1
    assert np.abs(mixed[0] - whole.mean(0)).max() < 1e-6


def test_what_is_not_there_is_refused_with_what_is(two_tracks):
    for asked in ("3", "0", "deu"):
        with pytest.raises(NoAudioError, match=r"it has: 1 \(eng, pcm_s16le\), 2 \(fra, pcm_s16le\)"):
            select_audio(two_tracks, asked)
    with pytest.raises(MediaError, match=r"2 channels, there is no channel '3'"):
        select_audio(two_tracks, "1", "3")
    with pytest.raises(MediaError, match=r"give left, right, mix"):
        select_audio(two_tracks, "1", "middle")
    with pytest.raises(NoAudioError, match=r"there is no number 9"):
        probe(Selected(two_tracks, 9))
    assert audio_tracks(two_tracks) == ["1 (eng, pcm_s16le)", "2 (fra, pcm_s16le)"]
