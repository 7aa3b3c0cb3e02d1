"""Every statement is run twice: its connection breaks after the commit, before the rows are read, and it is repeated.

Whatever others do between the two runs, the rows and the answer must be ones that a single run leads to, be it before
or after what the others did. A statement that has no case here fails the first test.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from db import (
    attempts,
    audit,
    control,
    deliveries,
    destinations,
    jobs,
    oauth_tokens,
    payloads,
    proposals,
    retention,
    sealed_values,
    seals,
    sightings,
    tallies,
    tenants,
)
from db.audit import AuditFilter
from db.connection import Database
from db.deliveries import Acceptance, Filter, Lease
from db.jobs import JobStep, Move
from db.migrations import ADMIN_ROLE, APPLICATION_ROLE, AUTHORIZER_ROLE
from db.retention import Place, Retained
from domain.audit import AuditCheckpoint, Entry, EntryContent, canonical
from domain.auth import AuthType, StoredToken
from domain.certificates import CertificateFacts
from domain.control import DeliveryChange, DeliveryControl
from domain.deliveries import (
    Attempt,
    AttemptKind,
    Claim,
    ClaimResult,
    NewDelivery,
    Record,
    Resolution,
    State,
    StoredResponse,
)
from domain.destinations import Destination, DestinationState, Guarantee, ManagedDestination, Timeouts
from domain.errors import NameTaken
from domain.ids import AttemptId, DeliveryId, DestinationId, JobId, LeaseId, ProposalId, TenantId, TokenId
from domain.jobs import Bounds, BulkJob, JobAct, JobState
from domain.limits import CircuitBreaker, Limits
from domain.options import DestinationOptions
from domain.outcomes import OutcomeKind, Timings
from domain.proposals import Proposal, ProposalState
from domain.reconcile import AnswerRule, Reconcile
from domain.retention import Cutoffs
from domain.signing import KeyInfo, StandardWebhooks, scheme
from runtime.settings import DatabaseSettings
from tests.support.clauses import writing
from tests.support.databases import FreshDatabase
from tests.support.wires import Wire

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TENANT, TOKEN, PARTNER = TenantId(UUID(int=1)), TokenId(UUID(int=2)), DestinationId(UUID(int=3))
FIRST, SECOND, THIRD = (DeliveryId(UUID(int=number)) for number in (10, 11, 12))
RENEWAL, OTHER_RENEWAL = UUID(int=40), UUID(int=41)
A, B, C = (LeaseId(UUID(int=number)) for number in (20, 21, 22))

TABLES = (
    *("tenant", "token", "destination", "oauth_token", "destination_flow", "delivery", "delivery_body", "attempt"),
    *("slot_waiter", "attempt_under_way", "ordering_place", "delivery_term", "audit_entry", "audit_head", "job"),
    *("attempt_seal", "seal_progress", "proposal", "tally", "tally_progress", "retention_walk"),
)
# Faster than TRUNCATE, which makes new files for each table and each of its indexes.
EMPTY = b"SET session_replication_role = replica; "
EMPTY += "; ".join(map("DELETE FROM {}".format, TABLES)).encode()
EMPTY += b"; RESET session_replication_role; ALTER SEQUENCE ordering_place_number RESTART;"
EMPTY += b" INSERT INTO seal_progress (sealed_until) VALUES (100);"
EMPTY += b" INSERT INTO tally_progress (counted_until) VALUES (3);"
EMPTY += b" INSERT INTO retention_walk (begins_at, taken_until) VALUES ('2000-01-01Z', '2000-01-01Z')"

type Act = Callable[[Database], object]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def lease(lease_id: LeaseId, *, since: datetime = NOW) -> Lease:
    return Lease(lease_id=lease_id, until=since + timedelta(seconds=40))


def destination(destination_id: DestinationId = PARTNER, name: str = "partner") -> Destination:
    return Destination(
        destination_id=destination_id,
        tenant_id=TENANT,
        name=name,
        base_url="https://bank.example",
        auth_type=AuthType.NONE,
        sealed_credentials=None,
        guarantee=Guarantee.AUTO,
        idempotent=False,
        idempotency_header="Idempotency-Key",
        timeouts=Timeouts(connect_seconds=2, first_byte_seconds=2, total_seconds=3),
        created_at=NOW,
    )


# What is done, first or meanwhile


def deliveries_listed(database: Database, wanted: Filter) -> object:
    return deliveries.page(database, wanted, limit=9)


def issues(database: Database, token_id: TokenId = TOKEN, tenant_id: TenantId = TENANT) -> object:
    return tenants.issue_token(
        database,
        tenant_id=tenant_id,
        tenant_name="acme",
        token_id=token_id,
        token_sha256=token_id.int.to_bytes(32),
        scopes=("read",),
        now=NOW,
    )


def issues_another(database: Database) -> object:
    return issues(database, TokenId(UUID(int=4)), TenantId(UUID(int=5)))


def revokes(database: Database, *, at: datetime = NOW) -> object:
    return tenants.revoke_token(database, token_id=TOKEN, now=at)


def stores(made: Destination) -> Act:
    def act(database: Database) -> object:
        try:
            destinations.insert(database, made)
        except NameTaken:
            return "taken"
        return "stored"

    return act


def accepts(
    delivery_id: DeliveryId = FIRST,
    *,
    wait_seconds: float | None = None,
    key: str | None = None,
    ordering_key: str | None = None,
) -> Act:
    def act(database: Database) -> object:
        new = NewDelivery(
            tenant_id=TENANT,
            destination="partner",
            method="POST",
            path="/x",
            idempotency_key=key,
            ordering_key=ordering_key,
        )
        held = lease(A)
        found = deliveries.accept(
            database,
            new,
            delivery_id=delivery_id,
            fingerprint=b"f" * 32,
            now=NOW,
            lease=held,
            wait_seconds=wait_seconds,
        )
        assert found is not None
        return accepted(database, found)

    return act


def accepted(database: Database, found: Acceptance) -> object:
    """The delivery is told as it is by then, so only which one it is must not change. What is handed out to be sent is
    leased to whom it is handed to."""
    if found.claim is not None:
        assert leases(database)[found.claim.delivery_id] == found.claim.lease_id
    return found.delivery.delivery_id, found.replayed


def leases(database: Database) -> dict[UUID, UUID | None]:
    rows = database.rows("SELECT delivery_id, lease_id FROM delivery", {})
    return {row["delivery_id"]: row["lease_id"] for row in rows}


def claims(lease_id: LeaseId, *, at: datetime = NOW) -> Act:
    return claims_all(lease_id, [SECOND, FIRST], at=at)


def claims_all(lease_id: LeaseId, delivery_ids: Sequence[DeliveryId], *, at: datetime = NOW) -> Act:
    def act(database: Database) -> object:
        found = deliveries.claim(database, delivery_ids, lease=lease(lease_id, since=at), now=at)
        held = leases(database)
        assert all(held[result.delivery_id] == lease_id for result in found if isinstance(result, Claim))
        return [claimed(result) for result in found]

    return act


def notes_slow(lease_id: LeaseId = A, *, share: int = 1) -> Act:
    return lambda database: deliveries.note_slow(database, [FIRST, SECOND], lease_id=lease_id, since=NOW, share=share)


def claimed(found: ClaimResult) -> object:
    if isinstance(found, Claim):
        return "claim", found.delivery_id, found.lapsed, found.attempts_made
    return type(found).__name__, found.delivery_id


def takes(renewal: UUID = RENEWAL, *, at: datetime = NOW, instead_of: UUID | None = None) -> Act:
    def act(database: Database) -> object:
        found = oauth_tokens.take(
            database, PARTNER, renewal_id=renewal, instead_of=instead_of, until=at + timedelta(seconds=15), now=at
        )
        if found is None:
            return None
        (row,) = database.rows(
            "SELECT renewal_id FROM oauth_token WHERE destination_id = %(partner)s", {"partner": PARTNER}
        )
        assert found.ours == (row["renewal_id"] == renewal)
        return found.ours

    return act


def rotates(ref: str, *, beneath: str | None = None) -> Act:
    """Gives the destination a key; with `beneath` in addition to that one, where it is there already."""

    def act(database: Database) -> object:
        found = destinations.find(database, tenant_id=TENANT, reference="partner")
        assert found is not None
        refs = [key.ref for one in found.options.signing or () for key in one.keys]
        keys = [KeyInfo(ref=name, key_id=name, created_at=NOW) for name in (ref, beneath) if name in (ref, *refs)]
        changed = replace(
            found,
            options=replace(found.options, signing=(scheme(StandardWebhooks(), name="s", keys=keys),)),
            sealed_signing=ref.encode(),
            version=2 + len(refs) if beneath else 2,
        )
        return destinations.set_signing(database, changed, new_ref=ref)

    return act


def stores_token(renewal: UUID = RENEWAL) -> Act:
    token = StoredToken(
        token_id=renewal,
        sealed_token=b"sealed",
        basis=b"basis",
        usable_until=later(300),
        renew_at=later(240),
        renewing_until=None,
    )
    return lambda database: oauth_tokens.store(database, PARTNER, token, renewal_id=renewal)


def fails_to_renew(renewal: UUID = RENEWAL) -> Act:
    return lambda database: oauth_tokens.fail(database, PARTNER, renewal_id=renewal, failure="why", again_at=later(30))


def attempt(outcome: str, *, number: int = 1, attempt_id: int = 30) -> Attempt:
    answered = outcome == "answered"
    return Attempt(
        attempt_id=AttemptId(UUID(int=attempt_id)),
        delivery_id=FIRST,
        number=number,
        outcome=OutcomeKind(outcome),
        reason=None if answered else "why",
        started_at=NOW,
        timings=Timings(total_ms=1.5),
        remote_address=None,
        egress_address=None,
        response=StoredResponse(status=201, headers=(), body=b"ok", length_bytes=2, sha256=b"s" * 32, truncated=False)
        if answered
        else None,
    )


def records(
    lease_id: LeaseId,
    made: Attempt,
    state: State,
    *,
    at: datetime = NOW,
    failed: bool | None = None,
    breaker_event_id: DeliveryId | None = None,
) -> Act:
    due_at = later(5) if state is State.PENDING else None

    def act(database: Database) -> object:
        made_by = Record(
            attempt=made,
            lease_id=lease_id,
            next_state=state,
            due_at=due_at,
            failed=failed,
            breaker_event_id=breaker_event_id,
        )
        return attempts.record(database, [made_by], now=at)

    return act


def entry(entry_id: int, *, tenant_id: TenantId = TENANT) -> Entry:
    """Of the audit log."""
    content: EntryContent = {
        "by": "token",
        "details": {},
        "entry_id": str(UUID(int=entry_id)),
        "members": ["name"],
        "on": "it",
        "source_address": None,
        "tenant_id": str(tenant_id),
        "what": "destination.changed",
    }
    return Entry(tenant_id=tenant_id, at=NOW, content=canonical(content))


def writes(entry_id: int, *, tenant_id: TenantId = TENANT) -> Callable[[Database], AuditCheckpoint]:
    """An entry of the audit log."""
    return lambda database: audit.append(database, entry(entry_id, tenant_id=tenant_id))


def seals_attempts(seal_id: int) -> Act:
    """An interval of this tenant's and one of another's."""
    made = [
        seals.AttemptSeal(
            seal_id=UUID(int=seal_id + number),
            leaves=b"h" * 64,
            entry=Entry(
                tenant_id=owner,
                at=NOW,
                content=canonical(
                    {"by": "s", "entry_id": str(UUID(int=70 + number)), "on": "", "tenant_id": str(owner), "what": "w"}
                ),
            ),
        )
        for number, owner in enumerate((TENANT, TenantId(UUID(int=9))))
    ]
    return lambda database: seals.store(database, made, since=100, until=200)


DELIVERED = records(A, attempt("answered"), State.DELIVERED)
FAILED = records(A, attempt("answered"), State.FAILED, failed=True)
RETRIED = records(A, attempt("unreachable"), State.PENDING)
LAPSED = records(B, attempt("unknown", attempt_id=31), State.UNKNOWN, at=later(61))
LAPSED_AND_RETRIED = records(B, attempt("unknown", attempt_id=31), State.PENDING, at=later(61))
SECOND_UNKNOWN = records(C, attempt("unknown", number=2, attempt_id=33), State.UNKNOWN, at=later(71))
SECOND_RETRIED = records(C, attempt("unknown", number=2, attempt_id=33), State.PENDING, at=later(71))


def decides(
    becomes: State, *since: State, resolution: Resolution | None = None, at: float = 70, change_id: int = 50
) -> Act:
    """A caller's decision about the first delivery."""

    def act(database: Database) -> object:
        wanted = DeliveryChange(
            change_id=UUID(int=change_id),
            control=DeliveryControl.RESOLVE
            if resolution
            else DeliveryControl.CANCEL
            if becomes is State.CANCELED
            else DeliveryControl.RETRY,
            becomes=becomes,
            by="token:x",
            due_at=later(at) if becomes is State.PENDING else None,
            resolution=resolution,
        )
        found = control.change(
            database, wanted, tenant_id=TENANT, delivery_id=FIRST, since=frozenset(since), now=later(at)
        )
        assert found is not None
        return found.done, None if found.done else found.state, found.woken

    return act


