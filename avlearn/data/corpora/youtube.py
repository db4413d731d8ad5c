"""Ten-second clips cut from YouTube: AudioSet, VGGSound, the labels of VGGSounder and the boxes of VGG-SS."""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from avlearn.data.corpora.tree import SPLITS, Tree, matched, read_items, read_records, read_table
from avlearn.data.manifest import Entry, Event

_TIMES = re.compile(r"(?:[_-](\d+(?:\.\d+)?))?(?:[_-](\d+(?:\.\d+)?))?")


class _Clips:
    """Finds the file of a stretch of a YouTube video under any of the names in use.

    These are ``ID_START_END``, ``ID_START`` and ``ID``, with times in seconds (padded or not) or milliseconds.
    """

    def __init__(self, media: Tree) -> None:
        self.media = media
        self.stems = defaultdict(list)
        for stem in media.media:
            self.stems[stem[:11]].append(stem)

    def find(self, video: str, start: float, end: float) -> Path:
        published = f"{video}_{int(start):06d}.mp4"
        whole = None
        for stem in self.stems.get(video, ()):
            if match := _TIMES.fullmatch(stem, len(video)):
                times = [float(time) for time in match.groups() if time]
                wanted = [round(1000 * time) for time in (start, end)[: len(times)]]
                whole = whole if times else stem
                if times and wanted in ([round(1000 * time) for time in times], [round(time) for time in times]):
                    return self.media.find(f"{stem}.mp4")
        return self.media.find(f"{whole}.mp4") if whole else self.media.folder / published


def audioset(media: Tree, lists: Tree) -> list[Entry]:
    """AudioSet (Google, 2017): two million ten-second clips with 527 classes of sound. Annotations CC BY 4.0.

    Lists: any of ``balanced_train_segments.csv``, ``unbalanced_train_segments.csv``, ``eval_segments.csv`` (comment
    lines, then ``ID, START, END, "MID,MID"``), and ``class_labels_indices.csv``. Lay only those there that you want:
    the balanced one and eval are AudioSet-20k. Files: ``ID.mp4``, ``ID_START.mp4``, ``ID_START_END.mp4``, with times
    in seconds or milliseconds.

    Labels: display names ("Male speech, man speaking"). Splits: both train lists are train, eval is test. Order:
    balanced, unbalanced, eval.
    """
    offer = "of AudioSet: it is offered at https://research.google.com/audioset/download.html"
    files = lists.pick(r"((?:un)?balanced_train|eval)_segments\.csv")
    lists.need(r".*_segments\.csv", f"balanced_train_segments.csv {offer}")
    indices = lists.need(r"class_labels_indices\.csv", f"class_labels_indices.csv {offer}")
    names = dict(read_records(indices, lambda row: (row["mid"], row["display_name"]), "index,mid,display_name"))
    clips, known = _Clips(media), {}

    def entry(split: str, row: list[str]) -> Entry:
        video, start, end, mids = row
        if mids not in known:
            known[mids] = tuple(names[mid] for mid in mids.split(","))
        return Entry(clips.find(video, float(start), float(end)), known[mids], split)

    entries: list[Entry] = []
    form = 'ID, START, END, "MID,MID"'
    for kind, split in (("balanced_train", "train"), ("unbalanced_train", "train"), ("eval", "test")):
        if kind in files:
            entries += read_table(files[kind], partial(entry, split), form, "#", skipinitialspace=True)
    return entries


def vggsound(media: Tree, lists: Tree) -> list[Entry]:
    """VGGSound (University of Oxford, 2020): 200,000 ten-second clips of 309 sounds that are seen. CC BY 4.0.

    Lists: ``vggsound.csv`` without a header (``ID,START,LABEL,SPLIT``), or else the ``train.csv`` and ``test.csv`` of
    the first edition (``ID_000030.mp4,LABEL``). Files: ``ID_000030.mp4`` (start in seconds), or as of AudioSet.

    Labels: the class. Splits: train, test, in the order of the list.
    """
    clips = _Clips(media)

    def entry(video: str, start: str, label: str, split: str) -> Entry:
        return Entry(clips.find(video, float(start), float(start) + 10), (label,), SPLITS[split.strip()])

    for path in lists.pick(r"vggsound\.csv").values():
        return list(read_table(path, lambda row: entry(*row), "ID,START,LABEL,SPLIT"))
    what = "vggsound.csv of VGGSound: it is offered at https://www.robots.ox.ac.uk/~vgg/data/vggsound"
    entries: list[Entry] = []
    for split, path in lists.splits(r"(train|test)\.csv", what):
        parse = partial(lambda split, row: entry(*_stretch(row[0]), row[1], split), split)
        entries += read_table(path, parse, "ID_START.mp4,LABEL")
    return entries


