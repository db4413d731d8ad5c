"""The task of recognition: labels are checked, networks are trained, exported, and used by the commands."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from typer.testing import CliRunner

from avlearn.cli.app import app
from avlearn.config import RecognizerConfig
from avlearn.data.manifest import Row, read_manifest, write_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import AvlearnError, DataError, ModelError, RecipeError
from avlearn.media import read_clip, write_video
from avlearn.models.folder import load
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import load_recognizer
from avlearn.tasks import build, complete, load_recipe
from avlearn.tasks.recognize.labels import class_names
from avlearn.training.checkpoints import read_checkpoint

CLASSES = ("bell", "fan", "siren")


def avlearn(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, AvlearnError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Clips to learn from, and others."""
    folder = tmp_path_factory.mktemp("worlds")
    config = WorldConfig.preset("solo", size=48, duration=2.2, classes=CLASSES)
    return [
        make_world(folder / split, count, seed, config, workers=1, split=split)
        for split, count, seed in (("train", 40, 1), ("val", 9, 2), ("test", 9, 3))
    ]


@pytest.fixture(scope="module")
def trained(worlds, tmp_path_factory):
    """The run of a network that listens."""
    run = tmp_path_factory.mktemp("run") / "run"
    avlearn(
        "finetune",
        "recognize_world",
        *words(worlds, run.parent, *AUDIO, "model.base=default", "trainer.max_steps=24"),
        "-o",
        run,
    )
    return run


AUDIO = ("recognize.inputs=audio",)
VIDEO = ("recognize.inputs=video",)


def words(worlds, root, *more: str) -> list[str]:
    return [
        f"data.train={worlds[0]}", f"data.val={worlds[1]}", f"data.root={root}", "trainer.batch_size=8",
        "trainer.max_steps=4", "trainer.val_every=2", "trainer.log_every=2", "trainer.threads=1", "clip.size=48",
        "trainer.checkpoint_every=2", "trainer.accelerator=cpu", "clip.seconds=1.6", "optimizer.warmup_steps=2", *more,
    ]  # fmt: skip


def experiment(worlds, root, *more: str):
    return build(load_recipe("recognize_world", words(worlds, root, *more)))


def test_a_network_learns_and_names_what_it_never_saw(worlds, trained):
    model = load_recognizer(trained)
    assert model.config.labels == CLASSES and model.video is None and set(model.in_distribution) == {"audio"}
    rows = read_manifest(worlds[2])
    result = json.loads(avlearn("classify", *(row.path for row in rows), "--model", trained, "--json", "-"))
    named = [found["labels"].get("audio", [[""]])[0][0] for found in result]
    assert sum(name == row.labels[0] for name, row in zip(named, rows, strict=True)) >= 7, named
    assert all(window["probability"] > 1 / 3 for found in result for window in found["windows"])


def test_commands_open_what_was_trained_or_say_why_not(worlds, trained, tmp_path):
    row = read_manifest(worlds[2])[0]
    avlearn("embed", row.path, "--model", trained, "-o", tmp_path / "features.npz")
    features = np.load(tmp_path / "features.npz")
    assert features["audio"].shape == (1, 128) and features["video"].shape == (1, 0)
    with pytest.raises(ModelError, match="holds a recognizer"):
        avlearn("sync", row.path, "--model", trained)
    with pytest.raises(AvlearnError, match="avlearn pretrain trains it"):
        avlearn("finetune", "sync_world")


def test_a_dry_run_tells_the_batch_and_writes_nothing(worlds, tmp_path):
    plan = avlearn("finetune", "recognize_world", *words(worlds, tmp_path), "--dry-run", "-o", tmp_path / "run")
    assert "task        recognize: 4 steps of 8 clips" in plan and "scores [8, 3]" in plan
    assert not (tmp_path / "run").exists()


