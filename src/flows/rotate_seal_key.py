"""Rotate the key that secrets are sealed with, while everything goes on (docs/adr/0063-two-seal-keys-at-once.md).

1. *Announce*: the secret has a new key, which opens and does not seal yet.
2. *Seal*: once every process can know it, the new key seals, and the earlier ones open.
3. *Seal again*, row by row, what the earlier keys sealed. Each is a short statement of its own.
4. *Retire* the earlier keys, once nothing is left of them and no process can seal with one any more.

Each step is one write of the secret, made only where nobody else changed it. So whoever stops in between, or runs it
twice, goes on from where the secret is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from db import sealed_values
from db.sealed_values import SealedDestination
from domain.audit import STACK, Detail
from domain.destinations import Destination
from domain.errors import Unavailable, Unsealable, WrongState
from domain.ids import DestinationId, ProposalId
from domain.values import value_class
from egress.credentials import CERTIFICATE
from egress.seal_key_store import KeysChanged, SealKeyStore, StoredKeys, new_text
from egress.seal_keys import STALE_SECONDS, KeyStep, SealKeys
from egress.sealing import key_id_of, seal, unseal
from egress.signing import given
from flows import approvals, oauth
from flows.audit import Act, Actor, note_act
from flows.services import Services
from runtime.observability import logger

ANNOUNCED_SECONDS = 60.0  # until Secrets Manager, which is eventually consistent, shows the new key to everybody
RETIRED_AFTER_SECONDS = 2 * STALE_SECONDS  # no process seals with an earlier key for longer than once that
STEP_SECONDS = 15.0  # a statement, and a call of Secrets Manager
MOST_SHOWN = 20
_TRIES = 5
_KEY_OF_STACK = UUID(int=0)


@value_class(frozen=True, slots=True, kw_only=True)
class Rotated:
    """How far a rotation is. `resealed` values were sealed again by this call, and `left` rows still have one of an
    earlier key; `unopened` are the ids of some that no key opens. `again_at` is when another call leads on: None where
    only retiring is left, for which it is `retire_at`."""

    step: KeyStep
    key_ids: tuple[str, ...]
    resealed: int = 0
    left: int = 0
    unopened: tuple[UUID, ...] = field(default=())
    again_at: datetime | None = None
    retire_at: datetime | None = None


def rotate(store: SealKeyStore, *, actor: Actor, services: Services, seconds_left: float) -> Rotated:
    """Begins a rotation, or goes on with the one that was begun, as far as it can get now.

    Raises SettingsError, SecretUnavailable, DatabaseUnavailable, and Unavailable where others change the secret all the
    time.
    """
    end_at = services.clock() + timedelta(seconds=seconds_left)
    for _ in range(_TRIES):
        stored = store.read()
        try:
            match stored.keys.step:
                case KeyStep.SETTLED:
                    return _announced(store, stored, actor=actor, services=services)
                case KeyStep.ANNOUNCED if _after(stored, ANNOUNCED_SECONDS) > services.clock():
                    return _waiting(stored.keys)
                case KeyStep.ANNOUNCED:
                    _turned(store, stored, actor=actor, services=services)
                case KeyStep.SEALING | KeyStep.RESEALED:
                    return _resealed(store, stored, end_at=end_at, actor=actor, services=services)
        except KeysChanged:
            logger.info("the seal keys were changed by another rotation")
    raise _busy()


def retire(store: SealKeyStore, *, actor: Actor, services: Services) -> Rotated:
    """Ends a rotation: the earlier keys are taken out of the secret.

    Raises WrongState while something may be sealed with one of them, and what `rotate` raises.
    """
    stored = store.read()
    keys = stored.keys
    if keys.step is not KeyStep.RESEALED:
        raise WrongState(noun="rotation of the seal key", state=keys.step.value, possible=("rotate_seal_key",))
    left = sealed_values.count(services.database, _earlier(keys))
    if left:
        state = f"not over: {left} rows have values of an earlier key"
        raise WrongState(noun="rotation of the seal key", state=state, possible=("rotate_seal_key",))
    retire_at = _after(stored, RETIRED_AFTER_SECONDS)
    if services.clock() < retire_at:
        state = f"not over before {retire_at.isoformat(timespec='seconds')}: a process may seal with an earlier key"
        raise WrongState(noun="rotation of the seal key", state=state, possible=("retire_seal_key after that",))
    settled = replace(keys, texts=keys.texts[:1], step=KeyStep.SETTLED, at=services.clock())
    try:
        _write(store, stored, settled, "seal_key.retired", actor=actor, services=services)
    except KeysChanged:
        raise _busy() from None
    return Rotated(step=settled.step, key_ids=_ids(settled))


def _announced(store: SealKeyStore, stored: StoredKeys, *, actor: Actor, services: Services) -> Rotated:
    keys = stored.keys
    announced = SealKeys(
        texts=(*keys.texts, new_text(keys)),
        step=KeyStep.ANNOUNCED,
        at=services.clock(),
        kept_seed=keys.allowlist_seed,
    )
    _write(store, stored, announced, "seal_key.announced", actor=actor, services=services)
    return _waiting(announced)


def _waiting(keys: SealKeys) -> Rotated:
    at = None if keys.at is None else keys.at + timedelta(seconds=ANNOUNCED_SECONDS)
    return Rotated(step=keys.step, key_ids=_ids(keys), again_at=at)


def _turned(store: SealKeyStore, stored: StoredKeys, *, actor: Actor, services: Services) -> None:
    *earlier, new = stored.keys.texts
    sealing = replace(stored.keys, texts=(new, *earlier), step=KeyStep.SEALING, at=services.clock())
    _write(store, stored, sealing, "seal_key.turned", actor=actor, services=services)


def _resealed(
    store: SealKeyStore, stored: StoredKeys, *, end_at: datetime, actor: Actor, services: Services
) -> Rotated:
    """Seals again what earlier keys sealed, until the time is up. Where nothing is left, that is noted in the secret:
    from then on the earlier keys are kept for a while more, as a change that had read an earlier value may store it."""
    keys = stored.keys
    walk = _Walk(keys, services=services)
    for reseal in walk.rows():
        if services.clock() + timedelta(seconds=STEP_SECONDS) > end_at:
            break
        reseal()
    left = sealed_values.count(services.database, _earlier(keys))
    logger.info("seal key rotated", resealed=walk.resealed, left=left, unopened=len(walk.unopened))
    rotated = Rotated(
        step=keys.step,
        key_ids=_ids(keys),
        resealed=walk.resealed,
        left=left,
        unopened=tuple(walk.unopened[:MOST_SHOWN]),
        again_at=services.clock() if left else None,
    )
    if left:
        return rotated
    at = keys.at
    if keys.step is KeyStep.SEALING or walk.resealed:
        at = services.clock()
        clean = replace(keys, step=KeyStep.RESEALED, at=at)
        _write(store, stored, clean, "seal_key.resealed", actor=actor, services=services)
    retire_at = None if at is None else at + timedelta(seconds=RETIRED_AFTER_SECONDS)
    return replace(rotated, step=KeyStep.RESEALED, retire_at=retire_at)


class _Walk:
    """Seals rows again, and counts."""

    def __init__(self, keys: SealKeys, *, services: Services) -> None:
        self.resealed = 0
        self.unopened: list[UUID] = []
        self._key, *_ = self._keys = keys.keys
        self._earlier = _earlier(keys)
        self._database = services.database

    def rows(self) -> Iterator[Callable[[], None]]:
        """What is to be done for each row that has a value of an earlier key."""
        after: UUID | None = None
        while found := sealed_values.destinations(
            self._database, self._earlier, after=None if after is None else DestinationId(after)
        ):
            yield from (partial(self._destination, one) for one in found)
            after = found[-1].destination_id
        for page, replaced, purpose in (
            (sealed_values.tokens, self._token, oauth.PURPOSE),
            (sealed_values.proposals, self._proposal, approvals.PURPOSE),
        ):
            after = None
            while rows := page(self._database, self._earlier, after=after):
                yield from (partial(replaced, row_id, sealed, purpose) for row_id, sealed in rows)
                after = rows[-1][0]

    def _destination(self, found: Destination) -> None:
        destination_id = found.destination_id
        before = SealedDestination(
            credentials=found.sealed_credentials, certificate=found.sealed_certificate, signing=found.sealed_signing
        )
        sealed = SealedDestination(
            credentials=self._again(before.credentials, destination_id, found.auth_type),
            certificate=self._again(before.certificate, destination_id, CERTIFICATE),
            signing=self._again(before.signing, destination_id, given.PURPOSE),
        )
        client, bases = found.options.oauth, None
        if client is not None:
            bases = (
                oauth.token_basis(client, before.credentials, before.certificate),
                oauth.token_basis(client, sealed.credentials, sealed.certificate),
            )
        if sealed != before:
            self.resealed += sealed_values.reseal_destination(
                self._database, destination_id, before=before, sealed=sealed, bases=bases
            )

    def _token(self, row_id: UUID, before: bytes, purpose: str) -> None:
        sealed = self._again(before, row_id, purpose)
        if sealed is not None and sealed != before:
            self.resealed += sealed_values.reseal_token(
                self._database, DestinationId(row_id), before=before, sealed=sealed
            )

    def _proposal(self, row_id: UUID, before: bytes, purpose: str) -> None:
        sealed = self._again(before, row_id, purpose)
        if sealed is not None and sealed != before:
            self.resealed += sealed_values.reseal_proposal(
                self._database, ProposalId(row_id), before=before, sealed=sealed
            )

    def _again(self, sealed: bytes | None, row_id: UUID, purpose: str) -> bytes | None:
        """Sealed with the new key; as it is where another one than an earlier key sealed it, or where it does not
        open."""
        if sealed is None or key_id_of(sealed) not in self._earlier:
            return sealed
        place = DestinationId(row_id)
        try:
            plain = unseal(sealed, purpose=purpose, destination_id=place, keys=self._keys)
        except Unsealable:
            logger.exception("a sealed value does not open, and cannot be sealed again", row=str(row_id))
            self.unopened.append(row_id)
            return sealed
        return seal(plain, purpose=purpose, destination_id=place, key=self._key)


def _write(
    store: SealKeyStore, stored: StoredKeys, keys: SealKeys, what: str, *, actor: Actor, services: Services
) -> None:
    """Raises KeysChanged."""
    store.replace(stored, keys)
    details: dict[str, Detail] = {"key_ids": " ".join(_ids(keys))}
    note_act(Act(tenant_id=STACK, actor=actor, what=what, on=_KEY_OF_STACK, details=details), services=services)


def _after(stored: StoredKeys, seconds: float) -> datetime:
    """Since when this step is; of a secret that somebody wrote by hand, and did not say, since ever."""
    at = stored.keys.at
    return datetime.min.replace(tzinfo=UTC) if at is None else at + timedelta(seconds=seconds)


def _earlier(keys: SealKeys) -> Sequence[bytes]:
    return [key.key_id for key in keys.keys[1:]]


def _ids(keys: SealKeys) -> tuple[str, ...]:
    """What may be shown of the keys: the first one seals."""
    return tuple(key.key_id.hex() for key in keys.keys)


def _busy() -> Unavailable:
    return Unavailable("the seal key is being rotated by another call", retry_after_seconds=1)
