"""Separators of the Sound of Pixels family: of a mixture, what belongs to each of the things that are seen.

A U-Net gives masks of the mixture's magnitudes, on 256 frequencies that lie at equal ratios. The papers differ in what
is seen and in how it leads the U-Net:

- Sound of Pixels (Zhao et al., ECCV 2018): frames, whose features weigh the channels of the U-Net.
- CLIPSep (Dong et al., ICLR 2023): the same by CLIP's embedding of an image.
- Co-Separation (Gao & Grauman, ICCV 2019): an image of the thing, whose feature enters the U-Net at its bottom.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import load_all_weights
from avlearn.models.weights.importers.layout import Rename, Tensors, released_shapes, renamed

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BANDS = 256
WINDOW = 65535  # samples that are separated at once
_HOP = 256
_SHARED = 32  # channels that Sound of Pixels' networks have in common
_WIDTHS = (64, 128, 256, 512, 512, 512, 512)


def log_bands(magnitude: Tensor) -> Tensor:
    """Logarithm of ``[B, F, N]`` on frequencies at equal ratios, ``[B, 256, N]``; they span a factor of 21 about."""
    y = torch.linspace(-1, 1, _BANDS, dtype=torch.float64)
    return _warped(magnitude + 1e-10, (21 ** ((y + 1) / 2) - 11) / 10).log()


def linear_bins(masks: Tensor, bins: int) -> Tensor:
    """Masks on frequencies at equal ratios, ``[B, 256, N]``, back on those of a spectrum, ``[B, bins, N]``."""
    y = torch.linspace(-1, 1, bins, dtype=torch.float64)
    return _warped(masks, (10 * y + 11).log() / torch.tensor(21.0, dtype=torch.float64).log() * 2 - 1)


def _warped(maps: Tensor, y: Tensor) -> Tensor:
    """Rows of ``[B, F, N]`` at places from -1 to 1, the centres of the first and of the last.

    That is what the released weights were trained with: until torch 1.3, corners were aligned by default.
    """
    x = torch.linspace(-1, 1, maps.shape[2], dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).to(maps).expand(len(maps), -1, -1, -1)
    return F.grid_sample(maps.unsqueeze(1), grid, align_corners=True).squeeze(1)


def separate_windows(part: Callable[[int, Tensor], Tensor], mixture: Tensor, window: int, step: int) -> Tensor:
    """Sources of a mixture from those of its windows, which are averaged where they overlap.

    Args:
        part: gives the sources ``[B, K, window]`` from the sample that the window begins with, and the window.
        mixture: ``[B, S]``, no shorter than a window.
        window, step: samples; the last window ends with the mixture.

    Returns:
        ``[B, K, S]``.
    """
    last = mixture.shape[1] - window
    total, times = torch.zeros(()), mixture.new_zeros(mixture.shape[1])
    for start in (*range(0, last, step), last):
        padding = (start, last - start)
        total = total + F.pad(part(start, mixture[:, start : start + window]), padding)
        times += F.pad(mixture.new_ones(window), padding)
    return total / times


def resnet_features(channels: int = 3) -> nn.Sequential:
    """A ResNet-18 without its classifier: ``[B, channels, H, W]`` to ``[B, 512, H / 32, W / 32]``."""
    net = resnet18()
    net.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return nn.Sequential(*list(net.children())[:-2])


def down_block(inputs: int, outputs: int) -> nn.Sequential:
    """Half the size."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))


