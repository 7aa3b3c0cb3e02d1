"""Alarms and dashboard: they watch what exists, in every topology, and every option brings its own.

Each rule is shown a changed template that breaks it. The names of AWS's metrics and dimensions are from its pages on
monitoring each service; nothing here can ask CloudWatch whether data arrive.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from runtime import metrics as counts
from stack.capabilities import capabilities
from stack.render import Combination, Rendered, combinations, render, templates
from tests.contract.project import ROOT
from tests.contract.rules_functions import CONNECTIONS, CONNECTIONS_WHEN_SMALL

PATH = "infra/observability.yaml"
TEXT = templates()[PATH]
ALLOWED = [combination for combination in combinations() if combination.refused is None]
MORE = {"WebAcl": "yes", "DatabaseReader": "yes"}

# Namespace, metric, dimensions.
OF_AWS = {
    *(("AWS/ApiGateway", name, ("ApiName", "Stage")) for name in ("Count", "4XXError", "5XXError", "Latency")),
    *(("AWS/Lambda", name, ("FunctionName",)) for name in ("Errors", "Throttles")),
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible", ("QueueName",)),
    ("AWS/SQS", "ApproximateNumberOfMessagesDelayed", ("QueueName",)),
    ("AWS/SQS", "ApproximateAgeOfOldestMessage", ("QueueName",)),
    *(
        ("AWS/RDS", name, ("DBInstanceIdentifier",))
        for name in (
            "ACUUtilization",
            "AuroraReplicaLag",
            "DatabaseConnections",
            "MaximumUsedTransactionIDs",
            "ServerlessDatabaseCapacity",
        )
    ),
    *(
        ("AWS/NATGateway", name, ("NatGatewayId",))
        for name in (
            "BytesInFromDestination",
            "BytesInFromSource",
            "BytesOutToDestination",
            "ErrorPortAllocation",
            "PacketsDropCount",
            "PacketsInFromDestination",
            "PacketsInFromSource",
        )
    ),
    ("AWS/VPN", "TunnelState", ("VpnId",)),
    *(("AWS/WAFV2", name, ("WebACL", "Region", "Rule")) for name in ("AllowedRequests", "BlockedRequests")),
}

type Metric = tuple[str, str, tuple[str, ...]]


def ours() -> set[Metric]:
    """What the functions count."""
    return {
        ("Sallyport", name.value, ("service", "zone") if name.value.startswith("Egress") else ("service",))
        for name in counts.Metric
    }


def filtered(rendered: Rendered) -> set[Metric]:
    """What metric filters count."""
    transformations = [
        transformation
        for resource in rendered.of_type("AWS::Logs::MetricFilter").values()
        for transformation in resource["Properties"]["MetricTransformations"]
    ]
    return {
        (transformation["MetricNamespace"], str(transformation["MetricName"]), ()) for transformation in transformations
    }


@cache
def application(combination: int, *, more: bool) -> Rendered:
    return render({**ALLOWED[combination].parameters, **(MORE if more else {})})


def changed(old: str, new: str, **parameters: str) -> Rendered:
    assert old in TEXT, f"{PATH} no longer has: {old}"
    return render(parameters, texts={**templates(), PATH: TEXT.replace(old, new, 1)})


# ---- The rules -------------------------------------------------------------------------------------------------------


def alarms(rendered: Rendered) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for address, alarm in rendered.of_type("AWS::CloudWatch::Alarm").items():
        yield address.rpartition(".")[2], alarm["Properties"]


def watched(properties: Mapping[str, Any]) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """Each metric of an alarm with the values of its dimensions."""
    metrics = [query["MetricStat"]["Metric"] for query in properties.get("Metrics", []) if "MetricStat" in query]
    for metric in metrics or [properties]:
        dimensions = metric.get("Dimensions", [])
        names, values = (
            tuple(dimension["Name"] for dimension in dimensions),
            tuple(str(dimension["Value"]) for dimension in dimensions),
        )
        yield (metric["Namespace"], str(metric["MetricName"]), names), values


def shown(rendered: Rendered) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """Each metric of the dashboard. Raises ValueError when its body is no JSON."""
    body = json.loads(rendered.resources["Observability.Dashboard"]["Properties"]["DashboardBody"])
    for widget in body["widgets"]:
        for namespace, name, *rest in widget["properties"]["metrics"]:
            dimensions = [element for element in rest if isinstance(element, str)]
            yield (namespace, name, tuple(dimensions[::2])), tuple(dimensions[1::2])


def faults(rendered: Rendered) -> list[str]:
    """Metrics that nobody writes, and dimensions without a value."""
    known = OF_AWS | ours() | filtered(rendered)
    everything = [(name, metric) for name, alarm in alarms(rendered) for metric in watched(alarm)]
    everything += [("the dashboard", metric) for metric in shown(rendered)]
    unknown = [f"{name}: nobody writes {metric}" for name, (metric, _) in everything if metric not in known]
    return unknown + [f"{name}: {metric} of nothing" for name, (metric, values) in everything if "" in values]


@pytest.mark.parametrize("more", [False, True], ids=["plain", "with-options"])
@pytest.mark.parametrize("combination", range(len(ALLOWED)), ids=[allowed.name for allowed in ALLOWED])
def test_alarms_and_dashboard_watch_what_exists(combination: int, more: bool) -> None:
    assert faults(application(combination, more=more)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("MetricName: ErrorPortAllocation", "MetricName: PortAllocationErrors"),
        ("MetricName: EgressAddressMatches", "MetricName: EgressAddressSeen"),
        ("{Name: zone, Value: !Ref ZoneA}", "{Name: Zone, Value: !Ref ZoneA}"),
        ("{Name: VpnId, Value: !Ref VpnConnectionId}", "{Name: VpnId, Value: ''}"),
        ('"AttemptsUnknown"', '"AttemptsLost"'),
        ('"NatGatewayId", "${NatGatewayAId}"', '"NatGatewayId", "${NatGatewayBId}"'),
        ("MetricName: !Sub ${ApiName}-DatabaseAway", "MetricName: !Sub ${ApiName}-DatabaseGone"),
    ],
)
def test_a_metric_that_nobody_writes_is_noticed(old: str, new: str) -> None:
    vpn = {"CorporateCidr": "172.20.0.0/16", "CustomerGatewayAddress": "198.51.100.7"}
    assert faults(changed(old, new, Topology="on-premises", **vpn)) != []


def test_a_dashboard_that_is_no_json_is_noticed() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        faults(changed('"widgets": [', '"widgets": [,'))


# ---- Which alarms there are ------------------------------------------------------------------------------------------

ALWAYS = {
    "ApiErrorAlarm",
    "ApiServerErrorAlarm",
    "ApiThrottleAlarm",
    "AttemptErrorAlarm",
    "AttemptThrottleAlarm",
    "AuthorizeThrottleAlarm",
    "AuthorizerFailureAlarm",
    "DatabaseAwayAlarm",
    "DatabaseCapacityAlarm",
    "DatabaseConnectionsAlarm",
    "DatabaseTransactionsAlarm",
    "DeadLetterAlarm",
    "CertificateEndAlarm",
    "CertificateExpiryAlarm",
    "OverdueAlarm",
    "DeliveryFaultAlarm",
    "FailedInvocationAlarm",
    "FailedAlarm",
    "UnknownAlarm",
    "UnreachableAlarm",
    "WakeupAgeAlarm",
}
OF_THE_WAY_OUT = {
    "EgressAddressAlarmA",
    "EgressAddressAlarmB",
    "EgressCheckAlarmA",
    "EgressCheckAlarmB",
    "NatBandwidthAlarmA",
    "NatDropAlarmA",
    "NatPortAlarmA",
}


def wanted(combination: Combination, *, more: bool) -> set[str]:
    """What a stack of these parameters must have, and nothing else."""
    of = combination.parameters
    names = set(ALWAYS)
    names |= OF_THE_WAY_OUT if capabilities(of).has_internet else set()
    names |= {"NatBandwidthAlarmB", "NatDropAlarmB", "NatPortAlarmB"} if of["Egress"] == "per-az" else set()
    names |= {"VpnTunnelAlarm"} if capabilities(of).has_vpn else set()
    names |= {"DatabaseResumeAlarm"} if of.get("DatabaseMinCapacity", "0") == "0" else set()
    return names | ({"WebAclBlockedAlarm", "DatabaseReaderLagAlarm"} if more else set())


@pytest.mark.parametrize("more", [False, True], ids=["plain", "with-options"])
@pytest.mark.parametrize("combination", range(len(ALLOWED)), ids=[allowed.name for allowed in ALLOWED])
def test_each_design_has_the_alarms_of_what_it_consists_of(combination: int, more: bool) -> None:
    found = {name for name, _ in alarms(application(combination, more=more))}
    assert found == wanted(ALLOWED[combination], more=more)


def test_a_proxy_has_its_alarm_and_nothing_else_has() -> None:
    awake = {"DatabaseMinCapacity": "0.5"}
    without = {name for name, _ in alarms(render(awake))}
    assert {name for name, _ in alarms(render({**awake, "DatabaseProxy": "yes"}))} - without == {"DatabaseProxyAlarm"}


def test_news_of_the_database_are_of_this_cluster_and_its_instances_alone() -> None:
    found = {
        event["Properties"]["SourceType"]: event["Properties"]["SourceIds"]
        for event in render({"DatabaseReader": "yes"}).of_type("AWS::RDS::EventSubscription").values()
    }
    assert found == {
        "db-cluster": ["Database.DatabaseCluster"],
        "db-instance": ["Database.DatabaseInstance", "Database.DatabaseReaderInstance"],
    }


@pytest.mark.parametrize(
    ("parameters", "title"),
    [
        ({"Egress": "per-az"}, "NAT gateway B"),
        ({"WebAcl": "yes"}, "Requests at the web ACL"),
        ({"DatabaseReader": "yes"}, "The second instance of the database"),
    ],
)
def test_an_option_brings_its_widget(parameters: dict[str, str], title: str) -> None:
    def titles(rendered: Rendered) -> list[str]:
        body = json.loads(rendered.resources["Observability.Dashboard"]["Properties"]["DashboardBody"])
        return [widget["properties"]["title"] for widget in body["widgets"]]

    assert title in titles(render(parameters))
    assert title not in titles(render({}))


# ---- What they say and when they ring --------------------------------------------------------------------------------


def test_every_alarm_says_what_to_do_and_where_the_runbook_goes_on() -> None:
    for name, alarm in alarms(application(0, more=True)):
        anchor = re.sub(r"(?<=Alarm)[AB]$", "", name).lower()
        assert str(alarm["AlarmDescription"]).endswith(f" Runbook: docs/alarms.md#{anchor}")
        assert len(str(alarm["AlarmDescription"])) <= 1024, "CloudWatch takes no more"


@pytest.mark.parametrize("least", ["0", "0.5", "1"])
@pytest.mark.parametrize("most", ["1", "2", "4", "8", "16", "32", "64", "128", "256"])
def test_the_alarm_of_connections_rings_at_four_fifths_of_what_the_database_takes(least: str, most: str) -> None:
    limit = max(count for capacity, count in CONNECTIONS.items() if capacity <= int(most))
    limit = min(limit, CONNECTIONS_WHEN_SMALL) if float(least) <= 0.5 else limit
    rendered = render({"DatabaseMinCapacity": least, "DatabaseMaxCapacity": most, "ReserveConcurrency": "no"})
    threshold = rendered.resources["Observability.DatabaseConnectionsAlarm"]["Properties"]["Threshold"]
    assert int(threshold) == limit * 4 // 5


@cache
def everything() -> Rendered:
    vpn = {"Topology": "on-premises", "CorporateCidr": "172.20.0.0/16", "CustomerGatewayAddress": "198.51.100.7"}
    return render({**vpn, **MORE, "Egress": "per-az"})


def test_every_alarm_tells_the_topic_when_it_rings_and_when_it_is_over() -> None:
    topic = ["Observability.AlarmTopic"]
    for name, alarm in alarms(everything()):
        assert (alarm.get("AlarmActions"), alarm.get("OKActions")) == (topic, topic), name


def test_an_alarm_of_several_metrics_adds_them_up_and_returns_what_it_works_out() -> None:
    worked_out = {name: alarm["Metrics"] for name, alarm in alarms(everything()) if "Metrics" in alarm}
    assert worked_out
    for name, metrics in worked_out.items():
        *given, result = metrics
        assert [query["ReturnData"] for query in metrics] == [False] * len(given) + [True], name
        sums = {query["Id"] for query in given if query["MetricStat"]["Stat"] == "Sum"}
        most = {query["Id"] for query in given if query["MetricStat"]["Stat"] == "Maximum"}
        assert sums | most == {query["Id"] for query in given}, name
        assert most <= {"capacity"}, "what is counted is added up, of a size the most counts"
        assert "capacity" not in sums, name
        named = set(re.findall(r"[a-z_]+", result["Expression"]))
        assert {query["Id"] for query in given} == named, name
        assert result.get("Label"), name


def test_each_line_that_a_filter_finds_counts_once_and_silence_as_none() -> None:
    """Without a value for silence CloudWatch has no data there, and two counts of an hour ago would be the last two."""
    filters = everything().of_type("AWS::Logs::MetricFilter")
    found = [
        transformation
        for metric_filter in filters.values()
        for transformation in metric_filter["Properties"]["MetricTransformations"]
    ]
    assert [
        (transformation["MetricValue"], transformation["DefaultValue"], transformation["Unit"])
        for transformation in found
    ] == [("1", 0, "Count")] * 2
    read = {
        name.rpartition(".")[2]: metric_filter["Properties"]["LogGroupName"] for name, metric_filter in filters.items()
    }
    assert read == {"AuthorizerFailureFilter": "ApiAccessLogGroup", "DatabaseAwayFilter": "AttemptLogGroup"}


def test_the_filters_look_for_what_is_written() -> None:
    code = (ROOT / "src/flows/attempt.py").read_text(encoding="utf-8")
    messages = re.findall(r'\$\.message = "([^"]+)"', TEXT)
    assert messages
    assert all(f'"{message}"' in code for message in messages)
    assert '$.gateway_error = "AUTHORIZER_FAILURE"' in TEXT
    assert '"gateway_error"' in templates()["template.yaml"]


def test_the_topic_is_encrypted_with_a_key_of_ones_own_alone() -> None:
    key = "arn:aws:kms:us-east-1:555555555555:key/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
    topic = "Observability.AlarmTopic"
    assert render({"KmsKeyArn": key}).resources[topic]["Properties"]["KmsMasterKeyId"] == key
    assert "KmsMasterKeyId" not in render({}).resources[topic]["Properties"]


def test_alarms_and_events_of_this_account_may_publish_and_nobody_else() -> None:
    document = render({}).resources["Observability.AlarmTopicPolicy"]["Properties"]["PolicyDocument"]
    allowed = [statement for statement in document["Statement"] if statement["Effect"] == "Allow"]
    assert [statement["Principal"]["Service"] for statement in allowed] == [
        "cloudwatch.amazonaws.com",
        "events.rds.amazonaws.com",
    ]
    for statement in allowed:
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": "555555555555"}
