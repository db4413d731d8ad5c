"""Which frames of a video a recognizer is tested on: several clips, and several crops of each.

The rules are those by which published figures were measured, frame by frame.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from avlearn.errors import DataError

Rule = Literal["even", "mmaction2", "pyslowfast", "uniform", "dense"]
_FORM = re.compile(r"(?:([a-z0-9]+):)?(?:(\d+)?x)?(\d+)?")


@dataclass(frozen=True)
class Views:
    """Clips of a video and crops of each, over which scores are averaged.

    Attributes:
        rule: how clips are laid.

            - ``even``: from the first frame to the last; one clip is the middle one. What lies after the last frame is
              the clip's last one again. (mmaction2's ``SampleFrames(test_mode=True, out_of_bound_opt="repeat_last")``)
            - ``mmaction2``: the same, but what lies after the last frame begins again with the first, which is that
              library's default.
            - ``pyslowfast``: from the first frame on, the last clip ends one part before the end; frames are spread
              over ``frames * stride``, the last one of which is shown. With segments: those of its ``ssv2``.
            - ``uniform``: one frame out of each of as many parts as a clip has frames (TSN); one clip has their
              middles, a second one their beginnings (``twice_sample`` of mmaction2; VideoMAE on Something-Something).
            - ``dense``: one after the other, as many as fit, one at least (``UniformClipSampler`` of pytorchvideo).
        clips: of a video; not of ``dense``.
        crops: squares of each along the longer side: 1 (the middle) or 3 (both ends too).

    Raises:
        DataError: there is no such rule, or it has no such clips or crops.
    """

    rule: Rule = "even"
    clips: int = 10
    crops: int = 1

    def __post_init__(self) -> None:
        """Hold views to what rules are published for."""
        if self.rule not in get_args(Rule):
            raise DataError(f"views: there is no rule '{self.rule}'; there are {', '.join(get_args(Rule))}")
        if self.crops not in (1, 3):
            raise DataError(f"views: there are 1 or 3 crops, not {self.crops}")
        if not 1 <= self.clips <= (2 if self.rule == "uniform" else 1000):
            most = "1 or 2" if self.rule == "uniform" else "1 to 1000"
            raise DataError(f"views: {self.rule} has {most} clips, not {self.clips}")

    def __str__(self) -> str:
        """As `parse_views` reads it."""
        return f"dense:x{self.crops}" if self.rule == "dense" else f"{self.rule}:{self.clips}x{self.crops}"


def parse_views(text: str | None, segments: bool = False) -> Views:
    """Read ``10x3``, ``pyslowfast:10x3``, ``uniform``, ``dense`` or ``dense:x3``.

    Args:
        text: clips x crops, after the name of a rule; None: 10x1, or uniform:1x1 with segments.
        segments: whether the network takes one frame out of each part of a video.

    Raises:
        DataError: it is none of these, or no rule for such a network.
    """
    text = text or ""
    if text in get_args(Rule):
        text += ":"
    found = _FORM.fullmatch(text)
    if found is None:
        raise DataError(f"--views {text}: write clips x crops, as in 10x3, uniform:2x3 or dense:x3")
    rule = found[1] or ("uniform" if segments else "even")
    clips = int(found[2] or (10 if rule in ("even", "mmaction2") or (rule == "pyslowfast" and not segments) else 1))
    views = Views(rule, clips, int(found[3] or 1))  # type: ignore[arg-type]  # held to the rules there are by Views
    if segments and (rule not in ("uniform", "pyslowfast") or (rule == "pyslowfast" and clips > 1)):
        raise DataError(f"--views {views}: a network of segments takes uniform:1xC, uniform:2xC or pyslowfast:1xC")
    return views


def clip_frames(views: Views, length: int, frames: int, stride: float, segments: bool = False) -> np.ndarray:
    """Frames of each clip: ``[K, T]`` integers from 0 to ``length - 1``.

    Args:
        views: the rule, and how many clips.
        length: frames of the video.
        frames: of a clip.
        stride: frames of the video from one of a clip to the next: its rate over that of the network.
        segments: whether the network takes one frame out of each part of the video.
    """
    if segments and views.rule == "pyslowfast":
        edges: np.ndarray = np.round((length - 1) / frames * np.arange(frames + 1)).astype(int)
        return np.asarray((edges[:-1] + edges[1:]) // 2)[None]
    if views.rule == "uniform":
        part = length / frames
        first = np.arange(frames) * part
        places = np.stack([first + part / 2, first][: views.clips]).astype(int)
        return np.asarray(np.minimum(places, length - 1))
    starts = clip_starts(views, length, frames, stride)
    if views.rule == "pyslowfast":
        last = max(frames * stride, 1.0) - 1
        lines = [torch.linspace(start, start + last, frames) for start in starts.tolist()]
        return np.asarray(torch.stack(lines).clamp(0, length - 1).long())
    # What is a whole number of frames may come out as a little less.
    places = (starts[:, None] + np.arange(frames) * stride + 1e-6).astype(int)
    beyond: np.ndarray = places >= length
    again = places % length if views.rule == "mmaction2" else np.where(beyond, 0, places).max(1, keepdims=True)
    return np.asarray(np.where(beyond, again, places))


def clip_starts(views: Views, length: float, frames: int, stride: float) -> np.ndarray:
    """Where clips begin, ``[K]`` in frames of the video; the arguments are those of `clip_frames`.

    Of ``uniform``, whose clips all last as long as the video: where windows of audio do.
    """
    span = frames * stride
    room = max(length - ((frames - 1) * stride + 1), 0.0)
    starts: np.ndarray
    if views.rule == "dense":
        starts = np.arange(max(int(length / span + 1e-6), 1)) * span
    elif views.rule == "pyslowfast":
        starts = max(length - max(span, 1.0), 0.0) * np.arange(views.clips) / views.clips
    elif views.clips == 1:
        starts = np.array([room // 2])
    else:
        starts = np.round(np.arange(views.clips) * (room / (views.clips - 1)))
    return starts


def square_crops(frames: np.ndarray, crops: int) -> list[np.ndarray]:
    """Squares of frames ``[T, H, W, 3]`` along their longer side: the middle one, or both ends and the middle."""
    rows, columns = frames.shape[1:3]
    side, room = min(rows, columns), abs(rows - columns)
    places = [room // 2] if crops == 1 else [0, room // 2, room]
    if rows > columns:
        return [frames[:, place : place + side] for place in places]
    return [frames[:, :, place : place + side] for place in places]
