"""Ctrl-C, and SIGTERM that acts like it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """SIGTERM arrived; what stops at Ctrl-C stops at it too."""


STOPPED = (KeyboardInterrupt, Terminated)
_arrived: list[BaseException] = []


def raise_on_signals() -> None:
    """Have SIGTERM raise `Terminated`, and Ctrl-C (where it is not ignored) KeyboardInterrupt, in the main thread.

    See `first_interrupt`.
    """
    _arrived.clear()
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop)


def _stop(number: int, frame: object) -> None:
    _arrived.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
    raise _arrived[-1]


def first_interrupt() -> BaseException | None:
    """What the first signal since `raise_on_signals` raised: an import that it broke off may raise another error."""
    return _arrived[0] if _arrived else None


def exit_code(error: BaseException) -> int:
    """The exit code of a process that ``error`` ends: 128 and the number of its signal, as shells have it."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Have both signals wait for the end of a block, and not reach the processes that are started in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
