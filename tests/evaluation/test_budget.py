"""A preview is learned by the command, and spares looking where the moment is heard."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from avlearn.apply.learn_preview import divergence
from avlearn.apply.preview import preview_file, read_glances, recognize_at, window_cost
from avlearn.apply.recognize import recognize_windows
from avlearn.cli.app import app
from avlearn.config import RecognizerConfig
from avlearn.data.manifest import read_manifest, write_manifest
from avlearn.data.scan import scan_folder
from avlearn.errors import AvlearnError, DataError, ModelError
from avlearn.evaluation.preview import preview_from
from avlearn.media import write_video
from avlearn.models.cost import multiply_adds
from avlearn.models.preview import load_preview
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import load_recognizer, save_recognizer

CLASSES = ("high", "low")
RATE, FPS, SECONDS, WINDOWS = 16000, 12.5, 0.96, 8


def a_file(path, label: int, at: int) -> None:
    """Eight windows of noise, in one of which, quieter than the rest, a frame is red or blue and a tone is heard."""
    rng = np.random.default_rng(10 * at + label)
    frames = rng.integers(90, 160, (WINDOWS * 12, 1, 1, 3)).repeat(32, 1).repeat(32, 2).astype(np.uint8)
    audio = 0.2 * rng.standard_normal(round(WINDOWS * SECONDS * RATE))
    first, last = round(at * SECONDS * RATE), round((at + 1) * SECONDS * RATE)
    audio[first:last] = 0.05 * np.sin(2 * np.pi * (2500, 400)[label] * np.arange(last - first) / RATE)
    frames[at * 12 : at * 12 + 12, ..., 2 * label] = 250
    write_video(path, frames, FPS, audio=audio[None].astype(np.float32), sample_rate=RATE, crf=18)


def network(**changes) -> Recognizer:
    torch.manual_seed(0)
    said = {"labels": CLASSES, "inputs": "both", "size": 32, "fps": FPS, "seconds": SECONDS}
    return Recognizer(RecognizerConfig(**{**said, **changes})).eval()


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A manifest of files to learn from and to test on, and a recognizer that knows a moment when it sees one."""
    folder = tmp_path_factory.mktemp("films")
    for split, count in (("train", 24), ("val", 8)):
        for number in range(count):
            label = number % 2
            path = folder / "clips" / split / CLASSES[label] / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            a_file(path, label, (number // 2 + (split == "val")) % WINDOWS)
    rows = scan_folder(folder / "clips")
    write_manifest(rows, folder / "films.parquet")
    model = network()
    learn(model, rows)
    save_recognizer(model, folder / "model", "# of colours\n")
    return folder


def learn(model: Recognizer, rows) -> None:
    """Fit the recognizer's classifier on its own features, by the moments alone: what is around says nothing."""
    values, labels = [], []
    with torch.inference_mode():
        for row in rows:
            for window in recognize_windows(row.path, model):
                seen = window.frames.reshape(-1, 3).mean(0)
                moment = max(seen[0], seen[2]) > 200
                parts = [window.features[kind].flatten(2).mean(2)[0] for kind in ("video", "audio")]
                values.append(torch.cat(parts).numpy())
                labels.append(int(seen[2] > 200) if moment else 2)
    kept = np.array(labels)
    some = kept < 2
    fitted = LogisticRegression(C=100.0, max_iter=2000).fit(np.array(values)[some], kept[some])
    weight = torch.from_numpy(np.concatenate([-fitted.coef_, fitted.coef_])).float() / 2
    bias = torch.from_numpy(np.concatenate([-fitted.intercept_, fitted.intercept_])).float() / 2
    model.classifier.weight.data, model.classifier.bias.data = weight, bias


def avlearn(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, AvlearnError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def taught(films):
    with pytest.raises(ModelError, match="has no preview: avlearn preview learns one"):
        load_preview(load_recognizer(films / "model"))
    found = preview_from(
        load_recognizer(films / "model"), [films / "films.parquet"], image="dsconv_tiny", audio="conv2d_tiny",
        epochs=15, hidden=64, key=32,
    )  # fmt: skip
    return films, found


def test_it_learns_what_the_model_says(taught):
    _, found = taught
    assert (found.learned.windows, found.learned.files, found.learned.held_out) == (176, 22, 2)
    assert found.learned.loss < found.learned.loss_before and found.learned.agreement > found.learned.usual
    assert found.preview_gmacs < found.recognizer_gmacs and found.skipped == []


def test_the_command_writes_it_into_the_models_folder(films, tmp_path):
    rows = [replace(row, split="") for row in read_manifest(films / "films.parquet")[:11]]
    rows[0] = replace(rows[0], start=0.5)
    write_manifest(rows, tmp_path / "few.parquet")
    model = shutil.copytree(films / "model", tmp_path / "model", ignore=shutil.ignore_patterns("preview"))
    words = ("preview", "--model", model, "--data", tmp_path / "few.parquet", "--epochs", 1, "--device", "cpu")
    assert "learned from 72 windows of 9 files" in avlearn(*words, "--json", tmp_path / "it.json")
    found = json.loads((tmp_path / "it.json").read_text())
    assert found["schema"] == "avlearn.preview/1" and found["path"] == str(model / "preview")
    assert [each["reason"] for each in found["skipped"]] == ["it is a stretch of a file"]
    assert load_preview(load_recognizer(model)).config.hidden == 1024


def test_windows_that_are_picked_tell_more_than_others(taught):
    folder, _ = taught
    said = json.loads(
        avlearn(
            "evaluate", "--model", folder / "model", "--data", folder / "films.parquet", "--budget", 2, "--json", "-"
        )
    )
    assert said["schema"] == "avlearn.recognition_budget/1" and said["budget"] == 2
    found = {figure["name"].removeprefix("top-1, "): figure["value"] for figure in said["figures"]}
    assert list(found) == ["all windows", "picked by preview", "uniform", "loudest", "random", "preview alone"]
    assert found["picked by preview"] > max(found["uniform"], found["random"], found["loudest"]), found
    cost = said["cost"]
    assert (cost["windows"], cost["of"]) == (16, 64) and (cost["frames"], cost["of_frames"]) == (16 * 12 + 64, 64 * 12)
    assert cost["gmacs"] < 0.8 * cost["of_gmacs"]


def test_a_file_is_named_by_few_windows(taught):
    folder, _ = taught
    path = next((folder / "clips/val/low").glob("*.mp4"))
    words = ("classify", path, "--model", folder / "model", "--device", "cpu")
    found = json.loads(avlearn(*words, "--budget", 2, "--json", "-"))
    assert len(found["windows"]) == 2 and (found["cost"]["windows"], found["cost"]["of"]) == (2, WINDOWS)
    assert "looked at 2 of 8 windows: 32 of 96 frames" in avlearn(*words, "--budget", 2)
    whole = json.loads(avlearn(*words, "--json", "-"))
    assert whole["cost"] is None and len(whole["windows"]) == WINDOWS
    of_all = {window["start"]: window for window in whole["windows"]}
    for window in found["windows"]:
        assert window["label"] == of_all[window["start"]]["label"]
        assert window["probability"] == pytest.approx(of_all[window["start"]]["probability"], abs=2e-3)


def test_windows_are_those_of_the_whole_file(films):
    model, path = load_recognizer(films / "model"), next((films / "clips/val/low").glob("*.mp4"))
    parts = list(read_glances(path, model))
    starts = np.concatenate([part.starts for part in parts])
    whole = list(recognize_windows(path, model))
    np.testing.assert_allclose(starts, [window.start for window in whole], atol=1e-6)
    np.testing.assert_array_equal(parts[0].frames, np.stack([window.frames[6] for window in whole]))
    again = list(recognize_at(path, model, starts[::-1].copy()))
    for one, other in zip(whole, again, strict=True):
        torch.testing.assert_close(one.probabilities, other.probabilities, rtol=1e-3, atol=1e-3)


def test_costs_are_those_of_a_file(taught):
    folder, _ = taught
    model = load_recognizer(folder / "model")
    preview, path = load_preview(model), next((folder / "clips/val/low").glob("*.mp4"))
    counted = multiply_adds(lambda: preview.pick(preview_file(path, model, preview).sides, 3))
    counted += multiply_adds(lambda: list(recognize_at(path, model, np.arange(3) * SECONDS)))
    assert window_cost(model, preview).of(WINDOWS, 3).gmacs == pytest.approx(counted, rel=0.01)
    assert window_cost(model, preview).of(WINDOWS, 99).windows == WINDOWS


def test_it_is_taught_one_label_or_several():
    scores, said = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.9, 0.1]])
    of_each = -(said * scores.sigmoid().log() + (1 - said) * (-scores).sigmoid().log()).mean()
    torch.testing.assert_close(divergence(scores, said, True), of_each)
    assert float(divergence(said.log(), said, False)) == pytest.approx(0, abs=1e-6)
    assert float(divergence(scores, said, False)) > 0


