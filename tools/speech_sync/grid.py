"""GRID's sentences as crops of mouths and spectrograms of voices, kept in a folder from one run to the next."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.faces import MOUTH, face_tracks
from avlearn.files import replacing
from avlearn.media import read_clip
from avlearn.models.speech_sync import MOUTHS, SAMPLE_RATE, SpeechSync


@dataclass(frozen=True)
class Sentence:
    """A clip of one speaker: crops uint8 ``[T, 64, 64]`` and samples float32 ``[S]`` from the first crop on."""

    name: str
    speaker: str
    crops: Tensor
    audio: Tensor
    mel: Tensor


def load_sentences(grid: Path, cache: Path) -> list[Sentence]:
    """Every sentence in ``grid/SPEAKER/*.mp4`` in which a face is seen throughout."""
    cache.mkdir(parents=True, exist_ok=True)
    model = SpeechSync()
    found = []
    for path in sorted(grid.glob("s*/*.mp4")):
        kept = cache / f"{path.parent.name}-{path.stem}.npz"
        if not kept.exists():
            with replacing(kept) as part, part.open("wb") as file:  # another run may look for it
                np.savez(file, **_cut_out(path))
        with np.load(kept) as arrays:
            crops, audio = torch.from_numpy(arrays["crops"]), torch.from_numpy(arrays["audio"])
        if len(crops) >= 2.4 * MOUTHS:
            found.append(Sentence(path.stem, path.parent.name, crops, audio, model.spectrogram(audio)))
    return found


def _cut_out(path: Path) -> dict[str, np.ndarray]:
    tracks = list(face_tracks(path, MOUTH))
    if not tracks:
        return {"crops": np.zeros((0, 64, 64), np.uint8), "audio": np.zeros(0, np.float32)}
    track = max(tracks, key=lambda track: track.duration)
    audio = read_clip(path, video=False, sample_rate=SAMPLE_RATE, mono=True).audio[0]
    first, count = round(track.start * SAMPLE_RATE), len(track.crops) * SAMPLE_RATE // MOUTHS
    return {"crops": track.crops, "audio": np.pad(audio, (0, max(first + count - len(audio), 0)))[first:][:count]}
