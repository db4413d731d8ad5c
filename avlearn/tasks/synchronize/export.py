"""The model that synchronization has trained, as it is kept."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from avlearn.data.clips import Clips
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import save
from avlearn.models.in_distribution import InDistribution, measure
from avlearn.tasks.synchronize.module import SynchronizeModule
from avlearn.tasks.synchronize.objective_folder import save_objective
from avlearn.tasks.task import Experiment
from avlearn.terminal import progress_line

_MOST = 256  # clips that in-distribution statistics are of, at most
_FEW = 64  # clips that they are of at least, if there are so many
_WINDOWS = 4  # of each clip, at most


def export(experiment: Experiment[SynchronizeModule], folder: Path, card: str) -> None:
    """See `Task.export`."""
    module = experiment.module
    model = module.model.eval()
    if not module.objective.frozen:
        scale = torch.as_tensor(module.objective.scale).item()
        model.config = model.config.model_copy(update={"score_scale": round(scale, 4)})
    model.in_distribution = _measure(model, experiment)
    save(model, folder, card)
    save_objective(module.objective, folder)


def _measure(model: AudioVisual, experiment: Experiment[SynchronizeModule]) -> dict[str, InDistribution]:
    """In-distribution statistics, from validation clips; from training clips if those are few.

    Of each clip several windows are looked at, the more the fewer clips there are.
    """
    clips: list[tuple[Clips, int]] = [(experiment.val, k) for k in range(min(len(experiment.val), _MOST))]
    clips += [(experiment.train, k) for k in range(min(len(experiment.train), _FEW - len(clips)))]
    each = max(_MOST // len(clips), 1)

    def windows(progress: Callable[[int, int], None]) -> Iterator[tuple[int, Tensor, Tensor]]:
        for number, (data, index) in enumerate(clips):
            for seed in range(min(each, _WINDOWS)):
                batch = experiment.collate([data[(index, index + seed * len(data), ())]])
                if "video" in batch:
                    yield number, batch["video"], batch["audio"]
            progress(number + 1, len(clips))

    # Minutes, where the video encoder is large and there is no GPU.
    with progress_line("in-distribution statistics: clips") as progress:
        return measure(model, windows(progress))
