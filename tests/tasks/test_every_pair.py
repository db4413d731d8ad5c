"""Every registered video encoder beside every audio encoder, by shapes: nothing is computed."""

import pytest
import torch
from torch import Tensor, nn

from avlearn.config import ModelConfig, Spectrogram
from avlearn.errors import ModelError
from avlearn.models import create_model, inputs, list_models, model_spec, two_tower
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.inputs import encoder_input
from avlearn.recipe import Recipe
from avlearn.tasks import load_recipe
from avlearn.tasks.synchronize.build import kept_options
from avlearn.tasks.towers import model_config

VIDEO, AUDIO = ([name for name in list_models() if model_spec(name).kind == kind] for kind in ("video", "audio"))


@pytest.fixture(scope="module")
def encoders() -> dict[tuple, nn.Module]:
    """Those that were built, on the meta device, by their names and options."""
    return {}


@pytest.fixture(scope="module")
def recipes() -> dict[str, Recipe]:
    """One for each audio encoder."""
    words = ["data.train=x", "clip.seconds=3.2"]
    return {audio: load_recipe("sync_world", [*words, f"model.audio={audio}"]) for audio in AUDIO}


@pytest.fixture
def built_once(encoders, monkeypatch):
    """Encoders are built once, and see an input of each shape once."""

    def create(name: str, options: dict, kind: str) -> nn.Module:
        key = (name, str(sorted(options.items())))
        if key not in encoders:
            encoder = encoders[key] = create_model(name, **options)
            seen, forward = {}, encoder.forward_features

            def forward_features(x: Tensor) -> Tensor:
                if x.shape not in seen:
                    seen[x.shape] = forward(x)
                return seen[x.shape]

            encoder.forward_features = forward_features
        return encoders[key]

    flows: dict[tuple, Tensor] = {}

    def made_once(encoder: nn.Module, video: Tensor) -> Tensor:
        key = (encoder.in_chans, encoder.flow_method, video.shape)
        if key not in flows:
            flows[key] = encoder_input(encoder, video)
        return flows[key]

    monkeypatch.setattr(two_tower, "create_encoder", create)
    monkeypatch.setattr(inputs, "encoder_input", made_once)


@pytest.mark.parametrize("video", VIDEO)
def test_every_audio_encoder_pairs_with(video, recipes, built_once):
    for audio, begun in recipes.items():
        assert begun.model.video_options == {}
        recipe = begun.model_copy(update={"model": begun.model.model_copy(update={"video": video})})
        with torch.device("meta"):
            model = AudioVisual(model_config(recipe, "", kept_options(recipe))).eval()
        with torch.inference_mode():
            seen, heard = model(torch.empty(1, 3, 80, 64, 64, device="meta"), torch.empty(1, 51200, device="meta"))
        steps = 80 // model.video.feature_info.stride[0]
        assert (seen.shape[:3], heard.shape) == ((1, 128, steps), (1, 128, steps)), audio


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        ("vggm_syncnet", r"VGGM takes spectrograms of 13 bins, not 64; vggm_syncnet takes kind: mfcc, mean: 0.0"),
        ("vggm_avts", "VGGM takes spectrograms of 40 bins, not 64; vggm_avts takes window: 0.02, mels: 40"),
        ("waveform_multisensory", r"Waveform takes \[B, C, N\].*; waveform_multisensory takes kind: waveform"),
    ],
)
def test_a_front_end_that_is_not_the_encoders_is_refused_in_a_line(audio, said):
    options = {"in_chans": 1} if audio.startswith("waveform") else {}
    with pytest.raises(ModelError, match=rf"^model\.spectrogram: {said}"):
        AudioVisual(ModelConfig(audio=audio, audio_options=options, resample=True))
    with pytest.raises(ModelError, match=r"^model\.spectrogram: Conv2d takes \[B, C, F, N\]"):
        AudioVisual(ModelConfig(spectrogram=Spectrogram(kind="waveform"), resample=True))
