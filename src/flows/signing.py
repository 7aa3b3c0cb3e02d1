"""The schemes that a destination signs with: with new keys, with those that it has, and with a key that is rotated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime

from domain.destinations import ManagedDestination
from domain.errors import Unsealable
from domain.ids import DestinationId
from domain.signing import Form, KeyInfo, Scheme, key_kind, scheme, unexpired
from domain.values import value_class
from egress.signing.given import make_key, seal_keys, unseal_keys
from egress.signing.keys import Key
from flows.services import Services


@value_class(frozen=True, slots=True, kw_only=True)
class WantedScheme:
    """A scheme that a caller asks for. Without `key` it keeps the keys that it has, or gets a new one."""

    name: str
    form: Form
    key: Key | None = field(default=None, repr=False)
    key_id: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class SchemesWithKeys:
    """Schemes, their secret keys by `ref`, and the texts of those shared secrets that were made just now, by the name
    of their scheme: the caller has to be told them, once."""

    schemes: tuple[Scheme, ...] = ()
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)


NO_SCHEMES = SchemesWithKeys()


def schemes_with_keys(
    wanted: Sequence[WantedScheme], *, stored: SchemesWithKeys, now: datetime, services: Services
) -> SchemesWithKeys:
    """The schemes of a destination whose present ones are `stored`.

    A scheme is known by its name. It keeps its keys where it is still of the same form and kind of key, and none is
    given; a key that is given takes their place at once. Keys whose overlap is over are left out.
    """
    known = {one.name: unexpired(one, now=now) for one in stored.schemes}
    parts = [_with_keys(one, known.get(one.name), stored, now=now, services=services) for one in wanted]
    return SchemesWithKeys(
        schemes=tuple(one for part in parts for one in part.schemes),
        secrets={ref: secret for part in parts for ref, secret in part.secrets.items()},
        texts={name: text for part in parts for name, text in part.texts.items()},
    )


def stored_schemes(destination: ManagedDestination, *, services: Services) -> SchemesWithKeys:
    """The schemes of a destination with their secret keys. Raises SecretUnavailable, and Unsealable."""
    if destination.sealed_signing is None:
        return NO_SCHEMES
    secrets = unseal_keys(
        destination.sealed_signing,
        destination_id=destination.destination_id,
        keys=services.seal_keys.opening(destination.sealed_signing),
    )
    return SchemesWithKeys(schemes=destination.options.signing or (), secrets=secrets)


def in_use(schemes: Iterable[Scheme], secrets: Mapping[str, bytes]) -> SchemesWithKeys:
    """The schemes with those secret keys alone that are one of their keys'."""
    every = tuple(schemes)
    refs = [key.ref for one in every for key in one.keys]
    return SchemesWithKeys(schemes=every, secrets={ref: secrets[ref] for ref in refs})


def without_expired_keys(destination: ManagedDestination, *, services: Services) -> ManagedDestination:
    """The destination without keys whose overlap is over; as it is where there are none, and where its keys cannot be
    opened any more. Raises SecretUnavailable."""
    now = services.clock()
    schemes = destination.options.signing or ()
    left = tuple(unexpired(one, now=now) for one in schemes)
    if left == schemes:
        return destination
    try:
        signing = in_use(left, stored_schemes(destination, services=services).secrets)
    except Unsealable:
        return destination
    return replace(
        destination,
        options=replace(destination.options, signing=signing.schemes),
        sealed_signing=sealed_keys(signing, destination_id=destination.destination_id, services=services),
    )


def sealed_keys(signing: SchemesWithKeys, *, destination_id: DestinationId, services: Services) -> bytes | None:
    """The secret keys of all schemes, sealed for that destination; None for none. Raises SecretUnavailable."""
    if not signing.secrets:
        return None
    return seal_keys(signing.secrets, destination_id=destination_id, key=services.seal_key)


def new_key(
    form: Form, given: Key | None, key_id: str | None, *, now: datetime, services: Services
) -> tuple[KeyInfo, Key]:
    """What is stored of a key, and the key: `given`, or a new one. Without a `key_id` it gets one by chance."""
    key = given or make_key(form)
    ref = services.new_id(now).hex
    return KeyInfo(ref=ref, key_id=key_id or f"k-{ref[-12:]}", created_at=now, public_key=key.public), key


def _with_keys(
    wanted: WantedScheme, present: Scheme | None, stored: SchemesWithKeys, *, now: datetime, services: Services
) -> SchemesWithKeys:
    if present is not None and wanted.key is None and _same_kind(wanted.form, present.form):
        current, *earlier = present.keys
        kept = (replace(current, key_id=wanted.key_id or current.key_id), *earlier)
        secrets = {info.ref: stored.secrets[info.ref] for info in kept}
        return SchemesWithKeys(schemes=(scheme(wanted.form, name=wanted.name, keys=kept),), secrets=secrets)
    info, key = new_key(wanted.form, wanted.key, wanted.key_id, now=now, services=services)
    return SchemesWithKeys(
        schemes=(scheme(wanted.form, name=wanted.name, keys=[info]),),
        secrets={info.ref: key.secret},
        texts={} if wanted.key is not None or key.text is None else {wanted.name: key.text},
    )


def _same_kind(form: Form, other: Form) -> bool:
    return type(form) is type(other) and key_kind(form) is key_kind(other)
