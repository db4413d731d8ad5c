"""Training: a killed run ends with the same weights; a world is learned, and a shuffled one is not."""

import signal
import time
from pathlib import Path

import pytest
import torch
from commands import Command, run
from small_runs import TINY, command, last

from avlearn.errors import DataError, OutputError
from avlearn.tasks import load_recipe


@pytest.mark.parametrize("files", [False, True], ids=["decoded", "files"])
def test_a_killed_run_resumes_to_the_bit(tmp_path, tiny_root, small_world, files):
    # Files are read by processes that hold several windows of each.
    more = [f"data.train={small_world}", "data.cache=false", "data.workers=2", "data.windows=2", "data.buffer=16"]
    more = ["trainer.max_steps=14", "trainer.val_every=7", *(more if files else [])]
    assert run(*command(tmp_path / "whole", tiny_root, *more)).returncode == 0
    running = Command(*command(tmp_path / "killed", tiny_root, *more))
    figures = tmp_path / "killed" / "metrics.jsonl"
    while running.poll() is None and not (figures.exists() and '"step": 8' in figures.read_text()):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "killed" / "model").exists()
    assert last(tmp_path / "killed")["global_step"] < 14
    assert run(*command(tmp_path / "killed", tiny_root, "--resume", *more)).returncode == 0
    whole, killed = last(tmp_path / "whole"), last(tmp_path / "killed")
    assert whole["global_step"] == killed["global_step"] == 14
    assert all(torch.equal(whole["state_dict"][k], killed["state_dict"][k]) for k in whole["state_dict"])
    same = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "killed")]
    assert same[0] == same[1]
    models = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert models[0] == models[1]

    again = run(*command(tmp_path / "whole", tiny_root, *more))
    assert again.returncode == 2
    assert again.stderr.strip().splitlines()[-1].startswith("avlearn: error:")
    assert "--resume" in again.stderr


def test_resuming_another_recipe_is_refused(tmp_path):
    from avlearn.training.run import pretrain

    with pytest.raises(OutputError, match="no checkpoint"):
        pretrain(load_recipe("sync_world", TINY), tmp_path / "none", resume=True)


def test_more_bad_files_than_allowed_stop_the_run(tmp_path, small_world):
    from avlearn.data.manifest import read_manifest, write_manifest
    from avlearn.training.run import pretrain

    rows = read_manifest(small_world / "manifest.parquet")
    broken = tmp_path / "clips"
    broken.mkdir()
    copies = []
    for k, row in enumerate(rows):
        target = broken / row.path.name
        target.write_bytes(row.path.read_bytes() if k % 2 else b"not a video")
        copies.append(type(row)(**{**row.__dict__, "path": target}))
    write_manifest(copies, tmp_path / "manifest.parquet")
    words = [f"data.train={tmp_path / 'manifest.parquet'}", "data.cache=false", "data.bad_files=skip", *TINY]
    with pytest.raises(DataError, match="could not be read"):
        pretrain(load_recipe("sync_world", words), tmp_path / "run")


@pytest.mark.slow
def test_a_small_world_is_learned_and_a_shuffled_one_is_not(tmp_path):
    """Held-out offsets rise far above chance with the right audio, and stay at chance with another clip's."""
    import json

    from avlearn.data.cache import ClipCache
    from avlearn.tasks import build
    from avlearn.training.run import pretrain

    words = [
        f"data.root={tmp_path}", "data.world.preset=solo", "data.world.train_clips=160", "data.world.val_clips=48",
        "trainer.max_steps=130", "trainer.val_every=130", "trainer.threads=1", "optimizer.warmup_steps=20",
    ]  # fmt: skip
    recipe = load_recipe("sync_world", words)
    pretrain(recipe, tmp_path / "right")

    def offsets(run: Path) -> float:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [row["val_offset_within_1"] for row in rows if "val_loss" in row][-1]

    right = offsets(tmp_path / "right")
    chance = 3 / 25
    assert right > 3 * chance

    built = build(recipe)
    task, val = built.module, built.val
    task.load_state_dict(torch.load(tmp_path / "right" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"])
    task.eval()
    cache = val.cache
    val.cache = ClipCache(cache.video, cache.audio[::-1], cache.fps, cache.sample_rate)
    from avlearn.data.clips import collate

    with torch.inference_mode():
        batch = collate([val[(i, i)] for i in range(16)])
        from avlearn.models.two_tower import frames_to_input

        output = task.output(frames_to_input(batch["video"]), batch["audio"], batch)
        wrong = float(output.logs["offset_within_1"])
    assert wrong < right / 2


def test_ctrl_c_leaves_a_run_that_resumes(tmp_path, tiny_root):
    run = tmp_path / "run"
    words = command(run, tiny_root, "trainer.max_steps=400", "trainer.val_every=400")
    running = Command(*words)
    figures = run / "metrics.jsonl"
    while running.poll() is None and not (figures.exists() and '"step": 5' in figures.read_text()):
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 130, said[-3500:]
    assert "--resume goes on" in said
    assert "Traceback" not in said
    assert last(run)["global_step"] >= 5
