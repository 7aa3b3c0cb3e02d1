"""Callers: whom they call, how many at a time, and what they are told."""

import contextlib
import json
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from faults.site import GUARANTEES
from local.gateway import HttpResponse

CALLERS = 40
BURST = 10  # times the usual load
MOST_WAITING = 3000  # orders that no caller has taken yet
REPEATS = 3  # how often a caller with a key asks again after an error
REPEAT_AFTER_SECONDS = 0.3
LOOKS_PER_SECOND = 4.0
PROBLEM = "application/problem+json"
_HOW = {"accept": 84, "wait": 6, "watch": 2, "via": 8}
_BEHAVIOURS = {
    "ok": 820,
    "slow": 30,
    "busy-once": 50,
    "broken-once": 20,
    "close-once": 30,
    "hang-once": 10,
    "refuse": 40,
}


class CallableApi(Protocol):
    """The API."""

    def call(
        self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """One call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """One call to make. `how` is accept, wait, watch or via; `key` None for none. `again` says that the caller repeats
    the call although it was answered well."""

    how: str
    method: str
    destination: str
    path: str
    key: str | None
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What one call was answered. `problem` is the detail of an error of ours, empty for other answers."""

    how: str
    key: str | None
    status: int
    delivery_id: str | None
    state: str | None = None
    partner_status: int | None = None
    problem: str = ""

    def __str__(self) -> str:
        called = f"{self.how} with the key {self.key}" if self.key else self.how
        delivery = f" for delivery {self.delivery_id}" if self.delivery_id else ""
        return f"{called}, answered {self.status}{delivery}" + (f" ({self.problem})" if self.problem else "")


def order(randomness: random.Random, number: int) -> PlannedCall:
    """The order of that number."""
    keyed = randomness.random() < 0.6
    (behaviour,) = randomness.choices(tuple(_BEHAVIOURS), tuple(_BEHAVIOURS.values()))
    return PlannedCall(
        how=randomness.choices(tuple(_HOW), tuple(_HOW.values()))[0],
        method=randomness.choices(("POST", "PUT"), (70, 30))[0],
        destination=randomness.choices(tuple(GUARANTEES), (50, 25, 25))[0],
        path=f"/{behaviour}/{number}",
        key=f"order-{number}" if keyed else None,
        again=keyed and randomness.random() < 0.05,
    )


def place(api: CallableApi, wanted: PlannedCall) -> CallResult:
    """One call."""
    headers = {} if wanted.key is None else {"Idempotency-Key": wanted.key}
    if wanted.how == "via":
        url = f"/v1/via/{wanted.destination}{wanted.path}"
        return _told_by_partner(wanted, api.call(wanted.method, url, body=b"x", headers=headers))
    wait = {"wait": {"Prefer": "wait=4"}, "watch": {"Prefer": "wait=1"}}.get(wanted.how, {})
    fields = {"destination": wanted.destination, "method": wanted.method, "path": wanted.path, "body": "x"}
    return _told(wanted, api.call("POST", "/v1/deliveries", body=fields, headers=headers | wait))


def _told(wanted: PlannedCall, answer: HttpResponse) -> CallResult:
    content: dict[str, Any] = json.loads(answer.body) if answer.status in (200, 202) else {}
    return CallResult(
        how=wanted.how,
        key=wanted.key,
        status=answer.status,
        delivery_id=content.get("delivery_id"),
        state=content.get("state"),
        problem="" if content else _detail(answer),
    )


def _detail(answer: HttpResponse) -> str:
    """Of a problem."""
    with contextlib.suppress(ValueError, AttributeError):
        return str(json.loads(answer.body).get("detail", ""))
    return ""


def _told_by_partner(wanted: PlannedCall, answer: HttpResponse) -> CallResult:
    headers = {name.lower(): value for name, value in answer.headers}
    own = headers.get("content-type") == PROBLEM
    return CallResult(
        how=wanted.how,
        key=wanted.key,
        status=answer.status,
        delivery_id=headers.get("sallyport-delivery-id"),
        partner_status=None if own else answer.status,
        problem=_detail(answer) if own else "",
    )


class Load:
    """Orders at a steady rate, callers who place them and repeat those with a key that came to nothing, and somebody
    who looks at deliveries meanwhile. `told` and `looks` grow; `accepted` are the deliveries that callers know of."""

    def __init__(self, api: CallableApi, *, seed: int, per_second: float) -> None:
        self.told: list[CallResult] = []
        self.looks: list[tuple[str, str]] = []  # a delivery's id, and the state that it was shown in
        self.accepted: dict[str, None] = {}
        self.placed_in: Counter[int] = Counter()  # orders by the second in which their time came
        self._api = api
        self._orders: queue.Queue[PlannedCall] = queue.Queue()
        self._seed = seed
        self._per_second = per_second
        self._stopping = threading.Event()
        self._burst_until = 0.0

    def burst(self, seconds: float) -> None:
        """Ten times the load from now on."""
        self._burst_until = time.monotonic() + seconds

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Meanwhile. Orders that no caller has taken at the end are not placed."""
        with ThreadPoolExecutor(CALLERS + 2, thread_name_prefix="caller") as threads:
            running = []
            try:
                running += [threads.submit(work) for work in (self._emit, self._look, *[self._take] * CALLERS)]
                yield
            finally:
                self._stopping.set()
        for work in running:
            work.result()

    def place(self, wanted: PlannedCall) -> CallResult:
        """One call, outside of the steady rate."""
        told = place(self._api, wanted)
        self.told.append(told)
        return told

    def repeat(self, count: int) -> None:
        """Asks once more for what some of the keys led to."""
        known = [told for told in self.told if told.key is not None and told.delivery_id is not None]
        step = max(1, len(known) // count)
        for told in known[::step]:
            number = int((told.key or "").rpartition("-")[2])
            self.place(self._order(number))

    def _order(self, number: int) -> PlannedCall:
        return order(random.Random(f"{self._seed}-{number}"), number)  # noqa: S311 - it shall be repeatable

    def _emit(self) -> None:
        number, due_at = 0, time.monotonic()
        while not self._stopping.wait(max(0.0, due_at - time.monotonic())):
            now = time.monotonic()
            rate = self._per_second * (BURST if now < self._burst_until else 1)
            due_at = max(due_at + 1 / rate, now - 1.0)
            if self._orders.qsize() < MOST_WAITING:
                self._orders.put(self._order(number))
                self.placed_in[int(now)] += 1
                number += 1

    def _take(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Empty):
                self._carry_out(self._orders.get(timeout=0.2))

    def _carry_out(self, wanted: PlannedCall) -> None:
        for _ in range(1 if wanted.key is None else REPEATS):
            told = self.place(wanted)
            if told.delivery_id is not None:
                self.accepted[told.delivery_id] = None
                if not wanted.again:
                    return
            if self._stopping.wait(REPEAT_AFTER_SECONDS):
                return

    def _look(self) -> None:
        randomness = random.Random(self._seed)  # noqa: S311 - it shall be repeatable
        while not self._stopping.wait(1 / LOOKS_PER_SECOND):
            known = self.told[-2000:]
            ids = [told.delivery_id for told in known if told.delivery_id is not None]
            if ids:
                wanted = randomness.choice(ids)
                answer = self._api.call("GET", f"/v1/deliveries/{wanted}")
                if answer.status == 200:
                    self.looks.append((wanted, json.loads(answer.body)["state"]))


def answers(told: list[CallResult]) -> dict[str, int]:
    """How often each status was answered."""
    return {str(status): count for status, count in sorted(Counter(answer.status for answer in told).items())}
