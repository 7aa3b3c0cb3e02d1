"""Those who hand deliveries over, repeat what failed, and read what became of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db.deliveries import Acceptance, Filter, page
from domain.deliveries import PASS_THROUGH_ATTEMPTS, NewDelivery
from domain.destinations import MAX_TOTAL_SECONDS
from domain.errors import (
    DestinationPaused,
    Disabled,
    KeyReused,
    NotFound,
    NotNow,
    SallyportError,
    StillInFlight,
    Unavailable,
)
from domain.ids import DeliveryId, TenantId
from domain.options import PLAIN
from flows.accept import accept
from flows.deliver import Progress, deliver, find
from flows.services import Services
from simulator.evidence import Told
from simulator.faults import LATE_RECORDS, Kind, Seam
from simulator.functions import Fleet, NoAnswer
from simulator.setting import DESTINATIONS, TENANTS, Target, targets_of
from simulator.world import EPOCH, World

TRIES = 4
_ONE_IS_ABSENT_OF = 10
PAUSES_SECONDS = (1.0, 0.0, 3.0, 40.0)
METHODS = ("POST", "POST", "PUT", "GET", "PATCH", "DELETE")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What the callers of a run choose from: if none waits, the worker makes all attempts, in batches.
_MODES = (("later", "wait", "through", "later"), ("later",))
_MODES_WITH_LATE_RECORDS = (("wait", "later"), ("wait",))
# How a caller is told that nothing was accepted, for a reason that is no fault.
_REFUSALS: Mapping[type[SallyportError], str] = {
    NotFound: "not found",
    NotNow: "not now",
    DestinationPaused: "not now",
    Disabled: "disabled",
}
_WAITS = (25.0, 20.0, 5.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a caller wants done. `wait_seconds` is None for an asynchronous call."""

    caller: str
    new: NewDelivery
    wait_seconds: float | None
    passes_through: bool


