"""One HTML file that holds everything it shows: text, tables, images and audio."""

import base64
import html
import re
import wave
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from zlib import crc32

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from avlearn.files import write_text
from avlearn.metrics.metric_result import HEADER, MetricResult

ImageLike = np.ndarray | Figure


class Page:
    """A report that grows from top to bottom and is saved as one file that links to nothing outside.

    Args:
        title: of the page and of the browser's tab.
        subtitle: a line below it.
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = title, subtitle
        self._body: list[str] = []
        self._sections: list[str] = []

    def section(self, title: str, text: str = "") -> None:
        """Begin a section; an empty line in the text parts paragraphs, `backquotes` mark code."""
        if self._sections:
            self._body.append("</section>")
        self._sections.append(title)
        number = len(self._sections)
        self._body.append(f'<section id="s{number}"><h2>{html.escape(title)}</h2>')
        self.text(text)

    def text(self, text: str) -> None:
        """Add paragraphs."""
        for paragraph in filter(None, (p.strip() for p in text.split("\n\n"))):
            self._body.append(f"<p>{_inline(paragraph)}</p>")

    def code(self, text: str) -> None:
        """Add what was typed, or printed."""
        self._body.append(f'<pre tabindex="0">{html.escape(text)}</pre>')

    def metrics(self, metrics: Sequence[MetricResult], caption: str = "") -> None:
        """Add a table of metrics, their references beside them; on a phone each becomes a block."""
        self._table(HEADER, [metric.cells() for metric in metrics], caption)

    def table(self, rows: Sequence[MetricResult] | Sequence[Mapping[str, object]], caption: str = "") -> None:
        """Add a table; on a phone each row becomes a block.

        Args:
            rows: metrics, or mappings from column to value. What a row lacks is left empty.
            caption: above the table.
        """
        if rows and isinstance(rows[0], MetricResult):
            self.metrics(rows, caption)
            return
        header = list(dict.fromkeys(key for row in rows for key in row))
        self._table(header, [[_cell(row.get(key)) for key in header] for row in rows], caption)

    def _table(self, header: Sequence[str], texts: Sequence[Sequence[str]], caption: str) -> None:
        aligned = [' class="n"' if all(map(_is_number, column)) else "" for column in zip(*texts, strict=True)]
        head = "".join(
            f'<th scope="col"{side}>{html.escape(name)}</th>' for name, side in zip(header, aligned, strict=True)
        )
        body = []
        for row in texts:
            cells = "".join(
                f'<td data-label="{html.escape(name)}"{side}>{_inline(cell)}</td>'
                for name, cell, side in zip(header, row, aligned, strict=True)
            )
            body.append(f"<tr>{cells}</tr>")
        said = f"<caption>{_inline(caption)}</caption>" if caption else ""
        self._body.append(f"<table>{said}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>")

    def image(self, image: ImageLike | Sequence[ImageLike], caption: str, alt: str = "") -> None:
        """Add an image, or several side by side where there is room.

        Args:
            image: uint8 ``[H, W]`` or ``[H, W, 3]``, a matplotlib figure, or a list of them.
            caption: below it.
            alt: for those who cannot see it; the caption by default.
        """
        images = list(image) if isinstance(image, list | tuple) else [image]
        drawn = [_image(one, alt or caption) for one in images]
        inside = f'<div class="row">{"".join(drawn)}</div>' if len(drawn) > 1 else drawn[0]
        self._body.append(f"<figure>{inside}<figcaption>{_inline(caption)}</figcaption></figure>")

    def audio(self, audio: np.ndarray, rate: int, caption: str) -> None:
        """Add a player for ``[S]`` or ``[C, S]`` in [-1, 1] at ``rate`` samples a second."""
        self._body.append(
            f"<figure>{_player('audio', _data('audio/wav', _wav(audio, rate)), caption)}"
            f"<figcaption>{_inline(caption)}</figcaption></figure>"
        )

    def cards(self, cards: Sequence[tuple[str, Sequence[tuple[str, object, str]]]]) -> None:
        """Add cards in a row that wraps: each a title and parts ``(kind, content, caption)``.

        Kinds: ``image`` (as in `image`), ``audio`` (``(samples, rate)`` as in `audio`), ``video``
        (path of an MP4), ``text``.
        """
        drawn = []
        for title, parts in cards:
            inside = "".join(_part(title, *part) for part in parts)
            drawn.append(f'<article class="card"><h3>{html.escape(title)}</h3>{inside}</article>')
        self._body.append(f'<div class="cards">{"".join(drawn)}</div>')

    def html(self) -> str:
        """The whole page."""
        links = "".join(
            f'<li><a href="#s{k}">{html.escape(title)}</a></li>' for k, title in enumerate(self._sections, 1)
        )
        contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if len(self._sections) > 2 else ""
        subtitle = f'<p class="subtitle">{_inline(self.subtitle)}</p>' if self.subtitle else ""
        end = "</section>" if self._sections else ""
        title = html.escape(self.title)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<header><h1>{title}</h1>{subtitle}{contents}</header>\n<main>\n"
            + "\n".join(self._body)
            + f"{end}\n</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the page; it appears whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        path = Path(path)
        write_text(path, self.html())
        return path


def _inline(text: str) -> str:
    """Escaped text with `code` marked."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


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


def _image(image: ImageLike, alt: str) -> str:
    alt = html.escape(alt)
    if isinstance(image, Figure):
        return _chart(image, alt)
    height, width = image.shape[:2]
    source = _data("image/jpeg", _jpeg(Image.fromarray(image)))
    return f'<img src="{source}" alt="{alt}" width="{width}" height="{height}">'


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "jpeg", quality=85, optimize=True)
    return buffer.getvalue()


def _chart(figure: Figure, alt: str) -> str:
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
    opening = f'<svg role="img" aria-label="{alt}" style="max-width:{width}px" '
    return drawn.replace("<svg ", opening, 1)


def _lighter(found: re.Match) -> str:
    """An opaque PNG inside a chart as a JPEG of a tenth of the size."""
    image = Image.open(BytesIO(base64.b64decode(found[1])))
    if image.mode == "RGBA" and image.getextrema()[3][0] < 255:
        return found[0]
    return _data("image/jpeg", _jpeg(image))


def _player(kind: str, source: str, label: str) -> str:
    more = " loop playsinline" if kind == "video" else ""
    label = html.escape(label)
    return f'<{kind} controls{more} preload="metadata" aria-label="{label}" src="{source}"></{kind}>'


def _part(title: str, kind: str, content: object, caption: str) -> str:
    """A part of a card; its title names what has no caption."""
    said = f"<p>{_inline(caption)}</p>" if caption else ""
    label = f"{title}: {caption}" if caption else title
    if kind == "image":
        return _image(content, label) + said
    if kind == "audio":
        return _player(kind, _data("audio/wav", _wav(*content)), label) + said
    if kind == "video":
        return _player(kind, _data("video/mp4", Path(content).read_bytes()), label) + said
    if kind == "text":
        return f"<p>{_inline(str(content))}</p>{said}"
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


# The browser itself refuses anything from outside the file.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

# One player at a time.
_SCRIPT = """
document.addEventListener('play', e => document.querySelectorAll('audio, video').forEach(
  a => { if (a !== e.target) a.pause() }), true)
"""

_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
