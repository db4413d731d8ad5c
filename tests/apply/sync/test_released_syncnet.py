"""SyncNet on files: every face that is seen is judged by itself, and without the detector the answer says so."""

import numpy as np
import pytest
import torch
from drawn_face import drawn_face
from flash_networks import FPS, RATE, FlashNet, flashes

from avlearn.apply import faces
from avlearn.apply.sync.by_system import SyncSystem, sync_by_system
from avlearn.apply.sync.released import sync_with_released
from avlearn.errors import MissingExtraError
from avlearn.media import write_video

SECONDS = 7


class MouthNet(FlashNet):
    """Embeds whether the mouth of a face crop is open, and whether the audio is loud."""

    def forward(self, video, mfcc):
        _, loud = super().forward(video, mfcc)
        open_now = (video[0, 0, :, 130:148, 104:120].mean((1, 2)) < 0.5).float()[: loud.shape[1]]
        return 10 * torch.stack([open_now, 1 - open_now], 1)[None], 10 * loud


def people(path, *leads, size=(180, 240)):
    """Two faces, whose mouths open with the audio, which is earlier by ``leads``; None: at instants of its own."""
    rng = np.random.default_rng(3)
    spoken = rng.random(SECONDS * FPS + 100) < 0.4
    mouths = [
        rng.random(SECONDS * FPS) < 0.4 if lead is None else spoken[50 - round(lead * FPS) :][: SECONDS * FPS]
        for lead in leads
    ]
    looks: dict[tuple[bool, ...], np.ndarray] = {}
    frames = []
    for pair in zip(*mouths, strict=True):
        if pair not in looks:
            left = drawn_face((65, 90), mouth=float(pair[0]), canvas=size)
            looks[pair] = drawn_face((175, 95), mouth=float(pair[1]), canvas=size, frame=left)
        frames.append(looks[pair])
    instants = np.arange(SECONDS * RATE) / RATE
    heard = spoken[50 + np.floor(instants * FPS + 1e-6).astype(int)]
    audio = (0.5 * heard * np.sin(2 * np.pi * 1000 * instants)).astype(np.float32)[None]
    write_video(path, np.stack(frames), FPS, audio=audio, sample_rate=RATE)
    return path


@pytest.fixture(scope="module")
def interview(tmp_path_factory):
    """The left person speaks, 0.16 s after the audio; the right one chews."""
    return people(tmp_path_factory.mktemp("faces") / "interview.mp4", -0.16, None)


def by(network, path):
    return sync_by_system(path, SyncSystem(network, "SyncNet v2", torch.device("cpu"), None))


def test_every_face_is_judged_and_the_one_that_speaks_stands_for_the_file(interview):
    result = by(MouthNet(), interview)
    assert (result.status, result.offset) == ("out of sync", -0.16)
    left, right = result.to_dict()["speakers"]
    assert (left["speaker"], left["side"], left["offset"], left["start"]) == (1, "left", -0.16, 0.0)
    assert left["end"] == pytest.approx(SECONDS, abs=0.05)
    assert right["side"] == "right" and right["lse_c"] < 3 < left["lse_c"] and left["lse_d"] < right["lse_d"]
    assert f"LSE-D {left['lse_d']:.3f}, LSE-C {left['lse_c']:.3f}" in result.text()
    assert "\nnote: speaker 1, left, 0.0 to 7.0 s: audio lags by 160 ms, LSE-D" in result.text()


def test_beside_our_model_each_has_a_line(interview):
    (answer,) = sync_with_released(interview, [MouthNet()])
    assert answer.offset == -0.16 and [one["speaker"] for one in answer.to_dict()["speakers"]] == [1, 2]
    assert [line.partition(",")[0] for line in answer.text().splitlines()] == [
        "SyncNet v2: audio lags by 160 ms", "speaker 1", "speaker 2",
    ]  # fmt: skip


def test_speakers_who_differ_are_told_and_nothing_is_named(tmp_path):
    result = by(MouthNet(), people(tmp_path / "differ.mp4", -0.16, 0.2))
    assert (result.status, result.offset) == ("undecidable", None)
    assert result.reason == "speakers differ: from -160 to +200 ms"
    assert [one["offset"] for one in result.speakers] == [-0.16, 0.2]


def test_a_crop_is_taken_as_it_is(interview):
    (answer,) = sync_with_released(interview, [MouthNet()], (10, 20, 112, 112))
    assert answer.speakers == () and "speakers" not in answer.to_dict()


def test_a_square_without_a_face_is_taken_for_one_and_says_so(tmp_path):
    (answer,) = sync_with_released(flashes(tmp_path / "a.mp4", 4.0, 0.2), [FlashNet()])
    assert answer.offset == 0.2
    assert answer.note == "the whole frame is taken for a face: no face is seen for 1.4 s"
    assert answer.text().endswith(f"({answer.note})") and answer.to_dict()["note"] == answer.note


def test_without_the_extra_it_says_what_to_install(interview, tmp_path, monkeypatch):
    def missing(*_):
        raise MissingExtraError("for talking faces: pip install 'avlearn[faces]'")

    monkeypatch.setattr(faces, "face_tracks", missing)
    (wide,) = sync_with_released(interview, [MouthNet()])
    assert wide.offset is None
    assert "pip install 'avlearn[faces]'" in wide.reason and wide.reason.endswith(
        "say where one is with --crop X,Y,W,H"
    )
    (square,) = sync_with_released(flashes(tmp_path / "a.mp4", 4.0, 0.2), [FlashNet()])
    assert square.offset == 0.2 and "pip install 'avlearn[faces]'" in square.note
