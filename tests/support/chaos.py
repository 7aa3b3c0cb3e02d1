"""What the chaos test works with: a partner that misbehaves and remembers, a way to SQS that can be disturbed, a
journal of what deliveries went through, and a hand on the clock.
"""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import psycopg
from moto.backends import get_backend
from psycopg.rows import dict_row

from local.bounded_queue import BoundedQueue
from local.functions import REGION
from local.partner import Call, Partner, Reply
from local.sqs import Queue
from wakeups.sqs import decode, encode

type Connection = psycopg.Connection[dict[str, Any]]

HANG_SECONDS = 1.6
SLOW_SECONDS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A request at the partner; `status` is what it answered, None for nothing."""

    key: str
    status: int | None


class ChaosPartner(Partner):
    """The first part of a path says what comes; `-once` is for the first request of an idempotency key alone:

    ok 200; slow 200 after a moment; busy-once 503; close-once no answer; hang-once 200, but long after the deadline;
    refuse 400.
    """

    def __init__(self) -> None:
        super().__init__(port=0, report=lambda _: None)
        self.seen: list[Observed] = []
        self._times: Counter[str] = Counter()

    def reply(self, call: Call) -> Reply:
        """Sleeps where the path says so."""
        behaviour = call.path.split("/")[1]
        with self._lock:
            self._times[call.idempotency_key] += 1
            status = _status(behaviour, first=self._times[call.idempotency_key] == 1)
            hangs = behaviour == "hang-once" and self._times[call.idempotency_key] == 1
            self.seen.append(Observed(key=call.idempotency_key, status=None if hangs else status))
        time.sleep(HANG_SECONDS if hangs else SLOW_SECONDS if behaviour == "slow" else 0)
        return Reply(status=status, content={"status": status})


def _status(behaviour: str, *, first: bool) -> int | None:
    match behaviour:
        case "refuse":
            return 400
        case "busy-once" if first:
            return 503
        case "close-once" if first:
            return None
        case _:
            return 200


class QueueRelay:
    """Stands between the functions and SQS; remembers the wake-ups that pass.

    While `hold_seconds` is set, each call waits that long at most before and after SQS takes it. While `lose` is set,
    the share of calls that it says are taken and not answered. While `away`, all are answered 503 and not passed on.
    """

    def __init__(self, randomness: random.Random) -> None:
        self.endpoint_url = ""
        self.hold_seconds = 0.0
        self.lose = 0.0
        self.away = False
        self.wakeups: list[str] = []
        self._random = randomness
        self._server = _RelayServer(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def calm(self) -> None:
        """Pass everything on at once."""
        self.hold_seconds, self.lose, self.away = 0.0, 0.0, False

    def answer(self, headers: Mapping[str, str], content: bytes) -> tuple[int, bytes] | None:
        """Status and body; None where the answer gets lost."""
        if self.away:
            return 503, b'{"__type": "ServiceUnavailable"}'
        time.sleep(self._random.random() * self.hold_seconds)
        lost = self._random.random() < self.lose
        answered = self._forward(headers, content)
        time.sleep(self._random.random() * self.hold_seconds)
        return None if lost else answered

    def _forward(self, headers: Mapping[str, str], content: bytes) -> tuple[int, bytes]:
        self.wakeups += [entry["MessageBody"] for entry in json.loads(content).get("Entries", ())]
        connection = http.client.HTTPConnection(self.endpoint_url.removeprefix("http://"), timeout=60)
        try:
            connection.request("POST", "/", content, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def __enter__(self) -> "QueueRelay":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _RelayServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, relay: QueueRelay) -> None:
        self.relay = relay
        super().__init__(("127.0.0.1", 0), _RelayHandler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that was killed is what this is for."""


