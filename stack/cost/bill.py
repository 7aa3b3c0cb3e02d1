"""What a rendered stack costs in a month, resource by resource.

Every resource is either priced by a function of its type below, or its type is listed in prices.toml as free with a
reason. Anything else is an error, so that nothing is left out silently. Prices are in prices.toml, what a month of use
looks like in load.toml.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from stack.functions import FUNCTIONS, Trigger

HERE = Path(__file__).resolve().parent
KIB_PER_GB = 2**20  # AWS counts a GB as 2**30 bytes
BYTES_PER_GB = 2**30
MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}

type RenderedResource = Mapping[str, Any]


class Unpriced(LookupError):
    """A resource, or a use of it, that this page knows no price for."""


class Overloaded(ValueError):
    """More deliveries than the database's greatest capacity carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One list price in US dollars. `page` is AWS's page; `read` is where the figure was read, None for nowhere."""

    what: str
    unit: str
    dollars: float
    page: str
    read: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """prices.toml. `free` has a reason for each resource type, `left_out` the words for what no bill here counts."""

    looked_up: date
    region: str
    hours_per_month: int
    prices: Mapping[str, Price]
    free: Mapping[str, str]
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """`quantity` units of the price named `price`, for one resource."""

    resource: str
    price: str
    quantity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """All charges of one price. `resources` is how many resources they are for."""

    price: Price
    resources: int
    quantity: float

    @property
    def dollars(self) -> float:
        """What the line adds to the bill."""
        return self.quantity * self.price.dollars


def load_prices(text: str | None = None) -> Prices:
    """prices.toml as it is in the repository, or the text of another."""
    table = tomllib.loads(text or (HERE / "prices.toml").read_text(encoding="utf-8"))
    return Prices(**{**table, "prices": {name: Price(**price) for name, price in table["prices"].items()}})


def read_load() -> dict[str, dict[str, Any]]:
    """load.toml: a value and why for each name."""
    return tomllib.loads((HERE / "load.toml").read_text(encoding="utf-8"))


def load_load() -> dict[str, float]:
    """The values of load.toml by name."""
    return {name: float(entry["value"]) for name, entry in read_load().items()}


def bill(
    resources: Mapping[str, RenderedResource], *, deliveries: int, prices: Prices, load: Mapping[str, float]
) -> list[BillLine]:
    """The lines of a month's bill, in the order of prices.toml; those of nothing are left out.

    Raises Unpriced for a resource type that is neither priced nor free, Overloaded for too many deliveries.
    """
    month = Month(resources=resources, deliveries=deliveries, hours=prices.hours_per_month, load=load)
    charges = [charge for address in resources for charge in _charges(address, month, prices) if charge.quantity]
    by_price = {name: [charge for charge in charges if charge.price == name] for name in prices.prices}
    return [
        BillLine(
            price=prices.prices[name],
            resources=len({charge.resource for charge in same}),
            quantity=sum(charge.quantity for charge in same),
        )
        for name, same in by_price.items()
        if same
    ]


def total(lines: list[BillLine]) -> float:
    """The sum of a bill in dollars."""
    return sum(line.dollars for line in lines)


def _charges(address: str, month: "Month", prices: Prices) -> Iterator[Charge]:
    kind = month.resources[address]["Type"]
    if kind in PRICED:
        for price, quantity in PRICED[kind](address, month):
            yield Charge(resource=address, price=price, quantity=quantity)
    elif kind not in prices.free and not kind.startswith("Custom::"):
        raise Unpriced(f"{address} is a {kind}, which stack/cost/prices.toml neither prices nor lists as free")


# ---- What happens in a month -----------------------------------------------------------------------------------------


class Month:
    """A month of a stack: how often what is used. All figures are for the whole month, data in GB."""

    def __init__(
        self, *, resources: Mapping[str, RenderedResource], deliveries: int, hours: int, load: Mapping[str, float]
    ) -> None:
        self.resources, self.deliveries, self.hours, self.load = resources, deliveries, hours, load
        self.events = deliveries * load["events_per_delivery"]
        # An event is a delivery that nobody calls the API for.
        self.made = deliveries + self.events
        self.attempts = self.made * load["attempts_per_delivery"]
        self.batches = self.attempts / load["attempts_per_batch"]
        self.looks = deliveries * load["looks_per_delivery"]
        self.requests = deliveries + self.looks
        self.authorizations = min(self.requests, load["tokens_in_use"] * hours * 60)
        # The SQL budget of docs/architecture.md: 1 to accept, 1 to look, 1 to check a token, 2 for each batch; 1 for an
        # event on the bus.
        self.on_bus = self.events if self.has_bus() else 0.0
        self.statements = deliveries + self.looks + self.authorizations + 2 * self.batches + self.on_bus

    def of_type(self, kind: str) -> dict[str, RenderedResource]:
        """The resources of a type by address."""
        return {address: resource for address, resource in self.resources.items() if resource["Type"] == kind}

    def has_bus(self) -> bool:
        """Whether events are put on a bus of EventBridge."""
        return any(
            variables.get("EVENT_BUS_NAME")
            for function in self.of_type("AWS::Lambda::Function").values()
            if (variables := function["Properties"].get("Environment", {}).get("Variables", {}))
        )

    def gb(self, count: float, kib: str) -> float:
        """`count` times the KiB that load.toml has under the name `kib`, in GB."""
        return count * self.load[kib] / KIB_PER_GB

    @cached_property
    def scheduled(self) -> dict[str, float]:
        """Invocations by schedule: the function's address, and how often in a month."""
        runs: dict[str, float] = {}
        for address, schedule in self.schedules().items():
            for target in _targets(schedule["Properties"]):
                function = self._function(target)
                runs[function] = runs.get(function, 0) + self.runs(address)
        return runs

    def schedules(self) -> dict[str, RenderedResource]:
        """Rules and schedules that fire by the clock."""
        candidates = self.of_type("AWS::Events::Rule") | self.of_type("AWS::Scheduler::Schedule")
        return {
            address: schedule
            for address, schedule in candidates.items()
            if "ScheduleExpression" in schedule["Properties"]
        }

    def runs(self, address: str) -> float:
        """How often a schedule fires in a month. Raises Unpriced for one that is not `rate(...)`."""
        expression = self.resources[address]["Properties"]["ScheduleExpression"]
        rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
        if rate is None:
            raise Unpriced(f"{address} fires at {expression}: only rate(...) is counted")
        return self.hours * 60 / (int(rate[1]) * MINUTES[rate[2]])

    def _function(self, target: str) -> str:
        """The address of the function behind an ARN, a reference or an alias."""
        address = target.removesuffix(".Arn")
        resource = self.resources.get(address, {"Type": ""})
        return (
            self._function(resource["Properties"]["FunctionName"])
            if resource["Type"] == "AWS::Lambda::Alias"
            else address
        )

    def invocations(self, address: str) -> float:
        """How often a function runs. Raises Unpriced for a function that nothing here accounts for."""
        if address not in FUNCTIONS:
            raise Unpriced(f"{address}: stack/functions.py does not say what invokes it")
        triggered = {
            Trigger.REQUEST: self.requests,
            Trigger.TOKEN: self.authorizations,
            Trigger.WAKEUP: self.batches + self.on_bus,  # which has a message of its own
        }
        trigger = FUNCTIONS[address].trigger
        if trigger is Trigger.SCHEDULE and address not in self.scheduled:
            raise Unpriced(f"{address}: no schedule says how often it runs")
        # Deployments and operators invoke their functions so seldom that it costs nothing.
        return triggered.get(trigger, 0) + self.scheduled.get(address, 0)

    def seconds(self, address: str) -> float:
        """What Lambda bills of a function, starts included, in seconds."""
        invocations = self.invocations(address)
        if not invocations:
            return 0
        trigger = FUNCTIONS[address].trigger
        if trigger not in MILLISECONDS:
            raise Unpriced(f"{address}: stack/functions.py does not say that it runs by the clock")
        call = self.load[MILLISECONDS[trigger]]
        starts = self.load["starts_per_invocation"] * self.load["start_milliseconds"]
        return invocations * (call + starts) / 1000

    def logged(self, address: str) -> float:
        """What Lambda and the function's own code write to its log, in GB."""
        ours = {
            Trigger.REQUEST: ("post", "look"),
            Trigger.TOKEN: ("authorization",),
            Trigger.WAKEUP: ("attempt", "batch"),
        }
        written = sum(self.log_bytes(what) for what in ours.get(FUNCTIONS[address].trigger, ()))
        checks = self.scheduled.get(address, 0) * self.load["log_bytes_per_check"]
        lambdas_own = self.invocations(address) * self.load["log_bytes_per_invocation"]
        return (written + checks + lambdas_own) / BYTES_PER_GB

    def log_bytes(self, what: str) -> float:
        """What is written in a month for all of `what`, such as post."""
        invocations = self.requests + self.authorizations + self.batches + self.on_bus + sum(self.scheduled.values())
        counts = {
            "invocation": invocations,
            "post": self.deliveries,
            "look": self.looks,
            "authorization": self.authorizations,
            "attempt": self.attempts,
            "batch": self.batches,
        }
        return counts[what] * self.load[f"log_bytes_per_{what}"]

    @property
    def starts(self) -> float:
        """New environments of the functions that read the seal key."""
        return (self.requests + self.batches) * self.load["starts_per_invocation"]

    # ---- data

    @property
    def to_partners(self) -> float:
        """Requests to third parties."""
        return self.gb(self.attempts, "partner_request_kib")

    @property
    def from_partners(self) -> float:
        """Their answers."""
        return self.gb(self.attempts, "partner_response_kib")

    @property
    def to_queue(self) -> float:
        """Wake-ups that the functions send; Lambda's own receives do not pass the VPC."""
        return self.gb(self.attempts + self.on_bus, "queue_call_kib")

    @property
    def to_bus(self) -> float:
        """Events that the worker puts on the bus."""
        return self.gb(self.on_bus, "bus_call_kib")

    @property
    def through_nat(self) -> float:
        """What the NAT gateways carry, both directions."""
        queue = 0 if self.endpoints("sqs") else self.to_queue
        bus = 0 if self.endpoints("events") else self.to_bus
        return self.to_partners + self.from_partners + queue + bus

    def endpoints(self, service: str) -> dict[str, RenderedResource]:
        """The interface endpoints of a service, such as sqs."""
        return {
            address: endpoint
            for address, endpoint in self.of_type("AWS::EC2::VPCEndpoint").items()
            if endpoint["Properties"]["ServiceName"].endswith(f".{service}") and _is_interface(endpoint["Properties"])
        }

    # ---- the database

    @cached_property
    def awake(self) -> float:
        """Hours in which the database does not pause, for deliveries that arrive evenly."""
        scaling = _scaling(self)
        if float(scaling["MinCapacity"]) > 0:
            return self.hours
        pause_hours = float(scaling.get("SecondsUntilAutoPause", 300)) / 3600
        return min(self.hours, self.deliveries * pause_hours)

    @property
    def writer_capacity(self) -> float:
        """ACU-hours of the writer: what it is kept at while awake, or what the statements take.

        Raises Overloaded when the statements take more than the greatest capacity.
        """
        scaling = _scaling(self)
        taken = self.statements / 1e6 * self.load["acu_hours_per_million_statements"]
        if taken > self.hours * float(scaling["MaxCapacity"]):
            raise Overloaded(
                f"{self.deliveries:,} deliveries a month take {taken / self.hours:.1f} ACU of the database on average, "
                f"more than its greatest capacity of {scaling['MaxCapacity']}: raise DatabaseMaxCapacity"
            )
        return max(taken, self.least_capacity)

    @property
    def least_capacity(self) -> float:
        """ACU-hours of an instance that has nothing to do: half an ACU is the least while awake."""
        return self.awake * max(0.5, float(_scaling(self)["MinCapacity"]))


