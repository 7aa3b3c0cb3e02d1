"""PostgreSQL as a process sees it: real statements, over a connection that can do what connections do.

The statements run on one real connection, whole and one after the other: what the simulator interleaves is statements.
What two of them do to each other's locks is for `make chaos` and tests/db/test_overlaps.py. The code under test is
db.connection.Database with its own repeats and time limits; only the connection that it makes is of this file.

A connection follows libpq: after a failure it is closed, and a statement that was sent may have been carried out or
not. It has a real socket, so that what Database reads from that (whether the server hung up) and does to it (cutting it
off) is its own code too.
"""

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from db.connection import CONNECT_TIMEOUT_SECONDS, Connection, Row
from domain.destinations import DestinationState
from simulator.evidence import Begin, Lapse, QuestionVerdict, RecordRun
from simulator.faults import LATE_RECORDS, Kind, Seam
from simulator.features import Feature
from simulator.noting_jobs import JobNotes
from simulator.scheduler import Killed, Signal
from simulator.world import EPOCH, Process, World

# A statement that a host had not read when it hung is not subject to statement_timeout (10 s) until it is.
RUNS_LATE_SECONDS = (3.0, 6.0, 9.0, 25.0)
# One session may hang alone, and go on just after others have claimed or recorded the same delivery.
HELD_SECONDS = 300.0
HELD_FOR_CHANGES = (1, 1, 2, 3, 3, 4, 4)
# Of records where late ones are the theme; of successes fewer, or nothing would succeed.
HELD_PERCENT, HELD_SUCCESSES_PERCENT = 60, 40
MOMENT_SECONDS = 0.001
HANG_SECONDS = 15.0
_WRITES = ("INSERT INTO", "UPDATE delivery")
# What each statement of the flows is called here, by a line that only it has.
_NAMES = {
    "WITH target AS": "accept",
    "WITH wanted AS": "claim",
    "WITH made AS": "record",
    "WITH chosen AS": "control",
    "note_slow(": "note slow",
    "AS late": "overdue",
    "SET after_id = %(last_id)s": "step",
    "INSERT INTO job (": "make job",
    "UPDATE job": "move job",
    "AS newest": "list",
    "ORDER BY attempt.number": "show",
    "FROM attempt": "attempts",
    "FROM delivery JOIN destination": "find",
}
# Those by which a delivery or a destination may come to what others are told of
TELL = frozenset({"record", "control", "step", "other"})


