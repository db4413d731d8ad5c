"""Supervised training of a recognizer."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.data.augment import augment_audio, draw_change
from avlearn.data.strong_augment import draw_mix, rand_augment, random_erasing, soften, spec_augment
from avlearn.errors import RecipeError
from avlearn.models.depth import HEAD, is_classifier, layers_of
from avlearn.models.recognizer import Recognizer
from avlearn.models.two_tower import frames_to_input
from avlearn.tasks.module import TaskModule
from avlearn.tasks.recognize.balance import lead, slow_the_leader
from avlearn.tasks.recognize.recipe import RecognizeRecipe

ALL = "all"  # layers, of ``recognize.freeze``
_NORMS = (nn.modules.batchnorm._BatchNorm,)


class RecognizeModule(TaskModule):
    """Trains encoders and classifier by cross-entropy.

    Args:
        model: with the weights that it starts from.
        recipe: of the training.
        weights: of the classes, ``[classes]``.
        clip_weights: of the training clips, ``[N]``.
    """

    model: Recognizer

    def __init__(
        self,
        model: Recognizer,
        recipe: RecognizeRecipe,
        weights: Tensor | None = None,
        clip_weights: Tensor | None = None,
    ) -> None:
        super().__init__(model, recipe.seed)
        self.recipe = recipe
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("clip_weights", clip_weights, persistent=False)
        self.layers = {kind: layers_of(encoder) for kind, encoder in model.encoders.items()}
        self._freeze()
        self._scales = self._rate_scales()
        self._ahead: Tensor | None = None
        self.train()  # Lightning leaves modes as they are

    def _freeze(self) -> None:
        """Take the gradient from the layers that do not learn."""
        frozen = self.recipe.recognize.freeze
        known = [layer for layers in self.layers.values() for layer in layers if layer != HEAD]
        for name in frozen:
            if name != ALL and name not in known:
                raise RecipeError(f"recognize.freeze: there is no layer {name!r}; there are {', '.join(known)}, {ALL}")
        for kind, layers in self.layers.items():
            encoder = self.model.encoders[kind]
            for layer, names in layers.items():
                for name in names:
                    if layer in frozen or (ALL in frozen and not is_classifier(name)):
                        encoder.get_parameter(name).requires_grad_(False)

    def _rate_scales(self) -> dict[str, float]:
        decay = self.recipe.optimizer.layer_decay
        if decay is None:
            return {}
        return {
            f"model.{kind}.{name}": decay ** (len(layers) - 1 - depth)
            for kind, layers in self.layers.items()
            for depth, names in enumerate(layers.values())
            for name in names
        }

    def rate_scale(self, name: str) -> float:
        """Lower, the nearer a layer is to the input (Clark et al., ICLR 2020; BEiT, Bao et al., ICLR 2022)."""
        return self._scales.get(name, 1.0)

    def configure_callbacks(self) -> list[Callback]:
        """The moving average of the weights, where the recipe has one."""
        decay = self.recipe.optimizer.ema
        return [] if decay is None else [EMAWeightAveraging(decay=decay)]

    def train(self, mode: bool = True) -> "RecognizeModule":
        """Norms of what does not learn, or of all where the recipe says so, keep their statistics."""
        super().train(mode)
        said = self.recipe.recognize
        for encoder in self.model.encoders.values():
            for part in encoder.modules():
                still = said.frozen_norms or any(not p.requires_grad for p in part.parameters(recurse=False))
                if isinstance(part, _NORMS) and (still or ALL in said.freeze):
                    part.eval()
        return self

    def loss(self, scores: Tensor, targets: Tensor, clips: Tensor | None = None) -> Tensor:
        """Cross-entropy, or of multi-label clips the binary one of each class.

        Args:
            scores: ``[B, classes]``.
            targets: ``[B, classes]``, shares of each.
            clips: their numbers among the training clips, ``[B]``, where these have weights.
        """
        weights = self.class_weights if isinstance(self.class_weights, Tensor) else None
        if self.recipe.recognize.multi_label:
            return F.binary_cross_entropy_with_logits(scores, targets, weights)
        each = -(targets * scores.log_softmax(1))
        if isinstance(self.clip_weights, Tensor) and clips is not None:
            return (each.sum(1) * self.clip_weights[clips]).mean()
        if weights is None:
            return each.sum(1).mean()
        return (each * weights).sum() / (targets * weights).sum()

    def _generator(self, what: str) -> torch.Generator:
        seed = hash((self.seed, self.global_step, self.global_rank, *map(ord, what))) & 0x7FFFFFFF
        return torch.Generator().manual_seed(seed)

    def _augmented(self, batch: dict[str, Any]) -> tuple["_Given", Tensor]:
        """Inputs and targets of a training batch, changed at random."""
        said, generator = self.recipe.augment, self._generator("augment")
        video, audio, flow = _given(batch)
        seen = flow if video is None else video
        if seen is not None:
            change = draw_change(
                len(seen), seen.device, generator, flip=said.flip, brightness=said.brightness, contrast=said.contrast,
                colour=said.colour, zoom=said.zoom,
            )  # fmt: skip
            video, flow = (
                None if video is None else change.of_video(video),
                None if flow is None else change.of_flow(flow),
            )
        if video is not None:
            if said.rand_layers:
                video = rand_augment(video, generator, layers=said.rand_layers, magnitude=said.rand_magnitude)
            if said.erase:
                video = random_erasing(video, generator, share=said.erase)
        if audio is not None:
            audio = augment_audio(audio, generator, gain=said.gain)
        targets = soften(batch["labels"].float(), self.recipe.recognize.smoothing)
        size = (1, 1) if seen is None else (seen.shape[-2], seen.shape[-1])
        mix = draw_mix(len(targets), size, generator, mixup=said.mixup, cutmix=said.cutmix if seen is not None else 0)
        if mix is not None:
            video = None if video is None else mix.of_video(video)
            flow = None if flow is None else mix.of_video(flow)
            audio = None if audio is None else mix.of_audio(audio)
            targets = mix.of_targets(targets)
        return (video, audio, flow), targets

    def _features(self, given: "_Given") -> dict[str, Tensor]:
        """Of a training batch, whose spectrograms are masked."""
        said, (video, audio, flow) = self.recipe.augment, given
        change: Callable[[Tensor], Tensor] | None = None
        if audio is not None and (said.mask_bands or said.mask_frames):
            generator = self._generator("mask")

            def change(spectrogram: Tensor) -> Tensor:
                return spec_augment(spectrogram, generator, bands=said.mask_bands, frames=said.mask_frames)

        return self.model.features(video, audio, change, flow)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor | None:
        """One step; None where no clip of the batch could be read."""
        if "labels" not in batch:
            return None
        given, targets = self._augmented(batch)
        features = self._features(given)
        scores = self.model.classify(features)
        if self.recipe.recognize.balance == "ogm_ge":
            with torch.no_grad():
                self._ahead = lead(self.model.contributions(features), batch["labels"].float())
        labelled = batch["labels"].any(1) | self.recipe.recognize.multi_label
        loss = self._all_losses(features, scores, targets, batch["index"], labelled)
        logs = {"loss": loss.detach()}
        if labelled.any():
            logs["top1"] = _top1(scores[labelled], batch["labels"][labelled])
        self.log_dict(logs)
        return loss

    def _all_losses(
        self, features: dict[str, Tensor], scores: Tensor, targets: Tensor, clips: Tensor, labelled: Tensor
    ) -> Tensor:
        """The loss of scores, and what a fusion network learns besides; of clips without labels what it learns so."""
        fusion, learned = self.model.fusion, [(1.0, scores)]
        if fusion is not None:
            learned += fusion.further_scores(features).values()
        loss = scores.sum() * 0
        if labelled.any():
            for weight, values in learned:
                loss = loss + weight * self.loss(values[labelled].float(), targets[labelled], clips[labelled])
        if fusion is not None and not labelled.all():
            loss = loss + fusion.unlabelled_loss(features, ~labelled)
        return loss

    def on_after_backward(self) -> None:
        """Balance video and audio."""
        if self._ahead is not None:
            ahead = self.trainer.strategy.reduce(self._ahead, reduce_op="mean")
            slow_the_leader(self.model, torch.as_tensor(ahead), self._generator("noise"))
            self._ahead = None

    def _scores(self, batch: dict[str, Any]) -> Tensor:
        video, audio, flow = _given(batch)
        return self.model.classify(self.model.features(video, audio, flow=flow))

    def try_batch(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, list[int]]]:
        """The loss of a training batch, and shapes of its features and scores."""
        video, audio, flow = _given(batch)
        features = self.model.features(video, audio, flow=flow)
        scores = self.model.classify(features)
        shapes = {kind: list(values.shape) for kind, values in {**features, "scores": scores}.items()}
        return self.loss(scores, batch["labels"].float()), shapes

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """The loss on the middles of clips that are not trained on."""
        if "labels" not in batch:
            return
        scores = self._scores(batch)
        logs = {"val_loss": self.loss(scores, batch["labels"].float()), "val_top1": _top1(scores, batch["labels"])}
        self.log_dict(logs, batch_size=len(scores), sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the labels, whose order the classifier has."""
        checkpoint["labels"] = list(self.model.config.labels)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise RecipeError where a checkpoint is of other labels."""
        theirs, ours = checkpoint.get("labels", []), list(self.model.config.labels)
        if theirs != ours:
            odd = next(iter(sorted(set(theirs) ^ set(ours))), "")
            raise RecipeError(
                f"the checkpoint has {len(theirs)} labels and the training clips {len(ours)}"
                + (f"; {odd!r} is in one of the two alone" if odd else ", in another order")
            )


_Given = tuple[Tensor | None, Tensor | None, Tensor | None]  # video, audio, flow


def _given(batch: dict[str, Any]) -> _Given:
    """What a batch holds of video ``[B, 3, T, H, W]``, audio ``[B, S]``, and flow ``[B, 2, T - 1, H, W]`` in pixels."""
    video = frames_to_input(batch["video"]) if "video" in batch else None
    return video, batch.get("audio"), batch.get("flow")


def _top1(scores: Tensor, labels: Tensor) -> Tensor:
    """Share of clips whose best score is of one of their labels ``[B, classes]``."""
    return labels.gather(1, scores.argmax(1, keepdim=True)).float().mean()
