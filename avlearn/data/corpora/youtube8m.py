"""YouTube-8M, with a reader of the few fields of its records that say what is seen and when."""

import struct
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from avlearn.data.corpora.tree import Tree, checked, read_records, read_table
from avlearn.data.manifest import Entry, Event

_SEGMENT = ("segment_start_times", "segment_end_times", "segment_labels", "segment_scores")


def youtube8m(media: Tree, lists: Tree) -> list[Entry]:
    """YouTube-8M (Google, 2016-2019): labels of millions of YouTube videos, some for five-second segments. CC BY 4.0.

    Lists: ``vocabulary.csv`` (``Index``, ``KnowledgeGraphId``, ``Name``, ...) and either or both of

    - ``train*.tfrecord``, ``validate*.tfrecord``, ``test*.tfrecord``: of their features ``id``, ``labels`` and, where
      segments are rated (2019), ``segment_start_times``, ``segment_end_times``, ``segment_labels`` and
      ``segment_scores``; features of frames are passed over, and checksums are not checked;
    - ``train_labels.csv``, ``validate_labels.csv`` of the first edition (``ID,INDEX INDEX``).

    Files: ``ID.mp4``, whole videos. The ``id`` of a record is not YouTube's but four characters, which the publisher
    translates (data.yt8m.org/2/j/i/AB/ABCD.js): the file has to bear those.

    Labels: names of the vocabulary (the knowledge graph's id where there is no name). Events: the segments that the
    raters found to hold the label; those that they rejected are left out. Splits: train, val, test.
    """
    offer = "of YouTube-8M: it is offered at https://research.google.com/youtube8m/download.html"

    def term(row: dict[str, str]) -> tuple[int, str]:
        return int(row["Index"]), row["Name"] or row["KnowledgeGraphId"]

    vocabulary = lists.need(r"vocabulary\.csv", f"vocabulary.csv {offer}")
    names = dict(read_records(vocabulary, term, "Index,KnowledgeGraphId,Name"))

    def listed(split: str, row: list[str]) -> Entry:
        video, indices = row
        return Entry(media.find(f"{video}.mp4"), tuple(names[int(index)] for index in indices.split()), split)

    def recorded(split: str, record: bytes) -> Entry:
        features = _features(record)
        segments = zip(*(features.get(name, ()) for name in _SEGMENT), strict=True)
        events = tuple(Event(names[label], float(start), float(end)) for start, end, label, score in segments if score)
        labels = tuple(names[index] for index in features.get("labels", ()))
        return Entry(media.find(f"{features['id'][0].decode()}.mp4"), labels, split, events)

    pattern = r"(?:train|validate|test).*\.tfrecord|(?:train|validate)_labels\.csv"
    lists.need(pattern, f"validate0000.tfrecord {offer}")
    entries: list[Entry] = []
    for prefix, split in (("train", "train"), ("validate", "val"), ("test", "test")):
        for path in lists.pick(rf"{prefix}_labels\.csv").values():
            entries += read_table(path, partial(listed, split), "ID,INDEX INDEX with indices of the vocabulary")
        for path in lists.pick(rf"{prefix}.*\.tfrecord").values():
            form = "a record with an id and labels of the vocabulary"
            entries += checked(path, _records(path), partial(recorded, split), form, "record")
    return entries


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Of a TFRecord file: length (8 bytes), its checksum (4), so many bytes, their checksum (4), and again."""
    data, at, number = path.read_bytes(), 0, 0
    while at < len(data):
        number += 1
        size = int.from_bytes(data[at : at + 8], "little")
        if at + 16 + size > len(data):
            raise ValueError("cut short")
        yield number, data[at + 12 : at + 12 + size]
        at += 16 + size


def _features(record: bytes) -> dict[str, list[Any]]:
    """Names and values in the first field of an Example, or of a SequenceExample, which is the same there."""
    features: dict[str, list[Any]] = {}
    for context in _message(record)[1]:
        for pair in map(_message, _message(context)[1]):
            for kind, bodies in _message(pair[2][0]).items():
                values = [value for body in bodies for value in _message(body)[1]]
                if kind == 2:
                    values = [real for packed in values for (real,) in struct.iter_unpack("<f", packed)]
                elif kind == 3:
                    values = [whole for packed in values for whole in _integers(packed)]
                features[pair[1][0].decode()] = values
    return features


def _message(data: bytes) -> dict[int, list[Any]]:
    """Values of a protocol buffer's message by the number of their field: integers, or bytes for all else."""
    at = 0
    fields: defaultdict[int, list[Any]] = defaultdict(list)
    while at < len(data):
        key, at = _integer(data, at)
        kind = key & 7
        number, at = _integer(data, at) if kind in (0, 2) else ({1: 8, 5: 4}[kind], at)
        begin, at = at, at if kind == 0 else at + number
        if at > len(data):
            raise ValueError("cut short")
        fields[key >> 3].append(number if kind == 0 else data[begin:at])
    return fields


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """The integer of seven bits a byte that begins there, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _integers(packed: int | bytes) -> Iterator[int]:
    if isinstance(packed, int):
        yield packed
        return
    at = 0
    while at < len(packed):
        value, at = _integer(packed, at)
        yield value


READERS = {"youtube8m": youtube8m}
