"""DenseAV (Hamilton et al., CVPR 2024): sounds and spoken words, and the places of an image that they are of.

DINO's ViT-S/8 of the image and HuBERT Large of the audio, each with a few layers behind it that bring them into one
space; what is compared are inner products of every place and every step of 180 ms, in one head or in two (of which one
learned to answer to words and one to other sounds). Tensors are named as here by `_names`.
"""

import math
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from avlearn.device import computing_in
from avlearn.errors import ModelError
from avlearn.models.video.vit import Attention, Block, Patches
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import load_all_weights
from avlearn.models.weights.importers.layout import Tensors, joined, released_shapes, renamed

SAMPLE_RATE = 16000
_SIDE, _PATCH = 224, 8  # pixels
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_EPS = 1e-4  # of all norms but those between HuBERT's convolutions
_LORA = 4.0  # factor of what was learned beside DINO's frozen weights
_CONVOLUTIONS = ((10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2)  # of the waveform: samples that each sees, and its stride
_Norm = partial(nn.LayerNorm, eps=_EPS)


def _blocks(dim: int, depth: int, heads: int) -> nn.Sequential:
    blocks = nn.Sequential(*(Block(dim, Attention(dim, heads)) for _ in range(depth)))
    for module in blocks.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = _EPS
    return blocks


class _Image(nn.Module):
    """``[B, 3, H, W]`` in [0, 1] to ``[B, D, H / 8, W / 8]``: DINO's tokens (Caron et al., ICCV 2021)."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, depth: int, heads: int, places: int) -> None:
        super().__init__()
        self.patch_embed = Patches(3, dim, _PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + places, dim))
        self.blocks = _blocks(dim, depth, heads)
        self.norm = _Norm(dim)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        grid = self.patch_embed(((image - self.mean) / self.std).unsqueeze(2))[:, 0]
        rows, columns = grid.shape[1:3]
        tokens = torch.cat([self.cls_token.expand(len(grid), -1, -1), grid.flatten(1, 2)], 1)
        tokens = self.norm(self.blocks(tokens + self._positions(rows, columns)))
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))

    def _positions(self, rows: int, columns: int) -> Tensor:
        """For another grid than it was trained on they are interpolated, as DINO's code does it."""
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        if (rows, columns) == (side, side):
            return self.pos_embed
        places = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        # With these scales, and not with the sizes that come of them: a tenth guards against rounding.
        scale = ((rows + 0.1) / side, (columns + 0.1) / side)
        places = F.interpolate(places, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], places.flatten(2).transpose(1, 2)], 1)


