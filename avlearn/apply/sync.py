"""Is a file's sound in sync with its picture? By how much is it off?"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.windows import SILENCE, Notice, probe_both
from avlearn.errors import NoAudioError, NoVideoError
from avlearn.media import stream
from avlearn.models.audiovisual import AudioVisual, frames_to_input
from avlearn.objectives.similarity import offset_scores

PHASES = 4  # the sound is heard at this many places within a step: offsets finer than the step
STILL = 0.1  # mean change of a pixel from frame to frame, of 255, below which nothing moves
_CHUNK = 20.0  # seconds of sound that are encoded at a time


@dataclass(frozen=True)
class SyncResult:
    """How far sound and picture are apart.

    Attributes:
        path: the file.
        offset: seconds, positive when the audio leads (the repair delays it by that much); None
            where the file cannot be synchronized.
        confidence: probability in [0, 1] that the model gives to offsets within a step of this one.
        verdict: ``in sync``, ``audio leads by 120 ms``, ``audio lags by 40 ms``, ``cannot be synchronized``.
        reason: why it cannot, else "".
        tolerance: seconds that count as in sync.
        offsets: ``[O]`` seconds, the grid of the curve.
        scores: ``[O]`` mean similarity at each offset (NaN where too little sound overlaps).
        windows: one dict a window: ``start``, ``offset``, ``confidence``.
        notice: a line where the file is unlike the training data, else None.
    """

    path: str
    offset: float | None
    confidence: float
    verdict: str
    reason: str
    tolerance: float
    offsets: np.ndarray
    scores: np.ndarray
    windows: list[dict]
    notice: str | None

    def to_dict(self) -> dict:
        """JSON types; offsets in seconds."""
        values = asdict(self)
        values["offsets"] = [round(float(v), 4) for v in self.offsets]
        values["scores"] = [None if np.isnan(v) else round(float(v), 5) for v in self.scores]
        return {"schema": "avlearn.sync/1", **values}

    def text(self) -> str:
        """For people."""
        said = f"{self.path}: {self.verdict}"
        said += f" ({self.reason})" if self.reason else f" (confidence {self.confidence:.2f})"
        return said + (f"\nnote: {self.notice}" if self.notice else "")


@torch.inference_mode()
def encode_sound(path: str | Path, model: AudioVisual, notice: Notice) -> tuple[Tensor, float]:
    """A file's whole sound in the common space, at `PHASES` places within each step.

    Returns:
        ``[PHASES, dim, U]``, whose phase p of step u begins at ``(u + p / PHASES) * step`` seconds from
        the start of the file; and the root mean square of the sound.

    Raises:
        NoAudioError: the track holds no sound to speak of.
    """
    rate = model.config.sample_rate
    step = round(model.step * rate)
    margin = 8 * step  # the encoder's reach on each side
    chunk = round(_CHUNK * rate / step) * step
    seconds = (chunk + 2 * margin + step) / rate
    pieces, energy, samples = [], 0.0, 0
    for clip in stream(path, seconds, chunk / rate, video=False, mono=True, sample_rate=rate):
        audio = torch.from_numpy(clip.audio).to(model.device)
        energy += float(audio[:, :chunk].square().sum())
        samples += min(audio.shape[1], chunk)
        first = not pieces
        phases = []
        steps = (audio.shape[1] - (PHASES - 1) * step // PHASES) // step
        if steps < 2:
            break
        for phase in range(PHASES):
            begin = phase * step // PHASES
            phases.append(audio[0, begin : begin + steps * step])
        features = model.audio_features(torch.stack(phases))
        notice.add_audio(features[:1])
        heard = model.hear(features)
        last = audio.shape[1] < round(seconds * rate)
        # Each chunk but the first gives up its first margin (the one before has it better).
        lower = 0 if first else margin // step
        upper = heard.shape[2] if last else (chunk + margin) // step
        pieces.append(heard[:, :, lower:upper])
        if last:
            break
    if not pieces:
        raise NoAudioError(f"{path}: the sound track is shorter than two steps of the model")
    return torch.cat(pieces, 2), (energy / max(samples, 1)) ** 0.5


def _posterior(scores: np.ndarray, offsets: np.ndarray, scale: float, reach: float):
    """Best offset by a parabola through the best three, and the probability mass within ``reach``."""
    known = np.isfinite(scores)
    logits = np.where(known, scores * scale, -np.inf)
    mass = np.exp(logits - logits.max())
    mass /= mass.sum()
    best = int(np.argmax(logits))
    offset = float(offsets[best])
    if 0 < best < len(scores) - 1 and known[best - 1] and known[best + 1]:
        left, middle, right = scores[best - 1 : best + 2]
        bend = left - 2 * middle + right
        if bend < 0:
            offset += 0.5 * (left - right) / bend * (offsets[1] - offsets[0])
    return offset, float(mass[np.abs(offsets - offsets[best]) <= reach + 1e-6].sum())


@torch.inference_mode()
def sync_file(path: str | Path, model: AudioVisual, *, max_offset: float = 1.5, tolerance: float = 0.04) -> SyncResult:
    """Find the offset between a file's sound and its picture.

    Every window of the picture is compared with the sound at all offsets on a grid of a fraction of the
    model's step; the windows' curves are averaged and the peak is interpolated.

    Args:
        path: any file with picture and sound.
        model: from `avlearn.load`.
        max_offset: seconds searched on each side.
        tolerance: seconds that count as in sync.

    Raises:
        MediaError: the file cannot be read, or has no picture or no sound.
    """
    probe_both(path)
    notice = Notice(model)
    heard, loudness = encode_sound(path, model, notice)
    config = model.config
    reach = round(max_offset / model.step)
    steps = torch.arange(-reach, reach + 1)
    # Compared with sound that comes o steps later, the sound lags by o steps: it leads by -o.
    fine = model.step / PHASES
    delays = (steps[:, None] * PHASES + torch.arange(PHASES)).flatten()
    keep = delays.abs() <= reach * PHASES
    offsets = -(delays[keep].numpy() * fine)[::-1]
    curves, starts, motion = [], [], 0.0
    first = None
    step_frames = round(model.step * config.fps)
    hop = config.seconds / 2
    hop = max(round(hop / model.step), 1) * model.step
    shape = {"fps": config.fps, "size": config.size}
    for clip in stream(path, config.seconds, hop, audio=False, **shape):
        first = clip.start if first is None else first
        count = len(clip.video) // step_frames
        if count < 3 and curves:
            continue
        frames = clip.video[: max(count, 1) * step_frames]
        if count < 1:
            continue
        motion = max(motion, float(np.abs(np.diff(frames.astype(np.int16), axis=0)).mean()))
        features = model.video_features(frames_to_input(torch.from_numpy(frames)[None].to(model.device)))
        begin = round((clip.start - first) / model.step)
        notice.add_video(features)
        placed = model.place(features)
        scores = offset_scores(placed.expand(PHASES, -1, -1, -1, -1), heard, config.pool_scale, begin, steps)
        curve = scores.T.flatten()[keep].cpu().numpy()[::-1]
        curves.append(curve)
        starts.append(clip.start - first)
    if not curves:
        raise NoVideoError(f"{path}: the picture is shorter than a step of the model")
    scale = config.score_scale
    stack = np.stack(curves)
    centred = stack - np.nanmedian(stack, 1, keepdims=True)
    known = np.isfinite(centred).mean(0) >= 0.5
    scores = np.where(known, np.nanmean(np.where(known, centred, 0), 0), np.nan)
    rows = []
    for start, curve in zip(starts, centred, strict=True):
        if np.isfinite(curve).any():
            offset, confidence = _posterior(curve, offsets, scale, model.step)
            rows.append(
                {
                    "start": round(start, 3),
                    "offset": round(offset, 4),
                    "confidence": round(confidence, 4),
                }
            )
    offset, confidence = _posterior(scores, offsets, scale * len(curves) ** 0.5, model.step)
    reason = ""
    if loudness < SILENCE:
        reason = "the sound track is silent"
    elif motion < STILL:
        reason = "the picture does not move"
    elif confidence < 0.3:
        reason = f"no offset stands out, confidence {confidence:.2f}"
    milliseconds = round(offset * 1000)
    if reason:
        verdict = "cannot be synchronized"
    elif abs(offset) <= tolerance:
        verdict = f"in sync ({milliseconds:+d} ms, within {tolerance * 1000:.0f} ms)"
    else:
        verdict = f"audio {'leads' if offset > 0 else 'lags'} by {abs(milliseconds)} ms"
    return SyncResult(
        str(path), None if reason else round(offset, 4), round(confidence, 4), verdict, reason,
        tolerance, offsets, scores, rows, notice.text(),
    )  # fmt: skip
