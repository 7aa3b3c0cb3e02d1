"""The looks of a preflight, on recorded answers of AWS; requests and answers are held to the services' models.

moto has some of these calls, and those that it has are asked there too. It has no quotas of EC2, no settings of Lambda
and no Aurora of today.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from rich.console import Console

from stack.deploy.deployment import ROOT
from stack.preflight.checks import LOOKS, Question, findings, left_addresses, regions_with_a_root
from stack.preflight.reader import CALLS, NotReadable, PreflightFinding, PreflightVerdict, Reader
from stack.preflight.report import preflight
from stack.render import NEEDS, Rendered, render
from tests.support.mocked_aws import mocked_aws
from tests.support.recorded_aws import Answer, RecordedSession

REGION = "eu-central-1"
NO_OFFER: Mapping[str, Any] = {"OrderableDBInstanceOptions": []}
ZONES = [f"{REGION}{letter}" for letter in "abc"]
VPN = NEEDS["on-premises"]


def address(letter: str, **more: Any) -> dict[str, Any]:
    name = f"sallyport-dev-Network-1K3V egress {letter}"
    return {
        "AllocationId": f"eipalloc-{letter}",
        "PublicIp": f"203.0.113.{ord(letter)}",
        "Tags": [{"Key": "Name", "Value": name}],
        **more,
    }


def offers(zones: list[str], version: str = "17.7") -> dict[str, Any]:
    zone_names = [{"Name": zone} for zone in zones]
    return {"OrderableDBInstanceOptions": [{"EngineVersion": version, "AvailabilityZones": zone_names}]}


def services(zones: list[str]) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        details = [{"ServiceName": name, "AvailabilityZones": zones} for name in asked["ServiceNames"]]
        return {"ServiceDetails": details}

    return answer


SNAPSHOT = f"arn:aws:rds:{REGION}:123456789012:cluster-snapshot:sallyport-prod-final"


def snapshots(**more: object) -> dict[str, Any]:
    good = {
        "DBClusterSnapshotArn": SNAPSHOT,
        "Engine": "aurora-postgresql",
        "EngineVersion": "17.7",
        "Status": "available",
        "StorageEncrypted": True,
    }
    return {"DBClusterSnapshots": [{**good, **more}]}


KEY = f"arn:aws:kms:{REGION}:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
LAYER = f"arn:aws:lambda:{REGION}:901920570463:layer:aws-otel-python-arm64-ver-1-32-0:2"
DOMAIN = {
    "DomainName": "sallyport.example.com",
    "CertificateArn": f"arn:aws:acm:{REGION}:123456789012:certificate/12345678-1234-1234-1234-123456789012",
}
BUS = {"EventBusName": "orders"}
BUCKET = {"AuditBucketName": "audit-555555555555"}
TRACED = {"Tracing": "otel", "OpenTelemetryLayerArn": LAYER}
GIVEN = {"EgressAllocationIds": "eipalloc-0a1b2c3d4e5f60718"}


def described_key(**more: object) -> dict[str, Any]:
    return {"KeyMetadata": {"KeyId": KEY, "KeyState": "Enabled", "KeySpec": "SYMMETRIC_DEFAULT", **more}}


def key_policy(service: str) -> dict[str, Any]:
    own = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*"}
    other = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "kms:Decrypt*"}
    return {"Policy": json.dumps({"Statement": [own, other]})}


def certificate(**more: object) -> dict[str, Any]:
    return {"Certificate": {"DomainName": "*.example.com", "Status": "ISSUED", **more}}


UNUSABLE_SNAPSHOTS: tuple[Mapping[str, Any], ...] = (
    {"DBClusterSnapshots": []},
    snapshots(Engine="aurora-mysql"),
    snapshots(Status="creating"),
    snapshots(EngineVersion="17.10"),
    snapshots(StorageEncrypted=False),
)
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
DATABASE_STACK = f"arn:aws:cloudformation:{REGION}:123456789012:stack/sallyport-dev-Database-1K3V/7a31e0c0"


def deleted_stacks(*, name: str = "sallyport-dev", **ago: float) -> dict[str, Any]:
    made = {"StackStatus": "DELETE_COMPLETE", "CreationTime": LONG_AGO}
    older = {**made, "StackName": "sallyport-dev", "DeletionTime": LONG_AGO}
    newest = {**made, "StackName": name, "DeletionTime": NOW - timedelta(**ago)}
    return {"StackSummaries": [newest, older]}


GIVEN_ADDRESS = {"AllocationId": GIVEN["EgressAllocationIds"], "PublicIp": "203.0.113.9"}
FINE: Mapping[str, Answer] = {
    "get_account": {},
    "describe_addresses": {"Addresses": []},
    "describe_availability_zones": {
        "AvailabilityZones": [{"ZoneName": zone, "State": "available"} for zone in reversed(ZONES)]
    },
    "describe_customer_gateways": {"CustomerGateways": []},
    "describe_db_cluster_snapshots": snapshots(),
    "describe_nat_gateways": {"NatGateways": []},
    "describe_subnets": {"Subnets": []},
    "describe_vpc_endpoint_services": services(ZONES),
    "describe_vpcs": {"Vpcs": [{"VpcId": "vpc-0a1b2c3d"}]},
    "get_role": {
        "Role": {
            "Path": "/",
            "RoleName": "AWSServiceRoleForRDS",
            "RoleId": "AROA1234567890123456",
            "Arn": "arn:aws:iam::123456789012:role/AWSServiceRoleForRDS",
            "CreateDate": 0,
        }
    },
    "get_account_settings": {"AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000}},
    "describe_orderable_db_instance_options": offers(ZONES),
    "describe_stack_resource": {
        "StackResourceDetail": {
            "LogicalResourceId": "Database",
            "PhysicalResourceId": DATABASE_STACK,
            "ResourceType": "AWS::CloudFormation::Stack",
            "ResourceStatus": "CREATE_COMPLETE",
            "LastUpdatedTimestamp": LONG_AGO,
        }
    },
    "describe_db_clusters": {"DBClusters": [{"EngineVersion": "17.7"}]},
    "list_stacks": deleted_stacks(minutes=2),
    "get_service_quota": lambda asked: {"Quota": {"Value": 60.0 if asked["QuotaCode"] == "L-0EA8095F" else 5.0}},
    "create_service_linked_role": {},
    "describe_key": described_key(),
    "get_key_policy": key_policy(f"logs.{REGION}.amazonaws.com"),
    "describe_certificate": certificate(),
    "get_layer_version_by_arn": {"CompatibleArchitectures": ["arm64"]},
    "describe_event_bus": {"Name": "orders"},
    "get_bucket_location": {"LocationConstraint": REGION},
    "get_object_lock_configuration": {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}},
}


@cache
def rendered_for(region: str, parameters: tuple[tuple[str, str], ...]) -> Rendered:
    return render(dict(parameters), region=region)


def Recorded(**answers: Answer) -> RecordedSession:  # noqa: N802 - a session like any other, of an account that lacks nothing
    return RecordedSession({**FINE, **answers}, region=REGION)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")


def question_of(session: Any, *, region: str = REGION, stack: str = "sallyport-dev", **parameters: str) -> Question:
    topology = parameters.get("Topology", "")
    rendered = rendered_for(region, tuple({**NEEDS.get(topology, {}), **parameters}.items()))
    return Question(reader=Reader(session=session, region=region), stack=stack, rendered=rendered, now=NOW)


def found(session: Any, subject: str, **more: Any) -> list[PreflightFinding]:
    return [finding for finding in findings(question_of(session, **more)) if subject in finding.subject]


def only(session: Any, subject: str, **more: Any) -> PreflightFinding:
    (finding,) = found(session, subject, **more)
    return finding


def test_an_account_that_lacks_nothing_is_told_so() -> None:
    console = Console(file=io.StringIO(), width=200)
    question = question_of(Recorded())
    assert {finding.verdict for finding in findings(question)} == {PreflightVerdict.FINE}
    assert preflight(question, console, None)
    assert isinstance(console.file, io.StringIO)
    assert "Nothing stands in the way" in console.file.getvalue()


@pytest.mark.parametrize("topology", ["public-private", "internal-only", "on-premises"])
def test_each_look_is_taken_in_a_table_and_none_is_silent(topology: str) -> None:
    session = Recorded()
    looked = [finding.subject for finding in findings(question_of(session, Topology=topology))]
    silent = {
        "addresses of an earlier stack",
        "endpoints of AWS services",
        "customer gateway",
        "Aurora PostgreSQL",
        "snapshot of the database",
        *("given addresses", "encryption key", "certificate of the domain", "OpenTelemetry layer"),
        *("event bus", "bucket for checkpoints"),
    }
    assert [subject for subject in LOOKS if subject not in looked and subject not in silent] == []
    assert all(call in CALLS for call in session.asked)


# ---- What stops a deployment, or is worth a look


@pytest.mark.parametrize(
    ("subject", "answers", "parameters", "verdict", "words"),
    [
        ("service-linked", {"get_role": "NoSuchEntity"}, {}, PreflightVerdict.CREATE, "create-service-linked-role"),
        (
            "API Gateway",
            {"get_account": {"cloudwatchRoleArn": "arn:aws:iam::1:role/others"}},
            {},
            PreflightVerdict.LOOK,
            "ApiGatewayLogRole=existing",
        ),
        ("API Gateway", {}, {"ApiGatewayLogRole": "existing"}, PreflightVerdict.STOP, "ApiGatewayLogRole=set"),
        (
            "Lambda",
            {
                "get_account_settings": {
                    "AccountLimit": {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}
                }
            },
            {"ReserveConcurrency": "yes"},
            PreflightVerdict.STOP,
            "ReserveConcurrency=no",
        ),
        (
            "Lambda",
            {
                "get_account_settings": {
                    "AccountLimit": {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}
                }
            },
            {"ReserveConcurrency": "no", "AttemptConcurrency": "10"},
            PreflightVerdict.LOOK,
            "AttemptConcurrency=5",
        ),
        (
            "Elastic IP",
            {"describe_addresses": {"Addresses": [address("A", AssociationId="e")] * 4}},
            {"Egress": "per-az"},
            PreflightVerdict.STOP,
            "L-0263D0A3",
        ),
        (
            "VPCs",
            {"describe_vpcs": {"Vpcs": [{"VpcId": f"vpc-{at}"} for at in range(5)]}},
            {},
            PreflightVerdict.STOP,
            "L-F678F1CE",
        ),
        (
            "NAT gateways",
            {"describe_nat_gateways": {"NatGateways": [{"NatGatewayId": f"nat-{at}"} for at in range(5)]}},
            {},
            PreflightVerdict.LOOK,
            "L-FE5A380F",
        ),
        ("rules of", {"get_service_quota": {"Quota": {"Value": 3.0}}}, {}, PreflightVerdict.STOP, "L-0EA8095F"),
        (
            "Aurora",
            {"describe_orderable_db_instance_options": offers([f"{REGION}a", f"{REGION}c"])},
            {},
            PreflightVerdict.STOP,
            f"two of {REGION}a, {REGION}c",
        ),
        (
            "Aurora",
            {"describe_orderable_db_instance_options": offers([f"{REGION}a"])},
            {"AvailabilityZones": f"{REGION}a,{REGION}b"},
            PreflightVerdict.STOP,
            f"AvailabilityZones= two of {REGION}a",
        ),
        (
            "endpoint of com.amazonaws.eu-central-1.sqs",
            {"describe_vpc_endpoint_services": services([f"{REGION}b", f"{REGION}c"])},
            {"InterfaceEndpoints": "sqs"},
            PreflightVerdict.STOP,
            f"two of {REGION}b, {REGION}c",
        ),
        (
            "customer gateway",
            {"describe_customer_gateways": {"CustomerGateways": [{"CustomerGatewayId": "cgw-0a1b2c3d"}]}},
            {"Topology": "on-premises"},
            PreflightVerdict.STOP,
            "another CustomerGatewayAsn",
        ),
        *(
            (
                "snapshot",
                {"describe_db_cluster_snapshots": answer},
                {"DatabaseSnapshotArn": SNAPSHOT},
                PreflightVerdict.STOP,
                "a snapshot of a Sallyport cluster",
            )
            for answer in UNUSABLE_SNAPSHOTS
        ),
    ],
)
def test_what_is_missing_is_found_with_what_to_do(
    subject: str, answers: dict[str, Answer], parameters: dict[str, str], verdict: PreflightVerdict, words: str
) -> None:
    finding = only(Recorded(**answers), subject) if not parameters else only(Recorded(**answers), subject, **parameters)
    assert finding.verdict is verdict
    assert words in finding.advice
    without = [before for before in found(Recorded(), subject, **parameters) if before.verdict is verdict]
    assert without == [] or subject == "API Gateway"


@pytest.mark.parametrize(
    ("subject", "answers", "parameters", "fault"),
    [
        ("given addresses", {}, GIVEN, "lacks eipalloc-0a1b2c3d4e5f60718"),
        (
            "given addresses",
            {"describe_addresses": {"Addresses": [{**GIVEN_ADDRESS, "AssociationId": "eipassoc-1"}]}},
            GIVEN,
            "is in use: eipalloc-0a1b2c3d4e5f60718",
        ),
        ("given addresses", {"describe_addresses": {"Addresses": [GIVEN_ADDRESS]}}, GIVEN, ""),
        ("encryption key", {}, {"KmsKeyArn": KEY}, ""),
        ("encryption key", {}, {"KmsKeyArn": KEY.replace(REGION, "us-east-1")}, "is not in eu-central-1"),
        ("encryption key", {"describe_key": "NotFoundException"}, {"KmsKeyArn": KEY}, "does not exist"),
        *(
            ("encryption key", {"describe_key": described_key(**more)}, {"KmsKeyArn": KEY}, fault)
            for more, fault in (
                ({"KeyState": "PendingDeletion"}, "is PendingDeletion"),
                ({"KeySpec": "RSA_2048"}, "is not symmetric"),
            )
        ),
        *(
            (
                "encryption key",
                {"get_key_policy": key_policy(service)},
                {"KmsKeyArn": KEY},
                "does not let CloudWatch Logs",
            )
            for service in ("sns.amazonaws.com", "logs.us-east-1.amazonaws.com")
        ),
        ("of the domain", {}, DOMAIN, ""),
        ("of the domain", {"describe_certificate": "ResourceNotFoundException"}, DOMAIN, "does not exist"),
        *(
            ("of the domain", {"describe_certificate": certificate(**more)}, DOMAIN, fault)
            for more, fault in (
                ({"Status": "PENDING_VALIDATION"}, "is PENDING_VALIDATION, not ISSUED"),
                ({"DomainName": "example.com"}, "is not for sallyport.example.com"),
                ({"DomainName": "*.sallyport.example.com"}, "is not for sallyport.example.com"),
                ({"DomainName": "x.org", "SubjectAlternativeNames": [DOMAIN["DomainName"]]}, ""),
            )
        ),
        ("layer", {}, TRACED, ""),
        ("layer", {"get_layer_version_by_arn": {}}, TRACED, ""),
        ("layer", {"get_layer_version_by_arn": "ResourceNotFoundException"}, TRACED, "does not exist"),
        (
            "layer",
            {"get_layer_version_by_arn": {"CompatibleArchitectures": ["x86_64"]}},
            TRACED,
            "is for x86_64, not for arm64",
        ),
        ("event bus", {}, BUS, ""),
        ("event bus", {"describe_event_bus": "ResourceNotFoundException"}, BUS, "does not exist"),
        ("checkpoints", {}, BUCKET, ""),
        ("checkpoints", {"get_bucket_location": "NoSuchBucket"}, BUCKET, "does not exist"),
        ("checkpoints", {"get_bucket_location": {}}, BUCKET, f"is in us-east-1, not in {REGION}"),
        (
            "checkpoints",
            {"get_bucket_location": {"LocationConstraint": "EU"}},
            BUCKET,
            f"is in eu-west-1, not in {REGION}",
        ),
        (
            "checkpoints",
            {"get_object_lock_configuration": "ObjectLockConfigurationNotFoundError"},
            BUCKET,
            "has no Object Lock",
        ),
    ],
)
def test_what_a_parameter_names_exists_and_can_be_used_or_stops_the_deployment(
    subject: str, answers: dict[str, Answer], parameters: dict[str, str], fault: str
) -> None:
    finding = only(Recorded(**answers), subject, **parameters)
    assert finding.verdict is (PreflightVerdict.STOP if fault else PreflightVerdict.FINE)
    assert (fault or "can be used") in finding.found


def test_addresses_that_the_stack_uses_already_are_no_fault_of_its_update() -> None:
    session = Recorded(describe_addresses={"Addresses": [{**GIVEN_ADDRESS, "AssociationId": "eipassoc-1"}]})
    question = question_of(session, **GIVEN)
    update = replace(question, current=question.rendered)
    assert [finding for finding in findings(update) if finding.subject == "given addresses"] == []


@pytest.mark.parametrize(
    ("named_before", "there", "found"),
    [
        ("", [{**GIVEN_ADDRESS, "AssociationId": "eipassoc-1"}], "is in use"),
        ("", [], "lacks"),
        ("", [{**address("A", AssociationId="eipassoc-1"), **GIVEN_ADDRESS}], "can be used"),
        (f"{GIVEN['EgressAllocationIds']},eipalloc-1b2c3d4e5f607180", [], "can be used"),
    ],
)
def test_addresses_that_an_update_is_the_first_to_name_are_looked_at(
    named_before: str, there: list[dict[str, Any]], found: str
) -> None:
    """Those of the stack itself too, which it goes on using when they leave it."""
    question = question_of(Recorded(describe_addresses={"Addresses": there}), **GIVEN)
    before = rendered_for(REGION, (("Egress", "per-az"), ("EgressAllocationIds", named_before)))
    (finding,) = [
        finding for finding in findings(replace(question, current=before)) if finding.subject == "given addresses"
    ]
    assert found in finding.found


def test_a_stack_needs_the_snapshot_that_it_was_restored_from_no_more() -> None:
    """It keeps naming it, because without the name CloudFormation would replace the cluster."""
    question = question_of(
        Recorded(describe_db_cluster_snapshots={"DBClusterSnapshots": []}), DatabaseSnapshotArn=SNAPSHOT
    )
    update, first = replace(question, current=question.rendered), replace(question, current=rendered_for(REGION, ()))
    looked = [[finding for finding in findings(asked) if "snapshot" in finding.subject] for asked in (update, first)]
    assert [[finding.verdict for finding in of_one] for of_one in looked] == [[], [PreflightVerdict.STOP]]


def test_a_quota_that_is_used_up_is_no_fault_of_what_needs_nothing_more() -> None:
    nine: dict[str, Answer] = {
        "describe_addresses": {"Addresses": [{"AllocationId": f"eipalloc-{at}"} for at in range(9)]},
        "describe_vpcs": {"Vpcs": [{"VpcId": f"vpc-{at}"} for at in range(9)]},
        "describe_nat_gateways": {"NatGateways": [{"NatGatewayId": f"nat-{at}"} for at in range(9)]},
    }
    question = question_of(Recorded(**nine))
    update = replace(question, current=question.rendered)
    assert {finding.verdict for finding in findings(update)} == {PreflightVerdict.FINE}


@pytest.mark.parametrize("answer", ["AccessDenied", "NoSuchResourceException"])
def test_a_quota_that_is_only_guessed_stops_nothing(answer: Answer) -> None:
    """Nine VPCs where AWS's default is five: whoever has them has another quota."""
    nine = {"Vpcs": [{"VpcId": f"vpc-{at}"} for at in range(9)]}
    session = Recorded(describe_vpcs=nine, get_service_quota=answer)
    finding = only(session, "VPCs")
    assert (finding.verdict, "AWS's default" in finding.found) == (PreflightVerdict.LOOK, True)
    assert preflight(question_of(session), Console(file=io.StringIO()), None)