class Callers:
    """All callers of a run. `count` deliveries are handed over, some of them more than once."""

    def __init__(self, world: World, api: Fleet, *, count: int, within_seconds: float) -> None:
        self._world = world
        self._api = api
        self._orders: list[Order] = []
        late_records = world.weather.theme == LATE_RECORDS
        self._modes = world.choices.of(_MODES_WITH_LATE_RECORDS if late_records else _MODES)
        # What else holds deliveries back would only stand in the way of late records.
        targets = targets_of(world.features)
        self._targets = tuple(target for target in targets if not late_records or target.options is PLAIN)
        for number in range(1, count + 1):
            with world.choices.of_stream(number):
                self._add(number, within_seconds=within_seconds)

    def _add(self, number: int, *, within_seconds: float) -> None:
        """The first is always there; each other one is a choice, so that a story may do without it."""
        choices, scheduler = self._world.choices, self._world.scheduler
        if number > 1 and not choices.choose(_ONE_IS_ABSENT_OF):
            return
        order = self._order(f"caller {number}")
        self._orders.append(order)
        at = within_seconds * choices.choose(20) / 20
        scheduler.call_at(at, lambda: scheduler.spawn(lambda: self._live(order)))

    # ---- What they want

    def _order(self, caller: str) -> Order:
        choices = self._world.choices
        twin = choices.of((None, *self._orders)) if self._orders and choices.happens(20) else None
        if twin is not None:
            return self._like(caller, twin)
        target = choices.of(self._targets)
        mode = choices.of(self._modes)
        new = NewDelivery(
            tenant_id=target.tenant_id,
            destination=str(target.destination_id) if choices.happens(15) else target.name,
            method=choices.of(METHODS),
            path=choices.of(("/orders", "/orders/1")),
            body=f'{{"caller":"{caller}"}}'.encode(),
            idempotency_key=None if choices.happens(25) else f"order of {caller}",
            not_before=self._not_before() if mode == "later" else None,
            attempts_allowed=PASS_THROUGH_ATTEMPTS if mode == "through" else choices.of((10, 2, 3)),
            ordering_key="one order" if target.options.ordering is not None and mode != "through" else None,
        )
        return Order(caller=caller, new=new, wait_seconds=self._wait_seconds(mode), passes_through=mode == "through")

    def _like(self, caller: str, twin: Order) -> Order:
        """Somebody with the same key: the same request again, another one, or another tenant's."""
        match self._world.choices.of(("same", "other body", "other tenant", "waits", "other way", "other destination")):
            case "other body":
                self._world.mark("caller: uses a key for something else")
                return replace(twin, caller=caller, new=replace(twin.new, body=b"another"))
            case "other way":
                self._world.mark("caller: uses a key for something else")
                method = "PATCH" if twin.new.method == "POST" else "POST"
                return replace(twin, caller=caller, new=replace(twin.new, method=method))
            case "other destination":
                self._world.mark("caller: uses a key for something else")
                name = next(each.name for each in DESTINATIONS if _is_another(each, twin.new))
                return replace(twin, caller=caller, new=replace(twin.new, destination=name, ordering_key=None))
            case "other tenant":
                tenant = next(each for each in TENANTS if each != twin.new.tenant_id)
                target = next(each for each in DESTINATIONS if each.tenant_id == tenant)
                new = replace(twin.new, tenant_id=tenant, destination=target.name, ordering_key=None)
                return replace(twin, caller=caller, new=new)
            case "waits":
                return replace(twin, caller=caller, wait_seconds=25.0, new=replace(twin.new, not_before=None))
        return replace(twin, caller=caller)

    def _wait_seconds(self, mode: str) -> float | None:
        if mode == "later":
            return None
        return float(MAX_TOTAL_SECONDS) if mode == "through" else self._world.choices.of(_WAITS)

    def _not_before(self) -> Any:
        seconds = self._world.choices.of((0, 0, 0, 20, 20, 1000, 5000))  # some at the same moment
        return self._world.wall_clock() + timedelta(seconds=seconds) if seconds else None

    # ---- What they do

    def _live(self, order: Order) -> None:
        """Calls until there is an answer, as somebody does who has a key; then reads now and then."""
        tries = TRIES if order.new.idempotency_key is not None else 1
        told = self._call(order)
        while told.how in ("error", "in flight") and (tries := tries - 1):
            self._world.scheduler.pause(self._world.choices.of(PAUSES_SECONDS))
            told = self._call(order)
        if told.delivery is not None:
            self._read(order, told.delivery)

    def _read(self, order: Order, delivery: str) -> None:
        for _ in range(self._world.choices.choose(3)):
            self._world.scheduler.pause(self._world.choices.of((1.0, 10.0, 60.0, 600.0)))
            self._look(order, delivery)

    def _look(self, order: Order, delivery: str) -> None:
        asked_at, tenant = self._world.now, order.new.tenant_id
        match self._world.choices.of(("reads", "reads", "lists", "reads another's")):
            case "lists":
                self._note(order, asked_at, lambda services, _: _list(services, tenant), "list")
                return
            case "reads another's":
                self._world.mark("caller: reads another tenant's delivery")
                tenant = next(each for each in TENANTS if each != tenant)
        stranger = replace(order, new=replace(order.new, tenant_id=tenant))
        self._note(stranger, asked_at, lambda services, _: _read(services, tenant, delivery), "read", delivery=delivery)

    def _call(self, order: Order) -> Told:
        self._world.mark(f"caller: {'passes through' if order.passes_through else _mode(order)}")

        def work(services: Services, _: float) -> Mapping[str, Any]:
            if order.wait_seconds is None:
                return _of_acceptance(accept(order.new, wait_seconds=None, services=services))
            return _of_progress(deliver(order.new, wait_seconds=order.wait_seconds, services=services))

        return self._note(order, self._world.now, work, "accept" if order.wait_seconds is None else "deliver")

    def _note(self, order: Order, asked_at: float, work: Any, what: str, *, delivery: str | None = None) -> Told:
        verb = {"read": "reads the delivery", "list": "lists deliveries"}.get(what, "asks for a delivery")
        self._world.log(order.caller, "call", verb, to="api")
        facts = self._facts(work, what)
        told = Told(
            asked_at=asked_at,
            at=self._world.now,
            caller=order.caller,
            tenant=str(order.new.tenant_id),
            destination=order.new.destination,
            key=order.new.idempotency_key if what in ("accept", "deliver") else None,
            request=(order.new.method, order.new.path, order.new.body),
            waits=what == "deliver",
            not_before=_seconds(order.new.not_before),
            **({"delivery": delivery} if facts["how"] == "not found" else {}) | facts,
        )
        self._world.evidence.told.append(told)
        self._world.mark(f"told: {told.how}")
        state = f", {told.state}" if told.state else ""
        knows = {order.caller: told.state or told.how} if told.delivery else {}
        self._world.log(order.caller, "told", f"is told: {told.how}{state}", delivery=told.delivery, knows=knows)
        return told

    def _facts(self, work: Any, what: str) -> dict[str, Any]:
        try:
            facts, invocation = self._api.invoke(work, what=what)
        except KeyReused as error:
            return {"how": "key reused", "delivery": _UUID.findall(str(error))[0]}
        except StillInFlight as error:
            return {"how": "in flight", "delivery": error.delivery_id}
        except tuple(_REFUSALS) as error:
            return {"how": _REFUSALS[type(error)]}
        except (Unavailable, NoAnswer):
            return {"how": "error"}
        except Exception as error:  # noqa: BLE001 - the API would answer 500, which no fault of the schedule may cause
            self._world.evidence.misuse.append(f"{what}: {type(error).__name__}: {error}")
            return {"how": "error"}
        _, kind = self._world.weather.draw(Seam.ANSWER)
        if kind is Kind.ANSWER_LOST:
            self._world.strike(kind)
            return {"how": "error"}
        return {**facts, "process": invocation.process}


def _is_another(target: Target, new: NewDelivery) -> bool:
    return target.tenant_id == new.tenant_id and new.destination not in (target.name, str(target.destination_id))


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else (moment - EPOCH).total_seconds()


def _mode(order: Order) -> str:
    return "waits" if order.wait_seconds is not None else "does not wait"


def _of_acceptance(acceptance: Acceptance) -> dict[str, Any]:
    delivery = acceptance.delivery
    how = "replayed" if acceptance.replayed else "accepted"
    return {"how": how, "delivery": str(delivery.delivery_id), "state": delivery.state.value}


def _of_progress(progress: Progress, how: str = "") -> dict[str, Any]:
    delivery = progress.delivery
    deciding = progress.deciding
    response = deciding.response if deciding else None
    status = response.status if response else None
    # The bytes as they came, or what is stored of them
    body = progress.answer.body if progress.answer else response.body if response else None
    ended = "ended" if delivery.state.finished else "accepted"
    return {
        "how": how or ("replayed" if progress.replayed else ended),
        "delivery": str(delivery.delivery_id),
        "state": delivery.state.value,
        "status": status,
        "body": body,
    }


def _read(services: Services, tenant_id: TenantId, delivery: str) -> dict[str, Any]:
    return _of_progress(find(DeliveryId(UUID(delivery)), tenant_id=tenant_id, services=services), "read")


def _list(services: Services, tenant_id: TenantId) -> dict[str, Any]:
    found = page(services.database, Filter(tenant_id=tenant_id), limit=100).deliveries
    return {"how": "listed", "listed": {str(each.delivery_id): each.state.value for each in found}}
