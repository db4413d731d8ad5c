"""Sound localizers of the LVS family: where in an image audio comes from, by the cosine of their features.

Two ResNet-18, of the image and of the audio's spectrogram, whose largest value of each channel is compared with the
features of every place. The papers differ in stride, in the projections that follow, and in what their evaluators feed:

- LVS (Chen et al., CVPR 2021): stride 16, no projections.
- EZ-VSL (Mo & Morgado, ECCV 2022) and FNAC (Sun et al., CVPR 2023): stride 32, a projection of each side.
- SLAVC (Mo & Morgado, NeurIPS 2022): stride 32, two projections of each side, and a momentum copy of everything.
- SSLalignment (Senocak et al., ICCV 2023): evaluated as LVS.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.signal.windows import tukey
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.transforms.v2 import functional as TF

from avlearn.device import computing_in
from avlearn.errors import ModelError
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import load_all_weights
from avlearn.models.weights.importers.layout import Tensors, released_shapes, renamed

SAMPLE_RATE = 16000
_SIDE = 224  # pixels
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WINDOW = 512  # samples
_WIDTH = 512  # of features
_MOMENTUM = "momentum_"


@dataclass(frozen=True)
class EvaluationProtocol:
    """The input that a paper's evaluator feeds to its network, and the weight of its map of objects.

    Attributes:
        begin: seconds at the start of a file that are kept; all of it where None.
        seconds: in the middle of those, which are heard.
        hop: samples from a window to the next.
        cropped: whether the middle square of an image is seen; else the image is squeezed.
        weight: of the heatmap against that of objects.
        ranges: lowest and highest value of both maps, where they are not scaled by their own.
        enlarged: how maps are enlarged.
    """

    begin: float | None = None
    seconds: float = 3.0
    hop: int = 238
    cropped: bool = False
    weight: float = 0.4
    ranges: tuple[tuple[float, float], tuple[float, float]] | None = None
    enlarged: str = "bilinear"


# LVS was published without objects: there the weight is SSLalignment's, who measured it so.
EVALUATORS = {
    "LVS": EvaluationProtocol(begin=10, seconds=10, cropped=True),
    "EZ-VSL": EvaluationProtocol(),
    "FNAC": EvaluationProtocol(),
    "SLAVC": EvaluationProtocol(weight=0.9, ranges=((-1, 1), (0, 2.5)), enlarged="bicubic"),
    "SSLalignment": EvaluationProtocol(begin=10, hop=159),
}


def prepare_image(image: Tensor, paper: str) -> Tensor:
    """``[B, 3, H, W]`` in [0, 1] to the ``[B, 3, 224, 224]`` that the paper's evaluator shows, by cubic interpolation.

    LVS sees the middle square, and the others all of the image, squeezed.
    """
    size = [_SIDE] if EVALUATORS[paper].cropped else [_SIDE, _SIDE]
    image = TF.resize(image, size, TF.InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    return TF.center_crop(image, [_SIDE, _SIDE])


def localizer_spectrogram(audio: Tensor, paper: str) -> Tensor:
    """The input of the audio network: log power density in windows of 32 ms, over 12.

    Windows are Tukey's (a quarter of them tapered), less their mean, and none reaches over an end: the defaults of
    ``scipy.signal.spectrogram``. Audio that is too short is repeated.

    Args:
        audio: ``[B, S]`` at 16 kHz; beyond [-1, 1] it is clipped.
        paper: of `EVALUATORS`.

    Returns:
        ``[B, 1, 257, N]``: 200 frames of the middle 3 s (EZ-VSL, FNAC, SLAVC), 671 of the first 10 s (LVS), or 299 of
        the middle 3 s of those (SSLalignment).
    """
    begin = EVALUATORS[paper].begin
    if begin:
        audio = _repeated(audio, round(begin * SAMPLE_RATE))[:, : round(begin * SAMPLE_RATE)]
    return window_spectrogram(audio, paper)


def window_spectrogram(audio: Tensor, paper: str) -> Tensor:
    """`localizer_spectrogram` of the middle of any audio, and not of the beginning of a file."""
    evaluator = EVALUATORS[paper]
    samples = round(evaluator.seconds * SAMPLE_RATE)
    start = max(audio.shape[1] - samples, 0) // 2
    audio = _repeated(audio, samples)[:, start : start + samples].clamp(-1, 1)
    taper = torch.from_numpy(tukey(_WINDOW, 0.25, sym=False)).to(audio)
    windows = audio.unfold(1, _WINDOW, evaluator.hop)
    power = torch.fft.rfft((windows - windows.mean(-1, keepdim=True)) * taper).abs().square()
    density = power / (SAMPLE_RATE * taper.square().sum())
    density[..., 1:-1] *= 2  # of the frequencies below 0
    return (density + 1e-7).log().div(12).transpose(1, 2).unsqueeze(1)


def _repeated(audio: Tensor, samples: int) -> Tensor:
    """At least so many samples."""
    return audio.repeat(1, -(-samples // audio.shape[1]))


def tri_map(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """LVS's soft masks of a heatmap, in [0, 1]: of what sounds, and of what does not; between them lies the unknown."""
    return ((heatmap - 0.65) / 0.03).sigmoid(), ((0.4 - heatmap) / 0.03).sigmoid()