@pytest.mark.parametrize(
    ("stack", "role", "verdict"),
    [
        ("sallyport-dev", "sallyport-dev-ApiGatewayLogRole-1ABC", PreflightVerdict.FINE),
        ("sallyport-dev", "sallyport-dev2-ApiGatewayLogRole-1ABC", PreflightVerdict.LOOK),
        ("sallyport-" + "d" * 62, "sallyport-" + "d" * 14 + "-ApiGatewayLogRole-1ABC", PreflightVerdict.FINE),
    ],
)
def test_the_log_role_of_a_stack_with_a_long_name_is_its_own(stack: str, role: str, verdict: PreflightVerdict) -> None:
    account = {"cloudwatchRoleArn": f"arn:aws:iam::123456789012:role/{role}"}
    assert only(Recorded(get_account=account), "API Gateway", stack=stack).verdict is verdict


def test_a_version_that_a_region_does_not_offer_is_told_with_those_that_it_has() -> None:
    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        options = [offers(ZONES, version)["OrderableDBInstanceOptions"][0] for version in ("16.8", "17.10", "17.9")]
        return {"OrderableDBInstanceOptions": [] if "EngineVersion" in asked else options}

    finding = only(Recorded(describe_orderable_db_instance_options=answer), "Aurora")
    assert (finding.verdict, finding.found) == (PreflightVerdict.STOP, "not offered in this Region; it has 17.9, 17.10")


