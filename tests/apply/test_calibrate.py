"""A model calibrated on clips: what it is fitted on is true, its figures are of clips held out, no more is lost."""

import json
import os
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from pretend_device import pretend_device
from typer.testing import CliRunner

from avlearn.apply import calibrate, calibrate_clip
from avlearn.apply.calibrate import calibrated_on, clip_options
from avlearn.apply.calibrate_clip import Claim, ClipEvidence, clip_evidence
from avlearn.apply.in_distribution import InDistributionCheck
from avlearn.apply.localize.on_screen import OnScreenEvidence
from avlearn.apply.sync.offset_estimate import OffsetEvidence, estimate_offset
from avlearn.apply.sync.offsets import PHASES, offset_curves
from avlearn.cli import app
from avlearn.errors import DataError, ModelError, OutputError
from avlearn.media import read_clip, remux, write_video
from avlearn.models.calibrated_folder import check_calibrated_folder, write_calibrated
from avlearn.models.calibration import Calibrations, read_calibrations
from avlearn.models.folder import load
from avlearn.models.in_distribution import LABELLED, InDistribution
from avlearn.models.named import model_folder


def test_a_delay_along_the_curves_is_that_of_the_file_with_its_audio_moved(clips, model, tmp_path):
    own = offset_curves(clips[0], model, 3.0)
    moved, searched = 20, 28 * PHASES
    remux(clips[0], tmp_path / "late.mp4", audio_delay=moved * own.grid)
    late = offset_curves(tmp_path / "late.mp4", model, 28 * model.step)
    made = calibrate_clip._delayed(own, slice(0, len(own.starts)), moved, searched)
    assert np.allclose(made.offsets, late.offsets)
    known = np.isfinite(made.scores) & np.isfinite(late.scores)
    assert known.mean() > 0.5 and np.corrcoef(made.scores[known], late.scores[known])[0, 1] > 0.99
    found, true = estimate_offset(made, model), estimate_offset(late, model)
    assert abs(found.offset + moved * own.grid) < model.step / 2 and abs(found.offset - true.offset) < model.step / 4
    for name in ("height", "margin", "agreement"):
        assert getattr(found.evidence, name) == pytest.approx(getattr(true.evidence, name), rel=0.1, abs=0.05)


def test_a_clip_makes_claims_whose_truth_is_known(clips, model):
    found = clip_evidence(clips[0], model, other=clips[5], seed=3)
    assert found.video.shape[1] == 2 * model.video.num_features + 1 and len(found.video) == len(found.audio)
    assert found.known == {"video": True, "audio": True}
    own = [claim.right for claim in found.on_screen]
    assert own == [True, False, False] * (len(own) // 3) and own
    assert any(claim.right for claim in found.offsets) and not all(claim.right for claim in found.offsets)
    again = clip_evidence(clips[0], model, other=clips[5], seed=3)
    assert again.offsets == found.offsets and np.array_equal(again.audio_noise, found.audio_noise)


def test_a_clip_tells_the_same_on_another_device(clips, untrained):
    expected = clip_evidence(clips[0], load(untrained), other=clips[5], seed=3)
    with pretend_device() as device:
        found = clip_evidence(clips[0], load(untrained).to(device), other=clips[5], seed=3)
    assert (found.offsets, found.on_screen, found.known) == (expected.offsets, expected.on_screen, expected.known)
    for name in ("video", "audio", "video_noise", "audio_noise"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))


def test_silence_and_stills_make_no_claim(clips, model, tmp_path):
    whole = read_clip(clips[0])
    still = np.repeat(whole.video[:1], len(whole.video), 0)
    for name, video, audio in (("silent", whole.video, whole.audio * 0), ("still", still, whole.audio)):
        write_video(tmp_path / f"{name}.mp4", video, whole.fps, audio=audio, sample_rate=whole.sample_rate)
    assert clip_evidence(tmp_path / "still.mp4", model, other=clips[1], seed=0).offsets == ()
    silent = clip_evidence(tmp_path / "silent.mp4", model, other=tmp_path / "none.mp4", seed=0)
    assert silent.offsets == () and silent.on_screen == ()


