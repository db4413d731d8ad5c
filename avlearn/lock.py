"""One process at a time on a folder: the others wait, or are told who is at work there."""

import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from multiprocessing import current_process
from pathlib import Path
from typing import TextIO

from avlearn.errors import OutputError

_GUARD = "if __name__ == '__main__':"


class Lock:
    """A lock that ends with its process, however that ends.

    Args:
        path: of the lock's file, which says who holds it and is removed by `close`; its folder must be there.
        wait: until the holder is done, which is said on standard error; else an error says so.
        shared: with others who share it, and leave its file.

    Raises:
        OutputError: another process holds the lock, the file cannot be written, or this process is one that a script
            started and that runs the script again: it would wait for the lock of its own starter.
    """

    def __init__(self, path: Path, wait: bool = False, shared: bool = False):
        self.path, self._shared = path, shared
        if getattr(current_process(), "_inheriting", False):
            raise OutputError(f"{path.parent}: a script that starts processes does its work under {_GUARD}")
        try:
            self._file = self._take(wait)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error

    def _take(self, wait: bool) -> TextIO:
        told, kind = False, fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX
        while True:
            file = self.path.open("a+")
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = f"another run is at work on {self.path.parent} ({file.read() or 'it just began'})"
                if not wait:
                    file.close()
                    raise OutputError(f"{who}: wait for it, or stop it") from None
                if not told:
                    print(f"waiting: {who}", file=sys.stderr, flush=True)
                told = True
                fcntl.flock(file, kind)
            if self._is_there(file):
                try:
                    self._sign(file)
                except OSError:  # a full disk
                    self._remove()
                    raise
                return file
            file.close()  # its holder has removed it meanwhile

    @staticmethod
    def _sign(file: TextIO) -> None:
        """Write who holds it."""
        since = datetime.now().isoformat(" ", "seconds")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        file.flush()

    def _is_there(self, file: TextIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let others have it."""
        self._remove()
        self._file.close()

    def _remove(self) -> None:
        if not self._shared:  # others may have it
            self.path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a `Lock` for a block."""
    lock = Lock(path, wait)
    try:
        yield
    finally:
        lock.close()
