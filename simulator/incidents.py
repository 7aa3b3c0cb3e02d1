"""What happens to everybody at once, for a while; and the operator who puts right what only a person can."""

from collections.abc import Callable, Sequence

from domain.errors import Unavailable
from flows.services import Services
from flows.wake_overdue import Woken, wake_overdue
from simulator.bulk import BulkManagers
from simulator.choices import INCIDENTS as INCIDENTS_STREAM
from simulator.choices import OPERATOR
from simulator.database import Server
from simulator.faults import INCIDENTS, Kind
from simulator.functions import Fleet, NoAnswer
from simulator.managers import Managers
from simulator.sqs import ModelledQueue
from simulator.world import World

OUTAGES_SECONDS = (5.0, 60.0, 400.0, 20.0, 40.0)
RESUME_SECONDS = 15.0  # Aurora Serverless v2 user guide: about 15 s from a pause to the first connection
FAILOVER_SECONDS = (5.0, 30.0)
OVERDUE_SECONDS = 600
ROUND_SECONDS = 3600.0
MOST_ROUNDS = 200
SKEW_SECONDS = 4.1
_SHARE_PERCENT = 30
_SOON_SECONDS = 60.0  # most deliveries are attempted by then


class Incidents:
    """Draws when each of the possible incidents happens, if at all, within `within_seconds`."""

    def __init__(self, world: World, server: Server, queue: ModelledQueue, fleets: tuple[Fleet, ...]) -> None:
        self._world = world
        self._server = server
        self._queue = queue
        self._fleets = fleets
        self.purged = False

    def plan(self, *, within_seconds: float) -> None:
        """Makes them due."""
        with self._world.choices.of_stream(INCIDENTS_STREAM):
            for kind in INCIDENTS:
                if kind in self._world.weather.possible and self._world.choices.happens(_SHARE_PERCENT):
                    latest = self._world.choices.of((_SOON_SECONDS, within_seconds))
                    at = latest * self._world.choices.choose(50) / 50
                    self._world.scheduler.call_at(at, self._acts(kind))

    def _acts(self, kind: Kind) -> Callable[[], None]:
        def act() -> None:
            if not self._world.weather.over:
                self._world.strike(kind)
                self.happen(kind)

        return act

    def happen(self, kind: Kind) -> None:
        """Brings it about, now."""
        choices = self._world.choices
        match kind:
            case Kind.OUTAGE:
                self._server.go_away(choices.of(OUTAGES_SECONDS), refuses=choices.choose(2) == 0)
            case Kind.PAUSED:
                self._server.go_away(RESUME_SECONDS, refuses=False)
            case Kind.FAILOVER:
                self._server.fail_over(choices.of(FAILOVER_SECONDS))
            case Kind.SQS_OUTAGE:
                self._queue.go_away(choices.of(OUTAGES_SECONDS))
            case Kind.PURGED:
                self.purged = True
                self._queue.purge()
            case Kind.DEPLOYMENT:
                for fleet in self._fleets:
                    fleet.replace_idle()


class Operator:
    """Redrives dead letters, and wakes what a purge left without a message, as docs/running.md says."""

    def __init__(
        self,
        world: World,
        server: Server,
        queue: ModelledQueue,
        workers: Fleet,
        managers: Managers,
        bulk: BulkManagers,
    ) -> None:
        self._managers = managers
        self._bulk = bulk
        self._world = world
        self._server = server
        self._queue = queue
        self._workers = workers

    def begin(self, *, purged: bool) -> None:
        """Sets to work once faults have stopped."""
        with self._world.choices.of_stream(OPERATOR):
            self._world.scheduler.spawn(lambda: self._work(purged=purged))

    def hurry(self, *, within_seconds: float) -> None:
        """Perhaps sets to work while everything goes wrong: what is woken twice must do no harm."""
        with self._world.choices.of_stream(OPERATOR):
            if self._world.choices.happens(_SHARE_PERCENT):
                for _ in range(self._world.choices.of((1, 1, 4))):
                    at = within_seconds * self._world.choices.choose(10) / 10
                    self._world.scheduler.call_at(at, lambda: self._world.scheduler.spawn(self._try_to_wake))

    def _try_to_wake(self) -> None:
        self._world.scheduler.follow(OPERATOR)
        self._world.mark("operator: wakes while faults go on")
        try:
            self._wake(overdue_seconds=0)
        except (Unavailable, NoAnswer) as error:
            self._world.mark(f"operator: cannot wake, {type(error).__name__}")

    def _work(self, *, purged: bool) -> None:
        for _ in range(MOST_ROUNDS):
            if self._queue.dead:
                self._world.mark("operator: redrives dead letters")
                self._world.log("operator", "redrive", f"moves {len(self._queue.dead)} dead letters back")
                self._queue.redrive()
            self._managers.activate()
            self._managers.resolve()
            self._bulk.finish(purged=purged, waiting=self._queue.waiting())
            if purged and self._unfinished():
                self._wake()
            rest = self._queue.messages or self._queue.dead or (purged and self._unfinished())
            if not rest and not self._server.holding() and not self._server.unfinished_jobs():
                return  # until then a message may become a dead letter, which raises an alarm
            self._world.scheduler.pause(ROUND_SECONDS)

    def _unfinished(self) -> bool:
        to_ask = self._server.to_ask()
        return bool(to_ask) or any(state in ("pending", "sending") for state in self._server.states.values())

    def _wake(self, *, overdue_seconds: int = OVERDUE_SECONDS) -> None:
        calm, after = self._world.weather.over, None
        overdue = self._server.overdue(overdue_seconds + SKEW_SECONDS)
        limit = self._world.choices.of((5, 1, 100))
        while True:

            def work(services: Services, _: float, after: object = after) -> Woken:
                return wake_overdue(overdue_seconds=overdue_seconds, after=after, limit=limit, services=services)  # type: ignore[arg-type]

            woken, _ = self._workers.invoke(work, what="wake overdue")
            self._world.log("operator", "wake", f"wakes {woken.count} overdue deliveries")
            if woken.count:
                self._world.mark("operator: wakes what has no message")
            if woken.next_after is None:
                self._world.evidence.missed += self._without_message(overdue) if calm else []
                return
            after = woken.next_after

    def _without_message(self, overdue: Sequence[str]) -> list[str]:
        """Those of `overdue` that are unfinished and that no message will wake."""
        waiting, to_ask = self._queue.waiting(), self._server.to_ask()
        return [
            name
            for name in overdue
            if name not in waiting and (self._server.states[name] in ("pending", "sending") or name in to_ask)
        ]