def _scaling(month: Month) -> Mapping[str, Any]:
    (cluster,) = month.of_type("AWS::RDS::DBCluster").values()
    scaling: Mapping[str, Any] = cluster["Properties"]["ServerlessV2ScalingConfiguration"]
    return scaling


def _targets(properties: Mapping[str, Any]) -> list[str]:
    targets = properties.get("Targets") or [properties["Target"]]
    return [str(target["Arn"]) for target in targets]


def _is_interface(properties: Mapping[str, Any]) -> bool:
    return bool(properties.get("VpcEndpointType") == "Interface")


# ---- How each type is priced -----------------------------------------------------------------------------------------

type Priced = Iterator[tuple[str, float]]

# How long one invocation takes, by the name that load.toml has for it.
MILLISECONDS = {
    Trigger.REQUEST: "api_milliseconds",
    Trigger.TOKEN: "authorize_milliseconds",
    Trigger.WAKEUP: "attempt_milliseconds",
    Trigger.SCHEDULE: "check_milliseconds",
}


def _nat_gateway(address: str, month: Month) -> Priced:
    properties = month.resources[address]["Properties"]
    zones = properties.get("AvailabilityZoneAddresses", [])
    gateways = month.of_type("AWS::EC2::NatGateway")
    share = month.through_nat / len(gateways)
    yield ("regional_nat_gateway_zone_hour", month.hours * len(zones)) if zones else ("nat_gateway_hour", month.hours)
    yield "nat_gateway_gb", share
    yield "data_out_gb", month.to_partners / len(gateways)
    if len(gateways) == 1 and not zones:  # half of the functions are in the other zone
        yield "between_zones_gb", share / 2
    # Addresses that another stack made are billed to the same account.
    given = [properties.get("AllocationId"), *(allocation for zone in zones for allocation in zone["AllocationIds"])]
    yield "public_ipv4_hour", month.hours * sum(str(allocation).startswith("eipalloc-") for allocation in given)


