"""Settings: one frozen struct per function, read from the environment once, failing early and by name.

The only module that reads `os.environ`. Tests in tests/contract compare these fields with the template's
environment variables.
"""

import os
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Self, TypeGuard

import msgspec
from msgspec.structs import FieldInfo, fields

type IpNetwork = IPv4Network | IPv6Network


class SettingsError(Exception):
    """An environment variable is missing or wrong. The message names it and says what would be right."""


def _text(_name: str, raw: str) -> str:
    return raw


def _number(name: str, raw: str) -> int:
    try:
        return int(raw)
    except ValueError:
        raise SettingsError(f"{name} must be a whole number, got '{raw}'") from None


def _yes_or_no(name: str, raw: str) -> bool:
    if raw not in {"yes", "no"}:
        raise SettingsError(f"{name} must be yes or no, got '{raw}'")
    return raw == "yes"


def _networks(name: str, raw: str) -> tuple[IpNetwork, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in raw.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(f"{name} must be CIDR blocks separated by commas, such as 10.0.0.0/16: {error}") from None


def _ports(name: str, raw: str) -> tuple[int, ...]:
    ports = tuple(_number(name, part.strip()) for part in raw.split(",") if part.strip())
    if not ports or not all(0 < port < 65536 for port in ports):
        raise SettingsError(f"{name} must be port numbers separated by commas, got '{raw}'")
    return ports


class EgressAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A fixed address that partners allowlist, and the Availability Zone whose traffic leaves from it."""

    availability_zone: str
    address: str


def _egress_addresses(name: str, raw: str) -> tuple[EgressAddress, ...]:
    pairs = _pairs(name, raw, of="zone=address")
    return tuple(EgressAddress(availability_zone=zone, address=address) for zone, address in pairs)


class ZoneId(msgspec.Struct, frozen=True, kw_only=True):
    """An Availability Zone by the name that it has in this account (us-east-1a) and by its ID (use1-az1)."""

    availability_zone: str
    zone_id: str


def _zone_ids(name: str, raw: str) -> tuple[ZoneId, ...]:
    pairs = _pairs(name, raw, of="zone=ID")
    if len(dict(pairs)) < len(pairs) or len({zone_id for _, zone_id in pairs}) < len(pairs):
        raise SettingsError(f"{name} must name each zone and each ID once, got '{raw}'")
    return tuple(ZoneId(availability_zone=zone, zone_id=zone_id) for zone, zone_id in pairs)


def _pairs(name: str, raw: str, *, of: str) -> list[tuple[str, str]]:
    parts = [part.strip().partition("=") for part in raw.split(",") if part.strip()]
    if not all(left and right for left, _, right in parts):
        raise SettingsError(f"{name} must be {of} pairs separated by commas, got '{raw}'")
    return [(left, right) for left, _, right in parts]


_READERS: dict[object, Callable[[str, str], object]] = {
    str: _text,
    int: _number,
    bool: _yes_or_no,
    tuple[IpNetwork, ...]: _networks,
    tuple[int, ...]: _ports,
    tuple[EgressAddress, ...]: _egress_addresses,
    tuple[ZoneId, ...]: _zone_ids,
}


class FromEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """Reads each field from the variable of its name in upper case; a field that is itself settings reads its own.

    An empty variable counts as missing. Shown are the names of fields alone, as some values are secrets.
    """

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The settings of one function. Raises SettingsError that names the first variable at fault."""
        source = os.environ if environment is None else environment
        values = {setting.name: _value(setting, source) for setting in fields(cls)}
        return cls(**{name: value for name, value in values.items() if value is not msgspec.NODEFAULT})

    @classmethod
    def variables(cls) -> frozenset[str]:
        """The names of all environment variables that these settings read."""
        names: set[str] = set()
        for setting in fields(cls):
            names |= setting.type.variables() if _is_settings(setting.type) else {setting.name.upper()}
        return frozenset(names)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


def _is_settings(kind: object) -> TypeGuard[type[FromEnvironment]]:
    return isinstance(kind, type) and issubclass(kind, FromEnvironment)


def _value(setting: FieldInfo, source: Mapping[str, str]) -> object:
    if _is_settings(setting.type):
        return setting.type.from_environment(source)
    name = setting.name.upper()
    raw = source.get(name, "")
    if raw:
        return _READERS[setting.type](name, raw)
    if setting.required:
        raise SettingsError(f"{name} must be set")
    return msgspec.NODEFAULT


class AwsSettings(FromEnvironment, frozen=True, kw_only=True):
    """What Lambda itself puts into every function's environment; not part of the template."""

    aws_region: str
    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str = ""


class ContainerSettings(FromEnvironment, frozen=True, kw_only=True):
    """What Lambda puts into the environment of a function with SnapStart instead of credentials: the URL to fetch them
    from, and the value of the Authorization header for it. Both are empty everywhere else."""

    aws_region: str
    aws_container_credentials_full_uri: str = ""
    aws_container_authorization_token: str = ""


class DatabaseSettings(FromEnvironment, frozen=True, kw_only=True):
    """How to reach PostgreSQL.

    `database_url` (libpq URL) takes precedence and is for local use; on AWS it is empty and host, port, name and user
    name the cluster, with an IAM token as the password and TLS verified against `database_root_certificates` (a PEM
    file). `database_proxy` says whether that host is RDS Proxy.
    """

    database_url: str = ""
    database_host: str = ""
    database_port: int = 5432
    database_name: str = "sallyport"
    database_user: str = ""
    database_root_certificates: str = ""
    database_proxy: bool = False


class QueueSettings(FromEnvironment, frozen=True, kw_only=True):
    """Where wake-ups go. `sqs_endpoint_url` is empty on AWS; locally it names the emulated API."""

    wakeup_queue_url: str
    sqs_endpoint_url: str = ""


class BusSettings(FromEnvironment, frozen=True, kw_only=True):
    """The EventBridge bus that events go to, too; empty for none. `events_endpoint_url` is empty on AWS; tests name an
    emulated API."""

    event_bus_name: str = ""
    events_endpoint_url: str = ""


class BucketSettings(FromEnvironment, frozen=True, kw_only=True):
    """The bucket that checkpoints of the audit log go to; empty for none. `s3_endpoint_url` is empty on AWS; tests name
    an emulated API."""

    audit_bucket_name: str = ""
    s3_endpoint_url: str = ""


class EgressSettings(FromEnvironment, frozen=True, kw_only=True):
    """Which addresses requests leave from, and where they may go.

    `allowed_private_cidrs` allows single ranges that the SSRF guard refuses otherwise; `blocked_cidrs` blocks more (the
    VPC's own range); `blocked_hosts` are names that are never called (the stack's own API), separated by commas.
    `ca_bundle` is a PEM file of public roots; empty means the system's.
    """

    egress_addresses: tuple[EgressAddress, ...] = ()
    allowed_private_cidrs: tuple[IpNetwork, ...] = ()
    blocked_cidrs: tuple[IpNetwork, ...] = ()
    blocked_hosts: str = ""
    allowed_ports: tuple[int, ...] = (80, 443, 8080, 8443)
    ca_bundle: str = ""


class ZoneSettings(FromEnvironment, frozen=True, kw_only=True):
    """`egress_zone_ids` are the zones of `egress_addresses` with their IDs, which is how Lambda says where a function
    runs. Empty where all zones share one address."""

    egress_zone_ids: tuple[ZoneId, ...] = ()


class SealKeySettings(FromEnvironment, frozen=True, kw_only=True):
    """The key that credentials are sealed with: in the secret `seal_key_secret_arn`, or in the local file
    `seal_key_file`."""

    seal_key_secret_arn: str = ""
    seal_key_file: str = ""


class CheckSettings(FromEnvironment, frozen=True, kw_only=True):
    """The egress check.

    `egress_echo_url` is the service that is asked which address it sees, `egress_results_path` the path of the SSM
    parameters, one per zone, that store its answers. Both are empty where the stack cannot reach the internet.
    `ssm_endpoint_url` is empty on AWS; locally it names the emulated API.
    """

    egress_echo_url: str = ""
    egress_results_path: str = ""
    ssm_endpoint_url: str = ""


class ApiSettings(FromEnvironment, frozen=True, kw_only=True):
    """Of handlers/api.py. `lease_seconds` is longer than any function that holds a lease may live; `retention_days` is
    for how many days after their end deliveries are stored."""

    database: DatabaseSettings
    queue: QueueSettings
    bus: BusSettings
    egress: EgressSettings
    zones: ZoneSettings
    seal_key: SealKeySettings
    checks: CheckSettings
    lease_seconds: int = 55
    retention_days: int = 90


class AuthorizeSettings(FromEnvironment, frozen=True, kw_only=True):
    """Of handlers/authorize.py."""

    database: DatabaseSettings


class AttemptSettings(FromEnvironment, frozen=True, kw_only=True):
    """Of handlers/attempt.py. `lease_seconds` is longer than any function that holds a lease may live;
    `attempt_concurrency` is how many batches of attempts are made at once; `retention_days` is for how many days after
    their end deliveries are stored."""

    database: DatabaseSettings
    queue: QueueSettings
    bus: BusSettings
    egress: EgressSettings
    zones: ZoneSettings
    seal_key: SealKeySettings
    bucket: BucketSettings
    lease_seconds: int = 55
    attempt_concurrency: int = 5
    retention_days: int = 90


class MigrateSettings(FromEnvironment, frozen=True, kw_only=True):
    """Of handlers/migrate.py, which connects as the master user and makes the roles that the others connect as."""

    database: DatabaseSettings


class AdminSettings(FromEnvironment, frozen=True, kw_only=True):
    """Of handlers/admin.py."""

    database: DatabaseSettings


class CheckEgressSettings(FromEnvironment, frozen=True, kw_only=True):
    """Of handlers/check_egress.py. `availability_zone` is the one zone that the function runs in. No database."""

    egress: EgressSettings
    checks: CheckSettings
    availability_zone: str


class NetworkSettings(FromEnvironment, frozen=True, kw_only=True):
    """Of handlers/network.py. `ec2_endpoint_url` is empty on AWS; tests name an emulated API."""

    ec2_endpoint_url: str = ""
