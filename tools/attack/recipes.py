"""Recipes and overrides as a stranger might write them: changed, cut, nested, circular, or made to fill the memory."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import avlearn.objectives  # noqa: F401 (before a case's limit of memory: reading a recipe imports it)
from avlearn.recipe import list_recipes, share_folder
from avlearn.tasks import load_recipe

_VALUES = (
    "null", "~", "true", "-1", "0", "1e400", ".inf", "-.inf", ".nan", "9" * 5000, "1e-320", "''", '"\\0"',
    '"\\ud800"', "[]", "{}", "[[[]]]", "{a: {b: {c: 1}}}", "!!python/object/apply:os.system ['true']",
    "!!binary aGk=", "&a [*a]", "*a", "${name}", "${oc.env:HOME}", "${oc.decode:1}", "../../../etc", "/dev/zero",
    "http://127.0.0.1:1/x", "x" * 9000, "\u202e\x85\u2028", "2020-01-01", "0x10", "1:30", "'", '"', "[", "{", "- a",
    "? b", "%TAG", "@x", "`x`", "|", ">", "#", "\t",
)  # fmt: skip
_KEYS = (
    "name", "task", "seed", "data", "data.train", "data.root", "data.exclude", "data.workers", "clip.fps",
    "clip.size", "clip.seconds", "model", "model.video", "model.video_options", "model.audio_options",
    "model.video_mean", "model.dim", "model.spectrogram.n_fft", "separator", "separator.channels", "objective",
    "objective.name", "objective.shift.first", "objective.temperature", "augment.gain", "optimizer.lr",
    "trainer.max_steps", "trainer.batch_size", "trainer.accumulate", "trainer.devices", "defaults",
    "hydra.searchpath", "", ".", "a..b", "+name", "++name", "~name", "modle.video", "x" * 9000, ".".join("a" * 500),
    "\u00e4", "1", "a b", "_self_",
)  # fmt: skip
_HOSTILE = (
    "defaults: 5", "defaults: [5]", "defaults: {a: b}", "defaults: [{model: {a: b}}]", "defaults: [{model: ../../x}]",
    "defaults: [r]", "defaults: [{model: r}]", "defaults: [sync_wrld]", "defaults: [/etc/passwd]",
    "defaults: [_self_, _self_, _self_]", f"defaults: [{'sync_world, ' * 5000}]",
    f"defaults: [{'{model: dsconv}, ' * 900}]", "[" * 30000, "{" * 30000, "{a: " * 9000, "- " * 20000, "? " * 20000,
    "!" * 30000, "a: b: c", "a: 1\na: 2", "a:\n\tb: 1", "? [a]\n: b", "1: 2", "null: 1", "--- a\n--- b\n",
    "%YAML 9.9\n---\na: 1", "a: |\n" + " x\n" * 9000, "a: '" + "''" * 20000 + "'", 'a: "' + "\\x41" * 9000 + '"',
    "'" + "x\n" * 9000, "a: &x " + "b" * 60000, "&" * 30000, "*" * 30000, "#" * 60000, "\n" * 60000,
    " " * 60000 + "a: 1", "a: " + "[a," * 9000,
)  # fmt: skip


def cases(seed: int, count: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Named cases: a recipe file or overrides each, and the call that reads them."""
    texts = [path.read_bytes() for path in sorted((share_folder() / "recipes").glob("*.yaml"))]
    makers = (_changed, _cut, _hostile, _bomb, _overrides, _values, _circle)
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        maker = makers[number % len(makers)]
        place = folder / f"recipe{number}"
        place.mkdir()
        yield f"{maker.__name__[1:]}-{number}", maker(rng, place, texts)


def _file(place: Path, data: bytes, name: str = "r.yaml") -> Callable[[], object]:
    (place / name).write_bytes(data)
    return partial(load_recipe, place / name)


