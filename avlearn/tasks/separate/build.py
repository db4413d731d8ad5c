"""From a recipe to what is trained."""

import torch

from avlearn.config import Separator
from avlearn.data.clips import ClipDataset, Clips, WindowRule, collate
from avlearn.data.manifest import select, value_counts
from avlearn.data.mixing import Mixing
from avlearn.errors import DataError
from avlearn.tasks.clips import NAMES, decode_clips, list_clips, origin, usable_clips
from avlearn.tasks.separate.module import SeenClips, SeparateModule, SeparationLoss
from avlearn.tasks.separate.recipe import SeparateRecipe
from avlearn.tasks.task import Experiment
from avlearn.tasks.towers import trained_towers


def build(recipe: SeparateRecipe, sample: tuple[int, int] | None = None) -> Experiment[SeparateModule]:
    """See `Task.build`."""
    words = origin(recipe)
    settings = recipe.separator
    towers = trained_towers(recipe, words, settings.base)
    separator = Separator(**settings.model_dump(include=set(Separator.model_fields)))
    model = towers.with_heads(separator=separator, common_space=settings.base is not None)
    if settings.train_video:  # what was measured and trained on its features is of no use for others
        model = model.with_heads(labels=())
        model.in_distribution = {}
    model.eval()  # video is encoded as it will be, and the towers' norms stay
    config = model.config
    rule = WindowRule(config.fps, config.size, config.sample_rate, recipe.clip.seconds, 0.0, model.step)
    data: list[Clips] = []
    left_out, counts, estimated = 0, [], False
    for k, (name, (rows, every)) in enumerate(zip(NAMES, list_clips(recipe, sample), strict=True)):
        looked_at, rows = len(rows), usable_clips(rows, name, recipe.data.exclude, rule)
        # A mixture's truth is a clip's own audio: what is not seen of it should not be there.
        if any(value_counts(rows, "truth")):
            rows = select(
                rows, "flags", lambda of: "offscreen" not in of and (settings.places > 1 or "sources:1" in of)
            )
        if len(rows) < settings.sources:
            raise DataError(f"{len(rows)} {name} clips are too few for mixtures of {settings.sources}")
        counts.append(round(len(rows) / looked_at * every))
        estimated |= sample is not None and len(rows) < looked_at
        rows, cache = rows[: sample[k]] if sample else rows, None
        if recipe.data.cache:
            rows, cache = decode_clips(recipe, rows, name)
            left_out += len(cache.bad) if name == "training" else 0
        clips = ClipDataset(rows, rule, None, "skip", recipe.data.buffer, recipe.data.shard_buffer > 0)
        if cache:
            labels = torch.stack([clips.labels_of(k) for k in range(len(rows))])
            data.append(SeenClips(model, cache, labels, recipe.clip.seconds))
        else:
            data.append(clips)
    loss = SeparationLoss(settings.loss, settings.alone_share, settings.places)
    mixing = Mixing(settings.sources, settings.same_class_share, settings.offscreen_share)
    augment = recipe.augment.model_dump(exclude={"gain"})
    module = SeparateModule(model, loss, mixing, augment, recipe.seed, settings.train_video)
    there = tuple(counts) if sample else (len(data[0]), len(data[1]))
    return Experiment(module, data[0], data[1], collate, words, left_out, there, estimated)