SENDS_AGAIN = decides(State.PENDING, State.UNKNOWN, resolution=Resolution.AGAIN)
CALLS_IT_FAILED = decides(State.FAILED, State.UNKNOWN, resolution=Resolution.FAILED)
RETRIES = decides(State.PENDING, State.PENDING, State.FAILED)
CANCELS = decides(State.CANCELED, State.PENDING)


def next_worker(database: Database) -> None:
    """Claims whatever is due by then, and records what becomes of it."""
    for claim in deliveries.claim(database, [FIRST], lease=lease(B, since=later(60)), now=later(60)):
        if isinstance(claim, Claim):
            made = attempt("unknown" if claim.lapsed else "answered", number=claim.attempts_made, attempt_id=32)
            state = State.UNKNOWN if claim.lapsed else State.DELIVERED
            records(B, made, state, at=later(61))(database)


def next_worker_at(seconds: float) -> Act:
    """The same at another time."""

    def act(database: Database) -> None:
        for claim in deliveries.claim(database, [FIRST], lease=lease(B, since=later(seconds)), now=later(seconds)):
            if isinstance(claim, Claim):
                made = attempt("answered", number=claim.attempts_made, attempt_id=33)
                records(B, made, State.DELIVERED, at=later(seconds + 1))(database)

    return act


def records_of(delivery_id: DeliveryId, lease_id: LeaseId, *, at: datetime) -> Act:
    """Its first attempt was answered."""
    made = replace(attempt("answered", attempt_id=34), delivery_id=delivery_id)
    return records(lease_id, made, State.DELIVERED, at=at)


def counts_attempts(database: Database) -> object:
    return tallies.count_attempts(database, step_id=UUID(int=70), now=NOW, limit=9)


def both(*acts: Act) -> Act:
    def act(database: Database) -> None:
        for act in acts:
            act(database)

    return act


def nothing(_: Database) -> None:
    pass


WALKER, OTHER_WALKER = UUID(int=95), UUID(int=96)


def takes_walk(walker_id: UUID, *, at: datetime = NOW) -> Act:
    return lambda database: retention.take_walk(database, walker_id=walker_id, now=at, for_seconds=60)


