"""Self-supervised pretraining of the two towers by synchronization."""

import lightning
import torch
from torch import nn

from avlearn.data.augment import augment_audio, augment_video
from avlearn.models.audiovisual import AudioVisual, frames_to_input


class Pretrain(lightning.LightningModule):
    """The two-tower model under an objective.

    Args:
        model: the two towers.
        objective: features and offsets to a loss.
        augment: keyword arguments of `augment_video` and, as ``gain``, of `augment_audio`.
        optimizer: called with this module; gives what ``configure_optimizers`` returns.
        seed: of the augmentation.
    """

    def __init__(self, model: AudioVisual, objective: nn.Module, augment: dict, optimizer, seed: int):
        super().__init__()
        self.model, self.objective = model, objective
        self.augment, self.optimizer_of, self.seed = dict(augment), optimizer, seed

    def configure_optimizers(self) -> dict:
        """AdamW with its schedule."""
        return self.optimizer_of(self)

    def training_step(self, batch: dict, batch_index: int) -> torch.Tensor:
        """One step on ``video [B, T, H, W, 3]`` uint8, ``audio [B, S]``, ``offset [B]``."""
        generator = torch.Generator().manual_seed(hash((self.seed, self.global_step, self.global_rank)) & 0x7FFFFFFF)
        light = {k: v for k, v in self.augment.items() if k != "gain"}
        video = augment_video(frames_to_input(batch["video"]), generator, **light)
        audio = augment_audio(batch["audio"], generator, gain=self.augment["gain"])
        output = self.objective(*self.model(video, audio), batch["offset"])
        self.log_dict({"loss": output.loss.detach(), **output.logs})
        return output.loss

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """The loss on fixed windows of clips that are not trained on."""
        output = self.objective(*self.model(frames_to_input(batch["video"]), batch["audio"]), batch["offset"])
        logs = {f"val_{k}": v for k, v in output.logs.items() if k != "scale"}
        count = len(batch["offset"])
        self.log_dict({"val_loss": output.loss, **logs}, batch_size=count, sync_dist=True)
