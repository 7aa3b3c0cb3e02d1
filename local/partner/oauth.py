"""The token endpoint: OAuth 2.0 client credentials (RFC 6749 section 4.4) with four ways to authenticate the client."""

from collections.abc import Callable
from urllib.parse import parse_qs, unquote_plus

from local.partner.bank import same
from local.partner.calls import Call, Reply
from local.partner.gates import basic_credentials, thumbprint
from local.partner.keys import JWS_ALGORITHMS, public_key
from local.partner.visit import PartnerVisit

METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth")
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_ASSERTION_SECONDS = 3600
_TOKEN_SECONDS_AT_MOST = 1_000_000


class InvalidClient(Exception):
    """Why the client is not the one that it says it is."""


def token(visit: PartnerVisit) -> Reply:
    """Issue a token. The segment behind this step names the only method that is allowed; any is without one.

    StepParameters: `expires_in` seconds (300); `type` instead of Bearer; `without` leaves that member out of the reply.
    """
    form = {name: values[-1] for name, values in parse_qs(visit.call.body.decode("utf-8", "replace")).items()}
    visit.bank.count("tokens_asked")
    if form.get("grant_type") != "client_credentials":
        return _refused(400, "unsupported_grant_type", "grant_type must be client_credentials")
    try:
        method = _method(visit.call, form)
        if visit.left and method != visit.left[0]:
            raise InvalidClient(f"authenticate by {visit.left[0]}")
        _AUTHENTICATIONS[method](visit, form)
    except InvalidClient as error:
        return _refused(401, "invalid_client", str(error), ("WWW-Authenticate", 'Basic realm="token"'))
    return _issued(visit, form)


def _issued(visit: PartnerVisit, form: dict[str, str]) -> Reply:
    seconds = visit.parameters.whole("expires_in", 300, at_most=_TOKEN_SECONDS_AT_MOST)
    content = {
        "access_token": visit.bank.issue(seconds=seconds, bound_to=thumbprint(visit.call)),
        "token_type": visit.parameters.text("type", "Bearer"),
        "expires_in": seconds,
        "scope": form.get("scope", "payments"),
    }
    content.pop(visit.parameters.text("without", ""), None)
    return Reply(status=200, content=content, headers=(("Cache-Control", "no-store"),))


def _method(call: Call, form: dict[str, str]) -> str:
    """Which of METHODS the client used. RFC 6749 section 2.3 allows no two of them."""
    used = {
        "client_secret_basic": "authorization" in call.headers,
        "client_secret_post": "client_secret" in form,
        "private_key_jwt": "client_assertion" in form,
    }
    named = [method for method, is_used in used.items() if is_used] or ["tls_client_auth"]
    if len(named) > 1:
        raise InvalidClient(f"{' and '.join(named)} were used together")
    return named[0]


def _by_basic(visit: PartnerVisit, form: dict[str, str]) -> None:  # noqa: ARG001 - one signature for all
    """Id and secret are form-encoded before they are joined (RFC 6749 section 2.3.1)."""
    identity, _, secret = (basic_credentials(visit.call) or "").partition(":")
    _by_secret(visit, unquote_plus(identity), unquote_plus(secret))


def _by_post(visit: PartnerVisit, form: dict[str, str]) -> None:
    _by_secret(visit, form.get("client_id", ""), form["client_secret"])


def _by_secret(visit: PartnerVisit, identity: str, secret: str) -> None:
    accepted = visit.bank.accepted
    if not (same(identity, accepted.client_id) and same(secret, accepted.client_secret)):
        raise InvalidClient("client_id or client_secret is wrong")


def _by_certificate(visit: PartnerVisit, form: dict[str, str]) -> None:
    """RFC 8705: the listener has verified the chain."""
    if visit.call.certificate is None:
        raise InvalidClient("there is no secret, no assertion and no client certificate")
    if form.get("client_id") != visit.bank.accepted.client_id:
        raise InvalidClient("client_id is wrong")


def _by_assertion(visit: PartnerVisit, form: dict[str, str]) -> None:
    """RFC 7523 section 3: issuer and subject are the client, the audience is this endpoint, used once and not for
    long."""
    if form.get("client_assertion_type") != JWT_BEARER:
        raise InvalidClient(f"client_assertion_type must be {JWT_BEARER}")
    claims = _claims(visit, form["client_assertion"])
    client, now = visit.bank.accepted.client_id, visit.bank.clock()
    audience = claims.get("aud")
    if (claims.get("iss"), claims.get("sub")) != (client, client):
        raise InvalidClient("iss and sub must both be the client_id")
    if _endpoint(visit.call) not in (audience if isinstance(audience, list) else [audience]):
        raise InvalidClient(f"aud must be {_endpoint(visit.call)}")
    expires = claims.get("exp")
    if not isinstance(expires, int | float) or not now < expires <= now + _LONGEST_ASSERTION_SECONDS:
        raise InvalidClient("exp must be in the coming hour")
    if visit.bank.assertions.update(str(claims.get("jti", "")), lambda before: (before or 0) + 1) > 1:
        raise InvalidClient("jti came before")


def _claims(visit: PartnerVisit, assertion: str) -> dict[str, object]:
    from joserfc import errors, jws, jwt

    try:
        key_id = str(jws.extract_compact(assertion.encode()).headers().get("kid", ""))
        keys = dict(visit.bank.accepted.public_keys)
        if key_id not in keys:
            raise InvalidClient("kid is not a known key's")
        return jwt.decode(assertion, public_key(keys[key_id]), algorithms=JWS_ALGORITHMS).claims
    except (errors.JoseError, ValueError) as error:
        raise InvalidClient(f"the assertion is no good: {type(error).__name__}") from error


def _endpoint(call: Call) -> str:
    return call.url.partition("?")[0]


def _refused(status: int, error: str, description: str, *headers: tuple[str, str]) -> Reply:
    """RFC 6749 section 5.2."""
    return Reply(status=status, content={"error": error, "error_description": description}, headers=headers)


_AUTHENTICATIONS: dict[str, Callable[[PartnerVisit, dict[str, str]], None]] = dict(
    zip(METHODS, (_by_basic, _by_post, _by_assertion, _by_certificate), strict=True)
)