HOOK = DestinationId(UUID(int=6))
CERTIFICATE = CertificateFacts(
    subject="CN=us", issuer="CN=bank", serial_number="0a", not_before=NOW, not_after=later(86_400), sha256="ab" * 32
)
TOLD = replace(
    destination(),
    options=DestinationOptions(
        events_to=HOOK,
        certificate=CERTIFICATE,
        circuit_breaker=CircuitBreaker(failure_ratio=0.5, minimum_attempts=1, open_seconds=5),
    ),
)
WITH_HOOK = (issues, stores(TOLD), stores(destination(HOOK, "hook")))


def tells_of_certificate(event_id: int) -> Act:
    retained = Retained(destination_id=PARTNER, tenant_id=TENANT, options=None)
    return lambda database: retention.tell_certificate(
        database, retained, CERTIFICATE, days=7, event_id=DeliveryId(UUID(int=event_id)), now=NOW
    )


def leaves_walk(walker_id: UUID) -> Act:
    place = Place(destination_id=PARTNER, behind=FIRST)
    return lambda database: retention.leave_walk(database, place, walker_id=walker_id, now=NOW, next_at=later(9))


# The cases


@dataclass(frozen=True, kw_only=True)
class Case:
    """`before` sets the scene; `runs` is what is repeated, and returns of its answer what must not change."""

    statement: str
    runs: Act
    before: tuple[Act, ...] = ()
    meanwhile: Mapping[str, Act] = field(default_factory=dict)
    role: str = APPLICATION_ROLE
    told: str = ""


MANAGED = ManagedDestination(
    **{member.name: getattr(destination(), member.name) for member in fields(destination())},
    state=DestinationState.PAUSED,
    state_changed_at=NOW,
    state_changed_by="a token",
    version=2,
)


def changes(changed: ManagedDestination = MANAGED) -> Act:
    return lambda database: destinations.change(database, changed)


def deletes(*, cancel: bool = True) -> Act:
    current = replace(MANAGED, version=1)
    return lambda database: destinations.delete(database, current, cancel=cancel, deleted_by="a token", now=later(90))


def restores(database: Database) -> object:
    return destinations.restore(database, replace(MANAGED, version=1), now=later(90))


TENANCY = (issues,)
READY = (issues, stores(destination()))
PENDING = (*READY, accepts(), accepts(SECOND))
SENDING = (*READY, accepts(), claims(A))
LOST = (*SENDING, claims(B, at=later(60)), LAPSED)
BEGUN_AGAIN = (*SENDING, claims(B, at=later(60)), LAPSED_AND_RETRIED, claims(C, at=later(70)))
OTHERS = {"the next worker": next_worker}

