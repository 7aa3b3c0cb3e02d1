"""The looks of a preflight. Each asks about one thing that a first deployment, or an update, would fail for.

A look that AWS refuses to answer is UNKNOWN and stops nothing: the deployment itself may have other permissions.
"""

import json
import math
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from stack.preflight.reader import NotReadable, NotThere, PreflightFinding, PreflightVerdict, Reader
from stack.render import Rendered
from stack.stack_states import Readiness, in_words, state_of

BUNDLE = Path(__file__).parents[2] / "src/certs/rds-global-bundle.pem"
RDS_ROLE = "AWSServiceRoleForRDS"
_OLD_LOCATIONS = {None: "us-east-1", "EU": "eu-west-1"}  # S3's names for the Regions that it had first
STACK_NAME_MAX = 80 - len("-wakeups")  # the queue is named after the stack, and SQS takes 80 characters
GENERATED_PREFIX = 24  # of a stack's name CloudFormation puts at least so many characters into the name of a role
QUEUE_NAME_SECONDS = 60  # SQS, CreateQueue
UNRESERVED_MIN = 100  # what Lambda leaves unreserved in every account
RULES_QUOTA, ADDRESSES_QUOTA, VPCS_QUOTA, GATEWAYS_QUOTA = (
    ("vpc", "L-0EA8095F", 60),
    ("ec2", "L-0263D0A3", 5),
    ("vpc", "L-F678F1CE", 5),
    ("vpc", "L-FE5A380F", 5),
)  # service, code, and AWS's default where the quota cannot be asked for


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be deployed, and to where. `current` is the stack as it is, None for a new one.

    `status` is CloudFormation's state of the stack, '' where there is none.
    """

    reader: Reader
    stack: str
    rendered: Rendered
    status: str = ""
    current: Rendered | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def zones(self) -> tuple[str, ...]:
        """The two zones that CloudFormation will take: named ones, or the first two that GetAZs gives."""
        if self.rendered.parameters["AvailabilityZones"]:
            return tuple(self.rendered.parameters["AvailabilityZones"].split(","))
        default = [{"Name": "default-for-az", "Values": ["true"]}]  # GetAZs gives these zones alone, if there are any
        subnets = self.reader.all("ec2", "describe_subnets", "Subnets", Filters=default)
        names = {subnet["AvailabilityZone"] for subnet in subnets} or self._all_zones()
        return tuple(sorted(names)[:2])

    def _all_zones(self) -> set[str]:
        ordinary = [{"Name": "zone-type", "Values": ["availability-zone"]}]
        answer = self.reader.ask("ec2", "describe_availability_zones", Filters=ordinary)
        return {zone["ZoneName"] for zone in answer["AvailabilityZones"] if zone["State"] == "available"}

    def before(self, parameter: str) -> str:
        """What the stack has for a parameter; '' for a new one."""
        return self.current.parameters[parameter] if self.current else ""

    def count(self, kind: str) -> int:
        """How many more of a type this deployment makes than the stack has."""
        before = len(self.current.of_type(kind)) if self.current else 0
        return max(0, len(self.rendered.of_type(kind)) - before)


type AccountCheck = Callable[[Question], Iterator[PreflightFinding]]


def findings(question: Question) -> Iterator[PreflightFinding]:
    """All looks, in the order of their list."""
    for subject, look in LOOKS.items():
        try:
            yield from look(question)
        except (NotReadable, NotThere) as problem:
            yield PreflightFinding(
                subject=subject, verdict=PreflightVerdict.UNKNOWN, found="could not be looked at", advice=str(problem)
            )


# ---- What needs no answer from AWS


def _stack_name(question: Question) -> Iterator[PreflightFinding]:
    length = len(question.stack)
    if length > STACK_NAME_MAX:
        yield PreflightFinding(
            subject="name of the stack",
            verdict=PreflightVerdict.STOP,
            found=f"{length} characters",
            advice=f"at most {STACK_NAME_MAX}, because a queue is named after it: another stack_name in samconfig.toml",
        )
    else:
        yield PreflightFinding(subject="name of the stack", verdict=PreflightVerdict.FINE, found=f"{length} characters")


def _state(question: Question) -> Iterator[PreflightFinding]:
    readiness = state_of(question.status, question.stack).readiness
    stops = readiness in (Readiness.WAIT, Readiness.REPAIR)
    yield PreflightFinding(
        subject="state of the stack",
        verdict=PreflightVerdict.STOP if stops else PreflightVerdict.FINE,
        found=question.status or "there is none of this name yet",
        advice=in_words(question.status, question.stack) if stops else "",
    )


def _queue_names(question: Question) -> Iterator[PreflightFinding]:
    """SQS: "You must wait 60 seconds after deleting a queue before you can create another with the same name"."""
    if question.current or state_of(question.status, question.stack).readiness is not Readiness.CREATE:
        return
    deleted = question.reader.all(
        "cloudformation", "list_stacks", "StackSummaries", StackStatusFilter=["DELETE_COMPLETE"]
    )
    ended = max((each["DeletionTime"] for each in deleted if each["StackName"] == question.stack), default=None)
    since = (question.now - ended).total_seconds() if ended else QUEUE_NAME_SECONDS
    wait = math.ceil(QUEUE_NAME_SECONDS - since)
    yield PreflightFinding(
        subject="names of queues",
        verdict=PreflightVerdict.STOP if wait > 0 else PreflightVerdict.FINE,
        found=f"a stack of this name was deleted {since:.0f} s ago" if wait > 0 else "free",
        advice=f"SQS frees a deleted queue's name after {QUEUE_NAME_SECONDS} s: go on in {wait} s" if wait > 0 else "",
    )


def _root_certificate(question: Question) -> Iterator[PreflightFinding]:
    region = question.reader.region
    if region in regions_with_a_root():
        yield PreflightFinding(
            subject="root certificate of RDS", verdict=PreflightVerdict.FINE, found=f"the bundle has that of {region}"
        )
    else:
        yield PreflightFinding(
            subject="root certificate of RDS",
            verdict=PreflightVerdict.STOP,
            found=f"src/certs/rds-global-bundle.pem has none for {region}",
            advice=f"make certs REGION={region} fetches AWS's current ones; without it no function can verify the "
            "database",
        )


def regions_with_a_root(bundle: Path = BUNDLE) -> set[str]:
    """The Regions whose RDS root certificates are in the bundle that ships."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=bundle)
    subjects = " ".join(str(root["subject"]) for root in context.get_ca_certs())
    return set(re.findall(r"Amazon RDS ([a-z]+(?:-[a-z]+)+-\d) Root CA ", subjects))


