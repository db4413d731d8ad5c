"""`separate --model NAME`: a released separator in place of our model, from its files on the net to the tracks."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from released_names import released_shapes
from safetensors.torch import save_file
from typer.testing import CliRunner

from avlearn.apply import released_systems as systems
from avlearn.apply.faces import FaceTrack
from avlearn.apply.separate import shown_faces
from avlearn.apply.separate.by_system import separate_by_system
from avlearn.apply.separate.shown_faces import ShownFaces
from avlearn.apply.source_choice import Face, When
from avlearn.cli import app
from avlearn.errors import AvlearnError, ModelError
from avlearn.media import write_video
from avlearn.models.released.localizers import prepare_image
from avlearn.models.released.separate_systems import (
    SeparatorSystem,
    VisualVoiceSystem,
    load_clip_images,
    open_clipsep,
)
from avlearn.models.released.separators import SoundOfPixels, load_clipsep
from avlearn.models.released.visualvoice import VisualVoice

FPS, RATE = 10, 44100
CPU = torch.device("cpu")


class Shares:
    """Gives each source as much of the audio as it is bright."""

    title, device, sample_rate, samples, looks = "Stand-in", CPU, 11025, 40000, (-1.0, 0.0, 1.0)
    faces = gaps = False

    def __init__(self) -> None:
        self.seen: list[list[tuple[int, ...]]] = []

    def separate_window(self, audio, seen):
        assert audio.shape[1] == self.samples
        self.seen.append([frames[0].shape for frames in seen])
        shares = torch.tensor([np.mean([frame.mean() for frame in frames]) / 255 for frames in seen])
        return shares.view(-1, 1, 1).float() * audio


def film(path, seconds: float, rate: int = RATE, channels: int = 2):
    """The left half is at 60 % of white, the right at 20 %; both channels have tones of their own."""
    frames = np.zeros((round(seconds * FPS), 48, 64, 3), np.uint8)
    frames[:, :, :32], frames[:, :, 32:] = 153, 51
    time = np.arange(round(seconds * rate)) / rate
    audio = 0.3 * np.sin(2 * np.pi * np.array([[440], [700]])[:channels] * time)
    write_video(path, frames, FPS, audio=audio.astype(np.float32), sample_rate=rate)
    return path


def waves(result):
    return [soundfile.read(track.audio, always_2d=True)[0].T for track in result.tracks]


@pytest.mark.parametrize("seconds", [1.0, 5.0, 11.3])
def test_tracks_add_up_to_the_input_at_its_rate_length_and_channels(tmp_path, seconds):
    path = film(tmp_path / "a.mkv", seconds)
    found = separate_by_system(path, Shares(), tmp_path / "out")
    assert [track.name for track in found.tracks] == ["source1", "source2", "residual"]
    assert (found.sample_rate, found.channels, found.calibrated) == (RATE, 2, False)
    one, two, rest = waves(found)
    whole = one + two + rest
    direct, _ = soundfile.read(run_wav(path, tmp_path), always_2d=True)
    assert whole.shape == direct.T.shape and abs(whole.shape[1] - seconds * RATE) < 3000
    np.testing.assert_allclose(whole, direct.T, atol=2e-6)
    inner = slice(2000, min(len(direct) - 2000, round(seconds * RATE) - 4000))
    np.testing.assert_allclose(one[:, inner], 0.6 * whole[:, inner], atol=0.01)
    np.testing.assert_allclose(two[:, inner], 0.2 * whole[:, inner], atol=0.01)
    assert found.tracks[0].place == (0.25, 0.5) and found.tracks[0].confidence is None
    assert found.tracks[0].share == pytest.approx(0.36, abs=0.03)
    assert all((tmp_path / "out" / name).is_file() for name in ("a_source1.mp4", "a_source2.mp4"))
    told = json.loads(json.dumps(found.to_dict()))
    assert (told["schema"], told["system"], told["verdict"]) == (
        "avlearn.separate/2", "Stand-in", "this model cannot tell",
    )  # fmt: skip
    assert "this model cannot tell which track is whose: Stand-in tells no probability" in found.text()
    assert "of what sounds below 5.5125 kHz" in found.text()


def run_wav(path, folder):
    """The file's audio as one track: the network is shown nothing."""

    class Nothing(Shares):
        def separate_window(self, audio, seen):
            return torch.zeros(len(seen), *audio.shape)

    found = separate_by_system(path, Nothing(), folder / "whole", sources=1)
    return found.residual.audio


