"""SIGTERM acts as Ctrl-C in every command, and each end has its exit code."""

import signal
import subprocess
import sys
import time

import pytest
import typer
from commands import Command

from avlearn import cli
from avlearn.errors import DataError, DivergedError
from avlearn.interrupts import Terminated, handled_by, raise_on_signals, undisturbed


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
        raise_on_signals()
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_an_import_makes_of_an_order_to_end_is_not_told(number, code, monkeypatch, capsys):
    def app(*_):
        try:
            signal.raise_signal(number)
        except BaseException:
            raise ImportError("cannot load module more than once per process") from None

    monkeypatch.setattr(cli, "app", app)
    before = {other: signal.getsignal(other) for other in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
        monkeypatch.setattr(cli, "app", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # is ours, and no order came since
            cli.main()
    finally:
        for other, handler in before.items():
            signal.signal(other, handler)
    assert caught.value.code == code and capsys.readouterr().err == "avlearn: stopped\n"


def test_a_name_beyond_the_locale_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda *_: "\xe9".encode("ascii"))
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 2 and "names are ascii here" in capsys.readouterr().err


def test_the_server_that_forks_takes_no_orders():
    code = (
        "import signal; from multiprocessing import forkserver\n"
        "from avlearn.data.processes import start_server\n"
        "if __name__ == '__main__':\n"
        "    start_server('json')\n"
        "    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGINT, signal.SIGTERM}\n"
        "    status = open(f'/proc/{forkserver._forkserver._forkserver_pid}/status').read()\n"
        "    blocked = int(status.split('SigBlk:')[1].split()[0], 16)\n"
        "    assert blocked >> signal.SIGINT - 1 & blocked >> signal.SIGTERM - 1 & 1, hex(blocked)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_order_to_end_waits_where_it_is_to():
    before = signal.getsignal(signal.SIGTERM)
    done = False
    try:
        raise_on_signals()
        with pytest.raises(Terminated), undisturbed():
            signal.raise_signal(signal.SIGTERM)
            done = True
        assert done
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
    process = Command("world", tmp_path / "w", "--clips", "500", "--workers", "1")
    while process.poll() is None and not list(tmp_path.glob("w/truth/*.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("avlearn: stopped")
    assert not list(tmp_path.rglob(".*"))