LIMITED = replace(
    destination(),
    options=DestinationOptions(
        limits=Limits(rate=0.1, burst=1, concurrency=1),
        circuit_breaker=CircuitBreaker(failure_ratio=0.5, minimum_attempts=1, open_seconds=5),
    ),
)
SLOTS = replace(destination(), options=DestinationOptions(limits=Limits(concurrency=1)))
IN_ORDER = (*READY, accepts(ordering_key="k"), accepts(SECOND, ordering_key="k"))
# With limits, with slots, and in an order: what a first run took or passed on, the second one neither takes nor misses.
FLOW_CASES = [
    Case(statement="audit.append", runs=writes(50), meanwhile={"another": writes(51)}),
    *(
        Case(statement=f"seals.{name}", before=(*SENDING, DELIVERED), runs=runs)
        for name, runs in (
            ("unsealed", lambda database: sum(map(len, seals.unsealed(database, limit=9).leaves.values()))),
            ("store", seals_attempts(60)),
            ("leaves_of", lambda database: seals.leaves_of(database, tenant_id=TENANT, seal_id=UUID(int=60))),
            ("attempts_of", lambda database: seals.attempts_of(database, tenant_id=TENANT, seal_id=UUID(int=60))),
        )
    ),
    *(
        Case(statement=f"tallies.{name}", before=(*SENDING, DELIVERED), runs=runs)
        for name, runs in (
            ("count_attempts", counts_attempts),
            (
                "watched",
                lambda database: tallies.watched(database, tenant_id=TENANT, reference=None, before=None, limit=9),
            ),
            ("of_periods", lambda database: tallies.of_periods(database, [PARTNER], now=NOW)),
        )
    ),
    Case(
        statement="audit.page",
        before=(writes(49), writes(50)),
        runs=lambda database: audit.page(database, AuditFilter(tenant_id=TENANT), limit=2),
        meanwhile={"another": writes(51)},
    ),
    Case(
        statement="audit.export",
        before=(writes(49), writes(50)),
        runs=lambda database: audit.export(database, tenant_id=TENANT, after=0, since=None, until=None, limit=2),
        meanwhile={"another": writes(51)},
    ),
    Case(statement="audit.append", told="behind another", before=(writes(49),), runs=writes(50), role=ADMIN_ROLE),
    *(
        Case(
            statement="deliveries.claim",
            told=told,
            before=(issues, stores(limited), accepts(), accepts(SECOND)),
            runs=claims(A),
            meanwhile={"another at the same time": claims(B), "another after the lease": claims(B, at=later(60))},
        )
        for told, limited in (("with limits", LIMITED), ("with slots", SLOTS))
    ),
    Case(
        statement="deliveries.claim", told="in order", before=IN_ORDER, runs=claims(A), meanwhile={"another": claims(B)}
    ),
    Case(
        statement="deliveries.accept",
        told="at once with limits",
        before=(issues, stores(LIMITED)),
        runs=accepts(wait_seconds=20.0),
    ),
    Case(statement="deliveries.accept", told="in order", before=READY, runs=accepts(ordering_key="k")),
    *(
        Case(
            statement="attempts._write",
            told=told,
            before=(
                issues,
                stores(limited),
                accepts(),
                accepts(SECOND),
                claims_all(A, [FIRST]),
                claims_all(B, [SECOND]),
            ),
            runs=runs,
        )
        for told, limited, runs in (
            ("with limits", LIMITED, DELIVERED),
            ("with limits, failed", LIMITED, FAILED),
            ("that passes a slot on", SLOTS, DELIVERED),
        )
    ),
    Case(
        statement="deliveries.note_slow",
        before=SENDING,
        runs=notes_slow(),
        meanwhile={"recorded": DELIVERED, "another after the lease": claims(B, at=later(60)), **OTHERS},
    ),
    Case(
        statement="deliveries.claim",
        told="with a share",
        before=(*SENDING, accepts(SECOND), notes_slow(share=2)),
        runs=claims_all(B, [SECOND]),
        meanwhile={"another at the same time": claims_all(C, [SECOND])},
    ),
    Case(
        statement="attempts._write",
        told="that wakes who waits for a share",
        before=(*SENDING, accepts(SECOND), notes_slow(), claims_all(B, [SECOND])),
        runs=records(A, attempt("unknown"), State.UNKNOWN, failed=True),
    ),
    *(
        Case(statement="attempts._write", told=told, before=(*IN_ORDER, claims(A)), runs=runs)
        for told, runs in (("in order", DELIVERED), ("in order, failed", FAILED))
    ),
]
CASES = [
    Case(statement="tenants.issue_token", runs=issues, role=ADMIN_ROLE, meanwhile={"another": issues_another}),
    Case(
        statement="tenants.revoke_token",
        before=TENANCY,
        runs=revokes,
        role=ADMIN_ROLE,
        meanwhile={"later": lambda database: revokes(database, at=later(60))},
    ),
    Case(
        statement="tenants.tokens_of",
        before=TENANCY,
        runs=lambda database: tenants.tokens_of(database, tenant_name="acme"),
        role=ADMIN_ROLE,
        meanwhile={"another": issues_another, "revoked": revokes},
    ),
    Case(
        statement="tenants.create",
        runs=lambda database: tenants.create(database, tenant_id=TENANT, name="acme", now=NOW),
        role=ADMIN_ROLE,
        meanwhile={"another": issues_another},
    ),
    *(
        Case(statement=f"tenants.{name}", before=TENANCY, runs=runs, role=ADMIN_ROLE)
        for name, runs in (
            ("tenant_of", lambda database: tenants.tenant_of(database, TOKEN)),
            ("find", lambda database: tenants.find(database, name="acme")),
            ("page", lambda database: tenants.page(database, after="", limit=9)),
        )
    ),
    Case(
        statement="audit.head",
        before=(writes(49),),
        runs=lambda database: audit.head(database, tenant_id=TENANT),
        role=ADMIN_ROLE,
    ),
    Case(
        statement="tenants.destinations_of",
        before=READY,
        runs=lambda database: tenants.destinations_of(database, tenant_name="acme", references=["partner", "no"]),
        role=ADMIN_ROLE,
    ),
    Case(
        statement="deliveries.destination_of",
        before=PENDING,
        runs=lambda database: deliveries.destination_of(database, tenant_id=TENANT, delivery_id=FIRST),
    ),
    Case(
        statement="tenants.caller_of",
        before=TENANCY,
        runs=lambda database: tenants.caller_of(database, token_sha256=TOKEN.int.to_bytes(32), now=NOW),
        role=AUTHORIZER_ROLE,
        meanwhile={"revoked": revokes},
    ),
    Case(
        statement="destinations.insert",
        before=TENANCY,
        runs=stores(destination()),
        meanwhile={
            "the same name": stores(destination(DestinationId(UUID(int=6)))),
            "another": stores(destination(DestinationId(UUID(int=6)), "other")),
            "it is deleted": deletes(),
            "it is deleted, and its name taken": both(deletes(), stores(destination(DestinationId(UUID(int=6))))),
        },
    ),
    Case(
        statement="destinations.find",
        before=TENANCY,
        runs=lambda database: destinations.find(database, tenant_id=TENANT, reference="partner"),
        meanwhile={"stored": stores(destination())},
    ),
    Case(
        statement="destinations.set_signing",
        before=READY,
        runs=rotates("ours"),
        meanwhile={"another": rotates("another"), "another, on top": rotates("another", beneath="ours")},
    ),
    Case(
        statement="destinations.page",
        before=TENANCY,
        runs=lambda database: destinations.page(database, tenant_id=TENANT, before=None, limit=9),
        meanwhile={"stored": stores(destination())},
    ),
    Case(
        statement="destinations.change",
        before=READY,
        runs=changes(),
        meanwhile={"another": stores(destination(DestinationId(UUID(int=6)), "other"))},
    ),
    Case(
        statement="destinations.change",
        told="of an earlier version",
        before=(*READY, changes()),
        runs=changes(replace(MANAGED, base_url="https://other.example")),
        meanwhile={"another": stores(destination(DestinationId(UUID(int=6)), "other"))},
    ),
    Case(
        statement="destinations.delete",
        before=PENDING,
        runs=deletes(),
        meanwhile={"the name": stores(destination(DestinationId(UUID(int=6))))},
    ),
    Case(statement="destinations.delete", told="with deliveries", before=PENDING, runs=deletes(cancel=False)),
    Case(statement="destinations.restore", before=(*PENDING, deletes()), runs=restores),
    Case(
        statement="destinations.restore",
        told="without its name",
        before=(*PENDING, deletes(), stores(destination(DestinationId(UUID(int=6))))),
        runs=restores,
    ),
    Case(
        statement="deliveries.waiting",
        before=PENDING,
        runs=lambda database: deliveries.waiting(database, PARTNER, now=NOW, after=None, limit=9),
    ),
    Case(
        statement="deliveries.unfinished",
        before=PENDING,
        runs=lambda database: deliveries.unfinished(database, PARTNER),
    ),
    Case(
        statement="deliveries.cancel_waiting",
        before=PENDING,
        runs=lambda database: deliveries.cancel_waiting(database, PARTNER, now=later(91), limit=1),
        meanwhile=OTHERS,
    ),
    Case(
        statement="deliveries.cancel_abandoned",
        before=(*PENDING, deletes()),
        runs=lambda database: deliveries.cancel_abandoned(database, [SECOND, FIRST], now=later(91)),
        meanwhile=OTHERS,
    ),
    Case(
        statement="oauth_tokens.take",
        before=READY,
        runs=takes(),
        meanwhile={"another": takes(OTHER_RENEWAL), "another, later": takes(OTHER_RENEWAL, at=later(15))},
    ),
    Case(
        statement="oauth_tokens.take",
        told="again",
        before=(*READY, takes(OTHER_RENEWAL), stores_token(OTHER_RENEWAL)),
        runs=takes(instead_of=OTHER_RENEWAL),
        meanwhile={"another": takes(OTHER_RENEWAL, instead_of=OTHER_RENEWAL)},
    ),
    Case(
        statement="oauth_tokens.store",
        before=(*READY, takes()),
        runs=stores_token(),
        meanwhile={"another": takes(OTHER_RENEWAL, at=later(15), instead_of=RENEWAL)},
    ),
    Case(
        statement="oauth_tokens.find",
        before=(*READY, takes(), stores_token()),
        runs=lambda database: oauth_tokens.find(database, PARTNER),
        meanwhile={"another": takes(OTHER_RENEWAL, instead_of=RENEWAL)},
    ),
    Case(
        statement="oauth_tokens.fail",
        before=(*READY, takes()),
        runs=fails_to_renew(),
        meanwhile={"another": takes(OTHER_RENEWAL)},
    ),
    Case(
        statement="destinations.unknown_zones",
        runs=lambda database: destinations.unknown_zones(database, {"Europe/Berlin", "Europe/Berln", "CEST"}),
    ),
    *(
        Case(
            statement="deliveries.accept",
            told=told,
            before=READY,
            runs=accepts(wait_seconds=wait_seconds, key=key),
            meanwhile={
                "a worker": claims(B),
                "a worker after the lease": claims(B, at=later(60)),
                "a worker to the end": next_worker,
                "the same key": accepts(SECOND, key="order-1"),
            },
        )
        for told, wait_seconds, key in (("for later", None, None), ("at once", 20.0, None), ("a key", 20.0, "order-1"))
    ),
    Case(
        statement="deliveries.claim",
        told="fresh",
        before=PENDING,
        runs=claims(A),
        meanwhile={"another at the same time": claims(B), "another after the lease": claims(B, at=later(60)), **OTHERS},
    ),
    Case(
        statement="deliveries.claim",
        told="lapsed",
        before=SENDING,
        runs=claims(C, at=later(50)),
        meanwhile={
            "another at the same time": claims(B, at=later(50)),
            "another after the lease": claims(B, at=later(100)),
            "the truth": DELIVERED,
            "the truth, to be retried": RETRIED,
        },
    ),
    *(
        Case(statement="attempts._write", told=told, before=SENDING, runs=runs, meanwhile=OTHERS)
        for told, runs in (
            ("delivered", DELIVERED),
            ("retried", RETRIED),
            ("unknown", records(A, attempt("unknown"), State.UNKNOWN)),
        )
    ),
    Case(
        statement="attempts._write",
        told="of a lapse",
        before=(*SENDING, claims(B, at=later(60))),
        runs=LAPSED,
        meanwhile={"the truth": DELIVERED, "the truth, to be retried": RETRIED},
    ),
    *(
        Case(
            statement="attempts._write",
            told=f"of a late truth, {told}",
            before=before,
            runs=DELIVERED,
            meanwhile={"the lapse again": LAPSED, **OTHERS},
        )
        for told, before in (
            ("unknown by then", LOST),
            ("held by then", (*SENDING, claims(B, at=later(60)))),
            ("to be retried by then", (*SENDING, claims(B, at=later(60)), LAPSED_AND_RETRIED)),
            ("with another attempt in flight by then", BEGUN_AGAIN),
            ("with another attempt unknown by then", (*BEGUN_AGAIN, SECOND_UNKNOWN)),
        )
    ),
    Case(
        statement="attempts._write",
        told="of an attempt that an earlier one made needless",
        before=(*BEGUN_AGAIN, DELIVERED),
        runs=SECOND_RETRIED,
        meanwhile=OTHERS,
    ),
    Case(
        statement="attempts.of_delivery",
        before=SENDING,
        runs=lambda database: attempts.of_delivery(database, FIRST),
        meanwhile={"recorded": DELIVERED},
    ),
    Case(
        statement="attempts.with_delivery",
        before=SENDING,
        runs=lambda database: attempts.with_delivery(database, tenant_id=TENANT, delivery_id=FIRST),
        meanwhile={"recorded": DELIVERED},
    ),
    Case(
        statement="deliveries.find",
        before=SENDING,
        runs=lambda database: deliveries.find(database, tenant_id=TENANT, delivery_id=FIRST),
        meanwhile={"recorded": DELIVERED},
    ),
    Case(
        statement="deliveries.has_ended",
        before=SENDING,
        runs=lambda database: deliveries.has_ended(database, tenant_id=TENANT, delivery_id=FIRST),
        meanwhile={"recorded": DELIVERED},
    ),
    *(
        Case(
            statement=f"deliveries.{name}",
            before=SENDING,
            runs=partial(deliveries_listed, wanted=replace(Filter(tenant_id=TENANT), **wanted)),  # type: ignore[arg-type]
            meanwhile={"accepted": accepts(SECOND)},
        )
        for name, wanted in {
            "_newest": {},
            "_of_key": {"idempotency_key": str(FIRST)},
            "_with_rarest_term": {"ordering_key": "k"},
            "_of_phases": {"outcome": OutcomeKind.ANSWERED},
            "_matching": {"status_class": 2},
        }.items()
    ),
    Case(
        statement="retention.next_destination",
        before=SENDING,
        runs=lambda database: retention.next_destination(database, after=None),
    ),
    Case(
        statement="retention.retire_page",
        before=SENDING,
        runs=lambda database: retention.retire_page(
            database,
            Place(destination_id=PARTNER),
            cutoffs=Cutoffs(records=NOW, bodies=later(86_400), responses=later(86_400)),
        ),
        meanwhile={"recorded": DELIVERED},
    ),
    Case(statement="retention.take_walk", runs=takes_walk(WALKER), meanwhile={"another": takes_walk(OTHER_WALKER)}),
    Case(
        statement="retention.take_walk",
        told="that another one has",
        before=(takes_walk(OTHER_WALKER),),
        runs=takes_walk(WALKER),
    ),
    Case(
        statement="audit.ends",
        before=(issues, writes(50), writes(51, tenant_id=TenantId(UUID(int=9)))),
        runs=lambda database: audit.ends(database, since=NOW),
    ),
    Case(
        statement="deliveries.events",
        before=(*WITH_HOOK, tells_of_certificate(80), accepts()),
        runs=lambda database: list(deliveries.events(database, [DeliveryId(UUID(int=80)), FIRST]).values()),
    ),
    Case(
        statement="retention.tell_certificate",
        before=WITH_HOOK,
        runs=tells_of_certificate(80),
        meanwhile={"another": tells_of_certificate(81)},
    ),
    Case(
        statement="retention.tell_certificate",
        told="that was told",
        before=(*WITH_HOOK, tells_of_certificate(79)),
        runs=tells_of_certificate(80),
    ),
    Case(
        statement="attempts._write",
        told="and opens a breaker",
        before=(*WITH_HOOK, accepts(), claims(A)),
        runs=records(
            A,
            attempt("unreachable"),
            State.PENDING,
            failed=True,
            breaker_event_id=DeliveryId(UUID(int=82)),
        ),
    ),
    Case(statement="retention.leave_walk", before=(takes_walk(WALKER),), runs=leaves_walk(WALKER)),
    Case(
        statement="sightings.seen_from",
        before=SENDING,
        runs=lambda database: sightings.seen_from(database, address=IPv4Address("203.0.113.9"), after=None),
        role=ADMIN_ROLE,
    ),
    Case(
        statement="deliveries.overdue",
        before=PENDING,
        runs=lambda database: deliveries.overdue(database, since=later(600), after=None, limit=9),
        meanwhile={"claimed since": claims(B, at=later(700)), **OTHERS},
    ),
    Case(
        statement="deliveries.count_overdue",
        told="sent",
        before=SENDING,
        runs=lambda database: [
            deliveries.count_overdue(database, since=later(seconds), after=after)
            for seconds in (0, 40, 41)
            for after in (None, PARTNER)
        ],
    ),
    Case(
        statement="deliveries.count_overdue",
        before=PENDING,
        runs=lambda database: deliveries.count_overdue(database, since=later(600), after=None),
        meanwhile={"claimed since": claims(B, at=later(700)), **OTHERS},
    ),
]
ENDED_UNKNOWN = records(A, attempt("unknown"), State.UNKNOWN)


