"""Features of labelled clips, by a model and from a table; what is missing in either is one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from commands import run

from avlearn.apply.embed import FileFeatures, embed_files, write_features
from avlearn.data.manifest import Row, read_manifest, write_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import DataError
from avlearn.evaluation.attentive import TokenStore, file_tokens
from avlearn.evaluation.clip_features import file_features, read_features, table_features
from avlearn.evaluation.linear_probe import ProbeProtocol, probe_model, probe_table
from avlearn.media import read_clip, write_video, write_wav
from avlearn.models.folder import load
from avlearn.models.two_tower import frames_to_input

FEATURES = [
    FileFeatures("a.mp4", np.array([0.0, 1.0]), np.array([[1.0, 2], [3, 6]], np.float32), np.ones((2, 1), np.float32)),
    FileFeatures("b.mp4", np.array([0.0]), np.array([[5.0, 5]], np.float32), np.full((1, 1), np.nan, np.float32)),
]
ROWS = [Row(Path("b.mp4"), labels=("x",)), Row(Path("a.mp4"), labels=("y",))]


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_the_windows_of_a_clip_are_averaged_and_in_the_manifests_order(tmp_path, name):
    write_features(tmp_path / name, FEATURES)
    found = table_features(tmp_path / name, ROWS, ROWS, np.array([0, 1]))
    assert found.video.tolist() == [[5, 5], [2, 4]]
    assert np.isnan(found.audio[0]).all() and found.audio[1].tolist() == [1]


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_clips_that_either_lacks_are_told(tmp_path, name):
    write_features(tmp_path / name, FEATURES)
    more = [*ROWS, Row(Path("c.mp4"), labels=("x",))]
    with pytest.raises(DataError, match=r"f\.\w+ lacks 1 of 3 clips of the manifest; the first: c\.mp4"):
        table_features(tmp_path / name, more, more, np.zeros(3))
    with pytest.raises(DataError, match=r"the manifest lacks 1 of 2 files of .*f\.\w+; the first: .*a\.mp4"):
        table_features(tmp_path / name, ROWS[:1], ROWS[:1], np.zeros(1))
    table_features(tmp_path / name, ROWS[:1], ROWS, np.zeros(1))  # the manifest lists the other, without a label


ONE = np.ones((1, 1))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.txt", b"x", "is no file of features by its name: .npz, .parquet"),
        ("f.npz", b"PK nothing", "is no file of features: "),
        ("f.parquet", b"nothing", "is no file of features: "),
        ("f.npz", {"path": ["a"], "video": ONE}, "it lacks audio"),
        ("f.npz", {"path": ["a"], "video": np.ones(2), "audio": ONE}, r"video is float64 \[2\]"),
        ("f.npz", {"path": ["a"], "video": [[1, 2]], "audio": ONE}, r"video is int64 \[1, 2\]"),
        ("f.npz", {"path": ["a"], "video": ONE, "audio": np.ones((2, 1))}, r"audio is float64 \[2, 1\]"),
        ("f.npz", {"path": np.array([{}]), "video": ONE, "audio": ONE}, "is no file of features: Object arrays"),
        ("f.npz", {"path": np.ones(0), "video": np.ones((0, 2)), "audio": np.ones((0, 2))}, "no window"),
        ("f.parquet", {"path": ["a"]}, "it lacks video"),
        ("f.parquet", {"path": ["a", "b"], "video": [[1.0], [1.0, 2.0]], "audio": [[1.0]] * 2}, "lists of 2 lengths"),
        ("f.parquet", {"path": ["a"], "video": [1.0], "audio": [1.0]}, "video holds double"),
    ],
)
def test_what_is_no_table_of_features_is_said_in_a_line(tmp_path, name, content, said):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif name.endswith("npz"):
        np.savez(tmp_path / name, **content)
    else:
        pyarrow.parquet.write_table(pyarrow.table(content), tmp_path / name)
    with pytest.raises(DataError, match=said) as caught:
        read_features(tmp_path / name)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(tmp_path / name))
    with pytest.raises(DataError, match="there is no file of features"):
        read_features(tmp_path / "other.npz")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A world of 12 clips with two labels; of some the audio is gone, of others the video."""
    folder = tmp_path_factory.mktemp("probe")
    make_world(folder / "clips", 12, 3, WorldConfig.preset("solo", size=64, duration=2.2), workers=1)
    rows = []
    for k, row in enumerate(read_manifest(folder / "clips")):
        clip, path, reason = read_clip(row.path), row.path, ""
        if k in (2, 3, 8, 9):
            path, reason = folder / f"{k}.mkv", "there is no audio track"
            write_video(path, clip.video, clip.fps)
        elif k in (4, 5, 6, 7):
            path, reason = folder / f"{k}.wav", "there is no video"
            write_wav(path, clip.audio, clip.sample_rate)
        folds = tuple("test" if k // 2 % 2 == f else "train" for f in range(2))
        changes = {"bytes": 0, "reason": reason, "labels": ("ab"[k % 2],), "truth": None, "folds": folds}
        rows.append(replace(row, path=path, split=("train", "val", "test")[k // 2 % 3], **changes))
    write_manifest(rows, folder / "m.csv")
    return folder / "m.csv"


def test_each_kind_is_probed_on_the_clips_that_have_it(clips, untrained, capfd):
    """Of the test clips 4 and 5 have audio alone; and none that is to choose has any."""
    model = load(untrained)
    rows = read_manifest(clips)
    features, skipped = file_features(model, rows, np.zeros(12))
    assert skipped == []
    assert np.isfinite(features.video).all(1).nonzero()[0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert np.isfinite(features.audio).all(1).nonzero()[0].tolist() == [0, 1, 4, 5, 6, 7, 10, 11]
    found = {metric.name: metric for metric in probe_model(model, rows).metrics}
    assert {name: metric.n for name, metric in found.items() if name.startswith("top-1")} == {"top-1, video": 2}
    assert found["top-1, video"].prior_name == "random init"
    said = capfd.readouterr().err
    assert said.count("too few clips have audio to train on, to choose by and to test on: it is not probed") == 1


def test_a_table_gives_what_the_model_gives(clips, untrained, tmp_path):
    model, rows = load(untrained), read_manifest(clips)
    embed_files([row.path for row in rows], model, tmp_path / "f.npz")
    protocol = ProbeProtocol("svm", folds=True)
    direct, read = probe_model(model, rows, protocol), probe_table(tmp_path / "f.npz", [clips], protocol)
    assert read.confusion == direct.confusion and read.folds == direct.folds and len(read.folds) == 2
    assert [(m.name, m.value) for m in read.metrics] == [(m.name, m.value) for m in direct.metrics]
    assert "top-1 of each fold, video: 0." in read.text()


def test_the_command_probes_a_table(clips, untrained, tmp_path):
    embed_files([row.path for row in read_manifest(clips)], load(untrained), tmp_path / "f.parquet")
    words = ["linear-probe", "--features", tmp_path / "f.parquet", "--data", clips]
    done = run(*words, "--shots", 1, "--episodes", 30, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert '"top-1, video, 1 shot"' in done.stdout and '"interval": [' in done.stdout
    for wrong, said in (
        (["--shots", 9], "9 shots need so many training clips a class: 'a' has "),
        (["--shots", 1, "--folds"], "few shots are classified by nearest centroids"),
        (["--classifier", "tree"], "there is no classifier 'tree': choose one of logistic, svm, knn, attentive"),
        (["--classifier", "attentive"], "an attentive probe needs the model and the clips"),
    ):
        done = run(*words, *wrong)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_tokens_of_clips_are_probed_as_their_features_are(clips, untrained):
    model, rows = load(untrained), read_manifest(clips)
    store = TokenStore()
    numbers, skipped = file_tokens(model, [*rows[:6:2], Row(Path("lost.mp4"))], np.zeros(4), store)
    assert numbers.kinds()["both"].tolist()[0] == [0, 1] and [path for path, _ in skipped] == ["lost.mp4"]
    assert np.isnan(numbers.audio).ravel().tolist() == [False, True, False, True]
    assert np.isnan(numbers.video).ravel().tolist() == [False, False, True, True]
    features = model.video_features(frames_to_input(torch.zeros(1, 50, 64, 64, 3, dtype=torch.uint8)))
    assert store.read(0, torch.device("cpu")).shape == (features[0, 0].numel(), features.shape[1])
    result = probe_model(model, rows, ProbeProtocol("attentive"))
    assert {m.name for m in result.metrics if m.name.startswith("top-1")} == {"top-1, video, attentive"}
    assert result.metrics[0].prior_name == "random init"
