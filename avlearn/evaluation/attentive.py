"""Attentive probe: one query attends to the tokens of frozen features, and a linear classifier follows."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel, encoder_windows
from avlearn.apply.recognize import recognize_windows
from avlearn.apply.windows import stream_windows
from avlearn.data.manifest import Row
from avlearn.errors import AvlearnError, DataError, MediaError, ModelError
from avlearn.evaluation.classifiers import Choice
from avlearn.evaluation.clip_features import ClipFeatures, Skipped, features_of
from avlearn.files import reason_of
from avlearn.media import probe
from avlearn.media.source import Source
from avlearn.models.recognizer import Recognizer

_MOST_GB = 32  # of tokens on disk
_WINDOWS = 8  # of a clip, from its start
_HEADS = 4
_SPREAD = 0.02  # of a query before training: all tokens count about alike
_RATES = (3e-4, 1e-3, 3e-3)
_DECAY = 0.01
_BATCH = 16
_EPOCHS, _LEAST_STEPS = 20, 200  # V-JEPA probes for 20 epochs; of few clips these are too few steps
_WARM = 0.1  # of the steps, in which the rate rises


class TokenStore:
    """Tokens of clips, float16 in a temporary file that is mapped to memory, 32 GB at most.

    Args:
        most: bytes.
    """

    def __init__(self, most: int = _MOST_GB << 30):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this
        self._most, self._size = most, 0
        self._places: list[tuple[int, int, int]] = []  # first byte, tokens, values of each

    def append(self, tokens: Tensor) -> int:
        """Keep ``[L, D]``; the number by which they are read.

        Raises:
            DataError: they are too many, or too large for half precision.
        """
        half = tokens.to("cpu", torch.float16).contiguous()
        if not half.isfinite().all():
            raise DataError("the features are too large for half precision, in which an attentive probe keeps them")
        size = half.numel() * 2
        if self._size + size > self._most:
            raise DataError(
                f"the tokens of the first {len(self._places)} clips fill {self._most / 2**30:g} GB, the most that an "
                "attentive probe keeps: give fewer or shorter clips, or take another classifier"
            )
        self._file.write(half.numpy().tobytes())
        self._places.append((self._size, *half.shape))
        self._size += size
        return len(self._places) - 1

    def size(self, number: int) -> int:
        """Values of each of a clip's tokens."""
        return self._places[number][2]

    def read(self, number: int, device: torch.device) -> Tensor:
        """Tokens ``[L, D]`` float32."""
        self._file.flush()
        first, count, values = self._places[number]
        mapped = np.memmap(self._file, np.float16, "c", first, (count, values))
        return torch.from_numpy(mapped).to(device).float()


def file_tokens(
    model: FeatureModel,
    rows: Sequence[Row],
    labels: np.ndarray,
    store: TokenStore,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ClipFeatures, Skipped]:
    """Tokens of files into a store, from the first 8 windows of each, which do not overlap.

    Returns:
        Their numbers in the store in place of features: ``video`` and ``audio`` ``[N, 1]``, NaN where there are none;
        and path and reason of each file that cannot be read.

    Raises:
        DataError: none can be read, or they are too many.
    """
    taken = features_of(model)
    numbers = {kind: np.full((len(rows), int(kind in taken)), np.nan) for kind in ("video", "audio")}
    skipped: Skipped = []
    for k, row in enumerate(rows):
        try:
            found = _tokens(row.source, model)
        except AvlearnError as error:
            skipped.append((str(row.source), reason_of(error, row.source)))
            found = {}
        for kind, tokens in found.items():
            numbers[kind][k] = store.append(tokens)
        if progress:
            progress(k + 1, len(rows))
    if len(skipped) == len(rows):
        raise DataError(f"none of {len(rows)} clips could be used; the first: {': '.join(skipped[0])}")
    return ClipFeatures(numbers["video"], numbers["audio"], labels), skipped


def _tokens(path: Source, model: FeatureModel) -> dict[str, Tensor]:
    """Of ``video`` and ``audio``, as far as the file has them and the model takes them: ``[L, D]``."""
    windows: dict[str, Iterator[Tensor]] = {}
    if isinstance(model, Recognizer):
        found = [window.features for window in islice(recognize_windows(path, model), _WINDOWS)]
        if set(found[0]) != set(features_of(model)):
            raise ModelError(
                f"{model.config.fusion} has features of {', '.join(found[0])}: an attentive probe takes two"
            )
        return {kind: _joined(iter([each[kind] for each in found]), path) for kind in found[0]}
    if isinstance(model, EncoderAlone):
        windows[features_of(model)[0]] = (features for _, features in encoder_windows(path, model))
    else:
        info, seconds = probe(path), model.config.seconds
        if info.video is not None:
            windows["video"] = (features for _, features in stream_windows(path, model, seconds, "video"))
        if info.audio is not None:
            windows["audio"] = (features for _, features in stream_windows(path, model, seconds, "audio"))
    return {kind: _joined(features, path) for kind, features in windows.items()}


def _joined(windows: Iterator[Tensor], path: Source) -> Tensor:
    """Tokens ``[L, D]`` of the first windows' features ``[1, D, T, Y, X]`` or ``[1, D, T]``."""
    tokens = [features[0].flatten(1).T for features in islice(windows, _WINDOWS)]
    if not tokens:
        raise MediaError(f"{path} holds nothing")
    return torch.cat(tokens)