def _changed(rng: random.Random, place: Path, texts: list[bytes]) -> Callable[[], object]:
    """Bytes changed, put in, or doubled."""
    data = bytearray(rng.choice(texts))
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(len(data))
        what = rng.randrange(4)
        if what == 0:
            data[at] = rng.randrange(256)
        elif what == 1:
            data[at:at] = rng.choice(
                (b"\t", b"\x00", b"\xff", b": ", b"- ", b"\n", b"{", b"[", b"*a", b"&a ", b"${x}", b"\xc2\x85")
            )
        elif what == 2:
            end = at + rng.randint(1, 60)
            data[at:at] = data[at:end] * rng.randint(1, 40)
        else:
            del data[at : at + rng.randint(1, 40)]
        data = data or bytearray(b"a")
    return _file(place, bytes(data))


def _cut(rng: random.Random, place: Path, texts: list[bytes]) -> Callable[[], object]:
    """WindowCuts short, in another encoding, or with line ends of another system."""
    data = rng.choice(texts)
    data = data[: rng.randrange(len(data) + 1)]
    turns = (
        lambda d: d, lambda d: d.decode().encode("utf-16"), lambda d: d.decode().encode("utf-32"),
        lambda d: b"\xef\xbb\xbf" + d, lambda d: d.replace(b"\n", b"\r\n"), lambda d: d.replace(b"\n", b"\r"),
        lambda d: d.replace(b"  ", b"\t"), lambda d: d + b"\xe9", lambda d: d * rng.randint(2, 400),
    )  # fmt: skip
    return _file(place, rng.choice(turns)(data))


def _hostile(rng: random.Random, place: Path, texts: list[bytes]) -> Callable[[], object]:
    """A text made to break a reader, alone or behind a good recipe."""
    text = rng.choice(_HOSTILE).encode()
    return _file(place, rng.choice((b"", b"", rng.choice(texts))) + text)


def _bomb(rng: random.Random, place: Path, texts: list[bytes]) -> Callable[[], object]:
    """Aliases of aliases, merges of merges, references to references."""
    levels, width = rng.randint(3, 30), rng.randint(2, 10)
    kind = rng.randrange(3)
    lines = ["a0: &a0 {x: 1}" if kind == 1 else "a0: &a0 [x, x]"]
    for level in range(1, levels):
        below = f"*a{level - 1}"
        lines.append(
            f"a{level}: &a{level} [{', '.join([below] * width)}]" if kind == 0 else
            f"a{level}: &a{level} {{<<: [{', '.join([below] * width)}]}}" if kind == 1 else
            f"a{level}: '{('${a' + str(level - 1) + '}') * width}'"
        )  # fmt: skip
    return _file(place, "\n".join(lines).encode())


def _overrides(rng: random.Random, place: Path, texts: list[bytes]) -> Callable[[], object]:
    """Words of the command line."""
    words = [
        f"{rng.choice(_KEYS)}{rng.choice(('=', '=', '=', '', '=='))}{rng.choice(_VALUES)}"
        for _ in range(rng.randint(1, 4))
    ]
    return partial(load_recipe, rng.choice(list_recipes()), words)


def _values(rng: random.Random, place: Path, texts: list[bytes]) -> Callable[[], object]:
    """A good recipe whose values are others."""
    lines = ["defaults: [sync_world]", "name: x"]
    for _ in range(rng.randint(1, 3)):
        *sections, key = rng.choice(_KEYS).split(".")[:20]
        for depth, section in enumerate(sections):
            lines.append("  " * depth + f"{section}:")
        lines.append("  " * len(sections) + f"{key}: {rng.choice(_VALUES)}")
    return _file(place, "\n".join(lines).encode("utf-8", "surrogatepass"))


def _circle(rng: random.Random, place: Path, texts: list[bytes]) -> Callable[[], object]:
    """Recipes that build on each other, in circles or without end."""
    count = rng.randint(1, 30)
    for number in range(count):
        others = [f"r{rng.randrange(count)}" for _ in range(rng.randint(1, 6))]
        (place / f"r{number}.yaml").write_text(f"defaults: [{', '.join(others)}]\nname: x\n")
    return partial(load_recipe, place / "r0.yaml")