def test_clips_without_audio_are_used_by_who_does_not_listen(worlds, tmp_path):
    rows = []
    for part, count in (("train", 24), ("val", 9)):
        for row in read_manifest(worlds[part == "val"])[:count]:
            clip = read_clip(row.path, 0.0, 1.7)
            path = tmp_path / part / row.labels[0] / row.path.name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, clip.video, clip.fps)
            rows.append(path)
    more = (f"data.train={tmp_path}", "data.val=null", "trainer.batch_size=6")
    avlearn("finetune", "recognize_world", *words(worlds, tmp_path, *VIDEO, *more), "-o", tmp_path / "run")
    labels = json.loads(avlearn("classify", rows[0], "--model", tmp_path / "run", "--json", "-"))
    assert labels["verdict"] == "labelled" and set(labels["labels"]) == {"video"}
    with pytest.raises(DataError, match="none of 24 training clips can be used"):
        experiment(worlds, tmp_path, *AUDIO, *more)


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        (0, {0: ()}, r"the training clip .*mp4 \(row 1\) has no label"),
        (
            1,
            {0: ("bell", "fan")},
            r"validation clip .*mp4 \(row 1\) has several labels \('bell', 'fan'\): recognize.multi_label",
        ),
        (1, {0: ("whale",)}, r"the label 'whale' of the validation clip .*mp4 \(row 1\) is of no training clip"),
        (0, {0: ("whale",)}, r"the class 'whale' has one training clip, .*mp4 \(row 1\): give more, or leave it out"),
        (0, dict.fromkeys(range(40), ("bell",)), "the training clips are all of 1 class"),
        (
            0,
            {0: ("",)},
            r"a label of the training clip .*mp4 \(row 1\) has 0 characters: labels are one line of 1 to 4096",
        ),
        (0, {0: ("a" * 5000,)}, r"a label of the training clip .*mp4 \(row 1\) has 5000 characters"),
        (1, {0: ("be\nll",)}, r"a label of the validation clip .*mp4 \(row 1\) holds characters that are not printed"),
    ],
)
def test_labels_that_cannot_be_learned_are_named(worlds, tmp_path, part, changes, said):
    paths = [tmp_path / "train.csv", tmp_path / "val.csv"]
    for number, path in enumerate(paths):
        rows = read_manifest(worlds[number])
        rows = [replace(row, labels=changes.get(k, row.labels) if number == part else row.labels)
                for k, row in enumerate(rows)]  # fmt: skip
        write_manifest(rows, path)
    with pytest.raises(DataError, match=said):
        experiment(worlds, tmp_path, f"data.train={paths[0]}", f"data.val={paths[1]}")


def test_labels_of_joined_emoji_and_letters_are_kept_as_they_are():
    family, word = "\U0001f469\u200d\U0001f467", "\u0645\u06cc\u200c\u0631\u0648\u062f"
    rows = [Row(Path(f"{k}.mp4"), labels=((family, word)[k % 2],)) for k in range(4)]
    assert set(class_names(rows, [], several=False)) == {family, word}
    assert set(RecognizerConfig(labels=(family, word)).labels) == {family, word}
    for control in ("a\u202eb", "a\x1bb", "a\nb", "a\u2066b", "a\u200bb"):
        with pytest.raises(DataError, match="holds characters that are not printed"):
            class_names([*rows, Row(Path("x.mp4"), labels=(control,))], [], several=False)


def test_a_fold_of_clips_that_have_none_is_told_how_to_leave_it_out(worlds, tmp_path):
    with pytest.raises(DataError, match=r"has no fold 1: it has none; data.fold=null takes all clips"):
        experiment(worlds, tmp_path, "data.fold=1")


def test_labels_that_a_model_could_not_keep_are_refused():
    rows = [Row(Path("a.mp4"), labels=(f"{k // 2} " + "b" * 4000,)) for k in range(600)]
    with pytest.raises(DataError, match="the 300 labels are more than a model keeps"):
        class_names(rows, [], several=False)
    assert len(class_names(rows[:400], [], several=False)) == 200


def test_clips_of_other_splits_are_not_trained_on(worlds, tmp_path, capsys):
    own, others = (read_manifest(worlds[k]) for k in (0, 1))
    rows = [replace(row, split=("train", "train", "test", "val")[k % 4]) for k, row in enumerate(own)]
    for name, held_out in (("splits.csv", "train"), ("none.csv", "")):
        path = tmp_path / name
        write_manifest([replace(row, split=held_out if row.split == "train" else row.split) for row in rows], path)
        told = [replace(row, split="train" if k % 2 else "val") for k, row in enumerate(others)]
        write_manifest(told, tmp_path / "val.csv")
        made = experiment(
            worlds, tmp_path, f"data.train={path}", f"data.val={tmp_path / 'val.csv'}", "data.cache=false"
        )
        expected = [row.path for row in rows if row.split == "train"]
        assert [row.path for row in made.train.rows] == expected
        assert [row.path for row in made.val.rows] == [row.path for row in told if row.split == "val"]
        assert f"{len(expected)} of {len(rows)} clips are learned from, by their splits" in capsys.readouterr().err
    write_manifest([replace(row, split="test") for row in own], path)
    with pytest.raises(DataError, match=r"has no clips to learn from: all \d+ are of the splits test"):
        experiment(worlds, tmp_path, f"data.train={path}")


