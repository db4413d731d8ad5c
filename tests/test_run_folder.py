"""The folder of a run: begun anew, gone on with, protected; what is damaged in it; and a run that diverges."""

import json
import os
import signal
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from small_runs import recipe, rows

from avlearn.data.manifest import read_manifest, write_manifest
from avlearn.errors import DataError, DivergedError, OutputError, RecipeError
from avlearn.interrupts import Terminated
from avlearn.lock import Lock
from avlearn.tasks.synchronize.build import kept_options, spell_out
from avlearn.tasks.synchronize.module import SynchronizeModule
from avlearn.tasks.towers import model_config
from avlearn.training.checkpoints import BEFORE, LAST, read_checkpoint
from avlearn.training.run import pretrain
from avlearn.training.run_folder import FREE, _restore, begun_recipe, enter

SHORT = ["clip.size=16", "clip.seconds=0.64", "clip.context=0.32", "trainer.val_every=2", "trainer.checkpoint_every=2"]


@pytest.fixture(scope="module")
def small(tiny_root):
    """A recipe of 6 steps, validated and saved after every second."""
    return recipe(tiny_root, *SHORT)


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> dict[str, bytes]:
    """What an undisturbed run leaves."""
    run = tmp_path_factory.mktemp("runs") / "run"
    pretrain(small, run)
    return left(run)


def left(run: Path) -> dict[str, bytes]:
    names = (path for path in run.rglob("*") if path.is_file() and "tfevents" not in path.name)
    return {str(path.relative_to(run)): path.read_bytes() for path in names}