def enlarged(heatmap: Tensor, paper: str, size: int = _SIDE) -> Tensor:
    """``[B, h, w]`` to ``[B, size, size]`` pixels, as the paper's evaluator does it."""
    mode = EVALUATORS[paper].enlarged
    return F.interpolate(heatmap.unsqueeze(1), (size, size), mode=mode, align_corners=True).squeeze(1)


def object_guided(heatmap: Tensor, objects: Tensor, paper: str, size: int = _SIDE) -> Tensor:
    """A heatmap together with where objects are, as the paper's evaluator weighs them.

    Object-guided localization (EZ-VSL: Mo & Morgado, ECCV 2022): ``alpha * map + (1 - alpha) * objects``, with an alpha
    of 0.4 there and 0.9 in SLAVC (NeurIPS 2022). It takes the heatmap of any model.

    Args:
        heatmap: ``[B, h, w]`` of `Localizer.heatmap`.
        objects: ``[B, h', w']`` of `ObjectMap.heatmap`.
        paper: of `EVALUATORS`.
        size: pixels of a side of what is returned.

    Returns:
        ``[B, size, size]``, each from 0 to 1; SLAVC's are not stretched to that, so that images can be compared.
    """
    evaluator = EVALUATORS[paper]
    heatmap, objects = enlarged(heatmap, paper, size), enlarged(objects, paper, size)
    if evaluator.ranges is None:
        return _scaled(evaluator.weight * _scaled(heatmap) + (1 - evaluator.weight) * _scaled(objects))
    heatmap, objects = (
        (found - low) / (high - low) for found, (low, high) in zip((heatmap, objects), evaluator.ranges, strict=True)
    )
    return evaluator.weight * heatmap + (1 - evaluator.weight) * objects