def test_places_are_what_is_asked_for(tmp_path):
    path, system = film(tmp_path / "a.mp4", 2.0), Shares()
    found = separate_by_system(path, system, tmp_path / "out", choices=[(0.5, 0.0, 1.0, 1.0), (0.1, 0.5)])
    assert system.seen[0] == [(48, 32, 3), (20, 19, 3)]
    assert [track.place for track in found.sources] == [(0.75, 0.5), (0.15, 0.5)]
    assert "it was shown" not in found.text()
    with pytest.raises(AvlearnError, match="source 2: this system is shown places alone: give left, right"):
        separate_by_system(path, system, tmp_path / "out", choices=[2])
    for choice, said in ((Face(2), "face 2: this"), (When(((0.5, 1.0),)), "--when 0.5-1: this")):
        with pytest.raises(AvlearnError, match=said):
            separate_by_system(path, system, tmp_path / "out", choices=[choice])
    with pytest.raises(AvlearnError, match="--when 1-3: the file ends at 2"):
        separate_by_system(path, system, tmp_path / "out", choices=[When(((1.0, 3.0),))])
    with pytest.raises(AvlearnError, match="9 sources are too many"):
        separate_by_system(path, system, tmp_path / "out", choices=[(0.5, 0.5)] * 9)
    both = separate_by_system(path, system, tmp_path / "both", onscreen=True)
    assert [track.name for track in both.tracks] == ["onscreen", "offscreen"]
    assert both.tracks[0].share == pytest.approx(0.64, abs=0.05)


def test_silence_is_said(tmp_path):
    frames = np.full((20, 48, 64, 3), 90, np.uint8)
    write_video(tmp_path / "a.mp4", frames, FPS, audio=np.zeros((1, 32000), np.float32), sample_rate=16000)
    found = separate_by_system(tmp_path / "a.mp4", Shares(), tmp_path / "out")
    assert (found.verdict, found.reason) == ("silent", "the audio track is silent")


def test_masks_of_a_window_are_those_of_the_evaluator():
    """Of one source in mono, which shares nothing."""
    network = SoundOfPixels().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    frames = np.random.default_rng(0).integers(0, 255, (3, 60, 80, 3), np.uint8)
    system = SeparatorSystem(network, (-3.0, 0.0, 3.0), True, "SoP", CPU, None)
    audio = torch.randn(1, 65535) / 10
    image = prepare_image(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, "LVS")
    found = system.separate_window(audio, [list(frames)])
    torch.testing.assert_close(found[0], network.separate(audio, image[None, None])[0], rtol=1e-4, atol=1e-4)
    two = system.separate_window(torch.cat([audio, audio]), [list(frames), list(frames)])
    torch.testing.assert_close(two.sum(0)[0], found[0, 0], rtol=1e-3, atol=1e-3)
    coarse = SeparatorSystem(network, (-3.0, 0.0, 3.0), True, "SoP", CPU, torch.bfloat16)
    assert coarse.separate_window(audio, [list(frames)]).dtype == torch.float32


class Lips(Shares):
    """Gives each face as much of the audio as its mouth is bright, and tells what it was shown."""

    sample_rate, samples, looks, faces = 16000, 16000, tuple((n - 12) / 25 for n in range(25)), True

    def separate_window(self, audio, seen):
        assert all([frame.shape for frame in frames] == [(96, 96)] * 25 + [(210, 210, 3)] for frames in seen)
        self.seen.append([int(frames[0].mean()) for frames in seen])
        return torch.tensor([np.mean(frames[:-1]) / 255 for frames in seen]).view(-1, 1, 1).float() * audio


def faces_of(*tracks: tuple[int, float, float, int]):
    """Stand-ins of tracks: person, start, seconds, and how bright the mouth is (and how dark the rest)."""

    def found(path, view, device=None):
        for person, start, seconds, light in tracks:
            crops = np.zeros((round(seconds * 25), 210, 210, 3), np.uint8)
            crops[:, 82:178, 57:153] = light
            box = np.tile(np.array([8, 8, 24, 24], np.float32) + [32 * (person - 1), 0] * 2, (len(crops), 1))
            yield FaceTrack(person, 1, start, box, np.zeros((len(crops), 5, 2), np.float32), crops)

    return found


