"""Signals that ask a program to stop, as one exception, which its `finally` blocks clean up after.

An exception that a signal raises comes wherever the program happens to be, and there are places that lose it: a
destructor, a callback of C code, a library that catches everything and goes on. So whoever asked is not asked to ask
again: as long as nobody unwinds because of it, it is raised again.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, a closed terminal
RAISED_AGAIN_AFTER_SECONDS = 0.25


class _StopRequest:
    """What has come of one block that can be stopped."""

    def __init__(self, exception: type[BaseException]) -> None:
        self._exception = exception
        self._raised: BaseException | None = None
        self._deferrals = 0
        self._timer = (0.0, 0.0)
        self.requested = False
        self.over = False

    def stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal.signal wants it
        for signal_number in STOP_SIGNALS:
            signal.signal(signal_number, signal.SIG_IGN)
        self.requested = True
        if not self.over:
            signal.setitimer(signal.ITIMER_REAL, RAISED_AGAIN_AFTER_SECONDS, RAISED_AGAIN_AFTER_SECONDS)
            self.insist()

    def insist(self, *_: object) -> None:
        """Raises, unless what was raised is on its way out, or must wait."""
        if not (self.over or self._deferrals or self._unwinding()):
            raise self.made()

    def made(self) -> BaseException:
        """What to raise."""
        self._raised = self._exception()
        return self._raised

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Meanwhile nothing is raised, but at the end."""
        self._deferrals += 1
        try:
            yield
        finally:
            self._deferrals -= 1
            if self.requested:
                self.insist()

    def _unwinding(self) -> bool:
        """Whether a `finally`, an `except` or an `__exit__` deals with what was raised, or with what came of that."""
        return self.is_cause_of(sys.exception())

    def is_cause_of(self, error: BaseException | None) -> bool:
        """Whether it is what was raised, or came of that."""
        while error is not None and error is not self._raised:
            error = error.__context__
        return error is not None


_open: list[_StopRequest] = []  # of the blocks that are entered, the innermost last; of the main thread


@contextlib.contextmanager
def stoppable(exception: type[BaseException]) -> Iterator[None]:
    """Meanwhile the first of these signals raises `exception`, and those after it are ignored, so that stopping is not
    itself stopped. The block never ends well after one: where the exception got lost, it is raised again, and at the
    latest at the block's end. Nor does it end with an error that came of stopping, as of a connection that was stopped
    in the middle of a statement: that is the cause of what is raised instead. So whoever catches it does that outside
    of the block.

    Those that are ignored already, as under nohup, stay so, but for `kill`, which nobody sends by accident. Afterwards
    all handlers are those from before. Only in the main thread.
    """
    request = _StopRequest(exception)
    with _handled(request):
        try:
            yield
        except Exception as error:
            if request.is_cause_of(error):
                raise request.made() from error
            raise
    if request.requested:
        raise request.made()


@contextlib.contextmanager
def _handled(request: _StopRequest) -> Iterator[None]:
    with contextlib.ExitStack() as afterwards:
        afterwards.callback(signal.signal, signal.SIGALRM, signal.getsignal(signal.SIGALRM))
        afterwards.callback(signal.setitimer, signal.ITIMER_REAL, *signal.getitimer(signal.ITIMER_REAL))
        for number in STOP_SIGNALS:
            afterwards.callback(signal.signal, number, signal.getsignal(number))
        try:
            _open.append(request)
            signal.signal(signal.SIGALRM, request.insist)
            for number in STOP_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGTERM:
                    signal.signal(number, request.stop)
            yield
        finally:
            request.over = True
            _open.remove(request)


@contextlib.contextmanager
def unstopped() -> Iterator[None]:
    """What must not be done by half: a signal that comes meanwhile raises at its end. Only in the main thread."""
    with contextlib.ExitStack() as deferrals:
        for request in _open:
            deferrals.enter_context(request.deferred())
        yield


@contextlib.contextmanager
def children_unstopped() -> Iterator[None]:
    """Processes that are started meanwhile never get these signals, which reach a whole group: their parent ends them.
    One that comes meanwhile reaches us at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
