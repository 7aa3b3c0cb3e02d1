"""The seal key is rotated while everything goes on: with workers and APIs that know the old keys alone, beside changes,
by two at once, and by one that stops between any two steps."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db import destinations, sealed_values
from db.connection import Database
from domain.auth import AuthType, BearerAuth
from domain.destinations import Destination
from domain.errors import Unavailable, WrongState
from domain.ids import DestinationId
from egress.credentials import seal_auth, unseal_auth
from egress.seal_key_store import KeysChanged, SealKeyStore, StoredKeys
from egress.seal_keys import FRESH_SECONDS, STALE_SECONDS, KeyStep, SealKeys, load_seal_keys
from egress.sealing import SealKey, key_id_of, seal, unseal
from flows import rotate_seal_key as flow
from flows.accept import accept
from flows.attempt import attempt_due
from flows.audit import Actor
from flows.rotate_seal_key import ANNOUNCED_SECONDS, RETIRED_AFTER_SECONDS, Rotated
from flows.services import Services
from runtime.settings import DatabaseSettings, SealKeySettings
from tests.egress.servers import Partner
from tests.flows.test_oauth import Resource, TokenEndpoint, oauth_destination, tokens_sent
from tests.support.gateway import Gateway
from tests.support.partners import answers

type StartPartner = Callable[..., Partner]

ACTOR = Actor(by="operator:test")
SECRET = "the-partners-secret"
FIRST_TEXT = "a key for tests, long enough to be one"
PROPOSAL = DestinationId(UUID(int=9))
LONG = 45.0


@dataclass
class Site:
    """A gateway whose keys are in a file, which a rotation changes."""

    gateway: Gateway
    settings: SealKeySettings
    store: SealKeyStore

    def process(self) -> Services:
        """A process of its own, as far as keys are concerned."""
        return replace(self.gateway.services, load_seal_keys=partial(load_seal_keys, self.settings))

    def rotate(self, seconds_left: float = LONG, services: Services | None = None) -> Rotated:
        services = services or self.gateway.services
        return flow.rotate(self.store, actor=ACTOR, services=services, seconds_left=seconds_left)

    def retire(self) -> Rotated:
        return flow.retire(self.store, actor=ACTOR, services=self.gateway.services)

    def finish(self) -> None:
        """From whatever step on, as an operator does."""
        while self.store.read().keys.step is not KeyStep.RESEALED:
            self.rotate()
            self.gateway.clock.forward(ANNOUNCED_SECONDS)
        self.rotate()
        self.gateway.clock.forward(RETIRED_AFTER_SECONDS)
        assert self.retire().step is KeyStep.SETTLED

    def turned(self) -> None:
        """Begins a rotation; nothing is sealed again yet."""
        self.rotate()
        self.gateway.clock.forward(ANNOUNCED_SECONDS)
        assert self.rotate(seconds_left=0).step is KeyStep.SEALING

    def key_ids(self) -> set[bytes]:
        """Those of all that is sealed."""
        rows = self.gateway.sql(
            """
            SELECT unnest(ARRAY[sealed_credentials, sealed_certificate, sealed_signing]) AS sealed FROM destination
            UNION ALL SELECT sealed_token FROM oauth_token UNION ALL SELECT sealed_request FROM proposal
            """
        )
        return {key_id_of(row["sealed"]) for row in rows if row["sealed"] is not None}

    def secrets(self) -> list[str]:
        """What the credentials of all destinations open to, with the keys that there are now."""
        process, found = self.process(), []
        for name in ("first", "second", "third"):
            one = destinations.find(process.database, tenant_id=self.gateway.tenant_id, reference=name)
            assert one is not None
            auth = unseal_auth(one, keys=process.seal_keys.opening(one.sealed_credentials))
            assert isinstance(auth, BearerAuth)
            found.append(auth.token)
        return found


@pytest.fixture
def site(gateway: Gateway, tmp_path: Path) -> Site:
    file = tmp_path / "seal.key"
    file.write_text(FIRST_TEXT)
    file.chmod(0o600)
    settings = SealKeySettings(seal_key_file=str(file))
    gateway.services = replace(gateway.services, load_seal_keys=partial(load_seal_keys, settings))
    return Site(gateway=gateway, settings=settings, store=SealKeyStore(settings))


@pytest.fixture
def full(site: Site) -> Site:
    """Three destinations with credentials, one of them with a certificate and signing keys too, and a proposal."""
    key, made = site.process().seal_key, {}
    for name in ("first", "second", "third"):
        made[name] = site.gateway.destination("http://127.0.0.1:1", name=name)
        store_secret(site.gateway, made[name], f"{SECRET} {name}", key=key)
    for column, purpose in (("sealed_certificate", "certificate"), ("sealed_signing", "signing")):
        sealed = seal(b"[]", purpose=purpose, destination_id=made["third"].destination_id, key=key)
        site.gateway.sql(
            f"UPDATE destination SET {column} = %s WHERE name = 'third'",  # noqa: S608 - two known names
            sealed,
        )
    site.gateway.sql(
        """
        INSERT INTO proposal (proposal_id, tenant_id, act, target, request, sealed_request, state, created_at,
                              created_by, expires_at)
        VALUES (%s, %s, 'a', 't', '{}', %s, 'open', now(), 'somebody', now())
        """,
        PROPOSAL,
        site.gateway.tenant_id,
        seal(b"the call", purpose="proposal", destination_id=PROPOSAL, key=key),
    )
    return site


def store_secret(gateway: Gateway, made: Destination, text: str, *, key: SealKey) -> None:
    sealed = seal_auth(BearerAuth(token=text), destination_id=made.destination_id, key=key)
    gateway.sql(
        "UPDATE destination SET auth_type = %s, sealed_credentials = %s WHERE destination_id = %s",
        AuthType.BEARER.value,
        sealed,
        made.destination_id,
    )


SECRETS = [f"{SECRET} {name}" for name in ("first", "second", "third")]
FIRST = SealKey.derived_from(FIRST_TEXT)


def test_a_rotation_goes_from_step_to_step_and_ends_with_one_new_key(full: Site) -> None:
    announced = full.rotate()
    assert (announced.step, announced.again_at is not None) == (KeyStep.ANNOUNCED, True)
    assert full.rotate().step is KeyStep.ANNOUNCED  # too early: not everybody may know it
    assert full.key_ids() == {FIRST.key_id}
    full.gateway.clock.forward(ANNOUNCED_SECONDS)
    resealed = full.rotate()
    assert (resealed.step, resealed.resealed, resealed.left) == (KeyStep.RESEALED, 4, 0)
    assert resealed.key_ids == (announced.key_ids[1], announced.key_ids[0])
    assert full.rotate() == replace(resealed, resealed=0)
    full.gateway.clock.forward(RETIRED_AFTER_SECONDS)
    assert full.retire().key_ids == (announced.key_ids[1],)
    (key,) = full.store.read().keys.keys
    assert full.key_ids() == {key.key_id}
    assert full.secrets() == SECRETS
    (row,) = full.gateway.sql("SELECT sealed_request FROM proposal")
    assert unseal(row["sealed_request"], purpose="proposal", destination_id=PROPOSAL, keys=[key]) == b"the call"
    (row,) = full.gateway.sql(
        "SELECT sealed_certificate, sealed_signing, destination_id FROM destination WHERE name = 'third'"
    )
    for purpose in ("certificate", "signing"):
        sealed = row[f"sealed_{purpose}"]
        assert unseal(sealed, purpose=purpose, destination_id=row["destination_id"], keys=[key]) == b"[]"


def test_the_next_rotation_is_another_one_and_the_allowlists_key_stays(full: Site) -> None:
    seed = full.store.read().keys.allowlist_seed
    ids = set()
    for _ in range(2):
        full.finish()
        (key,) = full.store.read().keys.keys
        ids.add(key.key_id)
    assert len(ids | {FIRST.key_id}) == 3
    assert full.store.read().keys.allowlist_seed == seed == full.process().seal_keys.allowlist_seed
    assert full.secrets() == SECRETS


def test_each_step_is_in_the_stacks_audit_log_without_a_secret(full: Site) -> None:
    full.finish()
    rows = full.gateway.sql("SELECT what, content FROM audit_entry WHERE tenant_id = %s ORDER BY sequence", UUID(int=0))
    assert [row["what"] for row in rows] == [
        "seal_key.announced",
        "seal_key.turned",
        "seal_key.resealed",
        "seal_key.retired",
    ]
    (text,) = full.store.read().keys.texts
    for row in rows:
        assert text not in str(row["content"])
        assert FIRST_TEXT not in str(row["content"])


def test_versions_stay_so_that_no_callers_etag_is_outdated(full: Site) -> None:
    before = full.gateway.sql("SELECT version, credentials_changed_at FROM destination ORDER BY destination_id")
    full.finish()
    after = full.gateway.sql("SELECT version, credentials_changed_at FROM destination ORDER BY destination_id")
    assert after == before


def test_workers_that_know_the_old_key_deliver_before_during_and_after(site: Site, partner: StartPartner) -> None:
    server = partner(answers(200))
    made = site.gateway.destination(server.url())
    store_secret(site.gateway, made, SECRET, key=site.gateway.services.seal_key)
    sent = 0

    def deliver(*workers: Services) -> None:
        nonlocal sent
        for worker in workers:
            accept(site.gateway.new(), wait_seconds=None, services=worker)
            attempt_due(site.gateway.queue.take(), services=worker)
            sent += 1

    warm = [site.process() for _ in range(6)]
    deliver(*warm)
    for step in (site.rotate, site.turned, site.rotate):
        step()
        deliver(warm.pop(), site.process())  # one that met none of the steps, and one that begins now
    while warm:
        site.gateway.clock.forward(STALE_SECONDS)
        deliver(warm.pop())
        site.rotate()
    site.gateway.clock.forward(RETIRED_AFTER_SECONDS)
    veteran = site.process()
    deliver(veteran)
    site.retire()
    deliver(veteran, site.process())
    states = {row["state"] for row in site.gateway.sql("SELECT state FROM delivery")}
    assert (states, len(server.requests)) == ({"delivered"}, sent)
    assert all(f"\r\nAuthorization: Bearer {SECRET}\r\n".encode() in request for request in server.requests)


def test_an_access_token_that_is_good_is_not_fetched_again(site: Site, partner: StartPartner) -> None:
    endpoint = TokenEndpoint()
    resource = partner(Resource())
    oauth_destination(site.gateway, resource.url(), partner(endpoint).url("/token"))
    for step in (lambda: None, site.turned, site.rotate):
        step()
        accept(site.gateway.new(), wait_seconds=None, services=site.gateway.services)
        attempt_due(site.gateway.queue.take(), services=site.process())
    assert endpoint.calls == 1
    assert tokens_sent(resource) == ["token-1"] * 3
    assert site.key_ids() == {site.store.read().keys.keys[0].key_id}


def test_what_is_stored_meanwhile_is_not_lost(full: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change comes between reading a row and sealing it again."""
    full.turned()
    reseal = sealed_values.reseal_destination

    def beside(database: Database, destination_id: DestinationId, **values: Any) -> bool:
        made = full.gateway.sql("SELECT name FROM destination WHERE destination_id = %s", destination_id)[0]
        if made["name"] == "second":
            found = destinations.find(database, tenant_id=full.gateway.tenant_id, reference="second")
            assert found is not None
            store_secret(full.gateway, found, "another", key=FIRST)
        return reseal(database, destination_id, **values)

    monkeypatch.setattr(sealed_values, "reseal_destination", beside)
    assert full.rotate().left == 1
    monkeypatch.undo()
    full.finish()
    assert full.secrets() == [SECRETS[0], "another", SECRETS[2]]


