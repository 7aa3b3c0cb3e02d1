"""Steps that insist on something and refuse the request without it."""

import hashlib
from base64 import b64decode
from binascii import Error as NoBase64

from local.partner.bank import same
from local.partner.calls import Call, Reply
from local.partner.signatures import SCHEMES, BadSignature, verify_template
from local.partner.visit import PartnerVisit, PathStep, refused

TEMPLATED = "hmac"  # beside SCHEMES, of which none has parameters


def _bearer(visit: PartnerVisit) -> Reply:
    scheme, _, token = visit.call.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and same(token, visit.bank.accepted.bearer):
        return visit.go_on()
    return _unauthorized(visit, "invalid_token", "the bearer token is missing or wrong", 'Bearer realm="demo"')


def _basic(visit: PartnerVisit) -> Reply:
    accepted = visit.bank.accepted
    if same(basic_credentials(visit.call) or "", f"{accepted.user}:{accepted.password}"):
        return visit.go_on()
    return _unauthorized(visit, "invalid_credentials", "user or password is missing or wrong", 'Basic realm="demo"')


def _header(visit: PartnerVisit) -> Reply:
    headers = visit.call.headers
    if all(same(headers.get(name.lower(), ""), value) for name, value in visit.bank.accepted.headers):
        return visit.go_on()
    names = ", ".join(name for name, _ in visit.bank.accepted.headers)
    return _unauthorized(visit, "invalid_key", f"{names} is missing or wrong", 'ApiKey realm="demo"')


def _oauth(visit: PartnerVisit) -> Reply:
    """RFC 6750; a token that is bound to a certificate counts only with it (RFC 8705)."""
    scheme, _, text = visit.call.headers.get("authorization", "").partition(" ")
    token = visit.bank.tokens.get(text) if scheme.lower() == "bearer" else None
    if token is None or token.expires_at <= visit.bank.clock():
        detail = "there is no token" if not text else "the token is unknown or has expired"
        return _unauthorized(visit, "invalid_token", detail, 'Bearer realm="demo", error="invalid_token"')
    if token.bound_to is not None and token.bound_to != thumbprint(visit.call):
        challenge = 'Bearer realm="demo", error="invalid_token"'
        return _unauthorized(visit, "invalid_token", "the token is bound to another certificate", challenge)
    return visit.go_on()


def _certificate(visit: PartnerVisit) -> Reply:
    """The listener has verified the chain already: without one there is no certificate here."""
    if visit.call.certificate is not None:
        return visit.go_on()
    visit.bank.count("refused")
    return refused(403, "no_certificate", "call the port for client certificates, and show one")


def _signed(visit: PartnerVisit) -> Reply:
    scheme = visit.left[0] if visit.left else ""
    if scheme not in SCHEMES and scheme != TEMPLATED:
        return refused(404, "no_such_scheme", f"try /signed/ and one of {', '.join((*SCHEMES, TEMPLATED))}")
    try:
        if scheme == TEMPLATED:
            verify_template(visit.call, visit.bank, visit.parameters)
        else:
            SCHEMES[scheme](visit.call, visit.bank)
    except BadSignature as error:
        return _unauthorized(visit, "invalid_signature", str(error))
    return visit.behind(1).go_on()


def _unauthorized(visit: PartnerVisit, code: str, detail: str, challenge: str | None = None) -> Reply:
    visit.bank.count("refused")
    return refused(401, code, detail, *([("WWW-Authenticate", challenge)] if challenge else []))


def basic_credentials(call: Call) -> str | None:
    """user:password of the Authorization header; None where there are none."""
    scheme, _, encoded = call.headers.get("authorization", "").partition(" ")
    try:
        return b64decode(encoded, validate=True).decode() if scheme.lower() == "basic" else None
    except (NoBase64, UnicodeDecodeError):
        return None


def thumbprint(call: Call) -> str | None:
    """SHA-256 of the caller's certificate; None without one."""
    return None if call.certificate is None else hashlib.sha256(call.certificate).hexdigest()


GATES: dict[str, PathStep] = {
    "bearer": _bearer,
    "basic": _basic,
    "header": _header,
    "oauth": _oauth,
    "certificate": _certificate,
    "signed": _signed,
}
