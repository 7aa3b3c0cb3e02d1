"""Numbers, places and orders in the templates that nothing else would miss: each is held against its reason.

An alarm whose threshold is ten times too high is there and never rings; the wrong place of a list is seen by who has a
list of that length; a resource that is made before its gateway fails in one deployment of ten.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from stack.render import NEEDS, Rendered
from tests.contract.project import CHECK_EGRESS, Project, load
from tests.contract.rules_functions import BEFORE_THE_SCHEMA

PROJECT = load()
VPN = NEEDS["on-premises"]
EVERYTHING = {**VPN, "Topology": "on-premises", "Egress": "per-az", "WebAcl": "yes", "DatabaseReader": "yes"}


def rendered(project: Project, **parameters: str) -> Rendered:
    return project.application(**parameters)


# ---- Alarms


@dataclass(frozen=True, slots=True, kw_only=True)
class Rings:
    """When an alarm rings: a value beyond its threshold in `of` of the last `periods`, each of `seconds`; and why."""

    by: str = "Sum"
    seconds: int
    periods: int
    of: int | None = None
    above: float | None = None
    below: float | None = None
    missing: str = "notBreaching"
    because: str


@cache
def alarms() -> Mapping[str, Rings]:
    """Every alarm, by its name; A and B are the zones' own."""
    made = rendered(PROJECT, **EVERYTHING).resources
    queue = made["WakeupQueue"]["Properties"]
    hop = queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"]
    every = _minutes() * 60
    refused = "callers are refused, for three to five minutes in which it did not heal by itself"
    failing = "one failure alone may be a broken connection; a second period says that it goes on"
    dropped = "one packet in ten thousand, where AWS says that it should be next to none"
    nearly = "four fifths of the 100 Gbit/s at which AWS's gateways end"
    checked = Rings(by="Minimum", seconds=every, periods=1, because="a check comes every quarter of an hour")
    return {
        "DeadLetterAlarm": Rings(by="Maximum", seconds=60, periods=1, above=0, because="each is a lost wake-up"),
        "WakeupAgeAlarm": Rings(
            by="Maximum", seconds=60, periods=5, above=900 + hop, because="the longest delay of SQS, and all receives"
        ),
        "AttemptErrorAlarm": Rings(seconds=300, periods=2, above=0, because=failing),
        "AttemptThrottleAlarm": Rings(seconds=60, periods=5, above=0, because=refused),
        "UnreachableAlarm": Rings(by="", seconds=300, periods=3, above=0.5, because="more than half reach nobody"),
        "UnknownAlarm": Rings(by="", seconds=300, periods=3, above=0.05, because="more than connections that break"),
        "FailedAlarm": Rings(by="", seconds=300, periods=3, above=0.25, because="more than a few wrong requests"),
        "OverdueAlarm": Rings(
            by="Maximum", seconds=900, periods=1, above=0, missing="ignore", because="each stands still; looks are rare"
        ),
        "CertificateExpiryAlarm": Rings(
            by="Minimum", seconds=86_400, periods=1, below=30, because="a bank takes weeks to issue the next one"
        ),
        "CertificateEndAlarm": Rings(
            by="Minimum", seconds=86_400, periods=1, below=7, because="whoever missed the first one has a week"
        ),
        "DeliveryFaultAlarm": Rings(seconds=300, periods=1, above=0, because="each is a fault of ours"),
        "FailedInvocationAlarm": Rings(by="Maximum", seconds=60, periods=1, above=0, because="each is lost work"),
        "ApiErrorAlarm": Rings(seconds=60, periods=3, above=0, because=refused),
        "ApiThrottleAlarm": Rings(seconds=60, periods=5, above=0, because=refused),
        "AuthorizerFailureAlarm": Rings(seconds=60, periods=3, above=0, because=refused),
        "AuthorizeThrottleAlarm": Rings(seconds=60, periods=5, above=0, because=refused),
        "ApiServerErrorAlarm": Rings(by="Average", seconds=60, periods=5, above=0.05, because="one answer in twenty"),
        "WebAclBlockedAlarm": Rings(seconds=300, periods=2, above=1000, because="three a second: a scan or an attack"),
        "DatabaseAwayAlarm": Rings(seconds=300, periods=2, above=0, because="a failover takes less than a minute"),
        "DatabaseResumeAlarm": Rings(
            by="", seconds=60, periods=5, of=3, above=0, because="a resume takes 15 s, after a day 30 s"
        ),
        "DatabaseCapacityAlarm": Rings(by="Average", seconds=300, periods=3, above=90, because="percent of the most"),
        "DatabaseConnectionsAlarm": Rings(
            by="Maximum", seconds=60, periods=3, above=_connections(made), because="four fifths of what it takes"
        ),
        "DatabaseTransactionsAlarm": Rings(
            by="Maximum", seconds=3600, periods=1, above=10**9, because="half of the 2.1 billion at which it stops"
        ),
        "DatabaseReaderLagAlarm": Rings(by="Average", seconds=300, periods=2, above=1000, because="ms; 100 is usual"),
        "DatabaseProxyAlarm": Rings(by="Average", seconds=60, periods=3, above=10**6, because="us; it refuses at 5 s"),
        **{f"EgressAddressAlarm{zone}": replace(checked, below=1, missing="ignore") for zone in "AB"},
        **{f"EgressCheckAlarm{zone}": replace(checked, periods=4, above=0, missing="breaching") for zone in "AB"},
        **{f"NatPortAlarm{zone}": Rings(seconds=300, periods=1, above=0, because="each failed") for zone in "AB"},
        **{f"NatBandwidthAlarm{zone}": Rings(by="", seconds=300, periods=3, above=80, because=nearly) for zone in "AB"},
        **{f"NatDropAlarm{zone}": Rings(by="", seconds=300, periods=3, above=1e-4, because=dropped) for zone in "AB"},
        "VpnTunnelAlarm": Rings(by="Maximum", seconds=300, periods=2, below=1, because="1 while one tunnel is up"),
    }


