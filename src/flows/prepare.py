"""Makes the request of a claim, or says why none can be sent."""

from collections.abc import Sequence
from functools import partial

from domain.deliveries import Claim
from domain.destinations import RepeatRule, Timeouts, repeat_rule
from domain.errors import SecretUnavailable, Unsealable
from domain.headers import merged
from domain.masks import secrets_in
from domain.outcomes import Exchange, Headers, Unknown, Unreachable
from domain.targets import partner_url
from egress.client import OutboundRequest
from egress.credentials import auth_headers, unseal_auth
from egress.sealing import SealKey
from flows.services import Services
from runtime.isolation import isolated
from runtime.observability import logger
from runtime.settings import SettingsError

LAPSED = Unknown(reason="the worker that was to send it stopped before it recorded an outcome")
NO_TIME = Unreachable(reason="there was no time left to send it; nothing was sent")
UNSEALABLE = Unreachable(reason="the destination's credentials could not be unsealed; nothing was sent")


def seal_key(claims: Sequence[Claim], *, services: Services) -> SealKey | None:
    """The key for the credentials of this batch, fetched once; None where none is needed or it is not available.

    The claims' leases are running, so a slow answer must not be waited for once per claim.
    """
    if all(claim.destination.sealed_credentials is None for claim in claims):
        return None
    return isolated(partial(_seal_key, services), otherwise=lambda _: None, step="seal key")


def prepared(claim: Claim, *, key: SealKey | None, within_seconds: float) -> OutboundRequest | Exchange:
    """The request to send; or the attempt's outcome where nothing may or can be sent.

    `within_seconds` is all the time that is left for it, whatever the destination's own deadline.

    Nothing has been sent yet, so an error here never leaves the outcome unknown.
    """
    return isolated(
        partial(_prepared, claim, key=key, within_seconds=within_seconds),
        otherwise=_unprepared,
        step="prepare",
        delivery_id=claim.delivery_id,
    )


def repeat_rule_of(claim: Claim) -> RepeatRule:
    """After which attempts the request of `claim` may be sent again."""
    destination = claim.destination
    return repeat_rule(guarantee=destination.guarantee, idempotent=destination.idempotent, method=claim.method)


def _seal_key(services: Services) -> SealKey | None:
    try:
        return services.seal_key
    except (SecretUnavailable, SettingsError):
        logger.exception("the seal key is not available")
        return None


def _unprepared(error: Exception) -> Exchange:
    reason = f"a fault of the gateway itself ({type(error).__name__}); nothing was sent"
    return Exchange(outcome=Unreachable(reason=reason))


def _prepared(claim: Claim, *, key: SealKey | None, within_seconds: float) -> OutboundRequest | Exchange:
    if claim.lapsed:
        return Exchange(outcome=LAPSED)
    if within_seconds <= 0:
        return Exchange(outcome=NO_TIME)
    try:
        credentials = _credentials(claim, key=key)
    except Unsealable:
        logger.exception("credentials could not be unsealed", delivery_id=str(claim.delivery_id))
        return Exchange(outcome=UNSEALABLE)
    return OutboundRequest(
        method=claim.method,
        url=partner_url(claim.destination.base_url, path=claim.path, query=claim.query),
        headers=_headers(claim, credentials),
        body=claim.body,
        timeouts=_at_most(within_seconds, claim.destination.timeouts),
        may_repeat=repeat_rule_of(claim) is RepeatRule.ALWAYS,
        owner=claim.destination.destination_id.hex,
        secrets=secrets_in(credentials),
    )


def _at_most(seconds: float, timeouts: Timeouts) -> Timeouts:
    if seconds >= max(timeouts.connect_seconds, timeouts.first_byte_seconds, timeouts.total_seconds):
        return timeouts
    return Timeouts(
        connect_seconds=min(seconds, timeouts.connect_seconds),
        first_byte_seconds=min(seconds, timeouts.first_byte_seconds),
        total_seconds=min(seconds, timeouts.total_seconds),
    )


def _headers(claim: Claim, credentials: Headers) -> Headers:
    """The caller's headers, the key that is the same on every attempt, and the destination's credentials."""
    keyed = [(claim.destination.idempotency_header, claim.idempotency_key)]
    return merged(claim.headers, keyed, credentials)


def _credentials(claim: Claim, *, key: SealKey | None) -> Headers:
    destination = claim.destination
    if destination.sealed_credentials is None:
        return ()
    if key is None:
        raise Unsealable("the seal key is not available")
    auth = unseal_auth(
        destination.sealed_credentials,
        auth_type=destination.auth_type,
        destination_id=destination.destination_id,
        keys=[key],
    )
    return auth_headers(auth)
