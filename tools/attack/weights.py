"""Weight files: damaged, lying, hostile. Read as a user's command reads them."""

import io
import pickle
import pickletools
import random
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from avlearn.apply.sync.released import load_released
from avlearn.models.registry import create_model
from avlearn.models.released.localizers import load_localizer
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import find_layout

VICTIM = Path(tempfile.gettempdir()) / "avlearn-attack-victim"  # what TorchScript would write over
NASTY = (0, 1, -1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, -(2**63), 2**64 - 1, 255, 4096)
GLOBALS = (
    ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor_v3"), ("torch", "FloatStorage"),
    ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_sparse_tensor"), ("torch", "device"),
    ("torch._tensor", "_rebuild_from_type_v2"), ("collections", "OrderedDict"), ("torch", "Size"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.numeric", "_frombuffer"), ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"), ("numpy", "ndarray"), ("_codecs", "encode"), ("builtins", "set"),
    ("builtins", "exec"), ("os", "system"), ("builtins", "getattr"), ("torch.hub", "load"), ("avlearn.cli", "app"),
)  # fmt: skip


def cases(seed: int, count: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """So many weight files, one after another in ``folder``; the calls read the one that was just written."""
    kinds = (_zip, _zip, _legacy, _legacy, _operations, _operations, _plain, _archive, _tensors_that_lie, _script,
             _safetensors, _safetensors, _names)  # fmt: skip
    for number in range(count):
        kind = kinds[number % len(kinds)]
        rng = random.Random(f"{seed} {number}")
        suffix = rng.choice((".pth", ".pkl", ".pt", ".safetensors" if kind is _safetensors else ".bin"))
        path = folder / f"weights{suffix}"
        path.write_bytes(kind(rng))
        VICTIM.write_bytes(b"safe" * 4)
        yield f"{kind.__name__.strip('_')}-{number}", partial(_untouched, rng.choice((_read, _use, _use)), path)
    VICTIM.unlink(missing_ok=True)


def _untouched(call: Callable[[Path], object], path: Path) -> object:
    """Make a call that is to write nowhere."""
    try:
        return call(path)
    finally:
        assert VICTIM.read_bytes() == b"safe" * 4, "the file's own program ran"


def _read(path: Path) -> object:
    return {name: tensor.float().sum() for name, tensor in read_tensors(path).items()}


def _use(path: Path) -> object:
    """By the loaders of released networks, and as an encoder's weights."""
    tensors = read_tensors(path)
    if any(name.startswith(("net", "transformer.")) for name in tensors):
        return load_released(path)
    if any(name.startswith(("imgnet", "audnet")) for name in tensors):
        return load_localizer(tensors)
    find_layout(tensors, "r2plus1d_18")
    with torch.device("meta"):
        create_model("dsconv_tiny", num_classes=5)
    return create_model("dsconv_tiny", weights=path, num_classes=5)


# What they are made of.


def _content(rng: random.Random) -> object:
    """As the field publishes: tensors of a few kinds, in an envelope, with other things beside them."""
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.uint8)
    tensors = {
        f"layer{k}.weight": (torch.ones(rng.randint(0, 4), rng.randint(1, 5)) * k).to(rng.choice(kinds))
        for k in range(rng.randint(1, 5))
    }
    base = torch.arange(12.0).view(3, 4)
    tensors |= {"view": base.t(), "spread": torch.zeros(1).expand(rng.choice((3, 1000, 2**20))), "base": base}
    beside = {"epoch": 3, "history": [np.arange(3.0), {1: 2.5}], "optimizer": {"state": {0: {"step": torch.ones(1)}}}}
    return rng.choice((tensors, {"state_dict": tensors, **beside}, {"model": {"module": tensors}, **beside}))


def _saved(rng: random.Random, zipped: bool) -> bytearray:
    file = io.BytesIO()
    torch.save(_content(rng), file, _use_new_zipfile_serialization=zipped, pickle_protocol=rng.choice((2, 2, 4, 5)))
    return bytearray(file.getvalue())


