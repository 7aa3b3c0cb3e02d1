"""Breaks things, each fault in a window of time that is written down."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from faults.load import Load
from faults.promises import Window
from faults.shifted import set_clock
from faults.site import Session, Site
from local.errors import LocalError
from wakeups.sqs import decode

SPARED_AFTER_RECEIVES = (
    3  # the fifth crash of one message rightly dead-letters it: nobody is to have that much bad luck
)
STORM_MESSAGES = 500
BURST_SECONDS = 2.0
CLOCK_JUMPS_SECONDS = (2.0, 60.0)
FULL_DISK_ROWS = 200
MAKE_TIME_PASS_SECONDS = 6.0
CALM_SECONDS = 120.0  # how long to wait until nobody has had too much bad luck
READY_SECONDS = 120.0
CRASH_SECONDS = 5.0

type _Act = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effect:
    """What goes on beside the next faults, until it is ended."""

    kind: str
    started_at: float
    until: float
    end: _Act


class Monkey:
    """Runs in the thread that started PostgreSQL, which must also be the one that starts it again."""

    def __init__(self, site: Site, load: Load, randomness: random.Random) -> None:
        self.windows: list[Window] = []
        self.refused = 0  # statements that PostgreSQL refused for want of space
        self.restarts = 0  # of PostgreSQL, which had ended by itself
        self.mercies = 0
        self._site = site
        self._load = load
        self._random = randomness
        self._session = site.session()
        self._effects: list[_Effect] = []
        self._passed_at = time.monotonic()
        pace = site.pace
        self._kinds: dict[str, tuple[int, _Act]] = {
            "kill API": (8, lambda: self._kill("ApiFunction")),
            "kill worker": (10, lambda: self._kill("AttemptFunction")),
            "freeze and thaw": (7, lambda: self._freeze("freeze and thaw", 0.2, pace.lease_seconds * 0.5)),
            "freeze past the lease": (
                7,
                lambda: self._freeze("freeze past the lease", pace.lease_seconds + 0.5, pace.visibility_seconds + 2),
            ),
            "end sessions": (7, self._end_sessions),
            "crash PostgreSQL": (3, self._crash),
            "stop PostgreSQL": (4, self._outage),
            "full disk": (5, self._full_disk),
            "hanging sessions": (6, self._hang_sessions),
            "hanging PostgreSQL": (4, self._hang_server),
            "lock": (7, self._lock),
            "clock jump": (9, self._jump),
            "double": (6, lambda: self._again(12)),
            "redelivery storm": (5, self._storm),
            "slow queue": (4, self._slow_queue),
            "lossy queue": (4, self._lossy_queue),
            "no queue": (3, self._no_queue),
            "ten times the load": (4, self._burst),
        }
        if site.disk is None:
            del self._kinds["full disk"]

    @property
    def session(self) -> Session:
        """Of the monkey's own; made again where it broke."""
        with contextlib.suppress(psycopg.Error):
            self._session.execute("SELECT 1")
            return self._session
        self._session.close()
        self._session = self._connected()
        return self._session

    def done(self) -> Counter[str]:
        """How many faults of each kind there were."""
        return Counter(window.kind for window in self.windows) + Counter(effect.kind for effect in self._effects)

    def deck(self, count: int) -> list[str]:
        """That many faults in a random order, the kinds in proportion to their weights, and each at least once where
        there is room."""
        weights = {kind: weight for kind, (weight, _) in self._kinds.items()}
        total = sum(weights.values())
        exact = {kind: count * weight / total for kind, weight in weights.items()}
        dealt = [kind for kind in exact for _ in range(int(exact[kind]))]
        rest = sorted(exact, key=lambda kind: (kind in dealt, int(exact[kind]) - exact[kind]))
        dealt += rest[: count - len(dealt)]
        self._random.shuffle(dealt)
        return dealt

    def strike(self, kind: str) -> None:
        """One fault, when nobody has had too much bad luck."""
        if kind not in ("kill API", "double", "ten times the load"):
            self._have_mercy()
        self._kinds[kind][1]()

    def rest(self, seconds: float) -> None:
        """Time in which only what was begun goes on."""
        time.sleep(seconds)
        self.tick()

    def tick(self) -> None:
        """Ends what is over; makes happen what waits for long; starts PostgreSQL where it ended by itself."""
        now = time.monotonic()
        for effect in [effect for effect in self._effects if effect.until <= now]:
            self._end(effect)
        if not self._site.postgres.running:
            self._start_again()
        if now - self._passed_at > MAKE_TIME_PASS_SECONDS:
            self._passed_at = now
            with contextlib.suppress(psycopg.Error):
                self._site.bring_forward(self.session, beyond_seconds=self._site.pace.lease_seconds + 1, orphans=False)

    def calm(self) -> None:
        """Ends everything that goes on. Nobody may wait for a process that stands still."""
        for effect in list(self._effects):
            self._end(effect)
        self._site.endpoint.calm()
        if self._site.disk is not None:
            self._site.disk.free()

    def close(self) -> None:
        """Leaves no session behind."""
        self._session.close()

    def _have_mercy(self) -> None:
        give_up_at = time.monotonic() + CALM_SECONDS
        spared = False
        while self._site.queue.most_received() >= SPARED_AFTER_RECEIVES and time.monotonic() < give_up_at:
            spared = True
            self.rest(0.2)
        self.mercies += spared

    def _begin(self, kind: str, seconds: float, end: _Act) -> None:
        now = time.monotonic()
        self._effects.append(_Effect(kind=kind, started_at=now, until=now + seconds, end=end))

    def _end(self, effect: _Effect) -> None:
        self._effects.remove(effect)
        effect.end()
        self._note(effect.kind, effect.started_at)

    def _note(self, kind: str, started_at: float) -> None:
        self.windows.append(Window(kind=kind, started_at=started_at, ended_at=time.monotonic()))

    @contextmanager
    def _window(self, kind: str) -> Iterator[None]:
        started_at = time.monotonic()
        try:
            yield
        finally:
            self._note(kind, started_at)

    def _some(self, function: str, count: int) -> list[int]:
        """Processes of a function."""
        pids = sorted(self._site.functions[function].process_ids)
        return self._random.sample(pids, min(len(pids), count))

    def _kill(self, function: str) -> None:
        """Kill -9 of one or two environments, whatever they do."""
        with self._window("kill API" if function == "ApiFunction" else "kill worker"):
            for pid in self._some(function, self._random.randint(1, 2)):
                send(pid, signal.SIGKILL)

    def _freeze(self, kind: str, least_seconds: float, most_seconds: float) -> None:
        """Environments stand still, and then go on as if nothing were."""
        pids = [*self._some("ApiFunction", 1), *self._some("AttemptFunction", 2)]
        for pid in pids:
            send(pid, signal.SIGSTOP)
        self._begin(kind, self._random.uniform(least_seconds, most_seconds), partial(_thaw, pids))

    def _jump(self) -> None:
        """The clocks of some environments are off, forwards or backwards, and later right again."""
        pids = [*self._some("AttemptFunction", 2), *self._some("ApiFunction", 1)]
        for pid in pids:
            off = self._random.uniform(*CLOCK_JUMPS_SECONDS) * self._random.choice((-1, 1))
            set_clock(self._site.clocks, pid, off_seconds=off)
        self._begin("clock jump", self._random.uniform(2.0, 8.0), partial(self._set_right, pids))

    def _set_right(self, pids: list[int]) -> None:
        for pid in pids:
            set_clock(self._site.clocks, pid, off_seconds=0.0)

    def _sessions(self) -> list[int]:
        found = self.session.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'sallyport'")
        return [row["pid"] for row in found]

    def _end_sessions(self) -> None:
        with self._window("end sessions"):
            pids = self._sessions()
            for pid in self._random.sample(pids, min(len(pids), self._random.randint(1, 4))):
                self.session.execute("SELECT pg_terminate_backend(%s)", [pid])

    def _crash(self) -> None:
        """Kill -9 of one session: PostgreSQL ends all others and recovers."""
        with self._window("crash PostgreSQL"):
            pids = self._sessions()
            for pid in self._random.sample(pids, min(len(pids), 1)):
                send(pid, signal.SIGKILL)
            self._until_gone()
            self._session = self._connected()

    def _until_gone(self) -> None:
        """Until PostgreSQL has ended this session too. It does nothing where there was none to kill."""
        give_up_at = time.monotonic() + CRASH_SECONDS
        with contextlib.suppress(psycopg.Error):
            while time.monotonic() < give_up_at:
                self._session.execute("SELECT 1")
                time.sleep(0.02)
        self._session.close()

    def _outage(self) -> None:
        with self._window("stop PostgreSQL"):
            self._calm_sessions()
            self._session.close()
            self._site.postgres.stop()
            time.sleep(self._random.uniform(0.2, 1.2))
            self._site.postgres.start()
            self._session = self._connected()

    def _full_disk(self) -> None:
        """PostgreSQL gets no more room, which is seen by its refusal."""
        disk = self._site.disk
        assert disk is not None  # noqa: S101 - without one this fault is not among the kinds
        with self._window("full disk"):
            session = self.session
            session.execute("CREATE TABLE IF NOT EXISTS faults_ballast (content text)")
            disk.fill()
            try:
                self.refused += self._is_refused(session)
                time.sleep(self._random.uniform(0.5, 2.5))
            finally:
                disk.free()
            self._session.close()
            self._session = self._connected()
            self._session.execute("TRUNCATE faults_ballast")

    @staticmethod
    def _is_refused(session: Session) -> bool:
        rows = "INSERT INTO faults_ballast SELECT repeat(md5(random()::text), 200) FROM generate_series(1, %s)"
        try:
            for _ in range(FULL_DISK_ROWS):
                session.execute(rows, [FULL_DISK_ROWS])
        except (psycopg.errors.DiskFull, psycopg.OperationalError):
            return True
        return False

    def _hang_sessions(self) -> None:
        """Some sessions stand still on connections that stay open, for longer or shorter than anybody waits."""
        pids = self._sessions()
        chosen = self._random.sample(pids, min(len(pids), self._random.randint(1, 3)))
        seconds = self._random.uniform(1.0, 7.0)
        for pid in chosen:
            send(pid, signal.SIGSTOP)
        self._begin("hanging sessions", seconds, partial(_thaw, chosen))
        # One that holds a lock of PostgreSQL's own (LWLock) makes all others wait without a time limit, also the one
        # that this thread waits for: so another thread lets it go on.
        timer = threading.Timer(seconds, partial(_thaw, chosen))
        timer.daemon = True
        timer.start()

    def _hang_server(self) -> None:
        """PostgreSQL stands still as a whole, as on a host that froze: who connects waits too."""
        with self._window("hanging PostgreSQL"):
            pids = server_processes(self._site.postgres.pid)
            try:
                for pid in pids:
                    send(pid, signal.SIGSTOP)
                time.sleep(self._random.uniform(0.5, 6.0))
            finally:
                _thaw(pids)

    def _lock(self) -> None:
        """Statements on deliveries wait, and then something else happens to those who wait."""
        with self._window("lock"), contextlib.suppress(psycopg.Error), self.session.transaction():
            self._session.execute("SET LOCAL lock_timeout = '5s'")
            self._session.execute("LOCK TABLE delivery IN SHARE ROW EXCLUSIVE MODE")
            time.sleep(self._random.uniform(0.1, 0.5))
            for pid in self._some("AttemptFunction", self._random.randint(0, 1)):
                send(pid, signal.SIGKILL)

    def _again(self, count: int) -> None:
        """Wake-ups come once more, now or later."""
        with self._window("double"):
            self._send_again(count, later_seconds=3)

    def _send_again(self, count: int, *, later_seconds: int) -> None:
        sent = list(self._site.endpoint.recent)
        for body in self._random.sample(sent, min(len(sent), count)):
            delay = self._random.randint(0, later_seconds)
            self._site.queue.send(body, group=decode(body).group, delay_seconds=delay)

    def _storm(self) -> None:
        """Whatever is in flight is visible at once, and hundreds of wake-ups come once more."""
        with self._window("redelivery storm"):
            now = time.monotonic()
            in_flight = [
                message
                for message in self._site.queue.held()
                if 0 < message.receives < SPARED_AFTER_RECEIVES - 1 and message.visible_at > now
            ]
            self._site.queue.show_now(in_flight, lambda _: None)
            self._send_again(STORM_MESSAGES, later_seconds=0)

    def _slow_queue(self) -> None:
        """With a death in the midst of it."""
        with self._window("slow queue"):
            self._site.endpoint.hold_seconds = 0.5
            time.sleep(0.3)
            for pid in self._some(self._random.choice(("ApiFunction", "AttemptFunction")), 1):
                send(pid, signal.SIGKILL)
            time.sleep(0.3)
            self._site.endpoint.calm()

    def _lossy_queue(self) -> None:
        with self._window("lossy queue"):
            self._site.endpoint.lose = 0.5
            time.sleep(0.5)
            self._site.endpoint.calm()

    def _no_queue(self) -> None:
        with self._window("no queue"):
            self._site.endpoint.away = True
            time.sleep(self._random.uniform(0.2, 0.8))
            self._site.endpoint.calm()

    def _burst(self) -> None:
        self._load.burst(BURST_SECONDS)
        self._begin("ten times the load", BURST_SECONDS, lambda: None)

    def _calm_sessions(self) -> None:
        """PostgreSQL cannot stop while a session of it stands still."""
        for effect in [effect for effect in self._effects if effect.kind == "hanging sessions"]:
            self._end(effect)

    def _connected(self) -> Session:
        """As soon as PostgreSQL serves."""
        give_up_at = time.monotonic() + READY_SECONDS
        while True:
            if not self._site.postgres.running:
                self._start_again()
            try:
                return self._site.session()
            except psycopg.OperationalError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.05)

    def _start_again(self) -> None:
        self.restarts += 1
        with contextlib.suppress(LocalError):
            self._site.postgres.stop()
        self._site.postgres.start()


def send(pid: int, number: signal.Signals) -> None:
    """A signal; nothing where the process has ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _thaw(pids: list[int]) -> None:
    for pid in pids:
        send(pid, signal.SIGCONT)


def server_processes(postmaster: int | None) -> list[int]:
    """PostgreSQL's processes, the first one first."""
    if postmaster is None:
        return []
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
    with contextlib.suppress(OSError):
        return [postmaster, *map(int, children.read_text(encoding="ascii").split())]
    return [postmaster]
