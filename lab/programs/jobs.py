"""What the stack is for, end to end: real calls of the API, real handlers, and what every side saw of it.

A job's result is data: what the API answered, the rows in the database, the partner's own log, and the sources that the
internet gateway let out towards the partner. Who judges them is lab/programs/checks.py.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import Any, Literal

from lab.model import world
from lab.model.errors import ProgramCannotRun
from lab.programs.api import ApiResponse
from lab.programs.functions import PlacedFunction
from lab.programs.testbed import RunningLab
from lab.programs.third_party import Visit
from local.functions import FunctionError
from stack.functions import EGRESS_CHECKS

type JobTarget = Literal["partner", "corporate", "nobody"]
type JobKind = Literal["sync", "queued", "passed through"]

_NAMES: Mapping[JobTarget, str] = {
    "partner": world.PARTNER_NAME,
    "corporate": world.CORPORATE_NAME,
    "nobody": world.NOBODY_NAME,
}
_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05
# Where nobody answers, the attempt ends after this long.
_TIMEOUTS = {"connect_seconds": 1, "first_byte_seconds": 5, "total_seconds": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt as the database has it. `egress_address` is None where it left by no fixed address."""

    outcome: str
    status: int | None
    egress_address: IPv4Address | None
    remote_address: IPv4Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One delivery. `status` is the API's answer; `visits` the target's log of it; `ledger` the sources that the
    internet gateway let out towards the target, by this job and those before.
    """

    kind: JobKind
    target: JobTarget
    zone: str | None
    status: int
    problem: str
    state: str | None
    attempts: tuple[AttemptRow, ...]
    visits: tuple[Visit, ...]
    ledger: frozenset[IPv4Address]
    seconds: float

    @property
    def arrived(self) -> bool:
        """Whether the target took it."""
        return any(visit.status is not None and 200 <= visit.status < 300 for visit in self.visits)

    @property
    def seen(self) -> frozenset[IPv4Address]:
        """The source addresses that the target saw."""
        return frozenset(visit.source for visit in self.visits)

    @property
    def recorded(self) -> frozenset[IPv4Address]:
        """The egress addresses in the attempts' rows."""
        return frozenset(row.egress_address for row in self.attempts if row.egress_address is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressCheckResult:
    """What the egress check of a zone answered. `verdict` begins with "error" where it failed altogether."""

    zone: str
    published: str | None
    seen: str | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All jobs in all zones, the egress checks, and what GET /v1/egress showed after them."""

    jobs: tuple[Job, ...]
    checks: tuple[EgressCheckResult, ...]
    shown: tuple[Mapping[str, Any], ...]


class Jobs:
    """The jobs of one lab. They come one after the other; what they need (token, destination) is made on first use."""

    def __init__(self, lab: RunningLab) -> None:
        self._lab = lab
        self._token = ""
        self._destinations: dict[JobTarget, str] = {}

    @property
    def target(self) -> JobTarget:
        """Who is called when nobody is named: the third party, or the corporate host, or an address without a host."""
        if self._lab.network.internet_gateway is not None:
            return "partner"
        return "nobody" if self._lab.corporate is None else "corporate"

    @property
    def zones(self) -> tuple[str, ...]:
        """Where the functions that call out may run."""
        return self._lab.functions["ApiFunction"].zones

    def everything(self) -> Results:
        """Each kind of job in each zone, the checks, and what the API shows of them."""
        jobs = [job(zone) for zone in self.zones for job in (self.sync, self.queued, self.passed_through)]
        return Results(jobs=tuple(jobs), checks=self.checks(), shown=tuple(self.shown()))

    def sync(self, zone: str | None = None, target: JobTarget | None = None) -> Job:
        """A delivery whose caller waits; the API's function makes the attempt."""
        return self._delivery("sync", zone, target or self.target, {"Prefer": "wait=15"})

    def queued(self, zone: str | None = None, target: JobTarget | None = None) -> Job:
        """A delivery that goes through the queue; Lambda's poller brings it to the function for attempts."""
        return self._delivery("queued", zone, target or self.target, {})

    def passed_through(self, zone: str | None = None, target: JobTarget | None = None) -> Job:
        """A call that the partner's own answer comes back to."""
        to = target or self.target

        def send(key: str) -> ApiResponse:
            path = f"/v1/via/{self._destination(to)}/orders"
            return self.answer("POST", path, body={"amount": 10}, headers={"Idempotency-Key": key})

        return self._job("passed through", zone, to, send)

    def checks(self) -> tuple[EgressCheckResult, ...]:
        """The egress checks of both zones, each in its own function; none without a way to the internet."""
        functions = [self._lab.functions[name] for name in sorted(self._lab.functions) if name in EGRESS_CHECKS]
        return tuple(map(_checked, functions))

    def shown(self) -> list[Mapping[str, Any]]:
        """GET /v1/egress: the published addresses with their verdicts."""
        answer = self.answer("GET", "/v1/egress")
        if answer.status != HTTPStatus.OK:
            raise ProgramCannotRun("ApiFunction", f"GET /v1/egress: {answer.status} {answer.body[:300]!r}")
        addresses: list[Mapping[str, Any]] = answer.json["addresses"]
        return addresses

    def answer(
        self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> ApiResponse:
        """Any call of the API, with a token."""
        own = {"Authorization": f"Bearer {self._issued()}"}
        return self._lab.caller.call(method, path, body=body, headers=own | dict(headers or {}))

    # ---- What they have in common

    def _delivery(self, kind: JobKind, zone: str | None, to: JobTarget, headers: Mapping[str, str]) -> Job:
        def send(key: str) -> ApiResponse:
            body = {"destination": self._destination(to), "path": "/orders", "body": {"amount": 10}}
            return self.answer("POST", "/v1/deliveries", body=body, headers={"Idempotency-Key": key, **headers})

        return self._job(kind, zone, to, send)

    def _job(self, kind: JobKind, zone: str | None, to: JobTarget, send: Callable[[str], ApiResponse]) -> Job:
        since = time.monotonic()
        key = f"lab-{secrets.token_hex(6)}"
        self._destination(to)
        with self._lab.functions["ApiFunction"].placement.only(zone):
            answer = send(key)
            state, attempts = self._outcome(key, refused=answer.status >= HTTPStatus.BAD_REQUEST)
        return Job(
            kind=kind,
            target=to,
            zone=zone,
            status=answer.status,
            problem=_problem(answer),
            state=state,
            attempts=attempts,
            visits=self._visits(to, key),
            ledger=self._ledger(to),
            seconds=time.monotonic() - since,
        )

    def _outcome(self, key: str, *, refused: bool) -> tuple[str | None, tuple[AttemptRow, ...]]:
        """The delivery's state and attempts, once an attempt has ended; none of them where nothing was recorded.

        Of a call that was `refused` all is recorded by now that will be.
        """
        until = time.monotonic() + (0 if refused else _WAIT_SECONDS)
        while True:
            rows = self._lab.database.query(_ATTEMPTS, {"key": key})  # first, as the state may change in between
            states = self._lab.database.query(_STATE, {"key": key})
            if not states or rows or time.monotonic() > until:
                return (str(states[0][0]) if states else None), tuple(_row(row) for row in rows)
            time.sleep(_LOOK_SECONDS)

    def _visits(self, to: JobTarget, key: str) -> tuple[Visit, ...]:
        host = {"partner": self._lab.partner, "corporate": self._lab.corporate}.get(to)
        return () if host is None else tuple(visit for visit in list(host.visits) if visit.key == key)

    def _ledger(self, to: JobTarget) -> frozenset[IPv4Address]:
        addresses = self._lab.public_names.get(_NAMES[to], ())
        return frozenset(source for source, where in self._lab.lab.ledger() if where in addresses)

    def _issued(self) -> str:
        if not self._token:
            command = {"action": "issue_token", "tenant": "lab", "scopes": ["read", "send", "manage"]}
            try:
                self._token = str(self._lab.functions["AdminFunction"].invoke(command)["token"])
            except FunctionError as error:
                raise ProgramCannotRun("AdminFunction", f"it issues no token: {error}") from error
        return self._token

    def _destination(self, to: JobTarget) -> str:
        if to not in self._destinations:
            body = {"name": to, "base_url": f"https://{_NAMES[to]}", "timeouts": _TIMEOUTS}
            answer = self.answer("POST", "/v1/destinations", body=body)
            if answer.status not in {HTTPStatus.CREATED, HTTPStatus.CONFLICT}:  # other jobs of this lab made it
                raise ProgramCannotRun(to, f"POST /v1/destinations: {answer.status} {answer.body[:300]!r}")
            self._destinations[to] = to
        return self._destinations[to]


_STATE = "SELECT state FROM delivery WHERE idempotency_key = %(key)s"
_ATTEMPTS = """
    SELECT outcome, attempt.status, host(egress_address), host(remote_address)
    FROM attempt JOIN delivery USING (delivery_id) WHERE idempotency_key = %(key)s ORDER BY number
"""


def _checked(function: PlacedFunction) -> EgressCheckResult:
    try:
        return EgressCheckResult(**function.invoke({}))
    except FunctionError as error:
        return EgressCheckResult(zone=function.zones[0], published=None, seen=None, verdict=f"error: {error}")


def _row(row: tuple[Any, ...]) -> AttemptRow:
    outcome, status, egress, remote = row
    return AttemptRow(
        outcome=outcome,
        status=status,
        egress_address=None if egress is None else IPv4Address(egress),
        remote_address=None if remote is None else IPv4Address(remote),
    )


def _problem(answer: ApiResponse) -> str:
    """The name of the problem that the API answered with; empty for none."""
    if "problem+json" not in answer.headers.get("content-type", ""):
        return ""
    return str(answer.json.get("type", ""))
