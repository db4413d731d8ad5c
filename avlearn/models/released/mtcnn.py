"""MTCNN (Zhang et al., IEEE SPL 2016): faces and five landmarks in pictures, by three small networks in a row.

The first proposes squares at all sizes of a pyramid, the second and third refine and judge what is left. The weights
are those in the package ``mtcnn`` (MIT), which the extra ``faces`` installs; none of its code is imported.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import MissingExtraError, ModelError

_HASHES = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}  # of the files in mtcnn 1.0.0: arrays in a pickle, which is read only where it is the one that is known
_INSTALL = "pip install 'avlearn[faces]'"
_STEP = 0.709  # from one size of the pyramid to the next: half of the area
_CELL, _STRIDE = 12, 2  # pixels that the first network sees, and between its answers
_PROPOSED, _REFINED, _JUDGED = 0.6, 0.7, 0.8  # the probability from which a stage's answer goes on
_PATCHES = 512  # that go through a network at once


@dataclass(frozen=True)
class Faces:
    """Faces of a picture, the surest first.

    Attributes:
        boxes: float32 ``[N, 4]``: left, top, right, bottom, pixels. They may reach beyond the picture.
        landmarks: float32 ``[N, 5, 2]``: x and y of the eye on the left of the picture, that on the right, the nose,
            the left and the right corner of the mouth, pixels.
        scores: float32 ``[N]``, probabilities.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class FaceDetector(nn.Module):
    """Faces in frames."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet = nn.Sequential(
            *_conv(3, 10, 3), nn.MaxPool2d(2, 2, ceil_mode=True), *_conv(10, 16, 3), *_conv(16, 32, 3)
        )
        self.pnet_heads = nn.ModuleList([nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)])
        self.rnet = nn.Sequential(
            *_conv(3, 28, 3), nn.MaxPool2d(3, 2, ceil_mode=True), *_conv(28, 48, 3), nn.MaxPool2d(3, 2),
            *_conv(48, 64, 2), nn.Flatten(), nn.Linear(576, 128), nn.PReLU(128),
        )  # fmt: skip
        self.rnet_heads = nn.ModuleList([nn.Linear(128, 4), nn.Linear(128, 2)])
        self.onet = nn.Sequential(
            *_conv(3, 32, 3), nn.MaxPool2d(3, 2, ceil_mode=True), *_conv(32, 64, 3), nn.MaxPool2d(3, 2),
            *_conv(64, 64, 3), nn.MaxPool2d(2, 2, ceil_mode=True), *_conv(64, 128, 2),
            nn.Flatten(), nn.Linear(1152, 256), nn.PReLU(256),
        )  # fmt: skip
        self.onet_heads = nn.ModuleList([nn.Linear(256, 4), nn.Linear(256, 10), nn.Linear(256, 2)])

    @torch.inference_mode()
    def forward(self, frames: Tensor, smallest: float = 24.0) -> list[Faces]:
        """The faces of each frame.

        Args:
            frames: uint8 ``[T, H, W, 3]``, RGB.
            smallest: the side of the smallest face that is looked for, pixels; half of it costs four times as much.
        """
        pictures = (frames.permute(0, 3, 1, 2).float() - 127.5) / 128
        boxes, owner = self._propose(pictures, smallest)
        boxes, owner, scores, _ = self._refine(pictures, boxes, owner, 24)
        boxes, owner, scores, points = self._refine(pictures, boxes, owner, 48)
        found = []
        for frame in range(len(frames)):
            own = (owner == frame).nonzero()[:, 0]
            own = own[scores[own].argsort(descending=True)]
            found.append(Faces(*(x[own].cpu().numpy() for x in (boxes, points, scores))))
        return found

    def _propose(self, pictures: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
        """Squares ``[N, 4]`` that may hold a face, and the frame ``[N]`` of each."""
        from torchvision.ops import batched_nms  # heavy: only where faces are looked for

        height, width = pictures.shape[2:]
        scale, kept = (
            _CELL / smallest,
            [(pictures.new_zeros(0, 4), pictures.new_zeros(0).long(), pictures.new_zeros(0))],
        )
        while min(height, width) * scale >= _CELL:
            size = (round(height * scale), round(width * scale))
            x = self.pnet(F.interpolate(pictures, size, mode="bilinear", antialias=True))
            shift, score = self.pnet_heads[0](x), self.pnet_heads[1](x).softmax(1)[:, 1]
            frame, row, column = (score > _PROPOSED).nonzero(as_tuple=True)
            corner = torch.stack([column, row], 1) * _STRIDE
            cells = torch.cat([corner, corner + _CELL], 1) / scale
            boxes = _moved(cells, shift[frame, :, row, column])
            score = score[frame, row, column]
            first = batched_nms(cells, score, frame, 0.5)
            kept.append((boxes[first], frame[first], score[first]))
            scale *= _STEP
        boxes, owner, score = (torch.cat(parts) for parts in zip(*kept, strict=True))
        best = batched_nms(boxes, score, owner, 0.7)
        return _squares(boxes[best]), owner[best]

    def _refine(self, pictures: Tensor, boxes: Tensor, owner: Tensor, side: int) -> tuple[Tensor, ...]:
        """Boxes, frames, scores and landmarks of what the second network (24 pixels) or third (48) lets pass."""
        from torchvision.ops import batched_nms, roi_align

        net, heads = (self.rnet, self.rnet_heads) if side == 24 else (self.onet, self.onet_heads)
        parts = [[boxes.new_zeros(0, width) for width in ((4, 2) if side == 24 else (4, 10, 2))]]
        for some in torch.arange(len(boxes), device=boxes.device).split(_PATCHES):
            where = torch.cat([owner[some, None].float(), boxes[some]], 1)
            x = net(roi_align(pictures, where, side, aligned=True))
            parts.append([head(x) for head in heads])
        shift, *points, score = (torch.cat(part) for part in zip(*parts, strict=True))
        score = score.softmax(1)[:, 1]
        corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        marks = points[0].unflatten(1, (2, 5)).transpose(1, 2) if points else boxes.new_zeros(len(boxes), 5, 2)
        marks = corner[:, None] + marks * extent[:, None]
        boxes = _moved(boxes, shift)
        sure = (score > (_JUDGED if points else _REFINED)).nonzero()[:, 0]
        sure = sure[batched_nms(boxes[sure], score[sure], owner[sure], 0.4 if points else 0.7)]
        boxes, owner, score, marks = boxes[sure], owner[sure], score[sure], marks[sure]
        return (boxes if points else _squares(boxes)), owner, score, marks


def load_face_detector() -> FaceDetector:
    """The detector with the weights of the package ``mtcnn``, in evaluation mode.

    Raises:
        MissingExtraError: the package is not installed.
        ModelError: its files are not those of version 1.0.0.
    """
    spec = find_spec("mtcnn")
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"for talking faces: {_INSTALL}")
    folder = Path(spec.origin).parent / "assets" / "weights"
    detector = FaceDetector()
    for name, expected in _HASHES.items():
        module = [*getattr(detector, name).modules(), *getattr(detector, f"{name}_heads").modules()]
        _fill(module, _read(folder / f"{name}.lz4", expected))
    return detector.eval()


def _read(path: Path, expected: str) -> list[np.ndarray]:
    import joblib

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; install the detector again: {_INSTALL}") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise ModelError(f"{path} is not the file of mtcnn 1.0.0; install that: {_INSTALL}")
    return joblib.load(BytesIO(content))


def _fill(modules: Sequence[nn.Module], arrays: Sequence[np.ndarray]) -> None:
    """Weights in Keras' order and layout, into the layers in the same order."""
    left = iter(arrays)
    for module in modules:
        for parameter in module.parameters(recurse=False):
            array = torch.from_numpy(next(left))
            if isinstance(module, nn.Conv2d) and array.ndim == 4:
                array = array.permute(3, 2, 0, 1)
            elif isinstance(module, nn.Linear) and array.ndim == 2:
                side = 3 if len(array) in (576, 1152) else 1  # what was flattened in the order x, y, channel
                array = array.unflatten(0, (side, side, -1)).permute(3, 2, 1, 0).flatten(1)
            parameter.data.copy_(array.reshape(parameter.shape))


def _conv(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel), nn.PReLU(outputs)]


def _moved(boxes: Tensor, shift: Tensor) -> Tensor:
    """Boxes whose sides are shifted by parts of their width and height."""
    return boxes + shift * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)


def _squares(boxes: Tensor) -> Tensor:
    """Squares around the same centres, as large as the longer side."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)
