"""Every rule of the schema refuses what it is there for, and nothing else.

The rules are read from PostgreSQL's catalogue: a rule without a case here fails, and so does a case whose rule is gone.
A case is a valid row of which a few columns are changed. It is refused under the rule's name; and in a transaction
without that rule the same row is taken, so that nothing else was wrong with it. What lies just inside of a bound is
taken.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from domain.auth import AuthType
from domain.deliveries import Payload, Resolution, State
from domain.destinations import DestinationState, Guarantee
from domain.jobs import JobState
from domain.outcomes import OutcomeKind
from domain.proposals import ProposalState
from domain.scopes import ALL_SCOPES
from tests.support.databases import FreshDatabase

type Row = Mapping[str, object]
type Connection = psycopg.Connection[tuple[object, ...]]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
# There are two tenants, each with a destination, a delivery and a token; the first one's delivery has an attempt.
ACME, OTHERS = UUID(int=1), UUID(int=2)
TOKEN, BANK, THEIR_BANK = UUID(int=3), UUID(int=4), UUID(int=5)
DELIVERY, THEIR_DELIVERY, ATTEMPT = UUID(int=6), UUID(int=7), UUID(int=8)
NEW_DELIVERY, NOBODY = UUID(int=13), UUID(int=99)

JOB, PROPOSAL, SEAL = UUID(int=16), UUID(int=17), UUID(int=18)
OLDER_ENTRY, ENTRY = UUID(int=19), UUID(int=20)


def content(entry_id: UUID = ENTRY, tenant_id: UUID = ACME) -> str:
    """Of an entry in the audit log; it ends with `filler`."""
    entry = {"by": "operator", "entry_id": str(entry_id), "on": str(BANK), "tenant_id": str(tenant_id), "what": "done"}
    return json.dumps({**entry, "filler": ""})


def padded(octets: int) -> str:
    """The content, as long as that."""
    return content().replace('"filler": "', '"filler": "' + "x" * (octets - len(content())))


TOKEN_PARTS = ("token_id", "sealed_token", "token_basis", "usable_until", "renew_at")

# A valid row of each table, beside those that are there.
ROWS: dict[str, dict[str, object]] = {
    "tenant": {"tenant_id": UUID(int=10), "name": "new", "created_at": NOW, "approvals_above": None},
    "token": {
        "token_id": UUID(int=11),
        "tenant_id": ACME,
        "token_sha256": b"n" * 32,
        "scopes": ["read"],
        "created_at": NOW,
        "revoked_at": None,
        "last_used_at": None,
        "expires_at": None,
        "destination_ids": None,
    },
    "destination": {
        "destination_id": UUID(int=12),
        "tenant_id": ACME,
        "name": "new",
        "base_url": "https://new.example",
        "auth_type": "none",
        "sealed_credentials": None,
        "guarantee": "auto",
        "idempotent": False,
        "idempotency_header": "Idempotency-Key",
        "connect_seconds": 2.0,
        "first_byte_seconds": 2.0,
        "total_seconds": 3.0,
        "created_at": NOW,
        "state": "active",
        "state_reason": None,
        "state_changed_at": None,
        "state_changed_by": None,
        "version": 1,
        "options": Jsonb({}),
        "sealed_certificate": None,
        "sealed_signing": None,
        "credentials_changed_at": None,
        "deleted_at": None,
        "deleted_name": None,
        "event_id": None,
        "certificate_told": None,
    },
    "oauth_token": {
        "destination_id": THEIR_BANK,
        "token_id": UUID(int=15),
        "sealed_token": b"x",
        "token_basis": b"b" * 32,
        "usable_until": NOW,
        "renew_at": NOW,
        "renewal_id": None,
        "renewing_until": None,
        "failed_renewal_id": None,
        "failure": None,
        "replaceable_from": None,
    },
    "delivery": {
        "delivery_id": NEW_DELIVERY,
        "tenant_id": ACME,
        "destination_id": BANK,
        "idempotency_key": "new",
        "fingerprint": b"n" * 32,
        "method": "POST",
        "path": "/",
        "query": "",
        "headers": Jsonb([]),
        "metadata": Jsonb({}),
        "state": "pending",
        "attempts_made": 1,
        "attempts_allowed": 3,
        "due_at": NOW,
        "lease_id": None,
        "leased_until": None,
        "created_at": NOW,
        "finished_at": None,
        "lapsed_lease_id": None,
        "give_up_at": None,
        "ordering_key": None,
        "waiting_for": None,
        "waits_until": None,
        "delivered_by": None,
        "ask_at": None,
        "asking_id": None,
        "asking_until": None,
        "questions_made": None,
        "questions_answered": None,
        "ask_silent": None,
        "first_answered_at": None,
        "resolution": None,
        "resolved_by": None,
        "resolved_at": None,
        "note": None,
        "replay_of": None,
        "act_id": None,
        "payload": None,
        "redacts": None,
        "event": None,
        "event_id": None,
        "responses_expired": None,
    },
    "destination_flow": {
        "destination_id": BANK,
        "full_at": NOW,
        "line_until": NOW,
        "in_flight": [],
        "in_flight_until": [],
        "counted_since": None,
        "attempts": 0,
        "failures": 0,
        "open_until": None,
        "probe_id": None,
        "probe_until": None,
        "silent_since": None,
        "roused_at": None,
        "catch_up_from": None,
        "share": None,
    },
    "attempt_under_way": {
        "destination_id": BANK,
        "delivery_id": DELIVERY,
        "lease_id": NOBODY,
        "begun_at": NOW,
        "leased_until": NOW,
    },
    "slot_waiter": {"destination_id": BANK, "delivery_id": DELIVERY},
    "ordering_place": {"destination_id": BANK, "ordering_key": "a", "place": 2, "delivery_id": DELIVERY},
    "delivery_term": {"term": 7, "delivery_id": DELIVERY},
    "delivery_body": {"delivery_id": THEIR_DELIVERY, "body": b""},
    "attempt": {
        "attempt_id": UUID(int=14),
        "delivery_id": DELIVERY,
        "number": 2,
        "outcome": "unknown",
        "reason": "why",
        "started_at": NOW,
        "dns_ms": None,
        "connect_ms": None,
        "tls_ms": None,
        "first_byte_ms": None,
        "total_ms": 1.0,
        "remote_address": None,
        "egress_address": None,
        "status": None,
        "response_headers": None,
        "response_body": None,
        "response_length": None,
        "response_sha256": None,
        "response_truncated": None,
        "moved_lease_id": None,
        "kind": "send",
        "recorded_in": 1,
        "headers_sha256": None,
    },
    "audit_entry": {
        "tenant_id": ACME,
        "sequence": 2,
        "at": NOW,
        "content": content(),
        "previous": b"p" * 32,
        "hash": b"h" * 32,
    },
    "audit_head": {"tenant_id": ACME, "sequence": 1, "at": NOW, "hash": b"h" * 32},
    "job": {
        "job_id": UUID(int=21),
        "tenant_id": ACME,
        "idempotency_key": "new",
        "act": "replay",
        "destination_id": BANK,
        "of_state": "failed",
        "outcome": None,
        "status_class": None,
        "since_id": UUID(int=0),
        "until_id": NOBODY,
        "rate": 1.0,
        "expected": 2,
        "created_at": NOW,
        "created_by": "token:1",
        "state": "running",
        "after_id": UUID(int=0),
        "step_id": None,
        "paced_until": NOW,
        "changed": 0,
        "skipped": 0,
        "finished_at": None,
        "move_id": None,
    },
    "proposal": {
        "proposal_id": UUID(int=22),
        "tenant_id": ACME,
        "act": "POST",
        "target": "/v1/replays",
        "request": Jsonb({}),
        "sealed_request": b"x",
        "state": "open",
        "created_at": NOW,
        "created_by": "token:1",
        "expires_at": NOW,
        "decided_at": None,
        "decided_by": None,
    },
    "attempt_seal": {"seal_id": UUID(int=23), "tenant_id": ACME, "since": 1, "until": 2, "leaves": b"l" * 32},
    "seal_progress": {"only_row": True, "sealed_until": 1},
    "tally": {
        "destination_id": BANK,
        "span": timedelta(days=1),
        "since": NOW,
        "what": "attempt.answered",
        "count": 1,
    },
    "tally_progress": {"only_row": True, "counted_until": 1, "counted_at": NOW, "step_id": None, "attempts": 0},
    "retention_walk": {
        "only_row": True,
        "begins_at": NOW,
        "destination_id": None,
        "behind": None,
        "taken_by": None,
        "taken_until": NOW,
    },
    "schema_migration": {"number": 900, "name": "0900_new", "sha256": b"n" * 32, "applied_at": NOW},
}
PRESENT: list[tuple[str, Row]] = [
    ("tenant", {"tenant_id": ACME, "name": "acme"}),
    ("tenant", {"tenant_id": OTHERS, "name": "others"}),
    ("token", {"token_id": TOKEN, "token_sha256": b"t" * 32}),
    ("destination", {"destination_id": BANK, "name": "bank"}),
    ("destination", {"destination_id": THEIR_BANK, "name": "their-bank", "tenant_id": OTHERS}),
    ("delivery", {"delivery_id": DELIVERY, "idempotency_key": "key"}),
    ("oauth_token", {"destination_id": BANK}),
    (
        "delivery",
        {
            "delivery_id": THEIR_DELIVERY,
            "idempotency_key": "their-key",
            "tenant_id": OTHERS,
            "destination_id": THEIR_BANK,
        },
    ),
    ("delivery_body", {"delivery_id": DELIVERY}),
    ("attempt", {"attempt_id": ATTEMPT, "number": 1}),
    ("delivery_term", {"term": 6}),
    ("slot_waiter", {"destination_id": THEIR_BANK}),
    ("attempt_under_way", {"destination_id": THEIR_BANK}),
    ("ordering_place", {"destination_id": THEIR_BANK, "delivery_id": THEIR_DELIVERY}),
    ("audit_entry", {"sequence": 1, "content": content(OLDER_ENTRY)}),
    ("audit_head", {"tenant_id": OTHERS}),
    ("job", {"job_id": JOB, "idempotency_key": "key"}),
    ("proposal", {"proposal_id": PROPOSAL}),
    ("attempt_seal", {"seal_id": SEAL}),
]
THEIRS: dict[str, object] = {"tenant_id": OTHERS, "destination_id": THEIR_BANK}
DECIDED: dict[str, object] = {"state": "approved", "decided_at": NOW, "decided_by": "token:2"}
RESOLVED: dict[str, object] = {"resolution": "delivered", "resolved_by": "token:1", "resolved_at": NOW}
ENDED: dict[str, object] = {"state": "failed", "finished_at": NOW}
SENDING: dict[str, object] = {"state": "sending", "lease_id": NOBODY, "leased_until": NOW}
ANSWERED: dict[str, object] = {
    "outcome": "answered",
    "reason": None,
    "status": 200,
    "response_headers": Jsonb([]),
    "response_body": b"",
    "response_truncated": False,
}
UNFINISHED = (JobState.RUNNING, JobState.PAUSED)
# The states of a proposal that are stored once somebody has decided; that it has expired is not stored.
DECISIONS = [state for state in ProposalState if state not in (ProposalState.OPEN, ProposalState.EXPIRED)]
NO_ANSWER = [kind.value for kind in OutcomeKind if kind is not OutcomeKind.ANSWERED]
NAMES_REFUSED: list[Row] = [
    {"name": name} for name in ("", "Acme", "acmE", "-a", "a_b", "a b", "\u00e4", "a\n", "a" * 64)
]
NAMES_TAKEN: list[Row] = [{"name": name} for name in ("a", "7", "a-", "a-7", "z9" * 31 + "z")]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a rule refuses and what it takes; `implied_by` names one that has to go before this one is ever met.

    `beside` is a row that has to be there for what is refused, and that would be in the way of what is taken.
    """

    table: str
    refused: Sequence[Row]
    taken: Sequence[Row]
    implied_by: str = ""
    beside: Row | None = None


