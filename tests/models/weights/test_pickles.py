"""Pickles as data: what is plain comes out, and whatever else a pickle asks for does not happen."""

import builtins
import contextlib
import io
import os
import pickle
import pickletools
import struct
import sys
import time
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from avlearn.models.weights import pickles
from avlearn.models.weights.pickles import ArrayRecord, Inert, PickleReader

PLAIN = {
    "none": None, "yes": True, "no": False, "int": -70000, "large": 2**70, "byte": 7, "float": 1.5, "text": "ä\n'\"",
    "bytes": b"\x00\xff", "list": [1, [2, []]], "tuple": (1, (), (2, 3, 4, 5)), "set": {1, 2}, "dict": {"a": {3: 4}},
    "size": torch.Size([2, 3]), "dtype": torch.bfloat16, "device": torch.device("cuda:1"), "scalar": np.float32(0.5),
    "complex": 1 + 2j,
}  # fmt: skip
ARRAYS = {
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "big": np.arange(3, dtype=">i4"),
    "half": np.array([1, 2], np.float16), "bool": np.array([True]), "empty": np.zeros((0, 3)),
}  # fmt: skip


def read(data: bytes) -> object:
    return PickleReader(io.BytesIO(data), len(data)).read()


def op(name: str, argument: bytes = b"") -> bytes:
    return next(o.code for o in pickletools.opcodes if o.name == name).encode("latin1") + argument


def function(module: str, name: str) -> bytes:
    return op("GLOBAL", f"{module}\n{name}\n".encode())


def text(value: str) -> bytes:
    return op("BINUNICODE", struct.pack("<I", len(value)) + value.encode())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_out_as_they_went_in(protocol):
    assert read(pickle.dumps(PLAIN, protocol)) == PLAIN
    assert read(pickle.dumps({"a": OrderedDict(b=1), "c": defaultdict(list, d=[2])}, protocol)) == {
        "a": {"b": 1}, "c": {"d": [2]},
    }  # fmt: skip
    for name, array in read(pickle.dumps(ARRAYS, protocol)).items():
        assert isinstance(array, ArrayRecord)
        assert np.array_equal(array.value, ARRAYS[name]) and array.value.flags.c_contiguous, name


def test_every_operation_of_python_is_known_or_refused():
    """All but those that no file of weights has: registered extensions, and buffers from outside of the pickle."""
    known = {o.code.encode("latin1") for o in pickletools.opcodes}
    refused = {op(name) for name in ("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER")}
    assert set(pickles._OPERATIONS) | refused | {op("STOP")} == known


@pytest.mark.parametrize("value", [np.array([1], object), np.array(["a"]), np.zeros(1, [("a", "f4")]), np.ones(1, "g")])
def test_arrays_that_are_no_tensors_are_passed_over(value):
    record = read(pickle.dumps(value))
    assert isinstance(record, ArrayRecord) and record.value is None


def test_objects_are_passed_over_with_all_that_is_done_to_them():
    class_of = b"".join([function("__main__", "History"), op("EMPTY_TUPLE"), op("NEWOBJ")])
    filled = class_of + op("EMPTY_DICT") + op("BUILD") + op("MARK") + text("k") + text("v") + op("SETITEMS")
    assert isinstance(read(filled + op("NONE") + op("APPEND") + op("STOP")), Inert)
    # Keys that nothing asks for are left out.
    assert read(pickle.dumps({(1, 2): 3, "a": 4, 2.5: 5, 2**61: 6})) == {"a": 4}


def snapshot() -> dict:
    """What a pickle might change: attributes, defaults and contents of modules, functions and classes."""
    found = {}
    modules = (builtins, os, sys, torch, torch._utils, torch.storage, torch.nn.Parameter, np, np.ndarray, np.dtype,
               torch.Tensor, OrderedDict, pickles, PickleReader)  # fmt: skip
    for module in modules:
        for name, value in vars(module).items():
            found[module, name] = id(value)
            if callable(value) and hasattr(value, "__defaults__"):
                state = (value.__defaults__, value.__kwdefaults__, value.__code__, dict(value.__dict__))
                found[module, name] = (id(value), repr(state))
    return {**found, "dtype": torch.get_default_dtype(), "modules": set(sys.modules), "environment": dict(os.environ)}


