"""Prepared files are read by the table of their packets: used where it is whole, never trusted where it is not."""

import hashlib
import json
import multiprocessing
import random
import resource
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from avlearn.data.journal import Journal
from avlearn.data.manifest import Row, read_manifest, write_manifest
from avlearn.data.prepare import prepare
from avlearn.data.prepared_flow import read_flow
from avlearn.data.transcode import FlowSettings, Settings, transcode
from avlearn.errors import AvlearnError
from avlearn.media import Clip, ClipReader, MediaFile, Window, kept_decoders, packet_table, reader, write_video
from avlearn.media.open_file import OpenFile
from avlearn.media.packet_table import find_table
from avlearn.media.source import Selected

sys.path += [str(Path(__file__).parents[1] / "media"), str(Path(__file__).parents[2] / "tools" / "bench")]
import check_prepared
from golden import golden

KINDS = ("fps25", "fps29.97", "variable", "late_audio", "open_gop_ts", "aac_surround", "rotated90")
READER = ClipReader(fps=10, size=32, sample_rate=16_000, mono=True)
WINDOWS = [Window(0.7, 0.6, 0.1, 0.1, "square"), Window(2.2, 0.5)]


def noisy(path: Path, seconds: float = 3.0, seed: int = 0) -> Path:
    """A video of moving noise whose audio is noise."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 255, (12, 16, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    frames = np.stack([np.roll(texture, 3 * k, 1) for k in range(round(seconds * 25))])
    audio = rng.uniform(-0.3, 0.3, (1, round(seconds * 16_000))).astype(np.float32)
    write_video(path, frames, 25, audio=audio, sample_rate=16_000, preset="ultrafast")
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A prepared file."""
    folder = tmp_path_factory.mktemp("clip")
    transcode(noisy(folder / "source.mp4"), folder / "clip.mp4", Settings(sample_rate=16_000))
    return folder / "clip.mp4"


@pytest.fixture
def only_tables(monkeypatch):
    """A reader that opens no container."""

    def refused(*_, **__):
        raise AssertionError("it was not read by its table")

    monkeypatch.setattr(reader, "open_media", refused)


def by_table(path, windows=WINDOWS) -> list[Clip] | None:
    return reader.read_by_table(path, windows, READER.wanted, True, True)


def outcome(read) -> object:
    """What a reading gives, or says."""
    try:
        return read()
    except AvlearnError as error:
        return str(error)


def same(one: object, other: object) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return not any(check_prepared.differs(*pair) for pair in zip(one, other, strict=True))


def reads_as_any_file(path: Path, windows=WINDOWS) -> bool:
    """Whether a file is read, or refused, as if there were no tables."""
    return same(
        outcome(lambda: READER.read(path, windows)),
        outcome(lambda: check_prepared.ordinary(READER, path, windows)),
    )


# ---- it is used


def test_it_is_used_wherever_the_file_lies(clip, tmp_path, only_tables):
    wanted = READER.read(clip, WINDOWS)
    assert wanted[0].video.shape == (6, 32, 32, 3) and wanted[0].video.any() and wanted[0].audio.any()
    moved = tmp_path / "elsewhere.bin"
    moved.write_bytes(clip.read_bytes())
    (part,) = check_prepared.packed([clip], tmp_path / "one.tar")
    for source in (str(clip), moved, part, Selected(clip)):
        assert same(READER.read(source, WINDOWS), wanted)
    for content in (clip, part, clip.read_bytes()):
        with MediaFile(content) as file:
            assert same(READER.read(file, WINDOWS), wanted) and same(READER.read(file, WINDOWS), wanted)


def test_clips_of_a_folder_and_of_shards_have_it(tmp_path, monkeypatch):
    rows = [Row(noisy(tmp_path / f"{k}.mp4", 1.6, k), duration=1.6) for k in range(3)]
    write_manifest(rows, tmp_path / "m.parquet")
    flow = FlowSettings("lucas_kanade", 12.5, 32)
    prepare(tmp_path / "m.parquet", tmp_path / "loose", workers=1)
    prepare(tmp_path / "m.parquet", tmp_path / "packed", workers=1, shards=2, flow=flow)
    loose, packed = read_manifest(tmp_path / "loose"), read_manifest(tmp_path / "packed")
    monkeypatch.setattr(reader, "open_media", None)
    for one, other in zip(loose, packed, strict=True):
        windows = [Window(0.3, 1.0)]
        assert same(READER.read(one.source, windows), READER.read(other.source, windows))
        assert other.offset is not None and read_flow(other, flow, 0, 4).any()


