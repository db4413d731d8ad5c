"""An objective that scores offsets itself comes back from the model folder as it was trained."""

import json

import pytest
import torch
from safetensors.torch import save_file

from avlearn.errors import ModelError
from avlearn.evaluation import evaluate
from avlearn.models.folder import load
from avlearn.models.named import model_folder
from avlearn.objectives import OBJECTIVES, Dense, EmbeddedBatch, FeatureSpec, Objective, ShiftSchedule
from avlearn.tasks import load_recipe
from avlearn.tasks.synchronize.objective_folder import load_objective, save_objective
from avlearn.training.run import pretrain

SPEC = FeatureSpec(0.08, 6, 5, 8, 10, 4, 12)
SHIFT = {"first": 0.96, "last": 0.16, "until": 0.5}
OPTIONS = {
    "shift_bce": {"width": 8, "slow_until": 0.05},
    "offset": {"dim": 16, "layers": 1, "heads": 2, "grid": None, "frozen": False, "sync_weight": 1.0},
}


def made(name: str) -> Objective:
    kind = OBJECTIVES[name]
    return kind(kind.Options(shift=ShiftSchedule(**SHIFT), **OPTIONS[name]), SPEC)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_round_trip(tmp_path, name):
    objective = made(name).eval()
    save_objective(objective, tmp_path)
    back = load_objective(tmp_path)
    zeros = torch.zeros(3, dtype=torch.long)
    pair = EmbeddedBatch(torch.randn(3, 4, 6, 2, 2), torch.randn(3, 4, 10), zeros, zeros,
                torch.randn(3, 8, 6, 2, 2), torch.randn(3, 10, 10))  # fmt: skip
    offsets = torch.arange(5)
    assert torch.equal(back.offset_scores(pair, offsets), objective.offset_scores(pair, offsets))
    assert back.spec == SPEC and back.options == objective.options and not back.training

    values = json.loads((tmp_path / "objective.json").read_text())
    del values["features"]["step"]
    (tmp_path / "objective.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"objective\.json: features: step: Field required"):
        load_objective(tmp_path)
    save_objective(objective, tmp_path)
    (tmp_path / "objective.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="no objective that can be read"):
        load_objective(tmp_path)
    # One that the common space is enough for takes the place of one that it is not.
    save_objective(Dense(spec=SPEC), tmp_path)
    assert load_objective(tmp_path) is None and not list(tmp_path.iterdir())


FORMER = {
    "shift_bce": {"video_input": "picture", "audio_input": "sound"},
    "offset": {"modality": "kind", "offset_token": "off"},
}


@pytest.mark.parametrize("name", FORMER)
def test_a_file_of_an_earlier_version_is_read(tmp_path, name):
    """Its features lie under the key "setting", and its tensors have other names; so have those of checkpoints."""
    objective = made(name)
    former = {}
    for key, tensor in objective.state_dict().items():
        part, dot, rest = key.partition(".")
        former[FORMER[name].get(part, part) + dot + rest] = tensor
    assert former.keys() != objective.state_dict().keys()
    save_file(former, tmp_path / "objective.safetensors")
    setting = {
        "step": 0.08, "steps": 6, "offsets": 5, "video_channels": 8, "audio_channels": 10, "dim": 4, "clips": 12,
    }  # fmt: skip
    stored = {"format": "avlearn.objective/1", "name": name, "shift": SHIFT, **OPTIONS[name], "setting": setting}
    (tmp_path / "objective.json").write_text(json.dumps(stored))
    back = load_objective(tmp_path)
    assert back.spec == SPEC and back.options == objective.options
    assert all(torch.equal(back.state_dict()[key], tensor) for key, tensor in objective.state_dict().items())

    resumed = made(name)
    torch.nn.ModuleDict({"objective": resumed}).load_state_dict({f"objective.{k}": v for k, v in former.items()})
    assert all(torch.equal(resumed.state_dict()[key], tensor) for key, tensor in objective.state_dict().items())


def test_a_run_exports_it_and_it_is_measured(tmp_path, small_world):
    recipe = load_recipe(
        "sync_world",
        [
            f"data.train={small_world}", f"data.root={tmp_path}", "objective=shift_bce", "trainer.batch_size=4",
            "trainer.max_steps=2", "trainer.val_every=2", "trainer.threads=1", "clip.size=32",
        ],
    )  # fmt: skip
    pretrain(recipe, tmp_path / "run")
    objective = load_objective(model_folder(tmp_path / "run"))
    assert objective.spec.offsets == 25
    state = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(objective.last.weight, state["objective.last.weight"])
    result = evaluate(load(tmp_path / "run"), [small_world / "manifest.parquet"], objective=objective)
    assert {metric.task for metric in result.metrics} == {"sync"} and len(result.metrics) == 8