def test_a_change_that_stores_what_it_had_read_before_is_sealed_again_and_the_key_kept_until_then(full: Site) -> None:
    changed = destinations.find(full.gateway.services.database, tenant_id=full.gateway.tenant_id, reference="first")
    assert changed is not None
    full.turned()
    assert full.rotate().left == 0
    changed = replace(changed, idempotency_header="Idempotency", version=changed.version + 1)
    assert destinations.change(full.gateway.services.database, changed)
    full.gateway.clock.forward(RETIRED_AFTER_SECONDS)
    with pytest.raises(WrongState, match="not over: 1 rows have values of an earlier key; possible is rotate_seal_key"):
        full.retire()
    assert full.rotate().resealed == 1
    with pytest.raises(WrongState, match="not over before"):  # counted from the last one on
        full.retire()
    full.finish()
    assert full.secrets() == SECRETS


def test_nothing_is_retired_before_its_time(full: Site) -> None:
    with pytest.raises(WrongState, match="is settled; possible is rotate_seal_key"):
        full.retire()
    full.turned()
    with pytest.raises(WrongState, match="is sealing; possible is rotate_seal_key"):
        full.retire()
    full.rotate()
    full.gateway.clock.forward(RETIRED_AFTER_SECONDS - 1)
    with pytest.raises(WrongState, match="a process may seal with an earlier key"):
        full.retire()


