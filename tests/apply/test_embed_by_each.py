"""Features by several models in one pass: those of each alone, in a folder for each; a file is decoded once."""

import json

import numpy as np
import pytest
from encoder_folders import x3d_folder
from typer.testing import CliRunner

from avlearn.apply import side_by_side
from avlearn.apply.embed import embed_file
from avlearn.apply.embed_by_each import features_by_each
from avlearn.apply.encoder_alone import load_embedder
from avlearn.apply.features_by_model import folder_name, folders_within
from avlearn.apply.run_many import Failure
from avlearn.cli.app import app
from avlearn.errors import AvlearnError, MediaError, OutputError
from avlearn.evaluation.clip_features import read_features
from avlearn.media import decode_video, write_wav


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The folder of a video encoder, which sees no audio, on a clock of its own."""
    return x3d_folder(tmp_path_factory.mktemp("models") / "x3d")


@pytest.fixture(scope="module")
def clip(small_world):
    return sorted((small_world / "clips").glob("*.mp4"))[0]


@pytest.fixture
def passes(monkeypatch):
    """How often a video was decoded."""
    counted, decode = [], decode_video.presented
    monkeypatch.setattr(decode_video, "presented", lambda *args: [counted.append(1), decode(*args)][1])
    return counted


@pytest.fixture
def sound(tmp_path):
    """A file without video."""
    path = tmp_path / "sound.wav"
    write_wav(path, 0.1 * np.random.default_rng(0).normal(size=(1, 32_000)).astype(np.float32), 16_000)
    return path


def assert_those_of_each_alone(found, path, models):
    for one, model in zip(found, models, strict=True):
        for ours, theirs in zip((one.starts, one.video, one.audio), embed_file(path, model), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_each_gives_what_it_gives_alone_and_the_file_is_decoded_once(clip, untrained, encoder, passes, monkeypatch):
    models = [load_embedder(untrained), load_embedder(encoder)]
    found = features_by_each(clip, *models)
    assert len(passes) == 1 and len(found[0].starts) != len(found[1].starts)
    assert_those_of_each_alone(found, clip, models)
    assert_those_of_each_alone(features_by_each(clip, *models, wanted=[1]), clip, models[1:])
    monkeypatch.setattr(side_by_side, "_MOST", 0)
    passes.clear()
    found = features_by_each(clip, *models)
    assert len(passes) == 2
    assert_those_of_each_alone(found, clip, models)


def test_what_one_model_cannot_take_another_may(sound, untrained, encoder):
    models = [load_embedder(encoder), load_embedder(untrained)]
    lacking, found = features_by_each(sound, *models)
    assert isinstance(lacking, Failure) and (lacking.path, lacking.reason) == (str(sound), "has no video")
    assert_those_of_each_alone([found], sound, models[1:])
    sound.write_bytes(b"nothing")
    with pytest.raises(MediaError):
        features_by_each(sound, *models)


def embed(*words, code: int = 0):
    done = CliRunner().invoke(app, ["embed", *map(str, words), "--workers", "1"])
    assert done.exit_code == code, done.output
    return done


def test_the_command_writes_a_folder_a_model_and_goes_on_in_each(small_world, encoder, sound, tmp_path):
    clips, out = sorted((small_world / "clips").glob("*.mp4"))[:3], tmp_path / "f"
    by_both = ["--model", "default", "--model", encoder, "-o", out]
    embed(clips[0], "--model", encoder, "-o", out / "x3d")
    done = embed(*clips, sound, *by_both, code=2)
    assert f"{sound}: error by x3d: has no video" in done.stdout and "1 of 4 files could not be read" in done.stdout
    assert f"1 of 4 files are in {out / 'x3d'} already" in done.stderr and "default already" not in done.stderr
    assert [len(set(read_features(out / name)[0])) for name in ("default", "x3d")] == [4, 3]
    again = embed(*clips, *by_both, "--json", tmp_path / "r.json")
    assert "3 of 3 files are in" in again.stderr and len(list((out / "default").glob("*.parquet"))) == 1
    told = json.loads((tmp_path / "r.json").read_text())
    assert [(one["schema"], one["out"], one["files"]) for one in told] == [
        ("avlearn.embed/1", str(out / "default"), 4), ("avlearn.embed/1", str(out / "x3d"), 3),
    ]  # fmt: skip
    embed(*clips, "--model", encoder, "-o", tmp_path / "alone")
    ours, theirs = (dict(zip(*read_features(one)[:2], strict=True)) for one in (out / "x3d", tmp_path / "alone"))
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[path], theirs[path]) for path in ours)


def refused(*words) -> str:
    """What a command that cannot be done says."""
    done = CliRunner().invoke(app, ["embed", *map(str, words)])
    assert isinstance(done.exception, AvlearnError), done.output
    return str(done.exception)


def test_a_command_that_cannot_be_done_says_so_in_a_line(clip, encoder, tmp_path):
    both = ["--model", "default", "--model", encoder]
    told = refused(clip, *both, "-o", tmp_path / "f.npz")
    assert "features by several models go to a folder, one for each in it: -o features/" in told
    assert "is given twice" in refused(clip, "-m", "default", "-m", "default", "-o", tmp_path / "f")
    assert "no model 'nonesuch'" in refused(clip, "-m", "default", "-m", "nonesuch", "-o", tmp_path / "f")
    embed(clip, "-o", tmp_path / "one")
    assert "holds features by one model" in refused(clip, *both, "-o", tmp_path / "one")
    embed(clip, *both, "-o", tmp_path / "two")
    assert "holds other files" in refused(clip, "-o", tmp_path / "two")


def test_names_of_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/first/model", "other/first/model", ".hidden model"):
        (tmp_path / folder).mkdir(parents=True)
    names = {
        "default": "default", "vjepa2_1_b": "vjepa2_1_b", "r2plus1d_18/torchvision": "r2plus1d_18_torchvision",
        "runs/first": "first", "runs/first/model": "first", "runs/first/": "first", ".hidden model": "hidden_model",
        "https://host/models/a%20b/": "a_20b", "s3://bucket/runs/x/model": "x",
    }  # fmt: skip
    assert {model: folder_name(model) for model in names} == names
    monkeypatch.chdir(tmp_path / "runs" / "first" / "model")
    assert folder_name(".") == "first"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AvlearnError, match=r"first/model and --model runs/first would write to one folder, first"):
        folders_within(tmp_path / "f", ["runs/first", "other/first/model"])
    assert folders_within(tmp_path / "f", ["default", "runs/first"]) == [tmp_path / "f/default", tmp_path / "f/first"]
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        folders_within(tmp_path / "f", ["default", "runs/first"])
