"""From a recipe to what is trained."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from avlearn.data.clips import ClipDataset, Clips, WindowRule, collate
from avlearn.data.manifest import Row
from avlearn.data.sampling import Pick
from avlearn.errors import DataError
from avlearn.tasks.clips import NAMES, decode_clips, list_clips, origin, usable_clips
from avlearn.tasks.recognize.module import RecognizeModule
from avlearn.tasks.recognize.recipe import RecognizeRecipe
from avlearn.tasks.task import Experiment
from avlearn.tasks.towers import trained_towers

_FEWEST = 2  # classes


class LabelledClips(Dataset[dict[str, Any]]):
    """Windows of clips with ``class``, the place of their one label among ``names``."""

    def __init__(self, clips: ClipDataset, names: Sequence[str]):
        self.clips = clips
        self.classes = [names.index(row.labels[0]) for row in clips.rows]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        item = self.clips[pick]
        return item if "skipped" in item else {**item, "class": self.classes[pick[0]]}


def build(recipe: RecognizeRecipe, sample: tuple[int, int] | None = None) -> Experiment[RecognizeModule]:
    """See `Task.build`."""
    words = origin(recipe)
    towers = trained_towers(recipe, words, recipe.recognize.base)
    config = towers.config
    rule = WindowRule(config.fps, config.size, config.sample_rate, recipe.clip.seconds, 0.0, towers.step)
    listed = [
        (labelled_clips(usable_clips(rows, name, recipe.data.exclude, rule), name), len(rows), every)
        for name, (rows, every) in zip(NAMES, list_clips(recipe, sample), strict=True)
    ]
    names = sorted({row.labels[0] for row in listed[0][0]})
    if len(names) < _FEWEST:
        raise DataError(f"all training clips have the label {names[0]!r}: recognition takes clips of several classes")
    data: list[Clips] = []
    left_out, counts = 0, []
    for k, (name, (rows, looked_at, every)) in enumerate(zip(NAMES, listed, strict=True)):
        rows = [row for row in rows if row.labels[0] in names]
        if not rows:
            raise DataError(f"no {name} clip has a label of a training clip")
        counts.append(round(len(rows) / looked_at * every))
        rows, cache = rows[: sample[k]] if sample else rows, None
        if recipe.data.cache:
            rows, cache = decode_clips(recipe, rows, name)
            left_out += len(cache.bad) if name == "training" else 0
        data.append(LabelledClips(ClipDataset(rows, rule, cache, "skip", recipe.data.buffer), names))
    module = RecognizeModule(towers.with_heads(labels=tuple(names)), recipe.augment.model_dump(), recipe.seed)
    clips = tuple(counts) if sample else (len(data[0]), len(data[1]))
    return Experiment(module, data[0], data[1], collate, words, left_out, clips)


def labelled_clips(rows: Sequence[Row], name: str) -> list[Row]:
    """Rows with one label.

    Raises:
        DataError: there is none.
    """
    found = [row for row in rows if len(row.labels) == 1]
    if not found:
        raise DataError(f"none of {len(rows)} {name} clips has one label, which recognition learns from")
    return found
