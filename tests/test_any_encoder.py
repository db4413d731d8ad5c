"""Any encoder, all the way: every family under three objectives, and eight of them from training to every readout.

Families stand in for their registered members, which are the same code in large (those are held to their shapes and
gradients in models/test_inputs.py).
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from avlearn.apply.embed import embed_files
from avlearn.apply.localize.file import localize_file
from avlearn.apply.sync.by_model import sync_by_model
from avlearn.config import ModelConfig, Spectrogram
from avlearn.data.manifest import read_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.evaluation.linear_probe import probe_model
from avlearn.media import write_video
from avlearn.models import registry
from avlearn.models.audio.ast import AST
from avlearn.models.audio.vgg import VGGish
from avlearn.models.audio.waveform import Waveform
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.encoder import Encoder
from avlearn.models.folder import load
from avlearn.models.registry import Spec
from avlearn.models.video.r2plus1d import r2plus1d
from avlearn.models.video.slowfast import SlowFast
from avlearn.models.video.x3d import X3D
from avlearn.tasks import load_recipe
from avlearn.tasks.synchronize.build import build_objective
from avlearn.tasks.synchronize.module import SynchronizeModule
from avlearn.training.run import pretrain

sys.path.append(str(Path(__file__).parent / "models"))
from families import AUDIO
from families import EVERY_VIDEO as VIDEO

OBJECTIVES = ("dense", "shift_bce", "infonce")


def front_end(audio: Encoder) -> Spectrogram:
    """What an encoder hears."""
    if audio.axes == ("C", "N"):
        return Spectrogram(kind="waveform")
    return Spectrogram(kind="mfcc", mean=0.0) if audio.bins == 13 else Spectrogram(mels=audio.bins or 64)


def trained_once(monkeypatch, video: str, audio: str, name: str) -> AudioVisual:
    """A batch forth and back, as a training makes it."""
    for kind, families, family in (("video", VIDEO, video), ("audio", AUDIO, audio)):
        entry = Spec(kind, "a tiny one", 0), families[family].build
        monkeypatch.setitem(registry._builders, f"tiny_{kind}", entry)
    words = ["data.train=x", f"objective={name}", "clip.seconds=1.28", "clip.context=0.64"]
    recipe = load_recipe("sync_kinetics", words)
    size = VIDEO[video].shape[-1]
    config = ModelConfig(
        video="tiny_video", audio="tiny_audio", dim=16, size=size, seconds=1.28, resample=True,
        spectrogram=front_end(AUDIO[audio].build()),
    )  # fmt: skip
    model = AudioVisual(config)
    task = SynchronizeModule(model, build_objective(recipe, model, 2), {}, 0)
    batch = {"offset": torch.tensor([0, task.objective.spec.offsets - 1]), "index": torch.arange(2)}
    output = task.output(torch.rand(2, 3, 32, size, size), 0.1 * torch.randn(2, round(2.56 * 16000)), batch)
    output.loss.backward()
    assert output.loss.isfinite()
    for key, parameter in task.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
    return model


@pytest.mark.parametrize("video", VIDEO)
def test_every_kind_of_video_encoder_learns_under_three_objectives(video, monkeypatch):
    for name in OBJECTIVES:
        trained_once(monkeypatch, video, "conv2d", name)


@pytest.mark.parametrize("audio", AUDIO)
def test_every_kind_of_audio_encoder_learns_under_three_objectives(audio, monkeypatch):
    for name in OBJECTIVES:
        trained_once(monkeypatch, "dsconv", audio, name)


@pytest.mark.parametrize("video", VIDEO)
@pytest.mark.parametrize(("frames", "samples"), [(1, 300), (5, 3200), (27, 17280)])
def test_any_number_of_frames_gives_whole_steps_of_both(video, frames, samples, monkeypatch):
    monkeypatch.setitem(registry._builders, "tiny_video", (Spec("video", "", 0), VIDEO[video].build))
    model = AudioVisual(ModelConfig(video="tiny_video", resample=True)).eval()
    with torch.inference_mode():
        seen, heard = model(torch.rand(1, 3, frames, 64, 64), torch.randn(1, samples) / 10)
    assert seen.isfinite().all()
    assert heard.isfinite().all()
    assert seen.shape[2] == max(frames // model.video.feature_info.stride[0], 1)
    assert heard.shape[2] == max(int(samples / 16000 / model.step + 1e-6), 1)


def slowfast(alpha: int = 8) -> Encoder:
    return SlowFast(18, alpha, width=16)


def separated(temporal_stride: int = 8) -> Encoder:
    return r2plus1d(18, "per-block", 3, temporal_stride, 1e-5, width=8)


EIGHT = {  # by registered names: what stands in for them, and what is heard beside them
    "slowfast_r50_4x16": (slowfast, "conv2d_tiny", None),
    "timesformer_b": (VIDEO["timesformer"].build, "ast_b", lambda: AST(48, 1, 2, bins=128, frames=96)),
    "mvit_v1_b_16x4": (VIDEO["mvit v1"].build, "conv2d_tiny", None),
    "swin3d_t": (VIDEO["swin3d"].build, "resnet9", AUDIO["resnet9"].build),
    "videomae_b": (VIDEO["videomae"].build, "vggm_syncnet", AUDIO["vggm windowed"].build),
    "r2plus1d_18": (separated, "waveform_multisensory", lambda in_chans: Waveform(in_chans, 16)),
    "x3d_xs": (lambda: X3D((1, 1, 1, 1), (8, 8, 16, 16), 32), "vggish", lambda: VGGish(16, 64)),
    "dsconv_tiny": (VIDEO["dsconv"].build, "vggm_avts", AUDIO["vggm"].build),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Ten clips of two kinds, and one of a single frame."""
    folder = tmp_path_factory.mktemp("clips")
    config = WorldConfig.preset("solo", size=64, duration=2.2, classes=("ball", "bell"))
    make_world(folder / "world", 10, 3, config, workers=1)
    frame = np.full((1, 64, 64, 3), 90, np.uint8)
    write_video(folder / "one.mp4", frame, 25, audio=np.zeros((1, 640), np.float32), sample_rate=16000)
    return folder