def _damaged(data: bytearray, rng: random.Random) -> bytes:
    """Flipped, cut, doubled, exchanged, and with numbers of its headers replaced."""
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        if not data:
            break
        at, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 64))
        way = rng.randrange(7)
        if way == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[at : at + length] = rng.randbytes(length)
        elif way == 2:
            del data[at : at + length]
        elif way == 3:
            del data[at:]
        elif way == 4:
            data[at:at] = data[at : at + length * 8]
        elif way == 5:
            size = rng.choice((1, 2, 4, 8))
            data[at : at + size] = (rng.choice(NASTY) % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))
        else:
            marks = [mark for mark in (b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\3\4") if mark in data]
            at = min((data.find(rng.choice(marks)) if marks else at) + rng.randrange(4, 46), len(data) - 1)
            data[at] = rng.randrange(256)
    return bytes(data)


def _zip(rng: random.Random) -> bytes:
    return _damaged(_saved(rng, zipped=True), rng)


def _legacy(rng: random.Random) -> bytes:
    return _damaged(_saved(rng, zipped=False), rng)


def _plain(rng: random.Random) -> bytes:
    """Pickles as Caffe2's, damaged."""
    blobs = {"conv1_w": np.ones((2, 3), rng.choice(("f4", ">f8", "i8", "O", "g", "U3"))), "lr": np.float32(0.1)}
    return _damaged(bytearray(pickle.dumps({"blobs": blobs}, rng.randrange(6))), rng)


def _operations(rng: random.Random) -> bytes:
    """Pickles of random operations with arguments that they take, alone, in an archive, or in the older layout."""
    data = b"".join(_operation(rng) for _ in range(rng.choice((5, 30, 300, 3000)))) + b"."
    kind = rng.randrange(4)
    if kind == 0:
        data = rng.choice((b"]", b"}", b"(", b"N", b"\x85", b")\x85")) * rng.choice((1000, 300_000)) + data
    if kind == 1:
        return _packed({"a/data.pkl": data, "a/data/0": b"\0" * 64, "a/version": b"3\n"})
    if kind == 2:
        return b"\x80\2\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\2M\xe9\3." + b"\x80\2}." + data + b"]." + b"\0" * 64
    return data


def _operation(rng: random.Random) -> bytes:
    op = rng.choice([o for o in pickletools.opcodes if o.name != "STOP"])
    code, argument = op.code.encode("latin1"), op.arg.name if op.arg else ""
    if op.name in ("GLOBAL", "INST"):
        return code + "{}\n{}\n".format(*rng.choice(GLOBALS)).encode()
    if rng.random() < 0.2:
        function = "c{}\n{}\n".format(*rng.choice(GLOBALS)).encode()
        return (
            function + rng.choice((b")", b"(" + b"K\1" * 4 + b"t", b"N\x85", b"h\0\x85")) + rng.choice((b"R", b"\x81"))
        )
    if argument.endswith("nl") or "nl_" in argument:
        return code + rng.choice((b"1", b"'a'", b"1L", b"9" * 5000, b"x", b"1.5", b"nan", b"\\u0041")) + b"\n"
    width = {"1": 1, "2": 2, "4": 4, "8": 8}.get(argument.rstrip("_")[-1:], 0)
    if not argument:
        return code
    if argument.startswith(("string", "bytes", "unicode", "bytearray", "long")) and width:
        length = rng.choice((0, 3, 3, 3, *NASTY)) % 2 ** (8 * width)
        return code + length.to_bytes(width, "little") + b"abc"
    size = width or {"float8": 8}.get(argument, 1)
    return code + (rng.choice((0, 1, 2, *NASTY)) % 2 ** (8 * size)).to_bytes(size, "little")


def _packed(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # names that come twice
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def _archive(rng: random.Random) -> bytes:
    """Archives with entries left out, exchanged, compressed, renamed, or unfolding to a thousand times their size."""
    with zipfile.ZipFile(io.BytesIO(_saved(rng, zipped=True))) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(entries)).partition("/")[0]
    name = rng.choice(list(entries))
    way = rng.randrange(7)
    if way == 0:
        del entries[name]
    elif way == 1:
        entries[name] = rng.choice((b"", b"\0" * 2**20, b"big", entries[rng.choice(list(entries))]))
    elif way == 2:
        return _packed({**entries, f"{root}/data/0": b"\0" * 2**26}, zipfile.ZIP_DEFLATED)
    elif way == 3:
        entries[rng.choice((f"{root}/constants.pkl", f"{root}/code/a.py", "b/data.pkl", "../x", "a" * 60_000))] = b"."
    elif way == 4:
        entries = {f"{'x/' * rng.randint(0, 3)}{key}": data for key, data in entries.items()}
    elif way == 5:
        entries |= {f"{root}/data/{k}": b"" for k in range(rng.choice((10, 5000)))}
    data = bytearray(_packed(entries))
    if way == 6:  # a directory whose entries all lie at one place
        at = -1
        while (at := data.find(b"PK\1\2", at + 1)) >= 0:
            data[at + 42 : at + 46] = struct.pack("<I", rng.choice((0, 0, 100, 2**32 - 1)))
    return bytes(data)


class _Record:
    """Pickles as whatever it is told."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple:
        return self.made


def _tensors_that_lie(rng: random.Random) -> bytes:
    """Tensors whose offset, shape, stride or storage is of nasty numbers, and pickles that hold themselves."""
    number = lambda: rng.choice((0, 1, 2, 3, *NASTY))  # noqa: E731
    numbers = lambda: tuple(number() for _ in range(rng.choice((0, 1, 2, 2, 5, 200))))  # noqa: E731
    size = numbers()
    stride = numbers() if rng.random() < 0.3 else tuple(rng.choice((0, 0, 1, number())) for _ in size)

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return value.args if isinstance(value, _Storage) else None

    storage = _Storage(("storage", torch.FloatStorage, rng.choice(("0", "1", 0)), "cpu", number()))
    content: dict = {"a": _Record(torch._utils._rebuild_tensor_v2, storage, number(), size, stride, False, {})}
    if rng.random() < 0.3:
        content["model"] = content
    if rng.random() < 0.3:
        content |= {k: content["a"] for k in (1, -1, 2**70, (1, 2), None, 1.5)}
    file = io.BytesIO()
    Pickler(file, 2).dump(content)
    return _packed({"a/data.pkl": file.getvalue(), "a/data/0": b"\0" * rng.choice((4, 64, 4096)), "a/version": b"3\n"})


class _Storage:
    def __init__(self, args: tuple) -> None:
        self.args = args


class _Overwrites(torch.nn.Module):
    """Its TorchScript writes over a file when it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.path, self.held = str(VICTIM), torch.zeros(4)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path, self.training = state
        self.held = torch.from_file(self.path, True, 4)
        self.held.fill_(1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _script(rng: random.Random) -> bytes:
    """TorchScript, whole, damaged, or with its ``constants.pkl`` under another name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(rng.choice((_Overwrites(), torch.nn.Linear(2, 2)))), file)
    if rng.random() < 0.3:
        return file.getvalue()
    if rng.random() < 0.5:
        with zipfile.ZipFile(io.BytesIO(file.getvalue())) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        hidden = {
            name.replace("constants", rng.choice(("Constants", "constant"))): data for name, data in entries.items()
        }
        return _packed({name: data for name, data in hidden.items() if "/code/" not in name or rng.random() < 0.5})
    return _damaged(bytearray(file.getvalue()), rng)


def _safetensors(rng: random.Random) -> bytes:
    tensors = {f"layer{k}": torch.ones(rng.randint(0, 3), 2) for k in range(rng.randint(0, 4))}
    data = bytearray(save(tensors))
    if rng.random() < 0.4:
        return _damaged(data, rng)
    entry = {
        "dtype": rng.choice(("F32", "F64", "BOOL", "F8_E4M3", "F4", "X", 5, None)),
        "shape": rng.choice(([4], [0, 2**62], [2**32, 2**32], [-1], [1.5], "x", [2**63], [], [1] * 100, None)),
        "data_offsets": rng.choice(([0, 16], [16, 0], [0, 2**63], [0, 0], [-1, 3], None, [0])),
    }
    text = str({rng.choice(("a", "a\\n", "x" * 5000, "")): rng.choice((entry, entry, 5, [], {}))}).replace("'", '"')
    text = rng.choice(
        (text, text.replace("None", "null"), text.replace("None", "null"), "[" * 50_000, '{"a":' * 50_000)
    )
    length = rng.choice((len(text), len(text), len(text), *NASTY)) % 2**64
    return struct.pack("<Q", length) + text.encode() + b"\0" * rng.choice((0, 16, 1000))


def _names(rng: random.Random) -> bytes:
    """Names of released networks with tensors of other shapes."""
    names = rng.choice(
        (
            ["netcnnlip.0.weight", "netcnnaud.0.weight", "netfclip.0.bias"],
            ["transformer.OFF_tok", "transformer.pos_emb_cfg.pos_emb", "transformer.off_head.bias", "head.bias",
             "transformer.blocks.0.attn.query.weight", "transformer.blocks.0.attn.key.weight",
             "transformer.blocks.0.attn.value.weight", "a_encoder.ast.embeddings.cls_token"],
            ["transformer.global_transformer.OFF_tok", "transformer.off_head.weight",
             "vfeat_extractor.base.0.conv_s.weight"],
            ["imgnet.conv1.weight", "audnet.conv1_a.weight", "img_proj1.weight"],
            ["video.patch_embed.proj.weight", "stem.0.weight", "classifier.bias", "classifier.weight"],
            ["blocks.0.attn.q.weight", "blocks.0.attn.k.weight", "blocks.0.attn.v.weight", "cls_token", "pos_embed"],
            ["module.conv1_w", "res2_0_branch2a_w", "conv1_middle_spatbn_relu_s", "pred_w"],
        )
    )  # fmt: skip
    shapes = ((), (0,), (3,), (2, 3), (0, 2**31), (1, 227, 768), (2, 3, 4, 5, 6), (1, 1))
    tensors = {
        name: torch.full((), rng.choice((0.0, float("nan")))).expand(rng.choice(shapes)) if rng.random() < 0.8 else
        torch.arange(rng.randint(0, 3)) for name in names
    }  # fmt: skip
    file = io.BytesIO()
    torch.save(rng.choice((tensors, {"model": tensors})), file)
    return file.getvalue()
