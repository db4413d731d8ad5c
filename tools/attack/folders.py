"""Model folders: every key with nasty values, and weights, objectives and calibrations that do not fit."""

import inspect
import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from avlearn.config import ModelConfig, Separator, Spectrogram
from avlearn.models import registry
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load, save
from avlearn.models.registry import create_model, list_models, model_spec
from avlearn.models.weights.encoder_folder import import_weights, load_encoder
from avlearn.objectives import OBJECTIVES, FeatureSpec, ShiftSchedule
from avlearn.tasks.synchronize.objective_folder import load_objective, save_objective

NASTY = (
    None, True, False, 0, -1, 1, 2, 3, 7, 63, 2**31, 10**12, 10**400, -0.0, 0.5, 1e-300, 1e308, float("nan"),
    float("inf"), "", "a", "x" * 10_000, "\x1b[2J", "http://127.0.0.1:9/a.pth", "/etc/passwd", "../../x", "weights",
    [], [0], [0, 0, 0], [2**40] * 5, [[[[]]]], {}, {"weights": "http://127.0.0.1:9/a.pth"}, {"in_chans": 10**9},
    {"a": {"b": {}}}, ["x"] * 20_000,
)  # fmt: skip
TEXTS = (
    "", "null", "5", "[]", "{", "[" * 100_000, '{"a":' * 50_000, "\ufeff{}", "\x00", " " * 2**21, '{"format": 1e999}',
)  # fmt: skip
CALIBRATION = {"format": "avlearn.confidence/1", "weights": {"fit": 1.0}, "bias": 0.0}