# ---- Roles


def _database_role(question: Question) -> Iterator[PreflightFinding]:
    try:
        question.reader.ask("iam", "get_role", RoleName=RDS_ROLE)
        yield PreflightFinding(subject="service-linked role of RDS", verdict=PreflightVerdict.FINE, found="exists")
    except NotThere:
        yield PreflightFinding(
            subject="service-linked role of RDS",
            verdict=PreflightVerdict.CREATE,
            found="the account has none: its first cluster would fail",
            advice="make deploy creates it if you agree; or: aws iam create-service-linked-role --aws-service-name "
            "rds.amazonaws.com",
        )


def _log_role(question: Question) -> Iterator[PreflightFinding]:
    subject, role = "log role of API Gateway", question.reader.ask("apigateway", "get_account").get("cloudwatchRoleArn")
    sets = question.rendered.parameters["ApiGatewayLogRole"] == "set"
    own = f"{question.stack}-"[:GENERATED_PREFIX]
    is_of_another = bool(role) and not str(role).rpartition("/")[2].startswith(own)
    if not sets and not role:
        yield PreflightFinding(
            subject=subject,
            verdict=PreflightVerdict.STOP,
            found="the account has none in this Region",
            advice="ApiGatewayLogRole=set",
        )
    elif sets and is_of_another:
        yield PreflightFinding(
            subject=subject,
            verdict=PreflightVerdict.LOOK,
            found=f"the account uses {role}, for all its APIs in this Region",
            advice="ApiGatewayLogRole=existing leaves it; set puts the stack's own in its place",
        )
    else:
        yield PreflightFinding(
            subject=subject, verdict=PreflightVerdict.FINE, found=str(role or "the stack creates and sets one")
        )


