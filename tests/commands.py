"""Commands in processes of their own that start in milliseconds.

What a command imports takes seconds. Here each is forked from a server that has imported it; all else is as with
``python -m avlearn``: arguments, folder, environment, streams, signals, exit code. Tests of what is imported, or of
variables that Python or its libraries read when they start, start Python itself.
"""

import array
import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path


class Command:
    """A command that was started, in a process group of its own; used as `subprocess.Popen`.

    Args:
        words: its arguments.
        cwd: the folder it starts in; by default the caller's.
        path: a folder that PYTHONPATH names besides.
    """

    def __init__(self, *words: object, cwd: Path | None = None, path: Path | None = None) -> None:
        self.returncode: int | None = None
        self._streams = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115 (as long as this lives)
        self._ends, theirs = socket.socketpair()
        environment = dict(os.environ)
        if path:
            environment["PYTHONPATH"] = os.pathsep.join(
                [str(path), *environment.get("PYTHONPATH", "").split(os.pathsep)]
            )
        told = json.dumps([list(map(str, words)), str(cwd or Path.cwd()), str(path) if path else None, environment])
        given = array.array("i", [theirs.fileno(), *(stream.fileno() for stream in self._streams)])
        _server().sendmsg([told.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)])
        theirs.close()
        self.pid = int(self._ends.recv(100))

    def wait(self, timeout: float | None = None) -> int:
        """Exit code, as `subprocess.Popen.wait` gives it."""
        if self.returncode is None:
            self._ends.settimeout(timeout)
            try:
                self.returncode = os.waitstatus_to_exitcode(int(self._ends.recv(100)))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0) from None
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def errors_so_far(self) -> str:
        """What the command has written to its standard error."""
        return os.pread(self._streams[1].fileno(), 1 << 20, 0).decode()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; what the command wrote."""
        self.wait(timeout)
        said = []
        for stream in self._streams:
            stream.seek(0)
            said.append(stream.read())
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def run(*words: object, cwd: Path | None = None, path: Path | None = None) -> subprocess.CompletedProcess:
    """Run a command to its end."""
    command = Command(*words, cwd=cwd, path=path)
    said = command.communicate()
    return subprocess.CompletedProcess(list(words), command.wait(), *said)


@cache
def _server() -> socket.socket:
    """What commands are forked from; one of this process, as long as it lives."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        words = [sys.executable, __file__, str(theirs.fileno())]
        server = subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> list[str]:
    """Fork a process for each command that is asked for, until nobody asks; in that process, the command's words."""
    import lightning.pytorch  # noqa: F401
    import torchvision  # noqa: F401

    gc.freeze()  # what is there is shared with all that are forked: nothing of it is to be written to
    ends: dict[int, socket.socket] = {}

    def tell(*_: object) -> None:
        while ends and (found := os.waitpid(-1, os.WNOHANG))[0]:
            with ends.pop(found[0]) as end, suppress(OSError):  # nobody may wait for it
                end.send(str(found[1]).encode())

    signal.signal(signal.SIGCHLD, tell)
    while True:
        told, given, *_ = socket.recv_fds(requests, 1 << 20, 3)
        if not told:
            for pid in list(ends):  # the tests were ended
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            sys.exit()
        end = socket.socket(fileno=given[0])
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if not pid:
            break
        ends[pid] = end
        end.send(str(pid).encode())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for descriptor in given[1:]:
            os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for one in (requests, end, *ends.values()):
        one.close()
    for stream, descriptor in enumerate(given[1:], 1):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    os.setsid()
    words, cwd, path, environment = json.loads(told)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[0] = cwd  # as `python -m` has it
    if path:
        sys.path.insert(1, path)
    return words


if __name__ == "__main__":
    sys.argv = ["avlearn", *_serve(socket.socket(fileno=int(sys.argv[1])))]
    code: object = 0
    try:
        runpy.run_module("avlearn", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    # Without taking down all that was imported, module by module, which takes as long as importing it.
    os._exit(code if isinstance(code, int) else int(code is not None))