def test_no_process_seals_with_a_key_for_as_long_as_it_is_kept() -> None:
    assert FRESH_SECONDS <= STALE_SECONDS < RETIRED_AFTER_SECONDS - 900  # the longest that any function runs


def test_a_call_ends_before_its_time_is_over_and_the_next_one_goes_on(full: Site) -> None:
    full.turned()
    first = full.rotate(seconds_left=flow.STEP_SECONDS - 1)
    assert (first.resealed, first.left, first.step) == (0, 4, KeyStep.SEALING)
    assert first.again_at is not None
    assert full.rotate().resealed == 4


def test_however_many_rows_there_are_all_are_sealed_again(full: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_values, "ROWS_OF_A_PAGE", 1)
    full.turned()
    assert full.rotate().resealed == 4
    assert len(full.key_ids()) == 1


def test_what_no_key_opens_is_named_and_holds_up_no_other(full: Site) -> None:
    (broken,) = full.gateway.sql(
        """
        UPDATE destination SET sealed_credentials = sealed_credentials || '\\x00'::bytea
        WHERE name = 'first' RETURNING destination_id
        """
    )
    full.turned()
    found = full.rotate()
    assert (found.resealed, found.left, found.unopened) == (3, 1, (broken["destination_id"],))
    full.gateway.clock.forward(RETIRED_AFTER_SECONDS)
    with pytest.raises(WrongState, match="possible is rotate_seal_key"):
        full.retire()


