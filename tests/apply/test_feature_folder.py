"""A folder of features is written in parts, and goes on from them."""

import json
import os
import time

import numpy as np
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from avlearn.apply import part_folder
from avlearn.apply.embed import FileFeatures
from avlearn.apply.feature_folder import FeatureFolder, about
from avlearn.apply.part_folder import path_text
from avlearn.apply.result_folder import ResultFolder
from avlearn.apply.run_many import Failure, InferenceOptions
from avlearn.apply.tools import PROBE
from avlearn.cli.app import app
from avlearn.data.part import Part
from avlearn.errors import DataError, OutputError
from avlearn.evaluation.clip_features import read_features
from avlearn.models.folder import load

ABOUT = {"format": "avlearn.features/1", "model": "mine", "weights": "0" * 64, "window": 2.0, "hop": 1.0}


def features(path, windows: int, seed: int = 0) -> FileFeatures:
    rng = np.random.default_rng(seed)
    video, audio = (rng.normal(size=(windows, size)).astype(np.float32) for size in (6, 3))
    return FileFeatures(str(path), np.arange(windows, dtype=np.float32), video, audio)


@pytest.fixture
def files(tmp_path):
    made = [tmp_path / f"{k}.mp4" for k in range(5)]
    for k, path in enumerate(made):
        path.write_bytes(b"x" * (k + 1))
    return made


def fill(folder: FeatureFolder, files) -> list[str]:
    left = folder.missing(files)
    for k, path in enumerate(left):
        folder.add(features(path, k + 1, k))
    folder.flush()
    folder.close()
    return [path.name for path in left]


def test_parts_hold_what_was_added_and_say_what_it_is_of(files, tmp_path, monkeypatch):
    monkeypatch.setattr(part_folder, "_LARGE", 150)
    folder = FeatureFolder(tmp_path / "f", ABOUT)
    fill(folder, files)
    parts = sorted((tmp_path / "f").glob("*.parquet"))
    assert [part.name for part in parts] == [f"features-{k:05d}.parquet" for k in range(len(parts))] and len(parts) > 1
    assert json.loads(pyarrow.parquet.read_schema(parts[0]).metadata[b"avlearn"]) == ABOUT
    paths, video, audio = read_features(tmp_path / "f")
    expected = [features(path, k + 1, k) for k, path in enumerate(files)]
    for one in expected:
        own = [name == one.path for name in paths]
        np.testing.assert_array_equal(video[own], one.video)
        np.testing.assert_array_equal(audio[own], one.audio)
    assert len(paths) == folder.result([]).windows == 15 and folder.files == 5


def test_a_part_is_written_after_a_while_however_small(files, tmp_path, monkeypatch):
    monkeypatch.setattr(part_folder, "_LONG", 0.0)
    folder = FeatureFolder(tmp_path / "f", ABOUT)
    for k, path in enumerate(folder.missing(files), 1):
        folder.add(features(path, 1))
        until = time.monotonic() + 60
        while folder.files < k and time.monotonic() < until:  # whether another comes or not
            time.sleep(0.01)
        assert len(list((tmp_path / "f").glob("*.parquet"))) == k
    folder.close()


def test_a_run_goes_on_where_one_was_killed(files, tmp_path):
    folder = FeatureFolder(tmp_path / "f", ABOUT)
    for path in folder.missing(files)[:2]:
        folder.add(features(path, 2))
    folder.flush()
    folder.add(features(files[2], 2))  # in no part yet
    folder.close()
    (tmp_path / "f" / "features-00001.parquet").write_text("a part that the journal does not know")
    again = FeatureFolder(tmp_path / "f", ABOUT)
    assert fill(again, files) == ["2.mp4", "3.mp4", "4.mp4"]
    paths, *_ = read_features(tmp_path / "f")
    assert sorted(set(paths)) == [str(path) for path in files] and again.files == 5


def test_a_file_that_changed_is_done_again_and_counts_once(files, tmp_path):
    fill(FeatureFolder(tmp_path / "f", ABOUT), files)
    files[1].write_bytes(b"longer than before")
    folder = FeatureFolder(tmp_path / "f", ABOUT)
    assert fill(folder, files) == ["1.mp4"] and folder.result([]).windows == 14 and folder.files == 5
    paths, video, _ = read_features(tmp_path / "f")
    assert paths.count(str(files[1])) == 1
    np.testing.assert_array_equal(video[paths.index(str(files[1]))], features(files[1], 1).video[0])


