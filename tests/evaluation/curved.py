"""Clips whose video and audio carry the same curves, and towers that read them: what a perfect model would find."""

from types import SimpleNamespace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch.nn import functional as F

from avlearn.data.cache import ClipCache

CURVES, RATE = 8, 200  # a clip's curves, and their samples a second


def curved_clips(count: int, seconds: float, seed: int = 0) -> ClipCache:
    """Each row of a video is the brightness of a curve; the audio has them by turns, sample for sample."""
    rng = np.random.default_rng(seed)
    curves = gaussian_filter1d(rng.normal(size=(count, round(seconds * RATE), CURVES)), 12, axis=1)
    curves = np.clip(curves / curves.std() / 4 + 0.5, 0, 1)
    frames = curves.reshape(count, -1, RATE // 25, CURVES).mean(2)
    video = np.broadcast_to((255 * frames).astype(np.uint8)[:, :, :, None, None], (*frames.shape, CURVES, 3))
    return ClipCache(video, curves.reshape(count, -1).astype(np.float32), 25.0, RATE * CURVES)


class Reader:
    """Towers that read `curved_clips`, a step 80 ms long."""

    device = torch.device("cpu")
    step = 0.08
    config = SimpleNamespace(
        fps=25.0, sample_rate=RATE * CURVES, seconds=2.0, pool_scale=20.0, score_scale=20.0, common_space=True
    )

    def video_features(self, video: torch.Tensor) -> torch.Tensor:
        return video.mean((1, 4)).transpose(1, 2).unflatten(2, (-1, 2)).mean(3)[..., None, None] - 0.5

    def audio_features(self, audio: torch.Tensor) -> torch.Tensor:
        return audio.unflatten(1, (-1, 16, CURVES)).mean(2).transpose(1, 2) - 0.5

    def project_video(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(features, dim=1)

    project_audio = project_video
