"""Kinetics-400, -600 and -700."""

from collections.abc import Callable

from avlearn.data.corpora.tree import SPLITS, Tree, read_records
from avlearn.data.manifest import Entry
from avlearn.errors import DataError


def _kinetics(classes: int) -> Callable[..., list[Entry]]:
    def read(media: Tree, lists: Tree) -> list[Entry]:
        """Kinetics (DeepMind, 2017-2020): ten-second clips of human actions from YouTube. Annotations CC BY 4.0.

        Lists: ``train.csv``, ``validate.csv`` or ``val.csv``, ``test.csv`` (also ``.txt``, or with a prefix like
        ``kinetics400_``) of ``label,youtube_id,time_start,time_end,split`` and perhaps ``is_cc``; a test list without
        labels is read too. Files: ``ID_000010_000020.mp4`` in any folders: by class, by split, both or neither, as
        in the copy of the CVD Foundation. Where one clip is there twice, its class names the folder that counts.

        Labels: the class. Splits: of the column ``split`` (validate is val).
        """

        def entry(row: dict[str, str]) -> Entry:
            start, end = int(float(row["time_start"])), int(float(row["time_end"]))
            split, label = SPLITS[row["split"].strip()], row.get("label", "")
            place = f"{split}/{label}" if label else split
            path = media.find(f"{place}/{row['youtube_id']}_{start:06d}_{end:06d}.mp4")
            return Entry(path, (label,) if label else (), split)

        files = lists.splits(
            r"(?:kinetics[-_]?\d*[-_])?(train|val|validate|validation|test)\.(?:csv|txt)",
            f"train.csv of Kinetics-{classes}: its copy is at https://github.com/cvdfoundation/kinetics-dataset",
        )
        columns = "youtube_id,time_start,time_end,split"
        entries = [found for _, path in files for found in read_records(path, entry, columns)]
        # The lists of all editions have one form and one name: too many classes is the only sign of a wrong edition.
        held = len({label for found in entries for label in found.labels})
        if held > classes:
            raise DataError(f"{files[0][1].parent} lists {held} classes: that is not Kinetics-{classes}")
        return entries

    return read


READERS = {f"kinetics{classes}": _kinetics(classes) for classes in (400, 600, 700)}
