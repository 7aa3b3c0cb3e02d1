"""EventBridge's schedules on this machine: each invokes its function at once, and then at its rate."""

import logging
import threading

from local.functions import Function, FunctionError

_LOGGER = logging.getLogger(__name__)


class Schedule:
    """Invokes `function` with an empty event every `seconds`, on a thread of its own. A failed run waits for the next,
    as the template's own schedules do."""

    def __init__(self, function: Function, *, seconds: float) -> None:
        self._function = function
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)

    def start(self) -> None:
        """The first run begins now."""
        self._thread.start()

    def stop(self) -> None:
        """No run begins from now on. One under way ends, or fails when its function is stopped."""
        self._stopping.set()

    def join(self) -> None:
        """Waits for the run under way."""
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._function.invoke({})
            except FunctionError as error:
                if not self._stopping.is_set():
                    _LOGGER.warning("%s failed: %s", self._function.configuration.name, error)
            self._stopping.wait(self._seconds)
