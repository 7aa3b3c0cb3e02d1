"""Access tokens by OAuth 2.0 client credentials (RFC 6749 section 4.4): asked for, and read out of the answer."""

import base64
import math
import re
from dataclasses import field
from datetime import datetime
from http import HTTPStatus
from typing import Any, assert_never
from urllib.parse import quote_plus, urlencode

import msgspec

from domain.auth import ClientAuthentication, OAuth2Auth
from domain.destinations import Timeouts
from domain.masks import masked_text
from domain.outcomes import Answered, Exchange, Headers, Refused
from domain.values import value_class
from egress.assertions import assertion
from egress.request import OutboundRequest
from egress.tls import RequestTls

TIMEOUTS = Timeouts(connect_seconds=3, first_byte_seconds=5, total_seconds=5)
# A token becomes a header, and few servers take longer ones than this.
MOST_TOKEN_CHARACTERS = 16_384
MOST_ANSWER_BYTES = 65_536
# Where the server does not say how long a token lasts (RFC 6749 section 5.1 only recommends that it does).
ASSUMED_SECONDS = 300
MOST_SECONDS = 86_400 * 30
_LONGEST_DETAIL = 200
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 section 2.2
_TOKEN = re.compile(r"[!-~]+(?: [!-~]+)*")  # VSCHAR (RFC 6749 appendix A.12), without blanks at an end
_ERROR_TEXT = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 5.2


@value_class(frozen=True, slots=True, kw_only=True)
class FetchedToken:
    """A token, and how long it lasts from when it was asked for."""

    access_token: str = field(repr=False)
    lasts_seconds: float


@value_class(frozen=True, slots=True, kw_only=True)
class NoToken:
    """Why the token endpoint gave no token. The text repeats no secret."""

    reason: str


def token_request(
    auth: OAuth2Auth, *, owner: str, tls: RequestTls | None, assertion_id: str, now: datetime
) -> OutboundRequest:
    """The request for a token. `assertion_id` is never used twice. Raises ValueError where the key does not fit."""
    client = auth.client
    asked = {"grant_type": "client_credentials", "scope": client.scope, "audience": client.audience}
    form = {name: value for name, value in asked.items() if value is not None} | dict(client.parameters)
    headers, proof = _proof(auth, assertion_id=assertion_id, now=now)
    return OutboundRequest(
        method="POST",
        url=client.token_url,
        headers=(
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept", "application/json"),
            *headers,
        ),
        body=urlencode(form | proof).encode(),
        timeouts=TIMEOUTS,
        owner=owner,
        tls=tls,
        secrets=_secrets(auth, headers, proof),
    )


def token_of(exchange: Exchange, *, secrets: tuple[str, ...]) -> FetchedToken | NoToken:
    """What an answer of the token endpoint means (RFC 6749 section 5). Whatever it is, this returns a value."""
    outcome = exchange.outcome
    if not isinstance(outcome, Answered):
        refused = "may not be called" if isinstance(outcome, Refused) else "gave no answer"
        return NoToken(reason=f"the token endpoint {refused}: {outcome.reason}")
    if outcome.capped or len(outcome.body) > MOST_ANSWER_BYTES:
        return NoToken(reason=f"the token endpoint answered with more than {MOST_ANSWER_BYTES:,} bytes")
    members = _members(outcome.body)
    if outcome.status != HTTPStatus.OK:
        return NoToken(reason=f"the token endpoint answered with status {outcome.status}{_error(members, secrets)}")
    return _token(members)


def _proof(auth: OAuth2Auth, *, assertion_id: str, now: datetime) -> tuple[Headers, dict[str, str]]:
    """What authenticates the client: headers, and parameters of the form."""
    client = auth.client
    match client.client_authentication:
        case ClientAuthentication.CLIENT_SECRET_BASIC:  # RFC 6749 section 2.3.1: both are form-encoded first
            pair = f"{quote_plus(client.client_id)}:{quote_plus(auth.secret)}".encode()
            return (("Authorization", f"Basic {base64.b64encode(pair).decode()}"),), {}
        case ClientAuthentication.CLIENT_SECRET_POST:
            return (), {"client_id": client.client_id, "client_secret": auth.secret}
        case ClientAuthentication.PRIVATE_KEY_JWT:
            signed = assertion(client, auth.secret, assertion_id=assertion_id, now=now)
            proof = {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": signed}
            return (), {"client_id": client.client_id, **proof}
        case ClientAuthentication.TLS_CLIENT_AUTH:  # RFC 8705 section 2
            return (), {"client_id": client.client_id}
        case _:
            assert_never(client.client_authentication)


def _secrets(auth: OAuth2Auth, headers: Headers, proof: dict[str, str]) -> tuple[str, ...]:
    sent = [value.partition(" ")[2] for _, value in headers] + [proof.get("client_assertion", ""), auth.secret]
    return tuple(secret for secret in sent if secret)


def _members(body: bytes) -> dict[str, Any]:
    """The members of a JSON object; none of anything else."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _error(members: dict[str, Any], secrets: tuple[str, ...]) -> str:
    """The error in the server's words, where it has the form of RFC 6749 section 5.2; "" where it has not."""
    texts = [members.get("error"), members.get("error_description")]
    said = [text[:_LONGEST_DETAIL] for text in texts if isinstance(text, str) and _ERROR_TEXT.fullmatch(text)]
    return "".join(f": {masked_text(text, secrets)}" for text in said)


def _token(members: dict[str, Any]) -> FetchedToken | NoToken:
    token, kind, seconds = members.get("access_token"), members.get("token_type"), _seconds(members.get("expires_in"))
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or len(token) > MOST_TOKEN_CHARACTERS:
        return NoToken(reason="the token endpoint answered without an access_token that can be used")
    if kind is not None and str(kind).lower() != "bearer":
        return NoToken(reason="the token endpoint answered with a token of another type than Bearer")
    if seconds is None:
        return NoToken(reason="the token endpoint answered with an expires_in that is not a number of seconds to come")
    return FetchedToken(access_token=token, lasts_seconds=seconds)


def _seconds(expires_in: Any) -> float | None:
    """Some servers write the number as a text. None where it is none, or not to come."""
    if expires_in is None:
        return ASSUMED_SECONDS
    try:
        seconds = float(expires_in) if isinstance(expires_in, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return min(seconds, MOST_SECONDS) if seconds > 0 else None
