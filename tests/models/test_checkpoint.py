"""Weight files of every container that the field uses: their tensors come out, and nothing in them is executed."""

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avlearn.errors import ModelError
from avlearn.models.checkpoint import read_tensors

WEIGHTS = {"stem.conv.weight": torch.randn(4, 3, 1, 3, 3), "head.bias": torch.arange(5.0), "steps": torch.tensor(7)}
TOUCHED: list[Path] = []


class History:
    """Like what mmengine pickles beside the weights."""

    def __init__(self):
        self.values = np.arange(3.0)


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def same(found: dict, wanted: dict = WEIGHTS) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        OrderedDict(WEIGHTS),
        {"model_state": WEIGHTS, "optimizer_state": {"lr": 0.1}, "cfg": "MODEL: x", "epoch": 3},
        {"state_dict": OrderedDict(WEIGHTS), "meta": {"hooks": History(), "time": "today"}},
        {"model_state": {f"model.{k}": v for k, v in WEIGHTS.items()}},
        {"model": {f"module.{k}": v for k, v in WEIGHTS.items()}, "history": [History()]},
        {k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in WEIGHTS.items()},
    ],
    ids=["bare", "ordered", "pyslowfast", "mmaction2", "timesformer", "parallel", "parameters"],
)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_pytorch_files(tmp_path, content, zipped, suffix):
    path = tmp_path / f"a.{suffix}"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same(read_tensors(path))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_caffe2_pickles(tmp_path, protocol):
    blobs = {"conv1_w": np.random.default_rng(0).normal(size=(4, 3, 1, 7, 7)).astype(np.float32), "lr": np.float32(0.1)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol))
    found = read_tensors(tmp_path / "a.pkl")
    assert np.array_equal(found["conv1_w"].numpy(), blobs["conv1_w"])


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    assert same(read_tensors(tmp_path / "a.safetensors"))
    (tmp_path / "a.safetensors").rename(tmp_path / "a.bin")
    assert same(read_tensors(tmp_path / "a.bin"))


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_nothing_is_executed(tmp_path, suffix):
    path, mark = tmp_path / f"a.{suffix}", tmp_path / "touched"
    content = {"state_dict": WEIGHTS, "meta": Evil(mark)}
    if suffix == "pth":
        torch.save(content, path)
        assert same(read_tensors(path))
    else:
        path.write_bytes(pickle.dumps({"blobs": {"a": np.ones(2)}, "meta": Evil(mark)}))
        assert read_tensors(path).keys() == {"a"}
    assert not mark.exists()
    if suffix == "pkl":
        pickle.loads(path.read_bytes())
        assert mark.exists()  # the file is as evil as it ought to be


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no weights", "can be read"), (b"", "can be read"), (pickle.dumps([1, 2]), "a list"), (None, "there is no")],
)
def test_other_files_are_refused(tmp_path, content, said):
    path = tmp_path / "a.pkl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=said):
        read_tensors(path)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ModelError, match="holds no weights"):
        read_tensors(tmp_path / "empty.pth")