@pytest.mark.parametrize("name", KINDS)
def test_it_gives_what_the_container_gives(name, tmp_path):
    path = tmp_path / "prepared.mp4"
    row = transcode(golden(name).path, path, Settings(sample_rate=16_000))[1]
    found = check_prepared.check([(path, row["duration"])], 60, seed=len(name))
    assert set(found) == {"same"}


def test_a_video_without_audio_has_it(tmp_path, only_tables, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (40, 32, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "silent.mp4", frames, 25)
    transcode(tmp_path / "silent.mp4", tmp_path / "out.mp4", Settings())
    (got,) = ClipReader(audio=False).read(tmp_path / "out.mp4", [Window(0.2, 1.0)])
    assert got.video.shape == (25, 32, 48, 3) and got.fps == 25
    monkeypatch.undo()
    assert by_table(tmp_path / "out.mp4") is None and reads_as_any_file(tmp_path / "out.mp4")


def test_samples_do_not_depend_on_what_was_read_before(clip):
    """AAC with noise substitution would: decoders that are kept go on with their random numbers."""
    first = by_table(clip, WINDOWS[:1])
    for at in (0.0, 0.4, 1.9):
        by_table(clip, [Window(at, 0.8)])
    assert same(by_table(clip, WINDOWS[:1]), first)


def test_what_a_reader_cannot_take_from_it_is_read_from_the_container(clip):
    assert by_table(Selected(clip, channel="left")) is None and by_table(Selected(clip, track=1)) is None
    assert by_table(clip, [Window(50.0, 1.0)]) is None and reads_as_any_file(clip, [Window(50.0, 1.0)])
    assert by_table(clip.with_name("missing.mp4")) is None and reads_as_any_file(clip.with_name("missing.mp4"))
    assert by_table(clip.parent) is None and by_table("s3://bucket/clip.mp4") is None


# ---- decoders


def test_few_decoders_are_kept_and_used_again(clip, tmp_path):
    kept = kept_decoders._idle.decoders
    by_table(clip)
    before = dict(kept)
    assert by_table(clip) is not None and dict(kept) == before and all(kept[k] is before[k] for k in kept)
    for k in range(2 * kept_decoders._MOST):
        path = noisy(tmp_path / f"{k}.mp4", 1.0, k)
        transcode(path, tmp_path / f"out{k}.mp4", Settings(short_side=32 + 2 * k))
        assert by_table(tmp_path / f"out{k}.mp4", [Window(0.1, 0.5)]) is not None
    assert len(kept) == kept_decoders._MOST


def test_threads_and_processes_read_what_one_reads(clip):
    windows = [[Window(k / 10, 0.5)] for k in range(20)]
    wanted = [by_table(clip, few) for few in windows]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda few: by_table(clip, few), windows))
    assert all(map(same, found, wanted))
    for method in set(multiprocessing.get_all_start_methods()) & {"fork", "forkserver"}:
        with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
            assert same(pool.submit(by_table, clip, windows[3]).result(60), wanted[3])


# ---- it is not of the file


def test_a_changed_byte_is_never_taken_for_the_file(clip, tmp_path):
    data, path = clip.read_bytes(), tmp_path / "changed.mp4"
    rng, trusted = random.Random(0), 0
    places = [*range(0, 40), *rng.sample(range(len(data)), 60), *rng.sample(range(len(data) - 400, len(data)), 20)]
    for at in places:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        clips = by_table(path)
        trusted += clips is not None
        assert reads_as_any_file(path), at
    assert 0 < trusted < 60  # bytes of packets that the windows do not need


