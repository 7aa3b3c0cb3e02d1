"""The choices that every rule about the rendered whole is held against.

All combinations of topology, egress and stage, and beside them each other choice on its own and some together, in every
topology that takes it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps

from stack.capabilities import Capabilities, capabilities
from stack.network.from_templates import network
from stack.network.model import Network
from stack.render import NEEDS, TOPOLOGIES, ParametersRefused, Rendered
from tests.contract.project import Project

VPN = NEEDS["on-premises"]
AWAKE = {"DatabaseMinCapacity": "0.5"}
SNAPSHOT = "arn:aws:rds:us-east-1:555555555555:cluster-snapshot:sallyport-prod-final"
KEY = "arn:aws:kms:us-east-1:555555555555:key/00000000-0000-4000-8000-000000000000"
LAYER = "arn:aws:lambda:us-east-1:901920570463:layer:aws-otel-python-arm64-ver-1-32-0:2"
DOMAIN = {
    "DomainName": "sallyport.example.com",
    "CertificateArn": "arn:aws:acm:us-east-1:555555555555:certificate/00000000-0000-4000-8000-000000000000",
}
VARIATIONS: Mapping[str, Mapping[str, str]] = {
    "bastion": {"Bastion": "yes"},
    "proxy": {"DatabaseProxy": "yes", **AWAKE},
    "reader": {"DatabaseReader": "yes"},
    "a snapshot": {"DatabaseSnapshotArn": SNAPSHOT},
    "corporate database access": {"CorporateDatabaseAccess": "yes", **VPN},
    "corporate API in public": {"CorporateApi": "public"},
    "VPN": VPN,
    "VPN with static routes": {"VpnRouting": "static", **VPN},
    "VPN with static routes to the database": {"VpnRouting": "static", "CorporateDatabaseAccess": "yes", **VPN},
    "one given address": {"EgressAllocationIds": "eipalloc-0a1b2c3d4e5f60718"},
    "one given address per zone": {
        "Egress": "per-az",
        "EgressAllocationIds": "eipalloc-0a1b2c3d4e5f60718,eipalloc-1a1b2c3d4e5f60718",
    },
    "one given address of two": {"Egress": "per-az", "EgressAllocationIds": "eipalloc-0a1b2c3d4e5f60718"},
    "given addresses, regional": {
        "Egress": "regional",
        "EgressAllocationIds": "eipalloc-0a1b2c3d4e5f60718,eipalloc-1a1b2c3d4e5f60718",
    },
    "S3 through the NAT gateway": {"S3GatewayEndpoint": "no"},
    "an endpoint for SQS": {"InterfaceEndpoints": "sqs"},
    "an endpoint for secrets": {"InterfaceEndpoints": "secretsmanager"},
    "endpoints": {"InterfaceEndpoints": "sqs,secretsmanager"},
    "an event bus": {"EventBusName": "orders"},
    "a bucket for checkpoints": {"AuditBucketName": "ledger"},
    "no flow logs": {"FlowLogs": "none"},
    "all flow logs": {"FlowLogs": "all"},
    "destinations in private ranges": {
        "AllowedPrivateCidrs": "10.200.0.0/16,10.201.0.0/16,172.21.0.0/16,100.64.0.0/10"
    },
    "X-Ray": {"Tracing": "xray"},
    "OpenTelemetry": {"Tracing": "otel", "OpenTelemetryLayerArn": LAYER},
    "SnapStart": {"SnapStart": "yes"},
    "reserved concurrency": {"ReserveConcurrency": "yes"},
    "a web ACL": {"WebAcl": "yes"},
    "a domain": DOMAIN,
    "a domain in a hosted zone": {**DOMAIN, "HostedZoneId": "Z0123456789ABCDEFGHIJ"},
    "named callers": {"AllowedCallerCidrs": ",".join(f"198.51.100.{16 * place}/28" for place in range(10))},
    "callers named twice": {**VPN, "AllowedCallerCidrs": "10.64.0.0/16,172.20.0.0/16"},
    "a key of one's own": {"KmsKeyArn": KEY},
    "mail": {"AlarmEmail": "people@example.com"},
    "an account with its log role": {"ApiGatewayLogRole": "existing"},
    "another range": {"VpcCidr": "192.168.240.0/20"},
    "named zones": {"AvailabilityZones": "us-east-1b,us-east-1d"},
    "everything": {
        "Bastion": "yes",
        "DatabaseProxy": "yes",
        **AWAKE,
        "DatabaseReader": "yes",
        "InterfaceEndpoints": "sqs,secretsmanager",
        "FlowLogs": "all",
        "Tracing": "xray",
        "SnapStart": "yes",
        "WebAcl": "yes",
        "KmsKeyArn": KEY,
        "AlarmEmail": "people@example.com",
        "AllowedCallerCidrs": "198.51.100.0/24",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One choice: everything that it makes, and the VPC."""

    name: str
    parameters: Mapping[str, str]
    rendered: Rendered
    network: Network

    @property
    def networks(self) -> tuple[Network, Network]:
        """The VPC with the database's first instance in either zone, where the template leaves that to AWS."""
        return self.network, network(self.rendered, first_zone=1)

    @property
    def can(self) -> Capabilities:
        """What the choice's stack can do."""
        return capabilities(self.rendered.parameters)

    def output(self, name: str) -> str:
        """An output of the root or, by its address, of a nested stack; '' if it does not exist here."""
        return str(self.rendered.outputs.get(name, ""))

    def says(self, name: str) -> str:
        """A parameter of the application."""
        return self.rendered.parameters[name]


def choices(project: Project) -> Iterator[tuple[str, dict[str, str]]]:
    """By name, the parameters that are accepted."""
    for combination in project.combinations():
        if combination.refused is None:
            yield combination.name, dict(combination.parameters)
    for topology in TOPOLOGIES:
        for name, parameters in VARIATIONS.items():
            asked = {"Topology": topology, **NEEDS.get(topology, {}), **parameters}
            if not _is_refused(project, asked):
                yield f"{topology} with {name}", asked


def _is_refused(project: Project, parameters: Mapping[str, str]) -> bool:
    try:
        project.application(**parameters)
    except ParametersRefused:
        return True
    except ValueError:
        return False  # accepted, and at fault: for the rule about that to tell
    return False


def case(project: Project, name: str, parameters: Mapping[str, str]) -> Case:
    """What a choice makes. Raises ValueError for what refers to nothing and what cannot be read."""
    return Case(
        name=name,
        parameters=parameters,
        rendered=project.application(**parameters),
        network=project.network(**parameters),
    )


def everywhere(check: Callable[[Case], Iterator[str]]) -> Callable[[Project], list[str]]:
    """A rule of one case as a rule of the project: the faults of the first choice that has any."""

    @wraps(check)
    def rule(project: Project) -> list[str]:
        for name, parameters in choices(project):
            try:
                faults = [f"{name}: {fault}" for fault in check(case(project, name, parameters))]
            except ValueError as error:
                faults = [f"{name}: {error}"]
            if faults:
                return faults
        return []

    return rule