def _minutes() -> int:
    """Of the schedule that calls the egress check, as its own text says."""
    (found,) = set(re.findall(r"Schedule: rate\((\d+) minutes\)", PROJECT.texts[CHECK_EGRESS]))
    return int(found)


def _connections(made: Mapping[str, Any]) -> int:
    """What test_observability.py works out in each size; here it is as it is."""
    return int(made["Observability.DatabaseConnectionsAlarm"]["Properties"]["Threshold"])


def as_rendered(project: Project) -> Iterator[tuple[str, Rings]]:
    behind_a_proxy = {**EVERYTHING, "DatabaseMinCapacity": "0.5", "DatabaseProxy": "yes"}  # which never pauses
    made = [rendered(project, **choice).of_type("AWS::CloudWatch::Alarm") for choice in (behind_a_proxy, EVERYTHING)]
    for name, resource in [pair for alarms_of_one in made for pair in alarms_of_one.items()]:
        own = resource["Properties"]
        metrics = [query["MetricStat"] for query in own.get("Metrics", ()) if "MetricStat" in query]
        seconds = {own["Period"]} if "Period" in own else {metric["Period"] for metric in metrics}
        beyond = {"GreaterThanThreshold": "above", "LessThanThreshold": "below"}[own["ComparisonOperator"]]
        yield (
            name.removeprefix("Observability."),
            Rings(
                by=own.get("Statistic", ""),
                seconds=max(seconds) if len(seconds) == 1 else 0,
                periods=own["EvaluationPeriods"],
                of=own.get("DatapointsToAlarm"),
                missing=own["TreatMissingData"],
                because="",
                **{beyond: own["Threshold"]},
            ),
        )


def wrong_alarms(project: Project) -> list[str]:
    found, wanted = dict(as_rendered(project)), alarms()
    return [name for name in found if name not in wanted or found[name] != replace(wanted[name], because="")]


def test_every_alarm_rings_when_its_reason_says_and_there_is_none_without_a_reason() -> None:
    assert wrong_alarms(PROJECT) == []
    assert all(alarm.because for alarm in alarms().values())
    assert set(dict(as_rendered(PROJECT))) == set(alarms())


# ---- Lists


LISTS = {"AllowedCallerCidrs": (10, "192.0.2.{}/32"), "AllowedPrivateCidrs": (4, "10.20{}.0.0/16")}
type Opening = tuple[str, str, int, int]  # whose rule, in or out, first and last port


