"""The two-tower model and its folder."""

import json

import pytest
import torch

from avlearn.errors import ModelError
from avlearn.models.audiovisual import AudioVisual, ModelConfig, load
from avlearn.signal import Spectrogram


def test_towers_meet_on_one_clock(untrained):
    model = load(untrained)
    with torch.inference_mode():
        video, audio = model(torch.rand(2, 3, 50, 64, 64), torch.randn(2, 32000) * 0.1)
    assert video.shape == (2, 128, 25, 8, 8)
    assert audio.shape == (2, 128, 25)
    assert torch.allclose(video.norm(dim=1), torch.ones(2, 25, 8, 8), atol=1e-4)
    assert torch.allclose(audio.norm(dim=1), torch.ones(2, 25), atol=1e-4)


def test_a_step_of_sound_answers_to_its_own_eighty_milliseconds(untrained):
    """A click in the middle of step u changes step u most."""
    model = load(untrained)
    click = torch.zeros(1, 32000)
    step = 12
    middle = round((step + 0.5) * 0.08 * 16000)
    click[:, middle - 20 : middle + 20] = 0.9
    with torch.inference_mode():
        change = model.audio_features(click) - model.audio_features(torch.zeros(1, 32000))
    assert int(change.square().sum(1).argmax()) == step


def test_a_step_of_picture_is_centred_on_every_second_frame(untrained):
    """A flash at frame 2 i changes steps i - k and i + k alike, to within the temporal convolutions."""
    model = load(untrained)
    still = torch.full((1, 3, 50, 64, 64), 0.5)
    flash = still.clone()
    flash[:, :, 24] += 0.4
    with torch.inference_mode():
        change = model.video_features(flash) - model.video_features(still)
    assert int(change.square().sum((0, 1, 3, 4)).argmax()) == 12


def test_different_clocks_are_refused():
    with pytest.raises(ModelError, match="different clocks"):
        AudioVisual(ModelConfig(fps=30.0))


def test_sound_is_brought_to_the_clock_of_the_picture():
    """A step of picture lasts 0.1 s at 20 frames a second, one of sound 0.08: a click lies where it is heard."""
    model = AudioVisual(ModelConfig(fps=20.0, resample=True)).eval()
    click = torch.zeros(1, 32000)
    click[:, 16000 + 800] = 0.9  # at 1.05 s, in step 10 of the picture and 13 of the sound
    with torch.inference_mode():
        change = model.audio_features(click) - model.audio_features(torch.zeros(1, 32000))
    assert change.shape == (1, 128, 20)
    assert int(change.square().sum(1).argmax()) == 10


def test_segments_are_seen_and_heard_alone():
    model = AudioVisual(ModelConfig(segment=0.64)).eval()
    video, audio = torch.rand(1, 3, 40, 32, 32), torch.randn(1, 25600) * 0.1  # 1.6 s: two segments and a half
    with torch.inference_mode():
        seen, heard = model.video_features(video), model.audio_features(audio)
        alone = model.video.forward_features(video[:, :, 16:32]), model.audio_features(audio[:, 10240:20480])
        other = model.video_features(video[:, :, :36]), model.audio_features(audio[:, :23040])
    assert (seen.shape[2], heard.shape[2]) == (20, 20)
    assert torch.allclose(seen[:, :, 8:16], alone[0], atol=1e-5)
    assert torch.allclose(heard[:, :, 8:16], alone[1], atol=1e-5)
    assert (other[0].shape[2], other[1].shape[2]) == (18, 18)
    assert torch.allclose(other[0][:, :, :16], seen[:, :, :16], atol=1e-5)


def test_samples_and_their_encoder_meet_the_picture():
    config = ModelConfig(
        audio="waveform_multisensory", audio_options={"in_chans": 1}, sample_rate=21000, resample=True,
        spectrogram=Spectrogram("waveform"),
    )  # fmt: skip
    with torch.inference_mode():
        video, audio = AudioVisual(config).eval()(torch.rand(1, 3, 50, 32, 32), torch.randn(1, 42000) * 0.1)
    assert (video.shape[2], audio.shape[2]) == (25, 25)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fps": 30.0, "resample": True}, r"model\.resample: a step lasts 1066\.67 samples"),
        ({"segment": 0.6}, r"model\.segment: 0\.6 s is no whole number of steps of 0\.08 s"),
        ({"spectrogram": Spectrogram("log_linear", bins=100)}, r"model\.spectrogram: 257 bins do not make 100 bands"),
    ],
)
def test_what_does_not_fit_is_refused(options, said):
    with pytest.raises(ModelError, match=said):
        AudioVisual(ModelConfig(**options))


def test_a_folder_brings_back_the_same_numbers(untrained):
    first, second = load(untrained), load(untrained)
    x, s = torch.rand(1, 3, 20, 64, 64), torch.randn(1, 12800)
    with torch.inference_mode():
        for a, b in zip(first(x, s), second(x, s), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("damage", ["no weights", "cut weights", "other format", "not json"])
def test_a_damaged_folder_is_refused_in_one_line(untrained, tmp_path, damage):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((untrained / name).read_bytes())
    if damage == "no weights":
        (tmp_path / "model.safetensors").unlink()
    elif damage == "cut weights":
        (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    elif damage == "other format":
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "format": "other/9"}))
    else:
        (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
