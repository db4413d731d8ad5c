"""One batch gives the same loss and gradients however many processes share it."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from planted import SPEC
from torch import nn
from torch.nn import functional as F

from avlearn.objectives import OBJECTIVES, EmbeddedBatch, Objective, gather
from avlearn.objectives.similarity import pair_scores

WORLDS = (4, 2, 1)
CLIP = torch.tensor([0, 6, 2, 3, 11, 6, 9, 1])  # one of them twice, in two processes
CASES = {
    **{name: {} for name in OBJECTIVES if name not in ("margin", "avid", "clusters", "offset")},
    "margin, other clips": {"hard_share": 0.0},
    "margin, other times": {"hard_share": 1.0},
    "avid": {"agreement_from": 1.0},
    "avid, agreement": {"agreement_from": 0.0},
    "offset": {"sync_weight": 0.0},  # draws wrong audio among the clips of its own process
    "clusters, kmeans": {"assign": "kmeans", "clusters": 3, "every": 1},
    "clusters, sinkhorn": {"assign": "sinkhorn", "clusters": 3, "every": 1},
}


def built(case: str) -> Objective:
    name = case.split(",")[0]
    torch.manual_seed(0)
    spec = replace(SPEC, clips=12)
    objective = OBJECTIVES[name](OBJECTIVES[name].Options(**CASES[case]), spec)
    objective.progress = 0.9
    for module in objective.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return objective


def same_columns(*arguments, device=None) -> torch.Tensor:
    """In place of ``torch.randint``: integers that do not depend on the row."""
    *bounds, size = arguments
    low, high = (0, *bounds)[-2:]
    columns = torch.arange(size[1]) if len(size) > 1 else torch.tensor(2)
    return (low + columns % (high - low)).expand(size)


def outcome(case: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Loss and gradients of the third batch, and what the objective then remembers."""
    objective = built(case)
    own = slice(rank * 8 // world, (rank + 1) * 8 // world)
    generator = torch.Generator().manual_seed(1)
    draws = {
        "randint": same_columns,
        "rand": lambda *size, device=None: torch.full(size, 0.5),
        "multinomial": lambda weights, count: weights.argmax(1, keepdim=True),
    }
    for _ in range(3):
        seen, heard = torch.randn(8, 64, 10, 2, 3, generator=generator), torch.randn(8, 64, 30, generator=generator)
        offset = torch.randint(21, (8,), generator=generator)[own]
        seen, heard = seen[own].requires_grad_(), heard[own].requires_grad_()
        pair = EmbeddedBatch(F.normalize(seen, dim=1), F.normalize(heard, dim=1), offset, CLIP[own], seen, heard)
        if objective.momentum is not None:
            still = EmbeddedBatch(
                pair.video.detach().roll(1, 1), pair.audio.detach().roll(1, 1), offset, CLIP[own], seen, heard
            )
            pair = replace(pair, target=still)
        with patch.multiple("torch", **draws):
            loss = objective(pair).loss
        objective.zero_grad()
        loss.backward()
    return {
        "loss": loss.detach(),
        "seen": torch.zeros_like(seen) if seen.grad is None else seen.grad,
        "heard": torch.zeros_like(heard) if heard.grad is None else heard.grad,
        **{f"parameter {name}": value.grad for name, value in objective.named_parameters() if value.grad is not None},
        **{f"buffer {name}": value for name, value in objective.named_buffers()},
    }


def process(rank: int, folder: str) -> None:
    """One of four, of which two meet again, and one by itself: each takes seconds to import what it needs."""
    torch.set_num_threads(1)
    for world in WORLDS:
        if rank < world:
            dist.init_process_group("gloo", f"file://{folder}/meeting-{world}", rank=rank, world_size=world)
            gathered, all_gather = [], dist.all_gather

            def recorded(parts, x, gathered=gathered, all_gather=all_gather):
                gathered.append(tuple(x.shape[1:]))
                return all_gather(parts, x)

            with patch.object(dist, "all_gather", recorded):
                found = {case: outcome(case, rank, world) for case in CASES}
            torch.save({**found, "gathered": gathered}, f"{folder}/{world}-{rank}.pt")
            dist.destroy_process_group()


@pytest.mark.parametrize("case", CASES)
def test_what_is_logged_keeps_no_graph(case):
    objective = built(case)
    seen, heard = torch.randn(8, 64, 10, 2, 3, requires_grad=True), torch.randn(8, 64, 30, requires_grad=True)
    pair = EmbeddedBatch(
        F.normalize(seen, dim=1), F.normalize(heard, dim=1), torch.randint(21, (8,)), CLIP, seen, heard
    )
    output = objective(replace(pair, target=pair))
    assert output.loss.requires_grad
    assert not [name for name, value in output.logs.items() if value.requires_grad]


SHARES = {"retrieval", "accuracy", "offset_within_1", "video_accuracy", "audio_accuracy", "sync_accuracy"}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_shares_are_shares(case, training):
    """Also where all are right: a video has what its audio has."""
    objective = built(case).train(training)
    audio, offset = F.normalize(torch.randn(8, 64, 30), dim=1), torch.full((8,), 5)
    video = audio[:, :, 5:15, None, None].expand(-1, -1, -1, 2, 3)
    pair = EmbeddedBatch(video, audio, offset, CLIP, video, audio)
    for _ in range(2):
        logs = objective(replace(pair, target=pair)).logs
        assert all(0 <= float(logs[name]) <= 1 for name in SHARES & logs.keys())


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> dict[int, list[dict]]:
    """What each process of 1, 2 and 4 has of every case."""
    folder = Path(tmp_path_factory.mktemp("processes"))
    torch.multiprocessing.start_processes(process, (str(folder),), 4, start_method="forkserver")
    return {world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)] for world in WORLDS}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", CASES)
