"""One case of an attack: a call in a forked child, with limits of processor time and memory, and what became of it."""

import faulthandler
import json
import os
import re
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from select import select

from avlearn.errors import AvlearnError

CPU_SECONDS = 10
MEMORY = 3 * 2**30  # bytes over what the process has before the case
# What computes for less than a thousandth of such a time waits for something that does not come. By the clock alone,
# cases of a second of processor time count as hung where ten processes share a core.
_WALL_SECONDS, _IDLE = 60, 1e-3
_KILLED = {signal.SIGXCPU: "hang", signal.SIGALRM: "hang"}


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        kind: ``result``; ``typed`` for an error that the user is told in one line; or what must not be: ``untyped``,
            ``hang`` (out of time), ``memory`` (a MemoryError that came through, or the limit passed) and ``crash``.
        detail: the error, or the signal and where it met the case.
        cpu: seconds.
        peak: bytes that were resident at most, over what there was before.
    """

    kind: str
    detail: str
    cpu: float
    peak: int

    @property
    def good(self) -> bool:
        """Whether it is one of the two ends that a case may have."""
        return self.kind in ("result", "typed")


def run_case(call: Callable[[], object]) -> Outcome:
    """Make a call in a child, within `CPU_SECONDS` and `MEMORY`."""
    before = _resident()
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        os.close(readable)
        _in_child(call, writable)
    os.close(writable)
    _end_if_idle(child, readable)
    with os.fdopen(readable, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status, usage = os.wait4(child, 0)
    cpu, peak = usage.ru_utime + usage.ru_stime, max(usage.ru_maxrss * 1024 - before, 0)
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        places = " < ".join(re.findall(r'/(\w+\.py", line \d+)', said)[:4]).replace('"', "")
        return Outcome(_KILLED.get(number, "crash"), f"{number.name} {places}".strip(), cpu, peak)
    if not said:
        return Outcome("crash", f"the process ended with code {os.waitstatus_to_exitcode(status)}", cpu, peak)
    kind, detail = json.loads(said)
    if kind in ("result", "typed") and peak > MEMORY:
        kind = "memory"
    return Outcome(kind, detail, cpu, peak)


def _end_if_idle(child: int, pipe: int) -> None:
    """Wait until a child says something or ends; send it the alarm once it computes nothing."""
    spent = 0.0
    while not select([pipe], [], [], _WALL_SECONDS)[0]:
        with open(f"/proc/{child}/stat") as file:
            ticks = file.read().rpartition(")")[2].split()[11:13]  # behind its name, which may hold anything
        now = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        if now - spent < _IDLE * _WALL_SECONDS:
            os.kill(child, signal.SIGALRM)
        spent = now


def _in_child(call: Callable[[], object], writable: int) -> None:
    """Make the call, say what became of it, and end the process."""
    # Where a signal meets the case is told on the pipe, before the process ends of it.
    faulthandler.enable(writable, all_threads=False)
    for number in _KILLED:
        signal.signal(number, signal.SIG_DFL)  # a test runner may have its own
        faulthandler.register(number, writable, all_threads=False, chain=True)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    try:
        call()
        said = ("result", "")
    except AvlearnError as error:
        # One that breaks the line, or ends it in nothing, is not what a user may be told.
        text = str(error)
        said = ("typed", text) if text.strip() and len(text.splitlines()) == 1 else ("untyped", repr(error))
    except MemoryError as error:
        said = ("memory", repr(error))
    except BaseException as error:
        said = ("untyped", f"{type(error).__name__}: {error}")
    os.write(writable, json.dumps([said[0], said[1][:300]]).encode())
    os._exit(0)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
