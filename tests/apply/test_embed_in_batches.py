"""Windows of several files, decoded by processes without a model, are encoded at once: with the same features."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from encoder_folders import x3d_folder
from pretend_device import pretend_device

from avlearn.apply import embed_in_batches as module
from avlearn.apply import feature_folder
from avlearn.apply.embed import FileFeatures, embed_file
from avlearn.apply.embed_in_batches import embed_in_batches
from avlearn.apply.encoder_alone import load_embedder, load_features
from avlearn.apply.run_many import Failure, InferenceOptions
from avlearn.apply.taken_windows import WindowCutter, encode
from avlearn.config import RecognizerConfig
from avlearn.media import write_wav
from avlearn.models.recognizer import Recognizer


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A video encoder alone."""
    return load_embedder(x3d_folder(tmp_path_factory.mktemp("models") / "x3d"))


@pytest.fixture(scope="module")
def clips(small_world):
    return sorted((small_world / "clips").glob("*.mp4"))[:4]


def assert_alike(found: FileFeatures, path, model):
    for ours, theirs in zip((found.starts, found.video, found.audio), embed_file(path, model), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_features_are_those_of_one_file_after_the_other(clips, encoder, untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WINDOWS", 5)  # of more than one file, and some left over
    sound, broken = tmp_path / "sound.wav", tmp_path / "broken.mp4"
    write_wav(sound, 0.1 * np.random.default_rng(0).normal(size=(1, 40_000)).astype(np.float32), 16_000)
    broken.write_text("no video")
    models = [load_embedder(untrained), encoder]
    items = [(path, [0, 1]) for path in (clips[0], sound, broken, clips[3])] + [(clips[1], [1]), (clips[2], [0])]
    sizes = []
    monkeypatch.setattr(module, "encode", lambda model, given: [sizes.append(len(given)), encode(model, given)][1])
    found = dict(embed_in_batches(items, models, workers=2))
    assert sorted(found) == [0, 1, 2, 3, 4, 5] and max(sizes) == 5
    for number, (path, wanted) in enumerate(items):
        for one, k in zip(found[number], wanted, strict=True):
            if (number, k) == (1, 1):
                assert isinstance(one, Failure) and one.reason == "has no video"
            elif path == broken:
                assert isinstance(one, Failure) and one.path == str(broken)
            else:
                assert_alike(one, path, models[k])


@pytest.mark.parametrize("inputs", ["video", "audio", "both"])
def test_a_recognizer_takes_batches_too(clips, inputs):
    torch.manual_seed(0)
    model = Recognizer(RecognizerConfig(inputs=inputs, labels=("a", "b"))).eval()
    windows = list(WindowCutter.of(model).windows(clips[0]))
    rows = encode(model, windows)
    expected = embed_file(clips[0], model)
    for place, values in enumerate(expected):
        np.testing.assert_allclose(np.stack([row[place] for row in rows]), values, rtol=1e-4, atol=1e-5)


def test_a_file_that_kills_its_decoder_is_a_failure_and_one_that_did_once_is_whole(clips, encoder, tmp_path):
    fatal, unlucky = tmp_path / "fatal.mp4", tmp_path / "unlucky.mp4"
    for path in (fatal, unlucky):
        path.write_bytes(clips[0].read_bytes())
    cutter = FatalCutter(WindowCutter.of(encoder), tmp_path)
    items = [(path, [0]) for path in (fatal, clips[1], unlucky)]
    with mock.patch.object(module.WindowCutter, "of", lambda model: cutter):
        found = dict(embed_in_batches(items, [encoder], workers=1))
    assert found[0] == [Failure(str(fatal), "the process died of it")]
    assert_alike(found[1][0], clips[1], encoder)
    assert_alike(found[2][0], unlucky, encoder)


@dataclass(frozen=True)
class FatalCutter:
    """Ends its process after the first window: of one file always, of another once."""

    cutter: WindowCutter
    folder: Path

    @property
    def seconds(self) -> float:
        return self.cutter.seconds

    def windows(self, path, decoded=None):
        windows = self.cutter.windows(path, decoded)
        yield next(windows)
        name = Path(str(path)).stem
        seen = self.folder / f"{name}.seen"
        if name == "fatal" or (name == "unlucky" and not seen.exists()):
            seen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from windows


def test_the_command_takes_batches_where_there_is_an_accelerator(clips, untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    folder = feature_folder.FeatureFolder(tmp_path / "f", feature_folder.about(load_features(untrained), "mine", "32"))
    used = []
    real = feature_folder.embed_in_batches
    monkeypatch.setattr(feature_folder, "embed_in_batches", lambda *args: [used.append(1), real(*args)][1])
    with pretend_device():
        lacking = feature_folder.missing_in([folder], clips)
        failed = feature_folder.embed_into([folder], lacking, InferenceOptions(str(untrained), "cuda"), 1)
    assert used == [1] and failed == [[]] and folder.files == len(clips)
    folder.close()
