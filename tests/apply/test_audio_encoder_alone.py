"""An imported audio encoder's folder: features of what is heard, by each command that takes an encoder."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet
from typer.testing import CliRunner

from avlearn.apply.embed import embed_file
from avlearn.apply.encoder_alone import EncoderAlone, load_features
from avlearn.cli.app import app
from avlearn.config import Spectrogram
from avlearn.data.manifest import NO_AUDIO, NO_VIDEO, Row, write_manifest
from avlearn.errors import ModelError, NoAudioError
from avlearn.evaluation.linear_probe import ProbeProtocol, probe_model
from avlearn.media import read_clip, write_video, write_wav
from avlearn.models import create_model, list_models
from avlearn.models.registry import model_spec
from avlearn.models.weights.encoder_folder import load_encoder
from avlearn.models.weights.preprocessing import preprocessing_of
from avlearn.signal import FrontEnd

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Written by ``avlearn weights import`` of random weights, laid out as those of GDT."""
    path = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    network = ResNet(BasicBlock, [1, 1, 1, 1])
    network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    network.fc = nn.Identity()
    tensors = {f"module.audio_network.base.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": tensors | {"module.mlp_a.weight": torch.zeros(256, 512)}}, path / "gdt.pth")
    run("weights", "import", path / "gdt.pth", "--as", "resnet9", "-o", path / "gdt")
    return path / "gdt"


def run(*words) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def tone(path, seconds: float, hertz: float):
    """Without video."""
    time = np.arange(round(seconds * RATE)) / RATE
    write_wav(path, 0.3 * np.sin(2 * np.pi * hertz * time, dtype=np.float32)[None], RATE)
    return path


def test_embed_gives_means_over_time_of_clips_as_long_as_the_papers(folder, tmp_path):
    long, short = tone(tmp_path / "long.wav", 5.2, 440), tone(tmp_path / "short.wav", 0.3, 1200)
    run("embed", long, short, "--model", folder, "-o", tmp_path / "features.npz", "--device", "cpu")
    table = np.load(tmp_path / "features.npz")
    # Of 2 s each: the last 1.2 s are more than a half, and silence fills them up, as it does 0.3 s.
    assert table["start"].tolist() == pytest.approx([0, 2, 4, 0])
    assert table["audio"].shape == (4, 512) and table["video"].shape == (4, 0)
    encoder, _ = load_encoder(folder)
    heard = torch.from_numpy(read_clip(long, 4, 5.2, video=False, sample_rate=RATE).audio)
    hears = FrontEnd(RATE, Spectrogram(n_fft=1024, window=0.02, mels=40))
    with torch.no_grad():
        expected = encoder.forward_features(hears(nn.functional.pad(heard, (0, 2 * RATE - heard.shape[1]))))
    np.testing.assert_allclose(table["audio"][2], expected.mean(2)[0], rtol=1e-3, atol=1e-4)


def labelled(folder) -> list[Row]:
    """Low and high tones; every other one with video beside it."""
    rows = []
    for k in range(12):
        clip = tone(folder / f"{k}.wav", 0.5, 200 + 10 * k + 3000 * (k % 2))
        if k // 2 % 2:
            audio = read_clip(clip, 0, 0.5, video=False).audio
            clip = folder / f"{k}.mp4"
            write_video(clip, np.zeros((5, 32, 32, 3), np.uint8), 10, audio=audio, sample_rate=RATE)
        lacks = NO_VIDEO if clip.suffix == ".wav" else ""
        split = ("train", "val", "test")[k // 2 % 3]
        rows.append(Row(clip, duration=0.5, labels=("ab"[k % 2],), split=split, reason=lacks))
    return rows


@pytest.mark.parametrize("command", ["linear-probe", "evaluate"])
def test_it_is_measured_by_its_features_of_audio(command, folder, tmp_path):
    write_manifest(labelled(tmp_path), tmp_path / "clips.csv")
    told = run(command, "--model", folder, "--data", tmp_path / "clips.csv", "--json", tmp_path / "figures.json")
    names = {figure["name"] for figure in json.loads((tmp_path / "figures.json").read_text())["figures"]}
    assert "top-1, audio" in names and not any("video" in name or "both" in name for name in names)
    assert "untrained" in told


def test_its_tokens_are_probed(folder, tmp_path):
    result = probe_model(load_features(folder), labelled(tmp_path), ProbeProtocol("attentive"))
    assert {metric.name for metric in result.metrics} >= {"top-1, audio, attentive"}
    assert set(result.confusion) == {"audio"}


def test_a_clip_without_audio_is_told_and_left_out(folder, tmp_path):
    silent = tmp_path / "silent.mp4"
    write_video(silent, np.zeros((5, 32, 32, 3), np.uint8), 10)
    with pytest.raises(NoAudioError, match="audio"):
        embed_file(silent, load_features(folder))
    lost = Row(silent, duration=0.5, reason=NO_AUDIO, labels=("a",), split="train")
    result = probe_model(load_features(folder), [*labelled(tmp_path), lost])
    assert [path for path, _ in result.skipped] == [str(silent)] and set(result.confusion) == {"audio"}
    assert sum(map(sum, result.confusion["audio"])) == 4


def test_what_takes_video_and_audio_says_what_takes_it(folder, tmp_path):
    done = CliRunner().invoke(app, ["sync", str(tone(tmp_path / "a.wav", 1, 440)), "--model", str(folder)])
    assert isinstance(done.exception, ModelError) and "model.audio_weights" in str(done.exception)


@pytest.mark.parametrize("name", [name for name in list_models() if model_spec(name).kind == "audio"])
def test_every_audio_encoder_takes_the_clips_that_its_spec_says(name):
    how = preprocessing_of(name)
    inputs = how(torch.rand(3 * RATE))
    assert inputs.shape[-1] == how.frames == model_spec(name).clip[-1]
    with torch.device("meta"):
        encoder = create_model(name).eval()
        encoder.check(torch.empty(1, encoder.in_chans, *inputs.shape[1:]))
    assert str(how.samples // RATE) in how.text()


def test_an_encoder_of_stereo_hears_the_one_channel_as_both():
    model = EncoderAlone(create_model("waveform_multisensory").eval(), preprocessing_of("waveform_multisensory"))
    with torch.no_grad():
        found = model.features(torch.rand(RATE))
    assert found.shape[:2] == (1, model.encoder.num_features)


def test_the_card_tells_how_it_is_used(folder):
    card = (folder / "README.md").read_text()
    assert "2.00 s of audio, 16000 Hz; log_mel" in card and "preprocessing(audio)[None]" in card
