"""The key of a scheme: as a client gives it, as it is made where none is given, and sealed with the others."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import field

from domain.ids import DestinationId
from domain.signing import (
    Form,
    KeyKind,
    SecretEncoding,
    StandardWebhooks,
    TemplatedHmac,
    WebhookVersion,
    algorithm_of,
    key_kind,
)
from domain.values import value_class
from egress.sealing import SealKey, seal, unseal
from egress.signing.keys import (
    Key,
    KeyRefused,
    new_private_key,
    new_shared_secret,
    new_webhook_private_key,
    new_webhook_secret,
    private_key,
    shared_secret,
    webhook_private_key,
    webhook_secret,
)

PURPOSE = "signing"


@value_class(frozen=True, slots=True, kw_only=True)
class GivenKey:
    """What a client says of a key; None for what it does not say. `private_key` is PEM."""

    secret: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)


def read_key(form: Form, given: GivenKey) -> Key | None:
    """The key that a client gives for a scheme of that form; None where it gives none. Raises KeyRefused."""
    takes_pem = not isinstance(form, StandardWebhooks) and key_kind(form) is not KeyKind.SECRET
    surplus = {"secret": given.secret} if takes_pem else {"private_key": given.private_key}
    if given.private_key is None:
        surplus |= {"passphrase": given.passphrase}
    for member, value in surplus.items():
        if value is not None:
            wanted = "private_key" if takes_pem else "secret"
            raise KeyRefused(member, f"must be left out: with {algorithm_of(form)} the key is '{wanted}'")
    if given.private_key is not None:
        return private_key(given.private_key, passphrase=given.passphrase, kind=key_kind(form))
    return None if given.secret is None else _read_secret(form, given.secret)


def make_key(form: Form) -> Key:
    """A new key for a scheme of that form."""
    if isinstance(form, StandardWebhooks):
        return new_webhook_secret() if form.version is WebhookVersion.V1 else new_webhook_private_key()
    kind = key_kind(form)
    return new_shared_secret(_encoding(form)) if kind is KeyKind.SECRET else new_private_key(kind)


def seal_keys(secrets: Mapping[str, bytes], *, destination_id: DestinationId, key: SealKey) -> bytes:
    """The secret keys of all schemes of a destination, by their `ref`, encrypted for its row."""
    plain = json.dumps({ref: base64.b64encode(secret).decode() for ref, secret in secrets.items()})
    return seal(plain.encode(), purpose=PURPOSE, destination_id=destination_id, key=key)


def unseal_keys(sealed: bytes | None, *, destination_id: DestinationId, keys: Sequence[SealKey]) -> dict[str, bytes]:
    """What `seal_keys` was given. Raises Unsealable."""
    if sealed is None:
        return {}
    plain = json.loads(unseal(sealed, purpose=PURPOSE, destination_id=destination_id, keys=keys))
    return {ref: base64.b64decode(secret) for ref, secret in plain.items()}


def _read_secret(form: Form, text: str) -> Key:
    if isinstance(form, StandardWebhooks):
        return webhook_secret(text) if form.version is WebhookVersion.V1 else webhook_private_key(text)
    return shared_secret(text, encoding=_encoding(form))


def _encoding(form: Form) -> SecretEncoding:
    """RFC 9421 says nothing of a shared secret's form; its appendix B.1.5 has it in base64."""
    return form.secret_encoding if isinstance(form, TemplatedHmac) else SecretEncoding.BASE64
