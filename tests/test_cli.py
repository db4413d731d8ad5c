"""The command line as its user meets it: help without torch, one line for what the user can mend."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run
from typer.testing import CliRunner

from avlearn.cli import app
from avlearn.errors import AvlearnError
from avlearn.media import read_clip, remux, write_video, write_wav

COMMANDS = [
    "quickstart",
    "world",
    "scan",
    "prepare",
    "adapt",
    "pretrain",
    "sync",
    "localize",
    "separate",
    "classify",
    "flow",
    "embed",
    "explain",
    "probe",
    "evaluate",
    "calibrate",
    "audit",
]


def test_help_names_every_command_and_needs_no_torch():
    code = (
        "import sys, avlearn, avlearn.cli\n"
        "try: avlearn.cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'av', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)
    assert "Start with: avlearn quickstart" in done.stdout.split("Options")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_gives_an_example(command):
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"avlearn {command}" in done.stdout.split("Options")[0]


def test_help_offers_the_best_track_only_where_a_model_listens():
    assert "N|LANG|best" in run("sync", "--help").stdout
    assert "best" not in run("probe", "--help").stdout


def test_help_says_what_a_fix_that_was_not_made_exits_with():
    assert "With --fix: 0 fixed, 2 not fixed" in " ".join(run("sync", "--help").stdout.split())


@pytest.mark.parametrize(
    "words",
    [
        *(
            [command, "none"]
            for command in ("sync", "localize", "separate", "classify", "flow", "probe", "scan", "pretrain")
        ),
        ["embed", "none", "nowhere"],
        ["prepare", "none", "out"],
        ["pretrain", "none.yaml"],
        ["probe", "--model", "default", "--data", "none"],
        ["evaluate", "--data", "none"],
        ["evaluate", "--data", ".", "--with", "none"],
        ["audit", "--data", "none"],
        ["calibrate", "--data", "none"],
        ["scan", ".", "--corpus", "ucf101", "--annotations", "none"],
        ["weights", "import", "none", "--as", "mc3_18", "-o", "made"],
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_told_before_anything_heavy_is_loaded(words):
    code = (
        "import sys; from avlearn.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "heavy = {'torch', 'av', 'numpy', 'pyarrow', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("avlearn: error: ") and done.stderr.count("\n") == 1 and "none" in done.stderr


def imported(*words: object) -> set[str]:
    """Packages that a command imported, whatever it ended with."""
    code = (
        "import sys; from avlearn.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code != 2, end.code\n"
        "print('\\nimported', *sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("words", [["models"], ["weights", "list"], ["recipe", "list"]], ids=" ".join)
def test_what_is_listed_is_listed_without_torch(words):
    assert not imported(*words) & {"torch", "av", "numpy", "scipy"}


@pytest.mark.parametrize("words", [["models"], ["recipe", "list"]], ids=" ".join)
def test_lists_fit_a_terminal_of_100_columns(words):
    lines = run(*words).stdout.splitlines()
    assert len(lines) > 15 and max(map(len, lines)) <= 100


def test_a_file_is_synchronized_without_the_networks_that_nobody_asked_for(small_world):
    loaded = imported("sync", next((small_world / "clips").glob("*.mp4")))
    assert "torch" in loaded
    assert not loaded & {"timm", "torchvision", "lightning", "sklearn", "matplotlib"}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "text.mp4").write_text("hello\n")
    write_video(folder / "mute.mp4", np.zeros((25, 64, 64, 3), np.uint8), 25)
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "sync_world", "modle.video=x"], "nearest is 'model'"),
        (["pretrain", "sync_wrld"], "nearest is 'sync_world'"),
        (["sync", "missing.mp4"], "does not exist"),
        (["sync", "mute.mp4"], "no audio"),
        (["sync", "none.txt"], "none.txt does not exist"),
        (["sync", "missing.mp4", "none.mp4"], "missing.mp4 does not exist, nor does the other"),
        (["sync", ".", "--fix", "fixed.mp4"], "give a folder's name"),
        (["models", "show", "x3d_s", "--clip", "4x"], "is no clip"),
        (["sync", "mute.mp4", "--drift"], "goes with --fix"),
        (["sync", "mute.mp4", "--crop", "0,0,64,64"], "goes with --model syncnet, or --with"),
        (["sync", "mute.mp4", "--crop", "0,0,64", "--with", "text.mp4"], "is no box"),
        (["sync", "mute.mp4", "--with", "none.pt"], "none.pt does not exist"),
        (["localize", "text.mp4"], "not a media file"),
        (["separate", "mute.mp4", "-o", "text.mp4"], "is a file"),
        (["separate", "mute.mp4"], "no audio"),
        (["separate", "mute.mp4", "--source", "middle"], "names no source"),
        (["separate", "mute.mp4", "--format", "16"], "is no format"),
        (["separate", "mute.mp4", "--onscreen", "--source", "left"], "leave out --source"),
        (["separate", "mute.mp4", "--onscreen", "--when", "1-2"], "leave out --when"),
        (["separate", "mute.mp4", "--when", "soon"], "is no span"),
        (["classify", "mute.mp4", "--model", "unheard_of"], "no model 'unheard_of'"),
        (["evaluate", "--data", "mute.mp4"], "is not a manifest"),
        (["world", "w", "--preset", "hrd"], "nearest is 'hard'"),
        (["probe"], "probe takes a FILE"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(wrong, words, said):
    before = sorted(p.name for p in wrong.iterdir())
    done = run(*words, cwd=wrong)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("avlearn: error: ")
    assert said in lines[0]
    assert sorted(p.name for p in wrong.iterdir()) == before


def test_what_is_no_media_file_is_told_before_torch_is_loaded(wrong):
    code = (
        "import sys; from avlearn.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    for command in ("sync", "localize", "separate", "classify", "flow", "probe"):
        done = subprocess.run(
            [sys.executable, "-c", code, command, wrong / "text.mp4"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and "is not a media file" in done.stderr, done.stderr


@pytest.mark.parametrize("command", ["sync", "localize", "separate", "classify", "embed", "calibrate"])
@pytest.mark.parametrize("many", [False, True])
def test_what_is_no_models_name_is_told_before_torch_is_loaded(command, many, small_world, tmp_path):
    code = (
        "import sys; from avlearn.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    clips = sorted(small_world.parent.glob("**/*.mp4"))[: 1 + many]
    out = {"separate": "out", "embed": "out.npz"}.get(command)
    words = [command, *clips, "--model", "nomodel", *(["-o", tmp_path / out] if out else [])]
    if command == "calibrate":
        words[1 : 1 + len(clips)] = [word for clip in clips for word in ("--data", clip)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "no model 'nomodel'" in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_help_of_a_group_has_whole_summaries():
    done = CliRunner().invoke(app, ["weights", "-h"])
    assert done.exit_code == 0 and "Commands:" in done.stdout
    assert "write them with what they expect of a video" in " ".join(done.stdout.split())


def test_quiet_leaves_results_and_errors(small_world, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(map(str, sorted((small_world / "clips").glob("*.mp4"))[:1])) + "\nnone.mp4\n")
    done = run("-q", "sync", listed, "--workers", 1)
    assert done.returncode == 2 and done.stderr == "" and "none.mp4" in done.stdout
    assert "[2/2]" in run("sync", listed, "--workers", 1).stderr


@pytest.fixture(scope="module")
def some(small_world, tmp_path_factory):
    """A folder with a clip, a link to another of the same stem, and a text that has a video's name."""
    folder = tmp_path_factory.mktemp("some")
    clips = sorted((small_world / "clips").glob("*.mp4"))
    (folder / "a.mp4").write_bytes(clips[0].read_bytes())
    (folder / "a.mov").symlink_to(clips[1])
    (folder / "bad.mp4").write_text("hello")
    return folder


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["probe"], []),
        (["classify"], []),
        (
            ["localize", "-o", "out"],
            [f"out/a_{kind}_localized.{suffix}" for kind in ("mov", "mp4") for suffix in ("mp4", "npz")],
        ),
        (["separate"], [f"some_separated/a_{kind}/a_residual.wav" for kind in ("mov", "mp4")]),
        (["embed", "-o", "f.npz"], ["f.npz"]),
    ],
)
def test_a_tool_takes_a_folder_and_goes_on_over_bad_files(some, tmp_path, monkeypatch, words, written):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").symlink_to(some)
    done = CliRunner().invoke(app, [words[0], "some", *words[1:], "--workers", "1", "--json", "out.json"])
    assert done.exit_code == 2, done.output
    rows = [line for line in done.stdout.splitlines() if line.split(" (")[0].endswith((".mp4", ".mov"))]
    assert len(rows) == 3 and sum("some/bad.mp4 (is not a media file" in row for row in rows) == 1
    told = json.loads((tmp_path / "out.json").read_text())
    failed = told["failed"] if words[0] == "embed" else [one for one in told if one.get("status") == "error"]
    assert [one["path"] for one in failed] == ["some/bad.mp4"]
    assert all((tmp_path / name).is_file() for name in written)
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]