def _scaled(maps: Tensor) -> Tensor:
    """Each from 0 to 1; one that is the same all over, but for rounding, stays as it is."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(high - low > 1e-6, (maps - low) / (high - low), maps)


def _tower(channels: int, stride: int = 32) -> nn.Sequential:
    """``[B, channels, H, W]`` to ``[B, 512, H / stride, W / stride]``."""
    net = resnet18()
    net.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    if stride == 16:
        net.layer4[0].conv1.stride = net.layer4[0].downsample[0].stride = (1, 1)
    return nn.Sequential(OrderedDict(list(net.named_children())[:-2]))


class _ImageTower(nn.Module):
    """``[B, 3, H, W]`` in [0, 1] to the features of its places.

    Attributes:
        precision: what its networks compute in; None: in that of their weights.
    """

    mean: Tensor
    std: Tensor
    precision: torch.dtype | None = None

    def __init__(self, stride: int = 32) -> None:
        super().__init__()
        self.image = _tower(3, stride)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def image_features(self, image: Tensor) -> Tensor:
        return self._encode(self.image, (image - self.mean) / self.std)

    def _encode(self, network: nn.Module, x: Tensor) -> Tensor:
        with computing_in(self.precision, self.device):
            features: Tensor = network(x)
        return features if self.precision is None else features.float()


class Localizer(_ImageTower):
    """Where in an image audio comes from.

    Args:
        stride: 16 or 32 pixels a cell of the map.
        projections: of each side; what is compared are the features themselves where there is none.
        paper: of `EVALUATORS`.
    """

    def __init__(self, stride: int = 32, projections: int = 1, paper: str = "EZ-VSL") -> None:
        super().__init__(stride)
        self.paper = paper
        self.audio = _tower(1, stride)
        self.image_projections = nn.ModuleList(nn.Conv2d(_WIDTH, _WIDTH, 1) for _ in range(projections))
        self.audio_projections = nn.ModuleList(nn.Linear(_WIDTH, _WIDTH) for _ in range(projections))

    def features(self, image: Tensor, spectrogram: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Inputs as of `heatmap` to ``[B, 512, h, w]`` and ``[B, 512]`` of length 1, for each projection."""
        seen, heard = self.image_features(image), self._encode(self.audio, spectrogram).amax((2, 3))
        pairs = zip(self.image_projections, self.audio_projections, strict=True)
        compared = [(of_image(seen), of_audio(heard)) for of_image, of_audio in pairs] or [(seen, heard)]
        return [(F.normalize(seen), F.normalize(heard)) for seen, heard in compared]

    def heatmap(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        """Cosine similarity of every place and the audio, in [-1, 1]; of two projections, the mean.

        Its largest value says whether image and audio belong together. (Over the temperature of 0.03, this is the map
        of the evaluators of EZ-VSL, FNAC and SLAVC.)

        Args:
            image: ``[B, 3, H, W]`` in [0, 1], RGB; of 224 x 224 pixels as published (see `prepare_image`).
            spectrogram: ``[B, 1, 257, N]`` of `localizer_spectrogram`; of one image, several may be compared.

        Returns:
            ``[B, h, w]``: 7 x 7, and 14 x 14 of LVS and SSLalignment, for 224 x 224 pixels.
        """
        pairs = self.features(image, spectrogram)
        return torch.stack([torch.einsum("bdyx,bd->byx", seen, heard) for seen, heard in pairs]).mean(0)

    forward = heatmap


class ObjectMap(_ImageTower):
    """Where objects are, whatever sounds: EZ-VSL's, from a ResNet-18 that learned ImageNet's classes."""

    def heatmap(self, image: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in [0, 1] to ``[B, H / 32, W / 32]``, at least 0: the mean of the features of a place."""
        return self.image_features(image).mean(1)

    forward = heatmap


@released_shapes("a localizer")
def load_localizer(source: str | Path | Tensors, momentum: bool = False) -> Localizer:
    """A localizer as its authors released it, in evaluation mode.

    The names of the tensors tell which it is. EZ-VSL's and FNAC's are the same, and are taken for EZ-VSL's. Two towers
    with heads that no evaluator uses are taken for SSLalignment's, without heads for LVS's.

    Args:
        source: a released file, or tensors by the names in it.
        momentum: whether to take SLAVC's momentum copy (``--use_mom_eval``), and not the network itself.

    Raises:
        ModelError: the file cannot be read, parameters are missing (their groups are named), tensors are left over, or
            there is no momentum copy.
    """
    tensors = source if isinstance(source, dict) else read_tensors(source)
    if momentum and not any(name.startswith(_MOMENTUM) for name in tensors):
        raise ModelError("there is no momentum copy in these weights; only SLAVC's have one")
    if "audnet.conv1_a.weight" in tensors:
        # LVS's towers hold the stems of three modalities each, and a classifier.
        idle = r"^(imgnet\.conv1_a|audnet\.conv1|(img|aud)net\.(conv1_flow|fc))\."
        towers = _without(tensors, idle)
        paper = "LVS" if all(name.startswith(("imgnet.", "audnet.")) for name in towers) else "SSLalignment"
        tensors, model = _without(towers, r"^(?!imgnet\.|audnet\.)"), Localizer(16, 0, paper)
    elif any(name.startswith("img_proj1.") for name in tensors):
        if momentum:
            tensors = {name.removeprefix(_MOMENTUM): tensors[name] for name in tensors if name.startswith(_MOMENTUM)}
        tensors, model = _without(tensors, f"^{_MOMENTUM}"), Localizer(32, 2, "SLAVC")
    else:
        model = Localizer()
    load_all_weights(model, _names(tensors), model.paper)
    return model.eval()


@released_shapes("ResNet-18")
def load_object_map(source: str | Path | Tensors) -> ObjectMap:
    """The map of objects from torchvision's ResNet-18 for ImageNet, in evaluation mode.

    Args:
        source: a file like ``resnet18-f37072fd.pth``, or tensors by the names in it.

    Raises:
        ModelError: as `load_localizer`.
    """
    tensors = source if isinstance(source, dict) else read_tensors(source)
    model = ObjectMap()
    load_all_weights(model, renamed(_without(tensors, r"^fc\."), [(r"^", "image.")]), "ResNet-18")
    return model.eval()


def _without(tensors: Tensors, pattern: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if not re.match(pattern, name)}


def _names(tensors: Tensors) -> Tensors:
    """Released tensors by our names."""
    sides = {"img": "image", "aud": "audio"}
    return renamed(
        tensors,
        [
            (r"^audnet\.conv1_a\.", "audio.conv1."),
            (r"^(img|aud)net\.", lambda m: f"{sides[m[1]]}."),
            (r"^(img|aud)_proj([12]?)\.", lambda m: f"{sides[m[1]]}_projections.{int(m[2] or 1) - 1}."),
        ],
    )
