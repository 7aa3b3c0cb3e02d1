"""Issue, revoke and check bearer tokens."""

import hashlib
import re
from base64 import urlsafe_b64encode
from dataclasses import field
from datetime import datetime

from db import tenants
from db.connection import Database
from db.tenants import Caller
from domain.errors import Fault, InvalidRequest, NotFound, Unauthorized
from domain.ids import RANDOM_BYTES, DestinationId, TenantId, TokenId, uuid7
from domain.scopes import ALL_SCOPES
from domain.values import value_class

PREFIX = "spt_"  # so that secret scanners and people recognise a leaked token
SECRET_BYTES = 32
MOST_DESTINATIONS = 20  # of a token: their ids and names travel in the authorizer's answer
_TOKEN = re.compile(r"spt_[A-Za-z0-9_-]{43}")
NAME_FORM = "must be 1 to 63 lower-case letters, digits and hyphens"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@value_class(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A new token. The only time that `token`, the secret, is seen."""

    token: str = field(repr=False)
    token_id: TokenId
    tenant_id: TenantId
    scopes: tuple[str, ...]
    expires_at: datetime | None = None
    destination_ids: tuple[DestinationId, ...] | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class WantedToken:
    """What a token is to be: `destinations` are names or ids, None for all; it does not end by itself where
    `expires_at` is None."""

    tenant_name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None = None
    destinations: tuple[str, ...] | None = None


def issue(database: Database, wanted: WantedToken, *, now: datetime, randomness: bytes) -> IssuedToken:
    """A new token for a tenant, which is created if it does not exist. `randomness` is 32 + 10 + 10 bytes of it.

    Raises InvalidRequest for an invalid name or scope, an end in the past, and destinations that the tenant lacks.
    """
    _check(wanted, now=now)
    destination_ids = _destination_ids(database, wanted)
    secret, rest = randomness[:SECRET_BYTES], randomness[SECRET_BYTES:]
    token = PREFIX + urlsafe_b64encode(secret).rstrip(b"=").decode()
    token_id = TokenId(uuid7(now=now, randomness=rest[:RANDOM_BYTES]))
    tenant_id = tenants.issue_token(
        database,
        tenant_id=TenantId(uuid7(now=now, randomness=rest[RANDOM_BYTES:])),
        tenant_name=wanted.tenant_name,
        token_id=token_id,
        token_sha256=_sha256(token),
        scopes=wanted.scopes,
        now=now,
        expires_at=wanted.expires_at,
        destination_ids=destination_ids,
    )
    return IssuedToken(
        token=token,
        token_id=token_id,
        tenant_id=tenant_id,
        scopes=wanted.scopes,
        expires_at=wanted.expires_at,
        destination_ids=destination_ids,
    )


def revoke(database: Database, *, token_id: TokenId, now: datetime) -> datetime:
    """Revokes a token; returns when it was revoked. Raises NotFound."""
    revoked_at = tenants.revoke_token(database, token_id=token_id, now=now)
    if revoked_at is None:
        raise NotFound("token", str(token_id))
    return revoked_at


def check(database: Database, *, authorization: str, now: datetime) -> Caller:
    """The caller behind an `Authorization` header. Raises Unauthorized; DatabaseUnavailable where it cannot be
    checked."""
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token.strip()):
        raise Unauthorized("a token of the form 'Bearer spt_...' is required")
    caller = tenants.caller_of(database, token_sha256=_sha256(token.strip()), now=now)
    if caller is None:
        raise Unauthorized("this token is not valid")
    return caller


def check_name(tenant_name: str) -> None:
    """Raises InvalidRequest for what cannot be the name of a tenant."""
    if not _NAME.fullmatch(tenant_name):
        raise InvalidRequest(Fault(field="/tenant", detail=NAME_FORM))


def _check(wanted: WantedToken, *, now: datetime) -> None:
    faults = []
    if not _NAME.fullmatch(wanted.tenant_name):
        faults.append(Fault(field="/tenant", detail=NAME_FORM))
    if not wanted.scopes or not set(wanted.scopes) <= set(ALL_SCOPES):
        faults.append(Fault(field="/scopes", detail=f"must be one or more of {', '.join(ALL_SCOPES)}"))
    if wanted.expires_at is not None and (wanted.expires_at.tzinfo is None or wanted.expires_at <= now):
        faults.append(Fault(field="/expires_at", detail="must be a moment to come, with a zone, such as Z"))
    if wanted.destinations is not None and not 1 <= len(wanted.destinations) <= MOST_DESTINATIONS:
        faults.append(Fault(field="/destinations", detail=f"must be 1 to {MOST_DESTINATIONS} names or ids"))
    if faults:
        raise InvalidRequest(*faults)


def _destination_ids(database: Database, wanted: WantedToken) -> tuple[DestinationId, ...] | None:
    if wanted.destinations is None:
        return None
    known = tenants.destinations_of(database, tenant_name=wanted.tenant_name, references=wanted.destinations)
    faults = [
        Fault(field=f"/destinations/{position}", detail="must be a destination of the tenant, by name or id")
        for position, reference in enumerate(wanted.destinations)
        if reference not in known
    ]
    if faults:
        raise InvalidRequest(*faults)
    return tuple(dict.fromkeys(known[reference] for reference in wanted.destinations))


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