class Stopped(BaseException):
    """The process ends here."""


def stopping(at: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Ends the process at the `at`-th write, before or after it is made. Returns how many there were."""
    count = 0

    def stops[**P, T](write: Callable[P, T]) -> Callable[P, T]:
        def instead(*args: P.args, **kwargs: P.kwargs) -> T:
            nonlocal count
            count += 1
            if count == at:
                raise Stopped
            result = write(*args, **kwargs)
            count += 1
            if count == at:
                raise Stopped
            return result

        return instead

    monkeypatch.setattr(SealKeyStore, "replace", stops(SealKeyStore.replace))
    for name in ("reseal_destination", "reseal_token", "reseal_proposal"):
        monkeypatch.setattr(sealed_values, name, stops(getattr(sealed_values, name)))
    return lambda: count


WRITES = 2 * (4 + 4)  # four of the secret and one of each row, each with a moment before and one after


@pytest.mark.parametrize("at", range(1, WRITES + 1))
def test_one_that_stops_between_any_two_steps_is_gone_on_with(
    full: Site, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    with monkeypatch.context() as interrupted:
        writes = stopping(at, interrupted)
        with pytest.raises(Stopped):
            full.finish()
        assert writes() == at
    assert full.secrets() == SECRETS  # as an API or a worker finds them then
    if full.store.read().keys.step is KeyStep.SETTLED and at > 2:
        assert full.key_ids() == {full.store.read().keys.keys[0].key_id}
    full.finish()
    assert full.secrets() == SECRETS
    assert full.key_ids() == {full.store.read().keys.keys[0].key_id}


def test_there_are_no_more_steps_than_are_interrupted(full: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = stopping(0, monkeypatch)
    full.finish()
    assert writes() == WRITES


@pytest.fixture
def second_process(site: Site) -> Iterator[Services]:
    with closing(Database(DatabaseSettings(database_url=site.gateway.database.url))) as database:
        yield replace(site.process(), database=database)


def test_of_two_at_once_one_writes_each_step_and_both_lead_to_the_end(full: Site, second_process: Services) -> None:

    def run(services: Services) -> None:
        with suppress(Unavailable):  # the other one was quicker
            full.rotate(services=services)

    for _ in range(4):
        with ThreadPoolExecutor(2) as both:
            list(both.map(run, (full.gateway.services, second_process)))
        assert full.secrets() == SECRETS
        full.gateway.clock.forward(ANNOUNCED_SECONDS)
    keys = full.store.read().keys
    assert (keys.step, len(keys.texts)) == (KeyStep.RESEALED, 2)
    assert full.key_ids() == {keys.keys[0].key_id}


def test_who_is_not_the_first_to_write_goes_on_from_what_the_other_wrote(
    full: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SealKeyStore.replace

    def slower(store: SealKeyStore, stored: StoredKeys, keys: SealKeys) -> None:
        monkeypatch.undo()
        full.rotate()
        write(store, stored, keys)

    monkeypatch.setattr(SealKeyStore, "replace", slower)
    assert full.rotate().step is KeyStep.ANNOUNCED
    assert len(full.store.read().keys.texts) == 2


def test_who_is_never_the_first_is_told_to_come_again(full: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise KeysChanged

    monkeypatch.setattr(SealKeyStore, "replace", never)
    with pytest.raises(Unavailable, match="being rotated by another call"):
        full.rotate()
    assert full.store.read().keys == SealKeys(texts=(FIRST_TEXT,))


def test_a_snapshot_that_an_earlier_key_sealed_is_sealed_again_once_that_key_is_back(full: Site) -> None:
    """docs/people-and-database.md, "The seal key": the older text is put behind the present one."""
    rows: Sequence[dict[str, Any]] = full.gateway.sql("SELECT destination_id, sealed_credentials FROM destination")
    full.finish()
    for row in rows:
        full.gateway.sql(
            "UPDATE destination SET sealed_credentials = %s WHERE destination_id = %s",
            row["sealed_credentials"],
            row["destination_id"],
        )
    stored = full.store.read()
    assert full.process().seal_keys.opening(rows[0]["sealed_credentials"]) == []
    with_older = replace(stored.keys, texts=(*stored.keys.texts, FIRST_TEXT), step=KeyStep.SEALING, at=None)
    full.store.replace(stored, with_older)
    assert full.secrets() == SECRETS
    assert full.rotate().resealed == 3
    full.finish()
    assert full.secrets() == SECRETS
