"""Self-supervised pretraining of the two towers by synchronization."""

import lightning
import torch

from avlearn.data.augment import augment_audio, augment_video
from avlearn.models.audiovisual import AudioVisual, frames_to_input
from avlearn.objectives.objective import Objective, ObjectiveOutput, Pair


class Pretrain(lightning.LightningModule):
    """The two-tower model under an objective.

    Args:
        model: the two towers.
        objective: features and offsets to a loss.
        augment: keyword arguments of `augment_video` and, as ``gain``, of `augment_audio`.
        optimizer: called with this module; gives what ``configure_optimizers`` returns.
        seed: of the augmentation.
    """

    def __init__(self, model: AudioVisual, objective: Objective, augment: dict, optimizer, seed: int):
        super().__init__()
        self.model, self.objective = model, objective
        self.augment, self.optimizer_of, self.seed = dict(augment), optimizer, seed

    def configure_optimizers(self) -> dict:
        """AdamW with its schedule."""
        return self.optimizer_of(self)

    def pair(self, video: torch.Tensor, audio: torch.Tensor, batch: dict) -> Pair:
        """What the towers give for ``video [B, 3, T, H, W]`` in [0, 1] and ``audio [B, S]``, as `batch` has them."""
        offset = batch["offset"]
        if self.training:
            video, audio, offset = self.objective.transform(video, audio, offset)
        seen, heard = self.model.video_features(video), self.model.audio_features(audio)
        clip = batch["index"].repeat(len(offset) // len(batch["index"]))
        return Pair(self.model.place(seen), self.model.hear(heard), offset, clip, seen, heard)

    def output(self, video: torch.Tensor, audio: torch.Tensor, batch: dict) -> ObjectiveOutput:
        """What the objective says of them."""
        return self.objective(self.pair(video, audio, batch))

    def training_step(self, batch: dict, batch_index: int) -> torch.Tensor:
        """One step on ``video [B, T, H, W, 3]`` uint8, ``audio [B, S]``, ``offset [B]``, ``index [B]``."""
        generator = torch.Generator().manual_seed(hash((self.seed, self.global_step, self.global_rank)) & 0x7FFFFFFF)
        light = {k: v for k, v in self.augment.items() if k != "gain"}
        video = augment_video(frames_to_input(batch["video"]), generator, **light)
        audio = augment_audio(batch["audio"], generator, gain=self.augment["gain"])
        self.objective.progress = self.global_step / self.trainer.max_steps
        output = self.output(video, audio, batch)
        self.log_dict({"loss": output.loss.detach(), **output.logs})
        return output.loss

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """The loss on fixed windows of clips that are not trained on, as hard as it is at the end of the training."""
        self.objective.progress = 1.0
        output = self.output(frames_to_input(batch["video"]), batch["audio"], batch)
        logs = {f"val_{k}": v for k, v in output.logs.items() if k != "scale"}
        count = len(batch["offset"])
        self.log_dict({"val_loss": output.loss, **logs}, batch_size=count, sync_dist=True)