def test_voices_are_those_of_faces(tmp_path, monkeypatch):
    monkeypatch.setattr(shown_faces, "face_tracks", faces_of((1, 0, 4, 102), (2, 2, 2, 51), (3, 1, 1, 255)))
    path, system = film(tmp_path / "a.mkv", 4.0), Lips()
    found = separate_by_system(path, system, tmp_path / "out")
    assert [(track.place, track.present) for track in found.sources] == [((0.25, 0.333), 1.0), ((0.75, 0.333), 0.5)]
    assert 'note: by the lips of face 1, 2 of 3, numbered as they appear: ask with --source "face N"' in found.text()
    one, two, rest = waves(found)
    whole, inner = one + two + rest, slice(RATE // 2, RATE)
    np.testing.assert_allclose(one[:, inner], 0.4 * whole[:, inner], atol=0.01)
    assert np.abs(two[:, inner]).max() < 1e-6, "the second is not there yet"
    late = slice(3 * RATE, round(3.4 * RATE))
    np.testing.assert_allclose(two[:, late], 0.2 * whole[:, late], atol=0.01)
    (third,) = separate_by_system(path, system, tmp_path / "third", choices=[3]).sources
    assert third.present == 0.25 and third.share > 0
    refused = {
        "face 4: only 3 faces were found": [Face(4)],
        'voices are asked for by face: --source "face 1"': [When(((0.5, 1.0),))],
        "no face is at 0.5,0.9: faces are at 0.25,0.333; 0.75,0.333; 1.25,0.333": [(0.5, 0.9)],
        "one face is asked for twice": [1, (0.0, 0.0, 0.5, 1.0)],
    }
    for said, choices in refused.items():
        with pytest.raises(AvlearnError, match=said):
            separate_by_system(path, system, tmp_path / "none", choices=choices)


def test_whoever_is_at_a_place_in_each_shot_has_a_voice(tmp_path, monkeypatch):
    """Of the two on the left, one after the other."""
    tracks = faces_of((1, 0, 2, 102), (2, 0, 4, 51), (1, 2, 2, 204))

    def found(path, view, device=None):
        for number, track in enumerate(tracks(path, view)):
            yield replace(track, person=3, shot=2) if number == 2 else track

    monkeypatch.setattr(shown_faces, "face_tracks", found)
    path = film(tmp_path / "a.mkv", 4.0)
    result = separate_by_system(path, Lips(), tmp_path / "out", choices=[(0.0, 0.0, 0.5, 1.0), (0.75, 0.3)])
    assert [(track.place, track.present) for track in result.sources] == [((0.25, 0.333), 1.0), ((0.75, 0.333), 1.0)]
    assert "by the lips of face 1 and 3, 2 of 3" in result.text()
    left, right, rest = waves(result)
    whole = left + right + rest
    for share, of, seconds in ((0.4, left, (0.5, 1.2)), (0.8, left, (2.8, 3.4)), (0.2, right, (0.5, 3.4))):
        part = slice(*(round(second * RATE) for second in seconds))
        np.testing.assert_allclose(of[:, part], share * whole[:, part], atol=0.01)


def test_gaps_of_a_face_are_told_to_who_asks_and_parts_of_two_shots_follow_each_other(tmp_path, monkeypatch):
    tracks = faces_of((1, 0, 0.4, 102), (2, 0.8, 0.4, 51))
    monkeypatch.setattr(
        shown_faces, "face_tracks", lambda path, view, device: (replace(t, person=1) for t in tracks(path, view))
    )
    shown = ShownFaces(film(tmp_path / "a.mkv", 4.0), 1, (), tmp_path)
    (face,) = shown.at([k / 25 for k in range(25)], gaps=True)
    told = [None if mouth is None else int(mouth[0, 0]) for mouth in face[:-1]]
    assert told == [102] * 10 + [None] * 10 + [51] * 5 and face[-1].shape == (210, 210, 3)
    assert shown.at([3.0, 3.04], gaps=True) == [[]] and shown.at([0.0, 3.0, 3.04]) == [[]]
    shown.close()


def test_without_a_face_all_is_left_over(tmp_path, monkeypatch):
    monkeypatch.setattr(shown_faces, "face_tracks", faces_of())
    found = separate_by_system(film(tmp_path / "a.mp4", 1.0), Lips(), tmp_path / "out")
    assert [track.name for track in found.tracks] == ["residual"] and found.residual.share == 1.0
    assert found.reason == "this model cannot tell which track is whose: no face was found"


@torch.no_grad()
def test_visualvoice_of_a_window_is_its_evaluators():
    torch.manual_seed(0)
    network = VisualVoice().eval()
    system = VisualVoiceSystem(network, "VisualVoice", CPU, None)
    audio = torch.randn(1, 40800) / 20
    rng = np.random.default_rng(0)
    seen = [[*rng.integers(0, 255, (64, 96, 96), np.uint8), rng.integers(0, 255, (224, 224, 3), np.uint8)]] * 2
    mouths = torch.from_numpy(np.stack(seen[0][:-1]))[None, None].expand(1, 2, -1, -1, -1) / 255
    face = torch.from_numpy(seen[0][-1]).permute(2, 0, 1)[None, None].expand(1, 2, -1, -1, -1) / 255
    expected = network.separate(audio, mouths, face)[0]
    found = system.separate_window(torch.cat([audio, audio]), seen)
    assert found.shape == (2, 2, 40800) and len(system.looks) == 64
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, 1], found[:, 0])
    coarse = VisualVoiceSystem(network, "VisualVoice", CPU, torch.bfloat16).separate_window(audio, seen)
    assert coarse.dtype == torch.float32 and 0 < (coarse[:, 0] - expected).abs().max() < 0.3 * expected.abs().max()