@pytest.mark.parametrize(
    ("runs", "verdict", "words"),
    [
        ("17.7", PreflightVerdict.LOOK, "the cluster runs on until AWS upgrades it"),
        ("17.6", PreflightVerdict.STOP, "not offered in this Region; it has 17.10"),
        ("17.10", PreflightVerdict.STOP, "the cluster runs 17.10"),
    ],
)
def test_an_update_goes_on_with_a_version_no_longer_offered_unless_it_would_go_back(
    runs: str, verdict: PreflightVerdict, words: str
) -> None:
    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return offers(ZONES, "17.10") if "EngineVersion" not in asked else {"OrderableDBInstanceOptions": []}

    def cluster(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        assert asked == {"DBClusterIdentifier": "sallyport-7a31e0c0"}
        return {"DBClusters": [{"EngineVersion": runs}]}

    question = question_of(Recorded(describe_orderable_db_instance_options=answer, describe_db_clusters=cluster))
    (finding,) = [each for each in findings(replace(question, current=question.rendered)) if "Aurora" in each.subject]
    assert (finding.verdict, words in finding.found) == (verdict, True)
    assert "EngineVersion in infra/database.yaml" in finding.advice


def test_a_new_instance_needs_a_version_that_is_offered() -> None:
    question = question_of(Recorded(describe_orderable_db_instance_options=NO_OFFER), DatabaseReader="yes")
    grown = replace(question, current=rendered_for(REGION, ()))
    (finding,) = [each for each in findings(grown) if "Aurora" in each.subject]
    assert finding.verdict is PreflightVerdict.STOP


def test_a_cluster_newer_than_the_template_stops_an_update_whatever_is_offered() -> None:
    question = question_of(Recorded(describe_db_clusters={"DBClusters": [{"EngineVersion": "17.9"}]}))
    (finding,) = [each for each in findings(replace(question, current=question.rendered)) if "Aurora" in each.subject]
    assert (finding.verdict, "to 17.9" in finding.advice) == (PreflightVerdict.STOP, True)


@pytest.mark.parametrize(
    ("summaries", "verdict", "advice"),
    [
        (deleted_stacks(seconds=12.5), PreflightVerdict.STOP, "go on in 48 s"),
        (deleted_stacks(seconds=60), PreflightVerdict.FINE, ""),
        (deleted_stacks(seconds=5, name="sallyport-dev-Database-1K3V"), PreflightVerdict.FINE, ""),
    ],
)
def test_the_name_of_a_queue_is_free_a_minute_after_its_stack_was_deleted(
    summaries: dict[str, Any], verdict: PreflightVerdict, advice: str
) -> None:
    finding = only(Recorded(list_stacks=summaries), "names of queues")
    assert (finding.verdict, finding.advice[-len(advice) :] if advice else finding.advice) == (verdict, advice)


@pytest.mark.parametrize("status", ["REVIEW_IN_PROGRESS", "DELETE_COMPLETE"])
def test_the_name_of_a_queue_matters_too_where_a_change_set_was_made_and_never_executed(status: str) -> None:
    question = replace(question_of(Recorded(list_stacks=deleted_stacks(seconds=5))), status=status)
    (finding,) = [each for each in findings(question) if each.subject == "names of queues"]
    assert finding.verdict is PreflightVerdict.STOP


def test_a_region_without_a_root_certificate_is_refused_at_once() -> None:
    finding = only(Recorded(any_region="yes"), "certificate", region="il-central-1")
    assert finding.verdict is PreflightVerdict.STOP
    assert "make certs REGION=il-central-1" in finding.advice
    assert {"us-east-1", "eu-central-1"} <= regions_with_a_root()
    assert not {"il-central-1", "mx-central-1", "Beta us-east-1"} & regions_with_a_root()


@pytest.mark.parametrize(("length", "verdict"), [(72, PreflightVerdict.FINE), (73, PreflightVerdict.STOP)])
def test_the_name_of_a_stack_leaves_room_for_that_of_its_queue(length: int, verdict: PreflightVerdict) -> None:
    assert only(Recorded(), "name of the stack", stack="s" * length).verdict is verdict
    queue = render({}).resources["WakeupQueue"]["Properties"]["QueueName"]
    assert len(str(queue).replace("sallyport", "s" * 72, 1)) == 80


def test_zones_are_those_that_cloudformation_takes() -> None:
    assert question_of(Recorded()).zones == tuple(ZONES[:2])
    default = {"Subnets": [{"AvailabilityZone": zone} for zone in (ZONES[2], ZONES[1], ZONES[2])]}
    assert question_of(Recorded(describe_subnets=default)).zones == (ZONES[1], ZONES[2])
    named = question_of(Recorded(), AvailabilityZones=f"{ZONES[0]},{ZONES[2]}")
    assert named.zones == (ZONES[0], ZONES[2])


def test_an_update_needs_only_what_it_adds() -> None:
    five = {"Addresses": [{"AllocationId": f"eipalloc-{at}"} for at in range(5)]}
    limit = {"AccountLimit": {"ConcurrentExecutions": 200, "UnreservedConcurrentExecutions": 110}}
    session = Recorded(describe_addresses=five, get_account_settings=limit)
    rendered = render({"ReserveConcurrency": "yes"}, region=REGION)
    reader = Reader(session=session, region=REGION)
    same = Question(reader=reader, stack="sallyport-dev", rendered=rendered, current=rendered)
    assert {finding.verdict for finding in findings(same)} == {PreflightVerdict.FINE}
    more = render({"ReserveConcurrency": "yes", "Egress": "per-az", "ApiConcurrency": "80"}, region=REGION)
    grown = Question(reader=reader, stack="sallyport-dev", rendered=more, current=rendered)
    stopped = {finding.subject for finding in findings(grown) if finding.verdict is PreflightVerdict.STOP}
    assert stopped == {"Elastic IP addresses", "concurrency of Lambda"}


# ---- Addresses that an earlier stack left


def test_addresses_of_an_earlier_stack_are_offered_in_the_order_of_their_zones() -> None:
    session = Recorded(describe_addresses={"Addresses": [address("B"), address("A"), address("C", AssociationId="e")]})
    assert left_addresses(question_of(session)) == [("eipalloc-A", "203.0.113.65")]
    assert len(left_addresses(question_of(session, Egress="per-az"))) == 2
    assert left_addresses(question_of(session, EgressAllocationIds="eipalloc-0a1b2c3d")) == []
    assert left_addresses(question_of(session, Topology="internal-only")) == []
    finding = only(session, "earlier stack", Egress="per-az")
    assert (finding.verdict, "eipalloc-A,eipalloc-B" in finding.advice) == (PreflightVerdict.LOOK, True)


def test_moto_finds_what_an_earlier_stack_left() -> None:
    with mocked_aws():
        session = boto3.Session()
        ec2 = session.client("ec2", region_name=REGION)
        allocated = ec2.allocate_address(Domain="vpc")
        assert left_addresses(question_of(session)) == []
        ec2.create_tags(
            Resources=[allocated["AllocationId"]],
            Tags=[{"Key": "Name", "Value": "sallyport-dev-Network-1K3V egress A"}],
        )
        assert left_addresses(question_of(session)) == [(allocated["AllocationId"], allocated["PublicIp"])]


def test_moto_is_looked_at_as_an_account() -> None:
    with mocked_aws():
        looked = {
            finding.subject: finding for finding in findings(question_of(boto3.Session(), Topology="on-premises"))
        }
    assert looked["service-linked role of RDS"].verdict is PreflightVerdict.CREATE
    assert looked["VPCs"].found == "1 of 5; the stack needs 1 more"
    assert looked["Elastic IP addresses"].found.startswith("0 of 5 (AWS's default")
    assert looked["customer gateway"].verdict is PreflightVerdict.FINE
    assert looked["endpoint of com.amazonaws.eu-central-1.execute-api"].verdict is PreflightVerdict.FINE
    assert looked["concurrency of Lambda"].verdict is PreflightVerdict.UNKNOWN  # moto has no such call


@pytest.mark.parametrize("locked", [True, False])
def test_a_bus_and_a_bucket_in_moto_are_found(locked: bool) -> None:
    with mocked_aws():
        session = boto3.Session()
        assert [only(session, "event bus", **BUS).verdict, only(session, "checkpoints", **BUCKET).verdict] == [
            PreflightVerdict.STOP,
            PreflightVerdict.STOP,
        ]
        session.client("events", region_name=REGION).create_event_bus(Name=BUS["EventBusName"])
        session.client("s3", region_name=REGION).create_bucket(
            Bucket=BUCKET["AuditBucketName"],
            CreateBucketConfiguration={"LocationConstraint": REGION},
            ObjectLockEnabledForBucket=locked,
        )
        assert only(session, "event bus", **BUS).verdict is PreflightVerdict.FINE
        lock = only(session, "checkpoints", **BUCKET)
        assert (lock.verdict, "no Object Lock" in lock.found) == (
            (PreflightVerdict.FINE, False) if locked else (PreflightVerdict.STOP, True)
        )


# ---- What may not be looked at, and what is created


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("AccessDenied", "it takes rds:Describe"),
        ("Throttling", "rds:DescribeOrderableDBInstanceOptions: AWS takes no more calls at the moment (Throttling"),
        (EndpointConnectionError(endpoint_url="https://rds.invalid"), "Could not connect"),
    ],
)
def test_what_cannot_be_looked_at_is_said_and_stops_nothing(answer: Answer, words: str) -> None:
    session = Recorded(describe_orderable_db_instance_options=answer)
    finding = only(session, "Aurora")
    assert (finding.verdict, words in finding.advice) == (PreflightVerdict.UNKNOWN, True)
    assert preflight(question_of(session), Console(file=io.StringIO()), None)


