"""The two towers of a recipe, and what they start from."""

import json
import sys
from collections.abc import Mapping
from math import isclose
from typing import Any

from avlearn.config import Encoders, ModelConfig, ModelInput, Spectrogram, Towers
from avlearn.errors import ModelError, RecipeError
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.encoder import Encoder
from avlearn.models.folder import load
from avlearn.models.registry import create_model, model_spec, time_options
from avlearn.recipe import Recipe
from avlearn.recipe.schema import Option

COARSE = 0.16  # seconds: longer steps than the smallest shift that objectives call wrong
LEARNED_KEYS = ("pool_scale", "score_scale", "common_space")  # of a model's configuration, what its training decides


def encoder_settings(recipe: Recipe, *, tower: bool = True) -> dict[str, Any]:
    """Fields of `ModelInput` and `Encoders` as a recipe has them; what it leaves open, as the audio encoder needs it.

    Args:
        recipe: whose sections ``clip`` and ``model`` say it.
        tower: the audio encoder stands beside one of video, and has the options that it is built with there.

    Raises:
        ModelError: an encoder is unknown, or of the other kind.
    """
    clip, options, usual = recipe.clip, recipe.model, Spectrogram()
    model_spec(options.video, "video")
    audio = model_spec(options.audio, "audio")
    heard = options.spectrogram.model_dump(exclude_none=True)
    if heard.get("kind", audio.front_end.get("kind", "log_mel")) == audio.front_end.get("kind", "log_mel"):
        heard = {**audio.front_end, **heard}
    if "n_fft" not in heard:  # the usual length, or the next power of two that holds the window
        samples = round(heard.get("window", usual.window) * clip.sample_rate)
        heard["n_fft"] = min(max(usual.n_fft, 1 << max(samples - 1, 0).bit_length()), 8192)
    return {
        **{key: getattr(clip, key) for key in ModelInput.model_fields},
        **{key: getattr(options, key) for key in Encoders.model_fields},
        "audio_options": {**(audio.tower if tower else {}), **options.audio_options},
        "spectrogram": Spectrogram(**heard),
    }


def model_config(recipe: Recipe, origin: str, keeping: Mapping[str, Option] | None = None) -> ModelConfig:
    """What the recipe's towers are, where it leaves things open as their encoders need them.

    ``resample`` is true where that is open: only the built model tells.

    Args:
        recipe: whose section ``model`` says it.
        origin: of the clips, in words.
        keeping: options of the video encoder, where the recipe says nothing of them.

    Raises:
        ModelError: an encoder is unknown, or of the other kind.
    """
    options = recipe.model
    said = {
        **encoder_settings(recipe),
        **{key: getattr(options, key) for key in Towers.model_fields if key not in Encoders.model_fields},
        "video_options": {**(keeping or {}), **options.video_options},
        "resample": options.resample is not False,
    }
    return ModelConfig(**said, trained_on=origin)


def build_model(recipe: Recipe, origin: str, keeping: Mapping[str, Option] | None = None) -> AudioVisual:
    """The recipe's towers, as they are before the training; arguments as of `model_config`."""
    model = AudioVisual(model_config(recipe, origin, keeping))
    if recipe.model.resample is None:
        model.config = model.config.model_copy(update={"resample": model.audio_step_differs})
    return model


def trained_towers(recipe: Recipe, origin: str, base: str | None) -> AudioVisual:
    """The model ``base``, or else the recipe's towers with what they start from."""
    if base is not None:
        return load(base)
    model = build_model(recipe, origin)
    initialize(model, recipe)
    return model


def coarse_steps(model: AudioVisual) -> list[str]:
    """A line for each encoder whose steps are too long for offsets to be measured, and what mends it."""
    config, said = model.config, []
    finer = time_options(config.video, config.fps).get("temporal_stride")
    if finer is not None and finer / config.fps <= COARSE:
        mend = f"model.video_options.temporal_stride={finer} keeps time"
    else:
        mend = "take more frames a second (clip.fps), or another encoder"
    for tower, step, how in (("video", model.step, mend), ("audio", model.audio_step, "take another encoder")):
        if step > COARSE + 1e-6:
            name = getattr(config, tower)
            said.append(f"model.{tower}: steps of {step * 1000:.0f} ms ({name}) are too coarse to measure sync: {how}")
    return said


def initialize(model: AudioVisual, recipe: Recipe) -> None:
    """Give a model what the recipe starts from, if anything."""
    if recipe.model.base is not None:
        _start_from(model, recipe.model.base)
    for tower in ("video", "audio"):
        source = getattr(recipe.model, f"{tower}_weights")
        if source is not None:
            _start_released(model, tower, source)


def _start_released(model: AudioVisual, tower: str, source: str) -> None:
    """Give a tower released weights; the recipe must say what they need besides."""
    key, encoder, config = f"model.{tower}_weights", getattr(model, tower), model.config
    options = getattr(config, f"{tower}_options")
    try:
        released = create_model(getattr(config, tower), weights=source, **options)
    except ModelError as error:
        raise RecipeError(f"{key}: {error}") from error
    needs = {f"{tower}_options.{k}": value for k, value in released.config["options"].items() if k not in options}
    theirs = _statistics(released)
    if theirs != _statistics(encoder):
        if tower == "video":
            needs |= dict(zip(("video_mean", "video_std"), theirs, strict=True))
        else:
            # The front end standardises, where the encoder alone would have done it.
            needs |= {
                f"spectrogram.{k}": value
                for k, (value,) in zip(("mean", "std"), theirs, strict=True)
                if not isclose(value, getattr(config.spectrogram, k), rel_tol=1e-5)
            }
    if needs:
        words = " ".join(f"model.{k}={json.dumps(value, separators=(',', ':'))}" for k, value in needs.items())
        raise RecipeError(f"{key}: the recipe must have what {source} needs besides: {words}")
    encoder.load_state_dict(released.state_dict())
    if released.loaded is not None:
        print(f"{key}: {released.loaded.taken} tensors by the names of {released.loaded.layout}", file=sys.stderr)


def _statistics(encoder: Encoder) -> tuple[list[float], list[float]]:
    """Mean and std of the channels, to the digits that single precision has; of none, empty."""
    parts = ([] if part is None else part.tolist() for part in (encoder.mean, encoder.std))
    mean, std = ([float(f"{value:.7g}") for value in part] for part in parts)
    return mean, std


def _start_from(model: AudioVisual, name_or_path: str) -> None:
    """Give a model the towers of another, by which it was built."""
    base = load(name_or_path)
    for part in ("video", "audio", "video_head", "audio_head"):
        getattr(model, part).load_state_dict(getattr(base, part).state_dict())
    model.config = model.config.model_copy(update={key: getattr(base.config, key) for key in LEARNED_KEYS})
