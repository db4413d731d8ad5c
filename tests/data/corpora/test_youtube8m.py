"""The records are made by Google's own libraries: protobuf, and the writer that comes with TensorBoard."""

import pytest

from avlearn.data.corpora import read_corpus
from avlearn.data.manifest import Event
from avlearn.errors import DataError

from .layout import brief, lay

VOCABULARY = (
    "Index,TrainVideoCount,KnowledgeGraphId,Name,WikiUrl,Vertical1,Vertical2,Vertical3,WikiDescription\n"
    '0,788288,/m/03bt1gh,Game,https://en.wikipedia.org/wiki/Game,Games,,,"A game is ""play"", structured\nplay."\n'
    "200,539945,/m/01mw1,Car,,Vehicles,,,\n3,415890,/m/04rlf,,,Arts,,,\n"
)


@pytest.fixture(scope="module")
def sequence_example():
    """A class of messages with the fields of ``tensorflow.SequenceExample``."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    kinds = {"bytes": 12, "float": 2, "int64": 3, "string": 9}

    def message(name: str, *fields: tuple[str, str, bool]) -> None:
        made = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, 1):
            added = made.field.add(name=field, number=number, label=3 if repeated else 1, type=kinds.get(kind, 11))
            if kind not in kinds:
                added.type_name = f".t.{kind}"

    for name, kind in (("BytesList", "bytes"), ("FloatList", "float"), ("Int64List", "int64")):
        message(name, ("value", kind, True))
    message("Feature", *((f"{k.lower()}_list", f"{k}List", False) for k in ("Bytes", "Float", "Int64")))
    message("Pair", ("key", "string", False), ("value", "Feature", False))
    message("Features", ("feature", "Pair", True))
    message("SequenceExample", ("context", "Features", False), ("feature_lists", "Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.SequenceExample"))


@pytest.fixture
def record(sequence_example):
    def make(**features: list) -> bytes:
        example = sequence_example()
        for name, values in features.items():
            pair = example.context.feature.add(key=name)
            kind = {bytes: "bytes", float: "float", int: "int64"}[type(values[0])]
            getattr(pair.value, f"{kind}_list").value.extend(values)
        example.feature_lists.feature.add(key="rgb").value.bytes_list.value.extend([bytes(range(256))] * 3)
        return example.SerializeToString()

    return make


def write(path, records: list[bytes]) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    with path.open("wb") as file:
        writer = RecordWriter(file)
        for content in records:
            writer.write(content)


def test_segments(tmp_path, record):
    lay(tmp_path, {"vocabulary.csv": VOCABULARY, "videos/nXSc.mkv": ""})
    rated = {"segment_start_times": [40, 300, 5], "segment_end_times": [45, 305, 10], "segment_labels": [200, 200, 0]}
    first = record(id=[b"nXSc"], labels=[0, 200, 3], **rated, segment_scores=[1.0, 0.0, 1.0])
    write(tmp_path / "validate0000.tfrecord", [first, record(id=[b"ab12"], labels=[3])])
    write(tmp_path / "train0001.tfrecord", [record(id=[b"zz99"], labels=[200])])
    write(tmp_path / "test0000.tfrecord", [record(id=[b"tt00"])])
    entries = read_corpus("youtube8m", tmp_path)
    assert brief(entries, tmp_path) == [
        ("zz99.mp4", "Car", "train"),
        ("videos/nXSc.mkv", "Game+Car+/m/04rlf", "val"),
        ("ab12.mp4", "/m/04rlf", "val"),
        ("tt00.mp4", "", "test"),
    ]
    assert entries[1].events == (Event("Car", 40.0, 45.0), Event("Game", 5.0, 10.0))
    assert not any(entry.events for entry in (entries[0], *entries[2:]))


def test_shards_come_in_order(tmp_path, record):
    lay(tmp_path, {"vocabulary.csv": VOCABULARY})
    for number in (3, 0, 2, 1, 4):
        write(tmp_path / f"train{number:04d}.tfrecord", [record(id=[b"id%d" % number])])
    assert [entry.path.stem for entry in read_corpus("youtube8m", tmp_path)] == ["id0", "id1", "id2", "id3", "id4"]


def test_integers_that_are_not_packed(tmp_path):
    lay(tmp_path, {"vocabulary.csv": VOCABULARY})

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    label = field(1, b"labels") + field(2, field(3, b"\x08\x00\x08\xc8\x01"))
    name = field(1, b"id") + field(2, field(1, field(1, b"abcd")))
    fixed = bytes([5 << 3 | 5]) + bytes(4) + bytes([6 << 3 | 1]) + bytes(8)  # fields that no Example has are skipped
    write(tmp_path / "train00.tfrecord", [fixed + field(1, field(1, name) + field(1, label))])
    assert brief(read_corpus("youtube8m", tmp_path), tmp_path) == [("abcd.mp4", "Game+Car", "train")]


def test_labels_of_the_first_edition(tmp_path):
    lay(tmp_path, {"vocabulary.csv": VOCABULARY, "validate_labels.csv": "VmH8kV7d3bA,200 0\n-abcdefghij,3\n"})
    assert brief(read_corpus("youtube8m", tmp_path), tmp_path) == [
        ("VmH8kV7d3bA.mp4", "Car+Game", "val"),
        ("-abcdefghij.mp4", "/m/04rlf", "val"),
    ]
    lay(tmp_path, {"validate_labels.csv": "VmH8kV7d3bA,200\n-abcdefghij,4\n"})
    with pytest.raises(DataError, match=r"validate_labels.csv, line 2: "):
        read_corpus("youtube8m", tmp_path)


def test_bad_records(tmp_path, record):
    lay(tmp_path, {"vocabulary.csv": VOCABULARY})
    with pytest.raises(DataError, match=r"holds no validate0000.tfrecord"):
        read_corpus("youtube8m", tmp_path)
    path = tmp_path / "validate0000.tfrecord"
    whole = record(id=[b"nXSc"], labels=[0])
    uneven = {"segment_start_times": [1, 2], "segment_end_times": [6], "segment_labels": [0], "segment_scores": [1.0]}
    for bad in (
        record(labels=[0]),
        record(id=[b"nXSc"], labels=[7]),
        record(id=[b"nXSc"], **uneven),
        whole[:-1],
        b"\xff",
    ):
        write(path, [whole, bad])
        with pytest.raises(DataError, match=r"validate0000.tfrecord, record 2: "):
            read_corpus("youtube8m", tmp_path)
    write(path, [whole, whole])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"validate0000.tfrecord, record 1: "):
        read_corpus("youtube8m", tmp_path)
