"""Synchformer (Iashin et al., ICASSP 2024): by how much video and audio are shifted, from sparse cues.

Clips are seen as segments of 0.64 s: 16 frames at 25 a second, and 10,240 samples at 16 kHz. Stage 1, `SegmentCLIP`,
learns both extractors by telling segments apart; stage 2, `Synchformer`, keeps them as they are and learns to read the
offset from 14 segments, each half over the one before (4.8 s). The same network with another head, over 13 segments,
tells whether a clip can be synchronized at all.

Offsets are in seconds. Positive: the audio leads, an event is heard before it is seen, and the repair delays the audio.
"""

from pathlib import Path

import torch
import torchaudio.functional as AF
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.audio.ast import AST
from avlearn.models.video.motionformer import Motionformer
from avlearn.models.video.vit import Attention, Block, attend, init_linear, with_class
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import find_layout, load_all_weights
from avlearn.models.weights.importers.layout import Rename, Tensors, joined, released_shapes, renamed

OFFSETS = tuple(step / 5 for step in range(-10, 11))  # seconds; of the 21 classes

SAMPLE_RATE = 16000
_FRAMES, _SAMPLES = 16, 10240  # of a segment
_BINS, _MEL_FRAMES = 128, 66
_VIDEO_STEPS, _AUDIO_STEPS = 8, 6  # features of a segment


def segment_mel(audio: Tensor) -> Tensor:
    """Waveforms of segments to what the audio extractor sees.

    Windows of 25 ms every 10 ms, centred on multiples of 10 ms; ends are reflected. The frames that are missing at the
    end are zeros of the logarithm, not silence: a segment of 10,240 samples has 65 frames of 66.

    Args:
        audio: ``[..., 10240]`` at 16 kHz, in [-1, 1]; fewer samples (at least 513) give more zeros.

    Returns:
        ``[..., 1, 128, 66]``: log-mel power less AudioSet's mean, over twice its std, as AST takes it.

    Raises:
        ValueError: there are more than 66 frames.
    """
    window = torch.hann_window(400, device=audio.device, dtype=audio.dtype)
    power = AF.spectrogram(audio, 0, window, n_fft=1024, hop_length=160, win_length=400, power=2.0, normalized=False)
    missing = _MEL_FRAMES - power.shape[-1]
    if missing < 0:
        raise ValueError(f"a segment has at most {_MEL_FRAMES} spectrogram frames, not {power.shape[-1]}")
    filters = AF.melscale_fbanks(513, 0.0, SAMPLE_RATE / 2, _BINS, SAMPLE_RATE).to(power)
    mel = F.pad((filters.T @ power + 1e-6).log(), (0, missing))
    return ((mel + 4.2677393) / (2 * 4.5689974)).unsqueeze(-3)


