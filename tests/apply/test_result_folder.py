"""Results of many files in a folder: a killed run leaves what is done, and the next goes on from there."""

import json
import shutil
import signal
import time

import pyarrow.parquet
import pytest
from commands import Command, run

from avlearn.apply import part_folder
from avlearn.apply.result_folder import ResultFolder
from avlearn.apply.run_many import Failure, InferenceOptions
from avlearn.apply.tools import PROBE
from avlearn.data.part import Part
from avlearn.errors import OutputError
from avlearn.media import probe


def rows(folder) -> list[dict]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pyarrow.parquet.read_table(path).to_pylist()]


def made(folder, **changes) -> ResultFolder:
    return ResultFolder(folder, PROBE, InferenceOptions(**changes), {"top": 3})


def test_rows_hold_what_a_command_writes_of_a_file(clips, tmp_path):
    folder = made(tmp_path / "r")
    assert folder.missing([clips[0], tmp_path / "none.mp4"]) == [clips[0], tmp_path / "none.mp4"]
    folder.add(probe(clips[0]))
    folder.add(Failure(str(tmp_path / "none.mp4"), "does not exist", PROBE.schema))
    folder.flush()
    summary = folder.summary()
    folder.close()
    good, bad = rows(tmp_path / "r")
    assert good | {"result": None} == {"path": str(clips[0]), "status": "read", "reason": "", "result": None}
    assert json.loads(good["result"]) == json.loads(json.dumps(probe(clips[0]).to_dict()))
    assert (bad["status"], bad["reason"]) == ("error", "does not exist")
    assert summary.counts == {"read": 1, "error": 1} and summary.exit_code == 2
    assert summary.text() == f"wrote {tmp_path / 'r'}: 1 error, 1 read"
    again = made(tmp_path / "r")
    assert again.missing([clips[0], tmp_path / "none.mp4"]) == [tmp_path / "none.mp4"]  # what failed is tried again
    again.close()
    with pytest.raises(OutputError, match=r"holds results of 'default' \(model differs\): give another folder"):
        made(tmp_path / "r", model="mine")
    assert json.loads(pyarrow.parquet.read_schema(tmp_path / "r" / "results-00000.parquet").metadata[b"avlearn"])[
        "options"
    ] == {"top": 3}


