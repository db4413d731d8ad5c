"""A preview learns from a recognizer: what it says of windows, by one frame and audio; and which windows it needs."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from avlearn.apply.preview import Glances, as_previewed, read_glances
from avlearn.apply.recognize import recognize_windows
from avlearn.errors import DataError
from avlearn.media.source import Source
from avlearn.models.encoder import pooled
from avlearn.models.preview import Preview, PreviewConfig
from avlearn.models.recognizer import Recognizer

STEPS = 10  # windows that are picked of a file while learning, as published
_LEAST = 10  # files
_HELD_OUT = 0.1  # share of the files
_BATCH, _FILES = 64, 16  # windows, and files, of a batch
_RATE, _DECAY = 1e-3, 0.02


@dataclass(frozen=True)
class TaughtFile:
    """A labelled file.

    Attributes:
        glances: of its N windows; audio is float16.
        features: ``[N, D]``, of the recognizer.
        probabilities: ``[N, classes]``, of the recognizer.
        labels: bool ``[classes]``.
    """

    glances: Glances
    features: Tensor
    probabilities: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Learned:
    """How a preview does on files that it did not learn from.

    Attributes:
        agreement: share of windows whose likeliest class is that of the recognizer.
        usual: the same of always saying the recognizer's most frequent answer.
        loss: of the files' labels by the windows that are picked, after learning.
        loss_before: the same before the picking was learned.
        windows, files: that were learned from.
        held_out: files that were not.
    """

    agreement: float
    usual: float
    loss: float
    loss_before: float
    windows: int
    files: int
    held_out: int


def taught_file(path: Source, model: Recognizer, labels: Tensor) -> TaughtFile:
    """What a recognizer says of a file's windows, beside what a preview is to take. 0.1 MB a window, or more.

    Raises:
        ModelError, NoVideoError, NoAudioError, MediaError: as of `avlearn.apply.preview.read_glances`.
    """
    parts = list(read_glances(path, model))
    windows = [(window_features(found.features), found.probabilities) for found in recognize_windows(path, model)]
    count = min(len(windows), sum(len(part.starts) for part in parts))
    glances = Glances(
        np.concatenate([part.starts for part in parts])[:count],
        np.concatenate([part.frames for part in parts])[:count],
        np.concatenate([part.audio for part in parts])[:count].astype(np.float16),
    )
    features, probabilities = (torch.stack(values[:count]).cpu() for values in map(list, zip(*windows, strict=True)))
    return TaughtFile(glances, features, probabilities, labels)


def window_features(features: dict[str, Tensor]) -> Tensor:
    """A window's features ``[D]``, averaged over time and space."""
    return torch.cat([pooled(values) for values in features.values()], 1)[0]


def learn_preview(
    files: Sequence[TaughtFile],
    model: Recognizer,
    *,
    image: str,
    audio: str,
    epochs: int = 20,
    seed: int = 0,
    hidden: int = 1024,
    key: int = 512,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Preview, Learned]:
    """Distil a recognizer into a preview, and learn to pick windows.

    Args:
        files: a tenth of them is held out.
        model: the recognizer.
        image, audio: names of the preview's encoders.
        epochs: of the distillation; the picking has five times as many, of files.
        seed: of all that is drawn.
        hidden, key: of what picks: see `PreviewConfig`.
        progress: told how many epochs are done, and of how many.

    Returns:
        The preview, in evaluation mode, and how it does.

    Raises:
        DataError: there are too few files.
        ModelError: an encoder cannot be made.
    """
    if len(files) < _LEAST:
        raise DataError(f"{len(files)} files can be learned from: a preview takes {_LEAST} at least")
    torch.manual_seed(seed)
    config = PreviewConfig(
        image=image, audio=audio, sample_rate=model.config.sample_rate, features=files[0].features.shape[1],
        classes=len(model.config.labels), hidden=hidden, key=key,
    )  # fmt: skip
    preview = Preview(config).to(model.device)
    order = torch.randperm(len(files)).tolist()
    held = max(round(_HELD_OUT * len(files)), 1)
    unseen, seen = [files[k] for k in order[:held]], [files[k] for k in order[held:]]
    total = 6 * epochs

    def say(done: int) -> None:
        progress(done, total)

    _distil(preview, seen, epochs, model.config.multi_label, say)
    agreement, usual = _agreement(preview, unseen)
    losses = _learn_to_pick(preview, seen, unseen, 5 * epochs, model.config.multi_label, lambda k: say(epochs + k))
    learned = Learned(
        agreement, usual, losses[1], losses[0], sum(len(file.features) for file in seen), len(seen), len(unseen)
    )
    return preview.eval(), learned


