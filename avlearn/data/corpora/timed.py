"""Corpora that say when things happen: AVE, Charades, AVA, GRID."""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from avlearn.data.corpora.actions import check_fold
from avlearn.data.corpora.tree import Tree, read_lines, read_records, read_table
from avlearn.data.manifest import Entry, Event
from avlearn.errors import DataError


def _labels(events: Iterable[Event]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(event.label for event in events))


def _gathered(media: Tree, rows: Iterable[tuple[str, str, Event]]) -> list[Entry]:
    """An entry for each video and split, with all its events, in the order of the first."""
    events: dict[tuple[str, str], list[Event]] = {}
    for video, split, event in rows:
        events.setdefault((video, split), []).append(event)
    return [
        Entry(media.find(f"{video}.mp4"), _labels(found), split, tuple(found))
        for (video, split), found in events.items()
    ]


def ave(media: Tree, lists: Tree) -> list[Entry]:
    """AVE (University of Rochester, 2018): 4,143 events that are seen and heard, 28 classes, from AudioSet.

    Lists: ``trainSet.txt``, ``valSet.txt``, ``testSet.txt``, rows ``Category&VideoID&Quality&StartTime&EndTime``, with
    or without that header; ``Annotations.txt`` holds the same rows again and is read for those that no split lists.
    Files: ``AVE/ID.mp4``, cut to ten seconds.

    Labels: the classes. Events: seconds within the cut file; a video with several is one entry. Splits: train, val,
    test, or "" where no split lists the row.
    """

    def parse(line: str) -> tuple[str, Event] | None:
        label, video, _, start, end = line.split("&")
        return None if label == "Category" else (video, Event(label, float(start), float(end)))

    what = "trainSet.txt of AVE: it is offered at https://github.com/YapengTian/AVE-ECCV18"
    files = lists.splits(r"(train|val|test)Set\.txt", what)
    rows, form = [], "Category&VideoID&Quality&StartTime&EndTime"
    for split, path in files:
        rows += [(video, split, event) for video, event in read_lines(path, parse, form)]
    listed = {(video, event) for video, _, event in rows}
    for path in lists.pick(r"Annotations\.txt").values():
        rows += [(row[0], "", row[1]) for row in read_lines(path, parse, form) if row not in listed]
    return _gathered(media, rows)


def charades(media: Tree, lists: Tree) -> list[Entry]:
    """Charades (Allen Institute for AI, 2016): 9,848 videos of daily life at home, 157 actions. Non-commercial.

    Lists: ``Charades_v1_train.csv``, ``Charades_v1_test.csv`` (``actions`` is ``c092 11.90 21.20;...``) and
    ``Charades_v1_classes.txt`` (``c000 NAME``). Files: ``ID.mp4``, whole videos, of any of the published sizes.

    Labels: the names of the actions within. Events: each action, in seconds. Splits: train, test.
    """
    offer = "of Charades: it is offered at https://prior.allenai.org/projects/charades"
    classes = lists.need(r"Charades_v1_classes\.txt", f"Charades_v1_classes.txt {offer}")
    names = dict(read_lines(classes, lambda line: line.split(maxsplit=1), "c000 NAME"))

    def entry(split: str, row: dict[str, str]) -> Entry:
        actions = [action.split() for action in row["actions"].split(";") if action]
        events = tuple(Event(names[code], float(start), float(end)) for code, start, end in actions)
        return Entry(media.find(f"{row['id']}.mp4"), _labels(events), split, events)

    files = lists.splits(r"Charades_v1_(train|test)\.csv", f"Charades_v1_train.csv {offer}")
    return [found for split, path in files for found in read_records(path, partial(entry, split), "id,actions")]


