"""Corpora of whole clips with an action each: UCF101, HMDB51, Something-Something, Sports-1M."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from avlearn.data.corpora.tree import Tree, matched, read_items, read_lines, read_table
from avlearn.data.manifest import Entry
from avlearn.errors import DataError


def check_fold(fold: int, folds: int) -> None:
    """Raise a DataError if there is no such fold."""
    if fold not in range(1, folds + 1):
        raise DataError(f"there is no fold {fold!r}: choose 1 to {folds}")


def ucf101(media: Tree, lists: Tree, fold: int = 1) -> list[Entry]:
    """UCF101 (University of Central Florida, 2012): 13,320 clips of 101 actions from YouTube, for research.

    Lists: ``trainlist01.txt`` (``CLASS/v_CLASS_g01_c01.avi INDEX``) and ``testlist01.txt`` (the same without index),
    with 01 to 03 for the three folds (``fold``). ``classInd.txt`` is not needed: the lists name the classes. Files: in
    class folders or together; half of the classes have no audio.

    Labels: the class. Splits: train, then test.
    """
    check_fold(fold, 3)

    def entry(split: str, line: str) -> Entry:
        published, label = matched(r"((\w+)/\S+)(?:\s+\d+)?", line)
        return Entry(media.find(published), (label,), split)

    what = f"trainlist0{fold}.txt of UCF101: it is offered at https://www.crcv.ucf.edu/data/UCF101.php"
    files = lists.splits(rf"(train|test)list0{fold}\.txt", what)
    return [found for split, path in files for found in read_lines(path, partial(entry, split), "CLASS/NAME.avi")]


def hmdb51(media: Tree, lists: Tree, fold: int = 1) -> list[Entry]:
    """HMDB51 (Brown University, 2011): 6,766 clips of 51 actions from films and the web. CC BY 4.0; most are silent.

    Lists: ``CLASS_test_split1.txt`` for each class and each of the three folds (``fold``): ``NAME.avi`` and 1
    (train), 2 (test) or 0 (left out of this fold). Files: in class folders or together.

    Labels: the class. Splits: train, test, or "" for what is left out. Order: class, then as listed.
    """
    check_fold(fold, 3)

    def entry(label: str, line: str) -> Entry:
        name, number = line.rsplit(maxsplit=1)
        return Entry(media.find(f"{label}/{name}"), (label,), {"0": "", "1": "train", "2": "test"}[number])

    pattern, home = rf"(\w+)_test_split{fold}\.txt", "https://serre-lab.clps.brown.edu"
    lists.need(pattern, f"brush_hair_test_split{fold}.txt of HMDB51, nor its like: they are offered at {home}")
    files = sorted(lists.pick(pattern).items())
    form = "NAME.avi and 0, 1 or 2"
    return [found for label, path in files for found in read_lines(path, partial(entry, label), form)]


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
    "something_something_v1": _something(1),
    "something_something_v2": _something(2),
    "sports1m": sports1m,
}
