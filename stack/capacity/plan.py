"""What a rate of deliveries needs of each resource, which parameters that takes, and what gives out first.

Requests, invocations, statements and data are those of stack/cost/bill.py for a month at the rate. The limits are AWS's
(limits.toml), or a parameter's where that is lower.
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from stack.capabilities import capabilities
from stack.capacity.service import BatchService
from stack.cost.bill import Month, load_load, load_prices
from stack.render import APPLICATION, EGRESSES, NEEDS, templates, written

HERE = Path(__file__).resolve().parent
HIGHEST_RATE = 100_000  # deliveries a second, up to which bottlenecks are looked for
BITS_PER_GIGABIT = 1e9
TIB = 2**40
# Aurora's default max_connections by the maximum capacity; other capacities have the next lower one's.
CONNECTIONS = {1: 189, 4: 823, 8: 1669, 16: 3360, 32: 5000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One of AWS's limits. `quota` names what raises it, None where it is fixed; `read` as in a price."""

    what: str
    unit: str
    value: float
    page: str
    read: str | None = None
    quota: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityQuestion:
    """What is asked: deliveries a second, and what they are like.

    `latency_milliseconds` is a partner's mean; `size` the bytes of a body; `retries`, `looks` and `events` are for a
    hundred deliveries, and an event is a delivery too; the load spreads evenly over `destinations`. `pinned` are
    parameters that are given and not chosen.
    """

    rate: float
    latency_milliseconds: float = 250
    size: int = 1024
    retries: float = 5
    looks: float = 100
    events: float = 0
    destinations: int = 10
    batch: int = 10
    topology: str = "public-private"
    egress: str = ""
    proxy: bool = False
    pinned: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is needed of one resource, `needed` in the limit's unit. `parameter` is what sets it, '' for nothing."""

    key: str
    what: str
    unit: str
    needed: float
    limit: float
    source: Limit
    parameter: str = ""

    @property
    def share(self) -> float:
        """Of the limit."""
        return self.needed / self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """A resource and the deliveries a second that it carries; None for more than HIGHEST_RATE."""

    demand: Demand
    carries: float | None


@cache
def limits() -> Mapping[str, Limit]:
    """limits.toml by name."""
    table = _read("limits.toml")
    return {name: Limit(**limit) for name, limit in table["limits"].items()}


def looked_up() -> date:
    """When the limits were read."""
    day: date = _read("limits.toml")["looked_up"]
    return day


def read_assumptions() -> dict[str, dict[str, Any]]:
    """assumptions.toml: a value and why for each name."""
    return _read("assumptions.toml")


@cache
def assumptions() -> Mapping[str, float]:
    """The values of assumptions.toml by name."""
    return {name: float(entry["value"]) for name, entry in read_assumptions().items()}


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


@cache
def declared() -> Mapping[str, Mapping[str, Any]]:
    """The parameters of template.yaml."""
    parameters: Mapping[str, Mapping[str, Any]] = written(templates()[APPLICATION])["Parameters"]
    return parameters


@cache
def _load() -> Mapping[str, float]:
    return load_load()


@cache
def _hours() -> int:
    return load_prices().hours_per_month


