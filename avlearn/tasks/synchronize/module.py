"""Self-supervised pretraining of the two towers by synchronization."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F

from avlearn.data.augment import augment_audio, draw_change
from avlearn.distributed import average_whole, clip_by_norm, shard, smallest_count
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.two_tower import frames_to_input
from avlearn.objectives.objective import EmbeddedBatch, Objective, ObjectiveOutput
from avlearn.tasks.module import TaskModule
from avlearn.tasks.synchronize.microbatches import SavedBuffers, in_parts
from avlearn.tasks.towers import LEARNED_KEYS


class SynchronizeModule(TaskModule):
    """The two-tower model under an objective.

    Args:
        model: the two towers.
        objective: embeddings and offsets to a loss.
        augment: keyword arguments of `draw_change` and, as ``gain``, of `augment_audio`.
        seed: of all that is drawn; what a step draws depends on nothing else but the step and the process.

    Attributes:
        accumulate: micro-batches in which the towers see a training batch.
        target: a copy of the model that follows it slowly, where the objective has a ``momentum``, else None (mean
            teacher: Tarvainen & Valpola, NeurIPS 2017). Buffers are its own, of what it has seen itself.
    """

    model: AudioVisual
    accumulate: int = 1

    def __init__(self, model: AudioVisual, objective: Objective[Any], augment: Mapping[str, Any], seed: int) -> None:
        super().__init__(model, seed)
        self.objective, self.augment = objective, dict(augment)
        self.target = None if objective.momentum is None else deepcopy(model).requires_grad_(False)

    def configure_towers(self, accumulate: int, checkpoint_activations: bool, compiled: bool) -> None:
        """Trade time for memory, or a wait at the start for speed.

        Args:
            accumulate: micro-batches, see `in_parts`.
            checkpoint_activations: of the towers' stages only the outputs are kept.
            compiled: the towers, by ``torch.compile``.
        """
        self.accumulate = accumulate
        for tower in (self.model.video, self.model.audio):
            tower.set_grad_checkpointing(checkpoint_activations)
            if compiled:
                vars(tower)["forward_features"] = torch.compile(tower.forward_features)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """How the towers are to be read is not among the weights."""
        checkpoint["read"] = {key: getattr(self.model.config, key) for key in LEARNED_KEYS}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse."""
        self.model.config = self.model.config.model_copy(update=checkpoint["read"])

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm over all weights, whether a process has them whole or in part."""
        if self.device_mesh is None or gradient_clip_val is None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip_by_norm(self.parameters(), gradient_clip_val)

    def configure_model(self) -> None:
        """Give the towers' weights away, where processes share them."""
        if self.device_mesh is not None:
            shard((self.model.video, self.model.audio), self.device_mesh["data_parallel"])

    def on_before_backward(self, loss: torch.Tensor) -> None:
        """What is computed a second time must not count twice."""
        self.buffers_before = SavedBuffers(self.model)

    def on_after_backward(self) -> None:
        """The buffers of the first time; and gradients that nothing else averages."""
        self.buffers_before.restore()
        if self.device_mesh is not None:
            average_whole(self.parameters())

    def embed(self, video: torch.Tensor, audio: torch.Tensor, batch: dict[str, Any]) -> EmbeddedBatch:
        """Embeddings of ``video [B, 3, T, H, W]`` in [0, 1] and ``audio [B, S]``, as `batch` has them."""
        offset = batch["offset"]
        if self.training:
            video, audio, offset = self.objective.transform(video, audio, offset)
        clip = batch["index"].repeat(len(offset) // len(batch["index"]))
        found = self._embed(self.model, video, audio, offset, clip)
        if self.target is None:
            return found
        with torch.no_grad():
            return replace(found, target=self._embed(self.target, video, audio, offset, clip))

    def _embed(
        self, model: AudioVisual, video: torch.Tensor, audio: torch.Tensor, offset: torch.Tensor, clip: torch.Tensor
    ) -> EmbeddedBatch:
        def features(video: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return model.video_features(video), model.audio_features(audio)

        if self.training and self.accumulate > 1:
            seen, heard = in_parts(features, self.accumulate, video, audio)
        else:
            seen, heard = features(video, audio)
        placed = model.project_video(F.dropout(seen, self.objective.dropout, self.training))
        return EmbeddedBatch(placed, model.project_audio(heard), offset, clip, seen, heard)

    @torch.no_grad()
    def _update_target(self) -> None:
        """Move the copy, where there is one, a step towards the model."""
        if self.target is None or self.objective.momentum is None:
            return
        for own, towards in zip(self.target.parameters(), self.model.parameters(), strict=True):
            own.lerp_(towards, 1 - self.objective.momentum)

    def output(self, video: torch.Tensor, audio: torch.Tensor, batch: dict[str, Any]) -> ObjectiveOutput:
        """Loss and logs of a batch."""
        return self.objective(self.embed(video, audio, batch))

    def _equalized(self, batch: dict[str, Any], seed: int) -> dict[str, Any]:
        """The batch cut to what all processes have, for negatives are gathered; draws anew from here on."""
        torch.manual_seed(hash((self.seed, seed, self.global_rank)) & 0x7FFFFFFF)
        count = smallest_count(len(batch.get("index", ())), self.device)
        return {k: v[:count] if isinstance(v, torch.Tensor) else v for k, v in batch.items()} if count else {}

    def training_step(self, batch: dict[str, Any], batch_index: int) -> torch.Tensor:
        """One step on ``video [B, T, H, W, 3]`` uint8, ``audio [B, S]``, ``offset [B]``, ``index [B]``."""
        generator = torch.Generator().manual_seed(hash((self.seed, self.global_step, self.global_rank)) & 0x7FFFFFFF)
        batch = self._equalized(batch, self.global_step)
        light = {k: v for k, v in self.augment.items() if k != "gain"}
        video = frames_to_input(batch["video"])
        video = draw_change(len(video), video.device, generator, **light).of_video(video)
        audio = augment_audio(batch["audio"], generator, gain=self.augment["gain"])
        self.objective.progress = self.global_step / self.trainer.max_steps
        self._update_target()
        output = self.output(video, audio, batch)
        self.log_dict({"loss": output.loss.detach(), **output.logs})
        return output.loss

    def try_batch(self, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, list[int]]]:
        """The loss of a training batch, and shapes of the embeddings."""
        video, audio = frames_to_input(batch["video"]), batch["audio"]
        shapes = {name: list(x.shape) for name, x in zip(("video", "audio"), self.model(video, audio), strict=True)}
        return self.output(video, audio, batch).loss, shapes

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """The loss on fixed windows of clips that are not trained on, as hard as it is at the end of the training."""
        self.objective.progress = 1.0
        batch = self._equalized(batch, -1 - batch_index)
        if not batch:
            return
        output = self.output(frames_to_input(batch["video"]), batch["audio"], batch)
        logs = {f"val_{k}": v for k, v in output.logs.items() if k != "scale"}
        count = len(batch["offset"])
        self.log_dict({"val_loss": output.loss, **logs}, batch_size=count, sync_dist=True)
