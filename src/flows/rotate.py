"""Rotate the key of a scheme by which a destination signs."""

from collections.abc import Sequence
from dataclasses import field, replace
from datetime import timedelta
from functools import partial

from db import destinations
from domain.destinations import ManagedDestination
from domain.errors import Fault, InvalidRequest, Outdated, Unavailable, Unsealable
from domain.ids import TenantId
from domain.signing import DEFAULT_OVERLAP_SECONDS, MAX_KEYS, Form, KeyInfo, Scheme, rotated, text_fault, unexpired
from domain.values import value_class
from egress.signing.given import GivenKey, read_key
from egress.signing.keys import Key, KeyRefused
from flows.approvals import need_approval
from flows.audit import Act, Actor, audited, where_done
from flows.destinations import CHANGE_TRIES, RETRY_AFTER_SECONDS, SavedDestination, find
from flows.services import Services
from flows.signing import SchemesWithKeys, in_use, new_key, sealed_keys, stored_schemes


@value_class(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What a caller asks for. `scheme` is None where the destination has but one; without a key one is made."""

    scheme: str | None = None
    overlap_seconds: int = DEFAULT_OVERLAP_SECONDS
    given: GivenKey = field(default_factory=GivenKey)
    key_id: str | None = None


def rotate(
    reference: str,
    rotation: Rotation,
    *,
    tenant_id: TenantId,
    expected: frozenset[int] | None,
    actor: Actor,
    services: Services,
) -> SavedDestination:
    """Gives a scheme a new key. The earlier ones sign until the overlap is over; keys of any scheme whose overlap is
    over are deleted.

    Where somebody else changes the destination at the same time, it is done once more upon that change, so that neither
    is lost. `expected` are the versions that it may be at; None for any. Raises NotFound, Outdated, InvalidRequest,
    SecretUnavailable, DatabaseUnavailable, and Unavailable where others change it all the time.
    """
    for _ in range(CHANGE_TRIES):
        current = find(reference, tenant_id=tenant_id, services=services)
        if expected is not None and current.version not in expected:
            raise Outdated(version=current.version)
        saved, new = _rotated(current, rotation, services=services)
        need_approval("destination.rotate_secret", tenant_id=tenant_id, actor=actor, services=services)
        act = Act(
            tenant_id=tenant_id,
            actor=actor,
            what="destination.secret_rotated",
            on=current.destination_id,
            members=("signing",),
        )
        store = partial(destinations.set_signing, services.database, saved.destination, new_ref=new.ref)
        if audited(store, where_done(act), services=services):
            return saved
    raise Unavailable("the destination is being changed by others", retry_after_seconds=RETRY_AFTER_SECONDS)


def _rotated(
    current: ManagedDestination, rotation: Rotation, *, services: Services
) -> tuple[SavedDestination, KeyInfo]:
    """The next version of `current`, and its new key."""
    now = services.clock()
    schemes = [unexpired(one, now=now) for one in current.options.signing or ()]
    chosen = _chosen(schemes, rotation.scheme)
    given = _given(chosen.form, rotation)
    stored = _stored(current, services=services)
    _refuse_repeat(chosen, given, stored)
    info, key = new_key(chosen.form, given, rotation.key_id, now=now, services=services)
    changed = rotated(chosen, info, now=now, overlap=timedelta(seconds=rotation.overlap_seconds))
    _refuse_surplus(changed)
    every = (changed if one.name == changed.name else one for one in schemes)
    signing = in_use(every, {**stored.secrets, info.ref: key.secret})
    destination = replace(
        current,
        options=replace(current.options, signing=signing.schemes),
        sealed_signing=sealed_keys(signing, destination_id=current.destination_id, services=services),
        version=current.version + 1,
    )
    shown = {} if given is not None or key.text is None else {changed.name: key.text}
    return SavedDestination(destination=destination, texts=shown), info


def _stored(current: ManagedDestination, *, services: Services) -> SchemesWithKeys:
    try:
        return stored_schemes(current, services=services)
    except Unsealable:
        detail = "cannot be rotated: its stored keys cannot be opened any more; give the destination new ones"
        raise InvalidRequest(Fault(field="/scheme", detail=detail)) from None


def _chosen(schemes: Sequence[Scheme], name: str | None) -> Scheme:
    if name is None and len(schemes) == 1:
        return schemes[0]
    for one in schemes:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in schemes)
    raise InvalidRequest(Fault(field="/scheme", detail=f"must be one of {names}" if names else _NO_SCHEMES))


_NO_SCHEMES = "there is none: the destination does not sign its requests"


def _given(form: Form, rotation: Rotation) -> Key | None:
    faults = []
    if fault := text_fault(rotation.key_id or ""):
        faults.append(Fault(field="/keyid", detail=fault))
    try:
        given = read_key(form, rotation.given)
    except KeyRefused as refused:
        raise InvalidRequest(*faults, Fault(field=f"/{refused.member}", detail=refused.detail)) from None
    if faults:
        raise InvalidRequest(*faults)
    return given


def _refuse_repeat(chosen: Scheme, given: Key | None, stored: SchemesWithKeys) -> None:
    """A rotation to a key that the scheme has already would end nothing at all, and look as if it did."""
    if given is not None and any(stored.secrets.get(key.ref) == given.secret for key in chosen.keys):
        member = "private_key" if given.public is not None and not given.public.startswith("whpk_") else "secret"
        raise InvalidRequest(Fault(field=f"/{member}", detail="must be another key than those that the scheme has"))


def _refuse_surplus(changed: Scheme) -> None:
    if len(changed.keys) > MAX_KEYS:
        first = min(key.expires_at for key in changed.keys if key.expires_at is not None)
        detail = f"must be 0: the scheme has {MAX_KEYS} keys, until {first.isoformat(timespec='seconds')}"
        raise InvalidRequest(Fault(field="/overlap_seconds", detail=detail))