class SimulatedConnection:
    """A connection of one process; `give_up_at` is set by Database."""

    give_up_at: float | None = None

    def __init__(self, server: "Server", process: Process) -> None:
        self.process = process
        self.closed = False
        self.cut_off = Signal(server.world.scheduler)
        self.prepared: set[str] = set()
        self._runs = 0
        self._server = server
        self._near, self._far = socket.socketpair()

    def fileno(self) -> int:
        return self._near.fileno()

    def run(self, statement: str, parameters: Mapping[str, Any], *, prepare: bool | None, binary: bool) -> list[Row]:
        if self._runs:
            self._server.world.evidence.misuse.append("a connection is used by two threads at once")
        self._runs += 1
        try:
            return self._server.run(self, _Call(statement, parameters, prepare, binary))
        finally:
            self._runs -= 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is run meanwhile is carried out all or none. Nobody else has a turn in between."""
        with self._server.transaction(self):
            yield

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._near.close()
            self._far.close()

    def hang_up(self) -> None:
        """The server closes its end."""
        self._far.close()

    @property
    def hung_up(self) -> bool:
        """Whether the server has closed its end."""
        return self._far.fileno() < 0

    def fail(self, text: str) -> psycopg.OperationalError:
        """The connection is over; the error that says so."""
        self.close()
        return psycopg.OperationalError(text)


@dataclass(frozen=True, slots=True)
class _Call:
    """A statement as the code under test gives it to its connection."""

    statement: str
    parameters: Mapping[str, Any]
    prepare: bool | None
    binary: bool

    @property
    def name(self) -> str:
        """What it is called here."""
        return name_of(self.statement)

    def run(self, real: Connection) -> list[Row]:
        """All rows, by the code that runs it in the functions too."""
        return real.run(self.statement, self.parameters, prepare=self.prepare, binary=self.binary)


@dataclass(slots=True, kw_only=True, eq=False)
class _HeldStatement:
    """A statement that waits until others have changed `delivery` so many times."""

    delivery: str
    changes: int
    run: Callable[[], None]


class Server:
    """The database of one run."""

    def __init__(self, world: World, real: Connection) -> None:
        self.world = world
        self.states: dict[str, str] = {}
        self.destination_states: dict[str, DestinationState] = {}
        self.on_disabled: Callable[[str], None] = lambda _: None
        self._attempts: dict[str, int] = {}
        self._destinations: dict[str, str] = {}
        self._open_until: dict[str, float] = {}
        self._probes: dict[str, float] = {}
        self._asking: dict[str, object] = {}  # the lease of the question about a delivery
        self._in_flight: dict[str, tuple[str, float]] = {}  # the destination, and until when the lease is
        self._real = real
        self._connections: list[SimulatedConnection] = []
        self._away_until = 0.0
        self._refuses = True
        self._reader_until = 0.0
        self._unstorable: dict[tuple[str, int], bool] = {}
        self._held: list[_HeldStatement] = []
        self._together = False
        self._jobs = JobNotes(world, real, self.enter_by_hand)
        self._notes: Mapping[str, Callable[[Process, Mapping[str, Any], Sequence[Row]], None]] = {
            "accept": self._note_accepted,
            "claim": self._note_claimed,
            "record": self._note_recorded,
            "control": self._note_controlled,
            "make job": self._jobs.note_made,
            "move job": self._jobs.note_moved,
        }

    # ---- What happens to all connections

    def go_away(self, seconds: float, *, refuses: bool) -> None:
        """Unavailable for a while: connections break, and new ones are refused, or get no answer."""
        self._away_until, self._refuses = self.world.now + seconds, refuses
        self._break_all()

    def fail_over(self, seconds: float) -> None:
        """The writer is a reader for so long, for those whose connection survived and those who look its name up."""
        self._reader_until = self.world.now + seconds
        for connection in self._connections[::2]:
            connection.hang_up()

    def recover(self) -> None:
        """Faults stop."""
        self._away_until = self._reader_until = self.world.now
        self._unstorable.clear()

    def close(self) -> None:
        """Closes what is left at the end of a run."""
        for connection in self._connections:
            connection.close()

    @property
    def transaction_open(self) -> bool:
        """Whether somebody left a transaction open."""
        return self._real.info.transaction_status != TransactionStatus.IDLE

    def overdue(self, seconds: float) -> list[str]:
        """The deliveries that should have been attempted so long ago."""
        rows = self._real.execute(
            "SELECT delivery_id FROM delivery WHERE state IN ('pending', 'sending', 'unknown') "
            "AND CASE state WHEN 'pending' THEN due_at WHEN 'sending' THEN leased_until ELSE ask_at END < %s "
            "ORDER BY delivery_id",
            (self.world.wall_clock() - timedelta(seconds=seconds),),
        )
        return [str(row["delivery_id"]) for row in rows]

    def want_four_eyes(self, features: frozenset[Feature]) -> None:
        """All tenants want another token's approval of each job, if this run has that."""
        self.world.evidence.four_eyes = Feature.PROPOSALS in features
        if self.world.evidence.four_eyes:
            self._real.execute("SELECT want_four_eyes()")

    def unfinished_jobs(self) -> list[tuple[str, str, str]]:
        """Jobs that are running or paused, their tenants and which of the two."""
        if Feature.JOBS not in self.world.features:
            return []
        rows = self._real.execute(
            "SELECT job_id, tenant_id, state FROM job WHERE state IN ('running', 'paused') ORDER BY job_id"
        )
        return [(str(row["job_id"]), str(row["tenant_id"]), row["state"]) for row in rows]

    def enter_by_hand(self, delivery: str, state: str, *, destination: str | None = None) -> None:
        """A job has brought it to that state; `destination` is that of a new one."""
        if destination is not None:
            self._destinations[delivery] = destination
        self._enter(delivery, state)

    def to_ask(self) -> frozenset[str]:
        """The unknown deliveries that a question is planned for."""
        if Feature.QUESTIONS not in self.world.features:
            return frozenset()
        rows = self._real.execute("SELECT delivery_id FROM delivery WHERE state = 'unknown' AND ask_at IS NOT NULL")
        return frozenset(str(row["delivery_id"]) for row in rows)

    def _break_all(self) -> None:
        for connection in self._connections:
            connection.hang_up()
            connection.cut_off.fire()

    # ---- Connecting

    def connect(self, process: Process) -> SimulatedConnection:
        """A new connection. Raises psycopg.OperationalError."""
        kind = self.world.step(Seam.CONNECT)
        away = self.world.now < self._away_until
        if kind is Kind.CONNECT_HANGS or (away and not self._refuses):
            self.world.scheduler.pause(CONNECT_TIMEOUT_SECONDS)
            raise psycopg.errors.ConnectionTimeout("connection timeout expired")
        if kind is Kind.CONNECT_REFUSED or away:
            raise psycopg.OperationalError("connection refused")
        connection = SimulatedConnection(self, process)
        self._connections = [*(other for other in self._connections if not other.closed), connection]
        return connection

    # ---- One statement

    @contextmanager
    def transaction(self, connection: SimulatedConnection) -> Iterator[None]:
        """What may happen to a statement happens to all of it: before, and when it has been committed."""
        kind = self.world.step(Seam.STATEMENT)
        if connection.hung_up or connection.closed:
            raise connection.fail("the connection is closed")
        if kind in (Kind.RUNS_LATE, Kind.HANGS) or self.world.now < self._away_until:
            raise self._hangs(connection)
        if kind is not None and (refused := self._refusal(kind, connection, "")) is not None:
            raise refused
        if self.world.now < self._reader_until:
            raise psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")
        self._together = True
        try:
            with self._real.transaction():
                yield
        finally:
            self._together = False
        self._after(connection)

    def run(self, connection: SimulatedConnection, call: "_Call") -> list[Row]:
        """The rows. Raises what psycopg raises."""
        if self._together:
            return self._execute(connection.process, call)
        if connection.process.invocation is not None:
            connection.process.invocation.statements[call.name] += 1
        self._before(connection, call)
        if call.prepare is not False:
            connection.prepared.add(call.statement)
        self._refuse_rows(connection.process, call)
        rows = self._execute(connection.process, call)
        self._after(connection)
        return rows

    def _before(self, connection: SimulatedConnection, call: "_Call") -> None:
        kind = self.world.step(Seam.STATEMENT) or self._held_up(connection.process, call)
        if connection.hung_up or connection.closed:
            raise connection.fail("the connection is closed")
        if kind is Kind.RUNS_LATE:
            self._run_late(connection.process, call)
        if kind in (Kind.RUNS_LATE, Kind.HANGS) or self.world.now < self._away_until:
            raise self._hangs(connection)
        if kind is Kind.ROW_REFUSED and call.name == "record":
            self._make_unstorable(call.parameters)
        if kind is not None and (refused := self._refusal(kind, connection, call.statement)) is not None:
            raise refused
        if self.world.now < self._reader_until and any(word in call.statement for word in _WRITES):
            self.world.mark("database: refuses to write, being a reader")
            raise psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")

    def _held_up(self, process: Process, call: "_Call") -> Kind | None:
        """What happens to records that come of rare answers, in runs whose theme it is."""
        weather = self.world.weather
        if weather.theme != LATE_RECORDS or weather.over or call.name != "record":
            return None
        rare = any(record["next_state"] != "delivered" for record in json.loads(call.parameters["records"]))
        if not self.world.choices.happens(HELD_PERCENT if rare else HELD_SUCCESSES_PERCENT):
            return None
        self.world.strike(Kind.RUNS_LATE, process=process)
        return Kind.RUNS_LATE

    def _run_late(self, process: Process, call: "_Call") -> None:
        """In some seconds; or, where it records, just after what others do."""
        run = partial(self._execute_unheard, process, call)
        themed = self.world.weather.theme == LATE_RECORDS
        if call.name != "record" or (not themed and self.world.choices.choose(2) == 0):
            self.world.scheduler.call_at(self.world.now + self.world.choices.of(RUNS_LATE_SECONDS), run)
            return
        delivery = self.world.choices.of(json.loads(call.parameters["records"]))["delivery_id"]
        held = _HeldStatement(delivery=delivery, changes=self.world.choices.of(HELD_FOR_CHANGES), run=run)
        self._held.append(held)
        self.world.scheduler.call_at(self.world.now + HELD_SECONDS, lambda: self._let_go(held))
        if self.world.weather.may(Kind.CRASH) and (themed or self.world.choices.choose(2)):
            self.world.strike(Kind.CRASH, process=process)  # only then is nothing else on its way
            self.world.scheduler.crash(process)
            raise Killed

    def _let_go(self, held: "_HeldStatement") -> None:
        if held in self._held:
            self._held.remove(held)
            held.run()

    def _note_change(self, delivery: str) -> None:
        """Somebody claimed or recorded it: what waits for that goes on in a moment."""
        for held in [held for held in self._held if held.delivery == delivery]:
            held.changes -= 1
            if held.changes == 0:
                self.world.mark("database: a late statement follows what others did")
                self.world.scheduler.call_at(self.world.now + MOMENT_SECONDS, partial(self._let_go, held))

    def _make_unstorable(self, parameters: Mapping[str, Any]) -> None:
        """One of the attempts has something that PostgreSQL cannot store: what the partner answered, or all of it."""
        record = self.world.choices.of(json.loads(parameters["records"]))
        bare_too = self.world.choices.of((False, False, True))
        self._unstorable[(record["delivery_id"], record["number"])] = bare_too
        if bare_too:
            self.world.evidence.unstorable.add((record["delivery_id"], record["number"]))

    def _refuse_rows(self, process: Process, call: "_Call") -> None:
        """Raises for a statement that is to store such an attempt: nothing of it is carried out."""
        if call.name != "record" or not self._unstorable:
            return
        for record in json.loads(call.parameters["records"]):
            bare_too = self._unstorable.get((record["delivery_id"], record["number"]))
            if bare_too is None or (not bare_too and _is_bare(record)):
                continue
            if process.invocation is not None:
                process.invocation.faults += 1
            self.world.mark("record: refused by PostgreSQL")
            raise psycopg.errors.UntranslatableCharacter("unsupported Unicode escape sequence")

    def _refusal(self, kind: Kind, connection: SimulatedConnection, statement: str) -> psycopg.Error | None:
        """What the statement ends with before it has done anything."""
        match kind:
            case Kind.BROKEN_BEFORE:
                return connection.fail("server closed the connection unexpectedly")
            case Kind.STALE_PLAN if statement in connection.prepared:
                return psycopg.errors.FeatureNotSupported("cached plan must not change result type")
            case Kind.DEADLOCK:
                return psycopg.errors.DeadlockDetected("deadlock detected")
            case Kind.BUSY:
                return psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
        return None

    def _after(self, connection: SimulatedConnection) -> None:
        kind = self.world.step(Seam.ROWS)
        if kind is Kind.BROKEN_AFTER or connection.hung_up:
            raise connection.fail("server closed the connection unexpectedly")
        if kind is Kind.ROWS_LATE or self._too_late(connection):
            raise self._hangs(connection)
        if connection.closed:
            raise connection.fail("the connection is closed")

    def _too_late(self, connection: SimulatedConnection) -> bool:
        return connection.give_up_at is not None and self.world.now > connection.give_up_at

    def _hangs(self, connection: SimulatedConnection) -> psycopg.OperationalError:
        """Waits until Database gives up, or somebody cuts the connection."""
        give_up_at = connection.give_up_at or self.world.now + HANG_SECONDS
        self.world.scheduler.wait(connection.cut_off, give_up_at - self.world.now)
        return connection.fail("no answer in time")

    def _execute_unheard(self, process: Process, call: "_Call") -> None:
        """What nobody waits for any more. Another statement's rows may forbid it by now, which nobody hears either."""
        try:
            self._execute(process, call)
        except psycopg.Error:
            self.world.mark("database: a late statement is refused")

    def _execute(self, process: Process, call: "_Call") -> list[Row]:
        if call.name == "step":
            rows = self._jobs.step(process, call.parameters, partial(call.run, self._real))
        else:
            rows = self._run_and_note(process, call)
        if Feature.EVENTS in self.world.features and call.name in TELL:
            self._note_events()
        return rows

    def _run_and_note(self, process: Process, call: "_Call") -> list[Row]:
        rows = call.run(self._real)
        if "UPDATE destination\n" in call.statement and '"disables"' in call.parameters.get("records", '"disables"'):
            self._note_moves()
        if (note := self._notes.get(call.name)) is not None:
            note(process, call.parameters, rows)
        return rows

    def _note_events(self) -> None:
        """The deliveries that tell of what others came to, as triggers make them."""
        rows = self._real.execute(
            "SELECT delivery_id, destination_id, state FROM delivery WHERE event IS NOT NULL ORDER BY delivery_id"
        )
        for row in rows:
            delivery = str(row["delivery_id"])
            if delivery not in self.states:
                self.enter_by_hand(delivery, row["state"], destination=str(row["destination_id"]))
                self.world.log("database", "event", "stores an event", delivery=delivery)

    # ---- What it did

    def _note_moves(self) -> None:
        """The states of destinations that have changed, which may be what helps one that failed."""
        self._note_breakers()
        for row in self._real.execute("SELECT destination_id, name, state FROM destination ORDER BY destination_id"):
            destination, state = str(row["destination_id"]), DestinationState(row["state"])
            if self.destination_states.get(destination, DestinationState.ACTIVE) is state:
                continue
            self.destination_states[destination] = state
            self.world.mark(f"destination: {state.value}")
            self.world.evidence.moves.append((self.world.now, destination, state.value))
            self.world.log("database", "manage", f"{row['name']} is {state.value}")
            if state is DestinationState.DISABLED:
                self.on_disabled(destination)

    def _note_breakers(self) -> None:
        """Until when circuit breakers are open now."""
        rows = self._real.execute(
            "SELECT destination_id, name, extract(epoch FROM open_until - %s)::double precision AS open_until "
            "FROM destination_flow JOIN destination USING (destination_id) WHERE open_until IS NOT NULL "
            "ORDER BY destination_id",
            (EPOCH,),
        ).fetchall()
        for row in rows:
            if str(row["destination_id"]) not in self._open_until:
                self.world.mark("breaker: opens")
                self.world.log("database", "manage", f"the circuit breaker of {row['name']} opens")
        self._open_until = {str(row["destination_id"]): row["open_until"] for row in rows}

    def _note_controlled(self, _: Process, parameters: Mapping[str, Any], __: Sequence[Row]) -> None:
        for delivery, state in self._states_now([parameters["delivery_id"]]).items():
            self._enter(delivery, state)

    def _note_accepted(self, process: Process, parameters: Mapping[str, Any], rows: Sequence[Row]) -> None:
        for row in rows:
            if row["delivery_id"] is None:
                continue  # refused
            delivery = str(row["delivery_id"])
            if delivery in self.states:
                self.world.mark("database: a key is found again")
                self._log(process, "accepts nothing new: the key exists", delivery, learns="it exists")
                continue
            if row["state"] == "sending":
                self._note_begin(delivery, str(row["destination_id"]), parameters)
            self._destinations[delivery] = str(row["destination_id"])
            self._enter(delivery, row["state"])
            if row["turn_at"] is not None:
                self.world.evidence.turns[delivery] = (row["turn_at"] - EPOCH).total_seconds()
            self._log(process, f"stores the delivery, {row['state']}", delivery, learns=row["state"])
            if row["lease_id"] == parameters["lease_id"]:
                self._note_lease(process, row)

    def _note_claimed(self, process: Process, parameters: Mapping[str, Any], rows: Sequence[Row]) -> None:
        for row in rows:
            delivery = str(row["delivery_id"])
            if row["leased"] and row["asks"]:
                self._note_question(process, parameters, row)
            elif row["leased"]:
                kind = "lapsed" if row["lapsed"] else "fresh"
                self.world.mark(f"claim: {kind}")
                if row["lapsed"]:
                    lapse = Lapse(at=self.world.now, process=process.name, delivery=delivery, number=_number(row))
                    self.world.evidence.lapses.append(lapse)
                if self.states.get(delivery) != "sending":
                    self._note_begin(delivery, str(row["destination_id"]), parameters)
                self._enter(delivery, "sending")
                self._note_change(delivery)
                self._note_lease(process, row)
                learns = f"attempt {_number(row)} is {'to be sent' if kind == 'fresh' else 'lapsed'}"
                self._log(process, f"leases attempt {_number(row)}, {kind}", delivery, learns=learns)
            else:
                before = row["state_before"]
                self.world.mark(f"claim: {'missing' if before is None else before + ', not leased'}")
                if row["reason"] is not None:
                    self.world.mark(f"claim: waits for {row['reason']}")
                known = before or "no such row"
                self._log(process, f"leases nothing: {known}", delivery, learns=known)

    def _note_question(self, process: Process, parameters: Mapping[str, Any], row: Row) -> None:
        """It stays unknown meanwhile; limits treat its question as they do an attempt."""
        delivery, number = str(row["delivery_id"]), _number(row)
        self.world.mark("claim: a question")
        if self._asking.get(delivery) != parameters["lease_id"]:  # not the same statement once more
            self._note_begin(delivery, str(row["destination_id"]), parameters)
        self._asking[delivery] = parameters["lease_id"]
        self._note_lease(process, row)
        text = f"leases attempt {number}, a question"
        self._log(process, text, delivery, learns=f"attempt {number} is to be asked")

    def _note_begin(self, delivery: str, destination: str, parameters: Mapping[str, Any]) -> None:
        clock, until = ((parameters[name] - EPOCH).total_seconds() for name in ("now", "leased_until"))
        beside = tuple(lease for other, lease in self._in_flight.values() if other == destination)
        state = self.destination_states.get(destination, DestinationState.ACTIVE).value
        open_until = self._open_until.get(destination)
        begin = Begin(
            delivery=delivery,
            destination=destination,
            clock=clock,
            beside=tuple(beside),
            destination_state=state,
            open_until=open_until,
            probing=tuple(self._probes[other] for other in self._probes if other in self._in_flight),
        )
        self.world.evidence.begins.append(begin)
        self._in_flight[delivery] = (destination, until)
        self._probes.pop(delivery, None)
        if open_until is not None:
            self.world.mark("breaker: lets one through")
            self._probes[delivery] = until

    def _note_lease(self, process: Process, row: Row) -> None:
        self._attempts[str(row["delivery_id"])] = row["attempts_made"]
        key = (str(row["destination_id"]), row["idempotency_key"])
        process.attempts[key] = (str(row["delivery_id"]), _number(row))

    def _note_recorded(self, process: Process, parameters: Mapping[str, Any], rows: Sequence[Row]) -> None:
        moved = {str(row["delivery_id"]) for row in rows if row["tenant_id"] is None}  # the others are woken
        records = json.loads(parameters["records"])
        if self._open_until or any(record["failed"] for record in records):
            self._note_breakers()
        after = self._states_now([record["delivery_id"] for record in records])
        for record in records:
            run = self._record_run(process, record, moved=moved)
            self.world.evidence.records.append(run)
            what = "question" if run.asks else run.outcome
            self.world.mark(f"record: {what}, {'moved' if run.moved else 'only logged'}")
            if not run.asks and run.next_state == "delivered" and run.sends < self._attempts.get(run.delivery, 0):
                self.world.mark("record: a success, after another attempt had begun")
            if run.asks:
                self._note_verdict(run, after.get(run.delivery, "unknown"))
            if run.delivery in after:
                self._enter(run.delivery, after[run.delivery])
            self._note_change(run.delivery)
            done = f"now {self.states.get(run.delivery)}" if run.moved else "which changes nothing else"
            text = f"records attempt {run.number}: {run.outcome}, {done}"
            self._log(process, text, run.delivery, learns=f"attempt {run.number} is recorded: {run.outcome}")

    def _note_verdict(self, run: RecordRun, becomes: str) -> None:
        """A question has ended an unknown delivery, or has it sent again."""
        if self.states.get(run.delivery) == "unknown" != becomes:
            self.world.mark(f"verdict: {becomes}")
            verdict = QuestionVerdict(at=self.world.now, delivery=run.delivery, number=run.number, becomes=becomes)
            self.world.evidence.verdicts.append(verdict)

    def destination_of(self, delivery: str) -> str:
        """Whose it is, by its id."""
        return self._destinations[delivery]

    def holding(self, *, also_asked: bool = False) -> list[tuple[str, str]]:
        """Deliveries that have ended and hold back those behind them, with their states; the first ones first. Those
        that a partner is to be asked about are left to that, or not."""
        rows = self._real.execute(
            "SELECT delivery_id, state FROM ordering_place JOIN delivery USING (delivery_id) "
            "WHERE state IN ('failed', 'unknown') AND (ask_at IS NULL OR %s) ORDER BY place",
            (also_asked,),
        )
        return [(str(row["delivery_id"]), row["state"]) for row in rows]

    def _states_now(self, deliveries: Sequence[object]) -> Mapping[str, str]:
        """Read, not derived: a statement that runs a second time says what its first run did."""
        rows = self._real.execute(
            "SELECT delivery_id, state FROM delivery WHERE delivery_id = ANY(%s::uuid[])", (list(deliveries),)
        )
        return {str(row["delivery_id"]): row["state"] for row in rows}

    def _record_run(self, process: Process, record: Mapping[str, Any], *, moved: set[str]) -> RecordRun:
        delivery = record["delivery_id"]
        return RecordRun(
            at=self.world.now,
            process=process.name,
            delivery=delivery,
            number=record["number"],
            outcome=record["outcome"],
            status=record.get("status"),
            next_state=record["next_state"],
            next_due_at=_seconds(record["next_due_at"]),
            started_at=_seconds(record["started_at"]) or 0.0,
            moved=delivery in moved,
            state_before=self.states.get(delivery, ""),
            sends=record.get("sends") or record["number"],
            asks=record.get("kind") == "reconcile",
            silent=bool(record.get("silent")),
            ask_at=_seconds(record.get("ask_at")),
        )

    def _enter(self, delivery: str, state: str) -> None:
        before = self.states.get(delivery, "new")
        if before != state:
            self.world.mark(f"state: {before} -> {state}")
            self.world.evidence.changes.append((self.world.now, delivery, before, state))
        self.states[delivery] = state
        if state != "sending":
            self._in_flight.pop(delivery, None)

    def _log(self, process: Process, text: str, delivery: str, *, learns: str) -> None:
        """`learns` is what the process knows of the delivery from now on."""
        made = self._attempts.get(delivery, 0)
        known = f"{self.states.get(delivery, '')}, {made} attempt{'' if made == 1 else 's'}"
        knows = {"database": known, process.name: learns}
        self.world.log(process.name, "statement", text, delivery=delivery, to="database", knows=knows)


@cache
def name_of(statement: str) -> str:
    """What a statement is called here."""
    return next((name for line, name in _NAMES.items() if line in statement), "other")


def _number(row: Row) -> int:
    """The number of an attempt in the log, which counts questions too."""
    number: int = row["attempts_made"] + (row.get("questions_made") or 0)
    return number


def _is_bare(record: Mapping[str, Any]) -> bool:
    """Whether it says no more than the outcome."""
    return not record.get("response_body") and record["remote_address"] is None


def _seconds(text: str | None) -> float | None:
    """A moment in a record, as virtual seconds."""
    return None if text is None else (datetime.fromisoformat(text) - EPOCH).total_seconds()