CASES = {
    "tenant_pkey": Case(table="tenant", refused=[{"tenant_id": ACME}], taken=[]),
    "tenant_name_once": Case(table="tenant", refused=[{"name": "acme"}], taken=[]),
    "tenant_name_form": Case(table="tenant", refused=NAMES_REFUSED, taken=NAMES_TAKEN),
    "tenant_approvals_above_not_negative": Case(
        table="tenant", refused=[{"approvals_above": -1}], taken=[{"approvals_above": 0}, {"approvals_above": 1}]
    ),
    "token_pkey": Case(table="token", refused=[{"token_id": TOKEN}], taken=[]),
    "token_sha256_once": Case(table="token", refused=[{"token_sha256": b"t" * 32}], taken=[]),
    "token_sha256_length": Case(
        table="token", refused=[{"token_sha256": b"n" * length} for length in (0, 31, 33)], taken=[]
    ),
    "token_scopes_known": Case(
        table="token",
        refused=[{"scopes": scopes} for scopes in ([], ["admin"], ["read", "admin"], [None])],
        taken=[{"scopes": scopes} for scopes in ([*ALL_SCOPES], *([scope] for scope in ALL_SCOPES))],
    ),
    "token_tenant_exists": Case(table="token", refused=[{"tenant_id": NOBODY}], taken=[{"tenant_id": OTHERS}]),
    "destination_pkey": Case(table="destination", refused=[{"destination_id": BANK, "tenant_id": OTHERS}], taken=[]),
    "destination_name_once": Case(
        table="destination", refused=[{"name": "bank"}], taken=[{"name": "bank", "tenant_id": OTHERS}]
    ),
    # It stands there for deliveries to refer to; no two destinations share an id in the first place.
    "destination_of_tenant": Case(
        table="destination", refused=[{"destination_id": BANK}], taken=[], implied_by="destination_pkey"
    ),
    "destination_name_form": Case(table="destination", refused=NAMES_REFUSED, taken=NAMES_TAKEN),
    "destination_auth_type_known": Case(
        table="destination",
        refused=[{"auth_type": name, "sealed_credentials": b"x"} for name in ("", "digest", "None")],
        taken=[{"auth_type": name, "sealed_credentials": b"x"} for name in AuthType if name is not AuthType.NONE],
    ),
    "destination_credentials_sealed": Case(
        table="destination",
        refused=[
            {"sealed_credentials": b"x"},
            *({"auth_type": name} for name in AuthType if name is not AuthType.NONE),
        ],
        taken=[{"auth_type": "none"}, {"auth_type": "bearer", "sealed_credentials": b"x"}],
    ),
    "destination_guarantee_known": Case(
        table="destination",
        refused=[{"guarantee": name} for name in ("", "exactly_once", "Auto")],
        taken=[{"guarantee": name} for name in Guarantee],
    ),
    "destination_timeouts_ordered": Case(
        table="destination",
        refused=[
            {"connect_seconds": 0},
            {"connect_seconds": -0.5},
            {"connect_seconds": 3.001},
            {"first_byte_seconds": 0},
            {"first_byte_seconds": -0.5},
            {"first_byte_seconds": 3.001},
            {"total_seconds": 25.001},
        ],
        taken=[
            {"connect_seconds": 0.001},
            {"connect_seconds": 3},
            {"first_byte_seconds": 0.001},
            {"first_byte_seconds": 3},
            {"total_seconds": 25},
        ],
    ),
    "destination_state_known": Case(
        table="destination",
        refused=[{"state": name} for name in ("", "Paused", "deleted")],
        taken=[{"state": name} for name in DestinationState],
    ),
    "destination_state_has_author": Case(
        table="destination",
        refused=[{"state_changed_at": NOW}, {"state_changed_by": "somebody"}],
        taken=[{"state_changed_at": NOW, "state_changed_by": "somebody"}],
    ),
    "destination_options_object": Case(
        table="destination",
        refused=[{"options": Jsonb([])}, {"options": Jsonb("text")}, {"options": Jsonb(1)}, {"options": Jsonb(None)}],
        taken=[{"options": Jsonb({"allow": {}})}],
    ),
    "destination_deleted_has_name": Case(
        table="destination",
        refused=[{"deleted_at": NOW}, {"deleted_name": "bank"}],
        taken=[{"deleted_at": NOW, "deleted_name": "bank"}],
    ),
    "destination_tenant_exists": Case(
        table="destination", refused=[{"tenant_id": NOBODY}], taken=[{"tenant_id": OTHERS}]
    ),
    "oauth_token_pkey": Case(table="oauth_token", refused=[{"destination_id": BANK}], taken=[]),
    "oauth_token_whole": Case(
        table="oauth_token",
        refused=[{name: None} for name in TOKEN_PARTS],
        taken=[dict.fromkeys(TOKEN_PARTS)],
    ),
    "oauth_token_renewal_ends": Case(
        table="oauth_token",
        refused=[{"renewal_id": NOBODY}, {"renewing_until": NOW}],
        taken=[{"renewal_id": NOBODY, "renewing_until": NOW}],
    ),
    "oauth_token_failure_said": Case(
        table="oauth_token",
        refused=[{"failed_renewal_id": NOBODY}, {"failure": "why"}],
        taken=[{"failed_renewal_id": NOBODY, "failure": "why"}],
    ),
    "oauth_token_of_destination": Case(table="oauth_token", refused=[{"destination_id": NOBODY}], taken=[]),
    "delivery_pkey": Case(table="delivery", refused=[{"delivery_id": DELIVERY}], taken=[]),
    "delivery_key_once": Case(
        table="delivery", refused=[{"idempotency_key": "key"}], taken=[{"idempotency_key": "key", **THEIRS}]
    ),
    "delivery_state_known": Case(
        table="delivery",
        refused=[{"state": state, "finished_at": NOW} for state in ("", "done", "Pending")],
        taken=[SENDING, {"state": "pending"}, *({"state": s, "finished_at": NOW} for s in State if s.finished)],
    ),
    "delivery_lease_while_sending": Case(
        table="delivery",
        refused=[
            {"state": "sending"},
            {**SENDING, "lease_id": None},
            {**SENDING, "leased_until": None},
            {**SENDING, "state": "pending"},
            {**SENDING, "state": "delivered", "finished_at": NOW},
            {"lease_id": NOBODY},
            {"leased_until": NOW},
        ],
        taken=[SENDING],
    ),
    "delivery_finished_has_time": Case(
        table="delivery",
        refused=[
            {"finished_at": NOW},
            {**SENDING, "finished_at": NOW},
            *({"state": state} for state in State if state.finished),
        ],
        taken=[SENDING, {"state": "failed", "finished_at": NOW}],
    ),
    "delivery_attempts_bounded": Case(
        table="delivery",
        refused=[{"attempts_made": -1}, {"attempts_made": 4}],
        taken=[{"attempts_made": 0}, {"attempts_made": 3}],
    ),
    "delivery_fingerprint_length": Case(
        table="delivery", refused=[{"fingerprint": b"n" * length} for length in (0, 31, 33)], taken=[]
    ),
    "delivery_destination_exists": Case(
        table="delivery",
        refused=[
            {"destination_id": NOBODY},
            {"destination_id": THEIR_BANK},  # another tenant's
            {"tenant_id": OTHERS},
        ],
        taken=[THEIRS],
    ),
    "delivery_resolution_known": Case(
        table="delivery",
        refused=[{**RESOLVED, "resolution": name} for name in ("", "Delivered", "unknown")],
        taken=[{**RESOLVED, "resolution": name} for name in Resolution],
    ),
    "delivery_resolved_by_somebody": Case(
        table="delivery",
        refused=[{**RESOLVED, "resolved_by": None}, {"resolved_by": "token:1"}],
        taken=[RESOLVED],
    ),
    "delivery_resolved_has_time": Case(
        table="delivery", refused=[{**RESOLVED, "resolved_at": None}, {"resolved_at": NOW}], taken=[RESOLVED]
    ),
    "delivery_payload_known": Case(
        table="delivery",
        refused=[{**ENDED, "payload": name} for name in ("", "whole", "Expunged")],
        taken=[{**ENDED, "payload": payload.value} for payload in Payload if payload is not Payload.WHOLE],
    ),
    "delivery_payload_whole_until_ended": Case(
        table="delivery",
        refused=[{"payload": "expunged"}, {**SENDING, "payload": "redacted"}],
        taken=[{**ENDED, "payload": "expunged"}, SENDING],
    ),
    "destination_flow_pkey": Case(table="destination_flow", refused=[{"destination_id": THEIR_BANK}], taken=[]),
    "destination_flow_destination_exists": Case(
        table="destination_flow", refused=[{"destination_id": NOBODY}], taken=[]
    ),
    "destination_flow_slots_paired": Case(
        table="destination_flow",
        refused=[{"in_flight": [DELIVERY]}, {"in_flight_until": [NOW]}],
        taken=[{"in_flight": [DELIVERY], "in_flight_until": [NOW]}],
    ),
    "destination_flow_probe_while_open": Case(
        table="destination_flow",
        refused=[
            {"open_until": NOW, "probe_id": DELIVERY},
            {"open_until": NOW, "probe_until": NOW},
            {"probe_id": DELIVERY, "probe_until": NOW},
        ],
        taken=[{"open_until": NOW}, {"open_until": NOW, "probe_id": DELIVERY, "probe_until": NOW}],
    ),
    "destination_flow_share_positive": Case(
        table="destination_flow", refused=[{"share": 0}, {"share": -1}], taken=[{"share": 1}]
    ),
    "attempt_under_way_pkey": Case(
        table="attempt_under_way", refused=[{"destination_id": THEIR_BANK}], taken=[{"delivery_id": THEIR_DELIVERY}]
    ),
    "attempt_under_way_delivery_exists": Case(table="attempt_under_way", refused=[{"delivery_id": NOBODY}], taken=[]),
    "slot_waiter_pkey": Case(
        table="slot_waiter", refused=[{"destination_id": THEIR_BANK}], taken=[{"delivery_id": THEIR_DELIVERY}]
    ),
    "slot_waiter_delivery_exists": Case(table="slot_waiter", refused=[{"delivery_id": NOBODY}], taken=[]),
    "ordering_place_pkey": Case(
        table="ordering_place", refused=[{"destination_id": THEIR_BANK}], taken=[{"ordering_key": "b"}, {"place": 3}]
    ),
    "ordering_place_of_delivery": Case(table="ordering_place", refused=[{"delivery_id": THEIR_DELIVERY}], taken=[]),
    "ordering_place_key_length": Case(
        table="ordering_place",
        refused=[{"ordering_key": ""}, {"ordering_key": "k" * 201}],
        taken=[{"ordering_key": "k" * 200}],
    ),
    "ordering_place_delivery_exists": Case(table="ordering_place", refused=[{"delivery_id": NOBODY}], taken=[]),
    "delivery_term_pkey": Case(
        table="delivery_term", refused=[{"term": 6}], taken=[{"term": 6, "delivery_id": THEIR_DELIVERY}]
    ),
    "delivery_body_pkey": Case(table="delivery_body", refused=[{"delivery_id": DELIVERY}], taken=[]),
    "delivery_body_delivery_exists": Case(table="delivery_body", refused=[{"delivery_id": NOBODY}], taken=[]),
    "attempt_pkey": Case(
        table="attempt", refused=[{"number": 1}], taken=[{"number": 1, "delivery_id": THEIR_DELIVERY}]
    ),
    "attempt_outcome_known": Case(
        table="attempt",
        refused=[{"outcome": outcome} for outcome in ("", "timed out", "Unknown")],
        taken=[ANSWERED, *({"outcome": outcome} for outcome in NO_ANSWER)],
    ),
    "attempt_answered_has_response": Case(
        table="attempt",
        refused=[
            {**ANSWERED, "status": None},
            {**ANSWERED, "response_headers": None},
            {**ANSWERED, "response_body": None},
            {**ANSWERED, "response_truncated": None},
            {"status": 200},
            *({**ANSWERED, "outcome": "unknown", "reason": "why", "status": status} for status in (200, None)),
        ],
        taken=[ANSWERED],
    ),
    "attempt_reason_unless_answered": Case(
        table="attempt",
        refused=[
            {**ANSWERED, "reason": "why"},
            *({"outcome": outcome, "reason": None} for outcome in NO_ANSWER),
        ],
        taken=[ANSWERED],
    ),
    "attempt_kind_known": Case(
        table="attempt",
        refused=[{"kind": kind} for kind in ("", "Send", "question")],
        taken=[{"kind": "reconcile"}],
    ),
    "attempt_body_capped": Case(
        table="attempt",
        refused=[{**ANSWERED, "response_body": b"x" * 65_537}],
        taken=[{**ANSWERED, "response_body": b"x" * 65_536}],
    ),
    "attempt_delivery_exists": Case(table="attempt", refused=[{"delivery_id": NOBODY}], taken=[]),
    "audit_entry_pkey": Case(
        table="audit_entry",
        refused=[{"sequence": 1}],
        taken=[{"sequence": 1, "tenant_id": OTHERS, "content": content(tenant_id=OTHERS)}],
    ),
    "audit_entry_once": Case(
        table="audit_entry",
        refused=[{"content": content(OLDER_ENTRY)}],
        taken=[{"tenant_id": OTHERS, "content": content(OLDER_ENTRY, OTHERS)}],
    ),
    "audit_entry_numbered_from_one": Case(
        table="audit_entry", refused=[{"sequence": 0}, {"sequence": -1}], taken=[{"sequence": 3}]
    ),
    "audit_entry_hash_lengths": Case(
        table="audit_entry",
        refused=[{name: b"n" * length} for name in ("previous", "hash") for length in (0, 31, 33)],
        taken=[],
    ),
    "audit_entry_content_bounded": Case(
        table="audit_entry", refused=[{"content": padded(16_385)}], taken=[{"content": padded(16_384)}]
    ),
    "audit_entry_of_its_tenant": Case(
        table="audit_entry",
        refused=[{"tenant_id": OTHERS}, {"content": content(tenant_id=OTHERS)}],
        taken=[{"tenant_id": OTHERS, "content": content(tenant_id=OTHERS)}],
    ),
    "audit_entry_names_its_tenant": Case(
        table="audit_entry",
        refused=[
            {"content": content().replace("tenant_id", "tenant")},
            {"content": content().replace(f'"{ACME}"', "null")},
        ],
        taken=[],
    ),
    "audit_head_pkey": Case(table="audit_head", refused=[{"tenant_id": OTHERS}], taken=[]),
    "job_pkey": Case(table="job", refused=[{"job_id": JOB}], taken=[]),
    "job_key_once": Case(
        table="job", refused=[{"idempotency_key": "key"}], taken=[{"idempotency_key": "key", **THEIRS}]
    ),
    # What is not a job's act has no states to work on either.
    "job_act_known": Case(
        table="job",
        refused=[{"act": name} for name in ("", "Replay", "resolve")],
        taken=[{"act": "replay"}, {"act": "cancel", "of_state": "pending"}],
        implied_by="job_of_state_fits",
    ),
    "job_state_known": Case(
        table="job",
        refused=[{"state": state, "finished_at": NOW} for state in ("", "failed", "Running")],
        taken=[{"state": state, "finished_at": None if state in UNFINISHED else NOW} for state in JobState],
    ),
    "job_finished_has_time": Case(
        table="job",
        refused=[{"state": state, "finished_at": NOW if state in UNFINISHED else None} for state in JobState],
        taken=[{"state": "done", "finished_at": NOW}],
    ),
    "job_of_state_fits": Case(
        table="job",
        refused=[
            *({"of_state": state} for state in ("", "pending", "sending", "canceled")),
            *({"act": "cancel", "of_state": state} for state in State if state is not State.PENDING),
        ],
        taken=[
            *({"of_state": state} for state in ("failed", "unknown", "delivered")),
            {"act": "cancel", "of_state": "pending"},
        ],
    ),
    "job_rate_positive": Case(table="job", refused=[{"rate": 0}, {"rate": -0.5}], taken=[{"rate": 0.001}]),
    "job_tenant_exists": Case(table="job", refused=[{"tenant_id": NOBODY, "destination_id": None}], taken=[THEIRS]),
    "job_destination_exists": Case(
        table="job",
        refused=[
            {"destination_id": NOBODY},
            {"destination_id": THEIR_BANK},  # another tenant's
            {"tenant_id": OTHERS},
        ],
        taken=[{"destination_id": None}, THEIRS],
    ),
    "proposal_pkey": Case(table="proposal", refused=[{"proposal_id": PROPOSAL}], taken=[]),
    "proposal_tenant_exists": Case(table="proposal", refused=[{"tenant_id": NOBODY}], taken=[{"tenant_id": OTHERS}]),
    "proposal_state_known": Case(
        table="proposal",
        refused=[{**DECIDED, "state": name} for name in ("", "Open", "expired")],
        taken=[{}, *({**DECIDED, "state": name} for name in DECISIONS)],
    ),
    "proposal_decided_by_somebody": Case(
        table="proposal",
        refused=[
            {**DECIDED, "state": "open"},
            *({"state": name, "decided_at": NOW} for name in DECISIONS),
            {**DECIDED, "decided_at": None},
            {"decided_at": NOW},
            {"decided_by": "token:2"},
            {"state": "rejected"},
        ],
        taken=[DECIDED],
    ),
    "proposal_approved_by_another": Case(
        table="proposal",
        refused=[
            {**DECIDED, "state": name, "decided_by": "token:1"}
            for name in DECISIONS
            if name is not ProposalState.REJECTED
        ],
        taken=[{**DECIDED, "state": "rejected", "decided_by": "token:1"}],
    ),
    "attempt_seal_pkey": Case(table="attempt_seal", refused=[{"seal_id": SEAL}], taken=[]),
    "attempt_seal_is_an_interval": Case(
        table="attempt_seal", refused=[{"until": 1}, {"until": 0}], taken=[{"since": 1, "until": 3}]
    ),
    "attempt_seal_leaf_lengths": Case(
        table="attempt_seal",
        refused=[{"leaves": b"l" * length} for length in (0, 31, 33)],
        taken=[{"leaves": b"l" * 64}],
    ),
    "seal_progress_pkey": Case(table="seal_progress", refused=[{}], taken=[], beside={"sealed_until": 2}),
    "seal_progress_is_one_row": Case(table="seal_progress", refused=[{"only_row": False}], taken=[]),
    "tally_progress_pkey": Case(table="tally_progress", refused=[{}], taken=[], beside={"counted_until": 2}),
    "tally_progress_is_one_row": Case(table="tally_progress", refused=[{"only_row": False}], taken=[]),
    "tally_pkey": Case(table="tally", refused=[{}], taken=[{"what": "ended.failed"}], beside={"count": 2}),
    "tally_destination_exists": Case(
        table="tally", refused=[{"destination_id": UUID(int=99)}], taken=[{"what": "ended.failed"}]
    ),
    "retention_walk_pkey": Case(table="retention_walk", refused=[{}], taken=[], beside={"begins_at": NOW}),
    "retention_walk_is_one_row": Case(table="retention_walk", refused=[{"only_row": False}], taken=[]),
    "schema_migration_pkey": Case(table="schema_migration", refused=[{"number": 1}], taken=[]),
}
# All other columns are never empty.
MAY_BE_EMPTY = {
    ("tenant", "approvals_above"),
    *(("token", name) for name in ("revoked_at", "last_used_at", "expires_at", "destination_ids")),
    *(("destination", name) for name in ("sealed_credentials", "sealed_certificate", "sealed_signing")),
    *(("destination", name) for name in ("state_reason", "state_changed_at", "state_changed_by")),
    *(("destination", name) for name in ("credentials_changed_at", "deleted_at", "deleted_name")),
    *(("oauth_token", name) for name in ROWS["oauth_token"] if name != "destination_id"),
    *(("delivery", name) for name in ("lease_id", "leased_until", "finished_at", "lapsed_lease_id", "give_up_at")),
    *(("delivery", name) for name in ("ordering_key", "waiting_for", "waits_until", "delivered_by")),
    *(("destination_flow", name) for name in ("counted_since", "open_until", "probe_id", "probe_until", "share")),
    *(("delivery", name) for name in ("ask_at", "asking_id", "asking_until", "ask_silent")),
    *(("delivery", name) for name in ("questions_made", "questions_answered", "first_answered_at")),
    *(("destination_flow", name) for name in ("silent_since", "roused_at", "catch_up_from")),
    *(("attempt", name) for name in ("reason", "dns_ms", "connect_ms", "tls_ms", "first_byte_ms", "moved_lease_id")),
    *(("attempt", name) for name in ("remote_address", "egress_address", "status", "response_headers")),
    *(("attempt", name) for name in ("response_body", "response_length", "response_sha256", "response_truncated")),
    *(("attempt", name) for name in ("recorded_in", "headers_sha256")),
    *(("delivery", name) for name in ("resolution", "resolved_by", "resolved_at", "note", "replay_of", "act_id")),
    *((table, "event_id") for table in ("delivery", "destination")),
    ("delivery", "event"),
    ("destination", "certificate_told"),
    ("tally_progress", "step_id"),
    *(("delivery", name) for name in ("payload", "redacts", "responses_expired")),
    *(("retention_walk", name) for name in ("destination_id", "behind", "taken_by")),
    *(("job", name) for name in ("destination_id", "outcome", "status_class", "step_id", "finished_at")),
    ("job", "move_id"),
    *(("proposal", name) for name in ("sealed_request", "decided_at", "decided_by")),
}
NEVER_EMPTY = [(table, name) for table, row in ROWS.items() for name in row if (table, name) not in MAY_BE_EMPTY]


