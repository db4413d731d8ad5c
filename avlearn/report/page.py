"""One HTML file that holds everything it shows: text, tables, images and audio."""

import base64
import re
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, cast
from zlib import crc32

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from avlearn.files import write_text
from avlearn.metrics.metric_result import HEADER, MetricResult

ImageLike = np.ndarray | Figure


@dataclass
class _Section:
    title: str
    blocks: list[Markup] = field(default_factory=list)


class Page:
    """A report that grows from top to bottom and is saved as one file that links to nothing outside.

    Args:
        title: of the page and of the browser's tab.
        subtitle: a line below it.
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = title, subtitle
        self._lead: list[Markup] = []  # ahead of the first section
        self._sections: list[_Section] = []

    def _add(self, block: Markup) -> None:
        (self._sections[-1].blocks if self._sections else self._lead).append(block)

    def section(self, title: str, text: str = "") -> None:
        """Begin a section; an empty line in the text parts paragraphs, `backquotes` mark code."""
        self._sections.append(_Section(title))
        self.text(text)

    def text(self, text: str) -> None:
        """Add paragraphs."""
        self._add(_BLOCKS.text(text))

    def code(self, text: str) -> None:
        """Add what was typed, or printed."""
        self._add(_BLOCKS.code(text))

    def metrics(self, metrics: Sequence[MetricResult], caption: str = "") -> None:
        """Add a table of metrics, their references beside them; on a phone each becomes a block."""
        self._table(HEADER, [metric.cells() for metric in metrics], caption)

    def table(self, rows: Sequence[Mapping[str, object]], caption: str = "") -> None:
        """Add a table; on a phone each row becomes a block.

        Args:
            rows: mappings from column to value. What a row lacks is left empty.
            caption: above the table.
        """
        header = list(dict.fromkeys(key for row in rows for key in row))
        self._table(header, [[_cell(row.get(key)) for key in header] for row in rows], caption)

    def _table(self, header: Sequence[str], texts: Sequence[Sequence[str]], caption: str) -> None:
        numeric = [all(map(_is_number, column)) for column in zip(*texts, strict=True)]
        self._add(_BLOCKS.table(header, texts, numeric, caption))

    def image(self, image: ImageLike | Sequence[ImageLike], caption: str, alt: str = "") -> None:
        """Add an image, or several side by side where there is room.

        Args:
            image: uint8 ``[H, W]`` or ``[H, W, 3]``, a matplotlib figure, or a list of them.
            caption: below it.
            alt: for those who cannot see it; the caption by default.
        """
        images = [image] if isinstance(image, np.ndarray | Figure) else list(image)
        self._add(_BLOCKS.figure([_image(one, alt or caption) for one in images], caption))

    def audio(self, audio: np.ndarray, rate: int, caption: str) -> None:
        """Add a player for ``[S]`` or ``[C, S]`` in [-1, 1] at ``rate`` samples a second."""
        self._add(_BLOCKS.figure([_audio(audio, rate, caption)], caption))

    def cards(self, cards: Sequence[tuple[str, Sequence[tuple[str, Any, str]]]]) -> None:
        """Add cards in a row that wraps: each a title and parts ``(kind, content, caption)``.

        Kinds: ``image`` (as in `image`), ``audio`` (``(samples, rate)`` as in `audio`), ``video``
        (path of an MP4), ``text``.
        """
        shown = [(title, [(_part(title, *part), part[2]) for part in parts]) for title, parts in cards]
        self._add(_BLOCKS.cards(shown))

    def html(self) -> str:
        """The whole page."""
        return _TEMPLATES.get_template("page.html").render(
            title=self.title, subtitle=self.subtitle, lead=self._lead, sections=self._sections
        )

    def save(self, path: str | Path) -> Path:
        """Write the page; it appears whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        path = Path(path)
        write_text(path, self.html())
        return path