def made(count, sure, seen=3.0, seed=0):
    """Clips whose claims are told apart by so many standard deviations, and whose windows are like each other."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        truths = [True, False] * 3
        offsets = [Claim(OffsetEvidence(*(rng.normal(sure * truth, 1, 3))), truth) for truth in truths]
        on_screen = [Claim(OnScreenEvidence(*(rng.normal(seen * truth, 1, 3))), truth) for truth in truths]
        video, audio = (rng.normal(0, 1, (3, n)).astype(np.float32) for n in (9, 8))
        noise = [values[:1] + np.float32(20) for values in (video, audio)]
        known = {"video": bool(k % 2), "audio": None}
        found.append(ClipEvidence(str(k), video, audio, *noise, known, tuple(offsets), tuple(on_screen)))
    return found


def test_statistics_that_do_not_tell_clips_from_noise_are_not_used():
    blurred = [replace(clip, audio_noise=clip.audio, known={"video": True, "audio": None}) for clip in made(20, 3.0)]
    with pytest.raises(DataError, match="20 clips are too few to tell their audio from noise: give more"):
        calibrated_on(blurred, {})
    own = torch.from_numpy(np.concatenate([clip.audio for clip in blurred]))
    former = {"audio": InDistribution.fit(own, torch.arange(20).repeat_interleave(3))}
    for inside in (18, 19):  # of 20 that the model knows already
        known = [replace(clip, known={"video": True, "audio": k < inside}) for k, clip in enumerate(blurred)]
        if inside == 18:
            with pytest.raises(DataError, match="too few to tell"):
                calibrated_on(known, former)
            continue
        found = calibrated_on(known, former)
        assert found.in_distribution["audio"] is former["audio"]
        assert [figure.kept for figure in found.known] == [False, True]
        assert "noise 20 of 20: too few to tell it, so the former statistics stay" in found.lines()[1]


def test_figures_are_of_held_out_clips_beside_the_prior():
    sure = calibrated_on(made(60, 3.0), {})
    offsets, seen = sure.confidences
    assert (offsets.clips, offsets.claims, offsets.right) == (60, 360, 180)
    assert offsets.brier < 0.05 < offsets.prior and offsets.auc > 0.98 and offsets.named_right > 0.95 * offsets.named
    assert sure.calibrations.sync and sure.calibrations.on_screen and sure.calibrations.tracks is None
    video, audio = sure.known
    assert video.held_out > 50 and video.noise == audio.noise == 0 and (video.before, audio.before) == (30, None)
    lines = "\n".join(sure.lines())
    assert (
        "(prior 0.25" in lines
        and "(chance 0.5)" in lines
        and "noise 0 of 60" in lines
        and "not told" not in lines
        and "track: not" in lines
    )
    half = calibrated_on(made(60, 3.0, seen=0.0), {})
    _, seen = half.confidences
    # Held out, evidence that says nothing is no better than the prior; fitted and measured on the same it would be.
    assert seen.brier > seen.prior - 0.005 and abs(seen.auc - 0.5) < 0.1 and not seen.tells
    assert half.calibrations.on_screen is None and "is recognized as on screen" in seen.reason


def test_a_model_that_tells_nothing_of_the_clips_is_not_said_to_know_them():
    with pytest.raises(
        ModelError, match=r"tells nothing of such clips \(confidence in an offset: AUC 0\.\d+.*chance 0\.5"
    ):
        calibrated_on(made(60, 0.0, seen=0.0), {})


def test_too_few_clips_are_refused_and_a_calibration_without_ground_is_left_out():
    with pytest.raises(DataError, match="19 clips can be used: a calibration stands on 20 at least"):
        calibrated_on(made(19, 3.0), {})
    quiet = [replace(clip, offsets=()) if k > 10 else clip for k, clip in enumerate(made(30, 3.0))]
    found = calibrated_on(quiet, {})
    assert found.calibrations.sync is None and "takes 20 clips" in found.confidences[0].reason
    assert found.confidences[0].clips == 11 and found.calibrations.on_screen
    wrong = [replace(c, offsets=tuple(replace(o, right=False) for o in c.offsets)) for c in made(30, 3.0)]
    assert "are alike" in calibrated_on(wrong, {}).confidences[0].reason


def test_no_clip_is_paired_with_itself():
    for count in (20, 21):
        pairs = [option["other"] for option in clip_options(list(range(count)))]
        assert sorted(pairs) == list(range(count)) and all(k != other for k, other in enumerate(pairs))


def test_a_calibrated_model_says_so_and_its_classifiers_keep_to_what_they_know(clips, model, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "LEAST", 6)
    other = []
    for k, clip in enumerate(clips[:6]):
        whole = read_clip(clip)
        grain = np.random.default_rng(k).normal(0, 25, whole.video.shape)  # of film
        grainy = (whole.video + grain).clip(0, 255).astype(np.uint8)
        path = tmp_path / "grainy" / f"{k}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, grainy, whole.fps, audio=whole.audio, sample_rate=whole.sample_rate)
        other.append(path)
    words = ["calibrate", "--data", str(tmp_path / "grainy"), "-o", str(tmp_path / "mine"), "--workers", "1"]
    done = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["schema"] == "avlearn.calibrate/1" and told["clips"] == 6 and told["failed"] == []
    mine = load(tmp_path / "mine")
    for name, tensor in mine.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert mine.config.trained_on == f"{model.config.trained_on}; calibrated on {tmp_path / 'grainy'}"
    assert (
        mine.calibrations.tracks is None and (tmp_path / "mine" / "README.md").read_text().count("## Calibration") == 1
    )
    probe = clip_evidence(other[0], mine, other=other[1], seed=0)
    assert probe.known["video"] is True
    assert clip_evidence(other[0], model, other=other[1], seed=0).known["video"] is False
    for of, inside in (("", True), (LABELLED, False)):
        check = InDistributionCheck(mine, of)
        check.statistics["video"] = [torch.from_numpy(probe.video)]
        assert check.result()["video"] is inside
    done = CliRunner().invoke(app, ["classify", str(other[0]), "--model", str(tmp_path / "mine")])
    assert done.exit_code == 3 and "this model cannot tell" in done.output
    # Once more, in place: only when that is asked for, and what the classifiers know stays.
    words = [*words, "--model", str(tmp_path / "mine")]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, OutputError) and "is the model itself" in str(done.exception)
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0
    again, card = load(tmp_path / "mine"), tmp_path / "mine" / "README.md"
    assert again.config.trained_on == mine.config.trained_on
    assert card.read_text().count("## Calibration") == 1
    for field in fields(again.in_distribution["video"]):
        kept = getattr(again.in_distribution[LABELLED + "video"], field.name)
        assert torch.equal(kept, getattr(model.in_distribution["video"], field.name))
    assert set(again.with_heads(labels=("new",)).in_distribution) == {"video", "audio"}
    assert set(again.with_heads(separator=None).in_distribution) == set(again.in_distribution)


def test_too_few_clips_are_told_before_the_work(clips, tmp_path):
    done = CliRunner().invoke(app, ["calibrate", "--data", str(clips[0].parent), "-o", str(tmp_path / "mine")])
    assert isinstance(done.exception, DataError) and not list(tmp_path.iterdir())
    assert str(done.exception) == f"{clips[0].parent} holds 12 clips: a calibration stands on 20 at least"


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    folder = model_folder("default")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    for _ in range(2):
        for overwrite, said in ((False, "is there already"), (True, "holds something else than a model")):
            with pytest.raises(OutputError, match=said):
                check_calibrated_folder(folder, tmp_path / "photos", overwrite)
        (tmp_path / "photos" / "config.json").write_text('{"port": 1}')  # of another program
    for inside in ("mine", "a/b"):
        with pytest.raises(OutputError, match="lies in the folder of the model"):
            check_calibrated_folder(folder, folder / inside, False)
    check_calibrated_folder(folder, tmp_path / "new", False)
    (tmp_path / "empty").mkdir()
    check_calibrated_folder(folder, tmp_path / "empty", False)


def test_what_breaks_off_leaves_no_folder_and_no_confidence_of_other_clips(model, tmp_path, monkeypatch):
    folder, found = model_folder("default"), calibrated_on(made(20, 3.0), {})

    def write(out):
        write_calibrated(folder, out, model.in_distribution, found.calibrations, "clips", found.lines())

    write(tmp_path / "mine")
    assert read_calibrations(tmp_path / "mine") == Calibrations(found.calibrations.sync, found.calibrations.on_screen)
    assert sorted(os.listdir(tmp_path)) == ["mine"]

    for name in ("objective.json", "objective.safetensors", "notes.json"):  # a model with an objective, and a person's
        (tmp_path / "mine" / name).write_bytes(b"{}")
    write(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.json").exists() and not list((tmp_path / "mine").glob("objective.*"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("avlearn.models.in_distribution.save", full)
    for out in ("mine", "new"):
        with pytest.raises(OutputError, match="No space left"):
            write(tmp_path / out)
    assert sorted(os.listdir(tmp_path)) == ["mine"] and read_calibrations(tmp_path / "mine") == Calibrations()
    shutil.rmtree(tmp_path / "mine")
