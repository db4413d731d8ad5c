"""The page of an explanation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avlearn.apply.explain.network import ExplainedNetwork
from avlearn.apply.explain.parts import Shown
from avlearn.files import printable
from avlearn.report.page import Page

_LARGEST = 4_000_000  # bytes of a film that the page holds; of a larger one it shows frames

_MAPS = (
    "Grad-CAM (Selvaraju et al., ICCV 2017): the brighter, the more the features there speak for the class. Each "
    "class has a scale of its own, the same over the whole file: what is bright for an unlikely class is still little. "
    "Features see more than their own place: the middle of a bright spot is meant, not its edge."
)
_CLASSES = (
    "Inputs that the network is surest of, drawn by gradient ascent from noise, not found in any file (Feichtenhofer "
    "et al., CVPR 2018). Slow: what changes from one frame to the next costs much, so that appearance and slow motion "
    "are left. Fast: it costs little. Log odds of 0 are as likely as not. What is drawn may be far from all that is "
    "real: it shows what raises the score, not what the class looks like. Contrast is stretched."
)
_HUES = "the hue is the direction (right red, down yellow, left cyan, up blue)"
_MOTION = f" Of optical flow, white does not move, and {_HUES}; of frames and flow, the frames are above."
_FILTERS = (
    "First layers, as what they come to of the input itself. Each filter is on a scale of its own. Of colours, grey is "
    f"zero; of flow, white is, and {_HUES}; of a spectrogram, low bands are below, red raises the answer and blue "
    "lowers it."
)


def write_page(
    path: Path, network: ExplainedNetwork, file: str, maps: Sequence[Shown], classes: Sequence[Shown],
    filters: Sequence[Shown],
) -> Path:  # fmt: skip
    """Write the page of what was shown of a network, and of a file, or of none ("").

    Raises:
        OutputError: it cannot be written.
    """
    title = f"What {network.name} looks at" if file else f"What {network.name} has learned"
    page = Page(title, printable(file))
    moving = "video" in network.encoders and network.encoders["video"].takes != "video"
    for name, text, shown in (
        ("Where it looks", _MAPS, maps),
        ("What its classes would like", _CLASSES + _MOTION * moving, classes),
        ("First-layer filters", _FILTERS, filters),
    ):
        if shown:
            page.section(name, text)
            page.cards(_cards(shown))
    return page.save(path)


def _cards(shown: Sequence[Shown]) -> list[tuple[str, list[tuple[str, Any, str]]]]:
    """A card of all that has one title, as long as one follows the other."""
    cards: list[tuple[str, list[tuple[str, Any, str]]]] = []
    for one in shown:
        if not cards or cards[-1][0] != one.title:
            cards.append((one.title, []))
        cards[-1][1].extend(_parts(one))
    return cards


def _parts(one: Shown) -> list[tuple[str, Any, str]]:
    if one.path.suffix != ".mp4":
        return [("image", one.picture, one.caption)]
    if one.path.stat().st_size > _LARGEST:
        return [("image", one.picture, f"{one.caption}; the film: `{one.path.name}`")]
    return [("image", one.picture, ""), ("video", one.path, one.caption)]
