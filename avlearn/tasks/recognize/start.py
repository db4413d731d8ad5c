"""What a recognizer starts from: a trained model, or released weights."""

import sys
from typing import Any

import torch
from torch import nn

from avlearn.config import Encoders, ModelConfig, RecognizerConfig
from avlearn.errors import ModelError, RecipeError
from avlearn.models.depth import is_classifier
from avlearn.models.encoder import Encoder
from avlearn.models.folder import load
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import load_recognizer, recognizer_folder
from avlearn.models.registry import create_model
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.recipe.schema import SpectrogramOptions
from avlearn.tasks.base import require_agreement
from avlearn.tasks.recognize.recipe import RecognizeRecipe
from avlearn.terminal import remark

_CLIP = ("fps", "size", "sample_rate", "seconds")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std of what networks for images were trained on
_ENCODERS = tuple(Encoders.model_fields)


def with_start(recipe: RecognizeRecipe, begun: RecognizeRecipe | None = None) -> RecognizeRecipe:
    """A recipe with what it leaves to its start: the base's encoders and clips, or what released weights need.

    Args:
        recipe: as it was composed.
        begun: the completed recipe of a run that is resumed, whose start may be gone.

    Raises:
        RecipeError: the recipe says that the base's encoders are otherwise; names the key.
        ModelError: there is no such start.
    """
    clip, model = _stated(recipe, begun)
    if recipe.model.base is not None:
        require_agreement(recipe.model, model, "model", f"model.base {recipe.model.base}")
    clip = {key: value for key, value in clip.items() if key not in recipe.clip.model_fields_set}
    return recipe.model_copy(
        update={"clip": recipe.clip.model_copy(update=clip), "model": recipe.model.model_copy(update=model)}
    )


def _stated(recipe: RecognizeRecipe, begun: RecognizeRecipe | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of clips and of encoders, what the start says."""
    if begun is not None:
        clip = {key: getattr(begun.clip, key) for key in _CLIP} if recipe.model.base else {}
        return clip, {key: getattr(begun.model, key) for key in _ENCODERS}
    if recipe.model.base is not None:
        config = _base(recipe.model.base).config
        model = {key: getattr(config, key) for key in _ENCODERS}
        model["spectrogram"] = SpectrogramOptions(**config.spectrogram.model_dump())
        return {key: getattr(config, key) for key in _CLIP}, model
    model = {}
    for kind in ("video", "audio"):
        source = getattr(recipe.model, f"{kind}_weights")
        if source is not None and recipe.recognize.inputs in (kind, "both"):
            model |= _needs(recipe, kind, source)
    if recipe.recognize.image_weights is not None and recipe.model.video_mean is None:
        model |= {"video_mean": IMAGENET[0], "video_std": IMAGENET[1]}
    return {}, model


def _base(name: str) -> Any:
    """The trained model of a name: a recognizer, or a model of two towers."""
    return load_recognizer(name) if recognizer_folder(name) else load(name)


def _released(recipe: RecognizeRecipe, kind: str, source: str) -> Encoder:
    return create_model(getattr(recipe.model, kind), weights=source, **getattr(recipe.model, f"{kind}_options"))


def _needs(recipe: RecognizeRecipe, kind: str, source: str) -> dict[str, Any]:
    """Options, and statistics of colours, that released weights bring; what the recipe says wins."""
    encoder = _released(recipe, kind, source)
    needs: dict[str, Any] = {
        f"{kind}_options": {**encoder.config["options"], **getattr(recipe.model, f"{kind}_options")}
    }
    if kind == "video" and recipe.model.video_mean is None and encoder.mean is not None and encoder.std is not None:
        needs |= {"video_mean": tuple(encoder.mean.tolist()), "video_std": tuple(encoder.std.tolist())}
    return needs


def initialize(model: Recognizer, recipe: RecognizeRecipe) -> None:
    """Give a recognizer what the recipe starts from, if anything. The classifier's rows are kept by their labels."""
    if recipe.model.base is not None:
        base = _base(recipe.model.base)
        config: ModelConfig | RecognizerConfig = base.config
        for kind, encoder in model.encoders.items():
            theirs = getattr(base, kind)
            if theirs is not None:
                _give(encoder, theirs.state_dict())
        if isinstance(config, RecognizerConfig):
            _keep_rows(model, base)
    if recipe.recognize.image_weights is not None and model.video is not None:
        _inflate(model.video, recipe.recognize.image_weights)
    for kind, encoder in model.encoders.items():
        source = getattr(recipe.model, f"{kind}_weights")
        if source is not None:
            released = _released(recipe, kind, source)
            _give(encoder, released.state_dict())
            if released.loaded is not None:
                said = f"{released.loaded.taken} tensors by the names of {released.loaded.layout}"
                print(f"model.{kind}_weights: {said}", file=sys.stderr)


def _inflate(encoder: Encoder, source: str) -> None:
    """Give an encoder the weights of a network for images.

    Raises:
        RecipeError: the file does not fit, or the encoder is on the plan of no such network.
    """
    from avlearn.models.video.inflate import load_image_weights  # loads timm

    try:
        own = getattr(encoder, "load_image_weights", None)
        if own is not None:
            own(read_tensors(source))
        else:
            load_image_weights(encoder, source)
    except (KeyError, ModelError, RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise RecipeError(f"recognize.image_weights: {source} does not fit: {said}") from error


def _give(encoder: Encoder, weights: dict[str, torch.Tensor]) -> None:
    """All weights but those of the classifier."""
    own = encoder.state_dict()
    kept = {name: value for name, value in own.items() if is_classifier(name)}
    body = {name: value for name, value in weights.items() if name in own and name not in kept}
    encoder.load_state_dict({**body, **kept})


def _keep_rows(model: Recognizer, base: Recognizer) -> None:
    """Rows of a linear classifier whose labels both have."""
    shared = [name for name in model.config.labels if name in base.config.labels]
    ours, theirs = _linear(model), _linear(base)
    if ours is None or theirs is None or ours.in_features != theirs.in_features:
        shared = []
    if ours is not None and theirs is not None and shared:
        to = [model.config.labels.index(name) for name in shared]
        of = [base.config.labels.index(name) for name in shared]
        with torch.no_grad():
            ours.weight[to], ours.bias[to] = theirs.weight[of], theirs.bias[of]
    new = len(model.config.labels) - len(shared)
    if new:
        remark(f"model.base: of {len(model.config.labels)} labels {new} are new to its classifier")


def _linear(model: Recognizer) -> nn.Linear | None:
    if model.classifier is not None:
        return model.classifier
    ((_, encoder),) = model.encoders.items()
    return encoder.classifier if isinstance(encoder.classifier, nn.Linear) else None
