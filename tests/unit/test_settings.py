"""Settings: read from the environment, failing early and by name."""

from ipaddress import ip_network

import pytest

from runtime.settings import (
    AdminSettings,
    ApiSettings,
    AttemptSettings,
    AuthorizeSettings,
    AwsSettings,
    DatabaseSettings,
    EgressAddress,
    EgressSettings,
    FromEnvironment,
    MigrateSettings,
    QueueSettings,
    SettingsError,
    ZoneId,
    ZoneSettings,
)

LEAST = {"WAKEUP_QUEUE_URL": "https://sqs.example/1/q"}


def test_what_is_left_out_has_its_default() -> None:
    found = ApiSettings.from_environment(LEAST)
    assert found.queue == QueueSettings(wakeup_queue_url="https://sqs.example/1/q")
    assert found.egress.allowed_ports == (80, 443, 8080, 8443)
    assert (found.database.database_port, found.lease_seconds) == (5432, 55)


def test_every_kind_of_value_is_read() -> None:
    found = EgressSettings.from_environment(
        {
            "EGRESS_ADDRESSES": "a=192.0.2.1, b=192.0.2.2,",
            "ALLOWED_PRIVATE_CIDRS": "10.0.0.0/16, fd00::/64",
            "ALLOWED_PORTS": "443, 8443",
            "BLOCKED_HOSTS": "api.example",
        }
    )
    assert found.egress_addresses == (
        EgressAddress(availability_zone="a", address="192.0.2.1"),
        EgressAddress(availability_zone="b", address="192.0.2.2"),
    )
    assert found.allowed_private_cidrs == (ip_network("10.0.0.0/16"), ip_network("fd00::/64"))
    assert (found.allowed_ports, found.blocked_hosts) == ((443, 8443), "api.example")


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("no", False)])
def test_a_choice_of_yes_and_no_is_read(text: str, value: bool) -> None:
    settings = DatabaseSettings.from_environment({"DATABASE_PROXY": text})
    assert settings.database_proxy is value


def test_zones_are_read_with_their_ids() -> None:
    found = ZoneSettings.from_environment({"EGRESS_ZONE_IDS": "us-east-1a=use1-az6, us-east-1b=use1-az1"})
    assert found.egress_zone_ids == (
        ZoneId(availability_zone="us-east-1a", zone_id="use1-az6"),
        ZoneId(availability_zone="us-east-1b", zone_id="use1-az1"),
    )
    assert ZoneSettings.from_environment({"EGRESS_ZONE_IDS": ""}).egress_zone_ids == ()


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAKEUP_QUEUE_URL", "https://sqs.example/1/q")
    assert QueueSettings.from_environment().wakeup_queue_url == "https://sqs.example/1/q"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("WAKEUP_QUEUE_URL", "", "WAKEUP_QUEUE_URL must be set"),
        ("LEASE_SECONDS", "ten", "LEASE_SECONDS must be a whole number, got 'ten'"),
        ("DATABASE_PORT", "5432.5", "DATABASE_PORT must be a whole number"),
        ("DATABASE_PROXY", "maybe", "DATABASE_PROXY must be yes or no, got 'maybe'"),
        ("ALLOWED_PRIVATE_CIDRS", "10.0.0.1/16", "ALLOWED_PRIVATE_CIDRS must be CIDR blocks"),
        ("BLOCKED_CIDRS", "everything", "BLOCKED_CIDRS must be CIDR blocks"),
        ("ALLOWED_PORTS", "443,x", "ALLOWED_PORTS must be a whole number"),
        ("ALLOWED_PORTS", "0", "ALLOWED_PORTS must be port numbers"),
        ("ALLOWED_PORTS", "65536", "ALLOWED_PORTS must be port numbers"),
        ("ALLOWED_PORTS", ",", "ALLOWED_PORTS must be port numbers"),
        ("EGRESS_ADDRESSES", "192.0.2.1", "EGRESS_ADDRESSES must be zone=address pairs"),
        ("EGRESS_ADDRESSES", "a=", "EGRESS_ADDRESSES must be zone=address pairs"),
        ("EGRESS_ZONE_IDS", "use1-az1", "EGRESS_ZONE_IDS must be zone=ID pairs separated by commas, got 'use1-az1'"),
        ("EGRESS_ZONE_IDS", "=use1-az1", "EGRESS_ZONE_IDS must be zone=ID pairs"),
        ("EGRESS_ZONE_IDS", "a=x,a=y", "EGRESS_ZONE_IDS must name each zone and each ID once"),
        ("EGRESS_ZONE_IDS", "a=x,b=x", "EGRESS_ZONE_IDS must name each zone and each ID once"),
    ],
)
def test_a_wrong_variable_is_named_with_what_would_be_right(name: str, value: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        ApiSettings.from_environment(LEAST | {name: value})


@pytest.mark.parametrize(
    ("settings", "some"),
    [
        (ApiSettings, {"DATABASE_HOST", "WAKEUP_QUEUE_URL", "EGRESS_ADDRESSES", "LEASE_SECONDS"}),
        (AttemptSettings, {"DATABASE_HOST", "WAKEUP_QUEUE_URL", "SEAL_KEY_SECRET_ARN", "LEASE_SECONDS"}),
        (AuthorizeSettings, {"DATABASE_USER"}),
        (MigrateSettings, {"DATABASE_ROOT_CERTIFICATES"}),
        (AdminSettings, {"DATABASE_URL"}),
    ],
)
def test_a_function_knows_the_names_of_its_variables(settings: type[FromEnvironment], some: set[str]) -> None:
    assert some <= settings.variables()
    assert all(name == name.upper() for name in settings.variables())


def test_credentials_are_not_shown() -> None:
    found = AwsSettings(
        aws_region="r", aws_access_key_id="AKIA1", aws_secret_access_key="s3cret", aws_session_token="t0k"
    )
    assert not any(secret in repr(found) for secret in ("AKIA1", "s3cret", "t0k"))


def test_no_settings_show_their_values() -> None:
    found = ApiSettings.from_environment(LEAST | {"DATABASE_URL": "postgresql://app:s3cret@db/x"})
    assert repr(found) == (
        "ApiSettings(database, queue, bus, egress, zones, seal_key, checks, lease_seconds, retention_days)"
    )
    assert "s3cret" not in repr(found.database)
