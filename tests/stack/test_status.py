"""`make status` on recorded answers: a healthy stack is one screen of ok, and each fault has its line."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stack.deploy.deployment import ROOT
from stack.deploy.status import CALLS, LOOKS, status
from stack.preflight.reader import NotReadable, PreflightFinding, PreflightVerdict, Reader
from tests.support.recorded_aws import Answer, RecordedSession

REGION = "eu-central-1"
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
LONG_AGO = datetime(2026, 11, 1, tzinfo=UTC)
NESTED = f"arn:aws:cloudformation:{REGION}:123456789012:stack/sallyport-dev-Database-1K3V/7a31e0c0"
CHECK = "arn:aws:cloudformation:eu-central-1:123456789012:stack/sallyport-dev-CheckEgressA-1A/2"
RESULT = "/sallyport/sallyport-dev/egress/eu-central-1a"
RESOURCES = {
    "sallyport-dev": [
        ("Database", NESTED, "AWS::CloudFormation::Stack"),
        ("WakeupQueue", "https://sqs.invalid/wakeups", "AWS::SQS::Queue"),
        ("DeadLetterQueue", "https://sqs.invalid/dead", "AWS::SQS::Queue"),
        ("FailedInvocationQueue", "https://sqs.invalid/failed", "AWS::SQS::Queue"),
        ("CheckEgressA", CHECK, "AWS::CloudFormation::Stack"),
    ],
    CHECK: [("Result", RESULT, "AWS::SSM::Parameter")],
    NESTED: [
        ("DatabaseCluster", "sallyport-1", "AWS::RDS::DBCluster"),
        ("DatabaseInstance", "i", "AWS::RDS::DBInstance"),
    ],
}


def resources(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    names = ("LogicalResourceId", "PhysicalResourceId", "ResourceType")
    more = {"LastUpdatedTimestamp": LONG_AGO, "ResourceStatus": "CREATE_COMPLETE"}
    return {
        "StackResourceSummaries": [dict(zip(names, each, strict=True)) | more for each in RESOURCES[asked["StackName"]]]
    }


def described(found: str = "UPDATE_COMPLETE", drift: str = "IN_SYNC", stage: str = "prod") -> dict[str, Any]:
    stack = {"StackName": "sallyport-dev", "CreationTime": LONG_AGO, "StackStatus": found}
    parameters = [{"ParameterKey": "Stage", "ParameterValue": stage}]
    return {"Stacks": [{**stack, "DriftInformation": {"StackDriftStatus": drift}, "Parameters": parameters}]}


def waiting(**of: int) -> Answer:
    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"Attributes": {"ApproximateNumberOfMessages": str(of.get(asked["QueueUrl"].rpartition("/")[2], 0))}}

    return answer


def checked(value: str, *, minutes: int = 10) -> dict[str, Any]:
    announcement = {"Name": f"{RESULT}-next", "Value": "{}", "LastModifiedDate": LONG_AGO}
    result = {"Name": RESULT, "Value": value, "LastModifiedDate": NOW - timedelta(minutes=minutes)}
    return {"Parameters": [announcement, result]}


def alarm(name: str, state: str) -> dict[str, Any]:
    return {"AlarmName": f"sallyport-dev-Observability-1K3V-{name}-9X2Y", "StateValue": state}


def cluster(**more: Any) -> dict[str, Any]:
    return {"DBClusters": [{"Status": "available", "EngineVersion": "17.7", "DeletionProtection": True, **more}]}


def instance(days: int) -> dict[str, Any]:
    return {"DBInstances": [{"CertificateDetails": {"ValidTill": NOW + timedelta(days=days)}}]}


def template(migration: str = "0007_newest") -> dict[str, Any]:
    body = {"Resources": {"Migration": {"Properties": {"LatestMigration": migration}}}}
    return {"TemplateBody": json.dumps(body)}


def measured(**of: float) -> Answer:
    """The values of the application's own metrics by their names, an hour ago and now: the newest is given."""

    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        (statistic,) = asked["Statistics"]
        value = of.get(asked["MetricName"])
        assert asked["Dimensions"] == [{"Name": "service", "Value": "sallyport-dev"}]
        newest = [] if value is None else [{"Timestamp": NOW, statistic: value}]
        return {"Datapoints": [*newest, {"Timestamp": NOW - timedelta(hours=1), statistic: 40.0}] if newest else []}

    return answer


