"""What towers start from: released weights, with all that they need besides in the recipe."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from avlearn.data.clips import WindowRule
from avlearn.data.manifest import Row
from avlearn.errors import DataError, ModelError, RecipeError
from avlearn.models import create_model, registry
from avlearn.models.audio.ast import AST
from avlearn.models.folder import load, save
from avlearn.models.weights.checkpoint import write_tensors
from avlearn.models.weights.importers.huggingface import AUDIOSET
from avlearn.models.weights.source import FORMAT
from avlearn.recipe import Recipe
from avlearn.tasks import build, load_recipe
from avlearn.tasks.clips import usable_clips
from avlearn.tasks.synchronize.build import build_model

X3D = {"model.video": "x3d_xs", "model.resample": "true"}
NEEDED = {
    "model.video_options.shortcut_norm": "false",
    "model.video_mean": "[0.1,0.2,0.3]",
    "model.video_std": "[0.25,0.25,0.00390625]",
}


def encoder_folder(folder: Path, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> Path:
    """As ``avlearn weights import`` writes it."""
    folder.mkdir()
    write_tensors(model.state_dict(), folder / "model.safetensors")
    config = {"format": FORMAT, **model.config, "mean": mean, "std": std, "preprocessing": None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def x3d(tmp_path) -> Path:
    """A network that differs from what its builder builds by default, in its options and its preprocessing."""
    model = create_model("x3d_xs", shortcut_norm=False)
    return encoder_folder(tmp_path / "x3d", model, (0.1, 0.2, 0.3), (0.25, 0.25, 1 / 256))


def of(world: Path, *more: str, **values: str) -> Recipe:
    words = [f"data.train={world}", "clip.size=32", "trainer.batch_size=2", *more]
    return load_recipe("sync_world", [*words, *(f"{key}={value}" for key, value in values.items())])


def test_a_file_gives_a_tower_its_weights(tmp_path, small_world, capsys):
    theirs = create_model("conv2d_tiny")
    nn.init.normal_(next(theirs.parameters()))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "audio.pth")
    model = build(of(small_world, f"model.audio_weights={tmp_path}/audio.pth")).module.model
    found = model.audio.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in theirs.state_dict().items())
    assert f"model.audio_weights: {len(found)} tensors by the names of avlearn" in capsys.readouterr().err
    with pytest.raises(RecipeError, match=r"^model\.video_weights: there is no weight file none\.pth"):
        build(of(small_world, "model.video_weights=none.pth"))
    with pytest.raises(RecipeError, match=r"^model\.video_weights: audio\.pth: .* parameters are missing"):
        build(of(small_world, f"model.video_weights={tmp_path}/audio.pth"))


def test_the_recipe_must_have_what_weights_need_besides(x3d, small_world):
    words = {"model.video_weights": str(x3d)} | X3D
    with pytest.raises(RecipeError) as caught:
        build(of(small_world, **words))
    said = " ".join(f"{key}={value}" for key, value in NEEDED.items())
    assert str(caught.value) == f"model.video_weights: the recipe must have what {x3d} needs besides: {said}"
    build(of(small_world, *said.split(), **words))


def test_weights_are_needed_once(tmp_path, x3d, small_world):
    recipe = of(small_world, **X3D, **NEEDED, **{"model.video_weights": str(x3d)})
    begun = build(recipe).module
    model = begun.model.eval()
    video, audio = torch.rand(1, 3, 8, 32, 32), torch.randn(1, 16000)
    theirs = create_model("x3d_xs", weights=x3d).eval()
    with torch.no_grad():
        seen = model.video_features(video)
        assert torch.equal(seen, theirs.forward_features(video))
    save(model, tmp_path / "model", "# from a folder\n")
    shutil.rmtree(x3d)
    with torch.no_grad():
        for ours, expected in zip(load(tmp_path / "model")(video, audio), model(video, audio), strict=True):
            assert torch.equal(ours, expected)
    with pytest.raises(RecipeError, match=r"^model\.video_weights: there is no weight file"):
        build(recipe)
    resumed = build(recipe, resumed=True).module
    resumed.load_state_dict(begun.state_dict())
    with torch.no_grad():
        assert torch.equal(resumed.model.eval().video_features(video), seen)


def test_what_a_run_resumes_from_may_be_gone_as_well(small_world, tmp_path):
    recipe = of(small_world, f"model.base={tmp_path}/gone")
    build(recipe, resumed=True)
    with pytest.raises(ModelError, match="no model"):
        build(recipe)


def test_a_base_sees_the_same_frames(tmp_path, small_world):
    save(build(of(small_world)).module.model, tmp_path / "base", "# base\n")
    words = ["model.video_mean=[0.5,0.5,0.5]", "model.video_std=[0.5,0.5,0.5]", f"model.base={tmp_path}/base"]
    with pytest.raises(
        RecipeError, match=r"model\.video_mean: the recipe has \(0\.5, 0\.5, 0\.5\), and .*/base has None"
    ):
        build(of(small_world, *words))


def test_audio_is_standardised_once(tmp_path, small_world, monkeypatch):
    """By the front end, where weights of AST would bring the statistics of AudioSet along."""
    spec, _ = registry.find_encoder("ast_b")
    monkeypatch.setitem(registry._builders, "ast_b", (spec, lambda: AST(48, 1, 2, bins=64)))
    folder = encoder_folder(tmp_path / "ast", create_model("ast_b"), *AUDIOSET)
    words = {"model.audio": "ast_b", "model.resample": "true", "model.audio_weights": str(folder)}
    said = "model.spectrogram.mean=-4.267739 model.spectrogram.std=9.137995"
    with pytest.raises(RecipeError, match=said.replace(".", r"\.") + "$"):
        build(of(small_world, **words))
    model = build(of(small_world, *said.split(), **words)).module.model.eval()
    audio = torch.randn(1, 16000) / 10
    theirs = create_model("ast_b", weights=folder).eval()
    with torch.no_grad():
        log_mel = model.spectrogram(audio) * 9.137995 - 4.267739
        expected = theirs.forward_features(log_mel)
        torch.testing.assert_close(model.audio.forward_features(model.spectrogram(audio)), expected)


@pytest.mark.parametrize(
    ("words", "length"),
    [
        ([], 512),
        (["clip.sample_rate=21000"], 1024),
        (["clip.sample_rate=48000"], 2048),
        (["clip.sample_rate=48000", "model.spectrogram.n_fft=4096"], 4096),
        (["model.spectrogram.window=0.04"], 1024),
    ],
)
def test_a_transform_that_is_left_open_holds_the_window(words, length):
    model = build_model(load_recipe("sync_world", words), "nothing")
    assert model.config.spectrogram.n_fft == length
    audio = torch.rand(1, model.config.sample_rate)
    assert model.spectrogram(audio).shape[-1] == model.spectrogram.frames(audio.shape[1])


def test_a_window_longer_than_the_transform_is_refused():
    for words in (
        ["clip.sample_rate=21000", "model.spectrogram.n_fft=512"],
        ["model.spectrogram.window=0.9", "clip.sample_rate=48000"],
    ):
        with pytest.raises(ModelError, match=r"^model\.spectrogram: a window of \d+ samples does not go with n_fft"):
            build_model(load_recipe("sync_world", words), "nothing")


def test_options_of_builders_without_annotations_are_held_to_bounds(monkeypatch):
    spec, _ = registry.find_encoder("dsconv_tiny")
    monkeypatch.setitem(registry._builders, "dsconv_tiny", (spec, lambda width=8: nn.Linear(width, 1)))
    assert create_model("dsconv_tiny", width=16).in_features == 16
    with pytest.raises(ModelError, match="option 'width' is out of all bounds"):
        create_model("dsconv_tiny", width=10**9)


def test_a_separator_stands_on_towers_that_stay_as_they_are(untrained, small_world, tmp_path):
    words = [f"separator.base={untrained}", f"data.root={tmp_path}"]
    words += [f"data.train={small_world}", f"data.val={small_world}"]
    model = build(load_recipe("separate_world", words)).module.model
    after = model.state_dict()
    towers = {k: v for k, v in load(untrained).state_dict().items() if not k.startswith(("separator.", "classifiers."))}
    assert all(torch.equal(value, after[name]) for name, value in towers.items())


def test_clips_that_are_too_short_are_told_with_what_would_do():
    rule = WindowRule(25.0, 32, 16000, 3.0, 0.5, 0.04)
    rows = [Row(Path("a.mp4"), duration=1.0), Row(Path("b.mp4"), duration=2.5)]
    said = (
        r"no validation clip lasts 4 s \(clip\.seconds \+ 2 clip\.context\), the longest 2\.50 s: lower clip\.seconds"
    )
    with pytest.raises(DataError, match=said):
        usable_clips(rows, "validation", (), rule)
    with pytest.raises(DataError, match="none of 1 training clips can be used"):
        usable_clips([Row(Path("c.mp4"), duration=9.0, flags=("silent",))], "training", ("silent",), rule)