def _elastic_ip(_address: str, month: Month) -> Priced:
    yield "public_ipv4_hour", month.hours


def _endpoint(address: str, month: Month) -> Priced:
    properties = month.resources[address]["Properties"]
    if not _is_interface(properties):
        return  # gateway endpoints are free
    yield "interface_endpoint_hour", month.hours * len(properties["SubnetIds"])
    if address in month.endpoints("sqs"):
        yield "interface_endpoint_gb", month.to_queue
    if address in month.endpoints("events"):
        yield "interface_endpoint_gb", month.to_bus
    if address in month.endpoints("execute-api"):
        kib = month.load["caller_request_kib"] + month.load["caller_response_kib"]
        yield "interface_endpoint_gb", month.requests * kib / KIB_PER_GB


def _vpn_connection(_address: str, month: Month) -> Priced:
    yield "vpn_connection_hour", month.hours
    yield "vpn_tunnel_address_hour", month.hours * 2
    if not month.of_type("AWS::EC2::NatGateway"):  # then this is the way to the destinations
        yield "data_out_gb", month.to_partners
    if month.endpoints("execute-api"):  # and this the way of the API's answers
        yield "data_out_gb", month.gb(month.requests, "caller_response_kib")


def _flow_log(address: str, month: Month) -> Priced:
    addresses = len(month.of_type("AWS::EC2::EIP"))
    written = addresses * month.load["rejected_flow_gb_per_address"]
    if month.resources[address]["Properties"]["TrafficType"] != "REJECT":
        written += month.gb(month.attempts * month.load["flow_lines_per_attempt"], "flow_line_kib")
    yield "log_gb", written


