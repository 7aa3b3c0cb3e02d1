"""The work of a side's process (bench/side.py calls these): functions whose arguments and results are JSON."""

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from local.environment import Context

type MeasuredHandler = Callable[[Any, Any], Any]


def calls(handler: str, events: list[dict[str, Any]], *, status: int | None = None) -> list[float]:
    """Calls a handler (`module:function`) with each event; microseconds of each. `status` is the expected one."""
    function = _handler(handler)
    taken = []
    for event in events:
        context = _context()
        before = time.perf_counter_ns()
        result = function(event, context)
        taken.append((time.perf_counter_ns() - before) / 1000)
        if status is not None and result["statusCode"] != status:
            raise AssertionError(f"{handler} answered {result}")
    return taken


_preloaded: list[dict[str, Any]] = []


def preload(events: list[dict[str, Any]]) -> None:
    """Stores events for `preloaded_calls`, so that parsing them is not measured."""
    _preloaded[:] = events


def preloaded_calls(handler: str, *, status: int | None) -> None:
    """Calls a handler with each stored event."""
    calls(handler, _preloaded, status=status)


def written(handler: str, events: list[dict[str, Any]]) -> list[str]:
    """The lines that calls of a handler write to standard output, which is where Lambda reads logs and counts."""
    with tempfile.TemporaryFile() as output, standard_output_in(output.fileno()):
        calls(handler, events)
        sys.stdout.flush()
        output.seek(0)
        return output.read().decode().splitlines()


