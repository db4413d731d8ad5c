"""From a recipe to what is trained."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from avlearn.config import RecognizerConfig
from avlearn.data.manifest import Row, select
from avlearn.data.world import WorldConfig
from avlearn.errors import RecipeError
from avlearn.models.recognizer import Recognizer
from avlearn.tasks.clips import NAMES, decode_clips, list_clips, origin, readable_clips, rows_of, world_of
from avlearn.tasks.recognize.audio_balance import audio_balanced_weights
from avlearn.tasks.recognize.clips import ClipRule, LabelledClips, collate_windows
from avlearn.tasks.recognize.known_flow import known_flow
from avlearn.tasks.recognize.labels import balanced_weights, class_names
from avlearn.tasks.recognize.module import RecognizeModule
from avlearn.tasks.recognize.recipe import RecognizeRecipe
from avlearn.tasks.recognize.start import initialize
from avlearn.tasks.task import Experiment
from avlearn.tasks.towers import encoder_settings
from avlearn.terminal import remark


def build(
    recipe: RecognizeRecipe, *, resumed: bool = False, sample: tuple[int, int] | None = None
) -> Experiment[RecognizeModule]:
    """See `Task.build`."""
    said, words = recipe.recognize, origin(recipe)
    needs = {"video": said.inputs != "audio", "audio": said.inputs != "video"}
    listed = [
        (readable_clips(rows, name, recipe.data.exclude, **needs), len(rows), every)
        for name, (rows, every) in zip(NAMES, list_clips(recipe, sample), strict=True)
    ]
    if sample and recipe.data.train is None:  # a part of a world has not all of its classes
        names = tuple(sorted(WorldConfig.preset(world_of(recipe).preset).classes))
    else:
        names = class_names(listed[0][0], listed[1][0], several=said.multi_label)
    model = Recognizer(recognizer_config(recipe, words, names))
    if not resumed:
        initialize(model, recipe)
    if said.unlabelled:
        if model.fusion is None or not model.fusion.learns_unlabelled:
            raise RecipeError(f"recognize.unlabelled: {said.fusion} learns nothing of clips without labels")
        rows, looked_at, every = listed[0]
        new = readable_clips(rows_of(said.unlabelled), "unlabelled", recipe.data.exclude, **needs)
        listed[0] = ([*rows, *(replace(row, labels=()) for row in new)], looked_at + len(new), every + len(new))
    rule = _rule(recipe)
    flow = known_flow(model, chain(listed[0][0], listed[1][0]), _other_flow(recipe))
    if flow is not None:
        # Frames are read only where the network sees them, too; of validation clips, to measure what they show.
        rule = replace(rule, flow=flow, sees=model.video is not None and model.video.takes == "video+flow")
    data: list[LabelledClips] = []
    left_out, counts = 0, []
    for k, (name, (rows, looked_at, every)) in enumerate(zip(NAMES, listed, strict=True)):
        counts.append(round(len(rows) / looked_at * every))
        rows, cache = rows[: sample[k]] if sample else rows, None
        _tell_of_short(rows, name, recipe)
        own = rule if name == "training" else replace(rule, random=False, repeats=1, sees=needs["video"])
        if recipe.data.cache:
            rows, cache = decode_clips(recipe, rows, name, **needs)
            left_out += len(cache.bad) if name == "training" else 0
        whole_shards = recipe.data.shard_buffer > 0
        data.append(LabelledClips(rows, names, own, cache, "skip", recipe.data.buffer, whole_shards))
    weights = balanced_weights(listed[0][0], names) if said.class_weights == "balanced" else None
    clip_weights = audio_balanced_weights(data[0]) if said.class_weights == "audio_balanced" and not sample else None
    module = RecognizeModule(model, recipe, weights, clip_weights)
    clips = tuple(counts) if sample else (len(data[0]), len(data[1]))
    return Experiment(module, data[0], data[1], collate_windows, words, left_out, clips)


def recognizer_config(recipe: RecognizeRecipe, origin: str, names: Sequence[str]) -> RecognizerConfig:
    """What the recipe's network is."""
    said = recipe.recognize
    return RecognizerConfig(
        **encoder_settings(recipe, tower=said.inputs == "both"),
        inputs=said.inputs, fusion=said.fusion, fusion_options=said.fusion_options, segments=said.segments,
        labels=tuple(names), multi_label=said.multi_label,
        trained_on=origin, fold=recipe.data.fold,
    )  # fmt: skip


def _other_flow(recipe: RecognizeRecipe) -> str:
    """What of a recipe makes frames of which flow that was computed before is not the flow."""
    said = {
        "recognize.segments": recipe.recognize.segments is not None,
        "augment.area": recipe.augment.area < 1,
        "augment.rand_layers": recipe.augment.rand_layers > 0,
        "augment.erase": recipe.augment.erase > 0,
    }
    return ", ".join(key for key, is_so in said.items() if is_so)


def _rule(recipe: RecognizeRecipe) -> ClipRule:
    clip, said = recipe.clip, recipe.recognize
    return ClipRule(
        clip.fps, clip.size, clip.sample_rate, clip.seconds, said.segments, said.inputs != "audio",
        said.inputs != "video", True, recipe.augment.area, recipe.augment.repeats,
    )  # fmt: skip


def _tell_of_short(rows: Sequence[Row], name: str, recipe: RecognizeRecipe) -> None:
    """Say how many clips go on with their last frame, or with silence."""
    seconds = 0.0 if recipe.recognize.segments and recipe.recognize.inputs == "video" else recipe.clip.seconds
    short = select(rows, "duration", (seconds - 1e-3).__gt__)
    if short:
        rest = {"video": "their last frame", "audio": "silence", "both": "their last frame, and silence"}
        shortest = min(short, key=lambda row: row.duration)
        remark(
            f"{len(short)} of {len(rows)} {name} clips are shorter than {seconds:g} s (clip.seconds) and go on with "
            f"{rest[recipe.recognize.inputs]}; the shortest, {shortest.name}, lasts {shortest.duration:.2f} s"
        )
