"""Corpora of whole clips with an action each: UCF101, HMDB51, UT-Interaction, Something-Something, Sports-1M."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from avlearn.data.corpora.tree import Tree, matched, read_items, read_lines, read_table
from avlearn.data.manifest import Entry
from avlearn.errors import DataError


def check_fold(fold: int, folds: int) -> None:
    """Raise a DataError if there is no such fold."""
    if fold not in range(1, folds + 1):
        raise DataError(f"there is no fold {fold!r}: choose 1 to {folds}")


def with_folds(fold: int, folds: int, read: Callable[[int], list[Entry]], listed: Callable[[int], bool]) -> list[Entry]:
    """Entries of a fold, with their split in each of all folds, if the lists of all are there.

    Args:
        fold: whose order and splits the entries have, from 1.
        folds: how many there are.
        read: entries of a fold.
        listed: whether the lists of a fold are there.
    """
    check_fold(fold, folds)
    entries = read(fold)
    numbers = range(1, folds + 1)
    if not all(map(listed, numbers)):
        return entries
    splits = [{entry.path: entry.split for entry in (entries if k == fold else read(k))} for k in numbers]
    return [replace(entry, folds=tuple(split.get(entry.path, "") for split in splits)) for entry in entries]


def ucf101(media: Tree, lists: Tree, fold: int = 1) -> list[Entry]:
    """UCF101 (University of Central Florida, 2012): 13,320 clips of 101 actions from YouTube, for research.

    Lists: ``trainlist01.txt`` (``CLASS/v_CLASS_g01_c01.avi INDEX``) and ``testlist01.txt`` (the same without index),
    with 01 to 03 for the three folds (``fold``). ``classInd.txt`` is not needed: the lists name the classes. Files: in
    class folders or together; half of the classes have no audio.

    Labels: the class. Splits: train, then test; those of all folds where all lists are there.
    """

    def entry(split: str, line: str) -> Entry:
        published, label = matched(r"((\w+)/\S+)(?:\s+\d+)?", line)
        return Entry(media.find(published), (label,), split)

    def read(number: int) -> list[Entry]:
        what = f"trainlist0{number}.txt of UCF101: it is offered at https://www.crcv.ucf.edu/data/UCF101.php"
        files = lists.splits(rf"(train|test)list0{number}\.txt", what)
        return [found for split, path in files for found in read_lines(path, partial(entry, split), "CLASS/NAME.avi")]

    return with_folds(fold, 3, read, lambda k: len(lists.pick(rf"(train|test)list0{k}\.txt")) == 2)


def hmdb51(media: Tree, lists: Tree, fold: int = 1) -> list[Entry]:
    """HMDB51 (Brown University, 2011): 6,766 clips of 51 actions from films and the web. CC BY 4.0; most are silent.

    Lists: ``CLASS_test_split1.txt`` for each class and each of the three folds (``fold``): ``NAME.avi`` and 1
    (train), 2 (test) or 0 (left out of this fold). Files: in class folders or together.

    Labels: the class. Splits: train, test, or "" for what is left out; those of all folds where all lists are there.
    Order: class, then as listed.
    """

    def entry(label: str, line: str) -> Entry:
        name, number = line.rsplit(maxsplit=1)
        return Entry(media.find(f"{label}/{name}"), (label,), {"0": "", "1": "train", "2": "test"}[number])

    def pattern(number: int) -> str:
        return rf"(\w+)_test_split{number}\.txt"

    def read(number: int) -> list[Entry]:
        home = "https://serre-lab.clps.brown.edu"
        what = f"brush_hair_test_split{number}.txt of HMDB51, nor its like: they are offered at {home}"
        lists.need(pattern(number), what)
        files = sorted(lists.pick(pattern(number)).items())
        form = "NAME.avi and 0, 1 or 2"
        return [found for label, path in files for found in read_lines(path, partial(entry, label), form)]

    return with_folds(fold, 3, read, lambda k: bool(lists.pick(pattern(k))))


_INTERACTIONS = ("shake hands", "hug", "kick", "point", "punch", "push")


def ut_interaction(media: Tree, lists: Tree, fold: int = 1) -> list[Entry]:
    """UT-Interaction (Ryoo & Aggarwal, 2010): 120 clips of six things that two people do. For research; no audio.

    The segmented sets 1 and 2. Files: ``set1_0_1_4.avi``, or ``segmented_set1/0_1_4.avi``: the set, a number, the
    sequence that the clip is cut from, and the class; there is no list.

    Labels: the interaction. Splits: leave one sequence out, within its set. Folds 1 to 10 (``fold``) test the sequences
    1 to 10 of set 1, folds 11 to 20 those of set 2; clips of the other set are left out. Order: set, sequence, class.
    """
    check_fold(fold, 20)
    found: list[tuple[int, int, int, Path]] = []
    for paths in media.media.values():
        for path in map(Path, paths):
            name = re.fullmatch(r"(?:set([12])_)?\d+_(\d+)_([0-5])", path.stem)
            home = re.search(r"set_?([12])", path.parent.name)
            number = name and (name[1] or (home and home[1]))
            if name and number:
                found.append((int(number), int(name[2]), int(name[3]), path))
    if not found:
        home_page = "http://cvrc.ece.utexas.edu/SDHA2010/Human_Interaction.html"
        raise DataError(f"{media.folder} holds no set1_0_1_4.avi of UT-Interaction: it is offered at {home_page}")
    folds = [(1, k) for k in range(1, 11)] + [(2, k) for k in range(11, 21)]
    entries = []
    for number, sequence, label, path in sorted(found):
        splits = tuple(
            "" if number != tested else "test" if sequence == left_out else "train" for tested, left_out in folds
        )
        entries.append(Entry(path, (_INTERACTIONS[label],), splits[fold - 1], folds=splits))
    return entries


def _something(version: int) -> Callable[..., list[Entry]]:
    def read(media: Tree, lists: Tree) -> list[Entry]:
        """Something-Something v1 and v2 (20BN, 2017 and 2018; now Qualcomm): hands do 174 things. Research; no audio.

        Lists of v2: ``something-something-v2-train.json`` (``id``, ``template``), ``-validation.json`` and
        ``-test.json`` (``id`` alone), or in the later edition ``train.json`` and so on, with ``test-answers.csv``
        (``ID;LABEL``). Lists of v1: the same as ``.csv``, each row ``ID;LABEL``. Files: ``ID.webm``; v1 is published
        as folders of images, which must be made into videos of that name first.

        Labels: the template without its brackets ("Putting something on something"); of the test as far as there
        are answers. Splits: train, val, test.
        """
        answers: dict[str, str] = {}
        for path in lists.pick(r"test-answers\.csv").values():
            answers |= read_table(path, lambda row: (row[0], row[1]), "ID;LABEL", delimiter=";")

        def entry(split: str, name: str, template: str = "") -> Entry:
            label = re.sub(r"[\[\]]", "", template) or answers.get(name)
            return Entry(media.find(f"{int(name)}.webm"), (label,) if label else (), split)

        def entries(split: str, path: Path) -> Iterator[Entry]:
            wanted = 1 if split == "test" else 2
            if version == 1:
                return read_table(path, lambda row: entry(split, *row[:wanted]), "ID;LABEL", delimiter=";")
            keys = ("id", "template")[:wanted]
            return read_items(path, list, lambda item: entry(split, *(item[key] for key in keys)), " and ".join(keys))

        suffix = "csv" if version == 1 else "json"
        files = lists.splits(
            rf"(?:something-something-v{version}-){'' if version == 1 else '?'}(train|val|validation|test)\.{suffix}",
            f"something-something-v{version}-train.{suffix}: it is offered at "
            "https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
        )
        return [found for split, path in files for found in entries(split, path)]

    return read


def sports1m(media: Tree, lists: Tree) -> list[Entry]:
    """Sports-1M (Stanford and Google, 2014): 1.1 million YouTube videos of 487 sports. Annotations CC BY 3.0.

    Lists: ``train_partition.txt`` and ``test_partition.txt`` (``URL INDEX,INDEX``) and ``labels.txt`` (a name a line,
    from index 0). Files: ``ID.mp4``, whole videos, in any folders.

    Labels: the sports. Splits: train, test.
    """
    offer = "of Sports-1M: it is offered at https://github.com/gtoderici/sports-1m-dataset"
    names = dict(enumerate(read_lines(lists.need(r"labels\.txt", f"labels.txt {offer}"), str, "a name")))

    def entry(split: str, line: str) -> Entry:
        url, indices = line.split()
        _, video = url.split("v=")
        return Entry(media.find(f"{video}.mp4"), tuple(names[int(index)] for index in indices.split(",")), split)

    files = lists.splits(r"(train|test)_partition\.txt", f"train_partition.txt {offer}")
    form = "URL?v=ID and indices of labels.txt"
    return [found for split, path in files for found in read_lines(path, partial(entry, split), form)]


READERS = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "ut_interaction": ut_interaction,
    "something_something_v1": _something(1),
    "something_something_v2": _something(2),
    "sports1m": sports1m,
}
