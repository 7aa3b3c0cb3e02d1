"""Makes the request of a claim, or says why none can be sent."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from domain.auth import Auth, AuthType, AwsSigV4Auth, OAuth2Auth
from domain.certificates import TlsOptions
from domain.deliveries import Claim
from domain.destinations import Destination, Guarantee, RepeatRule, Timeouts, repeat_rule
from domain.errors import SecretUnavailable, Unsealable
from domain.headers import merged
from domain.masks import secrets_in
from domain.outcomes import Exchange, FailedStep, Headers, Refused, Unknown, Unreachable
from domain.questions import Unaskable, asked_request
from domain.reconcile import OpenQuestion
from domain.signing import Scheme
from domain.targets import partner_url
from egress.client import OutboundRequest, PendingRequest
from egress.credentials import auth_headers, unseal_auth, unseal_certificate
from egress.seal_keys import SealKeyRing
from egress.sealing import SealKey
from egress.tls import RequestTls
from flows.services import Services
from runtime.isolation import isolated, unless_it_raises
from runtime.metrics import Metric
from runtime.observability import count, logger
from runtime.settings import SettingsError

if TYPE_CHECKING:
    from flows.oauth import AccessTokens, Complete

# Of the signature, and no caller's.
_OF_AWS = frozenset({"x-amz-date", "x-amz-content-sha256", "x-amz-security-token"})
LAPSED = Unknown(reason="the worker that was to send it stopped before it recorded an outcome")
NO_TIME = Unreachable(reason="there was no time left to send it; nothing was sent")
GIVEN_UP = Unreachable(reason="its destination gives up by now (retry.give_up_after); nothing was sent")
UNSEALABLE = Unreachable(
    reason="the destination's credentials could not be unsealed; nothing was sent", at=FailedStep.CREDENTIALS
)
UNSIGNABLE = Unreachable(
    reason="the request could not be signed with the destination's keys; nothing was sent", at=FailedStep.CREDENTIALS
)
NO_QUESTION = Refused(reason="its destination does not say any more how to ask; nothing was sent")


class BatchTokens:
    """The access tokens of one batch. What fetches them is loaded for the first destination that needs one: most
    batches have none, and a cold start would wait for it."""

    def __init__(self, *, keys: SealKeyRing | None, services: Services) -> None:
        self._keys = keys
        self._services = services
        self._tokens: AccessTokens | None = None

    def request(
        self, claim: Claim, auth: OAuth2Auth, *, draft: OutboundRequest, complete: "Complete"
    ) -> OutboundRequest | PendingRequest | Unreachable:
        """As flows.oauth.AccessTokens.request."""
        from flows.oauth import AccessTokens

        self._tokens = self._tokens or AccessTokens(keys=self._keys, services=self._services)
        return self._tokens.request(claim, auth, draft=draft, complete=complete)


def seal_keys(claims: Sequence[Claim], *, services: Services) -> SealKeyRing | None:
    """The keys for the secrets of this batch, fetched once; None where none is needed or they are not available.

    The claims' leases are running, so a slow answer must not be waited for once per claim.
    """
    if not any(_has_secrets(claim.destination) for claim in claims):
        return None
    return isolated(partial(_seal_keys, services), otherwise=lambda _: None, step="seal key")


def prepared(
    claim: Claim, *, keys: SealKeyRing | None, tokens: BatchTokens, within_seconds: float, now: datetime
) -> OutboundRequest | PendingRequest | Exchange:
    """The request to send, perhaps once its access token is there; or the attempt's outcome where nothing may or can
    be sent.

    `within_seconds` is all the time that is left for it, whatever the destination's own deadline. `now` is the time of
    the attempt, which signatures carry.

    Nothing has been sent yet, so an error here never leaves the outcome unknown.
    """
    return unless_it_raises(_prepared, claim, keys, tokens, within_seconds, now) or isolated(
        partial(_prepared, claim, keys, tokens, within_seconds, now),
        otherwise=_unprepared,
        step="prepare",
        delivery_id=claim.delivery_id,
    )


def repeat_rule_of(claim: Claim) -> RepeatRule:
    """After which attempts the request of `claim` may be sent again. A question may always be."""
    if claim.question is not None:
        return RepeatRule.ALWAYS
    return _repeat_rule(claim.destination.guarantee, claim.destination.idempotent, claim.method)


@lru_cache(maxsize=100)
def _repeat_rule(guarantee: Guarantee, idempotent: bool, method: str) -> RepeatRule:
    return repeat_rule(guarantee=guarantee, idempotent=idempotent, method=method)


def _seal_keys(services: Services) -> SealKeyRing | None:
    try:
        return services.seal_keys.ready()
    except (SecretUnavailable, SettingsError):
        logger.exception("the seal key is not available")
        return None


def _unprepared(error: Exception) -> Exchange:
    reason = f"a fault of the gateway itself ({type(error).__name__}); nothing was sent"
    return Exchange(outcome=Unreachable(reason=reason))


def _has_secrets(destination: Destination) -> bool:
    return not (
        destination.sealed_credentials is None
        and destination.sealed_certificate is None
        and destination.sealed_signing is None
    )


def _prepared(
    claim: Claim, keys: SealKeyRing | None, tokens: BatchTokens, within_seconds: float, now: datetime
) -> OutboundRequest | PendingRequest | Exchange:
    if claim.lapsed:
        return Exchange(outcome=LAPSED)
    if within_seconds <= 0:
        return Exchange(outcome=NO_TIME)
    if claim.question is None and claim.give_up_at is not None and now > claim.give_up_at:
        return Exchange(outcome=GIVEN_UP)
    asked = claim if claim.question is None else _asking(claim, claim.question)
    if isinstance(asked, Refused):
        return Exchange(outcome=asked)
    try:
        request = _with_credentials(asked, keys=keys, tokens=tokens, within_seconds=within_seconds, now=now)
    except Unsealable:
        logger.exception("credentials could not be unsealed", delivery_id=str(claim.delivery_id))
        return Exchange(outcome=UNSEALABLE)
    return Exchange(outcome=request) if isinstance(request, Unreachable) else request


def _asking(claim: Claim, question: OpenQuestion) -> Claim | Refused:
    """The question as a request to the same destination; or why there is none."""
    reconcile = claim.destination.options.reconcile
    if reconcile is None:
        return NO_QUESTION
    try:
        asked = asked_request(reconcile, question)
    except Unaskable as error:
        return Refused(reason=f"the question cannot be made: {error}; nothing was sent")
    return replace(claim, method=asked.method, path=asked.path, query=asked.query, headers=asked.headers, body=b"")


def _with_credentials(
    claim: Claim, *, keys: SealKeyRing | None, tokens: BatchTokens, within_seconds: float, now: datetime
) -> OutboundRequest | PendingRequest | Unreachable:
    """Raises Unsealable."""
    if _is_plain(claim.destination):
        return _unsigned(claim, (), tls=None, within_seconds=within_seconds)
    auth = _auth(claim.destination, keys=keys)
    tls = _tls(claim.destination, keys=keys)
    _count_days_left(claim.destination, now=now)
    unsigned = partial(_unsigned, claim, tls=tls, within_seconds=within_seconds)

    def complete(credentials: Headers) -> OutboundRequest | Unreachable:
        request, schemes = unsigned(credentials), claim.destination.options.signing
        signed = request if schemes is None else _signed(request, claim, schemes, keys=keys, now=now)
        return _signed_for_aws(signed, auth, now=now) if isinstance(auth, AwsSigV4Auth) else signed

    if isinstance(auth, OAuth2Auth):
        return tokens.request(claim, auth, draft=unsigned(()), complete=complete)
    return complete(auth_headers(auth))


def _is_plain(destination: Destination) -> bool:
    """Whether its requests are sent as they are: without credentials, signatures and TLS of its own."""
    options = destination.options
    return (
        destination.auth_type is AuthType.NONE
        and not _has_secrets(destination)
        and options.signing is None
        and options.tls is None
    )


def _unsigned(claim: Claim, credentials: Headers, *, tls: RequestTls | None, within_seconds: float) -> OutboundRequest:
    return OutboundRequest(
        method=claim.method,
        url=partner_url(claim.destination.base_url, path=claim.path, query=claim.query),
        headers=_headers(claim, credentials),
        body=claim.body,
        timeouts=_at_most(within_seconds, claim.destination.timeouts),
        may_repeat=repeat_rule_of(claim) is RepeatRule.ALWAYS and not claim.is_probe,
        owner=_owner(claim.destination),
        tls=tls,
        secrets=secrets_in(credentials),
    )


def _owner(destination: Destination) -> str:
    """Whose open connections its requests may use: those that were made for it, with the TLS that it has now."""
    if destination.sealed_certificate is None and destination.options.tls is None:
        return destination.destination_id.hex
    made_with = repr((destination.sealed_certificate, destination.options.tls)).encode()
    return f"{destination.destination_id.hex} {hashlib.sha256(made_with).hexdigest()}"


def _count_days_left(destination: Destination, *, now: datetime) -> None:
    """Of the client certificate, where there is one: whole days, less than none once it has expired."""
    if destination.options.certificate is not None:
        count(Metric.CERTIFICATE_DAYS_LEFT, (destination.options.certificate.not_after - now).days)


def _tls(destination: Destination, *, keys: SealKeyRing | None) -> RequestTls | None:
    """Raises Unsealable."""
    if destination.sealed_certificate is None and destination.options.tls is None:
        return None
    return RequestTls(
        options=destination.options.tls or TlsOptions(),
        certificate=unseal_certificate(destination, keys=_available(destination.sealed_certificate, keys)),
    )


def _signed(
    request: OutboundRequest, claim: Claim, schemes: Sequence[Scheme], *, keys: SealKeyRing | None, now: datetime
) -> OutboundRequest | Unreachable:
    """The final request with its signatures: last of all, since they cover what is sent."""
    from egress.signing.faults import NotSigned
    from egress.signing.given import unseal_keys
    from egress.signing.schemes import signed_headers
    from egress.signing.unsigned import UnsignedRequest

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
        sealed = claim.destination.sealed_signing
        secrets = unseal_keys(sealed, destination_id=destination_id, keys=_available(sealed, keys))
        return replace(request, headers=signed_headers(unsigned, schemes, secrets=secrets))
    except NotSigned as error:
        return Unreachable(reason=f"{error}; nothing was sent", at=FailedStep.CREDENTIALS)
    except (Unsealable, KeyError, ValueError):
        logger.exception("a request could not be signed", delivery_id=str(claim.delivery_id))
        return UNSIGNABLE


def _signed_for_aws(
    request: OutboundRequest | Unreachable, auth: AwsSigV4Auth, *, now: datetime
) -> OutboundRequest | Unreachable:
    """Very last: it covers the other signatures too."""
    if isinstance(request, Unreachable):
        return request
    from egress import aws_signature

    headers = aws_signature.signed_headers(
        request.headers, auth=auth, method=request.method, url=request.url, body=request.body, at=now
    )
    return replace(request, headers=headers)


def _at_most(seconds: float, timeouts: Timeouts) -> Timeouts:
    if seconds >= max(timeouts.connect_seconds, timeouts.first_byte_seconds, timeouts.total_seconds):
        return timeouts
    return Timeouts(
        connect_seconds=min(seconds, timeouts.connect_seconds),
        first_byte_seconds=min(seconds, timeouts.first_byte_seconds),
        total_seconds=min(seconds, timeouts.total_seconds),
    )


def _headers(claim: Claim, credentials: Headers) -> Headers:
    """The caller's headers, the key that is the same on every attempt to send, and the destination's credentials."""
    is_keyed = not claim.is_probe and claim.question is None
    keyed = ((claim.destination.idempotency_header, claim.idempotency_key),) if is_keyed else ()
    given = claim.headers
    if claim.destination.auth_type is AuthType.AWS_SIGV4:
        given = tuple((name, value) for name, value in given if name.lower() not in _OF_AWS)
    return merged(given, keyed, credentials)


def _auth(destination: Destination, *, keys: SealKeyRing | None) -> Auth:
    """Raises Unsealable."""
    return unseal_auth(destination, keys=_available(destination.sealed_credentials, keys))


def _available(sealed: bytes | None, keys: SealKeyRing | None) -> list[SealKey]:
    """The key, where one is needed. Raises Unsealable where it is not available then."""
    if sealed is None:
        return []
    if keys is None:
        raise Unsealable("the seal key is not available")
    return keys.opening(sealed)
