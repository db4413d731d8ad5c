"""Weight files of every container that the field uses: their tensors come out, and nothing in them is executed."""

import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avlearn.errors import ModelError
from avlearn.models.weights.checkpoint import check_finite, load_whole, read_tensors

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


KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
         torch.uint8, torch.bool, torch.complex64, torch.complex128)  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
def test_every_dtype_and_view_comes_out_as_torch_reads_it(tmp_path, zipped):
    base = torch.randn(6, 4)
    content = {str(kind): (base * 50).abs().to(kind) for kind in KINDS}
    if zipped:
        content |= {str(kind): base.abs().to(kind) for kind in (torch.uint16, torch.uint64, torch.float8_e4m3fn)}
    content |= {"t": base.t(), "rows": base[::2, 1:3], "spread": base[:, :1].expand(6, 5), "none": torch.zeros(0, 3)}
    content["noted"] = torch.randn(2)
    content["noted"].note = "an attribute"
    path = tmp_path / "a.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found, wanted = read_tensors(path), torch.load(path, weights_only=False)
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found[name].contiguous().view(torch.uint8), tensor.contiguous().view(torch.uint8)), name
    assert found["t"].untyped_storage().data_ptr() == found["rows"].untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda: torch.eye(2).to_sparse(), "_rebuild_sparse_tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "_rebuild_qtensor"),
        (lambda: torch.ones(2, dtype=torch.complex64).conj(), "conjugate"),
        (lambda: torch.empty(2, device="meta"), "meta"),
    ],
)
def test_tensors_of_other_kinds_are_refused_by_their_names(tmp_path, value, kind):
    torch.save({"a": torch.ones(1), "head.w": value()}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=rf"head\.w is no dense tensor \(.*{kind}"):
        read_tensors(tmp_path / "a.pt")


def test_a_program_is_refused_and_does_not_run(tmp_path):
    """TorchScript whose ``__setstate__`` writes over a file; ``torch.load`` gets there with any pickle module."""

    class Overwrites(torch.nn.Module):
        def __init__(self, path: str):
            super().__init__()
            self.path = path
            self.held = torch.zeros(4, dtype=torch.uint8)

        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return self.path, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.path, self.training = state
            self.held = torch.from_file(self.path, True, 4, dtype=torch.uint8)
            self.held.fill_(88)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    victim, path = tmp_path / "victim", tmp_path / "a.pth"
    victim.write_bytes(b"safe")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(Overwrites(str(victim))), path)
    with pytest.raises(ModelError, match="TorchScript archive"):
        read_tensors(path)
    assert victim.read_bytes() == b"safe"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.load(path, weights_only=False)
    assert victim.read_bytes() == b"XXXX"  # the file is as evil as it ought to be
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ModelError, match=r"it holds a torch\.nn\.modules\.linear\.Linear, not weights by name"):
        read_tensors(path)


