"""`avlearn explain`: a page with pictures and films beside it, and a line for what cannot be shown."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from avlearn.apply.explain.file import seen_part
from avlearn.apply.explain.network import open_network
from avlearn.cli import app
from avlearn.config import RecognizerConfig
from avlearn.errors import AvlearnError
from avlearn.media import probe, read_clip, write_video, write_wav
from avlearn.models import create_model
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import save_recognizer
from avlearn.models.weights.checkpoint import write_tensors
from avlearn.models.weights.preprocessing import preprocessing_of
from avlearn.models.weights.source import FORMAT

LABELS = ("ball", "bell", "a/b: c")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of untrained recognizers of video, audio and both, and of an encoder with and one without classes."""
    root = tmp_path_factory.mktemp("explained")
    torch.manual_seed(0)
    for inputs in ("video", "audio", "both"):
        config = RecognizerConfig(inputs=inputs, labels=LABELS, size=32, seconds=1.0, fps=12.5)
        save_recognizer(Recognizer(config).eval(), root / inputs, "# untrained\n")
    for name, classes in (("x3d", 4), ("headless", None)):
        (root / name).mkdir()
        model = create_model("x3d_xs", num_classes=classes)
        write_tensors(model.state_dict(), root / name / "model.safetensors")
        seen = asdict(preprocessing_of("x3d_xs"))
        config = {"format": FORMAT, **model.config, "mean": [0.4] * 3, "std": [0.2] * 3, "preprocessing": seen}
        (root / name / "config.json").write_text(json.dumps(config))
    return root


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds of noise, seen and heard."""
    path, random = tmp_path_factory.mktemp("clips") / "noise.mp4", np.random.default_rng(0)
    frames = random.integers(0, 255, (25, 96, 96, 3), dtype=np.uint8)
    audio = 0.1 * random.standard_normal((1, 32000)).astype(np.float32)
    write_video(path, frames, 12.5, audio=audio, sample_rate=16000)
    return path


def run(*words: object):
    return CliRunner().invoke(app, ["explain", *map(str, words), "--device", "cpu"])


def test_a_file_is_explained_by_video_and_audio(models, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = tmp_path / "told.json"
    done = run(models / "both", clip, "--steps", 2, "--label", "bell", "--label", "a/b: c", "--json", told)
    assert done.exit_code == 0, done.output
    folder = tmp_path / f"{clip.stem}_explained"
    names = {path.name for path in folder.iterdir()}
    of_classes = {f"{part}_{name}" for part in ("class", "gradcam") for name in (
        "video_1_bell.mp4", "video_2_a_b_c.mp4", "audio_1_bell.png", "audio_2_a_b_c.png",
    )}  # fmt: skip
    assert names == of_classes | {"explained.html", "filters_video.mp4", "filters_audio.png"}
    page = (folder / "explained.html").read_text()
    for section in ("Where it looks", "What its classes would like", "First-layer filters"):
        assert f"<h2>{section}</h2>" in page
    found = json.loads(told.read_text())
    assert found["schema"] == "avlearn.explain/1"
    assert [one["label"] for one in found["maps"]] == ["bell", "bell", "a/b: c", "a/b: c"]
    assert {one["input"] for one in found["classes"]} == {"video", "audio"}
    seen = probe(folder / "gradcam_video_1_bell.mp4")
    assert seen.audio is not None and (seen.video.width, seen.video.height) == (96, 96)
    again = run(models / "both", clip, "--steps", 2)
    assert isinstance(again.exception, AvlearnError) and "--overwrite" in str(again.exception)


def test_the_map_lies_over_what_the_network_sees_and_nothing_beside_it(models, tmp_path):
    frames = np.full((13, 48, 96, 3), 128, np.uint8)
    frames[:, 12:30, 40:60] = (250, 20, 20)
    write_video(tmp_path / "wide.mp4", frames, 12.5, crf=0)
    done = run(models / "video", tmp_path / "wide.mp4", "--steps", 1, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    network = open_network(models / "video", "cpu")
    assert seen_part(network, 48, 96) == (0.25, 0.0, 0.75, 1.0)
    drawn = [read_clip(path, 0, 1, audio=False).video for path in sorted((tmp_path / "out").glob("gradcam_video_*"))]
    original = read_clip(tmp_path / "wide.mp4", 0, 1, audio=False).video
    change = np.abs(np.stack(drawn).astype(int) - original).max((0, 1, 4))
    assert change[:, 28:68].max() > 30 and change[:, :20].max() < 10 and change[:, 76:].max() < 10


def test_without_a_file_classes_and_filters_are_shown(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(models / "audio", "--steps", 1)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "audio_explained"
    assert len(list(folder.glob("class_audio_*.png"))) == len(LABELS)
    assert f"wrote {folder.name}/explained.html and 4 pictures and films beside it" in done.output


def test_an_encoder_alone_has_numbers_for_classes(models, tmp_path):
    video = tmp_path / "v.mp4"
    write_video(video, np.random.default_rng(0).integers(0, 255, (20, 64, 96, 3), dtype=np.uint8), 10)
    done = run(models / "x3d", video, "--steps", 1, "--label", "3", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "gradcam_video_3_3.mp4").exists() and "3: log odds" in done.output


def test_an_audio_encoder_alone_is_explained_by_what_it_hears(models, tmp_path):
    folder = models / "heard"
    folder.mkdir()
    model = create_model("conv2d_tiny", num_classes=3)
    write_tensors(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"format": FORMAT, **model.config}))
    write_wav(tmp_path / "s.wav", 0.1 * np.random.default_rng(0).standard_normal((1, 48000), np.float32), 16000)
    done = run(folder, tmp_path / "s.wav", "--steps", 1, "--label", "2", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"explained.html", "filters_audio.png", "class_audio_2_2.png", "gradcam_audio_2_2.png"}


def test_of_two_towers_filters_alone_are_shown(untrained, tmp_path):
    done = run(untrained, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "explained.html", "filters_video.mp4", "filters_audio.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["video", "--label", "bel"], "there is no class 'bel' in dsconv_tiny; the nearest are 'bell', 'ball'"),
        (["headless", "--label", "bell"], "x3d_xs has no classifier"),
        (["headless", "CLIP"], "x3d_xs names nothing in a file"),
        (["both", "MUTE"], "has no audio track, which dsconv_tiny and conv2d_tiny listens to"),
        (["video", "SOUND"], "has no video, which dsconv_tiny looks at"),
        (["nowhere"], "no model"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(models, clip, tmp_path, words, said):
    write_video(tmp_path / "mute.mp4", np.zeros((5, 32, 32, 3), np.uint8), 5)
    write_wav(tmp_path / "sound.wav", np.zeros((1, 16000), np.float32), 16000)
    files = {"CLIP": clip, "MUTE": tmp_path / "mute.mp4", "SOUND": tmp_path / "sound.wav"}
    given = [files.get(word, word) for word in words]
    done = run(models / given[0], *given[1:], "--steps", 1, "-o", tmp_path / "out")
    assert isinstance(done.exception, AvlearnError) and said in str(done.exception)
    assert not (tmp_path / "out").exists()
