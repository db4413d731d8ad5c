"""Labels over time as a strip that lies under the frames of a video."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from matplotlib.colors import hsv_to_rgb, to_rgb
from PIL import Image, ImageDraw, ImageFont

_CANNOT_TELL = "cannot tell"
_GREY = (112, 112, 112)  # of stretches without a label
_INK, _PAPER = (235, 235, 235), (24, 24, 24)
_LINES = 20  # of text, in the shorter side of a frame
_NAMED = ("blue", "orange", "green", "red", "purple", "brown", "pink", "olive", "cyan")  # of matplotlib's "tab:"
_SMALLEST = 10  # pixels of letters
_GOLDEN = 0.618  # of the circle of hues, from one colour to the next

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Stretch:
    """A label for some seconds, up to the next stretch.

    Attributes:
        start: seconds.
        label: None where nobody can tell.
        confidence: in [0, 1]; None without a label.
    """

    start: float
    label: str | None
    confidence: float | None


class LabelStrip:
    """The strip of a video: the label of the moment, all labels as colours along the width, and their names.

    Args:
        stretches: in the order of time, at least one; the first holds from the start, the last to the end.
        seconds: that the video lasts.
        height, width: pixels of a frame, to which as many rows are added as `rows` says.
    """

    def __init__(self, stretches: Sequence[Stretch], seconds: float, height: int, width: int):
        self.stretches, self.width = list(stretches), width
        self.starts = np.array([stretch.start for stretch in stretches])
        self.seconds = max(seconds, 1e-3)
        self.letters = max(min(height, width) // _LINES, _SMALLEST)
        self.line = round(self.letters * 1.6)
        self.rows = 3 * self.line
        self.rows += (height + self.rows) % 2  # an odd side loses its last row in the codec
        self.colours = self._colours()
        self.paper = self._paper()
        self.said: tuple[int, np.ndarray] | None = None

    def at(self, instant: float) -> np.ndarray:
        """The strip of an instant (seconds): uint8 ``[rows, W, 3]``."""
        strip = self._named(self._number(instant)).copy()
        x = min(int(instant / self.seconds * self.width), self.width - 1)
        wide = max(self.letters // 8, 1)
        mark = strip[self.line - wide : 2 * self.line + wide]
        mark[:, max(x - 2 * wide, 0) : x + 2 * wide + 1] = _PAPER
        mark[:, max(x - wide, 0) : x + wide + 1] = _INK
        return strip

    def _named(self, number: int) -> np.ndarray:
        """The strip of a stretch, which says its label; the last one is kept, for most frames show that of before."""
        if self.said is None or self.said[0] != number:
            stretch, strip = self.stretches[number], self.paper.copy()
            words = _CANNOT_TELL if stretch.label is None else f"{stretch.label} {stretch.confidence:.2f}"
            self._write(strip, 0, [(self._colour(stretch.label), words)])
            self.said = number, strip
        return self.said[1]

    def _number(self, instant: float) -> int:
        return max(int(np.searchsorted(self.starts, instant, "right")) - 1, 0)

    def _colours(self) -> dict[str, Colour]:
        """A colour for each label, those that last longest first: what stands out most differs most."""
        ends = [*self.starts[1:], max(self.seconds, self.starts[-1])]
        lasts: dict[str, float] = {}
        for stretch, end in zip(self.stretches, ends, strict=True):
            if stretch.label is not None:
                lasts[stretch.label] = lasts.get(stretch.label, 0.0) + end - stretch.start
        return {label: _colour(place) for place, label in enumerate(sorted(lasts, key=lambda label: -lasts[label]))}

    def _colour(self, label: str | None) -> Colour:
        return _GREY if label is None else self.colours[label]

    def _paper(self) -> np.ndarray:
        """What of the strip does not change: ``[rows, W, 3]``."""
        paper = np.empty((self.rows, self.width, 3), np.uint8)
        paper[:] = _PAPER
        instants = (np.arange(self.width) + 0.5) / self.width * self.seconds
        along = [self._colour(self.stretches[self._number(instant)].label) for instant in instants]
        paper[self.line : 2 * self.line] = np.array(along, np.uint8)
        names = [(_GREY, _CANNOT_TELL)] if any(stretch.label is None for stretch in self.stretches) else []
        names += [(colour, label) for label, colour in self.colours.items()]
        self._write(paper, 2 * self.line, names)
        return paper

    def _write(self, strip: np.ndarray, top: int, names: Sequence[tuple[Colour, str]]) -> None:
        """Names in a line, each beside a square of its colour; how many more there are, where the line is too short."""
        font, gap = _font(self.letters), self.letters // 2
        image = Image.fromarray(strip[top : top + self.line])
        draw = ImageDraw.Draw(image)
        x = gap
        for place, (colour, name) in enumerate(names):
            rest = f"+{len(names) - place - 1}" if place < len(names) - 1 else ""
            room = self.width - x - self.letters - 2 * gap - (font.getlength(rest) + gap if rest else 0)
            if place and font.getlength(name) > room:
                draw.text((x, self.line / 2), f"+{len(names) - place}", _INK, font, "lm")
                break
            square = (self.line - self.letters) // 2
            draw.rectangle((x, square, x + self.letters - 1, square + self.letters - 1), colour)
            x += self.letters + gap
            draw.text((x, self.line / 2), _shortened(name, font, room), _INK, font, "lm")
            x += round(font.getlength(name)) + 2 * gap
        strip[top : top + self.line] = np.asarray(image)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """A text of one line that is no wider than some pixels, its end left out."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…" if text else ""


def _colour(place: int) -> Colour:
    """Nine that are told apart with ease, none of them grey; from then on hues, each far from the one before."""
    rgb = to_rgb(f"tab:{_NAMED[place]}") if place < len(_NAMED) else hsv_to_rgb((place * _GOLDEN % 1, 0.55, 0.95))
    red, green, blue = (round(255 * float(value)) for value in rgb)
    return red, green, blue
