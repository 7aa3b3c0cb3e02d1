"""Builds what the flows work with from the settings, once per process and on first use."""

import random
import secrets
import time
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING

from db.connection import Database
from runtime.aws import rds_auth_token
from runtime.settings import AdminSettings, ApiSettings, AttemptSettings, AuthorizeSettings, DatabaseSettings

if TYPE_CHECKING:
    from flows.collaborators import Collaborators


def utc_now() -> datetime:
    """The clock of the deployed functions."""
    return datetime.now(UTC)


@cache
def api() -> "Collaborators":
    """Of handlers/api.py. Raises SettingsError; then the next call tries again."""
    return _collaborators(ApiSettings.from_environment())


@cache
def attempt() -> "Collaborators":
    """Of handlers/attempt.py."""
    return _collaborators(AttemptSettings.from_environment())


@cache
def authorize() -> Database:
    """Of handlers/authorize.py."""
    return database(AuthorizeSettings.from_environment().database)


@cache
def admin() -> Database:
    """Of handlers/admin.py."""
    return database(AdminSettings.from_environment().database)


def database(settings: DatabaseSettings) -> Database:
    """A database that is reached by URL (local) or with IAM tokens (AWS)."""
    if settings.database_url:
        return Database(settings)
    return Database(settings, iam_password=partial(_token, settings))


def _token(settings: DatabaseSettings) -> str:
    return rds_auth_token(
        host=settings.database_host, port=settings.database_port, user=settings.database_user, now=utc_now()
    )


def _collaborators(settings: ApiSettings | AttemptSettings) -> "Collaborators":
    """Imports what only API and worker need, which have it loaded by now: a fifth of the others' cold start."""
    from egress.addresses import Guard
    from egress.client import Client
    from egress.credentials import load_seal_key
    from flows.collaborators import Collaborators
    from wakeups.sqs import WakeupQueue

    guard = Guard.of(settings.egress)
    return Collaborators(
        database=database(settings.database),
        queue=WakeupQueue(settings.queue),
        client=Client(guard, ca_bundle=settings.egress.ca_bundle),
        guard=guard,
        load_seal_key=partial(load_seal_key, settings.egress),
        egress_addresses=settings.egress.egress_addresses,
        lease_seconds=settings.lease_seconds,
        clock=utc_now,
        chance=random.random,
        randomness=secrets.token_bytes,
        sleep=time.sleep,
    )
