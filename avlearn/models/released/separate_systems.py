"""Released separators as the tools use them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from avlearn.device import computing_in
from avlearn.models.released import visualvoice
from avlearn.models.released.localizers import prepare_image
from avlearn.models.released.separators import (
    WINDOW,
    ReleasedSeparator,
    load_clipsep,
    load_co_separation,
    load_sound_of_pixels,
)
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import load_all_weights
from avlearn.models.weights.importers.layout import Tensors, released_shapes


class SeparatorSystem:
    """A separator of the Sound of Pixels family, of windows of 65,535 samples.

    Args:
        network: the separator.
        looks: seconds from a window's middle at which sources are looked at.
        cropped: whether the middle square of what is seen of a source is shown to it; else it is squeezed.
        embed: embeddings ``[1, K, D]`` of what is seen, ``[1, K, T, 3, 224, 224]``; by default the separator's own.
        title, device, precision: as of `avlearn.models.released.systems.SeparateSystem`.
    """

    samples, faces, gaps = WINDOW, False, False

    def __init__(
        self,
        network: ReleasedSeparator,
        looks: tuple[float, ...],
        cropped: bool,
        title: str,
        device: torch.device,
        precision: torch.dtype | None,
        embed: Callable[[Tensor], Tensor] | None = None,
    ):
        self.network, self.looks, self.title = network.to(device), looks, title
        self._embed = embed or network.embed_condition
        self.device, self.precision = device, precision
        self._paper = "LVS" if cropped else "EZ-VSL"  # whose frames are cut, or squeezed, in the same way
        self.sample_rate = network.sample_rate

    @torch.inference_mode()
    def separate_window(self, audio: Tensor, seen: list[list[np.ndarray]]) -> Tensor:
        """See `avlearn.models.released.systems.SeparateSystem`; masks of all sources add up to one at most."""
        shown = torch.stack([torch.cat([self._image(frame) for frame in frames]) for frames in seen])[None]
        shown = shown if len(self.looks) > 1 else shown[:, :, 0]

        def compute(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
            with computing_in(self.precision, self.device):
                found = function(*inputs)
            return found.float()

        embedding = compute(self._embed, shown)
        return self.network.split(
            audio.to(self.device), lambda bands: compute(self.network.masks, bands, embedding)
        ).cpu()

    def _image(self, frame: np.ndarray) -> Tensor:
        return prepare_image(_frame(frame, self.device), self._paper)


class VisualVoiceSystem:
    """VisualVoice, of windows of 2.55 s: the motion of a mouth, 25 frames a second, and a face."""

    sample_rate, samples, faces, gaps = visualvoice.SAMPLE_RATE, visualvoice.SAMPLES, True, False
    looks = tuple(
        (number - visualvoice.FRAMES / 2 + 0.25) / visualvoice.FRAME_RATE for number in range(visualvoice.FRAMES)
    )

    def __init__(
        self, network: visualvoice.VisualVoice, title: str, device: torch.device, precision: torch.dtype | None
    ):
        self.network, self.title = network.to(device), title
        self.device, self.precision = device, precision

    @torch.inference_mode()
    def separate_window(self, audio: Tensor, seen: list[list[np.ndarray]]) -> Tensor:
        """See `avlearn.models.released.systems.SeparateSystem`."""
        mouths = torch.from_numpy(np.stack([np.stack(frames[:-1]) for frames in seen])).to(self.device)
        faces = torch.cat([_frame(frames[-1], self.device) for frames in seen])
        with computing_in(self.precision, self.device):
            found = self.network.split(
                audio.to(self.device), mouths[None].float() / 255, prepare_image(faces, "EZ-VSL")[None]
            )
        return found.float().cpu()


def _frame(frame: np.ndarray, device: torch.device) -> Tensor:
    """``[1, 3, H, W]`` in [0, 1]."""
    return torch.from_numpy(frame).to(device).permute(2, 0, 1)[None].float() / 255


def open_visualvoice(
    lipreading: Path, facial: Path, unet: Path, *, title: str, device: torch.device, precision: torch.dtype | None
) -> VisualVoiceSystem:
    """VisualVoice from its files."""
    return VisualVoiceSystem(visualvoice.load_visualvoice(lipreading, facial, unet), title, device, precision)


def open_sound_of_pixels(
    sound: Path, frame: Path, synthesizer: Path, *, title: str, device: torch.device, precision: torch.dtype | None
) -> SeparatorSystem:
    """Sound of Pixels from its files: three frames of each source, 3 s apart."""
    network = load_sound_of_pixels(sound, frame, synthesizer)
    return SeparatorSystem(network, (-3.0, 0.0, 3.0), True, title, device, precision)


class ClipImages(nn.Module):
    """CLIP's ViT-B/32 of images (Radford et al., ICML 2021): ``[..., 3, 224, 224]`` in [0, 1] to ``[..., 512]``."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.network = timm.create_model("vit_base_patch32_clip_quickgelu_224", pretrained=False, num_classes=512)
        self.register_buffer("mean", torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(((images - self.mean) / self.std).flatten(0, -4))
        return found.unflatten(0, images.shape[:-3])


@released_shapes("CLIP")
def load_clip_images(source: Path | Tensors) -> ClipImages:
    """CLIP's image encoder by timm's names, in evaluation mode.

    Raises:
        ModelError: the file cannot be read, parameters are missing, or tensors are left over.
    """
    tensors = source if isinstance(source, dict) else read_tensors(source)
    model = ClipImages()
    load_all_weights(model, {f"network.{name}": tensor for name, tensor in tensors.items()}, "CLIP")
    return model.eval()


def open_clipsep(
    separator: Path, images: Path, *, title: str, device: torch.device, precision: torch.dtype | None
) -> SeparatorSystem:
    """CLIPSep from its file and CLIP's: the mean embedding of three frames of each source, 2 s apart."""
    network, clip = load_clipsep(separator), load_clip_images(images).to(device)

    def embed(shown: Tensor) -> Tensor:
        return network.embed_condition(clip(shown).mean(2))

    return SeparatorSystem(network, (-2.0, 0.0, 2.0), True, title, device, precision, embed)


def open_co_separation(
    visual: Path, unet: Path, *, title: str, device: torch.device, precision: torch.dtype | None
) -> SeparatorSystem:
    """Co-Separation from its files: an image of each source."""
    return SeparatorSystem(load_co_separation(visual, unet), (0.0,), False, title, device, precision)
