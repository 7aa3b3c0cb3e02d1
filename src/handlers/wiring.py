"""Builds what the flows need from the settings, once per process and on first use."""

import random
import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING

from db.connection import RETRY_AFTER_SECONDS, Database
from domain.errors import DatabaseUnavailable
from runtime import aws, zones
from runtime.aws import AwsCallFailed, rds_auth_token
from runtime.settings import (
    AdminSettings,
    ApiSettings,
    AttemptSettings,
    AuthorizeSettings,
    BusSettings,
    DatabaseSettings,
)

if TYPE_CHECKING:
    from egress.seal_key_store import SealKeyStore
    from flows.allowlist import AllowlistSources
    from flows.audit import OperatorServices
    from flows.check_egress import EgressChecks
    from flows.checkpoints import CheckpointWriter
    from flows.seal_schedule import SealSchedule
    from flows.services import Services
    from wakeups.event_bus import EventBus
    from wakeups.sqs import DeadLetters


utc_now = partial(datetime.now, UTC)  # the clock of the deployed functions


@cache
def api() -> "Services":
    """Of handlers/api.py. Raises SettingsError; then the next call tries again."""
    return _services(ApiSettings.from_environment())


@cache
def egress_checks() -> "EgressChecks":
    """For the routes of handlers/api.py about the fixed addresses; with the client that deliveries use."""
    from egress.check_store import CheckStore
    from flows.check_egress import EgressChecks

    checks, services = ApiSettings.from_environment().checks, api()
    return EgressChecks(
        client=services.client,
        store=CheckStore(checks),
        echo_url=checks.egress_echo_url,
        addresses=services.egress_addresses,
        clock=services.clock,
    )


@cache
def allowlist_sources() -> "AllowlistSources":
    """For the route of handlers/api.py that issues the allowlist."""
    from flows.allowlist import AllowlistSources

    services = api()
    return AllowlistSources(
        checks=egress_checks(),
        seal_keys=services.seal_keys,
        ports=ApiSettings.from_environment().egress.allowed_ports,
    )


@cache
def attempt() -> "Services":
    """Of handlers/attempt.py."""
    settings = AttemptSettings.from_environment()
    return replace(_services(settings), workers=settings.attempt_concurrency)


@cache
def dead_letters() -> "DeadLetters":
    """For the operators' action of handlers/attempt.py."""
    from wakeups.sqs import DeadLetters

    return DeadLetters(AttemptSettings.from_environment().queue)


@cache
def seal_key_store() -> "SealKeyStore":
    """For the operators' action of handlers/attempt.py."""
    from egress.seal_key_store import SealKeyStore

    return SealKeyStore(AttemptSettings.from_environment().seal_key)


@cache
def seal_schedule() -> "SealSchedule":
    """Of this process of handlers/attempt.py."""
    from flows.seal_schedule import SealSchedule

    return SealSchedule(clock=attempt().clock, chance=attempt().chance, checkpoints=_checkpoints())


def _checkpoints() -> "CheckpointWriter | None":
    settings = AttemptSettings.from_environment().bucket
    if not settings.audit_bucket_name:
        return None
    from flows.checkpoints import CheckpointWriter  # few stacks name a bucket
    from runtime.checkpoint_bucket import CheckpointBucket

    return CheckpointWriter(CheckpointBucket(settings))


@cache
def authorize() -> Database:
    """Of handlers/authorize.py."""
    return database(AuthorizeSettings.from_environment().database)


@cache
def admin() -> Database:
    """Of handlers/admin.py."""
    return database(AdminSettings.from_environment().database)


def operators() -> "OperatorServices":
    """Of handlers/admin.py, to write down what it did."""
    from flows.audit import OperatorServices

    return OperatorServices(database=admin(), clock=utc_now, randomness=secrets.token_bytes)


def reset_after_restore() -> None:
    """Drops what was made before a snapshot, since it is in every process that starts from it: connections, keys and
    credentials, the zone, and the state of the generator that spreads retries."""
    if api.cache_info().currsize:
        services = api()
        services.database.close()
        services.client.close()
    for cached in (api, egress_checks, allowlist_sources):
        cached.cache_clear()
    aws.forget()
    zones.forget()
    random.seed()


def database(settings: DatabaseSettings) -> Database:
    """A database that is reached by URL (local) or with IAM tokens (AWS)."""
    if settings.database_url:
        return Database(settings)
    return Database(settings, iam_password=partial(_token, settings))


def _token(settings: DatabaseSettings) -> str:
    try:
        return rds_auth_token(
            host=settings.database_host, port=settings.database_port, user=settings.database_user, now=utc_now()
        )
    except AwsCallFailed:
        raise DatabaseUnavailable(
            "there are no credentials for the database", retry_after_seconds=RETRY_AFTER_SECONDS
        ) from None


def _event_bus(settings: BusSettings) -> "EventBus | None":
    if not settings.event_bus_name:
        return None
    from wakeups.event_bus import EventBus  # few stacks name one

    return EventBus(settings)


def _services(settings: ApiSettings | AttemptSettings) -> "Services":
    """Imports what only API and worker need, which have it loaded by now: a fifth of the others' cold start."""
    from egress.addresses import Guard
    from egress.client import Client
    from egress.seal_keys import load_seal_keys
    from flows.services import Services
    from wakeups.sqs import WakeupQueue

    guard = Guard.of(settings.egress)
    return Services(
        database=database(settings.database),
        queue=WakeupQueue(settings.queue, has_bus=bool(settings.bus.event_bus_name)),
        event_bus=_event_bus(settings.bus),
        client=Client(guard, ca_bundle=settings.egress.ca_bundle),
        guard=guard,
        load_seal_keys=partial(load_seal_keys, settings.seal_key),
        egress_addresses=settings.egress.egress_addresses,
        own_zone=partial(zones.own_zone, settings.zones.egress_zone_ids),
        lease_seconds=settings.lease_seconds,
        clock=utc_now,
        chance=random.random,
        randomness=secrets.token_bytes,
        sleep=time.sleep,
        retention_days=settings.retention_days,
    )
