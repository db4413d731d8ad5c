"""Kill runs at random and at chosen moments, start them again, and compare the end with a run that nobody disturbed.

    python tools/kills.py --kills 100 --seed 0

Each kind of run (pretrain, separate, scan, prepare, world) is done in a child that is forked from this process, which
has imported all it needs. The child dies of SIGKILL when it is about to make its n-th change to a file (open for
writing, rename, remove), in the middle of a step's validation, or some time after its start; it is started again until
it has been killed so often, and then left to end. What it leaves must be what an undisturbed run leaves, byte by byte,
and no file and no process more.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path

import torch

from avlearn.data.prepare import prepare
from avlearn.data.scan import folder_entries, scan
from avlearn.data.world import WorldConfig, make_world
from avlearn.tasks import load_recipe
from avlearn.training.run import pretrain
from avlearn.training.run_folder import can_resume

PATIENCE = 10  # seconds that a killed run's processes may live on
_SMALL = [
    "trainer.max_steps=6", "trainer.val_every=2", "trainer.checkpoint_every=2", "trainer.log_every=1",
    "trainer.batch_size=2", "trainer.threads=1", "trainer.accelerator=cpu", "data.world.preset=solo",
    "data.world.train_clips=4", "data.world.val_clips=2",
]  # fmt: skip


@dataclass
class Kind:
    """A kind of run.

    Attributes:
        work: does it in a folder.
        ignore: suffixes or names of files that no run has twice alike.
    """

    work: Callable[[Path], object]
    ignore: tuple[str, ...] = ()


@dataclass
class Tally:
    """What came of a kind's kills."""

    kills: Counter = field(default_factory=Counter)
    runs: int = 0
    unequal: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    processes: int = 0
    failed: list[str] = field(default_factory=list)
    longest: float = 0.0


def kinds(shared: Path) -> dict[str, Kind]:
    """All kinds, over worlds in ``shared``."""
    videos = shared / "videos"
    common = [f"data.root={shared / 'data'}", *_SMALL]
    sync = load_recipe("sync_world", [*common, "clip.size=16", "clip.seconds=0.64", "clip.context=0.32"])
    base = load_recipe(
        "separate_world", [*common, "separator.base=default", "clip.seconds=0.64", "separator.channels=[4,4,4,4,4]"]
    )
    tiny = WorldConfig.preset("solo", duration=1.0, size=32, fps=10.0)

    def train(recipe) -> Callable[[Path], object]:
        return lambda out: pretrain(recipe, out / "run", resume=can_resume(out / "run"))

    events = ("events.out.tfevents",)
    return {
        "pretrain": Kind(train(sync), events),
        "separate": Kind(train(base), events),
        "scan": Kind(lambda out: scan(folder_entries(videos), out / "m.parquet", workers=1)),
        "prepare": Kind(lambda out: prepare(shared / "videos.parquet", out / "p", short_side=32, workers=1)),
        "world": Kind(lambda out: make_world(out / "w", 5, 3, tiny, workers=1)),
    }


def make_shared(shared: Path) -> None:
    """The worlds that the runs read."""
    tiny = WorldConfig.preset("solo", duration=1.0, size=32, fps=10.0)
    make_world(shared / "made", 5, 1, tiny, workers=1)
    shutil.copytree(shared / "made" / "clips", shared / "videos")
    scan(folder_entries(shared / "videos"), shared / "videos.parquet", workers=1)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at_change(folder: Path, do: Callable[[], None]) -> None:
    """Have this process call ``do`` whenever it is about to change a file below a folder."""

    def hook(event: str, args: tuple) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.truncate"):
            path = args[0]
            if isinstance(path, (str, bytes, os.PathLike)) and str(folder) in os.fsdecode(path):
                do()

    sys.addaudithook(hook)


def _die_at_change(folder: Path, number: int) -> None:
    """Die when this process is about to make its ``number``-th change."""
    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            _die()

    _at_change(folder, count)


def _die_in_validation(number: int) -> None:
    """Die in a validation's ``number``-th batch."""
    from avlearn.tasks.separate.module import SeparateModule
    from avlearn.tasks.synchronize.module import SynchronizeModule

    left = number
    for task in (SynchronizeModule, SeparateModule):
        before = task.validation_step

        def step(self, batch, batch_index, before=before):
            nonlocal left
            left -= 1
            if left == 0:
                _die()
            return before(self, batch, batch_index)

        task.validation_step = step


def start(kind: Kind, out: Path, log: Path, arm: Callable[[], None]) -> int:
    """Fork a child that does the work in a session of its own; its process id."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    server = forkserver._forkserver  # this process' own, if it has one, is not the child's
    server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None
    code = 1
    try:
        arm()
        kind.work(out)
        code = 0
    except BaseException as error:  # the child must not go on as its parent
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        if server._forkserver_pid is not None:
            server._stop()  # as an interpreter's end would, which a forked child must not reach
        os._exit(code)


def members(session: int) -> list[int]:
    """Processes of a session that live."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry))
    return found