class _RelayHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _RelayServer

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        kept = {name: self.headers[name] for name in ("Content-Type", "X-Amz-Target", "Authorization")}
        answered = self.server.relay.answer(kept, content)
        if answered is None:
            self.close_connection = True
            return
        self.send_response(answered[0])
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(answered[1])))
        self.end_headers()
        self.wfile.write(answered[1])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing to say."""


def held_messages(queue: Queue) -> list[Any]:
    """What moto, which runs in this process, holds of a queue: visible, delayed or in flight."""
    return _inside(queue).every_message


def _inside(queue: Queue) -> BoundedQueue:
    account = queue.url.rsplit("/", 2)[1]
    return cast(BoundedQueue, get_backend("sqs")[account][REGION].queues[queue.name])


def most_receives(queue: Queue) -> int:
    """How often the message that was received most often has been received."""
    return max((message.approximate_receive_count for message in held_messages(queue)), default=0)


def bring_forward(queue: Queue, connection: Connection, *, beyond_seconds: float, orphans: bool) -> None:
    """Makes happen now what waits for longer than that: due deliveries and their wake-ups. It adds no message and
    takes none away, so that a delivery whose message got lost is not helped. `orphans`: also what waits for a row that
    is not there; while somebody may still write it, that would be unfair.
    """
    now = datetime.now(UTC)
    connection.execute(
        "UPDATE delivery SET due_at = %s WHERE state = 'pending' AND due_at > %s",
        [now, now + timedelta(seconds=beyond_seconds)],
    )
    for message in held_messages(queue):
        wakeup = decode(message.body)
        if wakeup.due_at > now + timedelta(seconds=beyond_seconds) and (orphans or wakeup.misses == 0):
            message.body = encode(replace(wakeup, due_at=now))
            message.delayed_until = 0.0
    _inside(queue).delays_changed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A change of a delivery's state or lease. All `before` are None where the delivery was new."""

    delivery_id: str
    state_before: str | None
    state: str
    attempts_before: int | None
    attempts: int
    until_before: datetime | None
    until: datetime | None


def connected(url: str) -> Connection:
    """A session of the test's own."""
    return psycopg.connect(url, autocommit=True, row_factory=dict_row, application_name="chaos", connect_timeout=5)


def keep_journal(connection: Connection) -> None:
    """From now on every change of a delivery's state or lease is written down, within its own transaction."""
    connection.execute("""
        CREATE TABLE chaos_journal (
            place bigint GENERATED ALWAYS AS IDENTITY, delivery_id uuid, state_before text, state text,
            attempts_before integer, attempts integer, until_before timestamptz, until timestamptz)
    """)
    connection.execute("""
        CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO chaos_journal (delivery_id, state, attempts, until)
                VALUES (NEW.delivery_id, NEW.state, NEW.attempts_made, NEW.leased_until);
            ELSIF (OLD.state, OLD.lease_id) IS DISTINCT FROM (NEW.state, NEW.lease_id) THEN
                INSERT INTO chaos_journal
                    (delivery_id, state_before, state, attempts_before, attempts, until_before, until)
                VALUES (NEW.delivery_id, OLD.state, NEW.state, OLD.attempts_made, NEW.attempts_made,
                        OLD.leased_until, NEW.leased_until);
            END IF;
            RETURN NULL;
        END $$
    """)
    connection.execute(
        "CREATE TRIGGER chaos_notes AFTER INSERT OR UPDATE ON delivery FOR EACH ROW EXECUTE FUNCTION chaos_note()"
    )


def journal(connection: Connection) -> list[Step]:
    """All steps, in their order."""
    rows = connection.execute("""
        SELECT delivery_id::text, state_before, state, attempts_before, attempts, until_before, until
        FROM chaos_journal ORDER BY place
    """)
    return [Step(**row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A delivery as the database has it. `outcomes` and `statuses` are those of its attempts, the first one first;
    `numbers` their numbers. `key` is what its partner sees in `Idempotency-Key`.
    """

    delivery_id: str
    key: str
    method: str
    path: str
    guarantee: str
    state: str
    attempts_made: int
    numbers: list[int]
    outcomes: list[str]
    statuses: list[int | None]

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again after an unknown outcome."""
        return self.guarantee == "at_least_once" or (self.guarantee == "auto" and self.method in ("PUT", "GET"))

    @property
    def ended(self) -> bool:
        return self.state in ("delivered", "failed", "unknown")


def stored(connection: Connection) -> dict[str, Stored]:
    """All deliveries by id."""
    rows: Sequence[dict[str, Any]] = connection.execute("""
        SELECT delivery_id::text, idempotency_key AS key, method, path, guarantee, state,
               attempts_made, array_remove(array_agg(number ORDER BY number), NULL) AS numbers,
               array_remove(array_agg(outcome ORDER BY number), NULL) AS outcomes,
               array_agg(status ORDER BY number) AS statuses
        FROM delivery JOIN destination USING (destination_id) LEFT JOIN attempt USING (delivery_id)
        GROUP BY delivery_id, guarantee
    """).fetchall()
    return {row["delivery_id"]: Stored(**row) for row in rows}