def expunges(database: Database) -> object:
    """The entry is written once; whoever runs it again learns that the payload is gone."""
    content = canonical({"by": "t", "entry_id": str(UUID(int=90)), "on": "", "tenant_id": str(TENANT), "what": "w"})
    entry = Entry(tenant_id=TENANT, at=NOW, content=content)
    found = payloads.expunge(database, tenant_id=TENANT, delivery_id=FIRST, entry=entry)
    assert found is not None
    return found.done, found.state


CONTROL_CASES = [
    Case(
        statement="payloads.expunge",
        before=(*SENDING, DELIVERED),
        runs=expunges,
        meanwhile={"another": expunges, "an entry": writes(51)},
    ),
    Case(statement="payloads.expunge", told="too early", before=SENDING, runs=expunges, meanwhile=OTHERS),
    *(
        Case(
            statement="control.change",
            told=told,
            before=(*SENDING, ENDED_UNKNOWN),
            runs=runs,
            meanwhile={
                "the next worker": next_worker_at(80),
                "another decides": decides(
                    State.DELIVERED, State.UNKNOWN, resolution=Resolution.DELIVERED, at=71, change_id=51
                ),
            },
        )
        for told, runs in (("again", SENDS_AGAIN), ("as failed", CALLS_IT_FAILED))
    ),
    *(
        Case(statement="control.change", told=told, before=before, runs=runs, meanwhile=OTHERS)
        for told, before, runs in (
            ("retries what failed", (*SENDING, FAILED), RETRIES),
            ("retries what waits", (*SENDING, RETRIED), RETRIES),
            ("cancels", PENDING, CANCELS),
            ("cancels what is sent", SENDING, CANCELS),
        )
    ),
    *(
        Case(statement="control.change", told=told, before=before, runs=runs)
        for told, before, runs in (
            ("cancels, in order", IN_ORDER, CANCELS),
            ("as failed, in order", (*IN_ORDER, claims(A), ENDED_UNKNOWN), CALLS_IT_FAILED),
            ("again, in order", (*IN_ORDER, claims(A), ENDED_UNKNOWN), SENDS_AGAIN),
            (
                "cancels, with a slot passed on to it",
                (
                    issues,
                    stores(SLOTS),
                    accepts(THIRD),
                    claims_all(B, [THIRD]),
                    accepts(),
                    accepts(SECOND),
                    claims_all(A, [FIRST, SECOND], at=later(1)),
                    records_of(THIRD, B, at=later(69)),
                ),
                CANCELS,
            ),
        )
    ),
]
JOB_ID, OTHER_JOB_ID = JobId(UUID(int=60)), JobId(UUID(int=61))