class _Convolution(nn.Module):
    """``[B, C, S]`` to ``[B, D, S / stride]``, each step normalized."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride)
        self.layer_norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.layer_norm(self.conv(x).transpose(1, 2)).transpose(1, 2))


class _Audio(nn.Module):
    """``[B, S]`` at 16 kHz to ``[B, T, D]``, 20 ms each: HuBERT Large (Hsu et al., TASLP 2021)."""

    def __init__(self, dim: int, depth: int, heads: int, width: int, reach: int, groups: int) -> None:
        super().__init__()
        inputs = [1, *[width] * (len(_CONVOLUTIONS) - 1)]
        self.convolutions = nn.Sequential(
            *(_Convolution(before, width, *sizes) for before, sizes in zip(inputs, _CONVOLUTIONS, strict=True))
        )
        self.projection = nn.Sequential(OrderedDict(layer_norm=_Norm(width), projection=nn.Linear(width, dim)))
        self.positions = nn.Conv1d(dim, dim, reach, padding=reach // 2, groups=groups)
        self.blocks = _blocks(dim, depth, heads)
        self.norm = _Norm(dim)

    def forward(self, audio: Tensor) -> Tensor:
        x = self.projection(self.convolutions(audio.unsqueeze(1)).transpose(1, 2))
        places = F.gelu(self.positions(x.transpose(1, 2))[:, :, : x.shape[1]]).transpose(1, 2)
        return self.norm(self.blocks(x + places))


class DenseAV(nn.Module):
    """Similarity of places and sounds.

    Args:
        code: channels of the common space, of all heads together.
        heads: into which these are cut.
        image, audio: what `_Image` and `_Audio` are made with.
    """

    def __init__(self, code: int, heads: int, image: dict[str, int], audio: dict[str, int]) -> None:
        super().__init__()
        self.heads = heads
        self.image, self.audio = _Image(**image), _Audio(**audio)
        self.image_norm, self.image_project = _Norm(image["dim"]), nn.Conv2d(image["dim"], code, 1)
        self.audio_cls = nn.Parameter(torch.zeros(audio["dim"]))
        self.audio_norm = _Norm(audio["dim"])
        self.cls_project = nn.Linear(audio["dim"], code)
        self.pool = nn.ModuleList(nn.Conv1d(inputs, code, 3, 3) for inputs in (audio["dim"], code))
        self.padding = -code % 6
        self.attention = _blocks(code + self.padding, 1, 6)

    def image_features(self, image: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in [0, 1], sides multiples of 8, to ``[B, D, H / 8, W / 8]``."""
        places = self.image_norm(self.image(image).movedim(1, 3)).movedim(3, 1)
        return self.image_project(places)

    def audio_features(self, audio: Tensor) -> Tensor:
        """``[B, S]`` at 16 kHz in [-1, 1] to ``[B, D, T]``, 180 ms each."""
        steps = self.audio_norm(self.audio(audio)).transpose(1, 2)
        for pool in self.pool:
            steps = pool(steps)
        token = self.cls_project(self.audio_norm(self.audio_cls)).expand(len(steps), 1, -1)
        x = F.pad(torch.cat([token, steps.transpose(1, 2)], 1), (self.padding, 0))
        return self.attention(x)[:, 1:, self.padding :].transpose(1, 2)

    def similarity(self, image: Tensor, audio: Tensor) -> Tensor:
        """Inner products in each head: ``[B, heads, Y, X, T]``, of any scale."""
        seen = self.image_features(image).unflatten(1, (self.heads, -1))
        heard = self.audio_features(audio).unflatten(1, (self.heads, -1))
        return torch.einsum("bkcyx,bkct->bkyxt", seen.float(), heard.float())

    def heatmap(self, image: Tensor, audio: Tensor) -> Tensor:
        """Where the sound comes from: the larger of the heads, the mean over time, ``[B, Y, X]``."""
        return self.similarity(image, audio).amax(1).mean(-1)

    forward = heatmap


