import base64
import io
import re
import shutil
import subprocess
import wave
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avlearn.errors import OutputError
from avlearn.media import write_video
from avlearn.metrics import MetricResult
from avlearn.report import Page
from avlearn.report.plots import (
    confusion,
    heatmap_frames,
    offset_curve,
    spectrogram,
    training_curves,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip
# A window can be no narrower than 500 pixels; a frame inside it can.
PHONE = 390


def demo(video: Path) -> Page:
    """A page with everything that a run's report holds, of made-up arrays."""
    rng = np.random.default_rng(0)
    page = Page("A made-up run", "Trained on 1,000 clips of a synthetic world for 12 core-minutes, seed 0")
    page.section("Training", "Loss and accuracy over steps.\n\nEvaluate with `avlearn evaluate --model M`.")
    rows = [
        {"step": s, "loss": 5 * np.exp(-s / 80) + 1 + rng.normal() / 5, "lr": 1e-3 * (1 - s / 600),
         "offset_within_1": 1 - np.exp(-s / 90), "skipped": 0}
        for s in range(0, 600, 5)
    ]  # fmt: skip
    rows += [
        {
            "step": s,
            "val_loss": 5 * np.exp(-s / 90) + 1.2,
            "val_offset_within_1": 1 - np.exp(-s / 99),
        }
        for s in range(50, 600, 50)
    ]
    page.image(training_curves(rows), "Training clips and held-out clips", alt="Loss falls from 6 to 1")
    page.section("Metrics", "Each beside what guessing, a trivial method and a perfect one would get.")
    page.metrics(
        [
            MetricResult("sync", "aligned over shifted (2AFC)", 0.991, 0.5, 0.5, "one input only", 1.0, 400),
            MetricResult(
                "sync",
                "median offset error",
                18.0,
                390.0,
                80.0,
                "always in sync",
                0.0,
                400,
                "ms",
                False,
            ),
            MetricResult(
                "localization",
                "sounding over silent, twin",
                0.98,
                0.5,
                0.53,
                "loudest motion",
                1.0,
                200,
            ),
            MetricResult(
                "separation",
                "SI-SDRi, different classes",
                10.77,
                -8.2,
                0.0,
                "mixture",
                22.5,
                240,
                "dB",
            ),
        ],
        caption="Held-out clips",
    )
    page.table([{"file": "clips/000017.mp4", "verdict": "audio leads by 120 ms", "confidence": 0.93}])
    page.section("Synchronization")
    offsets = np.arange(-20, 21) * 0.04
    scores = np.exp(-np.square(offsets - 0.12) / 0.005)
    scores[:3] = np.nan
    page.image(offset_curve(offsets, scores, 0.12), "Similarity over offsets of one clip")
    page.section("Localization")
    grid = np.linspace(0, 255, 96)
    frames = np.stack([np.add.outer(grid, grid * k / 6) % 256 for k in range(6)])
    frames = np.repeat(frames[..., None], 3, -1).astype(np.uint8)
    maps = np.zeros((6, 8, 8))
    maps[np.arange(6), 2 + np.arange(6) // 2, 1 + np.arange(6)] = 1
    corner = np.stack([12 + 12 * np.arange(6), 24 + 12 * (np.arange(6) // 2)], 1)
    boxes = np.concatenate([corner, corner + 12], 1).astype(float)
    page.image(
        heatmap_frames(frames, maps, boxes, columns=3),
        "Where the sound comes from <truth in white>",
    )
    page.section("Separation")
    t = np.arange(4 * 16000) / 16000
    low = 0.4 * np.sin(2 * np.pi * 330 * t) * (np.sin(2 * np.pi * 1.3 * t) > 0)
    high = 0.3 * np.sin(2 * np.pi * (1800 + 900 * np.sin(2 * np.pi * t)) * t / 2)
    tracks = {
        "Mixture": low + high,
        "Track 1": low,
        "Track 2": high,
        "Residual": 0.01 * rng.normal(size=t.size),
    }
    page.cards(
        [
            (
                name,
                [
                    ("image", spectrogram(audio, 16000), ""),
                    ("audio", (audio, 16000), "31 % of the energy"),
                    ("text", "from 20% across", ""),
                ],
            )
            for name, audio in tracks.items()
        ]
    )
    page.cards([("Overlay", [("video", video, "`avlearn localize`")])])
    page.section("Recognition")
    names = ["ball", "bell", "drum", "fan", "mouth", "shaker", "siren", "string"]
    page.image(confusion(rng.integers(0, 6, (8, 8)) + 20 * np.eye(8, dtype=int), names), "Test clips")
    page.audio(np.stack([low, high]), 16000, "Left and right")
    page.code("avlearn sync FILE --model runs/quickstart/model --fix FIXED.mp4 --json - --max-offset 1")
    return page


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "overlay.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    write_video(path, frames.repeat(12, 1).repeat(12, 2), 10.0)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory, video) -> Path:
    return demo(video).save(tmp_path_factory.mktemp("page") / "report.html")


def chromium(folder: Path, *arguments: str) -> str:
    if CHROMIUM is None:
        pytest.skip("needs chromium on the PATH")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_page_holds_all_it_shows_and_is_small(saved):
    text = saved.read_text()
    assert saved.stat().st_size < 2_000_000
    assert len(re.findall("<svg", text)) == 3 + 1 + 4 + 1
    assert len(re.findall("<audio", text)) == 5
    addresses = re.findall(r'(?:src|href)="([^"]{0,40})', text)
    assert addresses and all(a.startswith(("data:", "#")) for a in addresses)
    assert not re.findall(r"url\((?!#)", text)
    assert "default-src 'none'" in text


def test_names_are_unique_and_every_reference_has_one(saved):
    text = saved.read_text()
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    wanted = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    assert wanted <= set(names)


def test_text_is_escaped_and_images_have_words(saved):
    text = saved.read_text()
    assert "&lt;truth in white&gt;" in text and "<truth" not in text
    assert "<code>avlearn evaluate --model M</code>" in text
    assert 'aria-label="Loss falls from 6 to 1"' in text
    assert all('alt="' in tag for tag in re.findall("<img[^>]*>", text))
    assert all('aria-label="' in tag for tag in re.findall("<(?:audio|video)[^>]*>", text))
    assert "<code>avlearn localize</code>" in text


def test_rows_of_any_kind_make_a_table():
    page = Page("t")
    page.table([{"a": 0.123456, "b": True}, {"a": None, "c": "<x>"}])
    cells = re.findall(r'<td data-label="(\w)"[^>]*>([^<]*)</td>', page.html())
    assert cells == [
        ("a", "0.1235"),
        ("b", "yes"),
        ("c", ""),
        ("a", ""),
        ("b", ""),
        ("c", "&lt;x&gt;"),
    ]
    assert '<th scope="col" class="n">a</th>' in page.html()
    with pytest.raises(ValueError, match="kind"):
        page.cards([("x", [("smell", None, "")])])


def test_audio_comes_back_as_it_went_in(tmp_path):
    page = Page("t")
    audio = np.stack([np.linspace(-1.5, 1.5, 800), np.zeros(800)])
    page.audio(audio, 8000, "x")
    content = base64.b64decode(re.search(r"audio/wav;base64,([^\"]+)", page.html())[1])
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 8000, 2)
        back = np.frombuffer(file.readframes(800), "<i2").reshape(-1, 2).T / 32767
    np.testing.assert_allclose(back, np.clip(audio, -1, 1), atol=1 / 32767)


def test_templates_lie_in_the_package_and_escape_what_they_are_given():
    templates = resources.files("avlearn.report") / "templates"
    assert {"blocks.html", "page.css", "page.html"} <= {entry.name for entry in templates.iterdir()}
    assert (templates / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    page = Page("<i>title", "<i>`<i>sub`")
    page.text("<i>lead")
    page.section("<i>section", "<i>text\n\n`<i>code`")
    page.code("<i>typed")
    page.table([{"<i>column": "<i>cell `<i>`"}], "<i>caption")
    page.image(np.zeros((4, 5), np.uint8), "<i>caption", '"<i>')
    page.audio(np.zeros(8), 8000, '"<i>')
    page.cards([("<i>card", [("text", "<i>text", '"<i>')])])
    text = page.html()
    assert "<i>" not in text and "&amp;" not in text
    assert "<code>&lt;i&gt;sub</code>" in text and "<code>&lt;i&gt;code</code>" in text
    assert text.count("&#34;&lt;i&gt;") == 4  # a quote ends no attribute: alt, label and two captions


def test_same_page_is_the_same_file(saved, video):
    assert demo(video).html() == saved.read_text()


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        Page("t").save(tmp_path / "nowhere" / "x.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError):
        Page("t").save(tmp_path / "folder.html")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.html"]


@pytest.mark.parametrize("width", [1280, PHONE])
def test_nothing_sticks_out_in_a_browser(saved, tmp_path, width):
    """The page in a frame of that width says how wide it wants to be, and what did not load."""
    probe = """<script>addEventListener('load', () => setTimeout(() => parent.postMessage([
      innerWidth, document.documentElement.scrollWidth,
      [...document.images].filter(i => !i.complete || !i.naturalWidth).length,
      [...document.querySelectorAll('audio, video')].filter(a => !(a.duration > 0)).length,
      [...document.querySelectorAll('svg text')].filter(
        t => t.getBoundingClientRect().height < 7).length,
      [...document.querySelectorAll('body *')].filter(e => !e.closest('thead')
        && !e.closest('pre') && e.getBoundingClientRect().right > innerWidth + 1).length,
    ].join(' '), '*'), 500))</script></body>"""
    (tmp_path / "page.html").write_text(saved.read_text().replace("</body>", probe))
    (tmp_path / "frame.html").write_text(
        "<!doctype html><body style='margin:0'><p id=said>nothing</p>"
        "<script>onmessage = e => said.textContent = 'says ' + e.data</script>"
        f"<iframe src='page.html' style='border:0;width:{width}px;height:900px'></iframe>"
    )
    dom = chromium(
        tmp_path, "--window-size=1400,1000", "--virtual-time-budget=8000", "--dump-dom",
        (tmp_path / "frame.html").as_uri(),
    )  # fmt: skip
    said = re.search("says ([0-9 ]+)", dom)
    assert said, dom[-2000:]
    inner, wanted, no_image, no_player, tiny, outside = map(int, said[1].split())
    assert inner == width and wanted <= width
    assert (no_image, no_player, tiny, outside) == (0, 0, 0, 0)


def test_browser_paints_the_page(saved, tmp_path):
    shot = tmp_path / "shot.png"
    chromium(tmp_path, f"--screenshot={shot}", "--window-size=1280,1000", saved.as_uri())
    painted = np.asarray(Image.open(shot).convert("RGB"))
    assert painted.shape == (1000, 1280, 3)
    assert len(np.unique(painted.reshape(-1, 3), axis=0)) > 100