def job_of(act: JobAct, state: State, *, job_id: JobId = JOB_ID) -> BulkJob:
    return BulkJob(
        job_id=job_id,
        act=act,
        bounds=Bounds(
            tenant_id=TENANT,
            state=state,
            since_id=DeliveryId(UUID(int=0)),
            until_id=DeliveryId(UUID(int=99)),
            as_of=later(100),
            destination_id=PARTNER,
        ),
        destination_name="partner",
        rate=10.0,
        expected=2,
        created_by="token:x",
        state=JobState.RUNNING,
        after_id=DeliveryId(UUID(int=0)),
        paced_until=later(100),
        changed=0,
        skipped=0,
        finished_at=None,
    )


CANCELING, REPLAYING = job_of(JobAct.CANCEL, State.PENDING), job_of(JobAct.REPLAY, State.FAILED)
REPEATING = job_of(JobAct.REPLAY, State.DELIVERED)


def creates(job: BulkJob, *, key: str | None = None) -> Act:
    return lambda database: jobs.insert(database, job, idempotency_key=key)


def makes_step(job: BulkJob, *, step_id: int = 70, ids: Sequence[DeliveryId] = (FIRST, SECOND)) -> Act:
    """The first step of a job, after which it is done."""

    def act(database: Database) -> object:
        step = JobStep(
            step_id=UUID(int=step_id),
            moves=[
                Move(delivery_id=each, due_at=later(200), new_id=DeliveryId(UUID(int=100 + each.int))) for each in ids
            ],
            looked_at=2,
            last_id=SECOND,
            paced_until=later(201),
            is_last=True,
        )
        by_act = jobs.cancel if job.act is JobAct.CANCEL else jobs.send_again
        return (jobs.repeat if job is REPEATING else by_act)(database, job, step, now=later(110))

    return act


def moves_job(becomes: JobState, *since: JobState, move_id: int = 72) -> Act:
    return lambda database: jobs.move(
        database,
        JOB_ID,
        tenant_id=TENANT,
        since=since,
        becomes=becomes,
        move_id=UUID(int=move_id),
        now=later(105),
    )


PAUSES_JOB = moves_job(JobState.PAUSED, JobState.RUNNING)
JOB_CASES = [
    *(
        Case(
            statement=f"jobs.{name}",
            told=told,
            before=(*before, creates(job)),
            runs=makes_step(job),
            meanwhile={"another step": makes_step(job, step_id=71), "it is paused": PAUSES_JOB, **meanwhile},
        )
        for name, told, job, before, meanwhile in (
            ("cancel", "", CANCELING, PENDING, OTHERS),
            ("cancel", "in order", CANCELING, IN_ORDER, {}),
            ("send_again", "", REPLAYING, (*SENDING, FAILED, accepts(SECOND)), {"another decides": RETRIES}),
            ("send_again", "in order", REPLAYING, (*IN_ORDER, claims(A), FAILED), {}),
            (
                "send_again",
                "unknown",
                job_of(JobAct.REPLAY, State.UNKNOWN),
                (*SENDING, ENDED_UNKNOWN, accepts(SECOND)),
                {"another decides": CALLS_IT_FAILED},
            ),
            ("repeat", "", REPEATING, (*SENDING, DELIVERED, accepts(SECOND)), OTHERS),
            ("repeat", "in order", REPEATING, (*IN_ORDER, claims(A), DELIVERED), {}),
        )
    ),
    Case(
        statement="jobs.insert",
        before=READY,
        runs=creates(CANCELING, key="k"),
        meanwhile={
            "the same key": creates(job_of(JobAct.CANCEL, State.PENDING, job_id=OTHER_JOB_ID), key="k"),
            "another": creates(job_of(JobAct.CANCEL, State.PENDING, job_id=OTHER_JOB_ID)),
        },
    ),
    *(
        Case(
            statement="jobs.move",
            told=told,
            before=(*PENDING, creates(CANCELING)),
            runs=runs,
            meanwhile={
                "a step": makes_step(CANCELING),
                "it is canceled": moves_job(JobState.CANCELED, *JobState, move_id=73),
            },
        )
        for told, runs in (("pauses", PAUSES_JOB), ("cancels", moves_job(JobState.CANCELED, JobState.RUNNING)))
    ),
    Case(
        statement="jobs.find",
        before=(*PENDING, creates(CANCELING)),
        runs=lambda database: jobs.find(database, JOB_ID, tenant_id=TENANT),
        meanwhile={"a step": makes_step(CANCELING)},
    ),
    Case(
        statement="jobs.page",
        before=(*PENDING, creates(CANCELING)),
        runs=lambda database: jobs.page(database, tenant_id=TENANT, before=None, limit=9),
        meanwhile={"a step": makes_step(CANCELING)},
    ),
    Case(
        statement="jobs.listed",
        before=(*PENDING, creates(CANCELING)),
        runs=lambda database: jobs.listed(database, CANCELING),
        meanwhile={"a step": makes_step(CANCELING)},
    ),
    Case(
        statement="jobs.survey",
        before=(*SENDING, FAILED),
        runs=lambda database: jobs.survey(database, REPLAYING.bounds),
        meanwhile={"another decides": RETRIES},
    ),
]
PROPOSAL_ID = ProposalId(UUID(int=80))


def proposes(proposal_id: ProposalId = PROPOSAL_ID) -> Act:
    proposal = Proposal(
        proposal_id=proposal_id,
        tenant_id=TENANT,
        act="delivery.resolve",
        target="/v1/deliveries/x/resolve",
        request={"as": "failed"},
        state=ProposalState.OPEN,
        created_at=NOW,
        created_by="one",
        expires_at=later(100),
    )
    return lambda database: proposals.insert(database, proposal, sealed_request=b"sealed")


def approves(by: str = "other", *, at: datetime = NOW) -> Act:
    return lambda database: proposals.approve(database, PROPOSAL_ID, tenant_id=TENANT, by=by, now=at)


def rejects(by: str = "other", *, at: datetime = NOW) -> Act:
    return lambda database: proposals.reject(database, PROPOSAL_ID, tenant_id=TENANT, by=by, now=at)


def finishes(database: Database) -> None:
    proposals.finish(database, PROPOSAL_ID, state=ProposalState.DONE)


def wants_approvals(above: int | None) -> Act:
    return lambda database: proposals.set_approvals(database, tenant_name="acme", above=above)


def _find_proposal(database: Database) -> object:
    return proposals.find(database, PROPOSAL_ID, tenant_id=TENANT, now=NOW)


OLD_KEY, NEW_KEY = b"\x01oldk", b"\x01newk"  # how a value begins that they sealed
SEALED_WITH_OLD_KEY = replace(MANAGED, auth_type=AuthType.BEARER, sealed_credentials=OLD_KEY + b"credentials")


def reseals(database: Database) -> object:
    return sealed_values.reseal_destination(
        database,
        PARTNER,
        before=sealed_values.SealedDestination(credentials=OLD_KEY + b"credentials", certificate=None, signing=None),
        sealed=sealed_values.SealedDestination(credentials=NEW_KEY + b"credentials", certificate=None, signing=None),
        bases=(b"basis", b"new basis"),
    )


def reseals_token(database: Database) -> object:
    return sealed_values.reseal_token(database, PARTNER, before=b"sealed", sealed=NEW_KEY + b"token")


def reseals_proposal(database: Database) -> object:
    return sealed_values.reseal_proposal(database, PROPOSAL_ID, before=b"sealed", sealed=NEW_KEY + b"call")


