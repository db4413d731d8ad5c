"""Windows of files as models take them, without the models: they are decoded here, and encoded elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from avlearn.apply.embed import Row, pooled_audio, pooled_features, pooled_video, recognized_means
from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel, encoder_clips, preprocessed
from avlearn.apply.recognize import cut_clips, network_input
from avlearn.apply.windows import check_finite, cut_stream, cut_windows
from avlearn.config import ModelConfig, RecognizerConfig
from avlearn.errors import MediaError
from avlearn.media import SharedDecoding
from avlearn.media.probe import probe
from avlearn.media.source import Source
from avlearn.models.encoder import pooled
from avlearn.models.recognizer import Recognizer
from avlearn.models.two_tower import frames_to_input
from avlearn.models.weights.preprocessing import AudioPreprocessing, Preprocessing


class TakenWindow(NamedTuple):
    """A window of a file: start in seconds, and what a model takes of it, without the dimension of the batch.

    Frames are uint8 ``[T, H, W, 3]`` and audio is ``[S]``; of an encoder alone, they are `preprocessed`.
    """

    start: float
    video: Tensor | None
    audio: Tensor | None

    @property
    def shapes(self) -> tuple[torch.Size | None, ...]:
        """What windows that are encoded at once have in common."""
        return tuple(None if part is None else part.shape for part in (self.video, self.audio))

    @property
    def bytes(self) -> int:
        """Of memory."""
        return sum(part.nbytes for part in (self.video, self.audio) if part is not None)


@dataclass(frozen=True)
class WindowCutter:
    """What is to be known of a model to cut the windows that it takes; it can be pickled.

    Attributes:
        how: the model takes its windows.
        seconds: of a window.
        step: of the features of towers, in seconds.
    """

    how: ModelConfig | RecognizerConfig | Preprocessing | AudioPreprocessing
    seconds: float
    step: float = 0.0

    @classmethod
    def of(cls, model: FeatureModel) -> "WindowCutter":
        """That of a model."""
        if isinstance(model, EncoderAlone):
            return cls(model.preprocessing, model.seconds)
        return cls(model.config, model.config.seconds, 0.0 if isinstance(model, Recognizer) else model.step)

    def windows(self, path: Source, decoded: SharedDecoding | None = None) -> Iterator[TakenWindow]:
        """Those of a file, whose features `avlearn.apply.embed.window_rows` gives.

        Raises:
            MediaError: the file cannot be read, or lacks what the model takes.
        """
        if isinstance(self.how, ModelConfig):
            yield from self._of_towers(path, self.how, decoded)
        elif isinstance(self.how, RecognizerConfig):
            for start, clip in cut_clips(path, self.how, decoded=decoded):
                seen, audio = network_input(clip, self.how)
                yield TakenWindow(start, torch.from_numpy(seen) if self.how.sees else None, audio)
        else:
            for start, given in encoder_clips(path, self.how, decoded):
                taken = preprocessed(given, self.how)
                sees = isinstance(self.how, Preprocessing)
                yield TakenWindow(start, taken if sees else None, None if sees else taken)

    def _of_towers(self, path: Source, config: ModelConfig, decoded: SharedDecoding | None) -> Iterator[TakenWindow]:
        info, hop = probe(path), config.seconds / 2
        if info.video is not None and info.audio is not None:
            for start, frames, audio in cut_windows(path, config, self.step, hop, decoded):
                yield TakenWindow(start, torch.from_numpy(frames), torch.from_numpy(audio[0]))
            return
        empty, kind = True, "audio" if info.video is None else "video"
        for start, held in cut_stream(path, config, self.step, hop, "audio" if kind == "audio" else "video", decoded):
            empty = False
            yield TakenWindow(start, *((held, None) if kind == "video" else (None, held)))
        if empty:
            raise MediaError(f"{path} holds no {kind}")


@torch.inference_mode()
def encode(model: FeatureModel, windows: Sequence[TakenWindow]) -> list[Row]:
    """Features of windows of the same shapes, at once.

    Raises:
        ModelError: they are not finite.
    """
    video, audio = (
        None if parts[0] is None else torch.stack([part for part in parts if part is not None])
        for parts in zip(*((window.video, window.audio) for window in windows), strict=True)
    )
    nothing = torch.zeros(len(windows), 0)
    if isinstance(model, EncoderAlone):
        taken = video if video is not None else audio
        assert taken is not None  # it takes one of both
        means = pooled(model.encoded(model.taken(taken)))
        seen, heard = (means, nothing) if model.sees else (nothing, means)
    elif isinstance(model, Recognizer):
        frames = None if video is None else frames_to_input(video.to(model.device))
        features = model.features(frames, None if audio is None else audio.to(model.device))
        found = {kind: check_finite(mean, f"the {kind}") for kind, mean in recognized_means(model, features).items()}
        seen, heard = found.get("video", nothing), found.get("audio", nothing)
    else:
        lacking = {kind: torch.full((len(windows), 3 * tower.num_features), torch.nan)
                   for kind, tower in (("video", model.video), ("audio", model.audio))}  # fmt: skip
        frame_features = None if video is None else check_finite(
            model.video_features(frames_to_input(video.to(model.device))), "the video")  # fmt: skip
        sounds = None if audio is None else check_finite(model.audio_features(audio.to(model.device)), "the audio")
        if frame_features is not None and sounds is not None:
            seen, heard = pooled_features(model, frame_features, sounds)
        else:
            seen = lacking["video"] if frame_features is None else pooled_video(frame_features)
            heard = lacking["audio"] if sounds is None else pooled_audio(sounds)
    rows = zip(seen.cpu().numpy(), heard.cpu().numpy(), strict=True)
    return [(window.start, *row) for window, row in zip(windows, rows, strict=True)]