@pytest.fixture(scope="module")
def connection(shared_database: FreshDatabase) -> Iterator[Connection]:
    """The owner's, to a database with the rows of PRESENT."""
    with psycopg.connect(shared_database.admin_url, autocommit=True) as made:
        for table, changes in PRESENT:
            insert(made, table, changes)
        made.execute("DELETE FROM destination_flow WHERE destination_id = %s", [BANK])  # each has one from the start
        for table in ("seal_progress", "tally_progress", "retention_walk"):  # each has its only row from the start
            made.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        yield made


def insert(connection: Connection, table: str, changes: Row) -> None:
    row = {**ROWS[table], **changes}
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Placeholder, row)),
    )
    connection.execute(statement, row)


def takes(connection: Connection, table: str, changes: Row, *, without: Callable[[Connection], object]) -> None:
    """That the row is taken where a rule has gone; nothing of it is left. Raises what PostgreSQL says otherwise."""
    with connection.transaction(force_rollback=True):
        without(connection)
        insert(connection, table, changes)


def nothing(_: Connection) -> None:
    pass


def dropping(table: str, *constraints: str) -> Callable[[Connection], object]:
    """With what refers to it, for a key."""

    def drop(connection: Connection) -> None:
        for name in filter(None, constraints):
            connection.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT {} CASCADE").format(sql.Identifier(table), sql.Identifier(name))
            )

    return drop