def ava(media: Tree, lists: Tree, start: float = 0.0) -> list[Entry]:
    """AVA Actions v2.2 (Google, 2018): who does what and where, each second of 15 minutes of 299 films. CC BY 4.0.

    Lists: ``ava_train_v2.2.csv``, ``ava_val_v2.2.csv`` (``ID,SECOND,x1,y1,x2,y2,ACTION,PERSON``),
    ``ava_action_list_v2.2.pbtxt`` (or the shorter one ``_for_activitynet_2019``), and where they are there
    ``ava_train_excluded_timestamps_v2.2.csv`` and the same of val, whose seconds are left out. Files: ``ID.mkv``,
    ``ID.mp4`` or ``ID.webm``, whole films (``start`` 0) or cut, usually to the annotated 15 minutes (``start`` 900).

    Labels: the actions within. Events: an action of a person at an instant, with the person's box; who it is
    (``PERSON``) is not kept. Splits: train, val.
    """
    offer = "of AVA: it is in ava_v2.2.zip at https://research.google.com/ava/download.html"
    actions = lists.need(r"ava_action_list_v2\.2\w*\.pbtxt", f"ava_action_list_v2.2.pbtxt {offer}")
    terms = re.findall(r'name:\s*"([^"]*)"\s*(?:label_)?id:\s*(\d+)', actions.read_text("utf-8", "replace"))
    names = {number: name for name, number in terms}
    excluded: set[tuple[str, float]] = set()
    for path in lists.pick(r"ava_(train|val)_excluded_timestamps_v2\.2\.csv").values():
        excluded.update(read_table(path, lambda row: (row[0], float(row[1])), "ID,SECOND"))

    def parse(split: str, row: list[str]) -> tuple[str, str, Event] | None:
        video, second, label = row[0], float(row[1]), names[row[6]]
        left, top, right, bottom = map(float, row[2:6])
        if (video, second) in excluded:
            return None
        return video, split, Event(label, second - start, second - start, (left, top, right, bottom))

    files = lists.splits(r"ava_(train|val)_v2\.2\.csv", f"ava_train_v2.2.csv {offer}")
    form = "ID,SECOND,x1,y1,x2,y2,ACTION,PERSON with an action of the list"
    return _gathered(media, (row for split, path in files for row in read_table(path, partial(parse, split), form)))


def grid(media: Tree, lists: Tree, fold: int = 1) -> list[Entry]:
    """GRID (University of Sheffield, 2006): 34 speakers say 1,000 sentences each, three seconds a sentence. CC BY 4.0.

    There is no list: the sentences are the files that lie somewhere below a folder ``s1`` to ``s34``, and their words
    come from the ``.align`` file of the same name below a folder of the same speaker (``align/s1``, ``s1/align``),
    rows ``FROM TO WORD`` with 25,000 units to the second. A sentence without one has no events.

    Labels: the speaker. Events: the words, silences left out. Splits: none is published; ours have no speaker in
    common: ``fold`` 1 tests the speakers from s18 on, 2 those before, and of the other half the last speaker is val.
    Order: speaker, sentence.
    """
    check_fold(fold, 2)

    def key(path: Path, root: Path) -> tuple[int, str]:
        speakers = [re.fullmatch(r"s(\d+)", part) for part in path.relative_to(root).parts[:-1]]
        return next((int(speaker[1]) for speaker in speakers if speaker), 0), path.stem

    def word(line: str) -> Event | None:
        begin, end, label = line.split()
        return None if label in ("sil", "sp") else Event(label, int(begin) / 25000, int(end) / 25000)

    aligns = {key(path, lists.folder): path for path in lists.lists if path.suffix == ".align"}
    files = {key(Path(path), media.folder) for paths in media.media.values() for path in paths}
    sentences = sorted((speaker, stem) for speaker, stem in files if speaker)
    known = [speaker for speaker, _ in sentences if (speaker < 18) == (fold == 1)]
    entries = []
    for sentence in sentences:
        speaker, stem = sentence
        split = "test" if speaker not in known else "val" if speaker == known[-1] else "train"
        words = read_lines(aligns[sentence], word, "FROM TO WORD") if sentence in aligns else ()
        entries.append(Entry(media.find(f"s{speaker}/{stem}.mpg"), (f"s{speaker}",), split, tuple(words)))
    if not entries:
        raise DataError(
            f"{media.folder} holds no s1/NAME.mpg of GRID: it is offered at https://zenodo.org/records/3625687"
        )
    return entries


READERS = {"ave": ave, "charades": charades, "ava": ava, "grid": grid}