def repack(path: Path, **changes: object) -> None:
    """Write an archive anew: ``compress``, or ``twice``, or what an entry of that name's end is replaced with."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if changes.get("compress") else zipfile.ZIP_STORED) as new:
        for name, data in entries.items():
            new.writestr(name, changes.get(name.rpartition("/")[2].replace(".", "_"), data))


def test_archives_that_lie_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    tensor = torch.arange(10_000.0)

    def refused(said: str) -> None:
        with pytest.raises(ModelError, match=said) as caught:
            read_tensors(path)
        assert len(str(caught.value).splitlines()) == 1

    torch.save({"a": tensor}, path)
    whole = path.read_bytes()
    repack(path, compress=True)
    refused("compressed")
    path.write_bytes(whole[:-1000])
    refused("cut short")
    path.write_bytes(whole.replace(struct.pack("<f", 5000.0), struct.pack("<f", 5001.0)))
    refused("checksum")
    path.write_bytes(whole)
    repack(path, byteorder=b"big")
    refused("big-endian")
    # A storage that is shorter than what its tensor takes.
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as file:
        name = next(name for name in file.namelist() if name.endswith("data/0"))
        entries = {entry: file.read(entry) for entry in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for entry, data in entries.items():
            file.writestr(entry, data[:400] if entry == name else data)
    refused("has 400 bytes, and should have 40000")
    with zipfile.ZipFile(path, "w") as file:
        for entry, data in entries.items():
            if entry != name:
                file.writestr(entry, data)
    refused("storage 0 is missing")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/other", b"")
    refused("no data.pkl")


def test_a_small_file_makes_no_large_tensors(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(1).expand(2**40)}, path)
    with pytest.raises(ModelError, match="its tensors have 4398046511104 bytes"):
        read_tensors(path)
    torch.save({f"{k}": torch.zeros(1).expand(2**22) for k in range(1000)}, path)
    with pytest.raises(ModelError, match="its tensors have"):
        read_tensors(path)
    torch.save({f"tied{k}": WEIGHTS["stem.conv.weight"] for k in range(3)}, path)
    assert len(read_tensors(path)) == 3


def test_envelopes_without_end_and_other_keys(tmp_path):
    path = tmp_path / "a.pkl"
    cyclic: dict = {}
    cyclic["model"] = cyclic
    path.write_bytes(pickle.dumps(cyclic))
    with pytest.raises(ModelError, match="no weights"):
        read_tensors(path)
    path.write_bytes(pickle.dumps({1: np.ones(2), "a": np.ones(2), "b": np.array([1], object), "c": np.ones(2, "g")}))
    assert list(read_tensors(path)) == ["a"]
    path.write_bytes(pickle.dumps({"a\033[2J": np.ones(2)}))
    with pytest.raises(ModelError, match="cannot be printed"):
        read_tensors(path)


@pytest.mark.parametrize("header", [b"{", b'{"a": 5}', b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99]}}',
                                    b'{"a":{"dtype":"X","shape":[0],"data_offsets":[0,0]}}', b"[" * 1000])  # fmt: skip
def test_bad_headers_of_safetensors(tmp_path, header):
    path = tmp_path / "a.safetensors"
    for length in (len(header), 2**63, 0):
        path.write_bytes(struct.pack("<Q", length) + header + b"\0" * 16)
        with pytest.raises(ModelError, match="no weight file that can be read"):
            read_tensors(path)


def test_the_whole_of_a_model_and_nothing_besides(tmp_path):
    path = tmp_path / "a.safetensors"
    built = []

    def build() -> torch.nn.Module:
        model = torch.nn.Linear(3, 2)
        model.register_buffer("limit", torch.tensor(float("inf")))
        built.append(model.weight.device.type)
        return model

    good = build().state_dict()
    save_file(good, path)
    assert torch.equal(load_whole(build, path).weight, good["weight"])
    wrong = {
        "1 tensors are missing; the first is bias": {"weight": good["weight"], "limit": good["limit"]},
        "1 tensors have no place in the model; the first is extra": {**good, "extra": torch.ones(1)},
        r"weight has the shape \[9\], and in the model \[2, 3\]": {**good, "weight": torch.ones(9)},
        r"bias holds torch\.int64, and in the model torch\.float32": {**good, "bias": torch.ones(2, dtype=torch.int64)},
        "bias holds numbers that are not finite": {**good, "bias": torch.tensor([0.0, float("inf")])},
        "limit holds numbers that are not finite": {**good, "limit": torch.tensor(float("nan"))},
    }
    for said, tensors in wrong.items():
        built.clear()
        save_file(tensors, path)
        with pytest.raises(ModelError, match=said):
            load_whole(build, path)
        assert built[0] == "meta"
        assert built[1:] == ([] if "finite" not in said else ["cpu"])  # before any memory is taken
    path.write_bytes(b"\0" * 40)
    with pytest.raises(ModelError, match="no weight file that can be read"):
        load_whole(build, path)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64])
def test_numbers_that_are_not_finite_are_named(kind):
    tensors = {"a": torch.ones(3).to(kind), "b": torch.ones(3).to(kind), "c": torch.tensor([1]), "d": torch.ones(0)}
    check_finite(tensors, "a file")
    tensors["b"] = torch.tensor([0.0, float("nan"), 1.0]).to(kind)
    with pytest.raises(ModelError, match="a file: b holds numbers that are not finite"):
        check_finite(tensors, "a file")
