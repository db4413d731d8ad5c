"""Linear classifiers on frozen towers."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.apply.embed import pooled_features
from avlearn.data.augment import augment_audio, augment_video
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.two_tower import frames_to_input
from avlearn.tasks.module import TaskModule


class RecognizeModule(TaskModule):
    """Trains the classifiers of a model by cross-entropy; nothing else learns.

    Features are standardised by running statistics of the training's batches, which `classifying_model` makes part of
    the classifiers.

    Args:
        model: towers and classifiers.
        augment: keyword arguments of `augment_video` and, as ``gain``, of `augment_audio`.
        seed: of all that is drawn; what a step draws depends on nothing else but the step and the process.
    """

    model: AudioVisual

    def __init__(self, model: AudioVisual, augment: Mapping[str, Any], seed: int) -> None:
        super().__init__(model, seed)
        self.augment = dict(augment)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("classifiers."))
        self.norms = nn.ModuleDict(
            {
                kind: nn.BatchNorm1d(layer.in_features, affine=False)
                for kind, layer in model.linear_classifiers().items()
            }
        )
        self.train()  # Lightning leaves modes as they are

    def train(self, mode: bool = True) -> "RecognizeModule":
        """Towers keep the statistics of their norms."""
        super().train(mode)
        self.model.eval()
        return self

    def scores(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """Class scores ``[B, classes]`` by ``video``, ``audio`` and ``both``.

        Args:
            video: ``[B, 3, T, H, W]`` in [0, 1].
            audio: ``[B, S]`` of the same seconds.
        """
        with torch.no_grad():
            seen, heard = self.model.video_features(video), self.model.audio_features(audio)
            steps = min(seen.shape[2], heard.shape[2])
            seen, heard = pooled_features(self.model, seen[:, :, :steps], heard[:, :, :steps])
        inputs = {"video": seen, "audio": heard, "both": torch.cat([seen, heard], 1)}
        return {kind: self.model.classifiers[kind](self.norms[kind](values)) for kind, values in inputs.items()}

    def _output(self, video: Tensor, audio: Tensor, classes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the classifiers' losses, and the accuracy of each."""
        scores = self.scores(video, audio)
        loss = torch.stack([F.cross_entropy(each, classes) for each in scores.values()]).sum()
        return loss, {f"top1_{kind}": (each.argmax(1) == classes).float().mean() for kind, each in scores.items()}

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor | None:
        """One step on ``video [B, T, H, W, 3]`` uint8, ``audio [B, S]``, ``class [B]``; None of less than two clips."""
        if len(batch.get("class", ())) < 2:  # too few for statistics
            return None
        generator = torch.Generator().manual_seed(hash((self.seed, self.global_step, self.global_rank)) & 0x7FFFFFFF)
        light = {key: value for key, value in self.augment.items() if key != "gain"}
        video = augment_video(frames_to_input(batch["video"]), generator, **light)
        audio = augment_audio(batch["audio"], generator, gain=self.augment["gain"])
        loss, logs = self._output(video, audio, batch["class"])
        self.log_dict({"loss": loss.detach(), **logs})
        return loss

    def try_batch(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, list[int]]]:
        """The loss of a training batch, and shapes of the scores."""
        video, audio = frames_to_input(batch["video"]), batch["audio"]
        shapes = {kind: list(each.shape) for kind, each in self.scores(video, audio).items()}
        return self._output(video, audio, batch["class"])[0], shapes

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """The loss on fixed windows of clips that are not trained on."""
        if "class" not in batch:
            return
        loss, logs = self._output(frames_to_input(batch["video"]), batch["audio"], batch["class"])
        logs = {f"val_{name}": value for name, value in logs.items()}
        self.log_dict({"val_loss": loss, **logs}, batch_size=len(batch["class"]), sync_dist=True)

    @torch.no_grad()
    def classifying_model(self) -> AudioVisual:
        """A copy of the model whose classifiers take features as they are, not standardised."""
        model = deepcopy(self.model)
        for kind, layer in model.linear_classifiers().items():
            norm = cast(nn.BatchNorm1d, self.norms[kind])
            layer.weight.div_((norm.get_buffer("running_var") + norm.eps).sqrt())
            layer.bias.sub_(layer.weight @ norm.get_buffer("running_mean"))
        return model