def _inline(text: str) -> Markup:
    """Escaped text with `code` marked."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _paragraphs(text: str) -> list[str]:
    return [part for part in (part.strip() for part in text.split("\n\n")) if part]


_TEMPLATES = Environment(
    loader=PackageLoader("avlearn.report"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
)
_TEMPLATES.filters |= {"inline": _inline, "paragraphs": _paragraphs}


class _Blocks(Protocol):
    """The macros of ``blocks.html``."""

    def cards(self, cards: Sequence[tuple[str, Sequence[tuple[Markup, str]]]]) -> Markup: ...
    def code(self, text: str) -> Markup: ...
    def figure(self, parts: Sequence[Markup], caption: str) -> Markup: ...
    def image(self, source: str, alt: str, width: int, height: int) -> Markup: ...
    def player(self, kind: str, source: str, label: str) -> Markup: ...
    def table(
        self, header: Sequence[str], texts: Sequence[Sequence[str]], numeric: Sequence[bool], caption: str
    ) -> Markup: ...
    def text(self, text: str) -> Markup: ...


_BLOCKS = cast(_Blocks, _TEMPLATES.get_template("blocks.html").module)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _is_number(text: str) -> bool:
    return bool(re.match(r"^([-+]?\d|-?$|[-+]?(inf|nan)\b)", text))


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _image(image: ImageLike, alt: str) -> Markup:
    if isinstance(image, Figure):
        return _chart(image, alt)
    height, width = image.shape[:2]
    return _BLOCKS.image(_data("image/jpeg", _jpeg(Image.fromarray(image))), alt, width, height)


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "jpeg", quality=85, optimize=True)
    return buffer.getvalue()


def _chart(figure: Figure, alt: str) -> Markup:
    """A figure as inline SVG: sharp at any size, and black takes the page's ink."""
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "avlearn"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue().decode()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"(fill|stroke): (#000000|black)\b", r"\1: currentColor", drawn)
    drawn = re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", _lighter, drawn)
    width = round(figure.get_figwidth() * 96)
    # Names are unique within a chart only; several charts share the page.
    salt = f"c{crc32(drawn.encode()):08x}-"
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{salt}\1"', drawn)
    drawn = re.sub(r'(href="#|url\(#)', rf"\g<1>{salt}", drawn)
    opening = f'<svg role="img" aria-label="{escape(alt)}" style="max-width:{width}px" '
    return Markup(drawn.replace("<svg ", opening, 1))  # matplotlib escapes the texts in it


def _lighter(found: re.Match[str]) -> str:
    """An opaque PNG inside a chart as a JPEG of a tenth of the size."""
    image = Image.open(BytesIO(base64.b64decode(found[1])))
    if image.mode == "RGBA" and np.asarray(image)[..., 3].min() < 255:
        return str(found[0])
    return _data("image/jpeg", _jpeg(image))


def _audio(audio: np.ndarray, rate: int, label: str) -> Markup:
    return _BLOCKS.player("audio", _data("audio/wav", _wav(audio, rate)), label)


def _part(title: str, kind: str, content: Any, caption: str) -> Markup:
    """A part of a card; its title names what has no caption."""
    label = f"{title}: {caption}" if caption else title
    if kind == "image":
        return _image(content, label)
    if kind == "audio":
        samples, rate = content
        return _audio(samples, rate, label)
    if kind == "video":
        return _BLOCKS.player(kind, _data("video/mp4", Path(content).read_bytes()), label)
    if kind == "text":
        return _BLOCKS.text(str(content))
    raise ValueError(f"a card has no part of kind {kind!r}")


def _wav(audio: np.ndarray, rate: int) -> bytes:
    """16-bit WAV; what goes beyond full scale is clipped."""
    samples = np.atleast_2d(np.asarray(audio, np.float32))
    scaled = np.round(np.clip(np.nan_to_num(samples), -1, 1) * 32767).astype("<i2")
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(scaled))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(scaled.T.tobytes())
    return buffer.getvalue()
