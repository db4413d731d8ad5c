"""Localization in clips that people annotated with boxes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.localize.maps import stitched_map, views
from avlearn.apply.windows import check_finite
from avlearn.data.manifest import Row
from avlearn.errors import DataError, MediaError
from avlearn.evaluation.evaluator import NO_COMMON_SPACE, CandidateClips, Evaluator, NotMeasurableError
from avlearn.evaluation.result import EvaluatorResult
from avlearn.files import reason_of
from avlearn.media import read_clip
from avlearn.metrics import MetricResult
from avlearn.metrics.ciou import annotation_map, benchmark
from avlearn.metrics.localization import enlarge
from avlearn.metrics.negative_audio import negative_audio, universal_threshold
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.released.localizers import (
    SAMPLE_RATE,
    Localizer,
    ObjectMap,
    enlarged,
    localizer_spectrogram,
    object_guided,
    prepare_image,
)
from avlearn.models.two_tower import frames_to_input
from avlearn.objectives.fusion import ShiftBCE, cam

_SIDE = 224  # pixels of the maps that are compared, as published
_COARSE = (56, 56)  # of those that are kept: what is marked under audio of nothing in the video needs no detail
_HEARD = 10.0  # seconds around the annotated instant that released networks are offered
_SHOWN = 0.04  # seconds for which they are shown its frame
_NEGATIVES = ("silence", "noise", "another clip")


class BoxEvaluator(Evaluator):
    """Localization on clips that people annotated with boxes, beside released localizers."""

    task = "localization"
    decodes = False

    def choose(self, listed: CandidateClips) -> list[Row]:
        if not (self.subject.common_space or self.subject.fused):
            raise NotMeasurableError(NO_COMMON_SPACE)
        if not listed.boxed:
            raise NotMeasurableError("no clip has boxes")
        return listed.boxed

    def measure(self, rows: list[Row]) -> EvaluatorResult:
        subject, metrics = self.subject, []
        items, self.skipped = readable_boxes(subject.model, annotated(rows))
        networks: list[AudioVisual | Localizer] = [subject.model, *subject.released]
        for network in networks:
            name = network.paper if isinstance(network, Localizer) else ""
            metrics += box_metrics(network, items, name, objective=subject.fused)
            if subject.objects is not None:
                name = f"{name}, with objects".removeprefix(", ")
                metrics += box_metrics(network, items, name, objective=subject.fused, objects=subject.objects)
        return EvaluatorResult(metrics)


@dataclass(frozen=True)
class Annotated:
    """An instant of a clip with its boxes.

    Attributes:
        row: the clip.
        instant: seconds on the file's own clock.
        boxes: ``[K, 4]`` as left, top, right, bottom, shares of the frame; of all annotators.
        agree: boxes a pixel needs to count fully.
    """

    row: Row
    instant: float
    boxes: np.ndarray
    agree: int

    def start(self, seconds: float, before: float) -> float:
        """Of a window of so many seconds that begins so long before the instant, moved to lie within the clip."""
        last = self.row.start + max(self.row.duration - seconds, 0.0)
        return min(max(self.instant - before, self.row.start), last)

    def truth(self, size: tuple[int, int] = (_SIDE, _SIDE)) -> np.ndarray:
        """`annotation_map` of the boxes."""
        return annotation_map(self.boxes, size, self.agree)


def annotated(rows: Sequence[Row]) -> list[Annotated]:
    """The instants of clips that have boxes, in order; clips that cannot be used are left out.

    Labels that are numbers stand for annotators, of whom two have to agree (Flickr-SoundNet); boxes with other labels
    are united (VGG-SS).
    """
    found = []
    for row in rows:
        boxed = [event for event in row.events if event.box and not row.reason]
        for instant in sorted({event.start for event in boxed}):
            now = [event for event in boxed if event.start == instant]
            agree = 2 if all(event.label.isdigit() for event in now) else 1
            found.append(Annotated(row, instant, np.array([event.box for event in now]), agree))
    return found


def readable_boxes(model: AudioVisual, items: list[Annotated]) -> tuple[list[Annotated], list[tuple[str, str]]]:
    """Items whose windows can be read, and path and reason of the others."""
    reader, good, skipped = _Ours(model, None), [], []
    for item in items:
        try:
            reader.read(item)
            good.append(item)
        except MediaError as error:
            path = str(item.row.source)
            skipped.append((path, reason_of(error, path)))
    if items and not good:
        raise DataError(f"no clip with boxes can be read; {skipped[0][0]}: {skipped[0][1]}")
    return good, skipped


class _Ours:
    """What a model of two towers makes of a clip: of the window that it takes, whose middle frame is of the instant."""

    def __init__(self, model: AudioVisual, objective: ShiftBCE | None) -> None:
        self.model, self.objective = model, objective

    def read(self, item: Annotated) -> tuple[Tensor, Tensor]:
        """Frames ``[1, 3, T, H, W]`` in [0, 1] and audio ``[1, S]``."""
        config = self.model.config
        middle = round(config.seconds * config.fps) // 2 / config.fps
        clip = read_clip(
            item.row.source, item.start(config.seconds, middle), config.seconds,
            fps=config.fps, size=config.size, sample_rate=config.sample_rate, mono=True,
        )  # fmt: skip
        return frames_to_input(torch.from_numpy(clip.video)[None]), torch.from_numpy(clip.audio)

    def maps(self, frames: Tensor, audio: list[Tensor]) -> Tensor:
        """``[K, Y, X]``, as `avlearn localize` makes them; of a fused network, its class activation."""
        model, frames, heard = self.model, frames.to(self.model.device), torch.cat(audio).to(self.model.device)
        if self.objective is not None:
            return cam(self.objective, model, frames, heard).cpu()
        seen = views(model, frames).expand(-1, len(heard), -1, -1, -1, -1)
        return stitched_map(seen, model.project_audio(model.audio_features(heard))).cpu()

    def guided(self, found: Tensor, frames: Tensor, objects: ObjectMap | None) -> np.ndarray:
        """Maps in pixels, together with where objects are, if that is asked for."""
        if objects is None:
            return enlarge(found.numpy(), _SIDE)
        still = prepare_image(frames[:, :, frames.shape[2] // 2], "EZ-VSL")
        return object_guided(found, _object_map(objects, still), "EZ-VSL", _SIDE).numpy()


class _Released:
    """What a released network makes of it, as its authors' evaluator feeds it: one frame, and the audio around."""

    def __init__(self, network: Localizer) -> None:
        self.network = network

    def read(self, item: Annotated) -> tuple[Tensor, Tensor]:
        """A frame ``[1, 3, H, W]`` in [0, 1] and audio ``[1, S]``."""
        source, seconds = item.row.source, min(_HEARD, item.row.duration)
        frames = read_clip(source, item.start(_SHOWN, 0.0), _SHOWN, fps=1 / _SHOWN, audio=False).video
        begin = item.start(seconds, seconds / 2)
        clip = read_clip(source, begin, seconds, sample_rate=SAMPLE_RATE, mono=True, video=False)
        return frames_to_input(torch.from_numpy(frames)).transpose(0, 1), torch.from_numpy(clip.audio)

    def maps(self, image: Tensor, audio: list[Tensor]) -> Tensor:
        """``[K, Y, X]``."""
        network, paper = self.network, self.network.paper
        heard = torch.cat([localizer_spectrogram(each.to(network.device), paper) for each in audio])
        return check_finite(network.heatmap(prepare_image(image.to(network.device), paper), heard), "the clip").cpu()

    def guided(self, found: Tensor, image: Tensor, objects: ObjectMap | None) -> np.ndarray:
        """Maps in pixels, together with where objects are, if that is asked for."""
        paper = self.network.paper
        if objects is None:
            return enlarged(found, paper, _SIDE).numpy()
        return object_guided(found, _object_map(objects, prepare_image(image, paper)), paper, _SIDE).numpy()