def test_every_byte_that_is_decoded_is_checked(clip, tmp_path):
    data = clip.read_bytes()
    track = find_table(OpenFile(clip)).video
    for k in np.flatnonzero(track.key):
        at = int(track.at[k] + track.size[k] // 2)
        path = tmp_path / "changed.mp4"
        path.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        assert by_table(path, [Window(float(track.pts[k] * track.tick), 0.2)]) is None


def test_another_file_in_its_place(clip, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes())
    before = READER.read(path, WINDOWS)
    transcode(noisy(tmp_path / "other.mp4", seed=7), tmp_path / "new.mp4", Settings())
    (tmp_path / "new.mp4").replace(path)
    assert by_table(path) is not None and reads_as_any_file(path) and not same(READER.read(path, WINDOWS), before)
    # The table of one file behind the data of another.
    table = clip.read_bytes()[find_table_begin(clip) :]
    path.write_bytes(path.read_bytes()[: find_table_begin(path)] + table)
    assert by_table(path) is None and reads_as_any_file(path)


def test_a_file_that_is_cut_short_or_goes_on(clip, tmp_path):
    data, path = clip.read_bytes(), tmp_path / "cut.mp4"
    begin = find_table_begin(clip)
    for length in (0, 7, 100, begin // 2, begin - 1, begin, begin + 4, begin + 60, len(data) - 1):
        path.write_bytes(data[:length])
        assert by_table(path) is None and reads_as_any_file(path), length
    path.write_bytes(data + b"\0" * 9)
    assert by_table(path) is None and reads_as_any_file(path)


def without_tables(out: Path) -> None:
    """Make a prepared folder what versions without tables left."""
    journal = Journal(out / ".prepare.journal")
    for record in filter(lambda record: "row" in record, journal.records):
        path = out / "clips" / record["name"]
        path.write_bytes(path.read_bytes()[: find_table_begin(path)])
        record["row"] |= {"bytes": path.stat().st_size, "hash": hashlib.sha256(path.read_bytes()).hexdigest()[:32]}
    journal.rewrite(journal.records)
    journal.close()


@pytest.mark.parametrize("shards", [0, 1])
def test_a_folder_of_an_earlier_version_stays_as_it_is(tmp_path, shards):
    rows = [Row(noisy(tmp_path / f"{k}.mp4", 1.6, k), duration=1.6) for k in range(3)]
    write_manifest(rows[:2], tmp_path / "m.parquet")
    prepare(tmp_path / "m.parquet", tmp_path / "out", workers=1)
    without_tables(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "clips").iterdir()}
    write_manifest(rows, tmp_path / "m.parquet")
    assert prepare(tmp_path / "m.parquet", tmp_path / "out", workers=1, shards=shards).transcoded == 1
    for k, row in enumerate(read_manifest(tmp_path / "out")):
        data, window = row.path.read_bytes(), [Window(0.2, 1.0)]
        begin = row.offset or 0
        assert before.get(f"{k}.mp4", data[begin : begin + row.bytes]) == data[begin : begin + row.bytes]
        assert (by_table(row.source, window) is None) == (k < 2)
        assert reads_as_any_file(row.source, window)


def test_a_file_that_is_laid_out_otherwise_gets_none(clip, tmp_path):
    for name in ("fps25", "open_gop_ts", "webm_vp9"):
        path = tmp_path / golden(name).path.name
        path.write_bytes(golden(name).path.read_bytes())
        assert not packet_table.append_table(path) and path.read_bytes() == golden(name).path.read_bytes()
    path = tmp_path / "twice.mp4"
    path.write_bytes(clip.read_bytes())
    assert not packet_table.append_table(path) and path.read_bytes() == clip.read_bytes()


# ---- hostile tables


def find_table_begin(path: Path) -> int:
    file = OpenFile(path)
    try:
        return packet_table._media(file, file.read(0, 1 << 14))[1]
    finally:
        file.close()


def forged(clip: Path, path: Path, facts: dict | bytes, columns: dict[str, dict[str, np.ndarray]]) -> Path:
    """A file whose table says something else, with a digest that holds."""
    file, begin = OpenFile(clip), find_table_begin(clip)
    media = packet_table._media(file, file.read(0, 1 << 14))
    said = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    stored = [
        columns[kind][name].astype(form).tobytes()
        for kind in ("video", "audio")
        for name, form in packet_table._COLUMNS
    ]
    content = b"".join([len(said).to_bytes(4), said, *stored])
    box = packet_table._BOX + packet_table._digest(file.read(0, media[0]), content) + content
    path.write_bytes(clip.read_bytes()[:begin] + (len(box) + 4).to_bytes(4) + box)
    file.close()
    return path


@pytest.fixture
def said(clip) -> tuple[dict, dict[str, dict[str, np.ndarray]]]:
    """What the table of the clip says: facts, and columns by track."""
    data, begin = clip.read_bytes(), find_table_begin(clip)
    content = data[begin + 4 + len(packet_table._BOX) + packet_table._DIGEST :]
    length = int.from_bytes(content[:4])
    table = find_table(OpenFile(clip))
    tracks = {"video": table.video, "audio": table.audio}
    names = [name for name, _ in packet_table._COLUMNS]
    columns = {kind: {name: getattr(track, name).copy() for name in names} for kind, track in tracks.items()}
    return json.loads(content[4 : 4 + length]), columns


def test_what_a_table_says_can_be_forged_as_it_was(clip, tmp_path, said):
    assert same(by_table(forged(clip, tmp_path / "same.mp4", *said)), by_table(clip))


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "rawvideo"}, {"codec": None}, {"extradata": "zz"}, {"extradata": "00" * 40}, {"tick": 0.0},
        {"tick": float("nan")}, {"tick": 1e-300}, {"start": float("inf")}, {"end": "x"}, {"rate": 1e9}, {"rate": -1},
        {"packets": 10**9}, {"packets": 0}, {"packets": -1}, {"packets": 10**400}, {"sample_rate": 10**12},
        {"at": None},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["video", "audio"])
