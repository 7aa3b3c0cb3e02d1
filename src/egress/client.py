"""The HTTP client: many requests at once, each with its deadlines, to addresses that were checked and to no others."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from queue import SimpleQueue

import pycurl

from domain.limits import SLOW_SECONDS
from domain.outcomes import Answered, Exchange, FailedStep, Outcome, Refused, Unknown, Unreachable
from domain.values import value_class
from egress.addresses import Guard, Resolved, UrlTarget
from egress.connection_policy import PinnedRoute
from egress.engine import Ended, Engine
from egress.lookups import HostPort, LookupResult, Lookups
from egress.request import OutboundRequest, PendingRequest, fault_in_request
from egress.response import RESPONSE_CAP_BYTES
from egress.transfer import Run, Transfer
from runtime.isolation import isolated
from runtime.roots import ca_bundle as find_ca_bundle

__all__ = ["RESPONSE_CAP_BYTES", "Client", "EarlyResults", "OutboundRequest", "PendingRequest", "Sendable"]

type Sendable = OutboundRequest | PendingRequest


@value_class(frozen=True, slots=True, kw_only=True)
class EarlyResults:
    """Asks for the exchanges that end while others are still in flight. `report` gets them once, by request position.

    It is called when half of them have ended, but not before `half_after_seconds`; or when any has, after
    `any_after_seconds`. `note_slow` gets the positions of those that have not ended `slow_after_seconds` after the
    start, once. All transfers wait while either runs, so they must be quick; they go on where one raises.
    """

    report: Callable[[Mapping[int, Exchange]], None]
    note_slow: Callable[[Sequence[int]], None] | None = None
    half_after_seconds: float = 1.0
    any_after_seconds: float = 5.0
    slow_after_seconds: float = SLOW_SECONDS

    @property
    def moments_seconds(self) -> tuple[float, ...]:
        """When to look, even if nothing has happened."""
        return (self.half_after_seconds, self.any_after_seconds, self.slow_after_seconds)

    def is_time(self, *, ended: int, of: int, seconds: float) -> bool:
        """Whether to report now that `ended` have ended, `seconds` after the start."""
        if not 0 < ended < of:
            return False
        return seconds >= self.any_after_seconds or (seconds >= self.half_after_seconds and 2 * ended >= of)


class Client:
    """Sends requests to third parties and reuses connections between calls. Safe to use from several threads.

    `ca_bundle` is a PEM file of the roots to trust; empty for the system's. Raises SettingsError when there are none.
    """

    def __init__(self, guard: Guard, ca_bundle: str = "") -> None:
        self._guard = guard
        self._roots = find_ca_bundle(ca_bundle)
        self._lookups = Lookups(guard.resolve)
        self._idle: deque[Engine] = deque()

    def send_all(self, requests: Sequence[Sendable], *, early: EarlyResults | None = None) -> list[Exchange]:
        """Sends all `requests` at once; returns their exchanges in the same order. Whatever a partner does is an
        outcome, and so is a fault of ours in one transfer: the others go on. With `early`, some are reported before the
        last ends. One that waits for something holds up no other."""
        engine = self._engine()
        batch = _Batch(self._guard, self._lookups, engine, roots=self._roots, early=early)
        exchanges = batch.run(requests)
        self._idle.append(engine)  # not if `run` raised: the engine may still have transfers
        return exchanges

    def close(self) -> None:
        """Closes the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _engine(self) -> Engine:
        try:
            return self._idle.pop()
        except IndexError:
            return Engine()