def test_what_cannot_be_is_said(films, taught, tmp_path):
    rows = read_manifest(films / "films.parquet")
    few = [replace(row, split="") for row in rows[:4]]
    few[0] = replace(few[0], start=0.5)
    write_manifest(few, tmp_path / "few.parquet")
    with pytest.raises(DataError, match="3 files can be learned from: a preview takes 10 at least"):
        avlearn("preview", "--model", films / "model", "--data", tmp_path / "few.parquet")
    save_recognizer(network(inputs="audio"), tmp_path / "hears", "# untrained\n")
    with pytest.raises(ModelError, match="this model only listens"):
        avlearn("preview", "--model", tmp_path / "hears", "--data", tmp_path / "few.parquet")
    with pytest.raises(AvlearnError, match="is no recognizer: avlearn finetune trains one"):
        avlearn("preview", "--model", tmp_path, "--data", tmp_path / "few.parquet")
    with pytest.raises(AvlearnError, match="--budget: takes one --model"):
        words = ("--data", tmp_path / "few.parquet", "--budget", 2, "--views", "1x1")
        avlearn("evaluate", "--model", films / "model", *words)
    with pytest.raises(ModelError, match="a budget of windows is for recognizers"):
        avlearn("classify", rows[0].path, "--model", "default", "--budget", 2)
    with pytest.raises(AvlearnError, match="--budget: not with -o"):
        avlearn("classify", rows[0].path, "--model", films / "model", "--budget", 2, "-o", tmp_path / "drawn.mp4")
