"""Any encoder in any recipe, by one override: what it needs comes with it."""

import pytest
import torch

from avlearn.config import ModelConfig
from avlearn.errors import ModelError
from avlearn.models import create_model, list_models, model_spec
from avlearn.models.audiovisual import AudioVisual
from avlearn.signal import FrontEnd
from avlearn.tasks import complete, load_recipe
from avlearn.tasks.synchronize.build import build_model
from avlearn.tasks.towers import model_config

AUDIO = [name for name in list_models() if model_spec(name).kind == "audio"]


def recipe(*words: str, name: str = "sync_kinetics"):
    return load_recipe(name, ["data.train=x", *words])


@pytest.mark.parametrize("name", AUDIO)
@pytest.mark.parametrize("of", ["sync_kinetics", "avts_kinetics", "gdt_kinetics", "owens_efros_audioset"])
def test_an_audio_encoder_brings_its_front_end(name, of):
    """What it hears is what it takes; nothing is computed."""
    config = model_config(recipe(f"model.audio={name}", "clip.sample_rate=16000", name=of), "")
    with torch.device("meta"):
        encoder = create_model(config.audio, **config.audio_options)
    front_end = FrontEnd(config.sample_rate, config.spectrogram)
    heard = front_end(torch.zeros(2, round(config.seconds * config.sample_rate)))
    steps = encoder.frames_for(heard.shape[-1]) // encoder.feature_info.stride[0]
    heard = heard.new_empty((*heard.shape[:-1], encoder.frames_for(heard.shape[-1])), device="meta")
    assert abs(encoder.forward_features(heard).shape[2] - steps) <= 1


@pytest.mark.parametrize("video", ["slowfast_r50_4x16", "timesformer_b", "mvit_v1_b_16x4", "swin3d_t", "c3d", "s3d"])
def test_a_video_encoder_drops_the_options_of_the_one_before(video):
    config = model_config(recipe(f"model.video={video}"), "")
    with torch.device("meta"):
        create_model(config.video, **config.video_options)


def test_where_offsets_are_measured_time_is_kept():
    assert complete(recipe("objective=infonce")).model.video_options == {}
    for words, wanted in (
        (["clip.fps=25"], {"temporal_stride": 2}),
        (["clip.fps=60"], {"temporal_stride": 4}),
        (["model.video_options.temporal_stride=4"], {"temporal_stride": 4}),
        (["model.video=c3d"], {"temporal_stride": 2}),
        (["model.video=x3d_s"], {}),
        (["model.video=mc4_18"], {}),
    ):
        assert complete(recipe(*words)).model.video_options == wanted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], []),
        (
            ["model.video_options.temporal_stride=8"],
            [
                "model.video: steps of 320 ms (r2plus1d_18) are too coarse to measure sync: "
                "model.video_options.temporal_stride=2 keeps time"
            ],
        ),
        (
            ["clip.fps=5"],
            [
                "model.video: steps of 200 ms (r2plus1d_18) are too coarse to measure sync: "
                "take more frames a second (clip.fps), or another encoder"
            ],
        ),
        (
            ["model.audio=vggish"],
            ["model.audio: steps of 960 ms (vggish) are too coarse to measure sync: take another encoder"],
        ),
        (["model.audio=vggish", "objective=infonce"], []),
    ],
)
def test_steps_that_are_too_coarse_are_said(words, said, capsys):
    build_model(recipe(*words), "")
    assert capsys.readouterr().err.splitlines() == said


def test_the_wrong_kind_of_encoder_and_a_typo_are_told_apart():
    for words, said in (
        ("model.audio=r3d_18", "model.audio: 'r3d_18' is a video encoder; the nearest audio encoder is 'resnet18'"),
        (
            "model.video=resnet18",
            "model.video: 'resnet18' is an audio encoder; the nearest video encoders are 'r2d_18', 'r3d_18', '",
        ),
        (
            "model.video=slowfast_r50",
            "model.video: 'slowfast_r50' is not known; the nearest video encoders are 'slowfast_r50",
        ),
    ):
        with pytest.raises(ModelError) as caught:
            model_config(recipe(words), "")
        assert str(caught.value).startswith(said)
    with pytest.raises(ModelError, match="is a video encoder"):
        AudioVisual(ModelConfig(audio="r3d_18"))
