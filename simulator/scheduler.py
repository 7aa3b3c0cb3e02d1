"""Virtual time, and the tasks that take turns in it.

Each task is a greenlet: the flows are ordinary synchronous code, and stop wherever they reach a seam. One of them runs
at a time; which one is next at a given moment is a choice. Time jumps to the next moment at which something is due.
"""

import heapq
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from simulator.choices import COMMON, Choices

MOST_STEPS = 60_000  # some eighty times what a run takes


class Killed(BaseException):
    """Raised in all tasks of a sandbox that crashes. No `except Exception` of the flows catches it."""


class NeverEnds(Exception):
    """A run that does not come to rest."""


class Signal:
    """What tasks wait for."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self._scheduler = scheduler
        self._waiting: list[tuple[Task, int]] = []
        self.fired = False

    def fire(self) -> None:
        """Lets all go on that wait now; who waits later waits for the next time."""
        self.fired = True
        waiting, self._waiting = self._waiting, []
        for task, turn in waiting:
            self._scheduler.push(self._scheduler.now, task, turn)

    def add(self, task: "Task") -> None:
        """Lets `task`, which is about to stop, go on when it fires."""
        self._waiting.append((task, task.turn))


class Sandbox:
    """One process of a function: what runs in it stops when it is frozen, and ends when it is killed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.asleep = False
        self.tasks: list[Task] = []
        self.parked: list[tuple[Task, int]] = []


class Task(greenlet):  # type: ignore[misc]  # greenlet has no type hints
    """One line of work. `sandbox` is the process it is part of; None for what is outside of our functions."""

    def __init__(self, scheduler: "Scheduler", work: Callable[[], object], sandbox: Sandbox | None) -> None:
        super().__init__(parent=scheduler.home)
        self.scheduler = scheduler
        self.sandbox = sandbox
        self.turn = 0
        self.stream = scheduler.stream
        self.done = Signal(scheduler)
        self._work = work

    def run(self) -> None:
        """Called by greenlet."""
        try:
            if self.sandbox is None or self.sandbox.alive:
                self._work()
        except Killed:
            pass
        finally:
            if self.sandbox is not None:
                self.sandbox.tasks.remove(self)
            self.done.fire()

    def never_begin(self) -> None:
        """For a task whose sandbox ended before it was its turn."""
        self.turn += 1
        if self.sandbox is not None:
            self.sandbox.tasks.remove(self)
        self.done.fire()

    @property
    def ended(self) -> bool:
        """Whether its work is done, however."""
        return self.done.fired


class Scheduler:
    """Runs tasks and timers in the order of their moments. `now` is virtual seconds since the run began."""

    def __init__(self, choices: Choices) -> None:
        self.now = 0.0
        self.steps = 0
        self.home = getcurrent()
        self._choices = choices
        self._heap: list[tuple[float, int, Any, int, int]] = []
        self._due: list[tuple[Any, int, int]] = []
        self._pushed = 0

    @property
    def current(self) -> Task:
        """The task that runs now."""
        task = getcurrent()
        assert isinstance(task, Task)
        return task

    @property
    def stream(self) -> int:
        """What chance decides now is drawn from this stream: new tasks and timers inherit it."""
        return self._choices.stream

    def follow(self, stream: int) -> None:
        """The present task goes on for somebody else, whose stream this is."""
        self.current.stream = self._choices.stream = stream

    def spawn(self, work: Callable[[], object], *, sandbox: Sandbox | None = None) -> Task:
        """A new task, which begins when it is its turn."""
        task = Task(self, work, sandbox)
        if sandbox is not None:
            sandbox.tasks.append(task)
        self.push(self.now, task, 0)
        return task

    def call_at(self, at: float, action: Callable[[], object]) -> None:
        """Calls `action`, which must not wait for anything, at that moment."""
        self.push(max(at, self.now), action, 0)

    def push(self, at: float, what: Any, turn: int) -> None:
        """Makes a task or an action due at that moment."""
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, what, turn, self.stream))

    def pause(self, seconds: float) -> None:
        """Lets others run for so long."""
        task = self._living()
        self.push(self.now + seconds, task, task.turn)
        self._stop(task)

    def wait(self, signal: Signal, seconds: float | None = None) -> None:
        """Waits for `signal`, but no longer than that."""
        task = self._living()
        signal.add(task)
        if seconds is not None:
            self.push(self.now + max(0.0, seconds), task, task.turn)
        self._stop(task)

    def run(self, until: float = float("inf")) -> None:
        """Until nothing is due before `until`. Raises NeverEnds."""
        while self._due or self._heap:
            while self._heap and (self._heap[0][0] <= self.now or not self._due):
                if self._heap[0][0] > max(self.now, until):
                    return
                at, _, what, turn, stream = heapq.heappop(self._heap)
                self.now = max(self.now, at)
                self._due.append((what, turn, stream))
            self._step()

    def crash(self, sandbox: Sandbox) -> None:
        """Ends a sandbox from inside or outside: none of its tasks does anything any more."""
        sandbox.alive = False
        sandbox.asleep = False
        self.call_at(self.now, lambda: self.end(sandbox))

    def end(self, sandbox: Sandbox) -> None:
        """What `crash` leads to, outside of all tasks."""
        for task in list(sandbox.tasks):
            if task.gr_frame is None:
                task.never_begin()
            else:
                task.throw(Killed)

    def freeze(self, sandbox: Sandbox) -> None:
        """Stops all tasks of a sandbox where they are."""
        sandbox.asleep = True

    def thaw(self, sandbox: Sandbox) -> None:
        """Lets them go on."""
        sandbox.asleep = False
        parked, sandbox.parked = sandbox.parked, []
        for task, turn in parked:
            self.push(self.now, task, turn)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise NeverEnds(f"{MOST_STEPS:,} steps, and it goes on")
        self._choices.stream = COMMON
        what, turn, self._choices.stream = self._due.pop(self._choices.choose(len(self._due)))
        if not isinstance(what, Task):
            what()
        elif not what.ended and turn == what.turn:
            self._resume(what, turn)

    def _resume(self, task: Task, turn: int) -> None:
        if task.sandbox is not None and task.sandbox.asleep:
            task.sandbox.parked.append((task, turn))
            return
        task.turn += 1
        self._choices.stream = task.stream
        task.switch()

    def _living(self) -> Task:
        task = self.current
        if task.sandbox is not None and not task.sandbox.alive:
            raise Killed
        return task

    def _stop(self, task: Task) -> None:
        self.home.switch()
        if task.sandbox is not None and not task.sandbox.alive:
            raise Killed