# ---- Quotas


def _concurrency(question: Question) -> Iterator[PreflightFinding]:
    limit = question.reader.ask("lambda", "get_account_settings")["AccountLimit"]
    total, free = int(limit["ConcurrentExecutions"]), int(limit["UnreservedConcurrentExecutions"])
    more = _reserved(question.rendered) - (_reserved(question.current) if question.current else 0)
    attempts = int(question.rendered.parameters["AttemptConcurrency"])
    subject, found = "concurrency of Lambda", f"{total} at once, of which {free} are not reserved"
    if more > 0 and free - more < UNRESERVED_MIN:
        yield PreflightFinding(
            subject=subject,
            verdict=PreflightVerdict.STOP,
            found=f"{found}; the stack reserves {more} more",
            advice=f"ReserveConcurrency=no, or ask AWS for a higher limit: {UNRESERVED_MIN} must stay unreserved",
        )
    elif not _reserved(question.rendered) and attempts > total // 2:
        yield PreflightFinding(
            subject=subject,
            verdict=PreflightVerdict.LOOK,
            found=f"{found}; AttemptConcurrency={attempts} may leave the API {max(0, total - attempts)}",
            advice=f"AttemptConcurrency={max(2, total // 2)}, or ask AWS for a higher limit",
        )
    else:
        yield PreflightFinding(subject=subject, verdict=PreflightVerdict.FINE, found=found)


def _reserved(rendered: Rendered) -> int:
    functions = rendered.of_type("AWS::Lambda::Function").values()
    return sum(int(function["Properties"].get("ReservedConcurrentExecutions", 0)) for function in functions)


def _addresses(question: Question) -> Iterator[PreflightFinding]:
    used = sum(1 for _ in question.reader.all("ec2", "describe_addresses", "Addresses"))
    yield _quota(question, "Elastic IP addresses", ADDRESSES_QUOTA, used, question.count("AWS::EC2::EIP"))


def _vpcs(question: Question) -> Iterator[PreflightFinding]:
    used = sum(1 for _ in question.reader.all("ec2", "describe_vpcs", "Vpcs"))
    yield _quota(question, "VPCs", VPCS_QUOTA, used, question.count("AWS::EC2::VPC"))


def _nat_gateways(question: Question) -> Iterator[PreflightFinding]:
    """The quota is for a zone; where all of the Region's would fit into one, nothing more needs to be asked."""
    living = [{"Name": "state", "Values": ["pending", "available"]}]
    used = sum(1 for _ in question.reader.all("ec2", "describe_nat_gateways", "NatGateways", Filter=living))
    finding = _quota(question, "NAT gateways", GATEWAYS_QUOTA, used, question.count("AWS::EC2::NatGateway"))
    if finding.verdict is not PreflightVerdict.FINE:
        finding = PreflightFinding(
            subject=finding.subject,
            verdict=PreflightVerdict.LOOK,
            found=f"{finding.found} in a zone, counted over the Region",
            advice=finding.advice,
        )
    yield finding


def _rules(question: Question) -> Iterator[PreflightFinding]:
    most = max(_rules_of_groups(question.rendered).values(), default=0)
    yield _quota(question, "rules of a security group", RULES_QUOTA, 0, most)


def _rules_of_groups(rendered: Rendered) -> Counter[tuple[str, str]]:
    """How many rules each group has in each direction."""
    rules: Counter[tuple[str, str]] = Counter()
    for address, group in rendered.of_type("AWS::EC2::SecurityGroup").items():
        for direction in ("SecurityGroupIngress", "SecurityGroupEgress"):
            rules[address, direction] += len(group["Properties"].get(direction, ()))
    for rule in rendered.of_type("AWS::EC2::SecurityGroupIngress").values():
        rules[str(rule["Properties"]["GroupId"]).removesuffix(".GroupId"), "SecurityGroupIngress"] += 1
    return rules


