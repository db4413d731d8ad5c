"""The readouts on files: contracts that hold whatever the model has learned."""

import numpy as np
import pytest
import torch

from avlearn.apply.classify import classify_file
from avlearn.apply.embed import embed_file, embed_files
from avlearn.apply.localize.file import localize_file
from avlearn.apply.separate.file import separate_file
from avlearn.apply.sync.by_model import sync_by_model
from avlearn.errors import AvlearnError, ModelError, NoAudioError, NoVideoError, OutputError
from avlearn.media import probe, read_clip, remux, write_video, write_wav
from avlearn.models.folder import load
from avlearn.models.two_tower import frames_to_input


@pytest.fixture(scope="module")
def model(untrained):
    return load(untrained)


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    """Five seconds at 30 fps and 44.1 kHz stereo."""
    path = tmp_path_factory.mktemp("media") / "stereo.mp4"
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (150, 72, 128, 3), dtype=np.uint8)
    t = np.arange(44100 * 5) / 44100
    audio = 0.2 * np.sin(2 * np.pi * np.stack([200 * t + 60 * t**2, 500 * t + 40 * t**2])).astype(np.float32)
    write_video(path, frames, 30, audio=audio, sample_rate=44100)
    return path


def test_localize_keeps_audio_length_and_size(model, stereo, tmp_path):
    result = localize_file(stereo, model, tmp_path / "heat.mp4")
    before, after = probe(stereo), probe(result.video)
    assert (after.video.width, after.video.height) == (before.video.width, before.video.height)
    assert abs(after.video.duration - before.video.duration) < 0.05
    first, second = read_clip(stereo, video=False).audio, read_clip(result.video, video=False).audio
    length = min(first.shape[1], second.shape[1])
    assert np.corrcoef(first[0, :length], second[0, :length])[0, 1] > 0.99
    maps = np.load(result.maps)
    assert maps["maps"].shape[0] == len(maps["times"])
    assert np.isfinite(maps["maps"]).all()


def test_classify_and_embed(model, stereo, tmp_path):
    result = classify_file(stereo, model)
    for ranked in result.labels.values():
        assert sum(p for _, p in ranked) == pytest.approx(1, abs=1e-3)
    told = embed_files([stereo], model, tmp_path / "features.npz").text()
    assert told.startswith(f"wrote {tmp_path / 'features.npz'}: ") and told.endswith(" of 1 file")
    table = np.load(tmp_path / "features.npz")
    assert table["video"].shape == (len(table["start"]), 3 * model.video.num_features)
    embed_files([stereo], model, tmp_path / "features.parquet")
    with pytest.raises(OutputError, match=r"\.npz.*\.parquet"):
        embed_files([stereo], model, tmp_path / "features.txt")


def test_each_window_has_the_likeliest_label_and_the_file_the_likeliest_on_average(model, stereo):
    starts, video, audio = embed_file(stereo, model)
    with torch.inference_mode():
        scores = model.classifiers["both"](torch.from_numpy(np.concatenate([video, audio], 1)))
    probabilities = scores.softmax(1).numpy()
    result, names = classify_file(stereo, model, top=2), model.config.labels
    assert [window["label"] for window in result.windows] == [names[i] for i in probabilities.argmax(1)]
    assert [window["probability"] for window in result.windows] == [round(float(p), 4) for p in probabilities.max(1)]
    assert [window["start"] for window in result.windows] == starts.tolist() and len(starts) > 1
    mean = probabilities.mean(0)
    assert [label for label, _ in result.labels["both"]] == [names[i] for i in np.argsort(-mean)[:2]]
    assert result.text().splitlines()[-1] == f"note: {result.notice}"  # what it knows was never measured


def test_a_still_video_and_silence_cannot_be_synchronized(model, tmp_path):
    moving = np.random.default_rng(0).integers(0, 255, (75, 64, 64, 3), dtype=np.uint8)
    ramp = np.arange(64, dtype=np.uint8)
    still = np.repeat(np.stack([ramp[:, None] + ramp] * 3, -1)[None], 75, 0)
    noise = (np.random.default_rng(1).standard_normal((1, 48000)) * 0.1).astype(np.float32)
    for name, frames, audio, reason in (
        ("still", still, noise, "does not move"),
        ("silent", moving, noise * 0, "silent"),
    ):
        path = tmp_path / f"{name}.mp4"
        write_video(path, frames, 25, audio=audio, sample_rate=16000)
        result = sync_by_model(path, model)
        assert result.offset is None
        assert result.verdict == "cannot be synchronized"
        assert reason in result.reason


