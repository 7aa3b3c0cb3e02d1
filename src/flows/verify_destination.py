"""Verify a destination: one harmless request by the way that deliveries take, on a connection of its own.

It is neither a delivery nor an attempt. Only an access token that had to be fetched for it is stored, as for any
request.
"""

from datetime import datetime, timedelta

from db import oauth_tokens
from domain.auth import AuthType, StoredToken
from domain.certificates import CertificateFacts
from domain.deliveries import PASS_THROUGH_ATTEMPTS, Claim
from domain.destinations import ManagedDestination
from domain.errors import TooSoon
from domain.ids import DeliveryId, LeaseId, TenantId
from domain.outcomes import Answered, Exchange, Unreachable
from domain.probe import PROBE_METHOD, PROBE_METHOD_WITH_PATH, ProbeResult, probe_result
from domain.values import value_class
from flows.accept import CALL_SECONDS
from flows.audit import Act, Actor, note_act
from flows.destinations import find
from flows.prepare import BatchTokens, prepared, seal_keys
from flows.services import Services

ANSWER_SECONDS = 1.0  # of the call's time are left to note and to answer it
APART_SECONDS = 5.0  # of one destination in one process


@value_class(frozen=True, slots=True, kw_only=True)
class Verified:
    """What became of the request. `status` is None without an answer, `reason` with one.

    `remote_address` is the address that was connected to, or that a connection was tried to first; `egress_address` the
    fixed address that this left from, None where nothing left or it is not known. `shown` is the certificate that the
    partner showed, where TLS failed after that.
    """

    method: str
    path: str
    result: ProbeResult
    status: int | None
    reason: str | None
    shown: CertificateFacts | None
    remote_address: str | None
    egress_address: str | None
    total_ms: float
    verified_at: datetime


def verify(reference: str, *, tenant_id: TenantId, actor: Actor, services: Services) -> Verified:
    """Sends the request now, whatever the destination's state, within its own deadline and the time of a call. Raises
    NotFound, and TooSoon a moment after another."""
    now = services.clock()
    end_at = now + timedelta(seconds=CALL_SECONDS - ANSWER_SECONDS)
    destination = find(reference, tenant_id=tenant_id, services=services)
    left = services.probes.seconds_left(destination.destination_id, now=now, apart_seconds=APART_SECONDS)
    if left > 0:
        raise TooSoon(retry_after_seconds=left, window_seconds=int(APART_SECONDS))
    claim = _claim(destination, now=now, services=services)
    verified = _verified(claim, _sent(claim, end_at=end_at, services=services), now=now, services=services)
    act = Act(
        tenant_id=tenant_id,
        actor=actor,
        what="destination.verified",
        on=destination.destination_id,
        details={"result": verified.result.value},
    )
    note_act(act, services=services)
    return verified


def _verified(claim: Claim, exchange: Exchange, *, now: datetime, services: Services) -> Verified:
    outcome = exchange.outcome
    towards, shown = (outcome.towards, outcome.shown) if isinstance(outcome, Unreachable) else (None, None)
    remote_address = exchange.remote_address or towards
    return Verified(
        method=claim.method,
        path=claim.path,
        result=probe_result(outcome),
        status=outcome.status if isinstance(outcome, Answered) else None,
        reason=None if isinstance(outcome, Answered) else outcome.reason,
        shown=shown,
        remote_address=remote_address,
        egress_address=services.address_towards(remote_address),
        total_ms=exchange.timings.total_ms,
        verified_at=now,
    )


def _claim(destination: ManagedDestination, *, now: datetime, services: Services) -> Claim:
    """As if it were a delivery, of which there is no row."""
    probe, delivery_id = destination.options.verify, services.new_id(now)
    return Claim(
        delivery_id=DeliveryId(delivery_id),
        tenant_id=destination.tenant_id,
        lease_id=LeaseId(delivery_id),
        destination=destination,
        method=PROBE_METHOD if probe is None else PROBE_METHOD_WITH_PATH,
        path="" if probe is None else probe.path,
        query="",
        headers=(),
        body=b"",
        idempotency_key=str(delivery_id),
        attempts_made=1,
        attempts_allowed=PASS_THROUGH_ATTEMPTS,
        lapsed=False,
        token=_token(destination, services=services),
        is_probe=True,
    )


def _token(destination: ManagedDestination, *, services: Services) -> StoredToken | None:
    """As a claim brings it, so that one that the partner no longer takes is replaced."""
    if destination.auth_type is not AuthType.OAUTH2:
        return None
    return oauth_tokens.find(services.database, destination.destination_id)


def _sent(claim: Claim, *, end_at: datetime, services: Services) -> Exchange:
    keys = seal_keys([claim], services=services)
    tokens = BatchTokens(keys=keys, services=services)
    now = services.clock()
    within_seconds = (end_at - now).total_seconds()
    request = prepared(claim, keys=keys, tokens=tokens, within_seconds=within_seconds, now=now)
    return request if isinstance(request, Exchange) else services.client.send_all([request])[0]