def openings(made: Rendered) -> Mapping[Opening, list[str]]:
    """The ranges that each opening of a security group is for, in the order of the rules."""
    found: dict[Opening, list[str]] = {}
    for owner, group in made.of_type("AWS::EC2::SecurityGroup").items():
        for side in ("SecurityGroupIngress", "SecurityGroupEgress"):
            for rule in group["Properties"].get(side, ()):
                key = (owner, side, rule.get("FromPort", 0), rule.get("ToPort", 0))
                found.setdefault(key, []).append(str(rule.get("CidrIp", "a group")))
    for kind in ("SecurityGroupIngress", "SecurityGroupEgress"):
        for separate_rule in made.of_type(f"AWS::EC2::{kind}").values():
            rule = separate_rule["Properties"]
            key = (str(rule["GroupId"]), kind, rule.get("FromPort", 0), rule.get("ToPort", 0))
            found.setdefault(key, []).append(str(rule.get("CidrIp", "a group")))
    return found


def missing_of_lists(project: Project) -> list[str]:
    """Openings that some, and not all, ranges of a list have, or that have one twice, or an empty one."""
    faults: list[str] = []
    for name, (most, form) in LISTS.items():
        for count in range(1, most + 1):
            entries = [form.format(place) for place in range(count)]
            parameters = {"Topology": "internal-only", "AllowedPrivateCidrs": "172.30.0.0/16", name: ",".join(entries)}
            try:
                faults += _partly(rendered(project, **parameters), entries, f"{name} of {count}")
            except ValueError as error:
                faults.append(f"{name} of {count}: {error}")
    return faults


def _partly(made: Rendered, entries: list[str], what: str) -> Iterator[str]:
    named = 0
    for opening, ranges in openings(made).items():
        listed = [cidr for cidr in ranges if cidr in entries or cidr == ""]
        named += bool(listed)
        if listed and sorted(listed) != sorted(entries):
            yield f"{what}, {opening}: {listed}"
    if not named:
        yield f"{what}: no opening is for it"


def test_a_list_of_every_length_makes_the_rules_of_all_that_it_names() -> None:
    assert missing_of_lists(PROJECT) == []


# ---- Orders

# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-dependson.html: what needs a gateway of a
# VPC depends on its attachment, which no reference says; an address and a NAT gateway of their own pages too.
_INTERNET, _VPN = "InternetGatewayAttachment", "VpnGatewayAttachment"
ALWAYS = {"AWS::EC2::EIP": _INTERNET, "AWS::EC2::NatGateway": _INTERNET, "AWS::EC2::VPNGatewayRoutePropagation": _VPN}
# A proxy's targets are there once an instance is.
ALWAYS |= {"AWS::RDS::DBProxyTargetGroup": "DatabaseInstance"}
# Log groups are ours before the service makes ones that are kept for ever; a cluster's first instance is its writer.
# What CloudFormation cannot make is made by a function that is allowed to before it is asked, and runs once at a time.
NAMED = {
    "DatabaseCluster": {"PostgresqlLogGroup", "InstanceLogGroup", "IamAuthenticationLogGroup"},
    "DatabaseReaderInstance": {"DatabaseInstance"},
    "DatabaseProxy": {"ProxyLogGroup"},
    "DefaultSecurityGroup": {"DefaultSecurityGroupPolicy"},
    "ZoneIds": {"DefaultSecurityGroup"},
}


def wrong_orders(project: Project) -> list[str]:
    """What may be made before what it needs, and what waits for something for no reason that is known here."""
    faults: list[str] = []
    for path in project.texts:
        resources = project.written(path)["Resources"]
        for name, resource in resources.items():
            needed, given = _needed(name, resources), set(_waits_for(resource))
            faults += [f"{path} {name} does not wait for {missing}" for missing in sorted(needed - given)]
            faults += [f"{path} {name} waits for {other}, for no known reason" for other in sorted(given - needed)]
    return faults


def _waits_for(resource: Mapping[str, Any]) -> list[str]:
    given = resource.get("DependsOn", [])
    return [given] if isinstance(given, str) else list(given)


