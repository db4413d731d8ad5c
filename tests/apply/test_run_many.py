"""Many files at once: every one is a row, and the worst of them is what the script sees."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Command
from typer.testing import CliRunner

from avlearn.apply.embed import FileFeatures
from avlearn.apply.run_many import Failure, InferenceOptions, ResultTable, in_a_line, output_names, run_many
from avlearn.apply.sync.by_model import sync_by_model
from avlearn.apply.tools import SYNC
from avlearn.apply.verdict import ADVICE
from avlearn.cli import app
from avlearn.errors import ModelError, OutputError
from avlearn.media import Slice
from avlearn.models.folder import load


def test_processes_give_what_one_gives(clips, tmp_path):
    (tmp_path / "bad.mp4").write_text("hello")
    paths = [clips[0], tmp_path / "bad.mp4", tmp_path / "missing.mp4", clips[1]]
    found = dict(run_many(SYNC, paths, InferenceOptions(), workers=1))
    assert sorted(found) == [0, 1, 2, 3]
    assert found[0].to_dict() == sync_by_model(clips[0], load("default")).to_dict()
    assert found[1].to_dict()["status"] == "error"
    assert found[1].reason.startswith("is not a media file")
    assert found[2].reason == "does not exist"
    assert found[3].status == "in sync"
    with pytest.raises(ModelError, match="no model 'unheard_of'"):
        next(run_many(SYNC, paths, InferenceOptions("unheard_of")))


def test_the_worst_decides(clips):
    fine = sync_by_model(clips[0], load("default"))
    results = [fine, replace(fine, status="out of sync"), replace(fine, status="undecidable")]
    results.append(Failure("x.mp4", "does not exist", SYNC.schema))
    codes = [ResultTable(SYNC, results[: k + 1]).exit_code for k in range(4)]
    assert codes == [0, 1, 3, 2] and ResultTable(SYNC, []).exit_code == 0
    assert in_a_line(SYNC, results[3]) == results[3].text() == "x.mp4: error: does not exist"
    table = ResultTable(SYNC, results[::-1])
    assert table.text().splitlines()[-1] == "1 in sync, 1 out of sync, 1 undecidable, 1 error"
    assert json.loads(json.dumps(table.to_dict()))[0] == {
        "schema": "avlearn.sync/2", "path": "x.mp4", "status": "error", "reason": "does not exist",
    }  # fmt: skip


def test_advice_for_many_files_is_given_once(clips):
    model = load("default")
    model.in_distribution["video"].limit.fill_(1e-3)
    unlike = sync_by_model(clips[0], model)
    said = f"note: {ADVICE}"
    assert unlike.status == "undecidable" and unlike.text().splitlines()[-1] == said
    assert ADVICE not in unlike.text(advice=False)
    lines = ResultTable(SYNC, [unlike, Failure("x.mp4", "does not exist"), unlike]).text().splitlines()
    assert lines[-1] == said and not any(ADVICE in line for line in lines[:-1])


def test_ctrl_c_leaves_what_is_done(clips, tmp_path):
    for k in range(300):
        shutil.copy(clips[k % len(clips)], tmp_path / f"{k:03d}.mp4")
    running = Command("sync", tmp_path, "--workers", "1", "--json", tmp_path / "out.json")
    while "[3/" not in running.errors_so_far():
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    begun = time.monotonic()
    out, said = running.communicate()
    assert running.returncode == 130
    assert time.monotonic() - begun < 30
    assert "Traceback" not in said
    done = json.loads((tmp_path / "out.json").read_text())
    assert 3 <= len(done) < 300
    assert f"stopped with {len(done)} of 300 done" in said
    assert len(out.splitlines()) == len(done) + 3


@pytest.mark.parametrize("tool", ["sync", "localize", "separate", "classify", "probe", "embed"])
def test_a_stopped_command_tells_what_is_done_and_nothing_where_nothing_is(tool, tmp_path, monkeypatch):
    """With the exit code of Ctrl-C, whatever is wrong with a file."""
    features = FileFeatures("a.mp4", np.zeros(1), np.zeros((1, 2)), np.zeros((1, 2)))
    done = features if tool == "embed" else Failure("a.mp4", "is bad")

    def stopped_after(results: list[object]) -> Iterator[tuple[int, object]]:
        yield from enumerate(results)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("a.mp4\nb.mp4\n")
    words = [tool, str(tmp_path / "list.txt"), "--json", "-"]
    words += {"embed": ["-o", str(tmp_path / "features.npz")], "separate": ["-o", str(tmp_path / "out")]}.get(tool, [])
    for results in ([], [done]):
        monkeypatch.setattr("avlearn.apply.run_many.run_many", lambda *_, given=results, **__: stopped_after(given))
        ended = CliRunner().invoke(app, words)
        assert ended.exit_code == 130
        assert f"stopped with {len(results)} of 2 done" in ended.stderr
        if not results:
            assert ended.stdout == "" and not (tmp_path / "features.npz").exists()
        elif tool == "embed":
            assert json.loads(ended.stdout)["files"] == 1 and (tmp_path / "features.npz").exists()
        else:
            assert [result["path"] for result in json.loads(ended.stdout)] == ["a.mp4"]


def test_outputs_are_named_as_the_files_lie_and_no_two_alike():
    names = output_names(["/x/a.mp4", Path("/x/b/a.mp4"), "/x/b/A.mov", Slice(Path("/x/c.tar"), 512, 9)])
    assert list(map(str, names)) == ["a", "b/a_mp4", "b/A_mov", "c"]
    assert list(map(str, output_names(["s3://bucket/a.mp4"]))) == ["a"]
    with pytest.raises(OutputError, match=r"x/a\.mp4 is named twice"):
        output_names(["/x/a.mp4", "/x/b.mp4", "/x/a.mp4"])
