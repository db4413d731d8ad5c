"""Released networks on files: what they see, by which sign they answer, and when they do not."""

import copy
import json

import numpy as np
import pytest
import torch
from commands import run
from flash_networks import FPS, RATE, FlashFormer, FlashNet, FlashSync, flashes, is_lit
from pretend_device import pretend_device
from torch import nn

from avlearn.apply.run_many import InferenceOptions, ResultTable, run_many
from avlearn.apply.sync.released import load_released, sync_with_released
from avlearn.apply.sync.released_answer import ReleasedSyncResult
from avlearn.apply.sync.tool import sync_tool
from avlearn.apply.tools import SYNC
from avlearn.errors import ModelError, NoAudioError
from avlearn.media import read_clip, write_video
from avlearn.models.folder import load
from avlearn.models.released.synchformer import (
    OFFSETS,
    Synchformer,
    audio_segments,
    desync,
    segment_mel,
    video_segments,
)
from avlearn.models.released.syncnet import SyncNet, lip_sync
from avlearn.models.two_tower import frames_to_input
from avlearn.signal.mfcc import mfcc


@pytest.mark.parametrize("lead", [0.4, -0.2, 0.0])
def test_positive_is_the_audio_before_the_video(tmp_path, lead):
    found = sync_with_released(flashes(tmp_path / "a.mp4", 8.0, lead), [FlashNet(), FlashFormer()])
    assert [answer.reason for answer in found] == ["", ""]
    assert [answer.offset for answer in found] == [lead, lead]
    assert found[1].values["desync"] == abs(lead)


@pytest.mark.parametrize("lead", [1.0, -1.0])
def test_sparsesync_of_three_classes(tmp_path, lead):
    found = sync_with_released(flashes(tmp_path / "a.mp4", 7.6, lead), [FlashSync()])[0]
    assert (found.offset, list(found.values)) == (lead, ["probability"])


