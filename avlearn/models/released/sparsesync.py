"""SparseSync (Iashin et al., BMVC 2022): by how much video and audio are shifted, where events are rare.

A clip is 5 s: 125 frames, and 80,000 samples at 16 kHz. Of what S3D and a ResNet find in it, learned queries select
little, and a transformer reads the offset from that. Offsets are positive where the audio leads.
"""

from collections import OrderedDict
from pathlib import Path

import torch
import torchaudio.functional as AF
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from avlearn.models.released.synchformer import SyncTransformer, fusion_names
from avlearn.models.video.inception import Inception3d, Variant
from avlearn.models.video.vit import init_linear
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import load_all_weights
from avlearn.models.weights.importers.layout import Tensors, joined, released_shapes, renamed


def clip_spectrogram(audio: Tensor) -> Tensor:
    """What the audio network sees: log power of windows of 32 ms every 8 ms, each frequency standardised on its own.

    Args:
        audio: ``[B, 80000]`` at 16 kHz, in [-1, 1].

    Returns:
        ``[B, 1, 257, 626]``; each frequency has mean 0 and std 1 over the clip.
    """
    window = torch.hann_window(512, device=audio.device, dtype=audio.dtype)
    power = AF.spectrogram(audio, 0, window, n_fft=512, hop_length=128, win_length=512, power=2.0, normalized=False)
    log = (power + 1e-6).log()
    return ((log - log.mean(-1, keepdim=True)) / (log.std(-1, keepdim=True) + 1e-6)).unsqueeze(1)


class AxisPositions(nn.Module):
    """Learned positions on a grid: each of its axes has some of the channels to itself.

    Args:
        sides: of the grid.
        widths: channels of each axis.
        order: in which the axes have their channels.
    """

    def __init__(self, sides: tuple[int, ...], widths: tuple[int, ...], order: tuple[int, ...]):
        super().__init__()
        self.axes = nn.ParameterList(torch.randn(shape) * 0.02 for shape in zip(sides, widths, strict=True))
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """``[B, *sides, D]`` to the same."""
        sides = x.shape[1:-1]
        parts = []
        for axis in self.order:
            ones_after = (1,) * (len(sides) - 1 - axis)
            parts.append(self.axes[axis].unflatten(0, (-1, *ones_after)).expand(*sides, -1))
        return x + torch.cat(parts, -1)


