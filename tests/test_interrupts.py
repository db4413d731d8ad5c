"""SIGTERM acts as Ctrl-C in every command, and each end has its exit code."""

import signal
import subprocess
import sys
import time

import pytest
import typer

from avlearn import cli
from avlearn.errors import DataError, DivergedError
from avlearn.interrupts import Terminated, handled_by, heed_terminate


@pytest.mark.parametrize(
    "error, code", [(DataError("x"), 2), (DivergedError("x"), 1), (KeyboardInterrupt(), 130), (Terminated(), 143)]
)
def test_each_end_has_its_exit_code(error, code, monkeypatch, capsys):
    def app(*_):
        raise error

    monkeypatch.setattr(cli, "app", app)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == code
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("end", "lines"), [(KeyboardInterrupt, 1), (lambda: typer.Exit(130), 0)])
def test_ctrl_c_within_a_command_is_told_once(end, lines, monkeypatch, capsys):
    def stopped() -> None:
        raise end()

    app = typer.Typer()
    app.command()(stopped)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["avlearn"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 130
    assert capsys.readouterr().err.count("avlearn: stopped") == lines


def test_sigterm_is_raised_where_it_arrives():
    before = signal.getsignal(signal.SIGTERM)
    try:
        heed_terminate()
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_given_back():
    heard = []
    before = signal.getsignal(signal.SIGINT)
    with handled_by(lambda number, frame: heard.append(number)):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGINT, signal.SIGTERM] and signal.getsignal(signal.SIGINT) is before


def test_a_command_that_is_told_to_end_leaves_nothing_half_done(tmp_path):
    words = [sys.executable, "-m", "avlearn", "world", str(tmp_path / "w"), "--clips", "500", "--workers", "1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("w/truth/*.json")):
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("avlearn: stopped")
    assert not list(tmp_path.rglob(".*"))