SEALED = (
    *READY,
    changes(SEALED_WITH_OLD_KEY),
    takes(),
    stores_token(),
    proposes(),
)
SEALED_CASES = [
    Case(
        statement="sealed_values.reseal_destination",
        before=SEALED,
        runs=reseals,
        meanwhile={
            "a change": changes(replace(SEALED_WITH_OLD_KEY, sealed_credentials=b"another", version=3)),
            "a token": both(takes(OTHER_RENEWAL, instead_of=RENEWAL), stores_token(OTHER_RENEWAL)),
        },
    ),
    Case(
        statement="sealed_values.reseal_token",
        before=SEALED,
        runs=reseals_token,
        meanwhile={"another": both(takes(OTHER_RENEWAL, instead_of=RENEWAL), stores_token(OTHER_RENEWAL))},
    ),
    Case(
        statement="sealed_values.reseal_proposal",
        before=SEALED,
        runs=reseals_proposal,
        meanwhile={"it is approved": approves(), "it is rejected": rejects()},
    ),
    *(
        Case(statement=f"sealed_values.{name}", before=SEALED, runs=runs, meanwhile={"it is resealed": reseals})
        for name, runs in (
            ("count", lambda database: sealed_values.count(database, [b"oldk"])),
            (
                "destinations",
                lambda database: [
                    found.destination_id for found in sealed_values.destinations(database, [b"oldk"], after=None)
                ],
            ),
            ("tokens", lambda database: sealed_values.tokens(database, [b"eale"], after=None)),
            ("proposals", lambda database: sealed_values.proposals(database, [b"eale"], after=None)),
        )
    ),
]
PROPOSED = (*TENANCY, proposes())
PROPOSAL_CASES = [
    Case(
        statement="proposals.insert",
        before=TENANCY,
        runs=proposes(),
        meanwhile={"another": proposes(ProposalId(UUID(int=81))), "it is approved": approves()},
    ),
    *(
        Case(statement=f"proposals.{name}", told=told, before=PROPOSED, runs=runs, meanwhile=meanwhile)
        for name, told, runs, meanwhile in (
            ("approve", "", approves(), {"a third one": approves("third"), "it is rejected": rejects("third")}),
            ("approve", "by the same", approves("one"), {}),
            ("approve", "too late", approves(at=later(100)), {}),
            ("reject", "too late", rejects(at=later(100)), {}),
            ("reject", "", rejects(), {"a third one": approves("third"), "it is rejected": rejects("third")}),
            ("find", "", _find_proposal, {"it is approved": approves()}),
            (
                "page",
                "",
                lambda database: proposals.page(database, tenant_id=TENANT, before=None, limit=9, now=NOW),
                {"another": proposes(ProposalId(UUID(int=81)))},
            ),
        )
    ),
    *(
        Case(statement=f"proposals.{name}", told="decided", before=(*PROPOSED, approves()), runs=runs)
        for name, runs in (("find", _find_proposal), ("reject", rejects("third")), ("approve", approves("third")))
    ),
    Case(statement="proposals.finish", before=(*PROPOSED, approves()), runs=finishes, meanwhile={"again": finishes}),
    Case(
        statement="proposals.approvals_above",
        before=(*TENANCY, wants_approvals(5)),
        runs=lambda database: proposals.approvals_above(database, TENANT),
        meanwhile={"changed": wants_approvals(6)},
    ),
    Case(
        statement="proposals.set_approvals",
        before=TENANCY,
        runs=wants_approvals(5),
        role=ADMIN_ROLE,
        meanwhile={"another": wants_approvals(None)},
    ),
]


# Questions to partners about what is unknown: the same statements, whose branches for it no other case takes.
ASKING = replace(
    destination(),
    options=DestinationOptions(
        reconcile=Reconcile(path="/{idempotency_key}", received=(AnswerRule(status=200),)),
        limits=Limits(concurrency=2),
    ),
)


def ends_unknown(database: Database) -> object:
    made_by = Record(
        attempt=attempt("unknown"), lease_id=A, next_state=State.UNKNOWN, due_at=None, failed=True, ask_at=later(30)
    )
    return attempts.record(database, [made_by], now=NOW)


def asks(lease_id: LeaseId, *, at: datetime, now_wanted: bool = False) -> Act:
    def act(database: Database) -> object:
        found = deliveries.claim(database, [FIRST], lease=lease(lease_id, since=at), now=at, asks_now=now_wanted)
        return [claimed(result) for result in found]

    return act


def is_told(state: State, *, silent: bool = False, lease_id: LeaseId = B) -> Act:
    """What a question came to: the partner's word, or none."""
    made_by = Record(
        attempt=replace(
            attempt("unknown" if silent else "answered", number=2, attempt_id=35), kind=AttemptKind.RECONCILE
        ),
        lease_id=lease_id,
        next_state=state,
        due_at=later(62) if state is State.PENDING else None,
        failed=silent,
        ask_at=later(200) if state is State.UNKNOWN else None,
        silent=silent,
        sends=1,
    )
    return lambda database: attempts.record(database, [made_by], now=later(62))


UNKNOWN = (issues, stores(ASKING), accepts(), claims(A), ends_unknown)
ASKED = (*UNKNOWN, asks(B, at=later(60)))
QUESTION_CASES = [
    *(
        Case(
            statement="deliveries.claim",
            told=told,
            before=UNKNOWN,
            runs=runs,
            meanwhile={"another asks": asks(C, at=later(60)), "a person decides": CALLS_IT_FAILED},
        )
        for told, runs in (
            ("a question", asks(B, at=later(60))),
            ("a question at once", asks(B, at=later(5), now_wanted=True)),
            ("a question before its time", asks(B, at=later(5))),
        )
    ),
    *(
        Case(
            statement="attempts._write",
            told=f"a question: {told}",
            before=ASKED,
            runs=runs,
            meanwhile={
                "a person decides": CALLS_IT_FAILED,
                "a person sends it again": SENDS_AGAIN,
                "another asks when its lease is over": asks(C, at=later(101)),
            },
        )
        for told, runs in (
            ("received", is_told(State.DELIVERED)),
            ("rejected", is_told(State.FAILED)),
            ("absent", is_told(State.PENDING)),
            ("it says something else", is_told(State.UNKNOWN)),
            ("silence", is_told(State.UNKNOWN, silent=True)),
            ("another has it", is_told(State.DELIVERED, lease_id=LeaseId(UUID(int=29)))),
        )
    ),
    Case(
        statement="deliveries.waiting",
        told="to be asked about",
        before=UNKNOWN,
        runs=lambda database: [
            deliveries.waiting(database, PARTNER, now=later(seconds), after=None, limit=9) for seconds in (29, 30)
        ],
    ),
    Case(
        statement="deliveries.overdue",
        told="to be asked about",
        before=UNKNOWN,
        runs=lambda database: [
            deliveries.overdue(database, since=later(seconds), after=None, limit=9) for seconds in (30, 31)
        ],
    ),
    Case(
        statement="deliveries.count_overdue",
        told="to be asked about",
        before=ASKED,
        runs=lambda database: [
            deliveries.count_overdue(database, since=later(seconds), after=None) for seconds in (31, 100, 101)
        ],
    ),
]
CASES += FLOW_CASES + CONTROL_CASES + JOB_CASES + PROPOSAL_CASES + QUESTION_CASES + SEALED_CASES
WRITING = writing(Path(__file__).parents[2])


def where_it_is_there(act: Act) -> Act:
    """The same, where the first delivery is there."""
    query = "SELECT FROM delivery WHERE delivery_id = %(delivery_id)s"
    return lambda database: act(database) if database.rows(query, {"delivery_id": FIRST}) else None


def expires(database: Database) -> object:
    cutoffs = Cutoffs(records=NOW, bodies=later(86_400), responses=later(86_400))
    return retention.retire_page(database, Place(destination_id=PARTNER), cutoffs=cutoffs)


