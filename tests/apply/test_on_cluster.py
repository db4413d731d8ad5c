"""Tools, scans and features on a Ray cluster: the rows of one process, whatever is killed on the way."""

import pickle
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from commands import Command, run

from avlearn.apply.embed import embed_file
from avlearn.apply.embedder import Embedder
from avlearn.apply.run_many import InferenceOptions, run_many
from avlearn.apply.tools import CLASSIFY
from avlearn.cli.options import who_works
from avlearn.data.cluster import Cluster
from avlearn.errors import AvlearnError, ModelError
from avlearn.evaluation.clip_features import read_features
from avlearn.models.folder import load


@pytest.fixture
def folder(clips, tmp_path) -> Path:
    """Nine clips, one of which is none."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for k in range(9):
        shutil.copy(clips[k % len(clips)], videos / f"{k}.mp4")
    (videos / "4.mp4").write_text("no video")
    return videos


def test_results_are_those_of_processes(ray_cluster, folder):
    paths = sorted(folder.iterdir())
    here, there = (
        [result.to_dict() for _, result in sorted(run_many(CLASSIFY, paths, InferenceOptions(), workers=workers))]
        for workers in (1, Cluster(ray_cluster.address))
    )
    assert here == there and here[4]["reason"].startswith("is not a media file")
    with pytest.raises(ModelError, match="no model 'unheard_of'"):
        next(run_many(CLASSIFY, paths, InferenceOptions("unheard_of"), workers=Cluster(ray_cluster.address)))


def test_a_driver_that_is_killed_goes_on(ray_cluster, folder, tmp_path):
    for k in range(10, 60):
        shutil.copy(folder / "1.mp4", folder / f"{k}.mp4")
    words = ["scan", folder, "-o", tmp_path / "there.parquet", "--engine", "ray", "--address", ray_cluster.address]
    journal = tmp_path / ".there.parquet.journal"
    driver = Command(*words)
    until = time.monotonic() + 60
    while not (journal.exists() and len(journal.read_bytes().splitlines()) > 4) and time.monotonic() < until:
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    done = len(journal.read_bytes().splitlines())
    assert 4 < done < 59 and not (tmp_path / "there.parquet").exists()
    again = Command(*words)
    _, said = again.communicate()
    assert again.returncode == 0 and f"scanning {done // 5 * 5 + 5}/59" in said, said
    run("scan", folder, "-o", tmp_path / "here.parquet")
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


def test_ctrl_c_leaves_what_is_done(ray_cluster, folder, tmp_path):
    words = ["embed", folder, "-o", tmp_path / "f", "--engine", "ray", "--address", ray_cluster.address]
    driver = Command(*words)
    while "embedding 1/9" not in driver.errors_so_far():
        assert driver.poll() is None
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    out, said = driver.communicate()
    assert driver.returncode == 130 and "Traceback" not in said and out == ""
    assert "files done: the same command goes on from there" in said
    again = Command(*words)
    out, said = again.communicate()
    assert again.returncode == 2 and "of 9 files are in" in said and "of 8 files" in out
    run("embed", folder, "-o", tmp_path / "one.parquet")
    one = pyarrow.parquet.read_table(tmp_path / "one.parquet").to_pydict()
    paths, video, audio = read_features(tmp_path / "f")
    order = np.argsort(paths, kind="stable")
    for found, wanted in ((paths, one["path"]), (video, one["video"]), (audio, one["audio"])):
        np.testing.assert_array_equal(np.array(found)[order], np.array(wanted))


def test_an_embedder_maps_batches(ray_cluster, folder):
    ray = pytest.importorskip("ray", reason="needs Ray: pip install -e '.[cluster]'")
    names = [str(folder / name) for name in ("1.mp4", "4.mp4", "none.mp4")]
    table = pickle.loads(pickle.dumps(Embedder()))({"path": np.array(names)})
    starts, video, audio = embed_file(names[0], load("default"))
    rows = table.to_pylist()
    np.testing.assert_array_equal([row["video"] for row in rows[:-2]], video)
    np.testing.assert_array_equal([row["audio"] for row in rows[:-2]], audio)
    assert [row["start"] for row in rows[:-2]] == list(starts) and {row["path"] for row in rows[:-2]} == {names[0]}
    assert [row["reason"] for row in rows[-2:]] == ["is not a media file that can be read: Invalid data found when "
                                                    "processing input", "does not exist"]  # fmt: skip
    if not ray.is_initialized():
        ray.init(ray_cluster.address, log_to_driver=False)
    found = ray.data.from_items([{"path": name} for name in names]).map_batches(Embedder(), batch_format="pyarrow")
    assert sorted(found.take_all(), key=lambda row: (row["path"], row["start"] or 0)) == sorted(
        rows, key=lambda row: (row["path"], row["start"] or 0)
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((2, "processes", "auto"), "--address auto goes with --engine ray"),
        ((2, "spark", None), "--engine spark: give processes or ray"),
        ((2, "ray", None, "cuda:1"), "--device cuda:1: on a cluster it is auto, cpu, or cuda for a GPU a worker"),
    ],
)
def test_options_that_do_not_go_together(options, said):
    with pytest.raises(AvlearnError, match=said):
        who_works(*options)