@pytest.mark.parametrize("answer", ["ExpiredToken", "UnrecognizedClientException", NoCredentialsError()])
def test_credentials_that_no_call_takes_end_it_at_once(answer: Answer) -> None:
    """And not as so many lines that could not be looked at."""
    session = Recorded(get_role=answer)
    with pytest.raises((ClientError, NoCredentialsError)):
        preflight(question_of(session), Console(file=io.StringIO()), None)


@pytest.mark.parametrize("status", ["ROLLBACK_FAILED", "DELETE_FAILED", "UPDATE_IN_PROGRESS"])
def test_a_stack_that_takes_no_change_set_stops_it_before_anything_is_built(status: str) -> None:
    question = replace(question_of(Recorded()), status=status)
    (finding,) = (finding for finding in findings(question) if finding.verdict is PreflightVerdict.STOP)
    assert (finding.subject, finding.found) == ("state of the stack", status)
    assert finding.advice.startswith(f"sallyport-dev is {status}: ")


def test_an_account_that_answers_nothing_is_no_reason_to_stop() -> None:
    denied = dict.fromkeys(FINE, "AccessDenied")
    verdicts = {finding.verdict for finding in findings(question_of(Recorded(**denied)))}
    assert verdicts == {PreflightVerdict.FINE, PreflightVerdict.UNKNOWN}