class CapacityPlan:
    """The answer to one question."""

    def __init__(self, question: CapacityQuestion) -> None:
        self.question = question
        self.pinned = dict(question.pinned)

    # ---- the load

    @cached_property
    def service(self) -> BatchService:
        """How long a batch of attempts takes."""
        return service_of(self.question.latency_milliseconds, self.question.batch)

    @property
    def attempts(self) -> float:
        """A second."""
        return self.question.rate * (1 + self.question.events / 100) * (1 + self.question.retries / 100)

    @cached_property
    def workers(self) -> int:
        """AttemptConcurrency: enough for full batches, and room for peaks."""
        return self._concurrency("AttemptConcurrency", self.service.fewest_workers(self.attempts))

    @cached_property
    def attempts_per_batch(self) -> float:
        """The mean size that batches reach with so many workers."""
        return self.service.attempts_per_batch(self.attempts, workers=self.workers)

    @cached_property
    def load(self) -> Mapping[str, float]:
        """stack/cost/load.toml with what the question says."""
        body_kib = self.question.size / 1024 - 1  # beyond the KiB that load.toml has in each of these
        load = dict(_load())
        larger = ("partner_request_kib", "caller_request_kib", "stored_kib_per_delivery")
        return load | {
            **{name: load[name] + body_kib for name in larger},
            "attempts_per_delivery": 1 + self.question.retries / 100,
            "events_per_delivery": self.question.events / 100,
            "looks_per_delivery": self.question.looks / 100,
            "attempts_per_batch": self.attempts_per_batch,
            "attempt_milliseconds": self.service.mean_seconds(self.attempts_per_batch) * 1000,
        }

    @property
    def deliveries(self) -> int:
        """In a month."""
        return round(self.question.rate * _hours() * 3600)

    @cached_property
    def month(self) -> Month:
        """Of the load alone: what does not depend on resources."""
        return Month(resources={}, deliveries=self.deliveries, hours=_hours(), load=self.load)

    def a_second(self, in_a_month: float) -> float:
        """What comes evenly in a month, a second."""
        return in_a_month / (_hours() * 3600)

    @property
    def requests(self) -> float:
        """Of callers, a second."""
        return self.a_second(self.month.requests)

    @property
    def statements(self) -> float:
        """A second."""
        return self.a_second(self.month.statements)

    @property
    def api_environments(self) -> float:
        """Of ApiFunction: its time, or the requests that one environment may take, whichever needs more."""
        return self._environments(self.requests, "api_milliseconds")

    @property
    def authorizer_environments(self) -> float:
        """Of AuthorizeFunction."""
        return self._environments(self.a_second(self.month.authorizations), "authorize_milliseconds")

    def _environments(self, requests: float, milliseconds: str) -> float:
        busy = requests * self.load[milliseconds] / 1000
        return max(busy, requests / limits()["environment_requests"].value)

    # ---- the parameters

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """Parameters of a stage, each within what template.yaml allows."""
        question = self.question
        chosen = {
            "Topology": question.topology,
            "Stage": "dev" if question.topology == "internet-accessible" else "prod",  # the Rules want it
            "ReserveConcurrency": "yes",
            "ApiConcurrency": str(self.concurrencies["ApiConcurrency"]),
            "AuthorizeConcurrency": str(self.concurrencies["AuthorizeConcurrency"]),
            "AttemptConcurrency": str(self.concurrencies["AttemptConcurrency"]),
            "DatabaseMinCapacity": self._least_capacity,
            "DatabaseMaxCapacity": self._most_capacity,
            "DatabaseProxy": "yes" if question.proxy else "no",
            "ThrottleRate": str(_within("ThrottleRate", self.requests / assumptions()["headroom"])),
            "ThrottleBurst": str(_within("ThrottleBurst", max(self.requests, self.peak))),
        }
        if self.has_internet:
            chosen["Egress"] = self.egress
        return {**NEEDS.get(question.topology, {}), **chosen, **self.pinned}

    @cached_property
    def concurrencies(self) -> Mapping[str, int]:
        """The reserved concurrency of the three functions that deliveries use."""
        return {
            "ApiConcurrency": self._concurrency("ApiConcurrency", self.api_environments),
            "AuthorizeConcurrency": self._concurrency("AuthorizeConcurrency", self.authorizer_environments),
            "AttemptConcurrency": self.workers,
        }

    def _concurrency(self, name: str, busy: float) -> int:
        return int(self.pinned.get(name) or _within(name, busy / assumptions()["headroom"]))

    @property
    def peak(self) -> float:
        """Requests above the average in a second that only one in a thousand exceeds, where callers are independent."""
        return 3.09 * math.sqrt(self.requests)

    @property
    def _least_capacity(self) -> str:
        """Below 1 ACU the connections are capped. It must not be 0, because there is a load all the time."""
        few = self.connections <= limits()["database_connections_small"].value
        return self.pinned.get("DatabaseMinCapacity", "0.5" if few else "1")

    @property
    def _most_capacity(self) -> str:
        """The least value that carries the statements and the connections; the greatest where none does."""
        if "DatabaseMaxCapacity" in self.pinned:
            return self.pinned["DatabaseMaxCapacity"]
        allowed = [float(value) for value in declared()["DatabaseMaxCapacity"]["AllowedValues"]]
        least = float(self._least_capacity)
        enough = [
            value
            for value in allowed
            if value >= max(least, self.capacity_units / assumptions()["headroom"])
            and self._max_connections(value) >= self.connections
        ]
        return f"{min(enough, default=max(allowed)):g}"

    # ---- the database

    @property
    def capacity_units(self) -> float:
        """ACU that the statements take."""
        in_an_hour = self.statements * 3600
        return in_an_hour / 1e6 * self.load["acu_hours_per_million_statements"]

    @property
    def connections(self) -> float:
        """To the database, at most."""
        if self.question.proxy:
            busy = self.statements * assumptions()["proxy_milliseconds"] / 1000
            return busy / assumptions()["proxy_share"]
        processes = sum(self.concurrencies.values())
        return processes * assumptions()["versions_at_once"] + assumptions()["connections_kept_free"]

    def _max_connections(self, most_capacity: float) -> float:
        most = max(count for capacity, count in CONNECTIONS.items() if capacity <= max(1, most_capacity))
        small = float(self._least_capacity) < 1
        return min(most, limits()["database_connections_small"].value) if small else most

    # ---- the way out

    @property
    def has_internet(self) -> bool:
        """Whether requests leave through a NAT gateway."""
        return capabilities({"Topology": self.question.topology}).has_internet

    @property
    def egress(self) -> str:
        """The one that is asked for, or the cheapest that has the ports."""
        new_connections = self.attempts / self.question.destinations
        enough = new_connections <= limits()["nat_new_connections"].value * assumptions()["headroom"]
        return self.question.egress or self.pinned.get("Egress") or ("single" if enough else "per-az")

    @property
    def addresses(self) -> int:
        """How many zones have a way out of their own, with one address each."""
        return 1 if self.egress == EGRESSES[0] else 2

    @property
    def gigabits(self) -> float:
        """Gbit/s to and from partners and SQS."""
        kib = self.load["partner_request_kib"] + self.load["partner_response_kib"] + self.load["queue_call_kib"]
        return self.attempts * kib * 1024 * 8 / BITS_PER_GIGABIT

    # ---- what is needed of what

    def demands(self) -> Iterator[Demand]:
        """In the order of a delivery's way."""
        yield from self._of_api()
        yield from self._of_lambda()
        yield from self._of_queue()
        yield from self._of_database()
        yield from self._of_way_out()
        yield from self._of_services()

    def _of_api(self) -> Iterator[Demand]:
        yield self._demand("api_requests", self.requests, "ThrottleRate")
        yield self._demand("api_burst", self.peak, "ThrottleBurst")

    def _of_lambda(self) -> Iterator[Demand]:
        yield self._function("ApiConcurrency", "ApiFunction, environments", self.api_environments)
        yield self._function("AuthorizeConcurrency", "AuthorizeFunction, environments", self.authorizer_environments)
        fewest = self.service.fewest_workers(self.attempts)
        yield self._function("AttemptConcurrency", "AttemptFunction, full batches at once", fewest)
        reserved = sum(self.concurrencies.values()) + assumptions()["single_functions"]
        yield self._demand("account_concurrency", reserved + limits()["unreserved_concurrency"].value, "")

    def _function(self, name: str, what: str, needed: float) -> Demand:
        source = limits()["mapping_concurrency" if name == "AttemptConcurrency" else "environment_requests"]
        most = float(self.pinned.get(name) or declared()[name]["MaxValue"])
        return Demand(key=name, what=what, unit="", needed=needed, limit=most, source=source, parameter=name)

    def _of_queue(self) -> Iterator[Demand]:
        yield self._demand("in_flight", self.workers * self.attempts_per_batch, "")

    def _of_database(self) -> Iterator[Demand]:
        most = float(self.pinned.get("DatabaseMaxCapacity") or limits()["capacity_units"].value)
        connections = self._demand("database_connections", self.connections, "DatabaseMaxCapacity")
        yield replace(connections, what="Aurora, connections", limit=self._max_connections(most))
        if not self.question.proxy:  # which holds its connections open, whoever starts
            yield self._demand("new_connections", self._new_connections(), "DatabaseProxy")
        yield replace(self._demand("capacity_units", self.capacity_units, "DatabaseMaxCapacity"), limit=most)
        stored = self.month.made * self.load["months_kept"] * self.load["stored_kib_per_delivery"] * 1024 / TIB
        yield self._demand("volume", stored, "")

    def _new_connections(self) -> float:
        """While all functions start at once, as fast as Lambda lets them; the event source starts its own slowly."""
        per_second = limits()["environments_per_second"].value
        burst_seconds = 10
        callers = (self.concurrencies[name] for name in ("ApiConcurrency", "AuthorizeConcurrency"))
        by_callers = sum(min(per_second, count / burst_seconds) for count in callers)
        return by_callers + min(self.workers, limits()["mapping_per_minute"].value) / 60

    def _of_way_out(self) -> Iterator[Demand]:
        if not self.has_internet:
            if "CorporateCidr" in self.settings:
                yield self._demand("vpn_bandwidth", self.gigabits, "")
            return
        ways = self.question.destinations * self.addresses
        in_flight = self.attempts * self.service.mean_seconds(1)
        yield self._demand("nat_connections", in_flight / ways, "Egress")
        yield self._demand("nat_new_connections", self.attempts / ways, "Egress")
        yield self._demand("nat_bandwidth", self.gigabits / self.addresses, "Egress")
        yield self._demand(
            "nat_packets", self.attempts * assumptions()["packets_per_attempt"] / self.addresses, "Egress"
        )

    def _of_services(self) -> Iterator[Demand]:
        starts = self.a_second(self.month.starts)
        if self.pinned.get("KmsKeyArn"):
            yield self._demand("kms_requests", starts, "KmsKeyArn")
        yield self._demand("secret_reads", starts, "")
        yield self._demand("parameter_reads", 4 / 900, "")  # two by the check of each zone, every quarter of an hour
        busy = self.requests * self.load["api_milliseconds"] / 1000 + self.workers
        yield self._demand("log_calls", busy * assumptions()["log_calls_per_environment"], "")

    def _demand(self, key: str, needed: float, parameter: str) -> Demand:
        source = limits()[key]
        pinned = self.pinned.get(parameter, "") if parameter.startswith("Throttle") else ""
        limit = min(source.value, float(pinned)) if pinned else source.value
        return Demand(
            key=key, what=source.what, unit=source.unit, needed=needed, limit=limit, source=source, parameter=parameter
        )