class DenseAVSystem:
    """DenseAV as the tools use it: a frame, and the three seconds about it."""

    sample_rate, seconds, hop = SAMPLE_RATE, 3.0, 0.75

    def __init__(self, network: DenseAV, title: str, device: torch.device, precision: torch.dtype | None):
        self.network, self.title = network.to(device), title
        self.device, self.precision = device, precision

    @torch.inference_mode()
    def localize_window(self, frame: np.ndarray, audio: Tensor) -> Tensor:
        """See `avlearn.models.released.systems.LocalizeSystem`. Audio is brought to unit variance, as in training.

        What is shorter than 0.25 s goes on with silence.
        """
        image = TF.resize(torch.from_numpy(frame).to(self.device).permute(2, 0, 1), [_SIDE], antialias=True)
        height, width = (side // _PATCH * _PATCH for side in image.shape[1:])
        shown = image[None, :, :height, :width].float() / 255
        heard = (audio - audio.mean()) / (audio.var(unbiased=False) + 1e-7).sqrt()
        heard = F.pad(heard, (0, max(SAMPLE_RATE // 4 - audio.shape[1], 0))).to(self.device)
        with computing_in(self.precision, self.device):
            return self.network.heatmap(shown, heard)[0].float().cpu()


def open_denseav(
    path: Path, *, title: str, device: torch.device, precision: torch.dtype | None, heads: int
) -> DenseAVSystem:
    """A system from its file."""
    return DenseAVSystem(load_denseav(path, heads), title, device, precision)


@released_shapes("DenseAV")
def load_denseav(source: str | Path | Tensors, heads: int) -> DenseAV:
    """DenseAV as its authors released it, in evaluation mode.

    Args:
        source: ``denseav_sound.ckpt``, ``denseav_language.ckpt`` or ``denseav_2head.ckpt``, or tensors by the names in
            them.
        heads: 2 of the last, else 1: the names do not tell.

    Raises:
        ModelError: the file cannot be read, parameters are missing (their groups are named), or tensors are left over.
    """
    tensors = _names(source if isinstance(source, dict) else read_tensors(source))
    names = ("image.cls_token", "image.pos_embed", "audio.projection.projection.weight", "image_project.weight")
    if absent := [name for name in (*names, "audio.positions.weight") if name not in tensors]:
        raise ModelError(f"parameters are missing (by the names of DenseAV): {', '.join(absent)}")
    dim, width = tensors["audio.projection.projection.weight"].shape
    positions = tensors["audio.positions.weight"]
    image_dim = tensors["image.cls_token"].shape[2]
    image = {"dim": image_dim, "depth": _depth(tensors, "image"), "heads": image_dim // 64}
    audio = {"dim": dim, "depth": _depth(tensors, "audio"), "heads": dim // 64, "width": width}
    model = DenseAV(
        len(tensors["image_project.weight"]),
        heads,
        {**image, "places": tensors["image.pos_embed"].shape[1] - 1},
        {**audio, "reach": positions.shape[2], "groups": dim // positions.shape[1]},
    )
    load_all_weights(model, tensors, "DenseAV")
    return model.eval()


def _depth(tensors: Tensors, side: str) -> int:
    return len({name.split(".")[2] for name in tensors if name.startswith(f"{side}.blocks.")})


def _names(tensors: Tensors) -> Tensors:
    """Released tensors by our names; what was learned beside frozen weights is added to them."""
    unused = ("sim_cal.", "image_aligner.cls_layer.", "audio_model.model.masked_spec_embed")
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}
    found = renamed(
        tensors,
        [
            (r"^image_model\.(base_model\.model\.)?model\.", "image."),
            (r"^image_aligner\.norm\.norm\.", "image_norm."),
            (r"^image_aligner\.layer\.", "image_project."),
            (r"^audio_aligner\.mod_list\.1\.norm\.", "audio_norm."),
            (r"^audio_aligner\.mod_list\.2\.cls_layer\.", "cls_project."),
            (r"^audio_aligner\.mod_list\.([23])\.layer\.", lambda m: f"pool.{int(m[1]) - 2}."),
            (r"^audio_aligner\.mod_list\.4\.block\.", "attention.0."),
            (r"^audio_model\.model\.feature_extractor\.conv_layers\.", "audio.convolutions."),
            (r"^audio_model\.model\.feature_projection\.", "audio.projection."),
            (r"^audio_model\.model\.encoder\.pos_conv_embed\.conv\.", "audio.positions."),
            (r"^audio_model\.model\.encoder\.layer_norm\.", "audio.norm."),
            (r"^audio_model\.model\.encoder\.layers\.", "audio.blocks."),
        ],
    )
    block = r"^(audio\.blocks\.\d+\.)"
    found = renamed(
        found,
        [
            (block + r"attention\.out_proj\.", r"\1attn.proj."),
            (block + r"attention\.", r"\1attn."),
            (block + r"final_layer_norm\.", r"\1norm2."),
            (block + r"layer_norm\.", r"\1norm1."),
            (block + r"feed_forward\.intermediate_dense\.", r"\1mlp.fc1."),
            (block + r"feed_forward\.output_dense\.", r"\1mlp.fc2."),
            (r"\.base_layer\.", "."),
            (r"^audio\.positions\.(weight_g|parametrizations\.weight\.original0)$", "audio.positions.g"),
            (r"^audio\.positions\.(weight_v|parametrizations\.weight\.original1)$", "audio.positions.v"),
        ],
    )
    found = _merged(joined(found, "{}_proj"))
    if {"audio.positions.g", "audio.positions.v"} <= found.keys():
        length, direction = found.pop("audio.positions.g"), found.pop("audio.positions.v")
        found["audio.positions.weight"] = length * direction / direction.norm(dim=(0, 1), keepdim=True)
    for name in ("pool.0.weight", "pool.1.weight"):
        if name in found and found[name].ndim == 4:
            found[name] = found[name].squeeze(2)
    return found


def _merged(tensors: Tensors) -> Tensors:
    """Low-rank changes (LoRA: Hu et al., ICLR 2022) added to what they change."""
    found = {name: tensor for name, tensor in tensors.items() if ".lora_" not in name}
    for name, down in tensors.items():
        if ".lora_A." in name:
            up = tensors[name.replace(".lora_A.", ".lora_B.")]
            weight = f"{name.partition('.lora_A.')[0]}.weight"
            found[weight] = found[weight] + _LORA * up @ down
    return found
