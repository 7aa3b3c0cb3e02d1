"""`make status`: in one screen whether a deployed stack is healthy, by read-only calls."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stack.deploy.change_sets import STACK, ExistingResource
from stack.preflight.reader import NotReadable, NotThere, PreflightFinding, PreflightVerdict, Reader
from stack.stack_states import is_there, state_of

# Every call, and the permission that it takes; docs/running.md lists them as a policy.
CALLS: Mapping[tuple[str, str], str] = {
    ("cloudformation", "describe_stacks"): "cloudformation:DescribeStacks",
    ("cloudformation", "get_template"): "cloudformation:GetTemplate",
    ("cloudformation", "list_stack_resources"): "cloudformation:ListStackResources",
    ("cloudwatch", "describe_alarms"): "cloudwatch:DescribeAlarms",
    ("cloudwatch", "get_metric_statistics"): "cloudwatch:GetMetricStatistics",
    ("rds", "describe_db_clusters"): "rds:DescribeDBClusters",
    ("rds", "describe_db_instances"): "rds:DescribeDBInstances",
    ("sqs", "get_queue_attributes"): "sqs:GetQueueAttributes",
    ("ssm", "get_parameters_by_path"): "ssm:GetParametersByPath",
}
CHECK_IS_OLD_SECONDS = 3600  # four checks: the alarm rings then too
CLIENT_CERTIFICATE_DAYS = 30  # the first of the two alarms
CERTIFICATE_DAYS = 60  # AWS renews a server's certificate well before
WAITING_MAX = 1000  # wake-ups; more than a batch of every worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A stack as it is: DescribeStacks' answer for it and all of its resources, those of nested stacks too.

    `faulty` are the nested stacks that say nothing of their resources, each with how it was found.
    """

    reader: Reader
    stack: str
    described: Mapping[str, Any]
    resources: tuple[ExistingResource, ...]
    faulty: tuple[PreflightFinding, ...]
    newest_migration: str
    now: datetime

    def ids(self, *logical_ids: str) -> list[tuple[str, str]]:
        """Logical and physical ids of those that exist."""
        return [(each.logical_id, each.physical_id) for each in self.resources if each.logical_id in logical_ids]

    def of_type(self, kind: str) -> list[str]:
        """Physical ids."""
        return [each.physical_id for each in self.resources if each.type == kind]


type StackCheck = Callable[[Deployed], Iterator[PreflightFinding]]


def status(reader: Reader, stack: str, *, newest_migration: str, now: datetime) -> Iterator[PreflightFinding]:
    """One line for each thing that can be wrong. Raises NotReadable where not even the stack can be read.

    Of the remains of a first deployment or of a deletion only the state is told, with what to do about it.
    """
    answer = reader.ask("cloudformation", "describe_stacks", StackName=stack)
    faulty: list[PreflightFinding] = []
    deployed = Deployed(
        reader=reader,
        stack=stack,
        described=answer["Stacks"][0],
        resources=tuple(_resources(reader, stack, faulty)),
        faulty=tuple(faulty),
        newest_migration=newest_migration,
        now=now,
    )
    is_one = state_of(str(deployed.described["StackStatus"]), stack).stays
    for subject, look in (LOOKS if is_one else {"stack": _stack}).items():
        try:
            yield from look(deployed)
        except (NotReadable, NotThere) as problem:
            yield PreflightFinding(
                subject=subject, verdict=PreflightVerdict.UNKNOWN, found="could not be looked at", advice=str(problem)
            )


