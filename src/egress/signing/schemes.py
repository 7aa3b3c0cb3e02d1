"""Signs a request as its destination's schemes ask, last of all: over the bytes and headers that are sent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from domain.headers import merged
from domain.outcomes import Headers
from domain.signing import (
    DetachedJws,
    MessageSignatures,
    Scheme,
    StandardWebhooks,
    TemplatedHmac,
    signing_keys,
    written_headers,
)
from egress.signing import detached_jws, message_signatures, standard_webhooks, templated_hmac
from egress.signing.message_signatures import digest_header
from egress.signing.unsigned import UnsignedRequest

# A scheme may cover what an earlier kind wrote. All of one kind write into the same headers, and the digest is there
# before them, so nothing that was signed changes afterwards.
_ORDER = (StandardWebhooks, TemplatedHmac, DetachedJws, MessageSignatures)


def signed_headers(request: UnsignedRequest, schemes: Sequence[Scheme], *, secrets: Mapping[str, bytes]) -> Headers:
    """The headers of `request` with those of all schemes.

    `secrets` are the keys by their `ref`. A header that a scheme writes is nobody else's: another value of it is left
    out. Raises NotSigned where the request lacks what a signature covers, KeyError where a key is missing, and
    ValueError where a key does not fit.
    """
    forms = [scheme.form for scheme in schemes]
    headers = _without(request.headers, (name for form in forms for name in written_headers(form)))
    headers = (*headers, *digest_header([form for form in forms if isinstance(form, MessageSignatures)], request.body))
    for scheme in sorted(schemes, key=lambda scheme: _ORDER.index(type(scheme.form))):
        headers = merged(headers, _written(scheme, replace(request, headers=headers), secrets))
    return headers


def _without(headers: Headers, names: Iterable[str]) -> Headers:
    left_out = frozenset(names)
    return tuple((name, value) for name, value in headers if name.lower() not in left_out)


def _written(scheme: Scheme, request: UnsignedRequest, secrets: Mapping[str, bytes]) -> Headers:
    keys = [(info, secrets[info.ref]) for info in signing_keys(scheme, now=request.at)]
    match scheme.form:
        case StandardWebhooks() as form:
            return standard_webhooks.headers_of(form, [key for _, key in keys], request)
        case TemplatedHmac() as form:
            return templated_hmac.headers_of(form, keys, request)
        case DetachedJws() as form:
            return detached_jws.headers_of(form, *keys[0], request)
        case MessageSignatures() as form:
            return message_signatures.headers_of(form, keys, request)
        case _:
            assert_never(scheme.form)