def test_what_lacks_a_stream_is_refused_by_name(model, tmp_path):
    frames = np.zeros((25, 64, 64, 3), np.uint8)
    write_video(tmp_path / "mute.mp4", frames, 25)
    write_wav(tmp_path / "blind.wav", np.zeros((1, 16000), np.float32), 16000)
    for apply in (sync_by_model, classify_file):
        with pytest.raises(NoAudioError):
            apply(tmp_path / "mute.mp4", model)
        with pytest.raises(NoVideoError):
            apply(tmp_path / "blind.wav", model)


def test_what_lacks_a_stream_is_embedded_by_the_other(model, stereo, tmp_path):
    """What is not there is NaN; the audio is as it is beside a video, and so are frames, all places alike."""
    starts, seen, heard = embed_file(stereo, model)
    clip = read_clip(stereo)
    write_video(tmp_path / "mute.mkv", clip.video, clip.fps)
    write_wav(tmp_path / "blind.wav", clip.audio, clip.sample_rate)
    result = embed_files([tmp_path / "mute.mkv", tmp_path / "blind.wav"], model, tmp_path / "features.npz")
    assert (result.files, result.failed) == (2, [])
    table = np.load(tmp_path / "features.npz")
    mute = np.array([path.endswith("mute.mkv") for path in table["path"]])
    assert table["start"][mute].tolist() == pytest.approx(starts.tolist())
    assert np.isnan(table["audio"][mute]).all() and np.isnan(table["video"][~mute]).all()
    assert table["video"].shape[1] == seen.shape[1] and table["audio"].shape[1] == heard.shape[1]
    np.testing.assert_allclose(table["audio"][~mute][0], heard[0], rtol=0.05, atol=0.02)
    config = model.config
    first = read_clip(tmp_path / "mute.mkv", 0, config.seconds, fps=config.fps, size=config.size, audio=False)
    with torch.inference_mode():
        features = model.video_features(frames_to_input(torch.from_numpy(first.video)[None])).mean((3, 4))
    count = model.video.num_features
    np.testing.assert_allclose(table["video"][mute][0, :count], features.mean(2)[0], rtol=1e-4, atol=1e-5)


def test_a_model_without_labels_says_so(stereo):
    from avlearn.config import ModelConfig
    from avlearn.models.audiovisual import AudioVisual

    bare = AudioVisual(ModelConfig()).eval()
    with pytest.raises(ModelError, match="no labels"):
        classify_file(stereo, bare)


@pytest.mark.slow
def test_real_videos_give_a_result_or_a_typed_refusal(model, real_videos, tmp_path):
    done = 0
    # Of many containers and codecs; what is large takes long to decode, and tests of the reader read all of it.
    short = sorted(path for path in real_videos.rglob("*") if path.is_file() and path.stat().st_size < 500_000)
    for path in short[::3]:
        try:
            assert np.isfinite(sync_by_model(path, model).confidence)
            done += 1
        except AvlearnError as error:
            assert "\n" not in str(error)
    assert done > 5


def test_the_default_model_measures_and_mends_a_delay(tmp_path, small_world):
    """Clips of a world it never saw, delayed by known times."""
    model = load("default")
    clips = sorted((small_world / "clips").glob("*.mp4"))[:4]
    errors, left = [], []
    for clip in clips:
        for delay in (0.3, -0.12):
            remux(clip, tmp_path / "late.mp4", audio_delay=delay)
            found = sync_by_model(tmp_path / "late.mp4", model)
            assert found.offset is not None
            errors.append(abs(found.offset + delay))
            remux(tmp_path / "late.mp4", tmp_path / "fixed.mp4", audio_delay=found.offset)
            left.append(abs(sync_by_model(tmp_path / "fixed.mp4", model).offset))
    assert np.median(errors) < 0.02
    assert np.median(left) < 0.02


def test_a_model_without_a_common_space_is_refused_where_it_is_needed(model, stereo, tmp_path):
    config = model.config
    try:
        model.config = config.model_copy(update=dict(common_space=False))
        for tool, out in ((sync_by_model, []), (localize_file, ["out.mp4"]), (separate_file, ["out"])):
            with pytest.raises(ModelError, match="no common space"):
                tool(stereo, model, *(tmp_path / name for name in out))
    finally:
        model.config = config
