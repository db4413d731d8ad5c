"""Strong random changes for supervised training, batched on the device: what a clip is called survives them."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2


def rand_augment(video: Tensor, generator: torch.Generator, *, layers: int, magnitude: int) -> Tensor:
    """RandAugment (Cubuk et al., NeurIPS 2020): a few random changes of colour and geometry, the same in all frames.

    Args:
        video: float ``[B, 3, T, H, W]`` in [0, 1].
        generator: on the CPU; decides everything.
        layers: changes of a clip.
        magnitude: of the changes, from 0 to 30.
    """
    change = v2.RandAugment(layers, magnitude, fill=0.5)
    changed = []
    with torch.random.fork_rng(devices=[]):
        for clip in video:
            torch.manual_seed(_seed(generator))
            changed.append(change(clip.transpose(0, 1)).transpose(0, 1))
    return torch.stack(changed).clamp_(0, 1)


def random_erasing(video: Tensor, generator: torch.Generator, *, share: float) -> Tensor:
    """Random erasing (Zhong et al., AAAI 2020): a box of noise in a share of the clips, at one place in all frames.

    Args:
        video: float ``[B, 3, T, H, W]`` in [0, 1].
        generator: on the CPU; decides everything.
        share: of clips that are changed.
    """
    erase = v2.RandomErasing(share, value="random")
    changed = []
    with torch.random.fork_rng(devices=[]):
        for clip in video:
            torch.manual_seed(_seed(generator))
            frames = erase(clip.permute(1, 0, 2, 3).flatten(0, 1)[None])  # frames are channels: one box for all
            changed.append(frames[0].unflatten(0, (-1, 3)).transpose(0, 1))
    return torch.stack(changed).clamp_(0, 1)


def spec_augment(spectrogram: Tensor, generator: torch.Generator, *, bands: int, frames: int) -> Tensor:
    """SpecAugment (Park et al., Interspeech 2019) without warping: a stripe of bands and one of frames become the mean.

    Args:
        spectrogram: ``[B, 1, F, N]``.
        generator: on the CPU; decides everything.
        bands, frames: widest stripes; 0 for none.
    """
    for dim, widest in ((2, bands), (3, frames)):
        length = spectrogram.shape[dim]
        drawn = torch.rand(2, len(spectrogram), generator=generator).to(spectrogram.device)
        width = (drawn[0] * (min(widest, length) + 1)).floor()
        first = (drawn[1] * (length - width + 1)).floor()
        place = torch.arange(length, device=spectrogram.device)
        hidden = (place >= first[:, None]) & (place < (first + width)[:, None])
        hidden = hidden.view(len(spectrogram), 1, *((-1, 1) if dim == 2 else (1, -1)))
        spectrogram = torch.where(hidden, spectrogram.mean((2, 3), keepdim=True), spectrogram)
    return spectrogram


@dataclass(frozen=True)
class Mix:
    """How clips of a batch are mixed in pairs, and their labels with them.

    Attributes:
        partner: ``[B]``, the clip that each is mixed with.
        share: of a clip's own labels that stay.
        box: left, top, right, bottom in pixels of what is the partner's; None: all pixels are averaged by ``share``.
    """

    partner: Tensor
    share: float
    box: tuple[int, int, int, int] | None = None

    def of_video(self, video: Tensor) -> Tensor:
        """``[B, 3, T, H, W]``."""
        other = video[self.partner]
        if self.box is None:
            return video * self.share + other * (1 - self.share)
        left, top, right, bottom = self.box
        mixed = video.clone()
        mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        return mixed

    def of_audio(self, audio: Tensor) -> Tensor:
        """``[B, S]``: in proportion, whether the video is averaged or cut."""
        return audio * self.share + audio[self.partner] * (1 - self.share)

    def of_targets(self, targets: Tensor) -> Tensor:
        """``[B, classes]``."""
        return targets * self.share + targets[self.partner] * (1 - self.share)


def draw_mix(
    batch: int, size: tuple[int, int], generator: torch.Generator, *, mixup: float, cutmix: float
) -> Mix | None:  # fmt: skip
    """Draw mixup (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019), each in half of the batches where both.

    Args:
        batch: clips.
        size: rows and columns of the frames.
        generator: on the CPU; decides everything.
        mixup, cutmix: parameter of the beta distribution of the share; 0 for none.
    """
    wanted = [(kind, alpha) for kind, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha]
    if not wanted:
        return None
    kind, alpha = wanted[int(torch.randint(len(wanted), (), generator=generator))]
    # A beta variable of two equal parameters, by two gamma variables.
    drawn = torch._standard_gamma(torch.full((2,), float(alpha)), generator=generator)
    share = float(drawn[0] / drawn.sum().clamp(min=1e-12))
    partner = torch.randperm(batch, generator=generator)
    if kind == "mixup":
        return Mix(partner, share)
    rows, columns = size
    height, width = (round(side * (1 - share) ** 0.5) for side in size)
    top = int(torch.randint(rows - height + 1, (), generator=generator))
    left = int(torch.randint(columns - width + 1, (), generator=generator))
    return Mix(partner, 1 - height * width / (rows * columns), (left, top, left + width, top + height))


def soften(targets: Tensor, smoothing: float) -> Tensor:
    """Label smoothing (Szegedy et al., CVPR 2016): ``[B, classes]`` with a share spread over all classes."""
    return targets * (1 - smoothing) + smoothing / targets.shape[1]


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=generator))