def cases(seed: int, count: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """So many folders, one after another in ``folder``; the calls open the one that was just written."""
    originals = {kind: folder / kind for kind in ("model", "encoder", "objective")}
    _models(originals["model"])
    _encoder(originals["encoder"])
    _objectives(originals["objective"])
    kinds = (_config, _config, _config, _options, _options, _calibration, _weights, _of_encoder, _of_objective, _text)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        rng = random.Random(f"{seed} {number}")
        target = folder / "case"
        shutil.rmtree(target, ignore_errors=True)
        yield f"{kind.__name__.strip('_')}-{number}", partial(kind(rng, originals, target), target)


def _models(folder: Path) -> None:
    """Models of several kinds, each a folder."""
    torch.manual_seed(0)
    configs = (
        ModelConfig(separator=Separator(channels=(4, 4, 4, 4, 4)), labels=("a", "b")),
        ModelConfig(segment=0.64, dim=8, spectrogram=Spectrogram(n_fft=1024, window=0.04), resample=True),
        ModelConfig(video="dsconv_small", fps=20.0, resample=True, video_mean=(0.5,) * 3, video_std=(0.2,) * 3),
        ModelConfig(separator=Separator(channels=(4, 4, 4, 4, 4), scale="linear", mask="complex", conditioning="none")),
    )
    for number, config in enumerate(configs):
        model = AudioVisual(config)
        save(model, folder / str(number), "a card")
        for name in ("sync.json", "localize.json", "separate.json", "separate_quality.json"):
            (folder / str(number) / name).write_text(json.dumps(CALIBRATION))


def _encoder(folder: Path) -> None:
    folder.mkdir()
    torch.save(create_model("x3d_xs", num_classes=3).state_dict(), folder / "x.pth")
    import_weights(folder / "x.pth", "x3d_xs", folder / "0")


def _objectives(folder: Path) -> None:
    spec, shift = FeatureSpec(0.08, 6, 5, 8, 10, 4, 12), {"first": 0.96, "last": 0.16, "until": 0.5}
    offset = {"dim": 16, "layers": 1, "heads": 2, "grid": None, "frozen": False, "sync_weight": 1.0}
    options = {"shift_bce": {"width": 8, "slow_until": 0.05}, "offset": offset}
    for name, values in options.items():
        (folder / name).mkdir(parents=True)
        kind = OBJECTIVES[name]
        save_objective(kind(kind.Options(shift=ShiftSchedule(**shift), **values), spec), folder / name)


def _changed(values: object, rng: random.Random) -> object:
    """JSON with one or a few of its places replaced, left out, or added to."""
    values = json.loads(json.dumps(values))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        inner = values
        while isinstance(inner, dict) and inner:
            key = rng.choice(list(inner))
            if isinstance(inner[key], dict) and inner[key] and rng.random() < 0.7:
                inner = inner[key]
                continue
            way = rng.random()
            if way < 0.8:
                inner[key] = rng.choice(NASTY)
            elif way < 0.9:
                del inner[key]
            else:
                inner[rng.choice(("weights", "num_classes", "x", key.upper(), "\x1b[2J"))] = rng.choice(NASTY)
            break
    return values


def _model(rng: random.Random, originals: dict[str, Path], target: Path) -> dict:
    shutil.copytree(originals["model"] / str(rng.randrange(4)), target)
    return json.loads((target / "config.json").read_text())


def _config(rng: random.Random, originals: dict[str, Path], target: Path) -> Callable[[Path], object]:
    values = _model(rng, originals, target)
    (target / "config.json").write_text(json.dumps(_changed(values, rng)))
    return _opened


def _options(rng: random.Random, originals: dict[str, Path], target: Path) -> Callable[[Path], object]:
    """Another encoder, with options of its own and others, of nasty values."""
    values = _model(rng, originals, target)
    kind = rng.choice(("video", "video", "audio"))
    name = rng.choice([name for name in list_models() if model_spec(name).kind == kind])
    known = list(_options_of(name)) or ["x"]
    small = (0, 1, 2, 3, 4, 16, 64, 4096, 0.5, "x", [1, 1, 1], [0, 1], [4096] * 3)
    values[kind] = name
    values[f"{kind}_options"] = {
        rng.choice((*known, *known, "weights", "num_classes", "self")): rng.choice((*small, *small, *NASTY))
        for _ in range(rng.randint(0, 3))
    }
    values["resample"] = True
    (target / "config.json").write_text(json.dumps(values))
    return _opened


@cache
def _options_of(name: str) -> tuple[str, ...]:
    return tuple(inspect.signature(registry.find_encoder(name)[1]).parameters)


def _calibration(rng: random.Random, originals: dict[str, Path], target: Path) -> Callable[[Path], object]:
    _model(rng, originals, target)
    name = rng.choice(("sync.json", "localize.json", "separate.json", "separate_quality.json"))
    text = rng.choice((rng.choice(TEXTS), json.dumps(_changed(CALIBRATION, rng)), json.dumps(rng.choice(NASTY[:-1]))))
    (target / name).write_text(text)
    return _opened


def _weights(rng: random.Random, originals: dict[str, Path], target: Path) -> Callable[[Path], object]:
    _model(rng, originals, target)
    _change_weights(target / "model.safetensors", rng)
    return _opened


def _change_weights(path: Path, rng: random.Random) -> None:
    tensors = load_file(path)
    name = rng.choice(list(tensors))
    way = rng.randrange(8)
    if way == 0:
        del tensors[name]
    elif way == 1:
        tensors["x" * rng.choice((1, 5000))] = torch.ones(1)
    elif way == 2:
        tensors[name] = torch.full_like(tensors[name].float(), rng.choice((float("nan"), float("inf"), 1e38)))
    elif way == 3:
        tensors[name] = torch.ones(rng.choice(((), (0,), (1, 1), (7,), (0, 2**40))))
    elif way == 4:
        tensors[name] = tensors[name].to(rng.choice((torch.float16, torch.int64, torch.complex64, torch.bool)))
    save_file(tensors, path)
    data = bytearray(path.read_bytes())
    if way == 5:
        del data[rng.randrange(len(data)) :]
    elif way == 6:
        data[rng.randrange(min(len(data), 4000))] ^= 1 << rng.randrange(8)
    elif way == 7:
        data[:8] = rng.choice((0, 1, 2**63, 2**64 - 1, len(data))).to_bytes(8, "little")
    path.write_bytes(data)


def _of_encoder(rng: random.Random, originals: dict[str, Path], target: Path) -> Callable[[Path], object]:
    shutil.copytree(originals["encoder"] / "0", target)
    path = target / "config.json"
    if rng.random() < 0.7:
        path.write_text(json.dumps(_changed(json.loads(path.read_text()), rng)))
    else:
        _change_weights(target / "model.safetensors", rng)
    return rng.choice(
        (load_encoder, partial(create_model, "x3d_xs", num_classes=3, weights=target).func and _as_weights)
    )


def _as_weights(folder: Path) -> object:
    return create_model("x3d_xs", weights=folder, num_classes=3)


def _of_objective(rng: random.Random, originals: dict[str, Path], target: Path) -> Callable[[Path], object]:
    shutil.copytree(originals["objective"] / rng.choice(("shift_bce", "offset")), target)
    path = target / "objective.json"
    if rng.random() < 0.7:
        path.write_text(json.dumps(_changed(json.loads(path.read_text()), rng)))
    else:
        _change_weights(target / "objective.safetensors", rng)
    return load_objective


def _text(rng: random.Random, originals: dict[str, Path], target: Path) -> Callable[[Path], object]:
    _model(rng, originals, target)
    (target / "config.json").write_text(rng.choice(TEXTS))
    return _opened


def _opened(folder: Path) -> object:
    return load(folder).config.model_dump()
