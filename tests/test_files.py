"""Names of files and how they are written."""

import os
from pathlib import Path

import pytest

from avlearn.errors import OutputError
from avlearn.files import check_output, in_bytes, printable, replacing, write_text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.mp4", "plain name.mp4"),
        ("été 日本.mp4", "été 日本.mp4"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines\t\x07", "two\\nlines\\t\\x07"),
        ("\u202egpm.4pm", "\\u202egpm.4pm"),
        (os.fsdecode(b"\xff.mp4"), "\\udcff.mp4"),
    ],
)
def test_control_characters_of_a_name_are_escaped(name: str, shown: str) -> None:
    assert printable(name) == printable(Path(name)) == shown


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt: full"), replacing(path) as part:
        part.write_text("half")
        raise OSError("full")
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_an_output_is_checked_before_the_work(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to(source)
    (tmp_path / "there.mp4").touch()
    assert check_output(tmp_path / "OUT.MP4", (".mp4",), [source]) == tmp_path / "OUT.MP4"
    assert check_output(tmp_path / "there.mp4", (".mp4",), [source], overwrite=True)
    for name, overwrite, reason in (
        ("out", False, r"must end in one of \.mkv, \.mp4"),
        ("out.xyz", False, "must end in one of"),
        ("no/out.mp4", False, "there is no folder"),
        ("in.mp4", True, "is the input"),
        ("link.mp4", True, "is the input"),
        ("there.mp4", False, "is there already"),
    ):
        with pytest.raises(OutputError, match=reason):
            check_output(tmp_path / name, (".mp4", ".mkv"), [source], overwrite)
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path)


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1840, "1.8 kB"), (2.5e8, "250 MB"), (3.2e12, "3200 GB")]
)
def test_sizes_are_told_in_words(size, said):
    assert in_bytes(size) == said