def found(connection: Connection, query: str) -> set[tuple[object, ...]]:
    return set(connection.execute(query.encode()).fetchall())


IN_OURS = "relnamespace = 'public'::regnamespace AND relkind = 'r'"
COLUMNS = f"pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE {IN_OURS} AND attnum > 0 AND NOT attisdropped"


def test_every_rule_of_the_schema_has_a_case(connection: Connection) -> None:
    rules = found(
        connection,
        "SELECT conname::text, relname::text FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid "  # noqa: S608
        f"WHERE {IN_OURS} AND contype <> 'n'",
    )
    assert rules == {(name, case.table) for name, case in CASES.items()}
    assert all(case.refused for case in CASES.values())


def test_every_rule_holds_at_once_and_for_older_rows_too(connection: Connection) -> None:
    """None waits for the end of a transaction, and none was added without a look at what was there."""
    rules = f"pg_constraint JOIN pg_class ON pg_class.oid = conrelid WHERE {IN_OURS}"
    assert found(connection, f"SELECT conname FROM {rules} AND (condeferrable OR NOT convalidated)") == set()  # noqa: S608


def test_no_check_of_json_passes_where_the_member_is_missing(connection: Connection) -> None:
    """What is missing makes a comparison NULL, and a CHECK holds where it is NULL."""
    checks = found(
        connection,
        "SELECT conname::text FROM pg_constraint "
        "WHERE contype = 'c' AND connamespace = 'public'::regnamespace AND pg_get_constraintdef(oid) LIKE '%->%'",
    )
    assert checks == {("audit_entry_of_its_tenant",), ("audit_entry_names_its_tenant",)}