@contextmanager
def standard_output_in(descriptor: int) -> Iterator[None]:
    """Sends the process's standard output to another file for a while."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(before, 1)
        os.close(before)


def last_answer(handler: str, event: dict[str, Any]) -> Any:
    """What one call answers, its body decoded."""
    result = _handler(handler)(event, _context())
    return json.loads(result["body"])


def calls_with_direct_ones(events: list[dict[str, Any]], url: str) -> dict[str, list[float]]:
    """Each event through the API, and after each the same request directly to the partner with the same client;
    microseconds of each."""
    direct, through = [], []
    for event in events:
        through += calls("handlers.api:handler", [event], status=200)
        direct += calls("bench.work:direct_call", [{"url": url}], status=200)
    return {"through": through, "direct": direct}


def direct_call(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """A handler that only sends a request, with the client of the API."""
    from domain.destinations import Timeouts
    from egress.client import OutboundRequest
    from handlers import wiring

    request = OutboundRequest(
        method="POST",
        url=event["url"],
        headers=(("Accept", "application/json"), ("Content-Type", "application/json"), ("Idempotency-Key", "0" * 36)),
        body=b"x" * 800,
        timeouts=Timeouts(connect_seconds=2, first_byte_seconds=5, total_seconds=5),
        may_repeat=True,
    )
    (exchange,) = wiring.api().client.send_all([request])
    return {"statusCode": getattr(exchange.outcome, "status", None)}


def statements(handler: str, event: dict[str, Any], *, attempts: bool = False) -> int:
    """How many statements one call executes on the wire."""
    from handlers import wiring
    from local.wire import statements_of

    collaborators = wiring.attempt() if attempts else wiring.api()
    with statements_of(collaborators.database.connection()) as found:
        _handler(handler)(event, _context())
    return len(found)


def plain_work(handler: str, event: dict[str, Any]) -> dict[str, Any]:
    """What one call of plain or of what has plain's statements does: the status, the document, the Location, how many
    statements on the wire and how many lines on standard output."""
    from bench import plain
    from local.wire import statements_of

    function = _handler(handler)
    with (
        tempfile.TemporaryFile() as output,
        standard_output_in(output.fileno()),
        statements_of(plain.connection()) as found,
    ):
        result = function(event, _context())
        sys.stdout.flush()
        output.seek(0)
        lines = output.read().splitlines()
    several = {name.lower(): values[0] for name, values in (result.get("multiValueHeaders") or {}).items()}
    headers = several | {name.lower(): value for name, value in (result.get("headers") or {}).items()}
    return {
        "status": result["statusCode"],
        "document": json.loads(result["body"]),
        "location": headers.get("location"),
        "statements": len(found),
        "lines": len(lines),
    }


def bare_requests(url: str, count: int, at_once: int, *, fresh: bool) -> float:
    """`count` POST requests, `at_once` at a time, with pycurl's multi interface alone; seconds in total.

    `fresh` opens a connection for each, as for requests that must not be repeated.
    """
    import pycurl

    multi = pycurl.CurlMulti()
    began = time.perf_counter()
    for _ in range(count // at_once):
        handles = [_bare_request(url, fresh=fresh) for _ in range(at_once)]
        for handle in handles:
            multi.add_handle(handle)
        left = len(handles)
        while left:
            _, left = multi.perform()
            if left:
                multi.select(1.0)
        for handle in handles:
            if handle.getinfo(pycurl.RESPONSE_CODE) != 200:
                raise AssertionError("the partner did not answer 200")
            multi.remove_handle(handle)
            handle.close()
    return time.perf_counter() - began


def _bare_request(url: str, *, fresh: bool) -> Any:
    import pycurl

    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.POSTFIELDS, b"x" * 800)
    handle.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json", f"Idempotency-Key: {uuid4()}", "Expect:"])
    handle.setopt(pycurl.WRITEFUNCTION, len)
    handle.setopt(pycurl.FRESH_CONNECT, int(fresh))
    handle.setopt(pycurl.TIMEOUT_MS, 5000)
    return handle


def lists(url: str, tenant_id: str, destination_id: str, middle: str, rounds: int) -> dict[str, list[float]]:
    """Pages of 50 deliveries, by filter; microseconds of each."""
    from uuid import UUID

    from db.connection import Database
    from db.deliveries import Filter, page
    from domain.deliveries import State
    from domain.ids import DeliveryId, DestinationId, TenantId
    from runtime.settings import DatabaseSettings

    database = Database(DatabaseSettings(database_url=url))
    tenant = TenantId(UUID(tenant_id))
    filters = {
        "newest": Filter(tenant_id=tenant),
        "from the middle on": Filter(tenant_id=tenant, before=DeliveryId(UUID(middle))),
        "failed (1 of 100)": Filter(tenant_id=tenant, state=State.FAILED),
        "one destination": Filter(tenant_id=tenant, destination_id=DestinationId(UUID(destination_id))),
    }
    taken: dict[str, list[float]] = {name: [] for name in filters}
    for _ in range(rounds):
        for name, filter_ in filters.items():
            before = time.perf_counter_ns()
            found = page(database, filter_, limit=50).deliveries
            taken[name].append((time.perf_counter_ns() - before) / 1000)
            if len(found) != 50:
                raise AssertionError(f"{name}: a page of {len(found)}")
    database.close()
    return taken


def claims(url: str, batches: list[list[str]]) -> list[float]:
    """Claims batches of due deliveries; microseconds of each."""
    from datetime import UTC, datetime, timedelta
    from uuid import UUID

    from db.connection import Database
    from db.deliveries import Lease, claim
    from domain.deliveries import Claim
    from domain.ids import DeliveryId, LeaseId
    from runtime.settings import DatabaseSettings

    database = Database(DatabaseSettings(database_url=url))
    taken = []
    for batch in batches:
        now = datetime.now(UTC)
        lease = Lease(lease_id=LeaseId(uuid4()), until=now + timedelta(seconds=40))
        ids = [DeliveryId(UUID(text)) for text in batch]
        before = time.perf_counter_ns()
        found = claim(database, ids, lease=lease, now=now)
        taken.append((time.perf_counter_ns() - before) / 1000)
        if not all(isinstance(result, Claim) for result in found):
            raise AssertionError(f"not all of a batch were claimed: {found}")
    database.close()
    return taken


def memory_bytes() -> dict[str, int]:
    """What this process holds of the machine's memory, and the most that it ever held (proc_pid_status(5))."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    kilobytes = {line[0]: int(line[1]) for line in lines if line[0] in ("VmHWM:", "VmRSS:")}
    return {"held": kilobytes["VmRSS:"] * 1024, "peak": kilobytes["VmHWM:"] * 1024}


def cpu_seconds() -> float:
    """Processor time that this process has taken, in all its threads."""
    return time.process_time()


def process_id() -> int:
    """Of this process."""
    return os.getpid()


def loaded(names: list[str]) -> list[str]:
    """Which of these modules this process has loaded."""
    return [name for name in names if name in sys.modules]


def _handler(name: str) -> MeasuredHandler:
    module, _, function = name.partition(":")
    found: MeasuredHandler = getattr(importlib.import_module(module), function)
    return found


def _context() -> Context:
    return Context(
        function_name="sallyport",
        memory_limit_in_mb="1024",
        aws_request_id="6d9f1a9c-0b5e-4a5d-9d65-0d5c0f9e2a11",
        deadline=time.monotonic() + 29,
    )