@pytest.mark.parametrize("answer", [True, False])
def test_the_role_is_created_for_a_yes_alone(answer: bool) -> None:
    session = Recorded(get_role="NoSuchEntity")
    assert preflight(question_of(session), Console(file=io.StringIO()), lambda _: answer) is answer
    assert (("iam", "create_service_linked_role") in session.asked) is answer


def test_nothing_is_created_where_something_else_stops_it() -> None:
    session = Recorded(get_role="NoSuchEntity", describe_vpcs={"Vpcs": [{"VpcId": "vpc-0a1b2c3d"}] * 5})
    assert not preflight(question_of(session), Console(file=io.StringIO()), lambda _: pytest.fail("it asked"))


def test_nothing_is_created_where_nobody_is_asked() -> None:
    session = Recorded(get_role="NoSuchEntity")
    assert preflight(question_of(session), Console(file=io.StringIO()), None)
    assert set(session.asked) <= CALLS.keys()


def test_a_call_that_is_not_listed_is_a_mistake_of_ours() -> None:
    reader = Reader(session=Recorded(), region=REGION)
    with pytest.raises(KeyError):
        reader.ask("ec2", "release_address", AllocationId="eipalloc-A")
    with pytest.raises(NotReadable):
        Reader(session=Recorded(get_role="AccessDenied"), region=REGION).ask("iam", "get_role", RoleName="x")