def _glances(files: Sequence[TaughtFile], device: torch.device) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Makes batches of windows, by their numbers over all files."""
    frames = np.concatenate([file.glances.frames for file in files])
    audio = np.concatenate([file.glances.audio for file in files])

    def batch(chosen: Tensor) -> tuple[Tensor, Tensor]:
        some = chosen.numpy()
        return as_previewed(Glances(some, frames[some], audio[some].astype(np.float32)), device)

    return batch


def _distil(
    preview: Preview, files: Sequence[TaughtFile], epochs: int, multi_label: bool, progress: Callable[[int], None]
) -> None:
    """Teach features (the mean distance along a channel) and class probabilities (the divergence) of windows."""
    batch_of, device = _glances(files, preview.device), preview.device
    features = torch.cat([file.features for file in files])
    probabilities = torch.cat([file.probabilities for file in files])
    parameters = [p for name, p in preview.named_parameters() if not name.startswith("skimmer.")]
    steps = -(-len(features) // _BATCH)
    optimizer = torch.optim.AdamW(parameters, _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, epochs * steps)
    preview.train()
    for epoch in range(epochs):
        for chosen in torch.randperm(len(features)).tensor_split(steps):
            found = preview.fuse(preview.sides(*batch_of(chosen)))
            wanted, said = features[chosen].to(device), probabilities[chosen].to(device)
            loss = F.l1_loss(found, wanted) + divergence(preview.classifier(found), said, multi_label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress(epoch + 1)
    preview.eval()


def divergence(scores: Tensor, probabilities: Tensor, multi_label: bool) -> Tensor:
    """Loss of scores ``[B, classes]`` beside a recognizer's probabilities, of all classes together or of each."""
    if multi_label:
        return F.binary_cross_entropy_with_logits(scores, probabilities)
    return F.kl_div(scores.log_softmax(1), probabilities, reduction="batchmean")


@torch.no_grad()
def _sides(preview: Preview, files: Sequence[TaughtFile]) -> list[Tensor]:
    """Of each file's windows, ``[N, both]``."""
    batch_of, count = _glances(files, preview.device), sum(len(file.features) for file in files)
    found = torch.cat([preview.sides(*batch_of(chosen)) for chosen in torch.arange(count).split(_BATCH)])
    return list(found.split([len(file.features) for file in files]))


@torch.inference_mode()
def _agreement(preview: Preview, files: Sequence[TaughtFile]) -> tuple[float, float]:
    said = preview.classifier(preview.fuse(torch.cat(_sides(preview, files)))).argmax(1).cpu()
    theirs = torch.cat([file.probabilities for file in files]).argmax(1)
    return float((said == theirs).float().mean()), float((theirs == theirs.mode().values).float().mean())


def _learn_to_pick(
    preview: Preview,
    files: Sequence[TaughtFile],
    unseen: Sequence[TaughtFile],
    epochs: int,
    multi_label: bool,
    progress: Callable[[int], None],
) -> tuple[float, float]:
    """Learn the skimmer by the files' labels; its loss on files that are held out, before and after.

    What is best on these is kept.
    """
    sides, held = _sides(preview, files), _sides(preview, unseen)
    labels, wanted = (torch.stack([file.labels for file in some]).float() for some in (files, unseen))
    skimmer = preview.skimmer
    optimizer = torch.optim.AdamW(skimmer.parameters(), _RATE, weight_decay=_DECAY)
    steps = -(-len(files) // _FILES)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, epochs * steps)

    def loss_of(some: Sequence[Tensor], truth: Tensor) -> Tensor:
        scores = preview.classifier(_picked_features(preview, some))
        truth = truth.to(scores.device)
        return F.binary_cross_entropy_with_logits(scores, truth) if multi_label else F.cross_entropy(scores, truth)

    @torch.no_grad()
    def held_out() -> float:
        skimmer.eval()
        return float(loss_of(held, wanted))

    before = best = held_out()
    kept = deepcopy(skimmer.state_dict())
    for epoch in range(epochs):
        skimmer.train()
        for chosen in torch.randperm(len(files)).tensor_split(steps):
            loss = loss_of([sides[k] for k in chosen.tolist()], labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        now = held_out()
        if now < best:
            best, kept = now, deepcopy(skimmer.state_dict())
        progress(epoch + 1)
    skimmer.load_state_dict(kept)
    return before, best


def _picked_features(preview: Preview, sides: Sequence[Tensor]) -> Tensor:
    """Features ``[B, D]`` of files, averaged over the windows that are picked: `STEPS`, or half of the shortest."""
    padded = pad_sequence(list(sides), batch_first=True).clone()
    lengths = torch.tensor([len(side) for side in sides], device=padded.device)
    there = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
    steps = max(min(STEPS, int(lengths.min()) // 2), 1)
    return torch.stack([found for _, found in preview.skimmer(padded, there, steps, preview.fuse)]).mean(0)