@torch.no_grad()
def test_clipsep_sees_through_clip(tmp_path):
    """Its image encoder is that of transformers, and its sources are the evaluator's of the mean embedding."""
    transformers = pytest.importorskip("transformers", reason="the reference is transformers' CLIP")
    config = transformers.CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, projection_dim=512, num_hidden_layers=12, num_attention_heads=12,
        patch_size=32,
    )  # fmt: skip
    theirs = transformers.CLIPVisionModelWithProjection(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.03)
    clip = load_clip_images(clip_names(theirs.state_dict()))
    images = torch.rand(1, 1, 3, 3, 224, 224)
    expected = theirs(((images - clip.mean) / clip.std)[0, 0]).image_embeds
    torch.testing.assert_close(clip(images)[0, 0], expected, rtol=1e-5, atol=1e-5)
    tensors = {name: torch.randn(shape) * 0.05 for name, shape in released_shapes("clipsep").items()}
    tensors |= {name: tensor.abs() for name, tensor in tensors.items() if name.endswith("running_var")}
    tensors |= {name: torch.zeros(()) for name in tensors if name.endswith("num_batches_tracked")}
    torch.save({"model": tensors}, tmp_path / "best_model.pt")
    save_file(
        {name: tensor.contiguous() for name, tensor in clip.network.state_dict().items()}, tmp_path / "c.safetensors"
    )
    system = open_clipsep(tmp_path / "best_model.pt", tmp_path / "c.safetensors", title="C", device=CPU, precision=None)
    audio, frames = torch.randn(1, 65535) / 10, np.random.default_rng(0).integers(0, 255, (3, 60, 80, 3), np.uint8)
    image = prepare_image(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, "LVS")
    expected = load_clipsep(tmp_path / "best_model.pt").separate(audio, clip(image).mean(0)[None, None])[0]
    torch.testing.assert_close(system.separate_window(audio, [list(frames)])[0], expected, rtol=1e-4, atol=1e-4)


def clip_names(tensors: dict) -> dict:
    """Of transformers to timm's."""
    found = {"head.weight": tensors["visual_projection.weight"], "head.bias": torch.zeros(512)}
    embeddings, layers = "vision_model.embeddings.", "vision_model.encoder.layers."
    found["cls_token"] = tensors[f"{embeddings}class_embedding"].view(1, 1, -1)
    found["pos_embed"] = tensors[f"{embeddings}position_embedding.weight"][None]
    found["patch_embed.proj.weight"] = tensors[f"{embeddings}patch_embedding.weight"]
    for part in ("weight", "bias"):
        for ours, name in (("norm_pre", "pre_layrnorm"), ("norm", "post_layernorm")):
            found[f"{ours}.{part}"] = tensors[f"vision_model.{name}.{part}"]
        for k in range(12):
            qkv = [tensors[f"{layers}{k}.self_attn.{letter}_proj.{part}"] for letter in "qkv"]
            found[f"blocks.{k}.attn.qkv.{part}"] = torch.cat(qkv)
            for ours, name in (
                ("attn.proj", "self_attn.out_proj"), ("norm1", "layer_norm1"), ("norm2", "layer_norm2"),
                ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2"),
            ):  # fmt: skip
                found[f"blocks.{k}.{ours}.{part}"] = tensors[f"{layers}{k}.{name}.{part}"]
    return found


def parts_of() -> list[bytes]:
    """Random weights in the three published files."""
    torch.manual_seed(0)
    files = []
    for file in ("sop_sound", "sop_frame", "sop_synthesizer"):
        data = io.BytesIO()
        shapes = released_shapes(file)
        torch.save(
            {name: torch.rand(shape) * 0.1 if shape else torch.zeros(()) for name, shape in shapes.items()}, data
        )
        files.append(data.getvalue())
    return files


def test_from_the_name_to_the_tracks(published, server, tmp_path):
    files = parts_of()
    system = published("sound_of_pixels", *files)
    path = film(tmp_path / "a.mp4", 2.0, 16000, 1)
    words = ["separate", str(path), "--model", "sound_of_pixels", "-o", str(tmp_path / "out"), "--json", "-"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == 3, done.output
    found = json.loads(done.stdout)
    assert found["system"] == "Sound of Pixels" and len(found["tracks"]) == 3
    total = sum(soundfile.read(track["audio"])[0] for track in found["tracks"])
    assert np.isfinite(total).all() and np.abs(total).max() > 0.2
    assert len(server.asked) == 3 and all((system.folder / file.name).is_file() for file in system.files)
    with pytest.raises(ModelError, match="Sound of Pixels is for avlearn separate, not for sync"):
        systems.sync_model("sound_of_pixels")
