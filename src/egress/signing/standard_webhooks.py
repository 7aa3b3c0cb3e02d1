"""Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature` (standardwebhooks.com, version 1.0)."""

import base64
from collections.abc import Sequence

from domain.outcomes import Headers
from domain.signing import StandardWebhooks, WebhookVersion
from egress.signing.keys import mac, signed
from egress.signing.unsigned import UnsignedRequest


def headers_of(form: StandardWebhooks, keys: Sequence[bytes], request: UnsignedRequest) -> Headers:
    """The three headers, with one signature per key."""
    content = b".".join((request.message_id.encode(), str(request.unix_seconds).encode(), request.body))
    entries = " ".join(f"{form.version.value},{_signature(form.version, key, content)}" for key in keys)
    earlier = request.value_of("webhook-signature")  # of another scheme of this kind, which signs the same content
    return (
        ("webhook-id", request.message_id),
        ("webhook-timestamp", str(request.unix_seconds)),
        ("webhook-signature", entries if earlier is None else f"{earlier} {entries}"),
    )


def _signature(version: WebhookVersion, key: bytes, content: bytes) -> str:
    is_mac = version is WebhookVersion.V1
    raw = mac(key, content, digest="sha256") if is_mac else signed(key, content, algorithm="ed25519")
    return base64.b64encode(raw).decode()
