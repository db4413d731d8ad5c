"""One process at a time on a folder: the others wait, or are told who is at work there."""

import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from avlearn.errors import OutputError


class Lock:
    """A lock that ends with its process, however that ends.

    Args:
        path: of the lock's file, which says who holds it and is removed by `close`; its folder must be there.
        wait: until the holder is done, which is said on standard error; else an error says so.

    Raises:
        OutputError: another process holds the lock, or the file cannot be written.
    """

    def __init__(self, path: Path, wait: bool = False):
        self.path = path
        try:
            self._file = self._take(wait)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error

    def _take(self, wait: bool) -> TextIO:
        told = False
        while True:
            file = self.path.open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = f"another run is at work on {self.path.parent} ({file.read() or 'it just began'})"
                if not wait:
                    file.close()
                    raise OutputError(f"{who}: wait for it, or stop it") from None
                if not told:
                    print(f"waiting: {who}", file=sys.stderr, flush=True)
                told = True
                fcntl.flock(file, fcntl.LOCK_EX)
            if self._is_there(file):
                try:
                    self._sign(file)
                except OSError:  # a full disk
                    self.path.unlink(missing_ok=True)
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
        self.path.unlink(missing_ok=True)
        self._file.close()


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a `Lock` for a block."""
    lock = Lock(path, wait)
    try:
        yield
    finally:
        lock.close()