def up_block(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the size."""
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class ImageNetFeatures(nn.Module):
    """Features of images in [0, 1] by a network that expects ImageNet's statistics."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, 512, h, w]``."""
        return self.features((image - self.mean) / self.std)


class ReleasedSeparator(nn.Module):
    """Masks of a mixture for the things that are seen.

    Attributes:
        sample_rate: of the mixture, Hz.
        n_fft: samples of the transform and of its Hann window; windows are 256 samples apart.
        padding: what lies behind both ends of a window: what librosa's transform assumed at its time.
        step: samples between the windows of 65,535 that its evaluator separates.
        binary: whether its evaluator takes of a frequency all or nothing.
    """

    sample_rate = 11025
    n_fft = 1022
    padding = "reflect"
    step = WINDOW
    binary = True

    def embed_condition(self, condition: Tensor) -> Tensor:
        """The conditions of K things, ``[B, K, ...]``, to their embeddings ``[B, K, D]``."""
        raise NotImplementedError

    def masks(self, bands: Tensor, seen: Tensor) -> Tensor:
        """``[B, 256, N]`` of `log_bands`, N a multiple of 128, and of `embed_condition`, to ``[B, K, 256, N]``."""
        raise NotImplementedError

    def forward(self, magnitude: Tensor, condition: Tensor) -> Tensor:
        """Masks on frequencies at equal ratios.

        Args:
            magnitude: ``[B, n_fft / 2 + 1, N]`` of the mixture, N a multiple of 128.
            condition: of K things, as `separate` takes it.

        Returns:
            ``[B, K, 256, N]`` in [0, 1].
        """
        return self.masks(log_bands(magnitude), self.embed_condition(condition))

    @torch.no_grad()
    def separate(self, mixture: Tensor, condition: Tensor) -> Tensor:
        """The parts of a mixture that sound from what is seen, as the paper's evaluator finds them.

        It masks the mixture's magnitudes and keeps its phases. Evaluators mix by the mean, not by the sum.
        A mixture of less than 65,535 samples is repeated.

        Args:
            mixture: ``[B, S]`` at ``sample_rate``.
            condition: of K things: frames ``[B, K, T, 3, H, W]`` (Sound of Pixels), embeddings ``[B, K, 512]``
                (CLIPSep), images ``[B, K, 3, 224, 224]`` (Co-Separation). Pixels are RGB in [0, 1].

        Returns:
            ``[B, K, S]`` within [-1, 1].
        """
        samples = mixture.shape[1]
        mixture = mixture.repeat(1, -(-WINDOW // samples))[:, : max(samples, WINDOW)]
        part = partial(self._part, self.embed_condition(condition))
        return separate_windows(part, mixture, WINDOW, self.step)[..., :samples]

    def split(self, audio: Tensor, masks: Callable[[Tensor], Tensor]) -> Tensor:
        """The parts of one window whose channels share the masks, which add up to one at most.

        Args:
            audio: ``[C, 65535]`` at ``sample_rate``.
            masks: of the channels' mean: `masks` ``[1, K, 256, N]`` by `log_bands`.

        Returns:
            ``[K, C, 65535]``.
        """
        taper = torch.hann_window(self.n_fft).to(audio)
        spectrum = torch.stft(audio, self.n_fft, _HOP, window=taper, pad_mode=self.padding, return_complex=True)
        shares = linear_bins(masks(log_bands(spectrum.mean(0, keepdim=True).abs()))[0], spectrum.shape[1])
        shares = (shares > 0.5).to(shares) if self.binary else shares
        shares = shares / shares.sum(0).clamp(min=1)
        parts = (spectrum * shares.unsqueeze(1)).flatten(0, 1)
        parts = torch.istft(parts, self.n_fft, _HOP, window=taper, length=audio.shape[1])
        return parts.unflatten(0, (len(shares), len(audio)))

    def _part(self, seen: Tensor, _: int, mixture: Tensor) -> Tensor:
        taper = torch.hann_window(self.n_fft).to(mixture)
        spectrum = torch.stft(mixture, self.n_fft, _HOP, window=taper, pad_mode=self.padding, return_complex=True)
        masks = self.masks(log_bands(spectrum.abs()), seen)
        shares = linear_bins(masks.flatten(0, 1), spectrum.shape[1])
        shares = (shares > 0.5).to(shares) if self.binary else shares
        parts = (spectrum.unsqueeze(1) * shares.unflatten(0, masks.shape[:2])).flatten(0, 1)
        parts = torch.istft(parts, self.n_fft, _HOP, window=taper, length=mixture.shape[1]).clamp(-1, 1)
        return parts.unflatten(0, masks.shape[:2])


class _PixelUNet(nn.Module):
    """``[B, 1, H, W]`` to ``[B, 32, H, W]``; sides are multiples of 128."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        last = len(_WIDTHS) - 1
        for level, (inputs, outputs) in enumerate(zip((1, *_WIDTHS[:-1]), _WIDTHS, strict=True)):
            down = [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
            self.down.append(nn.Sequential(*(down if 0 < level < last else down[:1])))
            deeper = outputs if level == last else 2 * outputs
            up = [nn.Conv2d(deeper, inputs if level else _SHARED, 3, padding=1, bias=not level), nn.BatchNorm2d(inputs)]
            self.up.append(nn.Sequential(*(up if level else up[:1])))

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.down[0](self.norm(x))]
        for down in self.down[1:]:
            levels.append(down(F.leaky_relu(levels[-1], 0.2)))
        x = levels.pop()
        for up in reversed(self.up[1:]):
            x = torch.cat([levels.pop(), up(_doubled(x))], 1)
        return self.up[0](_doubled(x))


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x.relu(), scale_factor=2, mode="bilinear", align_corners=True)


class _Synthesizer(nn.Module):
    """Inner product of what is seen, ``[B, K, 32]``, and of every place that is heard, ``[B, 32, F, N]``."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(_SHARED))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, seen: Tensor, heard: Tensor) -> Tensor:
        return torch.einsum("bkc,bcfn->bkfn", seen * self.scale, heard) + self.bias


class _InnerProduct(ReleasedSeparator):
    """Masks by channels that are seen and heard."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = _PixelUNet()
        self.synthesizer = _Synthesizer()

    def masks(self, bands: Tensor, seen: Tensor) -> Tensor:
        return self.synthesizer(seen, self.unet(bands.unsqueeze(1))).sigmoid()


class SoundOfPixels(_InnerProduct):
    """Sources of a mixture by frames of each, at 11,025 Hz: published with 3 frames, 3 s apart, of 224 x 224 pixels."""

    def __init__(self) -> None:
        super().__init__()
        features = resnet_features()
        features[7].apply(_dilate)
        self.frame = ImageNetFeatures(features)
        self.project = nn.Conv2d(512, _SHARED, 3, padding=1)

    def embed_condition(self, condition: Tensor) -> Tensor:
        places = self.project(self.frame(condition.flatten(0, 2))).unflatten(0, condition.shape[:3])
        return places.amax((2, 4, 5)).sigmoid()


def _dilate(layer: nn.Module) -> None:
    """Stride by 1; what follows sees as far as it did."""
    if isinstance(layer, nn.Conv2d):
        if layer.stride == (2, 2):
            layer.stride = (1, 1)
        elif layer.kernel_size == (3, 3):
            layer.dilation = layer.padding = (2, 2)


class CLIPSep(_InnerProduct):
    """Sources of a mixture at 16 kHz by the embedding of an image of each, CLIP's (ViT-B/32)."""

    sample_rate = 16000
    n_fft = 1024
    padding = "constant"

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(512, _SHARED)

    def embed_condition(self, condition: Tensor) -> Tensor:
        return self.project(condition).sigmoid()


class CoSeparation(ReleasedSeparator):
    """Sources of a mixture by an image of each, at 11,025 Hz, in windows that are 50 ms apart."""

    step = 551
    binary = False

    def __init__(self) -> None:
        super().__init__()
        self.image = ImageNetFeatures(resnet_features())
        self.reduce = nn.Sequential(nn.Conv2d(512, 128, 1), nn.BatchNorm2d(128), nn.ReLU())
        self.project = nn.Linear(128 * 7 * 7, 512)
        inner = (1, *_WIDTHS)
        self.down = nn.ModuleList(down_block(*pair) for pair in zip(inner, _WIDTHS, strict=False))
        up = [up_block(2 * outputs, inputs) for inputs, outputs in zip(inner, _WIDTHS, strict=False)]
        self.up = nn.ModuleList([up[0][:1], *up[1:]])

    def embed_condition(self, condition: Tensor) -> Tensor:
        places = self.reduce(self.image(condition.flatten(0, 1)))
        return self.project(places.flatten(1)).unflatten(0, condition.shape[:2])

    def masks(self, bands: Tensor, seen: Tensor) -> Tensor:
        sources = seen.shape[1]
        levels = [bands.unsqueeze(1)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = seen.flatten(0, 1)[..., None, None].expand(-1, -1, *levels[-1].shape[2:])
        for up in reversed(self.up):
            x = up(torch.cat([x, levels.pop().repeat_interleave(sources, 0)], 1))
        return x.sigmoid().unflatten(0, seen.shape[:2]).squeeze(2)


def read_parts(**sources: str | Path | Tensors) -> Tensors:
    """Tensors of several files, or by the names in them, each after the name of its part and a dot."""
    return {
        f"{part}.{name}": tensor
        for part, source in sources.items()
        for name, tensor in (source if isinstance(source, dict) else read_tensors(source)).items()
    }


@released_shapes("Sound of Pixels")
def load_sound_of_pixels(
    sound: str | Path | Tensors, frame: str | Path | Tensors, synthesizer: str | Path | Tensors
) -> SoundOfPixels:
    """Sound of Pixels as its authors released it (a dilated ResNet-18, a U-Net of 7 levels), in evaluation mode.

    Args:
        sound, frame, synthesizer: files like ``sound_best.pth``, or tensors by the names in them.

    Raises:
        ModelError: a file cannot be read, parameters are missing (their groups are named), or tensors are left over.
    """
    model = SoundOfPixels()
    tensors = renamed(
        read_parts(sound=sound, frame=frame, synthesizer=synthesizer),
        [*_UNET_NAMES, (r"^frame\.fc\.", "project.")],
    )
    load_all_weights(model, tensors, "Sound of Pixels")
    return model.eval()


@released_shapes("CLIPSep")
def load_clipsep(source: str | Path | Tensors) -> CLIPSep:
    """CLIPSep as its authors released it, in evaluation mode; of CLIPSep-NIT, what it gives without the noise heads.

    Args:
        source: a file like ``best_model.pt``, or tensors by the names in it.

    Raises:
        ModelError: as `load_sound_of_pixels`.
    """
    model = CLIPSep()
    tensors = source if isinstance(source, dict) else read_tensors(source)
    tensors = renamed(
        {name: tensor for name, tensor in tensors.items() if not name.startswith("pit_nets.")},
        [(r"^sound_net\.", "sound."), (r"^frame_net\.", "project."), (r"^synth_net\.", "synthesizer.")],
    )
    load_all_weights(model, renamed(tensors, _UNET_NAMES), "CLIPSep")
    return model.eval()


@released_shapes("Co-Separation")
def load_co_separation(visual: str | Path | Tensors, unet: str | Path | Tensors) -> CoSeparation:
    """Co-Separation as its authors released it (``--visual_pool conv1x1``, 7 layers), in evaluation mode.

    Args:
        visual, unet: files like ``visual_latest.pth``, or tensors by the names in them.

    Raises:
        ModelError: as `load_sound_of_pixels`.
    """
    model = CoSeparation()
    tensors = read_parts(visual=visual, unet=unet)
    tensors.pop("visual.conv1.weight", None)  # is in the features, too
    tensors = renamed(
        tensors,
        [
            (r"^visual\.feature_extraction\.", "image.features."),
            (r"^visual\.conv1x1\.", "reduce."),
            (r"^visual\.fc\.", "project."),
            (r"^unet\.audionet_convlayer(\d)\.", lambda m: f"down.{int(m[1]) - 1}."),
            (r"^unet\.audionet_upconvlayer(\d)\.", lambda m: f"up.{len(_WIDTHS) - int(m[1])}."),
        ],
    )
    load_all_weights(model, tensors, "Co-Separation")
    return model.eval()


def _block_name(match: re.Match[str]) -> str:
    """Where a layer of blocks within blocks lies: its level is how deep, and its number tells the layer."""
    way, layer = _LAYERS[int(match[2])]
    return f"unet.{way}.{match[1].count('model')}.{layer}."


# By their numbers, which are lower on the way up where no block lies within.
_LAYERS = {0: ("down", 0), 1: ("down", 0), 2: ("down", 1), 4: ("up", 0), 5: ("up", 1), 6: ("up", 0), 7: ("up", 1)}
_UNET_NAMES: list[Rename] = [
    (r"^sound\.bn0\.", "unet.norm."),
    (r"^sound\.unet_block\.((?:model\.\d\.)*)model\.(\d)\.", _block_name),
]
