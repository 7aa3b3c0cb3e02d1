"""A detached JWS in a header (RFC 7515 appendix F), its payload encoded or not (RFC 7797)."""

import base64
import json
from collections.abc import Mapping

from domain.outcomes import Headers
from domain.signing import DetachedJws, KeyInfo
from domain.templates import filled
from egress.signing.faults import NotSigned
from egress.signing.keys import signed
from egress.signing.unsigned import UnsignedRequest


def headers_of(form: DetachedJws, info: KeyInfo, key: bytes, request: UnsignedRequest) -> Headers:
    """The header `<protected header>..<signature>`. Raises NotSigned where a header that it signs is missing."""
    protected = _base64url(json.dumps(_protected(form, info, request), separators=(",", ":")).encode())
    payload = filled(form.payload, {**request.template_values(), "headers": _lines(form, request)})
    signing_input = protected + b"." + (payload if form.unencoded else _base64url(payload))
    signature = _base64url(signed(key, signing_input, algorithm=form.algorithm))
    return ((form.header, (protected + b".." + signature).decode()),)


def _protected(form: DetachedJws, info: KeyInfo, request: UnsignedRequest) -> Mapping[str, object]:
    members: dict[str, object] = {"alg": form.algorithm.value, "kid": info.key_id}
    if form.unencoded:
        members["b64"] = False
    members |= {name: _member(value, request) for name, value in form.members.items()}
    critical = [*(["b64"] if form.unencoded else []), *form.critical]
    return {**members, "crit": critical} if critical else members


def _member(value: object, request: UnsignedRequest) -> object:
    if value == "{timestamp}":
        return request.unix_seconds  # RFC 7519 section 2: a NumericDate is a number
    return filled(value, request.template_values()).decode() if isinstance(value, str) else value


def _lines(form: DetachedJws, request: UnsignedRequest) -> bytes:
    return b"".join(f"{name}: {_value(name, request)}\n".encode("latin-1") for name in form.headers)


def _value(name: str, request: UnsignedRequest) -> str:
    value = request.value_of(name.lower())
    if value is None:
        raise NotSigned(f"the header {name}, which the signature covers, is not in the request")
    return value


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