def _stretch(name: str) -> tuple[str, str]:
    """The video and the start in ``ID_000030`` or ``ID_000030.mp4``; the ID itself may hold underscores."""
    video, start = matched(r"(.{11})_(\d+)(?:\.mp4)?", name)
    return video, start


def vggsounder(media: Tree, lists: Tree) -> list[Entry]:
    """VGGSounder (Zverev et al., 2025): 12,000 test clips of VGGSound with all that is seen or heard. Apache 2.0.

    List: ``vggsounder.csv`` (``video_id,label,modality,...``; a row for each label, whose modality is A, V or AV).
    Files: as of VGGSound. ``vggsounder_audible`` and ``vggsounder_visible`` take labels of what is heard, or seen,
    alone, and clips that have some.

    Labels: several, of the classes of VGGSound. Split: test. Order: of each clip's first row.
    """
    return _labelled(media, lists, {"A", "V", "AV"})


def _labelled(media: Tree, lists: Tree, modalities: set[str]) -> list[Entry]:
    clips = _Clips(media)

    def parse(row: dict[str, str]) -> tuple[str, str, str] | None:
        if row["modality"] not in ("A", "V", "AV"):
            raise ValueError(row["modality"])
        return (*_stretch(row["video_id"]), row["label"]) if row["modality"] in modalities else None

    home = "https://github.com/Bizilizi/VGGSounder"
    path = lists.need(r"vggsounder\.csv", f"vggsounder.csv of VGGSounder: it is offered at {home}")
    labels: dict[tuple[str, float], list[str]] = {}
    for video, start, label in read_records(path, parse, "video_id,label,modality"):
        labels.setdefault((video, float(start)), []).append(label)
    return [
        Entry(clips.find(video, start, start + 10), tuple(dict.fromkeys(names)), "test")
        for (video, start), names in labels.items()
    ]


def vggsounder_audible(media: Tree, lists: Tree) -> list[Entry]:
    """Labels of `vggsounder` that are heard."""
    return _labelled(media, lists, {"A", "AV"})


def vggsounder_visible(media: Tree, lists: Tree) -> list[Entry]:
    """Labels of `vggsounder` that are seen."""
    return _labelled(media, lists, {"V", "AV"})


def vggss(media: Tree, lists: Tree) -> list[Entry]:
    """VGG-SS (University of Oxford, 2021): where the sound comes from in 5,158 test clips of VGGSound. Apache 2.0.

    List: ``vggss.json``, items of ``file`` (``ID_000030``), ``class`` and ``bbox`` (left, top, right, bottom as
    shares). Files: as of VGGSound.

    Labels: the class. Split: test. Events: a box each, at 5 s, as the boxes are of the clip's middle frame. Boxes are
    clipped to the frame, and those without area are left out: the published file holds a few broken ones, and two
    clips keep none.
    """
    what = "vggss.json of VGG-SS: it is offered at https://www.robots.ox.ac.uk/~vgg/research/lvs"
    clips = _Clips(media)

    def entry(item: dict[str, Any]) -> Entry:
        video, start = _stretch(item["file"])
        label, events = item["class"], []
        for box in item["bbox"]:
            left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in box)
            if left < right and top < bottom:
                events.append(Event(label, 5.0, 5.0, (left, top, right, bottom)))
        return Entry(clips.find(video, float(start), float(start) + 10), (label,), "test", tuple(events))

    return list(read_items(lists.need(r"vggss\.json", what), list, entry, "a clip with file, class and bbox"))


READERS = {
    "audioset": audioset, "vggsound": vggsound, "vggss": vggss, "vggsounder": vggsounder,
    "vggsounder_audible": vggsounder_audible, "vggsounder_visible": vggsounder_visible,
}  # fmt: skip