class AttentiveProbe(nn.Module):
    """One query attends to tokens, and a linear classifier follows (V-JEPA: Bardes et al. 2024; CoCa: Yu et al. 2022).

    Of one query, the projection of the keys is a vector a head, and that of the values is a part of the classifier:
    both are learned as that. V-JEPA's further layers are left out, which few clips cannot teach.

    Args:
        sizes: values of a token, of each kind of tokens (video, audio, or both).
        classes: how many.
    """

    def __init__(self, sizes: Sequence[int], classes: int):
        super().__init__()
        self.queries = nn.ParameterList(torch.randn(_HEADS, size) * _SPREAD for size in sizes)
        self.head = nn.Linear(_HEADS * sum(sizes), classes)
        for k, size in enumerate(sizes):
            self.register_buffer(f"mean{k}", torch.zeros(size))
            self.register_buffer(f"std{k}", torch.ones(size))
            self.register_buffer(f"spread{k}", torch.ones(size))

    def standardise(self, kind: int, means: Tensor, squares: Tensor) -> None:
        """Take the scale of tokens, and mean and std of what the head gets from them, from the training clips.

        Tokens spread more than their means over clips do: by the std of those, scores would begin so large that the
        query rests on one token.

        Args:
            kind: of tokens.
            means, squares: ``[N, D]``, the means over each clip's tokens of these and of their squares.
        """
        mean, small = means.mean(0), 1e-4 * means.std() + 1e-8
        setattr(self, f"mean{kind}", mean)
        setattr(self, f"std{kind}", means.std(0, unbiased=False) + small)
        setattr(self, f"spread{kind}", (squares.mean(0) - mean.square()).clamp(min=0).sqrt() + small)

    def forward(self, inputs: Sequence[Sequence[Tensor]]) -> Tensor:
        """Scores ``[B, classes]`` of tokens ``[L, D]`` of each of B clips, for each kind."""
        pooled = []
        for k, clips in enumerate(inputs):
            mean, std = getattr(self, f"mean{k}"), getattr(self, f"std{k}")
            # The mean only moves all scores alike; and weights sum to one, so that it can be taken off afterwards.
            query = (self.queries[k] / getattr(self, f"spread{k}")).T
            heads = torch.stack([(tokens @ query).softmax(0).T @ tokens for tokens in clips])
            pooled.append(((heads - mean) / std).flatten(1))
        return self.head(torch.cat(pooled, 1))


@dataclass
class FittedAttentive:
    """A probe that was fitted, as other classifiers are: of numbers of clips in a store, ``[M, kinds]``."""

    module: AttentiveProbe
    store: TokenStore
    classes_: np.ndarray
    device: torch.device

    @torch.inference_mode()
    def decision_function(self, values: np.ndarray) -> np.ndarray:
        """Scores ``[M, C]``; of two classes ``[M]``, of the second over the first."""
        batches = np.array_split(values, max(-(-len(values) // _BATCH), 1))
        scores = torch.cat([self.module(_inputs(self.store, part, self.device)) for part in batches]).cpu().numpy()
        return scores if len(self.classes_) > 2 else scores[:, 1] - scores[:, 0]

    def score(self, values: np.ndarray, labels: np.ndarray) -> float:
        """Share of labels that are right."""
        found = self.decision_function(values)
        best = found.argmax(1) if found.ndim > 1 else (found > 0).astype(int)
        return float((self.classes_[best] == labels).mean())


def _inputs(store: TokenStore, values: np.ndarray, device: torch.device) -> list[list[Tensor]]:
    return [[store.read(int(number), device) for number in column] for column in values.T]


@dataclass
class AttentiveFit:
    """Fits attentive probes on tokens of a store, as `avlearn.evaluation.classifiers.Fit` says; the rate is chosen.

    Attributes:
        store: of the tokens.
        device: where it computes.
        progress: told how many of the steps of a fit are done.
    """

    store: TokenStore
    device: torch.device
    progress: Callable[[int, int], None] | None = None

    def __call__(
        self, values: np.ndarray, labels: np.ndarray, choices: Sequence[Choice], fitted: np.ndarray
    ) -> FittedAttentive:
        """The probe of the rate that is right most often on the first clips that choose, fitted again where asked."""
        train, val = choices[0]  # a choice takes as long as a fit
        tried = [self._train(values[train], labels[train], rate) for rate in _RATES]
        scores = [probe.score(values[val], labels[val]) for probe in tried]
        best = int(np.argmax(scores))
        same = len(train) == len(fitted) and (train == fitted).all()
        return tried[best] if same else self._train(values[fitted], labels[fitted], _RATES[best])

    def _train(self, values: np.ndarray, labels: np.ndarray, rate: float) -> FittedAttentive:
        classes, targets = np.unique(labels, return_inverse=True)
        rng = np.random.default_rng(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = AttentiveProbe([self.store.size(int(number)) for number in values[0]], len(classes))
        for kind, column in enumerate(values.T):
            clips = (self.store.read(int(number), self.device) for number in column)  # one at a time in memory
            moments = torch.stack([torch.stack([own.mean(0), own.square().mean(0)]) for own in clips])
            module.standardise(kind, moments[:, 0], moments[:, 1])
        module.to(self.device)
        each = -(-len(values) // _BATCH)
        steps = max(_EPOCHS * each, _LEAST_STEPS)
        optimizer = torch.optim.AdamW(module.parameters(), rate, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=_WARM, cycle_momentum=False)
        for step in range(steps):
            if step % each == 0:
                order = np.array_split(rng.permutation(len(values)), each)
            part = order[step % each]
            scores = module(_inputs(self.store, values[part], self.device))
            loss = F.cross_entropy(scores, torch.from_numpy(targets[part]).to(self.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if self.progress:
                self.progress(step + 1, steps)
        return FittedAttentive(module.eval(), self.store, classes, self.device)