HEALTHY: Mapping[str, Answer] = {
    "describe_stacks": described(),
    "list_stack_resources": resources,
    "get_template": template(),
    "describe_alarms": {"MetricAlarms": [alarm("NatPortAlarmA", "OK"), alarm("ApiErrorAlarm", "INSUFFICIENT_DATA")]},
    "get_queue_attributes": waiting(wakeups=12),
    "get_parameters_by_path": checked('{"published": "203.0.113.10", "verdict": "matches"}'),
    "describe_db_clusters": cluster(),
    "describe_db_instances": instance(300),
    "get_metric_statistics": measured(DeliveriesOverdue=0),
}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")


def seen(**answers: Answer) -> dict[str, PreflightFinding]:
    session = RecordedSession({**HEALTHY, **answers}, region=REGION)
    reader = Reader(session=session, region=REGION, calls=CALLS)
    found = status(reader, "sallyport-dev", newest_migration="0007_newest", now=NOW)
    return {finding.subject: finding for finding in found}


def test_a_healthy_stack_is_said_to_be_healthy_in_one_screen() -> None:
    found = seen()
    assert {finding.verdict for finding in found.values()} == {PreflightVerdict.FINE}
    assert {finding.advice for finding in found.values()} == {""}
    assert len(LOOKS) <= len(found) < 24
    assert found["alarms"].found == "none of 2 rings"


@pytest.mark.parametrize(
    ("subject", "answers", "verdict", "words"),
    [
        (
            "stack",
            {"describe_stacks": described("UPDATE_ROLLBACK_FAILED")},
            PreflightVerdict.STOP,
            "UPDATE_ROLLBACK_FAILED",
        ),
        (
            "overdue deliveries",
            {"get_metric_statistics": measured(DeliveriesOverdue=7)},
            PreflightVerdict.STOP,
            "7 at the last look",
        ),
        (
            "client certificates",
            {"get_metric_statistics": measured(CertificateDaysLeft=12)},
            PreflightVerdict.LOOK,
            "the first ends in 12 days",
        ),
        ("drift", {"describe_stacks": described(drift="DRIFTED")}, PreflightVerdict.STOP, "DRIFTED"),
        ("drift", {"describe_stacks": described(drift="NOT_CHECKED")}, PreflightVerdict.LOOK, "NOT_CHECKED"),
        ("schema", {"get_template": template("0006_older")}, PreflightVerdict.LOOK, "0006_older"),
        (
            "alarms",
            {"describe_alarms": {"MetricAlarms": [alarm("NatPortAlarmB", "ALARM")]}},
            PreflightVerdict.STOP,
            "NatPortAlarmB",
        ),
        ("DeadLetterQueue", {"get_queue_attributes": waiting(dead=3)}, PreflightVerdict.LOOK, "3 messages"),
        ("WakeupQueue", {"get_queue_attributes": waiting(wakeups=1001)}, PreflightVerdict.LOOK, "1001 messages"),
        ("address of", {"get_parameters_by_path": checked('{"verdict": "differs"}')}, PreflightVerdict.STOP, "differs"),
        (
            "address of",
            {"get_parameters_by_path": checked("not checked yet")},
            PreflightVerdict.STOP,
            "not checked yet",
        ),
        (
            "address of",
            {"get_parameters_by_path": checked('{"verdict": "matches"}', minutes=90)},
            PreflightVerdict.STOP,
            "10:30",
        ),
        ("database", {"describe_db_clusters": cluster(DeletionProtection=False)}, PreflightVerdict.LOOK, "available"),
        ("database", {"describe_db_clusters": cluster(Status="upgrading")}, PreflightVerdict.LOOK, "upgrading"),
        ("certificate of", {"describe_db_instances": instance(20)}, PreflightVerdict.LOOK, "20 days left"),
        ("alarms", {"describe_alarms": "AccessDenied"}, PreflightVerdict.UNKNOWN, "could not be looked at"),
    ],
)
def test_what_is_wrong_has_its_line(
    subject: str, answers: dict[str, Answer], verdict: PreflightVerdict, words: str
) -> None:
    found = seen(**answers)
    (finding,) = (finding for name, finding in found.items() if name.startswith(subject))
    assert (finding.verdict, words in finding.found) == (verdict, True)
    assert {other.verdict for other in found.values() if other is not finding} == {PreflightVerdict.FINE}


