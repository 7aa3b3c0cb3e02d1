"""Verify a destination: one harmless request by the way that deliveries take. Nothing is stored."""

from dataclasses import dataclass
from datetime import datetime

from domain.deliveries import PASS_THROUGH_ATTEMPTS, Claim
from domain.destinations import ManagedDestination
from domain.errors import TooSoon
from domain.ids import DeliveryId, LeaseId, TenantId
from domain.outcomes import Answered, Exchange
from domain.probe import PROBE_METHOD, PROBE_METHOD_WITH_PATH, ProbeResult, probe_result
from flows.destinations import find
from flows.prepare import BatchTokens, prepared, seal_key
from flows.services import Services
from runtime.observability import logger

WITHIN_SECONDS = 25.0
APART_SECONDS = 5.0  # of one destination in one process


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What became of the request. `status` is None without an answer, `reason` with one."""

    method: str
    path: str
    result: ProbeResult
    status: int | None
    reason: str | None
    remote_address: str | None
    egress_address: str | None
    total_ms: float
    verified_at: datetime


def verify(reference: str, *, tenant_id: TenantId, services: Services) -> Verified:
    """Sends the request now, whatever the destination's state. Raises NotFound, and TooSoon a moment after another."""
    destination = find(reference, tenant_id=tenant_id, services=services)
    now = services.clock()
    left = services.probes.seconds_left(destination.destination_id, now=now, apart_seconds=APART_SECONDS)
    if left > 0:
        raise TooSoon(retry_after_seconds=left)
    claim = _claim(destination, now=now, services=services)
    exchange = _sent(claim, now=now, services=services)
    outcome = exchange.outcome
    result = probe_result(exchange)
    logger.info("destination verified", destination_id=str(destination.destination_id), result=result.value)
    return Verified(
        method=claim.method,
        path=claim.path,
        result=result,
        status=outcome.status if isinstance(outcome, Answered) else None,
        reason=None if isinstance(outcome, Answered) else outcome.reason,
        remote_address=exchange.remote_address,
        egress_address=services.address_towards(exchange.remote_address),
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
    )


def _sent(claim: Claim, *, now: datetime, services: Services) -> Exchange:
    key = seal_key([claim], services=services)
    tokens = BatchTokens(key=key, services=services)
    request = prepared(claim, key=key, tokens=tokens, within_seconds=WITHIN_SECONDS, now=now)
    return request if isinstance(request, Exchange) else services.client.send_all([request])[0]