def test_a_command_goes_on_from_what_was_killed(clips, tmp_path, monkeypatch):
    videos = tmp_path / "videos"
    videos.mkdir()
    for k in range(12):
        shutil.copy(clips[k % len(clips)], videos / f"{k:02d}.mp4")
    (videos / "03.mp4").write_text("no video")
    words = ["localize", videos, "-o", tmp_path / "out", "--results", tmp_path / "r", "--workers", 1]
    running = Command(*words)
    while "[3/12]" not in running.errors_so_far():
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130 and "Traceback" not in said
    done = {row["path"] for row in rows(tmp_path / "r")}
    assert 3 <= len(done) < 12
    again = run(*words, "--json", tmp_path / "summary.json")
    assert f"results of {len(done)} files are in" in again.stderr and again.returncode == 2
    found = {row["path"]: row["status"] for row in rows(tmp_path / "r")}
    assert len(found) == 12 and [path for path, status in found.items() if status == "error"] == [
        str(videos / "03.mp4")
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["files"] == 12 and summary["counts"]["error"] == 1
    assert len(list((tmp_path / "out").glob("*.npz"))) == 11
    alone = run("classify", videos / "00.mp4", "--results", tmp_path / "x")
    assert alone.returncode == 2 and "--results" in alone.stderr and "is one" in alone.stderr


def test_parts_and_results_name_outputs_as_the_whole_does(clips, tmp_path):
    for name in ("a/x.mp4", "a/y.mp4", "b/x.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clips[0], tmp_path / "videos" / name)
    for number in (1, 2):
        words = ["localize", tmp_path / "videos", "-o", tmp_path / "out", "--part", f"{number}/2"]
        words += ["--results", tmp_path / "r", "--workers", 1, "--json", tmp_path / "r.json"]
        assert run(*words).returncode in (0, 3)
    assert [json.loads((tmp_path / f"r.{number}-of-2.json").read_text())["files"] for number in (1, 2)] == [2, 1]
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.npz"))
    assert made == ["a/x_localized.npz", "a/y_localized.npz", "b/x_localized.npz"]
    assert sorted(path.name for path in (tmp_path / "r").glob("*.parquet")) == [
        "results-00000-1of2.parquet", "results-00001-2of2.parquet",
    ]  # fmt: skip


def test_rows_are_written_after_a_while_however_few(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(part_folder, "_LONG", 0.0)
    folder = made(tmp_path / "r")
    for k, clip in enumerate(clips[:2], 1):
        folder.add(probe(clip))
        written(folder, k)
        assert rows(tmp_path / "r")[-1]["path"] == str(clip)
    folder.close()


def written(folder: ResultFolder, files: int) -> None:
    """Wait for rows of so many files, whether another comes or not."""
    until = time.monotonic() + 60
    while folder.files < files and time.monotonic() < until:
        time.sleep(0.01)


def test_what_cannot_be_written_in_time_is_told_with_the_next(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(part_folder, "_LONG", 0.0)
    folder = made(tmp_path / "r")
    with monkeypatch.context() as full:
        full.setattr(folder, "_write", refuse)
        folder.add(probe(clips[0]))
        until = time.monotonic() + 60
        while not folder._late and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(OutputError, match="the disk is full"):
            folder.add(probe(clips[1]))
    folder.flush()
    assert len(rows(tmp_path / "r")) == 2
    folder.close()


def refuse() -> None:
    raise OutputError("the disk is full")


def test_outputs_of_rows_that_were_lost_are_written_over(clips, tmp_path):
    for k in range(2):
        shutil.copy(clips[k], tmp_path / f"{k}.mp4")
    words = ["localize", tmp_path / "0.mp4", tmp_path / "1.mp4", "-o", tmp_path / "out", "--workers", 1]
    assert run(*words, "--results", tmp_path / "r").returncode in (0, 3)
    (tmp_path / "r" / "results-00000.parquet").unlink()
    assert run(*words, "--results", tmp_path / "r").returncode in (0, 3)
    assert len(rows(tmp_path / "r")) == 2
    strangers = run(*words, "--results", tmp_path / "new")
    assert strangers.returncode == 2 and "is there already" in strangers.stderr


def test_parts_of_embed_take_a_folder(clips, tmp_path):
    said = run("embed", clips[0], clips[1], "-o", tmp_path / "f.npz", "--part", "1/2")
    assert said.returncode == 2 and "--part 1/2: all parts write to one place, give a folder" in said.stderr


def test_a_command_that_wrote_nothing_decides_nothing_and_parts_count_their_own(clips, tmp_path):
    made(tmp_path / "r", model="other").close()
    first = ResultFolder(tmp_path / "r", PROBE, InferenceOptions(), {"top": 3}, Part(1, 2))
    first.missing([tmp_path / "none.mp4"])
    first.add(Failure(str(tmp_path / "none.mp4"), "does not exist", PROBE.schema))
    first.flush()
    assert first.summary().exit_code == 2
    first.close()
    second = ResultFolder(tmp_path / "r", PROBE, InferenceOptions(), {"top": 3}, Part(2, 2))
    second.missing([clips[0]])
    second.add(probe(clips[0]))
    second.flush()
    assert second.summary().exit_code == 0 and second.summary().counts == {"read": 1}
    second.close()
    alone = run("classify", clips[0], "--engine", "ray")
    assert alone.returncode == 2 and "--engine ray goes with many files" in alone.stderr


def test_results_are_of_one_state_of_a_model(clips, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"before")
    folder = made(tmp_path / "r", model=str(model))
    folder.missing(clips[:1])
    folder.add(probe(clips[0]))
    folder.flush()
    folder.close()
    made(tmp_path / "r", model=str(model)).close()
    (model / "model.safetensors").write_bytes(b"trained on")
    with pytest.raises(OutputError, match=r"\(files differs\): give another folder"):
        made(tmp_path / "r", model=str(model))
