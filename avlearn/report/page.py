"""One self-contained HTML page: text, tables, pictures and players, nothing fetched from elsewhere."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from avlearn.errors import OutputError
from avlearn.metrics.figure import HEADER, Figure

_STYLE = """
:root{--ink:#1b1f24;--soft:#5b6470;--line:#d9dee5;--back:#fbfbfa;--card:#fff;--good:#0b7a4b}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#9aa4b1;--line:#333a44;--back:#14171b;
--card:#1c2026;--good:#5fd3a0}img{background:#fff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1rem 4rem;max-width:64rem;font:16px/1.55 system-ui,sans-serif;
color:var(--ink);background:var(--back)}
h1{font-size:1.9rem;line-height:1.2;margin:0}h2{margin:2.6rem 0 .4rem;font-size:1.25rem}
p{margin:.4rem 0 .9rem;max-width:46rem}.soft,figcaption{color:var(--soft);font-size:.88rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem;width:100%}
th,td{text-align:left;padding:.32rem .7rem .32rem 0;border-bottom:1px solid var(--line);
white-space:nowrap}th{color:var(--soft);font-weight:600}td.value{font-weight:700;color:var(--good)}
figure{margin:1rem 0}img{max-width:100%;height:auto;display:block;border-radius:6px}
.cards{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,17rem),1fr))}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.8rem;min-width:0}
.card h3{margin:0 0 .5rem;font-size:.95rem}.card figure{margin:.3rem 0}
audio,video{width:100%;display:block}pre{overflow-x:auto;font-size:.82rem;padding:.8rem;
background:var(--card);border:1px solid var(--line);border-radius:8px}
"""


class Page:
    """A report that grows from top to bottom.

    Args:
        title: of the page.
        subtitle: a line beneath.
    """

    def __init__(self, title: str, subtitle: str):
        self.title = title
        self.parts = [f"<h1>{escape(title)}</h1><p class=soft>{escape(subtitle)}</p>"]

    def section(self, title: str, text: str = "") -> None:
        """A heading and a paragraph."""
        self.parts.append(f"<h2>{escape(title)}</h2>")
        if text:
            self.parts.append(f"<p>{escape(text)}</p>")

    def code(self, text: str) -> None:
        """What was typed, or printed."""
        self.parts.append(f"<pre>{escape(text)}</pre>")

    def figures(self, figures: Sequence[Figure]) -> None:
        """A table of figures with their references."""
        rows = ["<tr>" + "".join(f"<th>{escape(h)}</th>" for h in HEADER) + "</tr>"]
        for figure in figures:
            cells = [f"<td>{escape(c)}</td>" for c in figure.cells()]
            cells[2] = f"<td class=value>{escape(figure.cells()[2])}</td>"
            rows.append("<tr>" + "".join(cells) + "</tr>")
        self.parts.append(f"<div class=scroll><table>{''.join(rows)}</table></div>")

    def image(self, image: np.ndarray, caption: str) -> None:
        """uint8 ``[H, W, 3]`` with a caption, which is its text for those who do not see it too."""
        self.parts.append(_image(image, caption))

    def cards(self, cards: Sequence[tuple[str, Sequence[tuple[str, object, str]]]]) -> None:
        """A grid of cards: each a title and ``(kind, content, caption)`` parts.

        Kinds: ``image`` (uint8 array), ``audio`` (``(samples [S], rate)``), ``video`` (path of an MP4), ``text``.
        """
        inner = []
        for title, parts in cards:
            body = "".join(_part(kind, content, caption) for kind, content, caption in parts)
            inner.append(f"<div class=card><h3>{escape(title)}</h3>{body}</div>")
        self.parts.append(f"<div class=cards>{''.join(inner)}</div>")

    def html(self) -> str:
        """The page."""
        return (
            "<!doctype html><html lang=en><head><meta charset=utf-8>"
            "<meta name=viewport content='width=device-width,initial-scale=1'>"
            f"<title>{escape(self.title)}</title><style>{_STYLE}</style></head>"
            f"<body>{''.join(self.parts)}</body></html>"
        )

    def save(self, path: Path) -> None:
        """Write the page. Raises OutputError."""
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_text(self.html(), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _image(image: np.ndarray, caption: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "webp", quality=85)
    source = _data("image/webp", buffer.getvalue())
    return (
        f"<figure><img alt='{escape(caption, quote=True)}' src='{source}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _part(kind: str, content: object, caption: str) -> str:
    if kind == "image":
        return _image(content, caption)
    if kind == "audio":
        samples, rate = content
        buffer = io.BytesIO()
        soundfile.write(buffer, np.clip(samples, -1, 1), rate, "PCM_16", format="WAV")
        tag = f"<audio controls src='{_data('audio/wav', buffer.getvalue())}'></audio>"
    elif kind == "video":
        source = _data("video/mp4", Path(content).read_bytes())
        tag = f"<video controls loop playsinline src='{source}'></video>"
    else:
        tag = f"<p>{escape(str(content))}</p>"
    return f"{tag}<div class=soft>{escape(caption)}</div>" if caption else tag