def test_every_column_is_in_the_rows_here_and_only_those_listed_may_be_empty(connection: Connection) -> None:
    columns = found(
        connection,
        f"SELECT relname::text, attname::text, attnotnull FROM {COLUMNS} AND attgenerated = ''",  # noqa: S608
    )
    assert columns == {(table, name, (table, name) not in MAY_BE_EMPTY) for table, row in ROWS.items() for name in row}


REFUSED = [(name, change) for name, case in CASES.items() for change in case.refused]
TAKEN = [(name, change) for name, case in CASES.items() for change in [{}, *case.taken]]


@pytest.mark.parametrize(("name", "change"), REFUSED, ids=[name for name, _ in REFUSED])
def test_a_rule_refuses_what_it_is_there_for_and_nothing_else_does(
    connection: Connection, name: str, change: Row
) -> None:
    case = CASES[name]

    def without(*rules: str) -> Callable[[Connection], object]:
        def prepare(connection: Connection) -> None:
            dropping(case.table, *rules)(connection)
            if case.beside is not None:
                insert(connection, case.table, case.beside)

        return prepare

    with pytest.raises(psycopg.errors.IntegrityError) as refused:
        takes(connection, case.table, change, without=without(case.implied_by))
    assert refused.value.diag.constraint_name == name
    takes(connection, case.table, change, without=without(case.implied_by, name))