def test_features_of_another_model_are_not_mixed(files, tmp_path):
    fill(FeatureFolder(tmp_path / "f", ABOUT), files)
    with pytest.raises(OutputError, match=r"holds features of 'mine' \(weights differs\): give another folder"):
        FeatureFolder(tmp_path / "f", ABOUT | {"weights": "1" * 64})
    with pytest.raises(OutputError, match="audio differs"):
        FeatureFolder(tmp_path / "f", ABOUT, ("2", None))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        FeatureFolder(tmp_path / "other", ABOUT)
    with pytest.raises(DataError, match="holds no features"):
        read_features(tmp_path / "other")


def test_what_features_are_of_depends_on_the_weights(untrained):
    model = load(untrained)
    first = about(model, "mine", "32")
    assert first == about(load(untrained), "mine", "32") and first["window"] == model.config.seconds
    next(model.parameters()).data[0] += 1
    assert about(model, "mine", "32")["weights"] != first["weights"]


def test_the_command_writes_a_folder_goes_on_and_is_probed(small_world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    words = ["embed", str(small_world / "manifest.parquet"), "-o", "f", "--workers", "1"]
    done = CliRunner().invoke(app, [*words, str(broken)])
    assert done.exit_code == 2 and "1 of 13 files could not be read" in done.stdout, done.output
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0 and "12 of 12 files are in f already" in again.stderr, again.output
    assert "wrote f:" in again.stdout and "of 12 files" in again.stdout
    plain = CliRunner().invoke(app, [*words[:2], "-o", "f.npz", "--workers", "1"])
    assert plain.exit_code == 0, plain.output
    in_parts, whole = (
        sorted(zip(*read_features(tmp_path / name), strict=True), key=lambda row: row[0]) for name in ("f", "f.npz")
    )
    for one, other in zip(in_parts, whole, strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])


def test_parts_write_side_by_side_and_the_whole_finds_them(files, tmp_path):
    first, second = Part(1, 2), Part(2, 2)
    open_at_once = FeatureFolder(tmp_path / "f", ABOUT, part=second)
    assert fill(FeatureFolder(tmp_path / "f", ABOUT, part=first), first.among(files)) == ["0.mp4", "2.mp4", "4.mp4"]
    assert fill(open_at_once, second.among(files)) == ["1.mp4", "3.mp4"]
    assert sorted(path.name for path in (tmp_path / "f").glob("*.parquet")) == [
        "features-00000-1of2.parquet", "features-00000-2of2.parquet",
    ]  # fmt: skip
    assert fill(FeatureFolder(tmp_path / "f", ABOUT, part=first), files) == []
    files[3].write_bytes(b"changed")
    whole = FeatureFolder(tmp_path / "f", ABOUT)
    assert whole.files == 5 and fill(whole, files) == ["3.mp4"]
    with pytest.raises(OutputError, match=r"holds features of 'mine' \(weights differs\)"):
        FeatureFolder(tmp_path / "f", ABOUT | {"weights": "1" * 64}, part=Part(3, 3))
    assert (tmp_path / "f" / "features-00001.parquet").exists()
    paths, video, _ = read_features(tmp_path / "f")
    np.testing.assert_array_equal(video[[str(files[3]) == name for name in paths]], features(files[3], 1, 0).video)
    assert len(paths) == (1 + 2 + 3) + (1 + 1)