def _needed(name: str, resources: Mapping[str, Any]) -> set[str]:
    kind, own = resources[name]["Type"], resources[name].get("Properties", {})
    match kind:
        case "AWS::EC2::Route":
            target = str(own.get("GatewayId", ""))
            return {_VPN} if "VpnGateway" in target else {_INTERNET} if "InternetGateway" in target else set()
        case "AWS::RDS::EventSubscription":  # RDS publishes a first notification when it is made
            return _policies_of(own["SnsTopicArn"], resources)
        case "AWS::Serverless::Function" if name not in BEFORE_THE_SCHEMA:  # of the others who uses it comes later
            return {"Migration"} if "DATABASE_NAME" in own["Environment"]["Variables"] else set()
    return {ALWAYS[kind]} if kind in ALWAYS else NAMED.get(name, set())


def _policies_of(topic: object, resources: Mapping[str, Any]) -> set[str]:
    """What allows others to publish to a topic."""
    return {
        name
        for name, resource in resources.items()
        if resource["Type"] == "AWS::SNS::TopicPolicy" and topic in resource["Properties"]["Topics"]
    }


def test_each_resource_waits_for_what_it_needs_and_for_nothing_else() -> None:
    assert wrong_orders(PROJECT) == []


# ---- Each number, place and order that is changed is noticed

_NUMBER = re.compile(
    r"^( +(?:Threshold|Period|EvaluationPeriods|DatapointsToAlarm): )(\d+(?:\.\d+)?)(?=\s|$)", re.MULTILINE
)
_PLACE = re.compile(r"!Select \[(\d), !Split \[',', !Sub '\$\{Allowed(?:Caller|Private)Cidrs\}")
_ORDER = re.compile(r"^    DependsOn: +(?:\[(?P<list>[^\]\n]+)\]|(?P<one>\w+)).*\n", re.MULTILINE)


def changed(path: str, old: re.Match[str], new: str) -> Project:
    text = PROJECT.texts[path]
    return replace(PROJECT, texts={**PROJECT.texts, path: text[: old.start()] + new + text[old.end() :]})


def edits() -> Iterator[tuple[str, str, re.Match[str], str]]:
    """Kind, path, the old text and the new text; of the alarms and lists a few of many."""
    numbers = list(_NUMBER.finditer(PROJECT.texts["infra/observability.yaml"]))
    for number in numbers[:: len(numbers) // 10]:
        value = "1" if number[2] == "0" else f"{float(number[2]) * 10:g}"
        yield "alarm", "infra/observability.yaml", number, number[1] + value
    for path in ("infra/endpoints.yaml", "infra/network.yaml"):
        for match in list(_PLACE.finditer(PROJECT.texts[path]))[::3]:
            yield "list", path, match, match[0].replace(match[1], str((int(match[1]) + 1) % 10), 1)
    yield from orders()


def orders() -> Iterator[tuple[str, str, re.Match[str], str]]:
    """Each resource that waits for others, without one of them."""
    for path, text in PROJECT.texts.items():
        for match in _ORDER.finditer(text):
            names = (match["list"] or match["one"]).replace(" ", "").split(",")
            for name in names:
                left = ", ".join(other for other in names if other != name)
                yield "order", path, match, f"    DependsOn: [{left}]\n" if left else ""


EDITS = list(edits())


@pytest.mark.parametrize(
    ("kind", "path", "old", "new"),
    EDITS,
    ids=[f"{kind} {path} {old.start()} {number}" for number, (kind, path, old, _) in enumerate(EDITS)],
)
def test_a_changed_number_place_or_order_is_noticed(kind: str, path: str, old: re.Match[str], new: str) -> None:
    rule = {"alarm": wrong_alarms, "list": missing_of_lists, "order": wrong_orders}[kind]
    assert rule(changed(path, old, new)) != []


def test_every_order_of_every_template_is_among_the_edits() -> None:
    written = [
        name
        for path in PROJECT.texts
        for resource in PROJECT.written(path)["Resources"].values()
        for name in _waits_for(resource)
    ]
    assert len(list(orders())) == len(written)


def test_an_order_without_a_known_reason_is_noticed() -> None:
    text = PROJECT.texts["infra/database.yaml"]
    more = text.replace("    DependsOn: ProxyLogGroup\n", "    DependsOn: [ProxyLogGroup, PostgresqlLogGroup]\n")
    project = replace(PROJECT, texts={**PROJECT.texts, "infra/database.yaml": more})
    assert wrong_orders(project) == [
        "infra/database.yaml DatabaseProxy waits for PostgresqlLogGroup, for no known reason"
    ]