@pytest.mark.parametrize(("name", "change"), TAKEN, ids=[name for name, _ in TAKEN])
def test_a_rule_refuses_nothing_that_is_inside_of_its_bounds(connection: Connection, name: str, change: Row) -> None:
    takes(connection, CASES[name].table, change, without=nothing)


@pytest.mark.parametrize(("table", "column"), NEVER_EMPTY, ids=[".".join(column) for column in NEVER_EMPTY])
def test_a_column_that_is_never_empty_is_refused_without_a_value(
    connection: Connection, table: str, column: str
) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation) as refused:
        takes(connection, table, {column: None}, without=nothing)
    assert (refused.value.diag.table_name, refused.value.diag.column_name) == (table, column)


def test_only_what_no_statement_needs_to_write_has_a_value_of_its_own(
    connection: Connection,
) -> None:
    defaults = found(
        connection,
        f"SELECT relname::text, attname::text FROM {COLUMNS} AND atthasdef AND attgenerated = ''",  # noqa: S608
    )
    later = {("destination", name) for name in ("state", "version", "options")}
    names = ("full_at", "line_until", "in_flight", "in_flight_until", "attempts", "failures")
    later |= {("destination_flow", name) for name in names} | {("attempt", "kind"), ("attempt", "recorded_in")}
    beginnings = {*(("audit_head", name) for name in ("sequence", "at", "hash")), ("seal_progress", "only_row")}
    beginnings |= {("tally_progress", name) for name in ("only_row", "counted_at", "attempts")}
    beginnings |= {("retention_walk", "only_row")}
    beginnings |= {("job", name) for name in ("changed", "skipped")}
    assert defaults == {("schema_migration", "applied_at"), *later, *beginnings}
    with connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO schema_migration (number, name, sha256) VALUES (901, 'x', 'x')")
        row = connection.execute("SELECT applied_at = now() FROM schema_migration WHERE number = 901").fetchone()
    assert row == (True,)