def test_outputs_of_many_files_are_checked_before_the_work(some, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_mp4_localized.mp4").write_text("mine")
    done = CliRunner().invoke(app, ["localize", str(some), "-o", "out"])
    assert isinstance(done.exception, AvlearnError) and "a_mp4_localized.mp4 is there already" in str(done.exception)
    for words in (["localize", "--maps", "maps.npz"], ["localize", "-o", "x.mp4"], ["sync", "-o", "curve.png"]):
        done = CliRunner().invoke(app, [words[0], str(some), *words[1:]])
        assert isinstance(done.exception, AvlearnError) and "give a folder's name" in str(done.exception)
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "a_fixed.mp4"):
        (tmp_path / "in" / name).write_bytes(b"mine")
    (tmp_path / "linked").mkdir()
    os.link(tmp_path / "in" / "a_fixed.mp4", tmp_path / "linked" / "a_fixed.mp4")
    for folder in ("in", "linked"):
        done = CliRunner().invoke(app, ["sync", "in", "--fix", folder, "--overwrite"])
        assert isinstance(done.exception, AvlearnError) and "is among the files that are read" in str(done.exception)
    assert (tmp_path / "in" / "a_fixed.mp4").read_bytes() == b"mine"


def test_many_files_are_fixed_drawn_and_mapped_into_folders(late, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "in" / "late.mp4").symlink_to(late)
    whole = read_clip(late)
    write_video(
        tmp_path / "in" / "b" / "silent.m4v",
        whole.video,
        whole.fps,
        audio=whole.audio * 0,
        sample_rate=whole.sample_rate,
    )
    (tmp_path / "in" / "bad.mp4").write_text("hello")
    words = ["sync", "in", "--fix", "fixed", "-o", "curves", "--workers", "1", "--json", "out.json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.parts[-2] != "in")
    assert written == [
        "curves/b/silent_sync.png",
        "curves/late_sync.png",
        "fixed/late_fixed.mp4",
        "in/b/silent.m4v",
        "out.json",
    ]
    rows = {row["path"]: row for row in json.loads((tmp_path / "out.json").read_text())}
    fixed = rows["in/late.mp4"]["fixed"]
    assert fixed["out"] == "fixed/late_fixed.mp4" and abs(fixed["now"]) < 0.04 and abs(fixed["was"] + 0.3) < 0.04
    assert rows["in/b/silent.m4v"]["not_fixed"].endswith("silent.m4v is not fixed: no offset is named")
    assert "fixed" not in rows["in/b/silent.m4v"] and rows["in/bad.mp4"]["status"] == "error"
    assert rows["in/b/silent.m4v"]["reason"] == "the audio track is silent"
    assert done.stdout.count("the audio track is silent") == 1 and "  not fixed: no offset is named" in done.stdout
    again = CliRunner().invoke(app, ["sync", "fixed", "--workers", "1", "--fix", "again"])
    assert again.exit_code == 0 and "1 in sync" in again.stdout and (tmp_path / "again/late_fixed_fixed.mp4").is_file()
    mapped = CliRunner().invoke(app, ["localize", "in", "--maps", "maps", "-o", "heat", "--workers", "1"])
    assert mapped.exit_code == 2, mapped.output
    assert sorted(path.name for path in (tmp_path / "maps").rglob("*.*")) == [
        "late_localized.npz",
        "silent_localized.npz",
    ]
    assert not list((tmp_path / "heat").rglob("*.npz"))


def test_of_files_that_are_named_one_by_one_what_cannot_be_read_is_a_row(small_world, wrong, tmp_path):
    clip, out = next((small_world / "clips").glob("*.mp4")), tmp_path / "f.npz"
    words = ["embed", str(clip), str(wrong / "text.mp4"), str(wrong / "none.mp4"), "-o", str(out), "--workers", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and out.is_file(), done.output
    assert "2 of 3 files could not be read" in done.stdout and "none.mp4: error: does not exist" in done.stdout


@pytest.mark.parametrize("command", ["sync", "localize", "separate", "classify", "probe"])
def test_every_tool_takes_several_files_and_folders(command, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [command, str(wrong), str(wrong / "none.mp4"), str(wrong / "text.mp4"), "--workers", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    rows = [line for line in done.stdout.splitlines() if ".mp4" in line]
    assert sorted(Path(line.split(" (")[0].split()[-1]).name for line in rows) == ["mute.mp4", "none.mp4", "text.mp4"]
    assert {"localize": "files_localized", "separate": None}.get(command) in (None, *os.listdir(tmp_path))


def test_an_address_is_read_where_a_file_would_be(small_world):
    clip = sorted((small_world / "clips").glob("*.mp4"))[0]
    told = [
        json.loads(CliRunner().invoke(app, ["classify", name, "--json", "-"]).stdout) | {"path": ""}
        for name in (str(clip), clip.as_uri())
    ]
    assert told[0] == told[1]


def test_options_of_all_commands_stand_before_or_behind_them():
    for words in (["--plugin", "no_such", "recipe", "list"], ["recipe", "list", "--plugin=no_such"]):
        assert "the plugin no_such cannot be imported" in run(*words).stderr
    plain, traced = run("models", "show", "nope"), run("models", "show", "nope", "-v")
    assert plain.stderr.count("\n") == 1 and "Traceback" in traced.stderr
    assert traced.stderr.splitlines()[-1] == plain.stderr.strip()


def test_models_may_leave_the_word_list_out():
    assert run("models", "x3d_s").stdout == run("models", "list", "x3d_s").stdout
    assert "list" in run("models", "-h").stdout


def test_a_long_curve_is_a_line_of_json(small_world):
    clip = next((small_world / "clips").glob("*.mp4"))
    lines = CliRunner().invoke(app, ["sync", str(clip), "--json", "-"]).stdout.splitlines()
    assert len([line for line in lines if line.startswith((' "offsets": [', ' "scores": [')) and "]" in line]) == 2
    assert len(lines) < 60


def test_sync_as_json_has_a_stable_schema(small_world):
    clip = next((small_world / "clips").glob("*.mp4"))
    done = run("sync", clip, "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["schema"] == "avlearn.sync/2"
    assert {"offset", "confidence", "verdict", "windows", "offsets", "scores", "notice"} <= set(result)
    assert abs(result["offset"]) < 0.04
    assert result["notice"] is None


def test_sync_tells_scripts_by_its_exit_code(small_world, tmp_path):
    clip = next((small_world / "clips").glob("*.mp4"))
    late, silent = tmp_path / "late.mp4", tmp_path / "silent.mp4"
    remux(clip, late, audio_delay=0.3)
    write_wav(tmp_path / "silence.wav", np.zeros((1, 64000), np.float32), 16000)
    remux(clip, silent, replace_audio=tmp_path / "silence.wav")
    done = run("sync", late)
    assert done.returncode == 1, done.stderr
    assert "audio lags by" in done.stdout
    assert run("sync", late, "--tolerance", "0.5").returncode == 0
    assert run("sync", silent).returncode == 3
    refused = run("sync", silent, "--fix", tmp_path / "fixed.mp4")
    assert refused.returncode == 2
    assert "not fixed: no offset is named" in refused.stderr  # the reason stands with the result
    assert (refused.stdout + refused.stderr).count("the audio track is silent") == 1
    assert run("sync", late, "--fix", tmp_path / "fixed.mp4").returncode == 0
    assert run("sync", tmp_path / "fixed.mp4").returncode == 0
    (tmp_path / "list.txt").write_text("late.mp4\nfixed.mp4\n")
    done = run("sync", tmp_path / "list.txt", "--workers", 1, "--json", "-")
    assert done.returncode == 1, done.stderr
    assert [r["status"] for r in json.loads(done.stdout)] == ["out of sync", "in sync"]


def test_a_file_unlike_the_training_data_is_noticed(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (75, 64, 64, 3), dtype=np.uint8)
    audio = np.sign(np.sin(np.arange(48000) * 0.7))[None].astype(np.float32)
    write_video(tmp_path / "odd.mp4", frames, 25, audio=audio, sample_rate=16000)
    done = run("classify", tmp_path / "odd.mp4")
    assert done.returncode == 3, done.stderr
    assert "this model cannot tell: the video and the audio are unlike what it was trained on" in done.stdout
    assert "the sound is most like" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_leaves_nothing_half_written(small_world, untrained, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a small disk: {mounted.stderr}")
    try:
        clip = next((small_world / "clips").glob("*.mp4"))
        for words in (["localize", clip, "-o", disk / "o.mp4"], ["separate", clip, "-o", disk]):
            done = run(*words, "--model", untrained)
            assert done.returncode == 2, done.stderr
            assert len(done.stderr.strip().splitlines()) == 1
            assert not [p for p in disk.rglob("*") if p.is_file()]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="module")
def late(small_world, tmp_path_factory):
    path = tmp_path_factory.mktemp("late") / "late.mp4"
    remux(next((small_world / "clips").glob("*.mp4")), path, audio_delay=0.3)
    return path


def test_a_fix_says_what_it_measures(late, tmp_path):
    done = run("sync", late, "--fix", tmp_path / "fixed.avi")
    assert done.returncode == 0, done.stderr
    assert re.search(r"wrote \S+fixed\.avi: in sync now \([+-]\d+ ms; was -\d+ ms\)", done.stdout)
    assert "note: encoded again: audio track 1" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sync", "--fix", "out"], "must end in one of"),
        (["sync", "--fix", "out.xyz"], "must end in one of"),
        (["sync", "--fix", "there.mp4"], "is there already"),
        (["sync", "--fix", "IN", "--overwrite"], "is the input"),
        (["sync", "--fix", "none/out.mp4"], "no folder"),
        (["sync", "-o", "curve.jpg"], "must end in one of .png"),
        (["localize", "-o", "out"], "must end in one of"),
        (["localize", "-o", "out.gif"], "must end in one of"),
        (["localize", "-o", "there.mp4"], "is there already"),
        (["localize", "-o", "out.mp4", "--maps", "maps.txt"], "must end in one of .npz"),
        (["separate", "-o", "there.mp4"], "is a file"),
        (["separate", "-o", "earlier"], "holds late_source1.wav already"),
        (["classify", "--audio-track", "2"], "has no audio track '2'; it has: 1"),
        (["sync", "--channel", "right"], "there is no channel 'right'"),
        (["probe", "--audio-track", "best"], "goes with a model"),
    ],
)
def test_outputs_and_tracks_are_checked_before_the_work(late, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.mp4").write_bytes(b"mine")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "late_source1.wav").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, [words[0], str(late), *(str(late) if word == "IN" else word for word in words[1:])])
    assert isinstance(done.exception, AvlearnError)  # of which `main` makes a line and exit code 2
    assert said in str(done.exception)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.mp4").read_bytes() == b"mine"


def test_exit_code_1_is_for_files_out_of_sync_alone(late, tmp_path):
    done = run("sync", late, "--fix", tmp_path / "out.xyz")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["x.mp4", "x.npz", "x", "x.parquet"])
def test_a_result_as_json_cannot_take_the_name_of_another_output(tmp_path, name):
    done = CliRunner().invoke(
        app, ["localize", "no.mp4", "-o", str(tmp_path / "x.mp4"), "--json", str(tmp_path / name)]
    )
    assert isinstance(done.exception, AvlearnError) and "its name must end in one of .json" in str(done.exception)
    assert not list(tmp_path.iterdir())
