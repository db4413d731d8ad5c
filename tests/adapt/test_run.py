"""An adaptation: who judges a file never learned from it, what was stopped goes on, the model says what it is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from avlearn.adapt import finish, folds, judge, run
from avlearn.adapt.footage import Stretch
from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.run_many import Failure, imported
from avlearn.apply.sync.by_model import sync_by_model
from avlearn.cli import app
from avlearn.data.manifest import Entry, read_manifest
from avlearn.errors import AvlearnError, DataError, OutputError
from avlearn.media import read_clip, write_video
from avlearn.models.calibration import Calibrations
from avlearn.models.folder import load
from avlearn.models.named import model_folder

pytestmark = pytest.mark.slow  # three trainings of a step each, and 16 judgments, for all of them
OFF = 0.06  # seconds by which the experts say that the first clip is off


def here(work, items, workers, limit=None):
    """The items, in this process."""
    yield from enumerate(map(work, items))


def many_here(tool, paths, inference, *, each=None, workers=None):
    """`run_many`, in this process."""
    for number, path in enumerate(paths):
        try:
            yield number, imported(tool.function)(path, **(each or [{}] * len(paths))[number])
        except AvlearnError as error:
            yield number, Failure(str(path), str(error))


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as made:
        made.setattr(run, "run_many", many_here)
        made.setattr("avlearn.data.scan.in_workers", here)
        made.setattr("avlearn.data.cache.in_processes", here)
        for module in (folds, run):
            made.setattr(module, "LEAST", 6)
        made.setattr(finish, "_FEWEST", 4)
        made.setattr("avlearn.apply.calibrate_clip._WINDOWS", 2)
        made.setattr("avlearn.tasks.synchronize.export._WINDOWS", 1)
        small = {"batch_size": 4, "threads": 1}

        def small_recipe(*args):
            whole = recipe(*args)
            return whole.model_copy(update={"trainer": whole.trainer.model_copy(update=small)})

        recipe = run.recipe
        made.setattr(run, "recipe", small_recipe)
        yield made


@pytest.fixture(scope="module")
def footage(small_world, tmp_path_factory) -> Path:
    """Eight clips of a world, and three files that teach nothing."""
    folder = tmp_path_factory.mktemp("footage")
    for clip in sorted((small_world / "clips").glob("*.mp4"))[:8]:
        shutil.copy(clip, folder)
    whole = read_clip(next(folder.glob("*.mp4")))
    write_video(folder / "mute.mp4", whole.video, whole.fps)
    still = np.repeat(whole.video[:1], len(whole.video), 0)
    write_video(folder / "still.mp4", still, whole.fps, audio=whole.audio, sample_rate=whole.sample_rate)
    (folder / "broken.mp4").write_bytes(b"\0" * 1000)
    return folder


@pytest.fixture(scope="module")
def made(patch, footage, tmp_path_factory):
    """An adaptation that was stopped in its second training, and went on: its folder, result, and what was stopped."""
    out = tmp_path_factory.mktemp("adapted") / "out"
    entries = [Entry(path) for path in sorted(footage.iterdir())]
    first = str(min(footage.glob("0*.mp4")))
    patch.setattr(
        "avlearn.adapt.footage.true_offset",
        lambda path: ExpertAnswer("speech", OFF if str(path) == first else None, 0.9, ""),
    )
    trained, pretrain = [], run.pretrain

    def stopped(recipe, folder, **options):
        trained.append(folder.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return pretrain(recipe, folder, **options)

    patch.setattr(run, "pretrain", stopped)
    with pytest.raises(KeyboardInterrupt):
        run.adapt(entries, out, minutes=0.01, device="cpu")
    with pytest.raises(OutputError, match="begun with --seed 0: go on with the same"):
        run.adapt(entries, out, minutes=0.01, device="cpu", seed=1)
    with pytest.raises(OutputError, match="has an adaptation of other files: go on with the same"):
        run.adapt(entries[:-1], out, minutes=0.01, device="cpu")
    assert not (out / "model").exists()
    result = run.adapt(entries, out, minutes=0.01, device="cpu")
    return out, result, trained


def test_what_was_stopped_goes_on(made):
    out, _, trained = made
    assert trained == ["0", "1", "1", "all"]
    assert not (out / "decoded").exists() and not (out / "copies").exists()


def test_who_judges_a_file_never_learned_from_it(made):
    out, result, _ = made
    stretches = json.loads((out / "adapt.json").read_text())["kept"]["stretches"]
    file_of = {Path(part["copy"]).name: part["file"] for part in stretches}
    assert {stretch.fold for stretch in result.held_out} == {0, 1} and len(result.held_out) >= 6
    for fold in (0, 1):
        learned = {
            file_of[row.path.name]
            for split in ("train", "val")
            for row in read_manifest(out / "lists" / str(fold) / f"{split}.parquet")
        }
        judged = {stretch.file for stretch in result.held_out if stretch.fold == fold}
        assert learned and judged and not learned & judged
        assert all(result.files[file] == fold for file in judged)


def test_files_are_told_with_reasons(made, footage):
    _, result, _ = made
    assert {Path(path).name: reason for path, reason in result.unused}.keys() == {"mute.mp4", "still.mp4", "broken.mp4"}
    assert "there is no audio track" in dict(result.unused)[str(footage / "mute.mp4")]
    assert len(result.files) == 8 and "8 files were used, 3 not: 1 " in result.text()


def test_audio_that_an_expert_knows_to_be_off_is_moved(made):
    out, result, _ = made
    stretches = json.loads((out / "adapt.json").read_text())["kept"]["stretches"]
    assert sorted(part["delay"] for part in stretches) == [0.0] * (len(stretches) - 1) + [OFF]
    assert "experts were sure of 1 of 8 files; the audio of 1 files was moved" in result.notes[0]
    assert "nobody can tell; if 7 files share one" in result.notes[1]
    assert "by the clock: only " in result.notes[2]


def test_the_report_counts_what_it_shows(made):
    out, result, _ = made
    told = json.loads((out / "report.json").read_text())
    assert told == json.loads(json.dumps(result.to_dict())) and told["schema"] == "avlearn.adapt/1"
    assert told["stretches"] == len(result.held_out) == sum(file["stretches"] for file in told["files"])
    assert told["after"]["right"] == sum(file["right"] for file in told["files"])
    assert told["before"]["right"] >= 5  # clips of the world that the base knows
    assert 0 < told["chance"] < 0.1 and "chance" in result.text()
    page = (out / "report.html").read_text()
    assert result.why[:30] in page and "mute.mp4" in page


def test_the_model_is_the_base_where_it_got_no_better(made):
    out, result, _ = made
    assert not result.better and result.why.startswith("no better")  # after a step or two on what the base knows
    files = {path.name for path in model_folder("default").iterdir() if path.is_file()}
    assert {path.name for path in (out / "model").iterdir()} == files
    for name in files:
        assert (out / "model" / name).read_bytes() == (model_folder("default") / name).read_bytes()


def test_judges_of_folds_are_models_whose_calibrations_know_the_other_fold_alone(made, footage):
    out, _, _ = made
    for fold in "01":
        model = load(out / "folds" / fold)
        assert model.separator is None and model.in_distribution.keys() == {"video", "audio"}
        plain = load(out / "runs" / fold)
        assert plain.calibrations == Calibrations()
        for kind, known in model.in_distribution.items():
            assert known.limit >= plain.in_distribution[kind].limit
    assert load(out / "folds" / "0").calibrations.sync != load(out / "folds" / "1").calibrations.sync
    assert sync_by_model(min(footage.glob("0*.mp4")), load(out / "folds" / "0")).calibrated


def test_a_finished_adaptation_is_not_begun_again(made, footage):
    out, _, _ = made
    done = CliRunner().invoke(app, ["adapt", str(footage), "-o", str(out)])
    assert isinstance(done.exception, OutputError) and "has a finished adaptation" in str(done.exception)


def test_what_cannot_be_learned_from_is_said_in_a_line(patch, footage, tmp_path):
    with pytest.raises(DataError, match=r"none of 1 files can be used; .*mute.mp4: there is no audio track"):
        run.adapt([Entry(footage / "mute.mp4")], tmp_path / "out", minutes=0.01, device="cpu")
    with pytest.raises(DataError, match="1 stretches of 1 files can be used, 4 s in all: adapt takes 6"):
        run.adapt([Entry(min(footage.glob("0*.mp4")))], tmp_path / "few", minutes=0.01, device="cpu")


@pytest.mark.parametrize("device, said", [("cuda", "there is no device 'cuda' here"), ("cuda:1", "on the first GPU")])
def test_a_device_that_it_does_not_train_on_is_told_before_the_work(footage, tmp_path, monkeypatch, device, said):
    if device == "cuda:1":
        monkeypatch.setattr(run, "choose_device", torch.device)
    else:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AvlearnError, match=said):
        run.adapt([Entry(path) for path in footage.iterdir()], tmp_path / "out", device=device)
    assert not (tmp_path / "out").exists()


def test_a_precision_that_is_not_there_is_told_before_the_work(footage, tmp_path):
    with pytest.raises(AvlearnError, match="there is no precision '8'"):
        run.adapt([Entry(path) for path in footage.iterdir()], tmp_path / "out", device="cpu", precision="8")
    assert not (tmp_path / "out").exists()


def test_models_judge_in_the_precision_that_is_asked_for(tmp_path, monkeypatch):
    progress = run.Progress(tmp_path / "adapt.json", {}, 1.0)
    adaptation = run._Adaptation(tmp_path, "default", "default", load("default"), progress, 0, "cpu", "bf16", None)
    asked = []

    def noted(tool, paths, inference, *, each, workers):
        asked.extend(each)
        yield from ()

    monkeypatch.setattr(run, "run_many", noted)
    adaptation._judge([Stretch(f"{k}.mp4", 0.0, 1.0, 0.0, Path(f"{k}.mp4")) for k in range(4)], [0, 1, 0, 1])
    assert [one["precision"] for one in asked] == ["bf16"] * 4
    assert judge._opened("default", "cpu", "bf16").precision == torch.bfloat16
