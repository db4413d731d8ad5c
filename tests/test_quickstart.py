"""The quickstart's page: one file, whole, and readable in a browser at desktop and phone width."""

import json
import os
import re
import shutil
import subprocess

import pytest

from avlearn.errors import OutputError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A quickstart of six seconds, which has the least of everything: what it learns does not matter here."""
    from avlearn.quickstart import quickstart

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 1)  # other tests run beside it
        return quickstart(tmp_path_factory.mktemp("quick") / "run", minutes=0.1)


@pytest.mark.slow
def test_the_page_is_whole_and_fetches_nothing(report):
    page = report.read_text()
    for title in ("Metrics", "Training", "Synchronization", "Localization", "Separation", "Recognition"):
        assert f">{title}<" in page
    assert "<audio" in page and "<video" in page
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", page)
    assert report.stat().st_size < 6_000_000
    for tool in ("sync", "localize", "separate", "classify"):  # with the model that the page is about
        assert f"avlearn {tool} FILE --model {report.parent}/model" in page
    assert ("The clock allowed only" in page) == bool(progress_of(report.parent)["cut"])
    metrics = json.loads((report.parent / "figures.json").read_text())
    assert {f["task"] for f in metrics["figures"]} >= {"sync", "retrieval", "localization", "separation"}


@pytest.mark.slow
def test_a_quickstart_that_was_stopped_goes_on(report, monkeypatch):
    from avlearn import quickstart as module

    run = report.parent
    report.rename(run / "first.html")
    before = progress_of(run)
    try:
        for made in ("make_world", "pretrain", "add_classifiers"):
            monkeypatch.setattr(module, made, None)  # all of this is there
        assert module.quickstart(run, minutes=0.1) == report and report.exists()
        assert progress_of(run) == before
        report.unlink()
        with pytest.raises(OutputError, match=r"has a quickstart of --minutes 0\.1 --seed 0"):
            module.quickstart(run, minutes=2)
    finally:
        (run / "first.html").rename(report)


def progress_of(run) -> dict:
    return json.loads((run / "quickstart.json").read_text())


@pytest.mark.slow
def test_a_second_run_into_the_folder_is_refused(report):
    from avlearn.quickstart import quickstart

    with pytest.raises(OutputError, match="already"):
        quickstart(report.parent)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_without_sideways_scrolling(report, tmp_path, width):
    # Headless Chromium has no window narrower than 500 pixels: a frame stands in for the phone.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<iframe id=f src='file://{report}' style='width:{width}px;height:900px;border:0'></iframe><p id=said>"
        "<script>f.onload=()=>{const d=f.contentDocument.documentElement;"
        "said.textContent='widths '+d.scrollWidth+' '+d.clientWidth+' images '+"
        "[...f.contentDocument.images].every(i=>i.naturalWidth>0)}</script>"
    )
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    done = subprocess.run(
        [CHROMIUM, *flags.split(), "--allow-file-access-from-files", f"--user-data-dir={tmp_path}/profile",
         "--virtual-time-budget=8000", "--window-size=1400,1000", "--dump-dom", f"file://{frame}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r"widths (\d+) (\d+) images (\w+)", done.stdout)
    assert found, done.stderr[-500:]
    assert int(found[1]) <= int(found[2])
    assert found[3] == "true"