@pytest.mark.parametrize(
    "target",
    [
        ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"), ("torch", "Size"),
        ("torch", "FloatStorage"), ("collections", "OrderedDict"), ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "dtype"), ("numpy", "ndarray"), ("torch", "float32"), ("_codecs", "encode"), ("sys", "modules"),
        ("builtins", "set"), ("os", "environ"), ("torch.storage", "UntypedStorage"), ("antigravity", "fly"),
    ],
)  # fmt: skip
def test_reading_changes_nothing_of_the_process(target):
    before = snapshot()
    state = op("MARK") + text("__defaults__") + op("NONE") + text("numpy") + op("NONE") + op("DICT")
    slots = op("NONE") + state + op("TUPLE2")
    changes = [state + op("BUILD"), slots + op("BUILD"), text("k") + text("v") + op("SETITEM"),
               op("MARK") + text("k") + text("v") + op("SETITEMS"), op("NONE") + op("APPEND"),
               op("MARK") + text("k") + op("ADDITEMS")]  # fmt: skip
    made = [function(*target), function(*target) + op("EMPTY_TUPLE") + op("REDUCE"),
            function(*target) + op("EMPTY_TUPLE") + op("NEWOBJ")]  # fmt: skip
    for first in made:
        for change in changes:
            with contextlib.suppress(ValueError):
                read(first + change + op("STOP"))
    assert snapshot() == before


def test_nothing_is_called(tmp_path):
    mark = tmp_path / "touched"
    for name, call in (("posix", "system"), ("builtins", "exec"), ("torch", "from_file"), ("torch.hub", "load")):
        data = function(name, call) + text(f"touch {mark}") + op("TUPLE1") + op("REDUCE") + op("STOP")
        assert isinstance(read(data), Inert)
    assert isinstance(read(pickle.dumps(Path("/tmp"))), Inert)
    assert not mark.exists()
    pickle.loads(function("posix", "system") + text(f"touch {mark}") + op("TUPLE1") + op("REDUCE") + op("STOP"))
    assert mark.exists()  # the file is as evil as it ought to be


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cut short"),
        (op("NONE"), "cut short"),
        (b"\xff.", "damaged, or of another kind"),
        (op("EXT1", b"\1") + op("STOP"), "damaged, or of another kind"),
        (op("STOP"), "damaged"),
        (op("TUPLE3") + op("STOP"), "damaged"),
        (op("BINGET", b"\1") + op("STOP"), "damaged"),
        (op("BINBYTES8", b"\xff" * 7 + b"\x7f") + op("STOP"), "cut short"),
        (op("BINUNICODE8", b"\xff" * 8) + op("STOP"), "cut short"),
        (op("LONG4", b"\0\0\0\1") + b"\0" * 2**16 + op("STOP"), "16777216 bytes"),
        (op("INT", b"9" * 100_000 + b"\n") + op("STOP"), "cut short"),
        (op("NONE") + op("NONE") + op("APPEND") + op("STOP"), "damaged"),
        (function("torch._utils", "_rebuild_tensor_v2") + op("EMPTY_TUPLE") + op("REDUCE") + op("STOP"), "not enough"),
        (function("_codecs", "encode") + op("NONE") + op("TUPLE1") + op("REDUCE") + op("STOP"), "damaged"),
    ],
)
def test_damage_is_one_kind_of_error(data, said):
    with pytest.raises(ValueError, match=said):
        read(data)


def test_what_unfolds_is_bounded(monkeypatch):
    # Strings that are made of one another.
    again = function("_codecs", "encode") + op("BINGET", b"\0") + op("TUPLE1") + op("REDUCE")
    with pytest.raises(ValueError, match="unfolds"):
        read(text("x" * 2**20) + op("BINPUT", b"\0") + again * 100 + op("STOP"))
    # A memo's index is no size.
    assert read(op("NONE") + op("LONG_BINPUT", b"\xff" * 4) + op("STOP")) is None
    # Operations are counted.
    monkeypatch.setattr(pickles, "MAX_OPERATIONS", 1000)
    with pytest.raises(ValueError, match="more than 1000 operations"):
        read(op("MARK") * 1001 + op("STOP"))


def test_depth_and_cycles_do_no_harm():
    deep = op("EMPTY_LIST") * 100_000 + op("APPEND") * 99_999 + op("STOP")
    assert isinstance(read(deep), list)
    tuples = op("EMPTY_TUPLE") + op("TUPLE1") * 100_000
    assert read(op("EMPTY_DICT") + tuples + op("NONE") + op("SETITEM") + op("STOP")) == {}
    cyclic: dict = {}
    cyclic["model"] = cyclic
    found = read(pickle.dumps(cyclic))
    assert found["model"] is found


def test_many_operations_take_seconds_and_not_minutes():
    data = (op("BININT1", b"\1") + op("POP")) * 500_000 + op("NONE") + op("STOP")
    start = time.process_time()
    read(data)
    assert time.process_time() - start < 8  # of 4,000,000 at most, in a time that is told as a hang