def _cluster(_address: str, month: Month) -> Priced:
    instances = month.of_type("AWS::RDS::DBInstance")
    readers = len(instances) - 1
    yield "aurora_capacity_unit_hour", month.writer_capacity + readers * month.least_capacity
    kept = month.gb(month.made * month.load["months_kept"], "stored_kib_per_delivery")
    yield "aurora_storage_gb_month", month.load["stored_gb_at_rest"] + kept
    yield "aurora_request_million", month.statements * month.load["storage_requests_per_statement"] / 1e6
    # Half of the functions are in another zone than the writer.
    yield "between_zones_gb", month.gb(month.statements, "statement_kib") / 2
    yield "log_gb", month.awake * month.load["database_log_mib_per_hour"] / 1024


def _instance(address: str, month: Month) -> Priced:
    if month.resources[address]["Properties"].get("PubliclyAccessible") in (True, "true"):
        yield "public_ipv4_hour", month.hours


def _proxy(_address: str, month: Month) -> Priced:
    yield "rds_proxy_capacity_unit_hour", max(8 * month.hours, month.writer_capacity)


def _function(address: str, month: Month) -> Priced:
    properties = month.resources[address]["Properties"]
    (architecture,) = properties.get("Architectures", ["x86_64"])
    gigabytes = float(properties.get("MemorySize", 128)) / 1024
    invocations = month.invocations(address)
    yield "lambda_request_million", invocations / 1e6
    yield f"lambda_{architecture}_gb_second", gigabytes * month.seconds(address)
    yield "log_gb", month.logged(address)
    if properties.get("TracingConfig", {}).get("Mode") == "Active":
        yield "trace_million", invocations * month.load["trace_share"] / 1e6
    if "SnapStart" in properties and properties["SnapStart"].get("ApplyOn") == "PublishedVersions":
        yield "snapstart_kept_gb_second", gigabytes * month.hours * 3600
        yield "snapstart_restored_gb", gigabytes * invocations * month.load["starts_per_invocation"]
    yield "metric_month", month.load["metrics_per_check"] * (address in month.scheduled)
    if FUNCTIONS[address].trigger is Trigger.WAKEUP:
        yield "bus_event_million", month.on_bus / 1e6


def _rest_api(_address: str, month: Month) -> Priced:
    yield "rest_api_million", month.requests / 1e6
    yield "log_gb", month.gb(month.requests, "access_log_kib")
    yield "metric_month", month.load["metrics_in_use"] * (month.deliveries > 0)
    if not month.endpoints("execute-api"):
        yield "data_out_gb", month.gb(month.requests, "caller_response_kib")


