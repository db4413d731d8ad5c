"""`sync --model NAME`: a released network in place of our model, from its file on the net to the answer."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from flash_networks import FPS, RATE, FlashFormer, FlashNet, FlashSync, flashes
from released_names import with_released_names
from torch import nn
from typer.testing import CliRunner

from avlearn.apply import released_systems as systems
from avlearn.apply.run_many import InferenceOptions, run_many
from avlearn.apply.sync.by_system import SyncSystem, sync_by_system
from avlearn.apply.sync.tool import sync_tool
from avlearn.apply.tools import SYNC
from avlearn.cli import app
from avlearn.errors import AvlearnError, ModelError
from avlearn.media import write_video
from avlearn.models.folder import load
from avlearn.models.released import synchformer
from avlearn.models.released.synchformer import Synchformer
from avlearn.models.released.syncnet import SyncNet
from avlearn.models.weights.systems import released_systems

CPU = torch.device("cpu")


def by(network: nn.Module, path, **options):
    return sync_by_system(path, SyncSystem(network, "Stand-in", CPU, None), **options)


class Unsure(FlashFormer):
    """As likely as that: the true offset, and another."""

    def compare(self, seen, heard):
        found = super().compare(seen, heard)
        return torch.zeros_like(found).scatter(1, found.argmax(1, keepdim=True), 2.0)


@pytest.mark.parametrize(("lead", "status"), [(0.4, "out of sync"), (0.0, "in sync")])
def test_the_result_is_that_of_our_model(tmp_path, lead, status):
    found = by(FlashFormer(), flashes(tmp_path / "a.mp4", 8.0, lead))
    assert (found.status, found.offset, found.best, found.drift, found.steps) == (status, lead, lead, None, [])
    assert found.confidence == pytest.approx(1.0, abs=1e-3) and not found.calibrated
    assert found.tolerance == 0.1, "half of what lies between its offsets"
    assert [round(window["offset"], 4) for window in found.windows] == [lead] * 3
    assert [window["start"] for window in found.windows] == [0, 2.24, 3.2]
    told = json.loads(json.dumps(found.to_dict()))
    assert told["schema"] == "avlearn.sync/2" and told["system"] == "Stand-in"
    assert set(told) >= {"path", "status", "offset", "confidence", "calibrated", "verdict", "windows", "offsets"}
    assert len(told["offsets"]) == len(told["scores"]) == 21
    said = found.text()
    assert ("audio leads by 400 ms" if lead else "in sync (+0 ms, within 100 ms)") in said
    assert "(confidence 1.00, not calibrated)" in said
    assert "note: by Stand-in, whose offsets are 200 ms apart: probability 1.00, DeSync" in said


def test_it_names_no_offset_where_it_is_not_sure(tmp_path):
    path = flashes(tmp_path / "a.mp4", 8.0, 0.4)
    unsure = by(Unsure(), path)
    assert (unsure.status, unsure.offset, unsure.best) == ("undecidable", None, 0.4)
    assert "cannot be synchronized (no offset stands out, confidence 0.27)" in unsure.text()
    outermost = by(FlashFormer(), flashes(tmp_path / "b.mp4", 8.0, 2.0))
    assert (outermost.offset, outermost.reason) == (None, "the best offset is the outermost that it knows, 2.0 s")
    assert by(FlashSync(), flashes(tmp_path / "c.mp4", 7.6, 0.0)).status == "in sync"
    lips = by(FlashNet(), path)
    assert lips.offset is None and lips.reason.startswith("lips and voice hardly agree at any offset, LSE-C ")
    assert lips.confidence > 0.9 and "LSE-C" in lips.text()


def test_stills_silence_and_short_files_have_no_offset(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 8 * RATE)).astype(np.float32)
    write_video(tmp_path / "still.mp4", np.full((200, 96, 96, 3), 90, np.uint8), FPS, audio=noise, sample_rate=RATE)
    write_video(tmp_path / "mute.mp4", np.full((200, 96, 96, 3), 90, np.uint8), FPS, audio=0 * noise, sample_rate=RATE)

    class Sure(FlashFormer):
        def compare(self, seen, heard):
            return 50 * torch.eye(21)[[10]]

    assert by(Sure(), tmp_path / "still.mp4").reason == "the video does not move"
    assert by(Sure(), tmp_path / "mute.mp4").reason == "the audio track is silent"
    short = by(Sure(), flashes(tmp_path / "short.mp4", 2.0))
    assert (short.status, short.reason) == ("undecidable", "it takes at least 4.8 s of video and audio together")
    assert short.windows == [] and len(short.offsets) == 0


def test_a_fix_is_measured_by_the_same_network(tmp_path):
    system = SyncSystem(FlashFormer(), "Stand-in", CPU, None)
    path = flashes(tmp_path / "a.mp4", 8.0, 0.4)
    found = sync_tool(path, system, fix=tmp_path / "b.mp4", curve=tmp_path / "c.png")
    assert found.fixed.was == 0.4 and found.fixed.now == 0.0
    assert (tmp_path / "c.png").is_file()
    assert sync_tool(tmp_path / "b.mp4", system).status == "in sync"
    with pytest.raises(AvlearnError, match="--max-offset goes with a model folder: Stand-in knows its own"):
        sync_tool(path, system, max_offset=3.0)


def test_a_face_is_where_the_crop_is(tmp_path):
    net = FlashNet()
    path = flashes(tmp_path / "a.mp4", 4.0, side=128)
    sync_tool(path, SyncSystem(net, "Stand-in", CPU, None), crop=(10, 20, 64, 64))
    assert net.seen[0].shape[-1] == 224
    with_beyond = sync_tool(path, SyncSystem(net, "Stand-in", CPU, None), crop=(100, 0, 64, 64))
    assert with_beyond.reason == "the crop reaches beyond the frame, 128x128"


@pytest.fixture
def synchformer_file(monkeypatch, tmp_path):
    """A file of a small one, by the names of the published one."""
    small = partial(Synchformer, dim=48, depth=1, heads=4, fusion_depth=1, fusion_heads=4)
    monkeypatch.setattr(synchformer, "Synchformer", small)
    path = tmp_path / "synchformer_state_dict.pth"
    torch.save(with_released_names(small().state_dict(), "synchformer", synchformer._names), path)
    return path


def test_from_the_name_to_the_answer(synchformer_file, published, server, tmp_path, capsys):
    system = published("synchformer", synchformer_file.read_bytes())
    path = flashes(tmp_path / "a.mp4", 5.2, side=96)
    options = InferenceOptions("synchformer")
    ((_, found),) = run_many(SYNC, [path], options, options={"tolerance": 0.04})
    assert found.system == "Synchformer" and found.status == "undecidable"
    assert found.reason.startswith("no offset stands out, confidence 0.")
    assert (system.folder / "synchformer_state_dict.pth").is_file()
    assert server.asked == ["/synchformer/synchformer_state_dict.pth"]
    assert "fetching synchformer_state_dict.pth of Synchformer, about 950 MB" in capsys.readouterr().err
    again = systems.sync_model("synchformer")
    assert again.device == CPU and again.precision is None and len(server.asked) == 1
    assert systems.sync_model("synchformer", precision="bf16").precision == torch.bfloat16
    (system.folder / "synchformer_state_dict.pth").write_bytes(b"broken")
    with pytest.raises(ModelError, match="is not the file that was published"):
        systems.sync_model("synchformer")


def test_a_system_is_for_its_own_command(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="Synchformer is for avlearn sync, not for localize"):
        systems.localize_model("synchformer")
    with pytest.raises(ModelError, match="Synchformer is for avlearn sync alone: this takes a model folder"):
        load("synchformer")
    with pytest.raises(ModelError, match=r"no model 'synchforma': .*; the nearest released system is 'synchformer'"):
        systems.sync_model("synchforma")
    with pytest.raises(ModelError, match=r"nor one of: default$"):
        systems.sync_model("nosuchfolder/")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synchformer").mkdir()
    with pytest.raises(ModelError, match="alone"):
        systems.sync_model("synchformer")


def test_the_command_takes_a_file_that_was_put_there_by_hand(server, tmp_path):
    system = released_systems()["syncnet"]
    system.folder.mkdir(parents=True)
    tensors = {name.partition(".")[2]: tensor for name, tensor in SyncNet().state_dict().items()}
    torch.save(tensors, system.folder / "syncnet_v2.model")
    path = flashes(tmp_path / "a.mp4", 1.5, side=128)
    words = ["sync", str(path), "--model", "syncnet", "--crop", "0,0,96,96", "--device", "cpu", "--json", "-"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3, done.output
    found = json.loads(done.stdout)
    assert (found["schema"], found["status"], found["system"]) == ("avlearn.sync/2", "undecidable", "SyncNet v2")
    assert found["calibrated"] is False and len(found["offsets"]) == 31
    assert json.loads((system.folder / "syncnet_v2.model.json").read_text())["bytes"] > 50e6
    assert server.asked == []