def test_facts_that_cannot_be_true(clip, tmp_path, said, kind, change):
    facts, columns = said
    facts[kind] |= change
    path = forged(clip, tmp_path / "forged.mp4", facts, columns)
    assert change == {"at": None} or by_table(path) is None
    assert reads_as_any_file(path)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff", b'{"video": 1}', b'{"video": {}}'])
def test_facts_that_are_none(clip, tmp_path, said, text):
    path = forged(clip, tmp_path / "forged.mp4", text, said[1])
    assert by_table(path) is None and reads_as_any_file(path)


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize(
    "name, values",
    [
        ("at", 0), ("at", 2**32 - 1), ("at", 60_000), ("size", 0), ("size", 2**32 - 1), ("size", 1), ("pts", 2**31 - 1),
        ("pts", -(2**31)), ("pts", 0), ("crc", 0), ("duration", 0), ("duration", 2**32 - 1), ("key", 0), ("key", 255),
        ("unused", 255), ("unused", 0),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_true(clip, tmp_path, said, kind, name, values):
    """Nothing is allocated by what they say, and nothing breaks; a wrong plan's packets are wrong by their checksum, or
    give what the decoder makes of them."""
    facts, columns = said
    columns[kind][name] = np.full_like(columns[kind][name], values)
    path = forged(clip, tmp_path / "forged.mp4", facts, columns)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    got = outcome(lambda: READER.read(path, WINDOWS))
    assert isinstance(got, str) or len(got) == len(WINDOWS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 17  # KiB
    if name in ("at", "size", "crc") and (kind, values) != ("audio", 0):
        assert by_table(path) is None


def test_a_table_of_random_bytes(clip, tmp_path, said):
    facts, columns = said
    rng = np.random.default_rng(0)
    for seed in range(60):
        forgery = {kind: dict(column) for kind, column in columns.items()}
        kind, name = ("video", "audio")[seed % 2], packet_table._COLUMNS[seed % 7][0]
        old = forgery[kind][name]
        form = old.dtype
        forgery[kind][name] = np.where(
            rng.random(len(old)) < 0.3, np.frombuffer(rng.bytes(old.nbytes), form, len(old)), old
        )
        got = outcome(lambda f=forgery: READER.read(forged(clip, tmp_path / "forged.mp4", facts, f), WINDOWS))
        assert isinstance(got, str) or len(got) == len(WINDOWS)