def video_segments(video: Tensor) -> Tensor:
    """Clips ``[B, 3, T, H, W]`` at 25 frames a second to ``[B, S, 3, 16, H, W]``, a segment every 0.32 s."""
    return video.unfold(2, _FRAMES, _FRAMES // 2).permute(0, 2, 1, 5, 3, 4)


def audio_segments(audio: Tensor) -> Tensor:
    """Waveforms ``[B, N]`` at 16 kHz to ``[B, S, 10240]``, a segment every 0.32 s."""
    return audio.unfold(1, _SAMPLES, _SAMPLES // 2)


class Aggregator(Block):
    """Tokens ``[..., N, D]`` to one, ``[..., D]``: the class token after a transformer block over them."""

    attn: Attention

    def __init__(self, dim: int, heads: int):
        super().__init__(dim, Attention(dim, heads))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.apply(init_linear)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = with_class(self.cls_token, x)
        query, key, value = self.attn.project(self.norm1(x))
        # The block's last: only the class token's state is needed.
        found = attend(query[..., :1, :], key, value, self.attn.heads)
        return self.through_mlp(x[..., :1, :] + self.attn.proj(found)).squeeze(-2)


class SegmentExtractors(nn.Module):
    """Features of each segment alone: Motionformer with divided attention and AST, each down to its steps of time.

    Args:
        dim, depth, heads: of both transformers.
        size: rows and columns of the frames.
    """

    def __init__(self, dim: int = 768, depth: int = 12, heads: int = 12, size: int = 224):
        super().__init__()
        self.video = Motionformer(size=size, dim=dim, depth=depth, heads=heads, attention="divided")
        self.space = Aggregator(dim, heads)
        self.audio = AST(dim, depth, heads, _BINS, _MEL_FRAMES, eps=1e-12)
        self.frequency = Aggregator(dim, heads)
        self.video.as_tower()
        self.audio.as_tower()

    def video_features(self, video: Tensor) -> Tensor:
        """``[B, S, 3, 16, H, W]`` in [0, 1] to ``[B, S, 8, D]``."""
        grid = self.video.forward_features(video.flatten(0, 1))  # [B S, D, T, Y, X]
        return self.space(grid.flatten(3).permute(0, 2, 3, 1)).unflatten(0, video.shape[:2])

    def audio_features(self, mel: Tensor) -> Tensor:
        """``[B, S, 1, 128, 66]`` of `segment_mel` to ``[B, S, 6, D]``."""
        patches = self.audio.forward_patches(mel.flatten(0, 1))  # [B S, F, N, D]
        return self.frequency(patches.transpose(1, 2)).unflatten(0, mel.shape[:2])

    def features(self, video: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        """`video_features` and `audio_features`."""
        return self.video_features(video), self.audio_features(mel)


class SegmentCLIP(SegmentExtractors):
    """Stage 1: one vector a segment from either side, close where video and audio belong together.

    The loss is InfoNCE in both directions over all segments of a batch: negatives are other videos and, harder, other
    times of the same one. ``temperature``, which similarities are divided by, is learned; keep it in [0.001, 0.5].

    Args:
        projected: vectors are mapped linearly, as the paper says; in the authors' released configuration they are not.
        dim, depth, heads, size: see `SegmentExtractors`.
    """

    def __init__(self, projected: bool = True, dim: int = 768, depth: int = 12, heads: int = 12, size: int = 224):
        super().__init__(dim, depth, heads, size)
        self.video_proj = nn.Linear(dim, dim) if projected else nn.Identity()
        self.audio_proj = nn.Linear(dim, dim) if projected else nn.Identity()
        self.temperature = nn.Parameter(torch.tensor(0.07))

    def forward(self, video: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, S, 3, 16, H, W]`` in [0, 1] and ``[B, S, 1, 128, 66]`` to two of ``[B, S, D]``, of unit length."""
        seen, heard = (part.mean(2) for part in self.features(video, mel))
        return F.normalize(self.video_proj(seen), dim=-1), F.normalize(self.audio_proj(heard), dim=-1)


class SyncTransformer(nn.Module):
    """Reads two sequences as one, ``[OFF] video [MOD] audio``, and answers with the state of [OFF].

    Args:
        dim, depth, heads: of the transformer.
        length: of the whole sequence, where each place has a learned position.
    """

    def __init__(self, dim: int, depth: int, heads: int, length: int | None = None, dropout: float = 0.1):
        super().__init__()
        self.video_norm = nn.LayerNorm(dim)
        self.audio_norm = nn.LayerNorm(dim)
        self.off_token = nn.Parameter(torch.randn(1, 1, dim))
        self.mod_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = None if length is None else nn.Parameter(torch.randn(1, length, dim))
        self.dropout = nn.Dropout(dropout)
        blocks = [
            TimmBlock(dim, heads, qkv_bias=True, proj_drop=dropout, attn_drop=dropout, norm_layer=nn.LayerNorm)
            for _ in range(depth)
        ]
        for block in blocks:
            block.mlp.drop1 = nn.Identity()  # the authors drop what leaves the MLP, and nothing within it
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)
        self.apply(init_linear)

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        """``[B, N, D]`` and ``[B, M, D]`` to ``[B, D]``."""
        parts = [
            self.off_token.expand(len(video), -1, -1),
            self.video_norm(video),
            self.mod_token.expand(len(video), -1, -1),
            self.audio_norm(audio),
        ]
        x = torch.cat(parts, 1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        return self.norm(self.blocks(self.dropout(x)))[:, 0]


class Synchformer(SegmentExtractors):
    """Stage 2: scores of offsets, or of being synchronizable.

    Args:
        classes: 21 for the offsets `OFFSETS`; 2 for (cannot be synchronized, can be).
        segments: of a clip; the authors take 14, and 13 for being synchronizable.
        fusion_depth, fusion_heads: of the transformer over all segments.
        dim, depth, heads, size: see `SegmentExtractors`.
    """

    def __init__(
        self,
        classes: int = 21,
        segments: int = 14,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        size: int = 224,
        fusion_depth: int = 3,
        fusion_heads: int = 8,
    ):
        super().__init__(dim, depth, heads, size)
        self.segments = segments
        self.video_proj = nn.Linear(dim, dim)
        self.audio_proj = nn.Linear(dim, dim)
        length = 2 + segments * (_VIDEO_STEPS + _AUDIO_STEPS)
        self.fusion = SyncTransformer(dim, fusion_depth, fusion_heads, length)
        self.head = nn.Linear(dim, classes)
        init_linear(self.head)

    def compare(self, seen: Tensor, heard: Tensor) -> Tensor:
        """`features` to scores: ``[B, S, 8, D]`` and ``[B, S, 6, D]`` to ``[B, classes]``.

        Raises:
            ValueError: S is not the number of segments that the network is for.
        """
        if seen.shape[1] != self.segments or heard.shape[1] != self.segments:
            raise ValueError(f"the network is for {self.segments} segments, not {seen.shape[1]} and {heard.shape[1]}")
        seen, heard = self.video_proj(seen).flatten(1, 2), self.audio_proj(heard).flatten(1, 2)
        return self.head(self.fusion(seen, heard))

    def forward(self, video: Tensor, mel: Tensor) -> Tensor:
        """``[B, S, 3, 16, H, W]`` in [0, 1] and ``[B, S, 1, 128, 66]`` of `segment_mel` to ``[B, classes]``."""
        return self.compare(*self.features(video, mel))


@torch.no_grad()
def desync(model: Synchformer, video: Tensor, audio: Tensor) -> Tensor:
    """DeSync of video-to-audio generation: by how much the audio is off, as Synchformer finds it.

    The protocol of av-benchmark (Cheng et al., MMAudio, CVPR 2025): the likeliest offset of the first and of the last
    14 segments (4.8 s each), their absolute values averaged. The figure for a test set, of clips of 8 s there, is the
    mean over its clips. All segments of the batch go through the network at once.

    Args:
        model: of 21 classes over 14 segments, in evaluation mode; see `load_synchformer`.
        video: ``[B, 3, T, 224, 224]`` in [0, 1], 25 frames a second.
        audio: ``[B, N]`` at 16 kHz in [-1, 1], of the same seconds.

    Returns:
        ``[B]`` seconds from 0 to 2; 0 is best.

    Raises:
        ValueError: a clip has fewer than 14 segments, or its video and audio have not equally many.
    """
    frames, samples = video_segments(video), audio_segments(audio)
    if frames.shape[1] != samples.shape[1] or frames.shape[1] < model.segments:
        raise ValueError(
            f"DeSync takes at least {model.segments} segments of 0.64 s, 0.32 s apart, of video and audio alike, "
            f"not {frames.shape[1]} and {samples.shape[1]}"
        )
    seen, heard = model.features(frames, segment_mel(samples))
    offsets = torch.tensor(OFFSETS, device=video.device).abs()
    parts = (slice(0, model.segments), slice(-model.segments, None))
    return torch.stack([offsets[model.compare(seen[:, part], heard[:, part]).argmax(1)] for part in parts]).mean(0)


@released_shapes("Synchformer")
def load_synchformer(source: str | Path | Tensors) -> Synchformer:
    """Stage 2 as its authors released it, for offsets or for being synchronizable, in evaluation mode.

    Args:
        source: a released file, av-benchmark's ``synchformer_state_dict.pth``, or tensors by the names in those.

    Raises:
        ModelError: the file cannot be read, parameters are missing (their groups are named), or tensors are left over.
    """
    tensors = _names(source if isinstance(source, dict) else read_tensors(source))
    classes = len(tensors.get("head.bias", OFFSETS))
    places = tensors.get("fusion.pos_embed")
    segments = 14 if places is None else (places.shape[1] - 2) // (_VIDEO_STEPS + _AUDIO_STEPS)
    model = Synchformer(classes, segments)
    load_all_weights(model, tensors, "Synchformer")
    return model.eval()


@released_shapes("Synchformer's first stage")
def load_segment_clip(source: str | Path | Tensors) -> SegmentCLIP:
    """Stage 1 as its authors released it (``epoch_best.pt``), in evaluation mode; else as `load_synchformer`."""
    tensors = _names(source if isinstance(source, dict) else read_tensors(source))
    model = SegmentCLIP(projected=any(name.startswith("video_proj.") for name in tensors))
    load_all_weights(model, tensors, "Synchformer's first stage")
    return model.eval()


def fusion_names(tensors: Tensors, prefix: str) -> Tensors:
    """What lies under ``prefix`` in the authors' files, by the names of `SyncTransformer` under ``fusion``."""
    tensors = renamed(
        tensors,
        [
            (f"^{prefix}OFF_tok$", "fusion.off_token"),
            (f"^{prefix}MOD_tok$", "fusion.mod_token"),
            (f"^{prefix}vis_in_lnorm", "fusion.video_norm"),
            (f"^{prefix}aud_in_lnorm", "fusion.audio_norm"),
            (f"^{prefix}pos_emb_cfg.pos_emb$", "fusion.pos_embed"),
            (f"^{prefix}ln_f", "fusion.norm"),
            (f"^{prefix}blocks", "fusion.blocks"),
        ],
    )
    block = r"^(fusion\.blocks\.\d+\.)"
    parts: list[Rename] = [
        (block + r"ln([12])\.", r"\1norm\2."),
        (block + r"attn\.(q|k|v)(?:uery|ey|alue)\.", r"\1attn.\2_proj."),
        (block + r"mlp\.0\.", r"\1mlp.fc1."),
        (block + r"mlp\.2\.", r"\1mlp.fc2."),
    ]
    return joined(renamed(tensors, parts), "{}_proj")


def _names(tensors: Tensors) -> Tensors:
    """Released tensors by our names, without an embedding of single frames that is not used."""
    tensors = renamed(tensors, [(r"^v_encoder\.", "vfeat_extractor."), (r"^a_encoder\.", "afeat_extractor.")])
    prefix = "afeat_extractor.ast."
    audio = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    others = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith((prefix, "vfeat_extractor.patch_embed."))
    }
    found = renamed(
        others,
        [
            (r"^vfeat_extractor\.spatial_attn_agg\.", "space."),
            (r"^afeat_extractor\.freq_attn_agg\.", "frequency."),
            (r"^vfeat_extractor\.", "video."),
            (r"^vproj\.", "video_proj."),
            (r"^aproj\.", "audio_proj."),
            (r"^transformer\.(off|sync)_head\.", "head."),
            (r"^logit_scale$", "temperature"),
        ],
    )
    found = renamed(
        found,
        [
            (r"\.self_attn\.in_proj_", ".attn.qkv."),
            (r"\.self_attn\.out_proj\.", ".attn.proj."),
            (r"\.linear([12])\.", r".mlp.fc\1."),
        ],
    )
    found = fusion_names(found, r"transformer\.")
    audio = find_layout(audio).rename(audio) if audio else {}
    return found | {f"audio.{name}": tensor for name, tensor in audio.items()}
