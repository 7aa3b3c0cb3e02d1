"""What is put to the test: API and worker as processes, PostgreSQL, and between them the queue."""

import contextlib
import http.client
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from faults.disk import Disk
from faults.heap_queue import HeapQueue, HeldMessage, QueueEndpoint
from faults.partner import PartnerLedger
from faults.shifted import clock_directory
from faults.wire import WireServer
from local import stand_ins
from local.event_source import EventSourceMapping
from local.front import Front, Gateway
from local.functions import REPOSITORY, Function, FunctionConfiguration
from local.gateway import HttpRequest, HttpResponse
from local.postgres import SUPERUSER, Postgres
from local.seal_key import make_seal_key
from local.stack import DATABASE, TEMPLATE
from local.template import FunctionTemplate, Template
from wakeups.sqs import decode, encode

TOTAL_SECONDS = 1.2  # a partner's deadline
CONCURRENCY = 6  # environments per function
DISK = "disk"  # the directory of what PostgreSQL stores
GUARANTEES = {"auto": "auto", "repeat": "at_least_once", "once": "at_most_once"}  # destinations and their guarantees
_CALL_SECONDS = 90.0
# Their handlers, with a clock that can be moved.
HANDLERS = {"ApiFunction": "faults.shifted.api", "AttemptFunction": "faults.shifted.attempt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a lease lasts, and after how long a message whose worker died comes back: its lease has expired by
    then, as in the template. Both are shorter than there, so that what follows is seen."""

    lease_seconds: int
    visibility_seconds: float


type Session = psycopg.Connection[dict[str, Any]]


class Site:
    """Runs while it is entered, in `directory`; `disk` is what PostgreSQL stores its data on, None for no disk of its
    own. With `over_http` callers reach the API by an HTTP server, as they do in `make run`."""

    def __init__(
        self, directory: Path, *, disk: Disk | None, pace: Pace, over_http: bool, randomness: random.Random
    ) -> None:
        self.directory = directory
        self.disk = disk
        self.pace = pace
        self._over_http = over_http
        self.ledger = PartnerLedger()
        self.functions: dict[str, Function] = {}
        self.postgres = Postgres(directory / DISK / "postgres", settings={"max_wal_size": "96MB", "wal_recycle": "off"})
        wakeups = Template(TEMPLATE).queues()["WakeupQueue"]
        self.queue = HeapQueue(
            "wakeups", visibility_seconds=pace.visibility_seconds, most_receives=wakeups.max_receives
        )
        self.endpoint = QueueEndpoint(self.queue, randomness)
        self._seal_key_file = directory / "seal.key"
        self._cleanup = contextlib.ExitStack()
        self._token = ""

    @property
    def clocks(self) -> Path:
        """The directory of the processes' clocks."""
        return clock_directory(self._seal_key_file)

    def session(self) -> Session:
        """A session of our own."""
        url = self.postgres.url(database=DATABASE)
        return psycopg.connect(url, autocommit=True, row_factory=dict_row, application_name="faults", connect_timeout=5)

    def call(
        self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """One call of the API."""
        path, _, query = path.partition("?")
        sent = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **(headers or {})}
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self._answer(
            HttpRequest(
                method=method, path=path, query=query, headers=tuple(sent.items()), body=content, source_ip="127.0.0.1"
            )
        )

    def bring_forward(self, session: Session, *, beyond_seconds: float, orphans: bool) -> None:
        """Makes happen now what waits for longer than that: due deliveries and their wake-ups. It adds no message and
        takes none away, so that a delivery whose message got lost is not helped. `orphans`: also what waits for a row
        that is not there; while somebody may still write it, that would be unfair."""
        now = datetime.now(UTC)
        late = now + timedelta(seconds=beyond_seconds)
        session.execute("UPDATE delivery SET due_at = %s WHERE state = 'pending' AND due_at > %s", [now, late])

        def waits(message: HeldMessage) -> bool:
            wakeup = decode(message.body)
            return wakeup.due_at > late and (orphans or wakeup.misses == 0)

        self.queue.show_now(
            [message for message in self.queue.held() if waits(message)],
            lambda message: encode(replace(decode(message.body), due_at=now)),
        )

    def stop_functions(self) -> None:
        """Whoever waits for one of them gets an error."""
        for function in self.functions.values():
            function.stop()

    def __enter__(self) -> "Site":
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _start(self) -> None:
        self.clocks.mkdir()
        make_seal_key(self._seal_key_file, Template(TEMPLATE).secrets()["SealKey"], report=lambda _: None)
        queue = self._cleanup.enter_context(WireServer(self.endpoint.answer))
        self.partner = self._cleanup.enter_context(WireServer(self.ledger.answer))
        self._cleanup.callback(self.postgres.stop)
        self.postgres.start()
        self.postgres.make_database(DATABASE)
        template = self._template(queue)
        self._start_functions(template, queue)
        self._answer = self._opened(Gateway(template.api(), self.functions))
        self._make_destinations()
        (source,) = template.event_sources()
        mapping = EventSourceMapping(
            source, queue=self.queue, function=self.functions[source.function], concurrency=CONCURRENCY
        )
        self._cleanup.callback(mapping.stop)
        mapping.start()

    def _opened(self, gateway: Gateway) -> Callable[[HttpRequest], HttpResponse]:
        if not self._over_http:
            return gateway.answer
        front = Front()
        self._cleanup.callback(front.stop)
        front.start(gateway.answer)
        return partial(_asked, front.port)

    def _template(self, queue: WireServer) -> Template:
        url = f"{queue.url}/000000000000/wakeups"
        vpc_cidr = str(Template(TEMPLATE).resolved({"Ref": "VpcCidr"}))
        return Template(
            TEMPLATE,
            parameters={"AWS::StackName": "faults"},
            resources={"Api": stand_ins.API_ID, "WakeupQueue": url, "DeadLetterQueue": url},
            attributes=stand_ins.attributes(vpc_cidr=vpc_cidr, owner=SUPERUSER),
        )

    def _start_functions(self, template: Template, queue: WireServer) -> None:
        self._cleanup.callback(self.stop_functions)
        for name in ("MigrateFunction", "AdminFunction", "AuthorizeFunction", *HANDLERS):
            configuration = self._configuration(template.functions()[name], queue)
            self.functions[name] = Function(configuration, concurrency=CONCURRENCY)
        self.functions["MigrateFunction"].invoke({"action": "migrate"})

    def _configuration(self, function: FunctionTemplate, queue: WireServer) -> FunctionConfiguration:
        ours = {
            "DATABASE_URL": self.postgres.url(user=function.variables.get("DATABASE_USER", ""), database=DATABASE),
            "SQS_ENDPOINT_URL": queue.url,
            "SSM_ENDPOINT_URL": queue.url,
            "SEAL_KEY_FILE": str(self._seal_key_file),
            "CA_BUNDLE": "",
            "EGRESS_ECHO_URL": f"{self.partner.url}/ip",
            "ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8,127.0.0.1/32",
            "ALLOWED_PORTS": str(self.partner.port),
            "LEASE_SECONDS": str(self.pace.lease_seconds),
            "POWERTOOLS_LOG_LEVEL": "ERROR",
        }
        return FunctionConfiguration(
            name=function.logical_id,
            handler=HANDLERS.get(function.logical_id, function.handler),
            code=REPOSITORY / "src",
            log=self.directory / f"{function.logical_id}.log",
            timeout_seconds=function.timeout_seconds,
            memory_mb=function.memory_mb,
            variables=stand_ins.variables(function, ours=ours),
        )

    def _make_destinations(self) -> None:
        command = {"action": "issue_token", "tenant": "faults", "scopes": ["read", "send", "manage"]}
        self._token = self.functions["AdminFunction"].invoke(command)["token"]
        for name, guarantee in GUARANTEES.items():
            body = {
                "name": name,
                "base_url": self.partner.url,
                "guarantee": guarantee,
                "timeouts": {"total_seconds": TOTAL_SECONDS},
            }
            made = self.call("POST", "/v1/destinations", body=body)
            if made.status != 201:
                raise RuntimeError(f"the API refused a destination: {made.status} {made.body!r}")


def _asked(port: int, request: HttpRequest) -> HttpResponse:
    """The same over a socket. Status 0 where the connection broke."""
    target = f"{request.path}?{request.query}" if request.query else request.path
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_CALL_SECONDS)) as connection:
        try:
            connection.request(request.method, target, request.body, dict(request.headers))
            response = connection.getresponse()
            return HttpResponse(status=response.status, headers=tuple(response.getheaders()), body=response.read())
        except (OSError, http.client.HTTPException):
            return HttpResponse(status=0, headers=(), body=b"")