def service_of(latency_milliseconds: float, batch: int) -> BatchService:
    """Of partners with this mean latency."""
    assumed = assumptions()
    return BatchService(
        latency_seconds=latency_milliseconds / 1000,
        variation=assumed["latency_variation"],
        deadline_seconds=assumed["partner_deadline_seconds"],
        overhead_seconds=assumed["batch_overhead_milliseconds"] / 1000,
        batch=batch,
    )


def _within(name: str, value: float) -> int:
    """The next whole number: not below the parameter's default, which suits a load of a few, and not above its most."""
    least, most = int(declared()[name]["Default"]), int(declared()[name]["MaxValue"])
    return min(most, max(least, math.ceil(value)))


# ---- what gives out first ----------------------------------------------------------------------------------------


def bottlenecks(question: CapacityQuestion) -> list[Bottleneck]:
    """Every resource with the rate at which it gives out, whatever the asked one is, the first to give out first.

    Parameters are chosen for each rate, pinned ones apart, so that a limit is what cannot be chosen away.
    """
    found = [
        Bottleneck(demand=demand, carries=_carries(demand.key, question)) for demand in CapacityPlan(question).demands()
    ]
    return sorted(found, key=lambda bottleneck: math.inf if bottleneck.carries is None else bottleneck.carries)