# What may happen to anything, between a statement and its repeat.
ANYTIME: Mapping[str, Act] = {
    "a later worker": next_worker_at(300),
    "it is canceled": where_it_is_there(decides(State.CANCELED, State.PENDING, at=95, change_id=58)),
    "it is retried": where_it_is_there(decides(State.PENDING, State.PENDING, State.FAILED, at=95, change_id=59)),
    "it is expunged": where_it_is_there(expunges),
    "bodies expire": expires,
    "the destination is changed": changes(),
    "the destination is deleted": deletes(),
    "others act": both(writes(59), revokes),
}
# What a repeat finds otherwise, and why.
OTHERWISE = {
    # The row has the last change alone, so who comes after another one is told what stands since then.
    **{
        ("control.change", told, name): "what stands"
        for told in ("as failed, in order", "again, in order")
        for name in ("it is canceled", "it is retried")
    },
    # It wakes one more.
    ("control.change", "again, in order", "a later worker"): "a wake-up",
    # What is deleted has another name, and is not found by that of the call. It is canceled, whatever is answered.
    **{
        ("deliveries.accept", told, "the destination is deleted"): "not found"
        for told in ("at once with limits", "in order")
    },
}


def meanwhile(case: Case) -> Mapping[str, Act]:
    """What it is run again after: its own acts, and where it has none and writes, whatever may happen anytime."""
    return {"nothing": nothing, **(case.meanwhile or (ANYTIME if case.statement in WRITING else {}))}


EACH = [
    pytest.param(case, act, id="-".join(filter(None, (case.statement, case.told, name))).replace(" ", "_"))
    for case in CASES
    for name, act in meanwhile(case).items()
    if (case.statement, case.told, name) not in OTHERWISE
]


def all_rows(database: Database) -> dict[str, list[Any]]:
    """By table, without the numbers of transactions, which no two runs have in common."""
    return database.connection().execute(_ALL_ROWS).fetchall()[0]


_ROWS = "ARRAY (SELECT to_jsonb({0}) - '{{recorded_in,counted_until}}'::text[] FROM {0} ORDER BY 1) AS {0}"
_ALL_ROWS = f"SELECT {', '.join(map(_ROWS.format, TABLES))}".encode()


# The tests


def test_every_statement_is_run_again_and_has_a_case_here(repository: Path) -> None:
    found = {}
    for path in (repository / "src/db").glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            calls = [_call for _call in ast.walk(function) if _is_statement(_call)]
            if isinstance(function, ast.FunctionDef) and calls:
                found[f"{path.stem}.{function.name}"] = all(_is_repeated(_call) for _call in calls)
    assert found == dict.fromkeys({case.statement for case in CASES}, True)


def _is_statement(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="database"), attr="rows" | "read")):
            return True
    return False


def _is_repeated(node: ast.AST) -> bool:
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Attribute)
    named = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    return node.func.attr == "read" or named.get("repeatable") == "True"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A database that is emptied before each run, and the wire to it."""

    database: FreshDatabase
    superuser: Database
    wire: Wire

    def over_the_wire(self, role: str) -> Database:
        host = quote(self.wire.directory, safe="")
        return Database(DatabaseSettings(database_url=f"postgresql:///{self.database.name}?host={host}&user={role}"))

    def set_scene(self, case: Case) -> None:
        self.superuser.connection().execute(EMPTY)
        both(*case.before)(self.superuser)

    def rows(self) -> dict[str, list[Any]]:
        return all_rows(self.superuser)


@pytest.fixture
def stage(shared_database: FreshDatabase) -> Iterator[Stage]:
    wire = Wire(shared_database.url)
    with closing(Database(DatabaseSettings(database_url=shared_database.admin_url))) as superuser:
        yield Stage(database=shared_database, superuser=superuser, wire=wire)
    wire.close()


@pytest.mark.parametrize(("case", "act"), EACH)
def test_run_twice_it_does_and_says_what_a_single_run_would(stage: Stage, case: Case, act: Act) -> None:
    stage.set_scene(case)
    first_it = case.runs(stage.superuser)
    act(stage.superuser)
    rows_first_it = stage.rows()

    stage.set_scene(case)
    act(stage.superuser)
    first_they = case.runs(stage.superuser)
    rows_first_they = stage.rows()

    stage.set_scene(case)
    with closing(stage.over_the_wire(case.role)) as database:
        database.connection()
        stage.wire.cut_after_the_next_commit(lambda: act(stage.superuser))
        answer = case.runs(database)
    assert stage.wire.cuts == 1
    assert answer in (first_it, first_they)
    assert stage.rows() in (rows_first_it, rows_first_they)
    if act is nothing:
        assert answer == first_it


@pytest.mark.parametrize(
    "since",
    [
        both(claims(A), DELIVERED),
        both(claims(A), DELIVERED, expunges),
        both(claims(A), FAILED),
        both(claims(A), ENDED_UNKNOWN),
        CANCELS,
        claims(A),
        nothing,
    ],
    ids=["delivered", "without payload", "failed", "unknown", "canceled", "sent", "nothing"],
)
def test_what_has_ended_when_accepting_it_is_repeated_gets_neither_place_nor_payload_back(
    stage: Stage, since: Act
) -> None:
    """Or it would hold back those behind it without end (make simulate, seed 601852620)."""
    again = accepts(ordering_key="k")
    stage.set_scene(Case(statement="deliveries.accept", before=(*READY, again), runs=again))
    since(stage.superuser)
    rows = stage.rows()
    again(stage.superuser)
    assert stage.rows() == rows


def test_a_lapsed_claim_stays_lapsed_when_it_is_repeated(stage: Stage) -> None:
    """Or its request, which may have gone out, would go out again."""
    stage.set_scene(replace(CASES[0], before=SENDING))
    for _ in range(2):
        (found,) = deliveries.claim(stage.superuser, [FIRST], lease=lease(B, since=later(60)), now=later(60))
        assert isinstance(found, Claim)
        assert found.lapsed


def state(stage: Stage) -> tuple[Any, ...]:
    (row,) = stage.superuser.rows(
        "SELECT state, outcome, number FROM delivery JOIN attempt USING (delivery_id) WHERE number = 1", {}
    )
    return tuple(row.values())


@pytest.mark.parametrize(
    ("before", "truth", "becomes"),
    [
        (LOST, DELIVERED, ("delivered", "answered")),
        (LOST, records(A, attempt("refused"), State.FAILED), ("failed", "refused")),
        # Who read `unknown` may have acted upon it, so nothing is sent any more.
        (LOST, RETRIED, ("unknown", "unreachable")),
        # Nobody has read it yet.
        ((*SENDING, claims(B, at=later(60))), RETRIED, ("pending", "unreachable")),
        ((*SENDING, claims(B, at=later(60)), LAPSED_AND_RETRIED), DELIVERED, ("delivered", "answered")),
        # A retry is on its way, and has the last word.
        (
            (*SENDING, claims(B, at=later(60)), LAPSED_AND_RETRIED, claims(C, at=later(70))),
            DELIVERED,
            ("sending", "answered"),
        ),
        # A claim that ran late began another attempt under the lease of a lapse, which says nothing about that one, and
        # is no success (make simulate, seed 4073323490).
        (
            (*SENDING, claims(B, at=later(60)), RETRIED, claims(B, at=later(70)), LAPSED, claims(C, at=later(140))),
            SECOND_UNKNOWN,
            ("unknown", "unreachable"),
        ),
        # A lapse is no truth.
        ((*SENDING, DELIVERED), LAPSED, ("delivered", "answered")),
    ],
)
def test_a_late_truth_wins_over_a_lapse(
    stage: Stage, before: tuple[Act, ...], truth: Act, becomes: tuple[str, str]
) -> None:
    stage.set_scene(replace(CASES[0], before=before))
    truth(stage.superuser)
    assert state(stage) == (*becomes, 1)