def _resources(reader: Reader, stack: str, faulty: list[PreflightFinding]) -> Iterator[ExistingResource]:
    for summary in reader.all("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack):
        resource = ExistingResource(
            logical_id=summary["LogicalResourceId"],
            physical_id=summary.get("PhysicalResourceId", ""),
            type=summary["ResourceType"],
        )
        if not is_there(summary):
            continue
        yield resource
        if resource.type == STACK and resource.physical_id:
            yield from _nested(reader, resource, faulty)


def _nested(reader: Reader, nested: ExistingResource, faulty: list[PreflightFinding]) -> Iterator[ExistingResource]:
    """What a nested stack has. Its parent lists it even after somebody has deleted it by hand."""
    verdict, found, advice = (
        PreflightVerdict.STOP,
        "has no resources: was it deleted by hand?",
        "see it in the console; an update may fail",
    )
    try:
        held = list(_resources(reader, nested.physical_id, faulty))
    except (NotReadable, NotThere) as problem:
        held, verdict, found, advice = [], PreflightVerdict.UNKNOWN, "could not be looked at", str(problem)
    if not held:
        subject = f"nested stack {nested.logical_id}"
        faulty.append(PreflightFinding(subject=subject, verdict=verdict, found=found, advice=advice))
    yield from held


def _nested_stacks(deployed: Deployed) -> Iterator[PreflightFinding]:
    yield from deployed.faulty


def _stack(deployed: Deployed) -> Iterator[PreflightFinding]:
    found = str(deployed.described["StackStatus"])
    state = state_of(found, deployed.stack)
    verdict = PreflightVerdict.FINE if state.succeeded else PreflightVerdict.STOP
    yield PreflightFinding(subject="stack", verdict=verdict, found=found, advice=state.advice)


def _drift(deployed: Deployed) -> Iterator[PreflightFinding]:
    drift = deployed.described.get("DriftInformation", {})
    found = str(drift.get("StackDriftStatus", "NOT_CHECKED"))
    verdict = {"IN_SYNC": PreflightVerdict.FINE, "DRIFTED": PreflightVerdict.STOP}.get(found, PreflightVerdict.LOOK)
    since = f" on {drift['LastCheckTimestamp']:%Y-%m-%d}" if drift.get("LastCheckTimestamp") else ""
    advice = (
        ""
        if verdict is PreflightVerdict.FINE
        else f"aws cloudformation detect-stack-drift --stack-name {deployed.stack}"
    )
    yield PreflightFinding(subject="drift", verdict=verdict, found=f"{found}{since}", advice=advice)


def _migration(deployed: Deployed) -> Iterator[PreflightFinding]:
    answer = deployed.reader.ask("cloudformation", "get_template", StackName=deployed.stack, TemplateStage="Processed")[
        "TemplateBody"
    ]
    template = json.loads(answer) if isinstance(answer, str) else answer
    found = str(template["Resources"]["Migration"]["Properties"]["LatestMigration"])
    behind = found != deployed.newest_migration
    yield PreflightFinding(
        subject="schema",
        verdict=PreflightVerdict.LOOK if behind else PreflightVerdict.FINE,
        found=found,
        advice=f"this checkout has {deployed.newest_migration}: deploy it" if behind else "",
    )


def _alarms(deployed: Deployed) -> Iterator[PreflightFinding]:
    prefix = f"{deployed.stack}-Observability-"
    pages = deployed.reader.all("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=prefix)
    alarms = list(pages)
    ringing = sorted(_short(str(alarm["AlarmName"])) for alarm in alarms if alarm["StateValue"] == "ALARM")
    yield PreflightFinding(
        subject="alarms",
        verdict=PreflightVerdict.STOP if ringing else PreflightVerdict.FINE,
        found=", ".join(ringing) if ringing else f"none of {len(alarms)} rings",
        advice="docs/alarms.md has a section for each" if ringing else "",
    )


def _short(alarm: str) -> str:
    """`EgressAddressAlarmA` of `sallyport-dev-Observability-1K3V-EgressAddressAlarmA-9X2Y`."""
    return next((part for part in alarm.split("-") if "Alarm" in part), alarm)


def _overdue(deployed: Deployed) -> Iterator[PreflightFinding]:
    found = _last_day(deployed, "DeliveriesOverdue", "Maximum", period_seconds=3600)
    late = int(found[-1]) if found else 0
    yield PreflightFinding(
        subject="overdue deliveries",
        verdict=PreflightVerdict.STOP if late else PreflightVerdict.FINE,
        found=f"{late} at the last look" if found else "no worker has looked within a day",
        advice="their messages are gone: docs/running.md says how to wake them" if late else "",
    )


def _client_certificates(deployed: Deployed) -> Iterator[PreflightFinding]:
    found = _last_day(deployed, "CertificateDaysLeft", "Minimum", period_seconds=86_400)
    days = int(min(found)) if found else None
    soon = days is not None and days < CLIENT_CERTIFICATE_DAYS
    yield PreflightFinding(
        subject="client certificates",
        verdict=PreflightVerdict.LOOK if soon else PreflightVerdict.FINE,
        found="none was shown within a day" if days is None else f"the first ends in {days} days",
        advice="docs/alarms.md#certificateexpiryalarm" if soon else "",
    )


def _last_day(deployed: Deployed, metric: str, statistic: str, *, period_seconds: int) -> list[float]:
    """The values of one of the application's own metrics, the newest last."""
    answer = deployed.reader.ask(
        "cloudwatch",
        "get_metric_statistics",
        Namespace="Sallyport",
        MetricName=metric,
        Dimensions=[{"Name": "service", "Value": deployed.stack}],
        StartTime=deployed.now - timedelta(days=1),
        EndTime=deployed.now,
        Period=period_seconds,
        Statistics=[statistic],
    )
    points = sorted(answer.get("Datapoints", ()), key=lambda point: str(point["Timestamp"]))
    return [float(point[statistic]) for point in points]


def _queues(deployed: Deployed) -> Iterator[PreflightFinding]:
    limits = {"WakeupQueue": WAITING_MAX, "DeadLetterQueue": 0, "FailedInvocationQueue": 0}
    for name, url in deployed.ids(*limits):
        asked = {"QueueUrl": url, "AttributeNames": ["ApproximateNumberOfMessages"]}
        answer = deployed.reader.ask("sqs", "get_queue_attributes", **asked)
        waiting = int(answer["Attributes"]["ApproximateNumberOfMessages"])
        yield PreflightFinding(
            subject=name,
            verdict=PreflightVerdict.LOOK if waiting > limits[name] else PreflightVerdict.FINE,
            found=f"{waiting} messages wait",
            advice="docs/alarms.md says what they are and what to do" if waiting > limits[name] else "",
        )


def _addresses(deployed: Deployed) -> Iterator[PreflightFinding]:
    path = f"/sallyport/{deployed.stack}/egress"
    stored = {
        str(each["Name"]): each
        for each in deployed.reader.all("ssm", "get_parameters_by_path", "Parameters", Path=path)
    }
    for _, name in deployed.ids("Result"):
        yield _address(deployed, name.rpartition("/")[2], stored.get(name))


def _address(deployed: Deployed, zone: str, parameter: Mapping[str, Any] | None) -> PreflightFinding:
    """What the check of one zone has stored; `parameter` is None where it is gone."""
    if parameter is None:
        return PreflightFinding(
            subject=f"address of {zone}",
            verdict=PreflightVerdict.STOP,
            found="its parameter is missing: was it deleted by hand?",
            advice="the next check stores it again; see EgressAddressAlarm in docs/alarms.md",
        )
    try:
        verdict = str(json.loads(parameter["Value"])["verdict"])
    except (ValueError, KeyError, TypeError):
        verdict = str(parameter["Value"])
    is_old = (deployed.now - parameter["LastModifiedDate"]).total_seconds() > CHECK_IS_OLD_SECONDS
    fine = verdict == "matches" and not is_old
    return PreflightFinding(
        subject=f"address of {zone}",
        verdict=PreflightVerdict.FINE if fine else PreflightVerdict.STOP,
        found=f"{verdict}, checked {parameter['LastModifiedDate']:%Y-%m-%d %H:%M}",
        advice="" if fine else "POST /v1/egress/verify checks at once; see EgressAddressAlarm in docs/alarms.md",
    )


def _database(deployed: Deployed) -> Iterator[PreflightFinding]:
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in deployed.described.get("Parameters", ())}
    for cluster in deployed.of_type("AWS::RDS::DBCluster"):
        answer = deployed.reader.ask("rds", "describe_db_clusters", DBClusterIdentifier=cluster)["DBClusters"][0]
        open_to_deletion = parameters.get("Stage") == "prod" and not answer.get("DeletionProtection")
        healthy = answer["Status"] == "available" and not open_to_deletion
        yield PreflightFinding(
            subject="database",
            verdict=PreflightVerdict.FINE if healthy else PreflightVerdict.LOOK,
            found=f"{answer['Status']}, {answer['EngineVersion']}",
            advice="it is not protected from deletion: make protect STAGE=..." if open_to_deletion else "",
        )


def _certificates(deployed: Deployed) -> Iterator[PreflightFinding]:
    for instance in deployed.of_type("AWS::RDS::DBInstance"):
        answer = deployed.reader.ask("rds", "describe_db_instances", DBInstanceIdentifier=instance)["DBInstances"][0]
        if ends := answer.get("CertificateDetails", {}).get("ValidTill"):
            days = (ends - deployed.now).days
            yield PreflightFinding(
                subject=f"certificate of {instance}",
                verdict=PreflightVerdict.LOOK if days < CERTIFICATE_DAYS else PreflightVerdict.FINE,
                found=f"{days} days left",
                advice="AWS renews it; see the pending maintenance of the instance" if days < CERTIFICATE_DAYS else "",
            )


LOOKS: Mapping[str, StackCheck] = {
    "stack": _stack,
    "nested stacks": _nested_stacks,
    "drift": _drift,
    "schema": _migration,
    "alarms": _alarms,
    "overdue deliveries": _overdue,
    "client certificates": _client_certificates,
    "queues": _queues,
    "addresses": _addresses,
    "database": _database,
    "certificates": _certificates,
}


def today() -> datetime:
    """Now, by this machine."""
    return datetime.now(UTC)
