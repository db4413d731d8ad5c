"""What is printed: no control character reaches a terminal, and a stream that takes no more is told in words."""

import io
import os
import pty
import shutil
import subprocess
import sys

import pytest

from avlearn import cli
from avlearn.data.manifest import Row, write_manifest
from avlearn.terminal import Terminal, aligned, progress_line

NASTY = "a\x1b[2Jb\x1b]0;title\x07c\nINJECTED\x9b31m\u202e.mp4"


def test_control_characters_are_escaped_and_lines_stay():
    taken = io.StringIO()
    print("one\ttwo\x1b[2J\r\x9b\u202e\nb\u00e4r", file=Terminal(taken))
    assert taken.getvalue() == "one\ttwo\\x1b[2J\\r\\x9b\\u202e\nb\u00e4r\n"


def test_what_a_stream_cannot_show_is_escaped():
    taken = io.BytesIO()
    stream = io.TextIOWrapper(taken, "ascii")
    print("b\u00e4r \udce4", file=Terminal(stream))
    assert taken.getvalue() == b"b\\xe4r \\udce4\n"


@pytest.mark.parametrize(
    "words", [["recipe", "list"], ["--help"], ["sync", "--help"], ["recipe", "show", "sync_world"]]
)
def test_a_full_disk_and_a_closed_pipe_behind_standard_output(words):
    command = [sys.executable, "-m", "avlearn", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "avlearn: error: cannot write to standard output: No space left on device\n"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_behind_standard_error_ends_nothing():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "avlearn", "probe", "none.mp4"]
        assert subprocess.run(command, stderr=full, check=False).returncode == 2


def test_a_home_that_cannot_be_written_is_not_told():
    code = "from avlearn.terminal import terminal\nwith terminal(): import avlearn.report.plots"
    environment = {**os.environ, "MPLCONFIGDIR": "/dev/null/none"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def nasty(small_world, tmp_path_factory):
    """A folder with a readable and a damaged file of such names, and a manifest of each."""
    folder = tmp_path_factory.mktemp("nasty\x1b[2J")
    shutil.copy(next((small_world / "clips").glob("*.mp4")), folder / NASTY)
    (folder / f"bad{NASTY}").write_text("hello")
    rows = [Row(folder / name, duration=4.0, labels=(name,)) for name in (NASTY, f"bad{NASTY}", f"gone{NASTY}")]
    write_manifest(rows, folder / "m.csv")
    write_manifest([Row(folder / f"bad{NASTY}", duration=4.0)] * 40, folder / "bad.csv")
    return folder


COMMANDS = [
    ["probe", "GOOD"],
    ["probe", "BAD"],
    ["sync", "GOOD"],
    ["sync", "FOLDER", "--workers", "1"],
    ["probe", "FOLDER", "--workers", "1"],
    ["classify", "FOLDER", "--workers", "1"],
    ["localize", "GOOD", "-o", "OUT.mp4"],
    ["flow", "GOOD", "-o", "OUT.mp4", "--method", "dis"],
    ["flow", "BAD", "--method", "BAD"],
    ["separate", "FOLDER", "-o", "OUT5", "--workers", "1"],
    ["separate", "GOOD", "-o", "OUT"],
    ["classify", "GOOD"],
    ["embed", "GOOD", "BAD", "-o", "OUT.npz"],
    ["explain", "MODEL", "BAD"],
    ["scan", "FOLDER", "-o", "OUT.csv", "--workers", "1"],
    ["prepare", "FOLDER/m.csv", "OUT2", "--workers", "1"],
    ["evaluate", "--data", "FOLDER/m.csv"],
    ["audit", "--data", "FOLDER/bad.csv"],
    ["probe", "--model", "MODEL", "--data", "FOLDER"],
    ["pretrain", "sync_world", "data.train=FOLDER/m.csv", "data.cache=false", "-o", "OUT3", "--dry-run"],
    ["pretrain", "BAD.yaml"],
    ["recipe", "show", "BAD"],
    ["models", "BAD"],
    ["models", "show", "BAD"],
    ["weights", "import", "BAD", "--as", "r3d_18", "-o", "OUT4"],
    ["weights", "list", "BAD"],
    ["world", "FOLDER", "--clips", "1"],
    ["sync", "GOOD", "--model", "BAD"],
    ["sync", "--BAD"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_passes_on_what_a_name_holds(nasty, untrained, tmp_path, monkeypatch, capfd, words):
    names = {
        "GOOD": nasty / NASTY, "BAD": nasty / f"bad{NASTY}", "FOLDER": nasty, "MODEL": untrained,
        "OUT": tmp_path / f"out{NASTY}",
    }  # fmt: skip
    for name, value in names.items():
        words = [word.replace(name, str(value)) for word in words]
    if (
        words[0] in ("sync", "localize", "separate", "classify", "embed", "evaluate", "audit")
        and "--model" not in words
    ):
        words += ["--model", str(untrained)]
    monkeypatch.setattr(sys, "argv", ["avlearn", *words])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", write_through=True))
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    said = "".join(capfd.readouterr())
    assert code in (0, 1, 2, 3), said
    assert "Traceback" not in said
    assert said
    assert not [c for c in said if c != "\n" and not c.isprintable()]
    assert not [line for line in said.splitlines() if line.startswith("INJECTED")], said


def test_columns_are_as_wide_as_what_is_seen_of_their_cells():
    said = aligned(("name", "n", "what"), [("日本", "1", "x" * 30), ("[red]", "22")], width=20)
    assert said.splitlines() == [
        "name   n   what",
        "-----  --  ---------",
        "日本   1   xxxxxxxx…",
        "[red]  22",
    ]


def test_progress_is_a_line_every_tenth_where_nobody_looks(capsys):
    with progress_line("rendering") as say:
        for k in range(101):
            say(k, 100)
    assert capsys.readouterr().err.splitlines() == [f"rendering {k}/100" for k in range(0, 101, 10)]


def test_progress_is_a_bar_on_a_terminal_which_has_its_cursor_back(tmp_path):
    code = "from avlearn.terminal import *\nwith progress_line('rendering') as say:\n    say(1, 3)\n    say(3, 3)\n"
    master, slave = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=slave, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "rendering" in shown and "3/3" in shown and shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