def test_a_stack_that_does_not_exist_is_no_table() -> None:
    with pytest.raises(NotReadable, match="ValidationError"):
        seen(describe_stacks="ValidationError")


@pytest.mark.parametrize("state", ["REVIEW_IN_PROGRESS", "ROLLBACK_FAILED", "DELETE_FAILED"])
def test_of_what_is_left_of_a_stack_only_the_state_is_told(state: str) -> None:
    (finding,) = seen(describe_stacks=described(state)).values()
    assert (finding.verdict, finding.found) == (PreflightVerdict.STOP, state)
    assert "aws cloudformation delete-stack --stack-name sallyport-dev" in finding.advice


def test_what_an_update_has_deleted_is_not_looked_at() -> None:
    """CloudFormation lists it for a while, and AWS no longer knows it."""
    listed = resources({"StackName": "sallyport-dev"})["StackResourceSummaries"]
    gone = {**listed[0], "LogicalResourceId": "Old", "PhysicalResourceId": "gone", "ResourceStatus": "DELETE_COMPLETE"}

    def with_the_gone(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        assert asked["StackName"] != "gone"
        own = resources(asked)["StackResourceSummaries"]
        return {"StackResourceSummaries": [*own, *([gone] if asked["StackName"] == "sallyport-dev" else [])]}

    assert {finding.verdict for finding in seen(list_stack_resources=with_the_gone).values()} == {PreflightVerdict.FINE}


@pytest.mark.parametrize(
    ("held", "verdict", "words"),
    [
        ([], PreflightVerdict.STOP, "has no resources"),
        (NotReadable("Stack with id 2 does not exist"), PreflightVerdict.UNKNOWN, "could not be looked at"),
    ],
)
def test_a_nested_stack_that_somebody_has_deleted_is_told_and_the_rest_still_is(
    held: list[Any] | NotReadable, verdict: PreflightVerdict, words: str
) -> None:
    def without_the_check(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        if asked["StackName"] != CHECK:
            return resources(asked)
        if isinstance(held, NotReadable):
            raise held
        return {"StackResourceSummaries": held}

    found = seen(list_stack_resources=without_the_check)
    finding = found.pop("nested stack CheckEgressA")
    assert (finding.verdict, words in finding.found) == (verdict, True)
    assert {other.verdict for other in found.values()} == {PreflightVerdict.FINE}
    assert {"stack", "database", "WakeupQueue"} <= found.keys()


def test_a_zone_whose_result_is_gone_is_not_passed_over() -> None:
    finding = seen(get_parameters_by_path={"Parameters": []})["address of eu-central-1a"]
    assert (finding.verdict, "missing" in finding.found) == (PreflightVerdict.STOP, True)


def test_every_call_that_is_listed_is_made_and_the_page_has_its_permission() -> None:
    session = RecordedSession(HEALTHY, region=REGION)
    reader = Reader(session=session, region=REGION, calls=CALLS)
    list(status(reader, "sallyport-dev", newest_migration="0007_newest", now=NOW))
    assert set(session.asked) == CALLS.keys()
    page = (ROOT / "docs/running.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert json.loads(block)["Statement"][0]["Action"] == sorted(CALLS.values())
