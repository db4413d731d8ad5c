"""Corpora of sounds and their sources: MUSIC, ESC-50 and ESC-10, Flickr-SoundNet."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree  # nosec B405

from avlearn.data.corpora.actions import check_fold
from avlearn.data.corpora.tree import Tree, checked, matched, read_items, read_lines, read_records, read_table
from avlearn.data.manifest import Entry, Event
from avlearn.errors import DataError


def _music(pattern: str, file: str) -> Callable[..., list[Entry]]:
    def read(media: Tree, lists: Tree) -> list[Entry]:
        """MUSIC (MIT, 2018) and MUSIC-21 (2019): YouTube videos of people who play one or two instruments.

        Lists: ``MUSIC_solo_videos.json`` and ``MUSIC_duet_videos.json``, or ``MUSIC21_solo_videos.json``:
        ``{"videos": {CLASS: [ID, ...]}}``, where the class of a duet is two names with a space between. Files:
        ``ID.mp4``, whole videos, in class folders or together.

        Labels: the instruments. Splits: none is published. Order: solos, then duets.
        """

        def entries(item: tuple[str, list[str]]) -> list[Entry]:
            label, videos = item
            return [Entry(media.find(label + "/" + video + ".mp4"), tuple(label.split())) for video in list(videos)]

        lists.need(pattern, f"{file} of MUSIC: it is offered at https://github.com/roudimit/MUSIC_dataset")
        files = sorted(lists.pick(pattern).items(), reverse=True)
        form = "a class and the IDs of its videos"
        classes = (read_items(path, lambda content: content["videos"].items(), entries, form) for _, path in files)
        return [entry for file in classes for found in file for entry in found]

    return read


def _five(tested: int) -> tuple[str, ...]:
    """Splits in each of five folds of a clip that one of them tests."""
    return tuple("test" if k == tested else "train" for k in range(1, 6))


def _esc50(media: Tree, lists: Tree, fold: int, ten: bool) -> list[Entry]:
    check_fold(fold, 5)

    def entry(row: dict[str, str]) -> Entry | None:
        splits = _five(int(row["fold"]))
        found = Entry(media.find(f"audio/{row['filename']}"), (row["category"],), splits[fold - 1], folds=splits)
        return found if row["esc10"] == "True" or not ten else None

    path = lists.need(r"esc50\.csv", "esc50.csv of ESC-50: it is offered at https://github.com/karolpiczak/ESC-50")
    return list(read_records(path, entry, "filename,fold,category,esc10"))


def esc50(media: Tree, lists: Tree, fold: int = 1) -> list[Entry]:
    """ESC-50 (Karol Piczak, 2015): 2,000 five-second recordings of 50 environmental sounds. CC BY-NC; no video.

    List: ``meta/esc50.csv`` (``filename,fold,target,category,esc10,...``). Files: ``audio/1-100032-A-0.wav``.

    Labels: the category. Splits: ``fold`` (1 to 5) is the test, the others are train. Order: of the list.
    """
    return _esc50(media, lists, fold, False)


def esc10(media: Tree, lists: Tree, fold: int = 1) -> list[Entry]:
    """ESC-10 (Karol Piczak, 2015): the 400 recordings of 10 sounds that came before ESC-50. CC BY 3.0; no video.

    Files: ``001 - Dog bark/1-100032-A.ogg``: a class folder, perhaps numbered, and the fold as the first digit of the
    name; there is no list. Within ESC-50 it is the rows of ``esc50.csv`` whose ``esc10`` is True.

    Labels: the class folder without its number, or the category. Splits: as of ESC-50. Order: class, name.
    """
    check_fold(fold, 5)
    if lists.pick(r"esc50\.csv"):
        return _esc50(media, lists, fold, True)
    named = [paths for stem, paths in media.media.items() if re.fullmatch(r"[1-5]-\d+-[A-Z]", stem)]
    entries = []
    for file in sorted(Path(path) for paths in named for path in paths):
        splits = _five(int(file.name[0]))
        entries.append(Entry(file, (re.sub(r"^\d+ - ", "", file.parent.name),), splits[fold - 1], folds=splits))
    if not entries:
        home = "https://github.com/karolpiczak/ESC-10"
        raise DataError(
            f"{media.folder} holds no CLASS/1-100032-A.ogg of ESC-10, nor esc50.csv: it is offered at {home}"
        )
    return entries


def flickr_soundnet(media: Tree, lists: Tree) -> list[Entry]:
    """Flickr-SoundNet (MIT, 2016) with the boxes of Senocak et al. (KAIST, 2018): clips of Flickr, for research.

    Lists: ``Flickr_train_144k.txt`` (``ID.wav`` or ``ID`` a line) and ``flickr_test.csv`` (``ID,NUMBER``, the number
    is not used), either or both. Boxes: ``Annotations/ID.xml``, an element for each annotator with a ``bbox`` for
    each box, whose last four children are left, top, right, bottom in pixels of a frame of 256 x 256. Files:
    ``ID.mp4``, or any audio of that name.

    Labels: none is published. Splits: train, test. Events of the test: a box each, at 0 s as each clip is published
    as one image with its audio; the label is the annotator, "1", "2" or "3", for a consensus.
    """
    home = "https://github.com/hche11/Localizing-Visual-Sounds-the-Hard-Way"
    pattern = r"(flickr_(?:train_)?144k\.(?:txt|csv)|flickr_test\.csv)"
    lists.need(pattern, f"flickr_test.csv of Flickr-SoundNet: it is offered at {home}")
    drawn = {path.stem: path for path in lists.lists if path.suffix == ".xml" and path.parent.name == "Annotations"}

    def train(line: str) -> Entry:
        (video,) = matched(r"(\d+)(?:\.\w+)?", line)
        return Entry(media.find(f"{video}.mp4"), (), "train")

    def test(row: list[str]) -> Entry:
        video = str(int(row[0]))
        return Entry(media.find(f"{video}.mp4"), (), "test", _boxes(drawn[video]) if video in drawn else ())

    entries: list[Entry] = []
    for name, path in sorted(lists.pick(pattern).items(), key=lambda item: item[0] == "flickr_test.csv"):
        entries += read_table(path, test, "ID,NUMBER") if "test" in name else read_lines(path, train, "ID.wav")
    return entries


def _boxes(path: Path) -> tuple[Event, ...]:
    try:
        text = path.read_text("utf-8-sig")
        if "<!DOCTYPE" in text:  # the only place for entities, which may stand for more than fits in memory
            raise DataError(f"{path}: has a document type, which annotations of boxes have not")
        annotators = [one for one in ElementTree.fromstring(text) if one.find("bbox") is not None]  # nosec B314
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not in UTF-8") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{path}, line {error.position[0]}: {error}") from error

    def event(item: tuple[int, ElementTree.Element]) -> Event:
        left, top, right, bottom = (int(side.text or "") / 256 for side in item[1][-4:])
        return Event(str(item[0]), 0.0, 0.0, (left, top, right, bottom))

    boxes = [(number, box) for number, one in enumerate(annotators, 1) for box in one.iter("bbox")]
    return tuple(checked(path, enumerate(boxes, 1), event, "a bbox of left, top, right, bottom", "box"))


READERS = {
    "music": _music(r"MUSIC_(solo|duet)_videos\.json", "MUSIC_solo_videos.json"),
    "music21": _music(r"MUSIC21_(solo)_videos\.json", "MUSIC21_solo_videos.json"),
    "esc50": esc50,
    "esc10": esc10,
    "flickr_soundnet": flickr_soundnet,
}