def test_what_was_in_a_part_that_is_damaged_or_gone_is_done_again(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(part_folder, "_LARGE", 1)
    folder = tmp_path / "f"
    fill(FeatureFolder(folder, ABOUT), files)
    parts = sorted(folder.glob("*.parquet"))
    parts[1].write_bytes(parts[1].read_bytes()[:-20])
    parts[2].write_bytes(b"")
    parts[3].write_bytes(b"PAR1" + 200 * b"x" + b"PAR1")
    parts[4].unlink()
    assert fill(FeatureFolder(folder, ABOUT), files) == ["1.mp4", "2.mp4", "3.mp4", "4.mp4"]
    assert capsys.readouterr().err.count("is damaged: what it held of 1 file is done again") == 3
    again = FeatureFolder(folder, ABOUT)
    assert fill(again, files) == [] and again.files == 5 and len(read_features(folder)[0]) == 1 + 1 + 2 + 3 + 4
    # A name that was taken is not taken again: what was in the part that is gone would seem to be there.
    sorted(folder.glob("*.parquet"))[-1].unlink()
    files[0].write_bytes(b"changed")
    assert fill(FeatureFolder(folder, ABOUT), files[:1]) == ["0.mp4"]
    assert fill(FeatureFolder(folder, ABOUT), files) == ["4.mp4"]


def test_a_part_that_is_out_of_reach_is_kept(files, tmp_path, monkeypatch):
    fill(FeatureFolder(tmp_path / "f", ABOUT), files)

    def unreachable(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pyarrow.parquet, "read_metadata", unreachable)
    for _ in range(2):  # the lock is let go
        with pytest.raises(OutputError, match=r"cannot read .*features-00000.parquet"):
            FeatureFolder(tmp_path / "f", ABOUT)
    assert (tmp_path / "f" / "features-00000.parquet").exists()


def test_damage_within_a_part_is_found_where_it_is_read(files, tmp_path):
    fill(FeatureFolder(tmp_path / "f", ABOUT), files)
    part = tmp_path / "f" / "features-00000.parquet"
    data = bytearray(part.read_bytes())
    place = data.find(features(files[4], 5, 4).video[3].tobytes())
    assert place > 0
    data[place] ^= 1
    part.write_bytes(data)
    with pytest.raises(DataError, match=r"features-00000.parquet .*\(remove it, and the same embed command makes it"):
        read_features(tmp_path / "f")
    part.unlink()
    assert len(fill(FeatureFolder(tmp_path / "f", ABOUT), files)) == 5


def test_overwriting_begins_anew(files, tmp_path):
    fill(FeatureFolder(tmp_path / "f", ABOUT, part=Part(1, 2)), files[:2])
    fill(FeatureFolder(tmp_path / "f", ABOUT), files[2:])
    other = ABOUT | {"weights": "1" * 64}
    anew = FeatureFolder(tmp_path / "f", other, overwrite=True)
    assert anew.files == 0 and fill(anew, files[:1]) == ["0.mp4"]
    assert [path.name for path in (tmp_path / "f").glob("*.parquet")] == ["features-00000.parquet"]
    assert FeatureFolder(tmp_path / "f", other).files == 1


def test_overwriting_leaves_what_is_not_of_features(files, tmp_path):
    results = ResultFolder(tmp_path / "f", PROBE, InferenceOptions(), {})
    for path in results.missing(files):
        results.add(Failure(str(path), "no video", "avlearn.probe/1"))
    results.flush()
    results.close()
    with pytest.raises(OutputError, match="format"):
        FeatureFolder(tmp_path / "f", ABOUT, overwrite=True)
    assert len(list((tmp_path / "f").glob("*.parquet"))) == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "features-mine.parquet").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        FeatureFolder(tmp_path / "other", ABOUT, overwrite=True)


def test_the_command_begins_anew(small_world, tmp_path):
    clips, out = sorted((small_world / "clips").glob("*.mp4"))[:2], tmp_path / "f"

    def run(*words):
        return CliRunner().invoke(app, ["embed", *map(str, words), "-o", str(out), "--workers", "1"])

    assert run(*clips).exit_code == 0 and len(set(read_features(out)[0])) == 2
    assert "of 1 file" in run(clips[0], "--overwrite").stdout
    assert set(read_features(out)[0]) == {str(clips[0])}
    assert "give another folder" in str(run(clips[0], "--overwrite", "--part", "1/2").exception)


def test_names_that_are_not_utf8_have_texts_of_their_own():
    back = b"\\"
    names = [b"a" + count * back + end for count in range(4) for end in (b"xff", b"\xff", b"b", b"\xc3\xa9")]
    texts = [path_text(os.fsdecode(name)) for name in names]
    assert len(set(texts)) == len(names)
    plain = dict(zip(names, texts, strict=True))
    assert plain[b"a\xff"] == r"a\xff" and plain[rb"a\xff"] == r"a\\xff" and plain[rb"a\b"] == r"a\b"