def test_a_clip_that_is_trained_and_validated_on_is_named(worlds, tmp_path):
    with pytest.raises(DataError, match=r"the validation clip .* is the training clip .*: keep them apart"):
        experiment(worlds, tmp_path, f"data.val={worlds[0]}")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("recognize.freeze=[layer9]",), "recognize.freeze: there is no layer 'layer9'; there are"),
        (("model.video=lrcn", "clip.size=16", *VIDEO), "clip.seconds, clip.size: LRCN takes frames"),
        (("model.video=videomae_b", "clip.size=40", *VIDEO), "sides are multiples of 16 pixels, not"),
        (("model.audio=vggish", "model.spectrogram.mels=32", *AUDIO), "model.spectrogram: VGGish"),
    ],
)
def test_what_does_not_fit_is_said_before_the_training(worlds, tmp_path, more, said):
    with pytest.raises((RecipeError, ModelError), match=said):
        experiment(worlds, tmp_path, *more)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("recognize.inputs=video", "recognize.balance=ogm_ge"), "ogm_ge is for recognize.inputs=both"),
        (("augment.area=0.3",), "augment.area: not with data.cache"),
        (("recognize.segments=3",), "recognize.segments: not with data.cache"),
        (("trainer.accumulate=2",), "not for recognition"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(more, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe("recognize_world", list(more))


def test_every_strong_change_and_a_moving_average_train_and_resume(worlds, tmp_path):
    more = words(
        worlds, tmp_path, "augment.rand_layers=2", "augment.erase=0.5", "augment.mixup=0.8", "augment.cutmix=1.0",
        "augment.mask_bands=8", "augment.mask_frames=20", "augment.repeats=2", "augment.area=0.3", "data.cache=false",
        "recognize.smoothing=0.1", "recognize.class_weights=balanced", "recognize.frozen_norms=true",
        "optimizer.layer_decay=0.7", "optimizer.ema=0.5", "recognize.balance=ogm_ge", "trainer.batch_size=4",
    )  # fmt: skip
    avlearn("finetune", "recognize_world", *more, "-o", tmp_path / "whole")
    avlearn("finetune", "recognize_world", *more, "-o", tmp_path / "again")
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / "again" / "checkpoints" / name).unlink()
    (tmp_path / "again" / "checkpoints" / "previous.ckpt").rename(tmp_path / "again" / "checkpoints" / "last.ckpt")
    avlearn("finetune", "recognize_world", *more, "-o", tmp_path / "again", "--resume")
    states = [read_checkpoint(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("whole", "again")]
    for key in ("state_dict", "current_model_state"):  # averaged, and as they are
        assert states[0][key].keys() == states[1][key].keys()
        assert all(torch.equal(value, states[1][key][name]) for name, value in states[0][key].items())
    moved = [states[0][key]["model.classifier.weight"] for key in ("state_dict", "current_model_state")]
    assert not torch.equal(*moved)


def test_a_training_is_not_resumed_with_other_labels(worlds, tmp_path):
    paths = [tmp_path / "train.csv", tmp_path / "val.csv"]
    more = words(worlds, tmp_path, *AUDIO, f"data.train={paths[0]}", f"data.val={paths[1]}")
    for name in ("bell", "other"):
        for path, world in zip(paths, worlds, strict=False):
            rows = [replace(row, labels=tuple({"bell": name}.get(label, label) for label in row.labels))
                    for row in read_manifest(world)]  # fmt: skip
            write_manifest(rows, path)
        if name == "bell":
            avlearn("finetune", "recognize_world", *more, "-o", tmp_path / "run")
    with pytest.raises(RecipeError, match="3 labels and the training clips 3; 'bell' is in one of the two alone"):
        avlearn("finetune", "recognize_world", *more, "-o", tmp_path / "run", "--resume")


def test_a_start_gives_its_weights_and_its_rows(worlds, trained, tmp_path):
    base = load("default")
    found = build(
        load_recipe("recognize_world", words(worlds, tmp_path, "model.base=default", "recognize.freeze=[all]"))
    )
    model = found.module.model
    for kind, encoder in model.encoders.items():
        for name, value in getattr(base, kind).state_dict().items():
            assert torch.equal(encoder.state_dict()[name], value), name
    assert {name for name, p in found.module.named_parameters() if p.requires_grad} == {
        "model.classifier.weight", "model.classifier.bias"
    }  # fmt: skip
    rows = [
        [replace(row, labels=("a whale",) if row.labels == ("bell",) else row.labels) for row in read_manifest(world)]
        for world in worlds[:2]
    ]
    for path, named in zip(("train.csv", "val.csv"), rows, strict=True):
        write_manifest(named, tmp_path / path)
    data = (f"data.train={tmp_path / 'train.csv'}", f"data.val={tmp_path / 'val.csv'}", f"model.base={trained}")
    again = experiment(worlds, tmp_path, *AUDIO, *data).module.model
    assert again.config.labels == ("a whale", "fan", "siren")
    kept = load_recognizer(trained).audio.classifier
    assert torch.equal(again.audio.classifier.weight[1:], kept.weight[1:])
    assert not torch.equal(again.audio.classifier.weight[0], kept.weight[0])


def test_a_network_for_images_is_inflated(worlds, tmp_path):
    flat = torchvision.models.resnet50(num_classes=3)
    torch.save(flat.state_dict(), tmp_path / "flat.pth")
    more = (*VIDEO, f"recognize.image_weights={tmp_path / 'flat.pth'}", "clip.seconds=0.08")
    recipe = complete(load_recipe("recognize_world", words(worlds, tmp_path, *more, "model.video=c2d_r50")))
    assert recipe.model.video_mean == (0.485, 0.456, 0.406)
    encoder = build(
        load_recipe("recognize_world", words(worlds, tmp_path, *more, "model.video=c2d_r50"))
    ).module.model.video
    assert torch.equal(encoder.layer1[0].conv2[0].weight.sum(2), flat.layer1[0].conv2.weight)
    with pytest.raises(RecipeError, match=r"image_weights: .*flat.pth does not fit"):
        experiment(worlds, tmp_path, *more, "model.video=i3d_inception", "clip.size=64")


def test_released_weights_bring_what_they_need(worlds, tmp_path):
    released = torchvision.models.video.mc3_18(num_classes=3)
    torch.save(released.state_dict(), tmp_path / "mc3.pth")
    more = (*VIDEO, "model.video=mc3_18", f"model.video_weights={tmp_path / 'mc3.pth'}", "clip.seconds=0.32")
    found = experiment(worlds, tmp_path, *more).module.model
    assert found.config.video_mean == pytest.approx((0.43216, 0.394666, 0.37645), abs=1e-5)
    own = found.video.state_dict()
    assert own["classifier.weight"].shape == (3, 512)
    assert any(torch.equal(value, released.layer4[1].conv2[0].weight) for value in own.values() if value.ndim == 5)


def test_segments_are_spread_over_the_clip(worlds, tmp_path):
    data = experiment(worlds, tmp_path, *VIDEO, "recognize.segments=4", "data.cache=false", "data.bad_files=error").val
    frames = data[(0, 0, ())]["video"]
    whole = read_clip(data.rows[0].path, 0.0, 2.2, fps=25.0, size=48, crop="square").video
    places = [np.abs(whole.astype(int) - frame.numpy().astype(int)).mean((1, 2, 3)).argmin() for frame in frames]
    assert places == pytest.approx([6.7, 20.2, 33.7, 47.2], abs=1.1)


def test_a_fusion_network_is_trained_and_named(worlds, tmp_path):
    more = (
        "recognize.fusion=tbn", "trainer.batch_size=2", "trainer.max_steps=2",
        "recognize.fusion_options={video: dsconv_tiny, audio: conv2d_tiny, frames: 8}",
    )  # fmt: skip
    avlearn("finetune", "recognize_world", *words(worlds, tmp_path, *more), "-o", tmp_path / "run")
    model = load_recognizer(tmp_path / "run")
    assert model.fusion is not None and not model.encoders
    row = read_manifest(worlds[2])[0]
    found = json.loads(avlearn("classify", row.path, "--model", tmp_path / "run", "--json", "-"))
    assert {label for label, _ in found["labels"]["both"]} == set(CLASSES)
    assert found["in_distribution"] == {"video": None, "audio": None} and found["notice"]
    with pytest.raises(RecipeError, match=r"recognize.fusion: takes recognize.inputs=both"):
        load_recipe("recognize_world", [*more, "recognize.inputs=audio"])
    with pytest.raises(ModelError, match="no fusion network is called 'tbm'"):
        experiment(worlds, tmp_path, *more, "recognize.fusion=tbm", "recognize.fusion_options={}")


def test_a_spectrogram_without_bound_is_refused():
    spectrogram = {"hop": 0.0001, "n_fft": 8192, "window": 0.025}
    config = RecognizerConfig(inputs="audio", labels=("a", "b"), seconds=600, spectrogram=spectrogram)
    with pytest.raises(ModelError, match=r"a clip's spectrogram has .* million values, and no more than 34 million"):
        Recognizer(config)
    Recognizer(RecognizerConfig(inputs="audio", labels=("a", "b"), seconds=600))