class _Batch:
    """The requests of one call, on one engine."""

    def __init__(
        self, guard: Guard, lookups: Lookups, engine: Engine, *, roots: str, early: EarlyResults | None
    ) -> None:
        self._guard = guard
        self._lookups = lookups
        self._engine = engine
        self._roots = roots
        self._early = early
        self._reported = self._noted = False
        self._began_at = time.monotonic()
        self._lookup_results: SimpleQueue[tuple[HostPort, LookupResult]] = SimpleQueue()
        self._waiting: dict[HostPort, list[tuple[Transfer, UrlTarget]]] = {}
        self._running: dict[pycurl.Curl, Run] = {}
        self._pending: list[Transfer] = []
        self._soonest = math.inf  # of all deadlines; perhaps of one that is over or has moved away
        self._completed: SimpleQueue[tuple[Transfer, PendingRequest, OutboundRequest | Unreachable]] = SimpleQueue()

    def run(self, requests: Sequence[Sendable]) -> list[Exchange]:
        """Starts all, then runs the engine until all have ended."""
        transfers = [Transfer(request, started_at=time.monotonic()) for request in requests]
        for transfer in transfers:
            self._isolated(transfer, partial(self._start, transfer))
        self._soonest = self._next_deadline()
        while self._waiting or self._running or self._pending:
            for ended in self._engine.turn(until=self._soonest):
                self._end(ended)
            self._begin_completed()
            self._begin_resolved()
            if self._soonest <= time.monotonic():
                self._end_late()
                self._soonest = self._next_deadline()
            self._report_early(transfers)
        return [transfer.exchange for transfer in transfers if transfer.exchange is not None]

    def _report_early(self, transfers: Sequence[Transfer]) -> None:
        early, seconds = self._early, time.monotonic() - self._began_at
        if early is None or seconds < min(early.moments_seconds):
            return
        ended = {
            position: transfer.exchange for position, transfer in enumerate(transfers) if transfer.exchange is not None
        }
        if not self._reported and early.is_time(ended=len(ended), of=len(transfers), seconds=seconds):
            self._reported = True
            isolated(partial(early.report, ended), otherwise=lambda _: None, step="report early")
        if not self._noted and seconds >= early.slow_after_seconds:
            self._noted = True
            self._note_slow(early, [position for position in range(len(transfers)) if position not in ended])

    @staticmethod
    def _note_slow(early: EarlyResults, slow: Sequence[int]) -> None:
        if early.note_slow is not None and slow:
            isolated(partial(early.note_slow, slow), otherwise=lambda _: None, step="report what takes long")

    def _start(self, transfer: Transfer) -> None:
        target = self._guard.target(transfer.request.url)
        if isinstance(target, Refused):
            transfer.end_unsent(target, now=time.monotonic())
        elif (fault := fault_in_request(transfer.request)) is not None:
            transfer.end_unsent(Refused(reason=fault), now=time.monotonic())
        elif transfer.pending is not None:
            self._await(transfer, transfer.pending)
        elif target.address is not None:
            self._begin(transfer, target, Resolved(addresses=(target.address,)))
        else:
            self._look_up(transfer, target)

    def _await(self, transfer: Transfer, pending: PendingRequest) -> None:
        """Has what the transfer needs fetched; it comes on another thread, or perhaps at once."""
        transfer.await_pending(pending, now=time.monotonic())
        self._pending.append(transfer)
        self._expect(transfer.wait_until)

        def completed(request: OutboundRequest | Unreachable) -> None:
            self._completed.put((transfer, pending, request))
            self._engine.wake()

        pending.begin(completed)

    def _begin_completed(self) -> None:
        while not self._completed.empty():
            transfer, pending, result = self._completed.get()
            if transfer.pending is pending and transfer.exchange is None:  # and not given up since
                self._isolated(transfer, partial(self._complete, transfer, result))
        self._pending = [transfer for transfer in self._pending if transfer.pending and transfer.exchange is None]

    def _complete(self, transfer: Transfer, result: OutboundRequest | Unreachable) -> None:
        if isinstance(result, Unreachable):
            transfer.end_unsent(result, now=time.monotonic())
        else:
            transfer.restart(result, now=time.monotonic())
            self._start(transfer)

    def _look_up(self, transfer: Transfer, target: UrlTarget) -> None:
        host_port = (target.host, target.port)
        self._expect(transfer.connect_by)
        already_asked = host_port in self._waiting
        self._waiting.setdefault(host_port, []).append((transfer, target))
        if not already_asked:
            self._lookups.ask(host_port, self._on_lookup_result)

    def _on_lookup_result(self, host_port: HostPort, result: LookupResult) -> None:
        """Called on a lookup's thread."""
        self._lookup_results.put((host_port, result))
        self._engine.wake()

    def _begin_resolved(self) -> None:
        while not self._lookup_results.empty():
            host_port, result = self._lookup_results.get()
            for transfer, target in self._waiting.pop(host_port, ()):
                self._isolated(transfer, partial(self._begin, transfer, target, result))

    def _begin(self, transfer: Transfer, target: UrlTarget, result: LookupResult) -> None:
        if not isinstance(result, Resolved):
            transfer.end_unsent(result, now=time.monotonic())
            return
        route = PinnedRoute(
            target=target,
            addresses=result.addresses,
            roots=self._roots,
            sockets=self._engine.sockets,
            encrypted=transfer.request.url[:6].lower() == "https:",
            owner=transfer.request.owner,
            tls=transfer.request.tls,
        )
        self._start_run(transfer, route, fresh=not transfer.request.may_repeat)

    def _start_run(self, transfer: Transfer, route: PinnedRoute, *, fresh: bool) -> None:
        run = Run(transfer, route, now=time.monotonic(), fresh=fresh)
        self._running[run.handle] = run
        self._expect(run.answer_by)
        transfer.may_be_sent = True
        self._engine.add(run.handle)

    def _end(self, ended: Ended) -> None:
        run = self._running.pop(ended.handle)
        self._isolated(run.transfer, partial(self._conclude, run, ended))

    def _conclude(self, run: Run, ended: Ended) -> None:
        self._engine.remove(ended.handle)
        if run.connection_was_stale:
            self._start_run(run.transfer, run.route, fresh=True)
        else:
            run.end(ended, now=time.monotonic())
            self._follow(run.transfer)

    def _follow(self, transfer: Transfer) -> None:
        """A 401 is answered with another request, where there is one."""
        after_401, exchange = transfer.request.after_401, transfer.exchange
        if after_401 is not None and exchange is not None and _is_unauthorized(exchange):
            self._await(transfer, after_401)

    def _isolated(self, transfer: Transfer, step: Callable[[], None]) -> None:
        """Makes one step of one transfer; an unexpected exception in it ends that transfer."""
        isolated(step, otherwise=partial(self._end_faulty, transfer), step="transfer")

    def _end_faulty(self, transfer: Transfer, error: Exception) -> None:
        """Some of the request may have been sent from the moment when libcurl was given it, and not before."""
        for run in [run for run in self._running.values() if run.transfer is transfer]:
            del self._running[run.handle]
            self._engine.remove(run.handle)
        fault = f"a fault of the gateway itself ({type(error).__name__})"
        outcome: Outcome = (
            Unknown(reason=fault) if transfer.may_be_sent else Unreachable(reason=f"{fault}; nothing was sent")
        )
        transfer.end_unsent(outcome, now=time.monotonic())

    def _end_late(self) -> None:
        now = time.monotonic()
        for host_port, waits in list(self._waiting.items()):
            self._end_waits(host_port, waits, now=now)
        for run in [run for run in self._running.values() if run.answer_by <= now]:
            self._end(Ended(run.handle, pycurl.E_OPERATION_TIMEDOUT, ""))
        for transfer in self._pending:
            if transfer.pending is not None and transfer.wait_until <= now:
                transfer.end_unsent(transfer.pending.late, now=now)
        self._pending = [transfer for transfer in self._pending if transfer.exchange is None]

    def _end_waits(self, host_port: HostPort, waits: list[tuple[Transfer, UrlTarget]], *, now: float) -> None:
        """Ends those whose time to connect has passed while their name is still being looked up."""
        for transfer, _ in waits:
            if transfer.connect_by <= now:
                late = Unreachable(reason=f"{host_port[0]} did not resolve in time", at=FailedStep.NAME)
                transfer.end_unsent(late, now=now)
        left = [(transfer, target) for transfer, target in waits if transfer.exchange is None]
        if left:
            self._waiting[host_port] = left
        else:
            del self._waiting[host_port]

    def _next_deadline(self) -> float:
        waiting = [transfer.connect_by for waits in self._waiting.values() for transfer, _ in waits]
        pending = [transfer.wait_until for transfer in self._pending]
        running = [run.answer_by for run in self._running.values()]
        return min([*waiting, *pending, *self._early_moments(), *running], default=math.inf)

    def _expect(self, deadline: float) -> None:
        """One more deadline. It may move away later, as when an answer begins, but comes no sooner: so the soonest need
        not be looked for again before it has come."""
        self._soonest = min(self._soonest, deadline)

    def _early_moments(self) -> list[float]:
        """When to check whether to report, even if nothing has happened."""
        if self._early is None:
            return []
        moments = [self._began_at + seconds for seconds in self._early.moments_seconds]
        return [moment for moment in moments if moment > time.monotonic()]


def _is_unauthorized(exchange: Exchange) -> bool:
    return isinstance(exchange.outcome, Answered) and exchange.outcome.status == HTTPStatus.UNAUTHORIZED
