"""Ctrl-C, and SIGTERM that acts like it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """SIGTERM arrived; what stops at Ctrl-C stops at it too."""


def heed_terminate() -> None:
    """Have SIGTERM raise `Terminated`, wherever Ctrl-C would raise KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: object) -> None:
    raise Terminated


STOPPED = (KeyboardInterrupt, Terminated)


def exit_code(error: BaseException) -> int:
    """As shells number them: 128 and the signal."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


@contextmanager
def handled_by(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Have both signals call ``handler`` for a block, in the main thread (others get no signals)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
