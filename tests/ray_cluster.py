"""A Ray cluster of two nodes on this machine, each with one CPU, for tests of work on a cluster."""

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from filelock import FileLock

HOW = "work on a cluster needs Ray: pip install -e '.[cluster]'"
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


_LOCK = FileLock(
    Path(tempfile.gettempdir()) / "avlearn-tests-ray.lock"
)  # clusters of two test processes mix up their ports


@contextmanager
def started(**head: object) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` with a head alone, which nothing is left of afterwards."""
    ray = pytest.importorskip("ray", reason=HOW)
    from ray.cluster_utils import Cluster

    with _LOCK:
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False, **head})
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture(scope="session")
def ray_modules(tmp_path_factory) -> Iterator[Path]:
    """A folder of which nodes and this process import modules; Ray reports on nobody."""
    folder = tmp_path_factory.mktemp("modules")
    with pytest.MonkeyPatch.context() as made:
        made.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
        made.syspath_prepend(folder)
        yield folder


def module(folder: Path, name: str, text: str) -> ModuleType:
    """A module that nodes can import, too."""
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def ray_cluster(ray_modules) -> Iterator[Any]:
    """The cluster, for all tests of a module: they leave its two nodes alone."""
    with started() as cluster:
        cluster.add_node(**NODE)
        yield cluster