@pytest.mark.parametrize("state", State)
def test_a_deliverys_phase_follows_from_its_state(connection: Connection, state: State) -> None:
    """PostgreSQL and the code, which lists by it, agree."""
    lease = SENDING if state is State.SENDING else {}
    with connection.transaction(force_rollback=True):
        insert(connection, "delivery", {"state": state, "finished_at": NOW if state.finished else None, **lease})
        phase = connection.execute("SELECT phase FROM delivery WHERE delivery_id = %s", [NEW_DELIVERY]).fetchone()
    assert phase == (state.phase,)


# What is searched of an entry in the audit log is generated from its content, from these members.
SEARCHED = {"entry_id": "entry_id", "what": "what", "actor": "by", "subject": "on"}


def test_no_other_columns_are_generated_than_a_phase_and_what_is_searched_of_the_audit_log(
    connection: Connection,
) -> None:
    generated = found(
        connection,
        f"SELECT relname::text, attname::text, attnotnull FROM {COLUMNS} AND attgenerated <> ''",  # noqa: S608
    )
    assert generated == {("delivery", "phase", True), *(("audit_entry", name, True) for name in SEARCHED)}


@pytest.mark.parametrize(("column", "member"), SEARCHED.items())
def test_what_is_searched_of_the_audit_log_is_what_was_hashed(connection: Connection, column: str, member: str) -> None:
    def changes(value: str | None) -> Row:
        return {"content": json.dumps({**json.loads(content()), member: value})}

    value = str(UUID(int=30))
    statement = sql.SQL("SELECT {}::text FROM audit_entry WHERE sequence = 2").format(sql.Identifier(column))
    with connection.transaction(force_rollback=True):
        insert(connection, "audit_entry", changes(value))
        assert connection.execute(statement).fetchone() == (value,)
    with pytest.raises(psycopg.errors.NotNullViolation) as refused:
        takes(connection, "audit_entry", changes(None), without=nothing)
    assert refused.value.diag.column_name == column