def _queue(address: str, month: Month) -> Priced:
    if not address.endswith("WakeupQueue"):
        return  # dead letters are faults of ours, not a monthly expense
    empty = month.load["empty_receives_per_minute"] * 60 * month.hours
    yield "sqs_request_million", (empty + month.attempts + 2 * month.batches + 3 * month.on_bus) / 1e6
    yield "sqs_fair_million", (month.attempts + month.on_bus) / 1e6


def _schedule(address: str, month: Month) -> Priced:
    yield "schedule_million", month.runs(address) / 1e6


def _secret(_address: str, month: Month) -> Priced:
    yield "secret_month", 1
    yield "secret_read_ten_thousand", month.starts / 1e4


def _log_group(address: str, month: Month) -> Priced:
    """What is written is charged to who writes it; what is kept, here: every group's share of it for its days."""
    days = float(month.resources[address]["Properties"]["RetentionInDays"])
    groups = month.of_type("AWS::Logs::LogGroup")
    written = sum(
        quantity
        for writer in month.resources
        if (priced := WRITERS.get(month.resources[writer]["Type"])) is not None
        for price, quantity in priced(writer, month)
        if price == "log_gb"
    )
    yield "log_gb_month", written / len(groups) * days / 30 * month.load["log_compression"]


def _alarm(address: str, month: Month) -> Priced:
    metrics = month.resources[address]["Properties"].get("Metrics", [])
    yield "alarm_month", max(1, sum("MetricStat" in metric for metric in metrics))


def _monthly(price: str) -> Callable[[str, Month], Priced]:
    def charges(_address: str, _month: Month) -> Priced:
        yield price, 1

    return charges


def _metric_filter(_address: str, month: Month) -> Priced:
    yield "metric_month", month.deliveries > 0  # without lines in the log there is no metric


def _web_acl(address: str, month: Month) -> Priced:
    yield "web_acl_month", 1
    yield "web_acl_rule_month", len(month.resources[address]["Properties"].get("Rules", []))
    yield "web_acl_request_million", month.requests / 1e6


def _web_acl_log(address: str, month: Month) -> Priced:
    keeps_all = month.resources[address]["Properties"].get("LoggingFilter", {}).get("DefaultBehavior") != "DROP"
    if keeps_all:  # else only what is blocked, which is no part of the load
        yield "log_gb", month.gb(month.requests, "access_log_kib")


BASTIONS = {"t4g.nano": "t4g_nano_hour", "t3.nano": "t3_nano_hour"}  # by the functions' processor


def _bastion(address: str, month: Month) -> Priced:
    kind = month.resources[address]["Properties"].get("InstanceType")
    if kind not in BASTIONS:
        raise Unpriced(f"{address} is a {kind}: stack/cost/prices.toml has the prices of {' and '.join(BASTIONS)}")
    yield BASTIONS[kind], month.hours
    yield "gp3_gb_month", month.load["bastion_disk_gb"]


PRICED: dict[str, Callable[[str, Month], Priced]] = {
    "AWS::ApiGateway::RestApi": _rest_api,
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CloudWatch::CompositeAlarm": _monthly("composite_alarm_month"),
    "AWS::CloudWatch::Dashboard": _monthly("dashboard_month"),
    "AWS::EC2::EIP": _elastic_ip,
    "AWS::EC2::FlowLog": _flow_log,
    "AWS::EC2::Instance": _bastion,
    "AWS::EC2::NatGateway": _nat_gateway,
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::EC2::VPNConnection": _vpn_connection,
    "AWS::KMS::Key": _monthly("kms_key_month"),
    "AWS::Lambda::Function": _function,
    "AWS::Logs::LogGroup": _log_group,
    "AWS::Logs::MetricFilter": _metric_filter,
    "AWS::RDS::DBCluster": _cluster,
    "AWS::RDS::DBInstance": _instance,
    "AWS::RDS::DBProxy": _proxy,
    "AWS::SQS::Queue": _queue,
    "AWS::Scheduler::Schedule": _schedule,
    "AWS::SecretsManager::Secret": _secret,
    "AWS::WAFv2::LoggingConfiguration": _web_acl_log,
    "AWS::WAFv2::WebACL": _web_acl,
}
WRITERS = {
    kind: PRICED[kind]
    for kind in (
        "AWS::ApiGateway::RestApi",
        "AWS::EC2::FlowLog",
        "AWS::Lambda::Function",
        "AWS::RDS::DBCluster",
        "AWS::WAFv2::LoggingConfiguration",
    )
}
