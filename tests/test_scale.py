"""Several processes, micro-batches, recomputation: how a training is carried out does not change what it learns."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from small_runs import last, recipe, rows
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avlearn.config import ModelConfig
from avlearn.errors import RecipeError
from avlearn.models.audiovisual import AudioVisual
from avlearn.tasks import build, load_recipe
from avlearn.tasks.synchronize.build import build_objective
from avlearn.tasks.synchronize.microbatches import in_parts
from avlearn.tasks.synchronize.module import SynchronizeModule
from avlearn.training.launch import data_parallel, environment, global_rank
from avlearn.training.loaders import Loaders
from avlearn.training.run import pretrain


@pytest.fixture(scope="module")
def plain(tiny_root, tmp_path_factory) -> Path:
    """A run as it is without anything."""
    run = tmp_path_factory.mktemp("scale") / "plain"
    pretrain(recipe(tiny_root), run)
    return run


def task_of(objective: str) -> SynchronizeModule:
    """With batch norm as in evaluation, so that clips do not depend on each other."""
    torch.manual_seed(0)
    model = AudioVisual(ModelConfig(dim=16))
    task = SynchronizeModule(model, build_objective(recipe(Path(), f"objective={objective}"), model, 8), {}, 0).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return task


def batch_of(clips: slice | list[int] = slice(None)) -> tuple[torch.Tensor, torch.Tensor, dict]:
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(4, 3, 50, 32, 32, generator=generator)
    audio = torch.randn(4, 62720, generator=generator)
    offset = torch.tensor([3, 20, 7, 11])
    return video[clips], audio[clips], {"offset": offset[clips], "index": torch.arange(4)[clips]}


class Loss(nn.Module):
    """A task as something that processes can share."""

    def __init__(self, task: SynchronizeModule):
        super().__init__()
        self.task = task

    def forward(self, *batch: object) -> torch.Tensor:
        return self.task.output(*batch).loss


def gradients(
    module: nn.Module, task: SynchronizeModule, parts: int, clips: slice | list[int] = slice(None)
) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    task.accumulate = parts
    task.zero_grad()
    module(*batch_of(clips)).backward()
    return {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


def assert_the_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert any(value.abs().max() > 1e-3 for value in wanted.values())
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("objective", ["dense", "infonce", "margin", "shift_bce"])
def test_micro_batches_give_the_gradients_of_the_batch(objective):
    task = task_of(objective)
    whole = gradients(Loss(task), task, 1)
    for parts in (2, 4):
        assert_the_same(gradients(Loss(task), task, parts), whole)


def validated(root: Path, rank: int, world: int) -> list[dict[str, float]]:
    """What a process logs of each of its validation batches."""
    torch.manual_seed(0)
    wanted = recipe(root, f"trainer.devices={world}", "objective=infonce")
    experiment = build(wanted)
    loaders = Loaders(experiment, wanted, 1)
    loaders.trainer = SimpleNamespace(global_rank=rank, world_size=world)
    task, found = experiment.module.eval(), []
    task.log_dict = lambda values, **_: found.append({key: float(value) for key, value in values.items()})
    with torch.no_grad():
        for number, batch in enumerate(loaders.val_dataloader()):
            task.validation_step(batch, number)
            found[-1]["clips"] = batch["index"].tolist()
    return found


def process(rank: int, folder: str, root: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    task = task_of("dense")
    module = DistributedDataParallel(Loss(task))
    own = slice(2 * rank, 2 * rank + 2)
    found = [gradients(module, task, parts, own) for parts in (1, 2)]
    uneven = torch.tensor([[0, 1, 2], [3]][rank])
    kept = task._equalized({"index": uneven}, 0)["index"].tolist()
    cut = gradients(module, task, 1, kept)
    torch.save((found, validated(root, rank, 2), cut), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(plain, tiny_root, tmp_path_factory) -> list[tuple]:
    """Gradients and validation figures of each of two processes."""
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.start_processes(process, (str(folder), tiny_root), 2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_micro_batches_of_two_processes_give_the_gradients_of_the_batch(two):
    task = task_of("dense")
    whole = gradients(Loss(task), task, 1)
    for found, _, _ in two:
        for gradient in found:
            assert_the_same(gradient, whole)


def test_batches_of_three_clips_and_one_learn_from_the_first_of_each(two):
    task = task_of("dense")
    whole = gradients(Loss(task), task, 1, [0, 3])
    for _, _, cut in two:
        assert_the_same(cut, whole)


def test_two_processes_validate_what_one_does(tiny_root, two):
    alone = validated(tiny_root, 0, 1)
    shares = [share for _, share, _ in two]
    assert len(alone) == len(shares[0]) == len(shares[1]) == 2
    for whole, *parts in zip(alone, *shares, strict=True):
        clips = [part.pop("clips") for part in parts]
        assert [*clips[0], *clips[1]] == whole.pop("clips")
        assert len({*clips[0], *clips[1]}) == 4
        for key, value in whole.items():
            assert sum(part[key] for part in parts) / 2 == pytest.approx(value, abs=1e-5)


def test_the_second_pass_over_a_micro_batch_draws_what_the_first_did():
    layer = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5))

    def gradient(towers) -> torch.Tensor:
        torch.manual_seed(3)
        layer.zero_grad()
        towers(torch.arange(24.0).view(4, 6)).square().sum().backward()
        return layer[0].weight.grad.clone()

    found = gradient(lambda x: in_parts(lambda part: (layer(part),), 2, x)[0])
    assert torch.allclose(found, gradient(lambda x: torch.cat([layer(part) for part in x.chunk(2)])))
    assert not torch.allclose(found, gradient(lambda x: layer(x).detach() + 0 * layer(x)))


@pytest.fixture(scope="module")
def parts(tiny_root, tmp_path_factory) -> Path:
    """A run in micro-batches."""
    run = tmp_path_factory.mktemp("scale") / "parts"
    pretrain(recipe(tiny_root, "trainer.accumulate=2"), run)
    return run


@pytest.mark.parametrize(
    ("words", "wanted"), [(["checkpoint_activations=true"], "plain"), (["compile=true", "accumulate=2"], "parts")]
)
def test_recomputed_or_compiled_it_is_the_same_training(words, wanted, request, tiny_root, tmp_path, monkeypatch):
    calls = []

    def quick(function):
        calls.append(function)
        return torch._dynamo.optimize("eager")(function)

    monkeypatch.setattr(torch, "compile", quick)
    before = request.getfixturevalue(wanted)
    calls.clear()
    pretrain(recipe(tiny_root, *(f"trainer.{word}" for word in words)), tmp_path / "run")
    assert len(calls) == 2 * ("compile=true" in words)
    found, state = last(tmp_path / "run")["state_dict"], last(before)["state_dict"]
    for name, value in state.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
    for now, then in zip(rows(tmp_path / "run", "loss"), rows(before, "loss"), strict=True):
        assert now["loss"] == pytest.approx(then["loss"], abs=1e-5)


def test_batch_norm_counts_each_micro_batch_once(plain, parts):
    for run, count in ((plain, 6), (parts, 12)):
        counts = [
            v for k, v in last(run)["state_dict"].items() if k.startswith("model.video") and k.endswith("tracked")
        ]
        assert counts and all(v == count for v in counts)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.accumulate=3"], r"trainer\.accumulate: a batch of 4 does not split into 3"),
        (["trainer.compile=true", "trainer.checkpoint_activations=true"], r"trainer\.compile"),
    ],
)
def test_what_does_not_go_together_is_refused(words, said):
    with pytest.raises(RecipeError, match=said):
        recipe(Path(), *words)


def test_a_separator_is_trained_without_what_economizes_towers():
    with pytest.raises(RecipeError, match="trains no towers"):
        load_recipe("separate_world", ["trainer.accumulate=2"])


def test_banks_of_all_clips_are_not_sent_around():
    task = task_of("avid")
    data_parallel(task)
    ignored = set(task._ddp_params_and_buffers_to_ignore)
    assert {"objective.video_bank", "objective.audio_bank"} <= ignored
    assert not any("running_mean" in name for name in ignored)


def test_slurm_and_torchrun_are_recognized_by_their_environment(monkeypatch):
    assert type(environment(2, 1)).__name__ == "LightningEnvironment"
    slurm = {"JOB_NAME": "train", "NTASKS": 4, "NTASKS_PER_NODE": 2, "PROCID": 3, "LOCALID": 1, "NODEID": 1}
    with monkeypatch.context() as patched:
        for key, value in slurm.items():
            patched.setenv(f"SLURM_{key}", str(value))
        found = environment(devices=2, nodes=2)
        assert type(found).__name__ == "SLURMEnvironment"
        assert (global_rank(found, 2), found.local_rank(), found.world_size()) == (3, 1, 4)
        with pytest.raises(RecipeError, match=r"SLURM started 4 processes, the recipe has trainer\.devices 1"):
            environment(devices=1, nodes=1)
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(key, value)
    found = environment(devices=2, nodes=1)
    assert type(found).__name__ == "TorchElasticEnvironment"
    assert global_rank(found, 2) == 1