@pytest.mark.parametrize("table", ["attempt", "delivery_body"])
def test_deleting_a_delivery_deletes_its_attempts_and_its_body(connection: Connection, table: str) -> None:
    mine = f"SELECT FROM {table} WHERE delivery_id = '{DELIVERY}'"
    assert found(connection, mine) != set()
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM delivery WHERE delivery_id = %s", [DELIVERY])
        assert found(connection, mine) == set()


REFERENCES = {
    "destination_tenant_exists": ("destination", "tenant"),
    "token_tenant_exists": ("token", "tenant"),
    "delivery_destination_exists": ("delivery", "destination"),
    "job_destination_exists": ("job", "destination"),
    "job_tenant_exists": ("job", "tenant"),
    "oauth_token_of_destination": ("oauth_token", "destination"),
    "proposal_tenant_exists": ("proposal", "tenant"),
}


def test_all_else_that_refers_to_a_row_goes_with_it(connection: Connection) -> None:
    references = found(
        connection,
        "SELECT conname::text, confdeltype::text FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid "  # noqa: S608
        f"WHERE {IN_OURS} AND contype = 'f'",
    )
    assert {name for name, action in references if action != "c"} == set(REFERENCES)


@pytest.mark.parametrize("rule", REFERENCES)
def test_nothing_is_deleted_that_others_refer_to(connection: Connection, rule: str) -> None:
    with connection.transaction(force_rollback=True):
        for other, (table, _) in REFERENCES.items():
            dropping(table, "" if other == rule else other)(connection)
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match=rule):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(REFERENCES[rule][1])))