def _quota(question: Question, subject: str, quota: tuple[str, str, int], used: int, more: int) -> PreflightFinding:
    """It stops for the account's own quota alone, and never what needs nothing more."""
    service, code, usual = quota
    try:
        answer = question.reader.ask("service-quotas", "get_service_quota", ServiceCode=service, QuotaCode=code)
        limit, told = int(answer["Quota"]["Value"]), ""
    except (NotReadable, NotThere):
        limit, told = usual, " (AWS's default; the account's own could not be asked for)"
    found = f"{used} of {limit}{told}; the stack needs {more}{' more' if used else ''}"
    if not more or used + more <= limit:
        return PreflightFinding(subject=subject, verdict=PreflightVerdict.FINE, found=found)
    advice = f"release what nobody uses, or ask for more: Service Quotas, {service}, {code}"
    verdict = PreflightVerdict.LOOK if told else PreflightVerdict.STOP
    return PreflightFinding(subject=subject, verdict=verdict, found=found, advice=advice)


# ---- What both zones must have


def _database(question: Question) -> Iterator[PreflightFinding]:
    version = _engine_version(question.rendered)
    offers = list(_offers(question.reader, EngineVersion=version))
    offered = {zone["Name"] for offer in offers for zone in offer["AvailabilityZones"]}
    subject = f"Aurora PostgreSQL {version} on db.serverless"
    running = _running_version(question)
    if running and _by_number(running) > _by_number(version):
        yield PreflightFinding(
            subject=subject,
            verdict=PreflightVerdict.STOP,
            found=f"the cluster runs {running}: AWS, or somebody, has upgraded it",
            advice=f"set the default of EngineVersion in infra/database.yaml to {running}, as it cannot go back",
        )
        return
    if offers:
        yield _in_zones(question, subject, offered)
        return
    major = version.partition(".")[0]
    others = sorted({str(offer["EngineVersion"]) for offer in _offers(question.reader)}, key=_by_number)
    possible = [other for other in others if other.partition(".")[0] == major]
    stays = running == version and not question.count("AWS::RDS::DBInstance")  # only a new instance needs an offer
    yield PreflightFinding(
        subject=subject,
        verdict=PreflightVerdict.LOOK if stays else PreflightVerdict.STOP,
        found=f"not offered in this Region; it has {', '.join(possible) or f'no version {major}'}"
        + ("; the cluster runs on until AWS upgrades it" if stays else ""),
        advice="set the default of EngineVersion in infra/database.yaml to one of them",
    )


def _running_version(question: Question) -> str:
    """Of the cluster as it is; '' for a new stack, and where it cannot be asked for."""
    if not question.current:
        return ""
    reader = question.reader
    try:
        nested = reader.ask(
            "cloudformation", "describe_stack_resource", StackName=question.stack, LogicalResourceId="Database"
        )
        stack_id = str(nested["StackResourceDetail"]["PhysicalResourceId"])
        # Named after the id at the end of its stack's ARN, in infra/database.yaml.
        name = f"sallyport-{stack_id.rpartition('/')[2]}"
        return str(
            reader.ask("rds", "describe_db_clusters", DBClusterIdentifier=name)["DBClusters"][0]["EngineVersion"]
        )
    except (NotReadable, NotThere):
        return ""


def _offers(reader: Reader, **version: str) -> Iterator[Mapping[str, Any]]:
    return reader.all(
        "rds",
        "describe_orderable_db_instance_options",
        "OrderableDBInstanceOptions",
        Engine="aurora-postgresql",
        DBInstanceClass="db.serverless",
        **version,
    )


