"""Manifests and lists as a stranger might write them: nasty cells, encodings, damage, tables that fill the memory."""

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow
import pyarrow.parquet

from avlearn.data.lists import listed_sources
from avlearn.data.manifest import Event, Row, read_manifest, write_manifest

_CELLS = (
    "", "a.mp4", "-1", "0", "1e400", "inf", "nan", "x", "\0", "a\0b", "\x1b[2J", "a\nb", "a\u2028b", "\u202e",
    "\ufeff", "../../etc", "/dev/zero", "http://127.0.0.1:1/x", "x" * 9000, "9" * 5000, "1_0", "4,5", " 4 ", "0x10",
    "true", "None", "[]", "{}", "[1]", "[" * 9000, '["a"', '["a", 5, null]', '["\\ud800"]', '["\\u0000"]',
    "[" + "9" * 5000 + "]", "[1e999]", "[NaN]", '[{"label": "x"}]',
    '[{"label": "x", "start": 0, "end": 1, "box": [0, 0, 1e999, 1]}]', '[{"label": "x", "start": "0", "end": []}]',
    '[{"label": "x", "start": 2, "end": 1}]', '[{"label": {}, "start": 0, "end": 1, "box": {}}]', "=cmd()", "'", '"',
)  # fmt: skip
_COLUMNS = (
    "path", "start", "duration", "video_codec", "fps", "width", "height", "audio_codec", "sample_rate", "channels",
    "labels", "split", "flags", "reason", "hash", "bytes", "offset", "events", "truth", "other", "", "path ", "PATH",
)  # fmt: skip
_ODD = (
    b"a", 7, -7, 2**63 - 1, 1.5, float("nan"), float("inf"), 1e300, True, "a", "", "x" * 5000, ["a"], [["a"]],
    {"a": 1}, None, "[]", "[" * 9000, '["a"]', "a\0b",
)  # fmt: skip


def cases(seed: int, count: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Named cases: a table or a list each, and the call that reads it."""
    good = folder / "good"
    good.mkdir()
    whole = {name: _whole(good / name) for name in ("m.csv", "m.parquet")}
    makers = (_cells, _damaged_text, _parquet, _damaged_parquet, _packed, _list)
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        maker = makers[number % len(makers)]
        place = folder / f"manifest{number}"
        place.mkdir()
        yield f"{maker.__name__[1:]}-{number}", maker(rng, place, whole)


def _whole(path: Path) -> bytes:
    """A good manifest."""
    events = (Event("dog", 0.5, 0.7, (0.1, 0.2, 0.3, 1.0)),)
    rows = [
        Row(path.parent / f"{n}.mp4", duration=4.0, labels=("dog",), hash=f"{n:032}", events=events) for n in range(40)
    ]
    write_manifest(rows, path)
    return path.read_bytes()


def _read(path: Path, data: bytes) -> Callable[[], object]:
    path.write_bytes(data)
    return partial(read_manifest, path)


def _cells(rng: random.Random, place: Path, whole: dict[str, bytes]) -> Callable[[], object]:
    """A table whose cells are any."""
    names = ["path", "duration", *rng.choices(_COLUMNS, k=rng.randint(0, 5))]
    rows = [[rng.choice(_CELLS) if rng.random() < 0.3 else "4" for _ in names] for _ in range(rng.randint(0, 6))]
    rows = [row[: rng.choice((None, None, None, 1))] + ["x"] * rng.choice((0, 0, 0, 3)) for row in rows]
    table = io.StringIO()
    writer = csv.writer(table, delimiter=rng.choice(",;\t"), lineterminator=rng.choice(("\n", "\r\n", "\r")))
    writer.writerows([names, *rows])
    encoding = rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"))
    return _read(place / rng.choice(("m.csv", "M.CSV", "m.tsv")), table.getvalue().encode(encoding, "replace"))


def _damage(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, cut, doubled or moved."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 60))):
        at = rng.randrange(len(changed) or 1)
        what = rng.randrange(5)
        if what == 0 and changed:
            changed[at] = rng.randrange(256)
        elif what == 1:
            changed[at:at] = rng.choice((b"\0", b"\xff" * 8, b'"', b",", b"\n", b"\x7f\xff\xff\xff", b"\x80" * 9))
        elif what == 2:
            del changed[at : at + rng.randint(1, 200)]
        elif what == 3:
            changed[at:at] = changed[at : at + rng.randint(1, 200)] * rng.randint(1, 20)
        elif changed:
            changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.1 else changed)


def _damaged_text(rng: random.Random, place: Path, whole: dict[str, bytes]) -> Callable[[], object]:
    return _read(place / "m.csv", _damage(rng, whole["m.csv"]))


def _damaged_parquet(rng: random.Random, place: Path, whole: dict[str, bytes]) -> Callable[[], object]:
    """Half of them in the footer, which says how much there is of what."""
    data = whole["m.parquet"]
    if rng.random() < 0.5:
        return _read(place / "m.parquet", _damage(rng, data))
    length = int.from_bytes(data[-8:-4], "little")
    footer = _damage(rng, data[-8 - length : -8])
    return _read(place / "m.parquet", data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def _parquet(rng: random.Random, place: Path, whole: dict[str, bytes]) -> Callable[[], object]:
    """Columns of any type."""
    count = rng.randint(0, 4)
    columns: dict[str, object] = {"path": ["a.mp4"] * count, "duration": [1.0] * count}
    for name in rng.choices(_COLUMNS, k=rng.randint(1, 4)):
        value = rng.choice(_ODD)
        columns[name] = pyarrow.array([value] * count) if rng.random() < 0.8 else pyarrow.nulls(count)
    pyarrow.parquet.write_table(pyarrow.table(columns), place / "m.parquet")
    return partial(read_manifest, place / "m.parquet")


def _packed(rng: random.Random, place: Path, whole: dict[str, bytes]) -> Callable[[], object]:
    """Many rows or long texts in few bytes."""
    count = rng.choice((1000, 100_000, 2_000_000))
    text = rng.choice(("a" * 10, "a" * 5000, json.dumps(["a" * 60000]), "[" + " " * 10**6 + "]"))
    index = (
        pyarrow.array(bytes(count), pyarrow.uint8())
        if count < 300
        else pyarrow.repeat(pyarrow.scalar(0, pyarrow.int32()), count)
    )
    packed = pyarrow.DictionaryArray.from_arrays(index, pyarrow.array([text]))
    names = {"path": pyarrow.DictionaryArray.from_arrays(index, pyarrow.array(["a.mp4"]))}
    if rng.random() < 0.3:
        names["path"] = pyarrow.array([f"{number}.mp4" for number in range(count)])
    columns = names | {"duration": pyarrow.repeat(1.0, count), rng.choice(("labels", "hash", "path", "events")): packed}
    codec = rng.choice(("zstd", "gzip", "snappy", "brotli"))
    pyarrow.parquet.write_table(pyarrow.table(columns), place / "m.parquet", compression=codec)
    return partial(read_manifest, place / "m.parquet")


def _list(rng: random.Random, place: Path, whole: dict[str, bytes]) -> Callable[[], object]:
    """Files by name, a line each."""
    lines = [rng.choice(_CELLS) for _ in range(rng.randint(0, 9))]
    data = (
        rng.choice(("\n", "\r\n", "\r"))
        .join(lines)
        .encode(rng.choice(("utf-8", "utf-8-sig", "utf-16", "cp1252")), "replace")
    )
    (place / "list.txt").write_bytes(_damage(rng, data) if rng.random() < 0.3 and data else data)
    return partial(listed_sources, place / "list.txt")
