"""An HMAC in a header of the partner's own, over what a template gives: GitHub's, Stripe's, Shopify's, Slack's."""

import base64
from collections.abc import Mapping, Sequence
from typing import assert_never

from domain.outcomes import Headers
from domain.signing import Encoding, KeyInfo, TemplatedHmac
from domain.templates import filled
from egress.signing.keys import mac
from egress.signing.unsigned import UnsignedRequest


def headers_of(form: TemplatedHmac, keys: Sequence[tuple[KeyInfo, bytes]], request: UnsignedRequest) -> Headers:
    """The header of the signature, and that of the timestamp where the partner wants one."""
    values = request.template_values(form.timestamp_format)
    content = filled(form.signed, values)
    entries = [{**values, **_of_key(form, info, mac(key, content, digest=form.algorithm))} for info, key in keys]
    value = filled(form.value, entries[0]) + b"".join(filled(form.repeat, entry) for entry in entries[1:])
    signature = (form.header, value.decode("latin-1"))
    if form.timestamp_header is None:
        return (signature,)
    return ((form.timestamp_header, request.timestamp(form.timestamp_format)), signature)


def _of_key(form: TemplatedHmac, info: KeyInfo, raw: bytes) -> Mapping[str, bytes]:
    return {"keyid": info.key_id.encode(), "signature": _written(form, raw)}


def _written(form: TemplatedHmac, raw: bytes) -> bytes:
    match form.encoding:
        case Encoding.HEX:
            return raw.hex().encode()
        case Encoding.BASE64:
            return base64.b64encode(raw)
        case Encoding.BASE64URL:
            return base64.urlsafe_b64encode(raw).rstrip(b"=")
        case _:
            assert_never(form.encoding)
