"""Signals that ask a program to stop, as one exception, which its `finally` blocks clean up after."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, a closed terminal


@contextlib.contextmanager
def stoppable(exception: type[BaseException]) -> Iterator[None]:
    """Meanwhile the first of these signals raises `exception`, and those after it are ignored, so that stopping is not
    itself stopped. Those that are ignored already, as under nohup, stay so. Only in the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal.signal wants it
        for signal_number in STOP_SIGNALS:
            signal.signal(signal_number, signal.SIG_IGN)
        raise exception

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:  # once stopped they stay ignored: the program is ending
                signal.signal(number, handler)


@contextlib.contextmanager
def children_unstopped() -> Iterator[None]:
    """Processes that are started meanwhile never get these signals, which reach a whole group: their parent ends them.
    One that comes meanwhile reaches us at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