class Selector(nn.Module):
    """Learned queries take from many features what matters: ``[B, N, D]`` to ``[B, count, D]``."""

    def __init__(self, dim: int, depth: int, heads: int, count: int, dropout: float = 0.1):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(count, dim))
        self.pos_embed = nn.Parameter(torch.randn(count, dim) * 0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerDecoderLayer(dim, heads, 4 * dim, dropout, F.gelu, batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        for block in self.blocks:
            block.dropout = nn.Identity()  # the authors drop what leaves the MLP, and nothing within it
        self.apply(init_linear)

    def forward(self, context: Tensor) -> Tensor:
        context = self.dropout(context)
        x = self.dropout((self.queries + self.pos_embed).expand(len(context), -1, -1))
        for block in self.blocks:
            x = block(x, context)
        return x


class SparseSync(nn.Module):
    """Scores of offsets.

    Args:
        classes: 21 for `avlearn.models.released.synchformer.OFFSETS`, 3 for -1, 0 and 1 s.
        video_grid: time, rows and columns of S3D's features.
        audio_grid: frequencies and time of the ResNet's.
        depth, heads: of the three transformers.
        selectors: features that are kept of each side.
    """

    def __init__(
        self,
        classes: int = 21,
        video_grid: tuple[int, int, int] = (16, 7, 7),
        audio_grid: tuple[int, int] = (9, 20),
        depth: int = 3,
        heads: int = 8,
        selectors: int = 16,
    ):
        super().__init__()
        dim = 512
        self.video = Inception3d(Variant(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        net = resnet18()
        net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.audio = nn.Sequential(OrderedDict(list(net.named_children())[:-2]))
        self.bridge = nn.Conv3d(self.video.num_features, dim, 1)
        self.video_norm = nn.LayerNorm(dim)
        self.audio_norm = nn.LayerNorm(dim)
        self.video_positions = AxisPositions(video_grid, (172, 170, 170), (0, 2, 1))
        self.audio_positions = AxisPositions(audio_grid, (256, 256), (0, 1))
        self.video_selector = Selector(dim, depth, heads, selectors)
        self.audio_selector = Selector(dim, depth, heads, selectors)
        self.fusion = SyncTransformer(dim, depth, heads)
        self.head = nn.Linear(dim, classes, bias=False)
        init_linear(self.head)

    def features(self, video: Tensor, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs as of `forward` to what is selected of each side, ``[B, selectors, 512]``."""
        seen = F.gelu(self.bridge(self.video.forward_features(video))).movedim(1, -1)  # [B, T, Y, X, D]
        heard = self.audio(spectrogram).movedim(1, -1)  # [B, F, N, D]
        seen = self.video_positions(self.video_norm(seen)).flatten(1, 3)
        heard = self.audio_positions(self.audio_norm(heard)).flatten(1, 2)
        return self.video_selector(seen), self.audio_selector(heard)

    def forward(self, video: Tensor, spectrogram: Tensor) -> Tensor:
        """``[B, 3, 125, 224, 224]`` in [0, 1] and ``[B, 1, 257, 626]`` of `clip_spectrogram` to ``[B, classes]``."""
        return self.head(self.fusion(*self.features(video, spectrogram)))


@released_shapes("SparseSync")
def load_sparsesync(source: str | Path | Tensors) -> SparseSync:
    """The network as its authors released it, in evaluation mode.

    Args:
        source: a released file, or tensors by the names in it.

    Raises:
        ModelError: the file cannot be read, parameters are missing (their groups are named), or tensors are left over.
    """
    tensors = _names(source if isinstance(source, dict) else read_tensors(source))
    model = SparseSync(len(tensors["head.weight"]) if "head.weight" in tensors else 21)
    load_all_weights(model, tensors, "SparseSync")
    return model.eval()


def _names(tensors: Tensors) -> Tensors:
    """Released tensors by our names."""
    found = renamed(
        tensors,
        [
            (r"^vfeat_extractor\.base\.", "video.features."),
            (r"^afeat_extractor\.", "audio."),
            (r"^v_bridge\.bridge\.0\.", "bridge."),
            (r"^transformer\.pre_lnorm_vis\.", "video_norm."),
            (r"^transformer\.pre_lnorm_aud\.", "audio_norm."),
            (r"^transformer\.vis_pos_emb\.time_embed\.weight$", "video_positions.axes.0"),
            (r"^transformer\.vis_pos_emb\.height_embed\.weight$", "video_positions.axes.1"),
            (r"^transformer\.vis_pos_emb\.width_embed\.weight$", "video_positions.axes.2"),
            (r"^transformer\.aud_pos_emb\.freq_embed\.weight$", "audio_positions.axes.0"),
            (r"^transformer\.aud_pos_emb\.time_embed\.weight$", "audio_positions.axes.1"),
            (r"^transformer\.off_head\.", "head."),
            (r"^transformer\.v_selector\.", "video_selector."),
            (r"^transformer\.a_selector\.", "audio_selector."),
        ],
    )
    trunk = r"^(video\.features\..+)"
    selector = r"^((?:video|audio)_selector\.)"
    block = selector[:-1] + r"blocks\.\d+\.)"
    found = renamed(
        fusion_names(found, r"transformer\.global_transformer\."),
        [
            (trunk + r"\.(conv|bn)_([st])\.", lambda m: f"{m[1]}.{'st'.index(m[3])}.{int(m[2] == 'bn')}."),
            (trunk + r"\.branch0\.0\.(conv|bn)\.", lambda m: f"{m[1]}.branch0.{int(m[2] == 'bn')}."),
            (trunk + r"\.(conv|bn)\.", lambda m: f"{m[1]}.{int(m[2] == 'bn')}."),
            (selector + r"selectors$", r"\1queries"),
            (selector + r"selectors_pos_emb\.time_embed\.weight$", r"\1pos_embed"),
            (block + r"ln(\d)\.", r"\1norm\2."),
            (block + r"mlp\.0\.", r"\1linear1."),
            (block + r"mlp\.2\.", r"\1linear2."),
            (block + r"attn\.(q|k|v)(?:uery|ey|alue)\.", r"\1self.attn.\2_proj."),
            (block + r"xattn\.(q|k|v)(?:uery|ey|alue)\.", r"\1cross.attn.\2_proj."),
            (block + r"attn\.proj\.", r"\1self_attn.out_proj."),
            (block + r"xattn\.proj\.", r"\1multihead_attn.out_proj."),
        ],
    )
    return renamed(
        joined(found, "{}_proj"),
        [
            (block + r"self\.attn\.qkv\.", r"\1self_attn.in_proj_"),
            (block + r"cross\.attn\.qkv\.", r"\1multihead_attn.in_proj_"),
        ],
    )