@pytest.mark.parametrize("video", EIGHT)
def test_one_override_and_the_model_works_everywhere(video, clips, tmp_path, monkeypatch):
    build_video, audio, build_audio = EIGHT[video]
    monkeypatch.setitem(registry._builders, video, (registry.find_encoder(video)[0], build_video))
    if build_audio is not None:
        monkeypatch.setitem(registry._builders, audio, (registry.find_encoder(audio)[0], build_audio))
    world = clips / "world" / "manifest.parquet"
    words = [
        f"model.video={video}", f"model.audio={audio}", f"data.train={world}", f"data.val={world}",
        f"data.root={clips}/data", "clip.seconds=0.72", "clip.context=0.4", "clip.size=32", "trainer.batch_size=4",
        "trainer.max_steps=1", "trainer.val_every=1", "trainer.threads=1", "trainer.accelerator=cpu",
    ]  # fmt: skip
    folder = pretrain(load_recipe("sync_world", words), tmp_path / "run")
    model = load(folder)
    assert (model.config.video, model.config.audio) == (video, audio)
    rows = read_manifest(world)
    file = rows[0].path
    assert sync_by_model(file, model).status in ("in sync", "out of sync", "undecidable")
    localized = localize_file(file, model, tmp_path / "heat.mp4")
    # One step teaches nothing: where the model cannot tell, it tells no probability.
    assert (localized.audible is None) == (localized.verdict == "this model cannot tell")
    assert localized.audible is None or 0 <= localized.audible <= 1
    embed_files([file, clips / "one.mp4"], model, tmp_path / "features.npz")
    table = np.load(tmp_path / "features.npz")
    assert np.isfinite(table["video"]).all()
    assert np.isfinite(table["audio"]).all()
    assert table["video"].shape[1] == 3 * model.video.num_features
    assert list(table["path"]).count(str(clips / "one.mp4")) == 1
    result = probe_model(model, rows)
    assert result.skipped == []
    assert {metric.name for metric in result.metrics} >= {"top-1, video", "top-1, audio", "top-1, both"}