def _by_number(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _engine_version(rendered: Rendered) -> str:
    (cluster,) = rendered.of_type("AWS::RDS::DBCluster").values()
    return str(cluster["Properties"]["EngineVersion"])


def _snapshot(question: Question) -> Iterator[PreflightFinding]:
    """What the database is to be restored from. All are listed, so that a missing one is no error of the call.

    A stack that was restored from it keeps naming it and reads it never again, so it may be deleted by then.
    """
    arn = question.rendered.parameters["DatabaseSnapshotArn"]
    if not arn or arn == question.before("DatabaseSnapshotArn"):
        return
    found = question.reader.all(
        "rds",
        "describe_db_cluster_snapshots",
        "DBClusterSnapshots",
        IncludeShared=True,
    )
    snapshot = next((one for one in found if one["DBClusterSnapshotArn"] == arn), None)
    fault = "is not in this account and Region" if snapshot is None else _fault_of(snapshot, question.rendered)
    yield PreflightFinding(
        subject="snapshot of the database",
        verdict=PreflightVerdict.STOP if fault else PreflightVerdict.FINE,
        found=fault or f"{arn.rpartition(':')[2]} is available",
        advice="DatabaseSnapshotArn= a snapshot of a Sallyport cluster, in this Region" if fault else "",
    )


def _fault_of(snapshot: Mapping[str, Any], rendered: Rendered) -> str:
    version = str(snapshot["EngineVersion"])
    if snapshot["Engine"] != "aurora-postgresql":
        return f"is of {snapshot['Engine']}, not of aurora-postgresql"
    if snapshot["Status"] != "available":
        return f"is {snapshot['Status']}, not available"
    if not snapshot["StorageEncrypted"]:  # a restored cluster takes that over, whatever the template says
        return "is not encrypted, and the database would not be either"
    if _by_number(version) > _by_number(_engine_version(rendered)):
        return f"is of version {version}, newer than {_engine_version(rendered)}, to which it cannot go back"
    return ""


def _endpoint_services(question: Question) -> Iterator[PreflightFinding]:
    endpoints = question.rendered.of_type("AWS::EC2::VPCEndpoint").values()
    interfaces = [endpoint["Properties"] for endpoint in endpoints if endpoint["Properties"].get("SubnetIds")]
    names = sorted(str(endpoint["ServiceName"]) for endpoint in interfaces)
    details = question.reader.ask("ec2", "describe_vpc_endpoint_services", ServiceNames=names) if names else {}
    offered = {detail["ServiceName"]: set(detail["AvailabilityZones"]) for detail in details.get("ServiceDetails", ())}
    for name in names:
        yield _in_zones(question, f"endpoint of {name}", offered.get(name, set()))


def _in_zones(question: Question, subject: str, offered: set[str]) -> PreflightFinding:
    missing = [zone for zone in question.zones if zone not in offered]
    if not missing:
        return PreflightFinding(
            subject=subject, verdict=PreflightVerdict.FINE, found=f"in {' and '.join(question.zones)}"
        )
    return PreflightFinding(
        subject=subject,
        verdict=PreflightVerdict.STOP,
        found=f"not in {' and '.join(missing)}",
        advice=f"AvailabilityZones= two of {', '.join(sorted(offered))}" if offered else "another Region",
    )


# ---- What is given


def _given(question: Question, parameter: str, subject: str, fault: Callable[[str], str]) -> Iterator[PreflightFinding]:
    """Nothing where the parameter is empty; what `fault` says is wrong with it, '' where nothing is, stops."""
    given = question.rendered.parameters[parameter]
    if not given:
        return
    try:
        wrong = fault(given)
    except NotThere:
        wrong = "does not exist in this account and Region"
    yield PreflightFinding(
        subject=subject,
        verdict=PreflightVerdict.STOP if wrong else PreflightVerdict.FINE,
        found=f"{given} {wrong or 'can be used'}",
        advice=f"{parameter}= another, or correct it" if wrong else "",
    )


def _given_addresses(question: Question) -> Iterator[PreflightFinding]:
    """Those that are named for the first time: what a stack was told to use, it uses."""
    if question.rendered.parameters["EgressAllocationIds"] == question.before("EgressAllocationIds"):
        return
    given_before = question.before("EgressAllocationIds").split(",")

    def fault(given: str) -> str:
        wanted = [allocation for allocation in given.split(",") if allocation not in given_before]
        named = [{"Name": "allocation-id", "Values": wanted}]
        addresses = question.reader.all("ec2", "describe_addresses", "Addresses", Filters=named) if wanted else ()
        found = {str(address["AllocationId"]): address for address in addresses}
        missing = [allocation for allocation in wanted if allocation not in found]
        used = [allocation for allocation in wanted if _is_of_another(found.get(allocation, {}), question)]
        return (f"lacks {', '.join(missing)}" if missing else "") or (f"is in use: {', '.join(used)}" if used else "")

    yield from _given(question, "EgressAllocationIds", "given addresses", fault)


def _is_of_another(address: Mapping[str, Any], question: Question) -> bool:
    """Whether something else than this very stack, as it is, uses an address."""
    is_own = bool(question.current) and _name_tag(address).startswith(f"{question.stack}-Network-")
    return "AssociationId" in address and not is_own


def _encryption_key(question: Question) -> Iterator[PreflightFinding]:
    def fault(arn: str) -> str:
        key = question.reader.ask("kms", "describe_key", KeyId=arn)["KeyMetadata"]
        if arn.split(":")[3] != question.reader.region:
            return f"is not in {question.reader.region}"
        if key["KeyState"] != "Enabled":
            return f"is {key['KeyState']}"
        if key["KeySpec"] != "SYMMETRIC_DEFAULT":
            return "is not symmetric"
        policy = json.loads(question.reader.ask("kms", "get_key_policy", KeyId=arn)["Policy"])
        if not any(_lets_logs_use(statement, question.reader.region) for statement in _listed(policy["Statement"])):
            return "does not let CloudWatch Logs use it: docs/people-and-database.md#encryption-keys has its policy"
        return ""

    yield from _given(question, "KmsKeyArn", "encryption key", fault)


def _lets_logs_use(statement: Mapping[str, Any], region: str) -> bool:
    principal = statement.get("Principal", {})
    services = _listed(principal.get("Service", ())) if isinstance(principal, dict) else []
    is_for_all = principal == "*" or (isinstance(principal, dict) and "*" in _listed(principal.get("AWS", ())))
    is_for_logs = any(str(service).startswith((f"logs.{region}.", "logs.amazonaws.")) for service in services)
    return statement["Effect"] == "Allow" and (is_for_all or is_for_logs)


def _listed(value: Any) -> list[Any]:
    """In a policy one of something may stand alone."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _certificate(question: Question) -> Iterator[PreflightFinding]:
    def fault(arn: str) -> str:
        certificate = question.reader.ask("acm", "describe_certificate", CertificateArn=arn)["Certificate"]
        domain = question.rendered.parameters["DomainName"]
        names = {certificate["DomainName"], *certificate.get("SubjectAlternativeNames", ())}
        if certificate["Status"] != "ISSUED":
            return f"is {certificate['Status']}, not ISSUED"
        return "" if names & {domain, f"*.{domain.partition('.')[2]}"} else f"is not for {domain}"

    yield from _given(question, "CertificateArn", "certificate of the domain", fault)


def _layer(question: Question) -> Iterator[PreflightFinding]:
    def fault(arn: str) -> str:
        layer = question.reader.ask("lambda", "get_layer_version_by_arn", Arn=arn)
        processor, processors = question.rendered.parameters["Architecture"], layer.get("CompatibleArchitectures")
        return (
            f"is for {', '.join(processors)}, not for {processor}" if processors and processor not in processors else ""
        )

    yield from _given(question, "OpenTelemetryLayerArn", "OpenTelemetry layer", fault)


def _event_bus(question: Question) -> Iterator[PreflightFinding]:
    def fault(name: str) -> str:
        question.reader.ask("events", "describe_event_bus", Name=name)
        return ""

    yield from _given(question, "EventBusName", "event bus", fault)


def _audit_bucket(question: Question) -> Iterator[PreflightFinding]:
    """Without Object Lock whoever may delete objects could take a checkpoint away."""

    def fault(name: str) -> str:
        located = question.reader.ask("s3", "get_bucket_location", Bucket=name).get("LocationConstraint")
        region = _OLD_LOCATIONS.get(located, located)
        if region != question.reader.region:
            return f"is in {region}, not in {question.reader.region}"
        try:
            question.reader.ask("s3", "get_object_lock_configuration", Bucket=name)
        except NotThere:
            return "has no Object Lock"
        return ""

    yield from _given(question, "AuditBucketName", "bucket for checkpoints", fault)


# ---- What is there already


def _left_addresses(question: Question) -> Iterator[PreflightFinding]:
    if left := left_addresses(question):
        ids = ",".join(allocation for allocation, _ in left)
        yield PreflightFinding(
            subject="addresses of an earlier stack",
            verdict=PreflightVerdict.LOOK,
            found=", ".join(address for _, address in left),
            advice=f"EgressAllocationIds={ids} uses what partners may allow already; make deploy asks",
        )


def left_addresses(question: Question) -> list[tuple[str, str]]:
    """Allocation id and address of those that an earlier stack of this name left, in the order of their zones.

    No more than this one needs, and none where it is told which to use or exists. Raises NotReadable.
    """
    wanted = question.count("AWS::EC2::EIP")
    if question.current or question.rendered.parameters["EgressAllocationIds"] or not wanted:
        return []
    tagged = [{"Name": "tag:Name", "Values": [f"{question.stack}-Network-* egress *"]}]
    found = [
        (_name_tag(address).rpartition(" ")[2], address["AllocationId"], address["PublicIp"])
        for address in question.reader.all("ec2", "describe_addresses", "Addresses", Filters=tagged)
        if "AssociationId" not in address
    ]
    return [(allocation, address) for _, allocation, address in sorted(found)][:wanted]


def _customer_gateway(question: Question) -> Iterator[PreflightFinding]:
    for gateway in question.rendered.of_type("AWS::EC2::CustomerGateway").values():
        properties = gateway["Properties"]
        same = [
            {"Name": "ip-address", "Values": [str(properties["IpAddress"])]},
            {"Name": "bgp-asn", "Values": [str(properties["BgpAsn"])]},
            {"Name": "state", "Values": ["pending", "available"]},
        ]
        others = [
            str(other["CustomerGatewayId"])
            for other in question.reader.all("ec2", "describe_customer_gateways", "CustomerGateways", Filters=same)
            if not _name_tag(other).startswith(f"{question.stack}-Vpn-")
        ]
        yield PreflightFinding(
            subject="customer gateway",
            verdict=PreflightVerdict.STOP if others else PreflightVerdict.FINE,
            found=f"{', '.join(others)} has this address and ASN" if others else "no other has this address and ASN",
            advice="AWS takes the two for one: delete that one, or use another CustomerGatewayAsn" if others else "",
        )


def _name_tag(resource: Mapping[str, Any]) -> str:
    return next((str(tag["Value"]) for tag in resource.get("Tags", ()) if tag["Key"] == "Name"), "")


LOOKS: Mapping[str, AccountCheck] = {
    "name of the stack": _stack_name,
    "state of the stack": _state,
    "names of queues": _queue_names,
    "root certificate of RDS": _root_certificate,
    "service-linked role of RDS": _database_role,
    "log role of API Gateway": _log_role,
    "concurrency of Lambda": _concurrency,
    "Elastic IP addresses": _addresses,
    "VPCs": _vpcs,
    "NAT gateways": _nat_gateways,
    "rules of a security group": _rules,
    "Aurora PostgreSQL": _database,
    "snapshot of the database": _snapshot,
    "endpoints of AWS services": _endpoint_services,
    "given addresses": _given_addresses,
    "encryption key": _encryption_key,
    "certificate of the domain": _certificate,
    "OpenTelemetry layer": _layer,
    "event bus": _event_bus,
    "bucket for checkpoints": _audit_bucket,
    "addresses of an earlier stack": _left_addresses,
    "customer gateway": _customer_gateway,
}
