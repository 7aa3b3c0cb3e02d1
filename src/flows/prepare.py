"""Makes the request of a claim, or says why none can be sent."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from domain.deliveries import Claim
from domain.destinations import Destination, RepeatRule, Timeouts, repeat_rule
from domain.errors import SecretUnavailable, Unsealable
from domain.headers import merged
from domain.masks import secrets_in
from domain.outcomes import Exchange, Headers, Unknown, Unreachable
from domain.signing import Scheme
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
UNSIGNABLE = Unreachable(reason="the request could not be signed with the destination's keys; nothing was sent")


def seal_key(claims: Sequence[Claim], *, services: Services) -> SealKey | None:
    """The key for the secrets of this batch, fetched once; None where none is needed or it is not available.

    The claims' leases are running, so a slow answer must not be waited for once per claim.
    """
    if not any(_has_secrets(claim.destination) for claim in claims):
        return None
    return isolated(partial(_seal_key, services), otherwise=lambda _: None, step="seal key")


def prepared(claim: Claim, *, key: SealKey | None, within_seconds: float, now: datetime) -> OutboundRequest | Exchange:
    """The request to send; or the attempt's outcome where nothing may or can be sent.

    `within_seconds` is all the time that is left for it, whatever the destination's own deadline. `now` is the time of
    the attempt, which signatures carry.

    Nothing has been sent yet, so an error here never leaves the outcome unknown.
    """
    return isolated(
        partial(_prepared, claim, key=key, within_seconds=within_seconds, now=now),
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


def _has_secrets(destination: Destination) -> bool:
    return destination.sealed_credentials is not None or destination.sealed_signing is not None


def _prepared(claim: Claim, *, key: SealKey | None, within_seconds: float, now: datetime) -> OutboundRequest | Exchange:
    if claim.lapsed:
        return Exchange(outcome=LAPSED)
    if within_seconds <= 0:
        return Exchange(outcome=NO_TIME)
    try:
        credentials = _credentials(claim, key=key)
    except Unsealable:
        logger.exception("credentials could not be unsealed", delivery_id=str(claim.delivery_id))
        return Exchange(outcome=UNSEALABLE)
    request = OutboundRequest(
        method=claim.method,
        url=partner_url(claim.destination.base_url, path=claim.path, query=claim.query),
        headers=_headers(claim, credentials),
        body=claim.body,
        timeouts=_at_most(within_seconds, claim.destination.timeouts),
        may_repeat=repeat_rule_of(claim) is RepeatRule.ALWAYS,
        owner=claim.destination.destination_id.hex,
        secrets=secrets_in(credentials),
    )
    schemes = claim.destination.options.signing
    return request if schemes is None else _signed(request, claim, schemes, key=key, now=now)


def _signed(
    request: OutboundRequest, claim: Claim, schemes: Sequence[Scheme], *, key: SealKey | None, now: datetime
) -> OutboundRequest | Exchange:
    """The final request with its signatures: last of all, since they cover what is sent."""
    from egress.signing import NotSigned, UnsignedRequest, signed_headers
    from egress.signing.given import unseal_keys

    destination_id = claim.destination.destination_id
    unsigned = UnsignedRequest(
        method=request.method,
        url=request.url,
        headers=request.headers,
        body=request.body,
        message_id=claim.idempotency_key,
        at=now,
    )
    try:
        secrets = unseal_keys(
            claim.destination.sealed_signing, destination_id=destination_id, keys=[] if key is None else [key]
        )
        return replace(request, headers=signed_headers(unsigned, schemes, secrets=secrets))
    except NotSigned as error:
        return Exchange(outcome=Unreachable(reason=f"{error}; nothing was sent"))
    except (Unsealable, KeyError, ValueError):
        logger.exception("a request could not be signed", delivery_id=str(claim.delivery_id))
        return Exchange(outcome=UNSIGNABLE)


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