def test_processes_agree_with_one(case, world, shared):
    alone = outcome(case, 0, 1)
    parts = [part[case] for part in shared[world]]
    assert abs(sum(part["loss"] for part in parts) / world - alone["loss"]) < 1e-5 * alone["loss"].abs().clamp(min=1)
    for name in ("seen", "heard"):
        # Each process has its features' gradient of the sum of all losses; averaging parameters' makes it the mean's.
        gradient = torch.cat([part[name] for part in parts]) / world
        assert alone[name].abs().max() > 0
        assert torch.allclose(gradient, alone[name], rtol=0, atol=1e-5 * float(alone[name].abs().max()))
    for name in alone:
        if name.startswith("parameter"):
            gradient = sum(part[name] for part in parts) / world
            assert torch.allclose(gradient, alone[name], rtol=1e-4, atol=1e-5)
        if name.startswith("buffer"):
            assert all(torch.equal(part[name], parts[0][name]) for part in parts)
            assert torch.allclose(parts[0][name], alone[name], atol=1e-5)


def test_no_process_is_sent_the_places_of_videos(shared):
    """Only their scores: of each clip there is gathered a number, a vector, or the audio."""
    gathered = {shape for world in (4, 2) for part in shared[world] for shape in part["gathered"]}
    assert gathered == {(), (64,), (64, 30), (2, 32)}
    assert shared[1][0]["gathered"] == []


def test_a_matrix_that_processes_share_is_transposed(monkeypatch):
    """By the third of three processes, to which the others' parts are given."""
    whole = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))

    def all_to_all(received, parts):
        assert torch.equal(parts, torch.stack([whole[4:, k : k + 2] for k in (0, 2, 4)]))
        received.copy_(torch.stack([whole[k : k + 2, 4:] for k in (0, 2, 4)]))

    monkeypatch.setattr(gather, "_several", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "all_to_all_single", all_to_all)
    assert torch.equal(gather.transposed_rows(whole[4:]), whole[:, 4:].T)


def test_a_process_computes_only_its_own_rows_of_the_dense_scores(monkeypatch):
    """In the place of the third of four processes."""
    from avlearn.objectives import dense

    shapes = []

    def recorded(video, audio, scale):
        shapes.append((len(video), len(audio)))
        return pair_scores(video, audio, scale)

    monkeypatch.setattr(dense, "pair_scores", recorded)

    def gathered(x):
        return torch.cat([-x, -x, x, -x]) if x.is_floating_point() else x.repeat(4)

    def transposed(rows):
        others = torch.full_like(rows[:, :3], -50.0)
        return torch.cat([others, others, rows[:, 6:9].T, others], 1)

    monkeypatch.setattr(dense, "gather_with_gradient", gathered)
    monkeypatch.setattr(dense, "transposed_rows", transposed)
    monkeypatch.setattr(dense, "own_rows", lambda count, device: torch.arange(count) + 2 * count)
    audio = F.normalize(torch.randn(3, 64, 12, generator=torch.Generator().manual_seed(0)), dim=1)
    logs = dense.dense_info_nce(audio[:, :, 2:8, None, None], audio, torch.full((3,), 2)).logs
    assert shapes == [(3, 12)]
    assert float(logs["offset_within_1"]) == float(logs["retrieval"]) == 1
