"""Fixtures that several rooms share: a small world, an untrained model, the folder of real videos."""

import os
import signal
import threading
from collections.abc import Iterable
from multiprocessing import forkserver
from pathlib import Path

import pytest
from filelock import FileLock

pytest_plugins = ["cutting", "nginx", "ray_cluster", "s3", "web"]

os.environ.setdefault("OMP_NUM_THREADS", "1")
if threading.current_thread() is threading.main_thread():
    # What a script starts in its background ignores Ctrl-C, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_preload, _tests = forkserver.set_forkserver_preload, os.getpid()


def _preload_heavy(names: Iterable[str]) -> None:
    """The server that a process's workers are forked from is started once, with what the first work needs.

    Tests do all kinds of work in one process: without this each worker of a later test would import PyTorch.
    """
    _preload(["torch", "avlearn.media", *names] if os.getpid() == _tests else list(names))


forkserver.set_forkserver_preload = _preload_heavy

REAL = Path(__file__).resolve().parents[2] / "shared" / "media" / "real"


@pytest.fixture(autouse=True)
def repeatable() -> None:
    """Every test draws the same numbers in every run, on one thread: what ran before may have set others."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory) -> Path:
    """A folder of 12 clips with one source each, rendered once for all processes that run tests."""
    from avlearn.data.world import WorldConfig, make_world

    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "solo"
    with FileLock(f"{out}.lock"):
        if not (out / "manifest.parquet").exists():
            make_world(out, 12, 11, WorldConfig.preset("solo"), workers=2)
    return out


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory) -> Path:
    """The folder of data of the runs of `small_runs`: their world is rendered there once, and decoded."""
    return tmp_path_factory.mktemp("small_runs")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """Folder of a model with a separator and classifiers, as it is before training."""
    import torch

    from avlearn.config import ModelConfig, Separator
    from avlearn.models.audiovisual import AudioVisual
    from avlearn.models.folder import save

    torch.manual_seed(0)
    config = ModelConfig(separator=Separator(), labels=("ball", "bell"), trained_on="nothing")
    folder = tmp_path_factory.mktemp("models") / "untrained"
    save(AudioVisual(config).eval(), folder, "# untrained\n")
    return folder


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of real videos; skips where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"needs real videos, which are not ours to hand on, in {REAL}")
    return REAL
