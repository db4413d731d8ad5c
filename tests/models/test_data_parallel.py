"""Towers under two processes' DistributedDataParallel, which stops at a parameter that gets no gradient."""

import pytest
import torch
import torch.distributed as dist
from families import FAMILIES
from torch.nn.parallel import DistributedDataParallel

TOWERS = ("ast", "videomae", "motionformer", "vivit", "vtn")  # those with parts that only a classifier reads, and vivit
BATCH, STEPS = 4, 3


def trained(name: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Weights after a few steps on a process's share of the same batches."""
    tower = FAMILIES[name].classifier(3).as_tower().eval()  # no dropout, which each process draws for itself
    module = DistributedDataParallel(tower) if world > 1 else tower
    # DistributedDataParallel calls forward, which of a tower is its features, averaged.
    optimizer = torch.optim.SGD(tower.parameters(), lr=0.05)
    torch.manual_seed(1)
    for batch in torch.rand(STEPS, BATCH, *FAMILIES[name].shape):
        optimizer.zero_grad()
        module(batch[rank::world]).square().mean().backward()
        optimizer.step()
    return {key: value.detach().clone() for key, value in tower.named_parameters()}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save({name: trained(name, rank, 2) for name in TOWERS}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    """What each of two processes has learned."""
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.start_processes(process, (str(folder),), 2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_learns_by_two_processes_what_it_learns_by_one(name, both):
    alone, start = trained(name, 0, 1), dict(FAMILIES[name].classifier(3).as_tower().named_parameters())
    for found in both:
        assert found[name].keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-4, atol=1e-6)
    assert any((alone[key] - start[key]).abs().max() > 1e-4 for key in alone)