def _object_map(objects: ObjectMap, image: Tensor) -> Tensor:
    """``[B, Y, X]`` of an image as the network takes it."""
    return check_finite(objects.heatmap(image.to(objects.device)), "the frame").cpu()


@torch.inference_mode()
def box_metrics(
    network: AudioVisual | Localizer,
    items: Sequence[Annotated],
    name: str = "",
    *,
    objective: ShiftBCE | None = None,
    objects: ObjectMap | None = None,
) -> list[MetricResult]:
    """What `avlearn.metrics.ciou.benchmark` gives; without ``objects`` also what is marked under other audio.

    These are silence, noise as loud as the clip's audio, and the audio of the clip before. What counts as marked is
    chosen on every other item (`universal_threshold`) and measured on the rest; with a single item it is left out.

    Our models see a window of their training around the instant, all of the video. Released networks see the frame
    of the instant and what their evaluators make of the ten seconds around it; LVS sees the middle square, and as
    in its evaluator that is compared with boxes of the whole frame.

    Args:
        network: one of ours with a common space or an ``objective``, or a released one.
        items: one or more, of `annotated`.
        name: what to add to the metrics'.
        objective: that the network was trained by, where it has no common space.
        objects: to be combined with the map (`object_guided`).

    Raises:
        MediaError: a clip cannot be read.
    """
    reader = _Released(network) if isinstance(network, Localizer) else _Ours(network, objective)
    kept: list[np.ndarray] = []

    def compared() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        _, before = reader.read(items[-1])
        for number, item in enumerate(items):
            seen, audio = reader.read(item)
            noise = torch.randn(audio.shape, generator=torch.Generator().manual_seed(number))
            others = [torch.zeros_like(audio), noise * audio.square().mean().sqrt(), before]
            found = reader.maps(seen, [audio, *others] if objects is None else [audio])
            kept.append(enlarge(found.numpy(), _COARSE).astype(np.float32))
            before = audio
            yield reader.guided(found[:1], seen, objects)[0], item.truth()

    metrics = benchmark(compared(), name)
    if objects is not None or len(items) < 2:
        return metrics
    truth, maps = np.stack([item.truth(_COARSE) for item in items]), np.stack(kept, 1)
    threshold = universal_threshold(dict(zip(_NEGATIVES, maps[1:, 1::2], strict=True)))
    negatives = dict(zip(_NEGATIVES, maps[1:, ::2], strict=True))
    return metrics + negative_audio(maps[0, ::2], truth[::2], negatives, threshold, name)