@pytest.fixture(scope="module")
def syncnet():
    torch.manual_seed(0)
    net = SyncNet()
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 1.5)
        elif tensor.ndim > 1:
            nn.init.kaiming_normal_(tensor)
    return net.eval()


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    """1.8 seconds of 256 x 240 pixels with noise for audio."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    frames = rng.integers(0, 255, (45, 15, 16, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    write_video(path, frames, FPS, audio=rng.normal(0, 0.1, (1, 28800)).astype(np.float32), sample_rate=RATE)
    return path


@torch.no_grad()
def test_the_command_gives_the_numbers_of_the_whole_clip_at_once(syncnet, face, tmp_path):
    weights = tmp_path / "syncnet_v2.model"
    torch.save({name.partition(".")[2]: tensor for name, tensor in syncnet.state_dict().items()}, weights)
    words = ["sync", face, "--with", weights, "--crop", "20,8,224,224", "--json", "-"]
    done = run(*words)
    assert done.stderr == ""
    result = json.loads(done.stdout)
    clip = read_clip(face, fps=FPS, sample_rate=RATE, mono=True)
    video = frames_to_input(torch.from_numpy(clip.video[None, :, 8:232, 20:244]))
    seen, heard = syncnet(video, mfcc(torch.from_numpy(clip.audio)))
    expected = lip_sync(seen[0], heard[0])
    assert expected.windows == 40
    assert result["schema"] == "avlearn.sync/2"
    assert [list(answer) for answer in result["others"]] == [["name", "offset", "lse_d", "lse_c", "reason"]]
    found = result["others"][0]
    assert found["name"] == "SyncNet v2"
    assert found["offset"] == expected.offset
    assert found["lse_d"] == pytest.approx(expected.lse_d, rel=1e-5)
    assert found["lse_c"] == pytest.approx(expected.lse_c, rel=1e-3, abs=1e-4)


def small_synchformer(**options: int) -> Synchformer:
    torch.manual_seed(1)
    model = Synchformer(dim=48, depth=1, heads=4, fusion_depth=1, fusion_heads=4, **options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@torch.no_grad()
def test_synchformer_gives_the_numbers_of_the_whole_clip_at_once(tmp_path):
    path, model = flashes(tmp_path / "a.mp4", 6.0, side=224), small_synchformer()
    clip = read_clip(path, fps=FPS, sample_rate=RATE, mono=True)
    video, audio = frames_to_input(torch.from_numpy(clip.video[None])), torch.from_numpy(clip.audio)
    seen, heard = model.features(video_segments(video), segment_mel(audio_segments(audio)))
    assert seen.shape[1] == 17
    starts = (0, 3)
    mean = torch.cat([model.compare(seen[:, s : s + 14], heard[:, s : s + 14]) for s in starts]).softmax(1).mean(0)
    found = sync_with_released(path, [model])[0]
    assert found.name == "Synchformer"
    assert found.offset == OFFSETS[int(mean.argmax())]
    assert found.values["probability"] == pytest.approx(float(mean.max()), abs=1e-3)
    assert found.values["desync"] == pytest.approx(float(desync(model, video, audio)))


def test_on_another_device_they_say_the_same_and_in_another_precision_nearly(tmp_path, syncnet, monkeypatch):
    monkeypatch.setattr("avlearn.apply.sync.released_syncnet._FEWEST", 4)
    crop, path, face = (20, 8, 48, 48), flashes(tmp_path / "a.mp4", 5.2), flashes(tmp_path / "b.mp4", 0.52)
    for file, network in ((path, small_synchformer()), (path, FlashSync()), (face, copy.deepcopy(syncnet))):
        expected = sync_with_released(file, [network], crop)
        assert not expected[0].reason
        with pretend_device() as device:
            assert sync_with_released(file, [network], crop, device) == expected
    coarse, exact = sync_with_released(face, [syncnet], crop, precision=torch.bfloat16)[0].values, expected[0].values
    assert coarse != exact
    assert coarse["lse_d"] == pytest.approx(exact["lse_d"], rel=0.02)


def test_the_command_asks_on_the_models_device_in_its_precision(untrained, syncnet, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("avlearn.apply.sync.tool.load_network", lambda path: syncnet)
    monkeypatch.setattr(
        "avlearn.apply.sync.released.sync_with_released", lambda path, networks, *rest: asked.append(rest) or ()
    )
    path, model = flashes(tmp_path / "a.mp4", 2.0), load(untrained, "cpu", "bf16")
    sync_tool(path, model, released=[tmp_path / "syncnet_v2.model"])
    assert asked == [(None, torch.device("cpu"), torch.bfloat16)]


def test_what_is_not_finite_is_no_answer(tmp_path):
    """As where features are too large for 16 bits."""

    class Overflows(FlashFormer):
        def video_features(self, video):
            return super().video_features(video) / 0

    with pytest.raises(ModelError, match="not finite"):
        sync_with_released(flashes(tmp_path / "a.mp4", 6.0), [Overflows()])


def test_desync_is_of_both_ends_and_the_offset_of_all_windows(tmp_path):
    class Told(FlashFormer):
        def compare(self, seen, heard):
            assert seen.shape == heard.shape == (1, 14, 16)
            windows.append(seen[0, :, :8].flatten())
            return 50 * torch.eye(21)[[(0, 13, 13, 11)[len(windows)]]]

    windows = []
    found = sync_with_released(flashes(tmp_path / "a.mp4", 8.0), [Told()])[
        0
    ]  # 24 segments: windows from the first, 8th and 11th on
    lit = is_lit(frames_to_input(torch.from_numpy(read_clip(tmp_path / "a.mp4", fps=FPS).video)))
    assert [window.tolist() for window in windows] == [lit[8 * s : 8 * s + 112].tolist() for s in (0, 7, 10)]
    assert found.offset == 0.6
    assert found.values == {"probability": pytest.approx(2 / 3, abs=1e-3), "desync": pytest.approx(0.4)}


def test_synchformer_for_being_synchronizable(tmp_path):
    found = sync_with_released(flashes(tmp_path / "a.mp4", 4.6), [small_synchformer(classes=2, segments=13)])[0]
    assert found.offset is None and list(found.values) == ["synchronizable"]
    assert 0 <= found.values["synchronizable"] <= 1


def test_syncnet_sees_the_crop(tmp_path):
    frames = np.zeros((40, 240, 320, 3), np.uint8)
    frames[:, 100:212, 30:142] = 200  # the face
    audio = np.random.default_rng(0).normal(0, 0.1, (1, 25600)).astype(np.float32)
    write_video(tmp_path / "a.mp4", frames, FPS, audio=audio, sample_rate=RATE)
    net = FlashNet()
    assert sync_with_released(tmp_path / "a.mp4", [net], (30, 100, 112, 112))[0].reason == ""
    assert net.seen[0].shape == (1, 3, 31, 224, 224)
    assert net.seen[0].min() > 0.7 and net.seen[0].max() < 0.85


def test_where_the_audio_ends_the_clip_ends(tmp_path):
    """Silence behind it is not audio of the video."""
    net = FlashNet()
    answer = sync_with_released(flashes(tmp_path / "a.mkv", 6.0, audio_seconds=4.0), [net, FlashFormer()])
    whole = sync_with_released(flashes(tmp_path / "b.mp4", 4.0), [FlashNet()])[0]
    assert answer[0].values["lse_d"] == pytest.approx(whole.values["lse_d"], abs=0.03)
    assert sum(part.shape[2] - 6 for part in net.seen) + 6 == 100
    assert answer[1].reason == "it takes at least 4.8 s of video and audio together"


def test_no_answer_has_its_reason(tmp_path):
    networks = [FlashNet(), FlashFormer(), FlashSync()]
    short = sync_with_released(flashes(tmp_path / "short.mp4", 1.2), networks)
    assert [answer.offset for answer in short] == [None] * 3
    assert [answer.reason for answer in short] == [
        f"it takes at least {needed} s of video and audio together" for needed in (1.4, 4.8, 5)
    ]
    silent = tmp_path / "silent.mp4"
    write_video(silent, np.zeros((130, 64, 64, 3), np.uint8), FPS, audio=np.zeros((1, 83200), np.float32),
                sample_rate=RATE)  # fmt: skip
    assert {answer.reason for answer in sync_with_released(silent, networks)} == {"the audio is silent"}
    wide, noise = tmp_path / "wide.mp4", np.random.default_rng(0).normal(0, 0.1, (1, 25600)).astype(np.float32)
    write_video(wide, np.zeros((40, 64, 128, 3), np.uint8), FPS, audio=noise, sample_rate=RATE)
    assert "--crop" in sync_with_released(wide, networks[:1])[0].reason
    assert (
        sync_with_released(wide, networks[:1], (100, 0, 64, 64))[0].reason
        == "the crop reaches beyond the frame, 128x64"
    )
    write_video(tmp_path / "mute.mp4", np.zeros((40, 64, 64, 3), np.uint8), FPS)
    with pytest.raises(NoAudioError):
        sync_with_released(tmp_path / "mute.mp4", networks)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("netcnnlip.0.weight", r"by the names of SyncNet\)"),
        ("transformer.OFF_tok", r"by the names of Synchformer\)"),
        ("transformer.global_transformer.OFF_tok", r"by the names of SparseSync\)"),
        ("v_encoder.cls_token", "no weights of SyncNet v2, of SparseSync or of Synchformer's second stage"),
    ],
)
def test_the_names_tell_which_network(tmp_path, name, said):
    torch.save({"model": {f"module.{name}": torch.zeros(1)}}, tmp_path / "some.pt")
    with pytest.raises(ModelError, match=rf"some\.pt.*{said}"):
        load_released(tmp_path / "some.pt")


def test_many_files(small_world, tmp_path, syncnet):
    weights = tmp_path / "syncnet_v2.model"
    torch.save({name.partition(".")[2]: tensor for name, tensor in syncnet.state_dict().items()}, weights)
    short = flashes(tmp_path / "short.mp4", 1.0)
    options = {"released": (weights,), "crop": (0, 0, 96, 96)}
    results = dict(run_many(SYNC, [short, short], InferenceOptions(), options=options, workers=1))
    assert results[0].others == sync_with_released(short, [syncnet], (0, 0, 96, 96))
    assert "\n  SyncNet v2: no answer (it takes at least 1.4 s" in ResultTable(SYNC, [results[0]]).text()
    with pytest.raises(ModelError, match="there is no weight file"):
        next(run_many(SYNC, [short], InferenceOptions(), options={"released": (tmp_path / "none.pt",)}))


def test_in_words():
    assert ReleasedSyncResult("SyncNet v2", -0.12, {"lse_d": 7.5, "lse_c": 3.25}).text() == (
        "SyncNet v2: audio lags by 120 ms, LSE-D 7.500, LSE-C 3.250"
    )
    assert ReleasedSyncResult("Synchformer", 0.0, {"probability": 0.5, "desync": 0.1}).text() == (
        "Synchformer: in sync, probability 0.50, DeSync 0.10 s"
    )