# ---- The page


def policies(page: str) -> Iterator[Mapping[str, Any]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return (json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def test_the_page_has_the_permissions_that_the_looks_take() -> None:
    (policy,) = policies("docs/deploy.md")
    (statement,) = policy["Statement"]
    assert statement["Action"] == sorted({*CALLS.values(), "cloudformation:DescribeStacks"})
    assert (statement["Effect"], statement["Resource"]) == ("Allow", "*")


def test_every_call_that_is_listed_is_made() -> None:
    session = Recorded()
    for topology in ("public-private", "on-premises"):
        list(findings(question_of(session, Topology=topology, DatabaseSnapshotArn=SNAPSHOT)))
    list(findings(question_of(session, KmsKeyArn=KEY, **DOMAIN, **TRACED, **BUS, **BUCKET)))
    update = question_of(session)
    list(findings(replace(update, current=update.rendered)))
    assert set(session.asked) == CALLS.keys()


def test_the_bundle_is_the_one_that_ships(tmp_path: Path) -> None:
    one = (ROOT / "src/certs/rds-global-bundle.pem").read_text(encoding="utf-8").split("-----END CERTIFICATE-----")[0]
    (tmp_path / "bundle.pem").write_text(f"{one}-----END CERTIFICATE-----\n", encoding="utf-8")
    assert len(regions_with_a_root(tmp_path / "bundle.pem")) <= 1