def ended_at(run: Path, small, step: int, monkeypatch, number: int = 0) -> None:
    """A run that ends in the training step after ``step``, by a signal or by itself."""
    before = SynchronizeModule.training_step

    def training_step(self, batch, batch_index):
        if self.global_step == step:
            if not number:
                raise RuntimeError("an end")
            os.kill(os.getpid(), number)
        return before(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(SynchronizeModule, "training_step", training_step)
        with pytest.raises((RuntimeError, KeyboardInterrupt, Terminated)):
            pretrain(small, run)


def test_a_run_that_left_no_checkpoint_begins_anew(small, whole, tmp_path, monkeypatch, capsys):
    for resume in (False, True):
        run = tmp_path / f"resumed {resume}"
        ended_at(run, small, 1, monkeypatch)
        assert (run / "metrics.jsonl").read_text() and not list((run / "checkpoints").glob("*"))
        pretrain(small, run, resume=resume)
        assert left(run) == whole
    assert "has no checkpoint yet: starting from the beginning" in capsys.readouterr().err


def test_a_run_with_a_checkpoint_and_a_finished_one_are_protected(small, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    ended_at(run, small, 4, monkeypatch)
    with pytest.raises(OutputError, match="holds a run already: --resume goes on with it, --run-dir makes another"):
        pretrain(small, run)
    pretrain(small, run, resume=True)
    assert left(run) == whole
    with pytest.raises(OutputError, match="holds a finished run"):
        pretrain(small, run)
    pretrain(small, run, resume=True)  # which has nothing left to do
    assert left(run) == whole
    with pytest.raises(OutputError, match="no checkpoint"):
        pretrain(small, tmp_path / "none", resume=True)


@pytest.mark.parametrize("harm", ["torn metrics", "other metrics", "no metrics", "last", "best"])
def test_what_is_damaged_is_taken_from_what_is_whole(small, whole, tmp_path, monkeypatch, capsys, harm):
    run = tmp_path / "run"
    ended_at(run, small, 5, monkeypatch)
    metrics, checkpoints = run / "metrics.jsonl", run / "checkpoints"
    if harm == "torn metrics":
        metrics.write_text(metrics.read_text() + '{"step": 6, "lo')
    elif harm == "other metrics":
        metrics.write_text(metrics.read_text().replace("loss", "l0ss", 1))
    elif harm == "no metrics":
        metrics.unlink()
    else:
        os.truncate(checkpoints / f"{harm}.ckpt", 5000)
    capsys.readouterr()
    pretrain(small, run, resume=True)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(said) == (harm != "torn metrics") and all("is damaged" in line for line in said)
    found = left(run)
    if harm == "best":  # what was best before is lost, and said to be
        assert "the best of the steps from 4 on is kept" in said[0]
        found |= {name: whole[name] for name in whole if name.startswith(("model/", "checkpoints/"))}
    assert found == whole


def test_a_damaged_checkpoint_does_not_push_the_whole_one_out(small, tmp_path, monkeypatch):
    run = tmp_path / "run"
    ended_at(run, small, 5, monkeypatch)
    os.truncate(run / "checkpoints" / LAST, 5000)
    start = enter(run, begun_recipe(run), True, True)
    assert start.checkpoint.name == BEFORE and read_checkpoint(start.checkpoint)["global_step"] == start.step
    assert not (run / "checkpoints" / LAST).exists()


def test_a_checkpoint_that_calls_is_refused_without_advice_to_run_it(tmp_path):
    path = tmp_path / LAST
    torch.save({"state_dict": Fraction(1, 2)}, path)  # any class that is not torch's
    with pytest.raises(OutputError, match=r"damaged: it holds other than tensors and plain values$"):
        read_checkpoint(path)


def test_a_resumed_run_has_its_own_recipe(small, tiny_root, tmp_path, monkeypatch):
    run = tmp_path / "run"
    ended_at(run, small, 3, monkeypatch)
    with pytest.raises(RecipeError, match=r"optimizer\.lr 0\.001, the recipe 0\.5"):
        pretrain(recipe(tiny_root, *SHORT, "optimizer.lr=0.5"), run, resume=True)
    pretrain(recipe(tiny_root, *SHORT, "trainer.on_divergence=stop"), run, resume=True)
    assert "trainer.on_divergence" in FREE


def test_a_run_of_an_earlier_version_keeps_its_steps(tiny_root, tmp_path, capsys):
    strided = recipe(tiny_root, *SHORT, "model.video=c3d")
    now = spell_out(strided, None, True)
    stride = now.model.video_options["temporal_stride"]
    assert stride < 16 and model_config(now, "") == model_config(strided, "", kept_options(strided))
    (tmp_path / "recipe.yaml").write_text(strided.to_yaml())  # which says nothing of the stride
    begun = begun_recipe(tmp_path)
    resumed = spell_out(strided, begun, True)
    assert resumed == begun and resumed.model.video_options == {"temporal_stride": 16}
    said = f"note: model.video_options.temporal_stride stays 16, as the run began: a new run would have {stride}\n"
    assert capsys.readouterr().err == said
    (tmp_path / "recipe.yaml").write_text(now.to_yaml())
    assert spell_out(strided, begun_recipe(tmp_path), True) == now and not capsys.readouterr().err


def test_a_damaged_clip_is_left_out_of_decoded_ones_counted_and_listed(small_world, tiny_root, tmp_path, capsys):
    listed = read_manifest(small_world / "manifest.parquet")[:6]
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    write_manifest([replace(listed[0], path=bad, bytes=0), *listed[1:]], tmp_path / "train.parquet")
    write_manifest(listed, tmp_path / "val.parquet")
    words = [*SHORT, f"data.train={tmp_path / 'train.parquet'}", f"data.val={tmp_path / 'val.parquet'}"]
    words += ["data.bad_files=skip", "trainer.max_steps=2"]
    with pytest.raises(DataError, match=rf"1 of 6 training clips cannot be read \(data\.max_bad .* 0\); {bad}: "):
        pretrain(recipe(tiny_root, *words), tmp_path / "none")
    pretrain(recipe(tiny_root, *words, "data.max_bad=0.2"), tmp_path / "run")
    said = capsys.readouterr().err
    assert f"left out {bad}: " in said and "left out 1 of 6 training clips" in said
    assert [row["skipped"] for row in rows(tmp_path / "run", "loss")] == [1, 1]


def test_two_runs_do_not_share_a_folder(small, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    lock = Lock(run / ".lock")
    with pytest.raises(OutputError, match=rf"another run is at work on {run} \(process {os.getpid()}"):
        pretrain(small, run)
    lock.close()
    assert not list(run.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_run_that_ends_as_if_it_had_not_come(small, whole, tmp_path, monkeypatch, capsys, number):
    run, heeded = tmp_path / "run", signal.getsignal(signal.SIGINT)
    ended_at(run, small, 2, monkeypatch, number)
    assert "stopped after step 3: --resume goes on from there" in capsys.readouterr().err
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 3
    pretrain(small, run, resume=True)
    assert left(run) == whole
    assert signal.getsignal(signal.SIGINT) is heeded


def test_two_signals_stop_at_once(small, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    before, made = SynchronizeModule.training_step, []

    def training_step(self, batch, batch_index):
        if self.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            made.append("a step")
        return before(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(SynchronizeModule, "training_step", training_step)
        with pytest.raises(KeyboardInterrupt):
            pretrain(small, run)
    assert not made
    pretrain(small, run, resume=True)
    assert left(run) == whole


def test_a_run_that_diverges_stops_and_keeps_what_was_good(tiny_root, tmp_path, capsys):
    run, wild = tmp_path / "run", recipe(tiny_root, *SHORT, "optimizer.warmup_steps=0")
    wild = wild.model_copy(update={"optimizer": wild.optimizer.model_copy(update={"lr": 1e30})})
    said = r"diverged again: .* an optimizer\.lr of 5e\+29\. No model is written; there was no checkpoint yet"
    with pytest.raises(DivergedError, match=said):
        pretrain(wild, run)
    assert DivergedError.exit_code == 1
    assert not (run / "model").exists()
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    for path in (run / "checkpoints").glob("*.ckpt"):
        weights = read_checkpoint(path)["state_dict"].values()
        assert all(bool(w.isfinite().all()) for w in weights if w.is_floating_point())
    assert "once more from the last checkpoint at half the learning rate" in capsys.readouterr().err


def poisoned_once(monkeypatch, at: int) -> list[float]:
    """The loss of one step is no number, the first time it is made; rates of all steps are returned."""
    before, rates, done = SynchronizeModule.training_step, [], []

    def training_step(self, batch, batch_index):
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        loss = before(self, batch, batch_index)
        if self.global_step == at and not done:
            done.append(at)
            return loss * torch.nan
        return loss

    monkeypatch.setattr(SynchronizeModule, "training_step", training_step)
    return rates


def test_a_run_goes_on_at_half_the_rate_after_it_diverged_once(small, tmp_path, monkeypatch):
    rates = poisoned_once(monkeypatch, 5)
    run = tmp_path / "run"
    pretrain(small, run)
    assert len(rates) == 8  # steps 4 and 5 twice
    assert rates[6] == pytest.approx(rates[4] / 2) and rates[7] == pytest.approx(rates[5] / 2)
    assert [row["step"] for row in rows(run, "loss")] == [1, 2, 3, 4, 5, 6]
    assert "went on at half the learning rate" in (run / "model" / "README.md").read_text()
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["callbacks"]["Divergence"] == {"lowered": True}


def test_a_run_that_is_to_stop_does_not_try_again(tiny_root, tmp_path, monkeypatch):
    rates = poisoned_once(monkeypatch, 3)
    with pytest.raises(DivergedError, match="the training diverged: a loss or gradient is infinite or not a number"):
        pretrain(recipe(tiny_root, *SHORT, "trainer.on_divergence=stop"), tmp_path / "run")
    assert len(rates) == 4
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 2


def test_a_disk_that_fills_up_is_told_and_nothing_is_lost(small, whole, tmp_path, monkeypatch):
    from avlearn.training.checkpoints import CheckpointFiles

    before, saved = CheckpointFiles.save_checkpoint, []

    def full(self, checkpoint, path, storage_options=None):
        before(self, checkpoint, path, storage_options)
        saved.append(path)
        if len(saved) == 3:
            raise OSError(28, os.strerror(28))

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFiles, "save_checkpoint", full)
        with pytest.raises(OutputError, match=rf"cannot write {run}: No space left"):
            pretrain(small, run)
    assert not list(run.rglob("*.part*"))
    pretrain(small, run, resume=True)
    assert left(run) == whole


def test_pipes_and_folders_in_the_place_of_a_runs_files_are_neither_waited_for_nor_read(tmp_path):
    os.mkfifo(tmp_path / "last.ckpt")
    with pytest.raises(OutputError, match="it is no file"):
        read_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(OutputError, match="the folder is not that of a run"):
        _restore(tmp_path, {"callbacks": {"Figures": {"rows": ""}}})