def ended(pid: int, tally: Tally, patience: float = PATIENCE) -> int:
    """Wait for a child and then for its processes; its exit status, negative for a signal."""
    _, status = os.waitpid(pid, 0)
    began = time.monotonic()
    while (left := members(pid)) and time.monotonic() - began < patience:
        time.sleep(0.02)
    tally.longest = max(tally.longest, time.monotonic() - began)
    for process in left:
        tally.processes += 1
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def contents(out: Path, kind: Kind) -> dict[str, str]:
    """Digest of every file; of files that are never twice alike only that there are some."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(out))
            vague = next((word for word in kind.ignore if word in name), None)
            found[vague or name] = "" if vague else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def moment(
    name: str, changes: int, seconds: float, rng: random.Random, out: Path, fresh: bool
) -> tuple[str, Callable, float]:
    """How the next kill comes: its sort, what arms the child, and seconds after which it is killed from outside."""
    roll = rng.random()
    if name in ("pretrain", "separate") and roll < 0.2:
        number = rng.randint(1, 3)
        return "validation", lambda: _die_in_validation(number), float("inf")
    if roll < 0.7:
        number = rng.randint(1, changes if fresh else max(changes // 2, 1))  # less is left to do
        return "change", lambda: _die_at_change(out, number), float("inf")
    return "time", lambda: None, rng.uniform(0, seconds if fresh else seconds / 2)


def count_changes(kind: Kind, out: Path, log: Path) -> tuple[int, float]:
    """Changes that an undisturbed run makes itself, and the seconds it takes."""
    read, write = os.pipe()

    began = time.monotonic()
    pid = start(kind, out, log, lambda: _at_change(out, lambda: os.write(write, b"x")))
    code = ended(pid, Tally())
    seconds = time.monotonic() - began
    os.close(write)
    changes = 0
    while piece := os.read(read, 65536):
        changes += len(piece)
    os.close(read)
    if code:
        raise SystemExit(f"the undisturbed run failed: {log.read_text()[-2000:]}")
    return max(changes, 1), seconds


def try_kind(name: str, kind: Kind, kills: int, rng: random.Random, room: Path, each: int) -> Tally:
    """So many kills, ``each`` of them in a run before it is let through."""
    tally = Tally()
    out, whole = room / name, room / f"{name}.whole"
    # In one place: paths stand in what the runs write.
    log = room / f"{name}.log"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    changes, seconds = count_changes(kind, out, log)
    expected = contents(out, kind)
    out.rename(whole)
    while sum(tally.kills.values()) < kills:
        out.mkdir()
        killed, history = 0, []
        while True:
            last = killed >= each or sum(tally.kills.values()) >= kills
            sort, arm, wait = (
                ("", lambda: None, float("inf")) if last else moment(name, changes, seconds, rng, out, not killed)
            )
            pid = start(kind, out, log, arm)
            until = time.monotonic() + wait
            while wait < float("inf") and time.monotonic() < until:
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    break
                time.sleep(0.005)
            if wait < float("inf") and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                os.kill(pid, signal.SIGKILL)
            code = ended(pid, tally)
            if code == -signal.SIGKILL:
                tally.kills[sort] += 1
                killed += 1
                history.append(sort)
                continue
            if code:
                tally.failed.append(f"after {history}: {log.read_text()[-300:].splitlines()[-1:]}")
            break
        tally.runs += 1
        found = contents(out, kind)
        tally.unequal += [f"{p} after {history}" for p in expected if found.get(p) != expected[p]]
        tally.stray += [p for p in found if p not in expected]
        if any(found.get(p) != expected[p] for p in expected) and not (room / f"{name}.unequal").exists():
            out.rename(room / f"{name}.unequal")
        else:
            shutil.rmtree(out)
        done = sum(tally.kills.values())
        print(
            f"{name} {done}/{kills} unequal {len(tally.unequal)} stray {len(tally.stray)}", file=sys.stderr, flush=True
        )
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of each kind")
    parser.add_argument("--each", type=int, default=5, help="kills in a run before it is let through")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="pretrain,separate,scan,prepare,world")
    parser.add_argument("--keep", type=Path, help="work here, and keep what differs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    room = options.keep or Path(tempfile.mkdtemp(prefix="kills-"))
    room.mkdir(parents=True, exist_ok=True)
    tallies = run(options.kinds.split(","), options.kills, options.seed, room, options.each)
    print(table(tallies))
    if not options.keep:
        shutil.rmtree(room)
    sys.exit(any(t.unequal or t.stray or t.processes or t.failed for t in tallies.values()))


def run(names: list[str], kills: int, seed: int, room: Path, each: int = 5) -> dict[str, Tally]:
    """Kill runs of these kinds in a folder."""
    shared = room / "shared"
    log = room / "shared.log"
    # In a child, for its processes must not be this one's, from which all children are forked.
    if ended(start(Kind(make_shared), shared, log, lambda: None), Tally()):
        raise SystemExit(f"the worlds that the runs read cannot be made: {log.read_text()[-2000:]}")
    found = kinds(shared)
    return {
        name: try_kind(name, found[name], kills, random.Random(f"{seed} {name}"), room, each) for name in names
    }  # fmt: skip


def table(tallies: dict[str, Tally]) -> str:
    """A row a kind, and below it what went wrong."""
    lines = ["kind       kills  at-change  in-validation  by-time  runs  unequal  stray  processes  failed  last-end-s"]
    for name, t in tallies.items():
        lines.append(
            f"{name:<10} {sum(t.kills.values()):5d}  {t.kills['change']:9d}  {t.kills['validation']:13d}  "
            f"{t.kills['time']:7d}  {t.runs:4d}  {len(t.unequal):7d}  {len(t.stray):5d}  {t.processes:9d}  "
            f"{len(t.failed):6d}  {t.longest:10.1f}"
        )
        lines += [f"  unequal: {what}" for what in t.unequal[:10]]
        lines += [f"  stray: {what}" for what in t.stray[:10]]
        lines += [f"  failed: {what}" for what in t.failed[:10]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