def _carries(key: str, question: CapacityQuestion) -> float | None:
    if _suffices(key, replace(question, rate=HIGHEST_RATE)):
        return None
    least, most = 0.0, float(HIGHEST_RATE)
    while most - least > 0.5:
        middle = (least + most) / 2
        least, most = (middle, most) if _suffices(key, replace(question, rate=middle)) else (least, middle)
    return least


def _suffices(key: str, question: CapacityQuestion) -> bool:
    demand = _demands(question)[key]
    return demand.needed <= demand.limit


@cache
def _demands(question: CapacityQuestion) -> Mapping[str, Demand]:
    return {demand.key: demand for demand in CapacityPlan(question).demands()}


# ---- from nothing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RampUp:
    """A load that starts from nothing: the event source adds workers by the minute, and wake-ups wait meanwhile.

    `seconds` until as many wake-ups leave as arrive, and how many wait by then: no more than that at any time.
    """

    seconds: float
    waiting: float


def ramp_up(plan: CapacityPlan) -> RampUp:
    """On paper, with full batches from the first minute on. What a worker has taken does not wait any more."""
    first, more = limits()["mapping_first"].value, limits()["mapping_per_minute"].value / 60
    missing = max(0.0, plan.service.fewest_workers(plan.attempts) - first)
    per_worker = plan.service.batch / plan.service.mean_seconds(plan.service.batch)
    seconds = missing / more
    not_left = missing * per_worker * seconds / 2
    return RampUp(seconds=seconds, waiting=max(0.0, not_left - missing * plan.service.batch))
