"""Every field that is stored comes back as it was, by each statement that reads it.

No two fields have the same value, and none the value that it would have by default, so that a column which is left out
or taken for another one shows.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import MISSING, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from db import attempts, deliveries, destinations, oauth_tokens, tenants
from db.connection import Database
from db.deliveries import Filter, Lease
from domain.allow import AllowRule
from domain.auth import (
    AssertionAlgorithm,
    AuthType,
    AwsScope,
    ClientAuthentication,
    OAuthClient,
    StoredToken,
)
from domain.certificates import CertificateFacts, TlsOptions, TlsVersion
from domain.deliveries import Attempt, Claim, Delivery, Finished, NewDelivery, NotDue, Record, State, StoredResponse
from domain.destinations import Destination, DestinationState, Guarantee, ManagedDestination, Timeouts
from domain.ids import AttemptId, DeliveryId, DestinationId, LeaseId, TenantId, TokenId
from domain.limits import CircuitBreaker, Limits
from domain.options import PLAIN, DestinationOptions
from domain.ordering import AfterFailure, Ordering
from domain.outcomes import OutcomeKind, Timings
from domain.probe import ProbeOptions
from domain.reconcile import AnswerRule, Condition, OnAbsent, Reconcile
from domain.redaction import Redaction
from domain.retention import RetentionOptions
from domain.retry_policy import RetryPolicy
from domain.signing import (
    DetachedJws,
    DigestAlgorithm,
    Encoding,
    HmacAlgorithm,
    JwsAlgorithm,
    KeyInfo,
    MessageAlgorithm,
    MessageSignatures,
    Scheme,
    SecretEncoding,
    StandardWebhooks,
    TemplatedHmac,
    TimestampFormat,
    WebhookVersion,
)
from domain.windows import SendingWindow
from runtime.settings import DatabaseSettings
from tests.support.databases import FreshDatabase

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TENANT = TenantId(UUID(int=1))
STORED = Destination(
    destination_id=DestinationId(UUID(int=3)),
    tenant_id=TENANT,
    name="bank",
    base_url="https://bank.example/v2",
    auth_type=AuthType.HEADER,
    sealed_credentials=b"\x00sealed",
    guarantee=Guarantee.AT_MOST_ONCE,
    idempotent=True,
    idempotency_header="X-Request-Key",
    timeouts=Timeouts(connect_seconds=1.5, first_byte_seconds=2.5, total_seconds=3.5),
    created_at=NOW,
    options=DestinationOptions(
        allow=AllowRule(methods=("PATCH", "POST"), paths=("/payments",)),
        header_names=("X-Api-Key", "X-Api-Secret"),
        aws=AwsScope(region="eu-central-1", service="execute-api", access_key_id="AKID"),
        oauth=OAuthClient(
            token_url="https://bank.example/token",
            client_id="sallyport",
            client_authentication=ClientAuthentication.PRIVATE_KEY_JWT,
            scope="payments",
            audience="https://bank.example",
            parameters=(("resource", "a"), ("tenant", "b")),
            algorithm=AssertionAlgorithm.EDDSA,
            key_id="key-1",
            assertion_audience="https://bank.example/issuer",
        ),
        certificate=CertificateFacts(
            subject="CN=acme",
            issuer="CN=bank",
            serial_number="1f",
            not_before=NOW - timedelta(days=1),
            not_after=NOW + timedelta(days=365),
            sha256="ab" * 32,
        ),
        tls=TlsOptions(ca="-----BEGIN", pins=("sha256/x",), minimum_version=TlsVersion.TLS_1_3),
    ),
    sealed_certificate=b"\x00certificate",
    sealed_signing=b"\x00signing",
)
KEY = KeyInfo(ref="ref", key_id="id", created_at=NOW, expires_at=NOW + timedelta(days=3), public_key="public")
# Every other option, each of its members with another value than its default: a scheme for each form.
OTHERS = replace(
    STORED.options,
    retry=RetryPolicy(schedule=(1.5, 2.5), added=(418,), removed=(503,), give_up_after=77.5),
    verify=ProbeOptions(path="/health"),
    signing=(
        Scheme(name="a", keys=(KEY,), standard_webhooks=StandardWebhooks(version=WebhookVersion.V1A)),
        Scheme(
            name="b",
            keys=(KEY,),
            http_message_signatures=MessageSignatures(
                algorithm=MessageAlgorithm.ED25519,
                components=("@method",),
                components_if_present=("content-type",),
                digest=DigestAlgorithm.SHA512,
                label="sig2",
                created=False,
                expires_seconds=61,
                nonce=True,
                alg=True,
                tag="tag",
            ),
        ),
        Scheme(
            name="c",
            keys=(KEY,),
            hmac=TemplatedHmac(
                header="X-Signature",
                signed="{timestamp}.{body}",
                value="v1={signature}",
                repeat=",",
                algorithm=HmacAlgorithm.SHA512,
                encoding=Encoding.BASE64,
                secret_encoding=SecretEncoding.BASE64,
                timestamp_header="X-At",
                timestamp_format=TimestampFormat.UNIX_MS,
            ),
        ),
        Scheme(
            name="d",
            keys=(KEY,),
            jws_detached=DetachedJws(
                algorithm=JwsAlgorithm.ES256,
                header="X-Jws",
                payload="{headers}{body}",
                headers=("X-C",),
                unencoded=True,
                members={"iss": ["acme"]},
                critical=("iss",),
            ),
        ),
    ),
    limits=Limits(rate=6.5, burst=8, concurrency=9),
    circuit_breaker=CircuitBreaker(
        enabled=False, failure_ratio=0.25, window_seconds=62, minimum_attempts=21, open_seconds=31
    ),
    windows=(SendingWindow(days=(1, 5), opens="08:00", closes="17:30", time_zone="Europe/Berlin"),),
    ordering=Ordering(after_failure=AfterFailure.SKIP),
    reconcile=Reconcile(
        path="/asked/{idempotency_key}",
        method="POST",
        query="of=1",
        headers=(("X-Asked", "2"),),
        after=(63.5, 64.5),
        received=(AnswerRule(status=200, where=(Condition(pointer="/state", values=("done",)),)),),
        rejected=(AnswerRule(status=201, where=(Condition(pointer="/state", values=("no",)),)),),
        absent=(AnswerRule(status=404, where=(Condition(pointer="/code", values=("none",)),)),),
        absent_after=901.5,
        on_absent=OnAbsent.FAILED,
    ),
    redact=Redaction(headers=("X-Secret",), pointers=("/pan",)),
    events_to=DestinationId(UUID(int=5)),
    retention=RetentionOptions(bodies_days=11, responses_days=12, record_days=13),
)
CHANGES: dict[str, Any] = {
    "state": DestinationState.PAUSED,
    "state_reason": "their cut-off",
    "state_changed_at": NOW + timedelta(seconds=1),
    "state_changed_by": "a token",
    "version": 7,
    "credentials_changed_at": NOW + timedelta(seconds=2),
}
MANAGED = ManagedDestination(**{field.name: getattr(STORED, field.name) for field in fields(STORED)}, **CHANGES)
NEW = NewDelivery(
    tenant_id=TENANT,
    destination="bank",
    method="PATCH",
    path="/payments/7",
    query="dry=1&b=%20",
    headers=(("X-B", "2"), ("X-A", "ä"), ("X-B", "1")),
    body=b"\x00\xff body",
    metadata={"order": {"id": 7}},
    idempotency_key="order-7",
    attempts_allowed=4,
)
ACCEPTED = Delivery(
    delivery_id=DeliveryId(UUID(int=10)),
    tenant_id=TENANT,
    destination_id=STORED.destination_id,
    destination_name="bank",
    state=State.PENDING,
    method="PATCH",
    path="/payments/7",
    query="dry=1&b=%20",
    headers=NEW.headers,
    metadata=NEW.metadata,
    idempotency_key="order-7",
    fingerprint=b"f" * 32,
    attempts_made=0,
    attempts_allowed=4,
    due_at=NOW + timedelta(seconds=30),
    created_at=NOW,
    finished_at=None,
)
LEASE = Lease(lease_id=LeaseId(UUID(int=20)), until=NOW + timedelta(seconds=90))
CLAIM = Claim(
    delivery_id=ACCEPTED.delivery_id,
    tenant_id=TENANT,
    lease_id=LEASE.lease_id,
    destination=STORED,
    method="PATCH",
    path="/payments/7",
    query="dry=1&b=%20",
    headers=NEW.headers,
    body=NEW.body,
    idempotency_key="order-7",
    attempts_made=1,
    attempts_allowed=4,
    lapsed=False,
)
UNANSWERED = Attempt(
    attempt_id=AttemptId(UUID(int=30)),
    delivery_id=ACCEPTED.delivery_id,
    number=1,
    outcome=OutcomeKind.UNKNOWN,
    reason="the connection broke",
    started_at=NOW + timedelta(seconds=31),
    timings=Timings(dns_ms=1.25, connect_ms=2.25, tls_ms=3.25, first_byte_ms=4.25, total_ms=5.25),
    remote_address="198.51.100.7",
    egress_address="203.0.113.7",
    response=None,
)
RESPONSE = StoredResponse(
    status=207,
    headers=(("X-Z", "1"), ("X-Y", "é"), ("X-Z", "0")),
    body=b"\x00\xfe answer",
    length_bytes=70_000,
    sha256=bytes(range(32)),
    truncated=True,
)


@pytest.fixture
def stored(database: FreshDatabase) -> Iterator[Database]:
    """A database with the tenant and its destination."""
    with closing(Database(DatabaseSettings(database_url=database.admin_url))) as made:
        tenants.issue_token(
            made,
            tenant_id=TENANT,
            tenant_name="acme",
            token_id=TokenId(UUID(int=2)),
            token_sha256=b"t" * 32,
            scopes=("read",),
            now=NOW,
        )
        destinations.insert(made, STORED)
        yield made


def accept(database: Database, *, wait_seconds: float | None = None) -> deliveries.Acceptance:
    found = deliveries.accept(
        database,
        NEW if wait_seconds else replace(NEW, not_before=ACCEPTED.due_at),
        delivery_id=ACCEPTED.delivery_id,
        fingerprint=ACCEPTED.fingerprint,
        now=NOW,
        lease=LEASE,
        wait_seconds=wait_seconds,
    )
    assert found is not None
    return found


def told(database: Database) -> Delivery:
    """The delivery, of which every statement that reads it says the same."""
    found = deliveries.find(database, tenant_id=TENANT, delivery_id=ACCEPTED.delivery_id)
    whole = attempts.with_delivery(database, tenant_id=TENANT, delivery_id=ACCEPTED.delivery_id)
    assert found is not None
    assert whole is not None
    assert deliveries.page(database, Filter(tenant_id=TENANT), limit=5).deliveries == [found] == [whole[0]]
    return found


def logged(database: Database) -> list[Attempt]:
    """The attempts, of which both statements that read them say the same."""
    whole = attempts.with_delivery(database, tenant_id=TENANT, delivery_id=ACCEPTED.delivery_id)
    found = attempts.of_delivery(database, ACCEPTED.delivery_id)
    assert whole is not None
    assert whole[1] == found
    return found


def record(database: Database, attempt: Attempt, next_state: State, due_at: datetime | None = None) -> None:
    made = Record(attempt=attempt, lease_id=LEASE.lease_id, next_state=next_state, due_at=due_at)
    assert attempts.record(database, [made], now=attempt.started_at).moved == {ACCEPTED.delivery_id}


@pytest.mark.parametrize("reference", ["bank", str(STORED.destination_id)])
def test_a_destination_is_read_back_complete(stored: Database, reference: str) -> None:
    set_managed(stored)
    assert destinations.find(stored, tenant_id=TENANT, reference=reference) == MANAGED
    assert destinations.page(stored, tenant_id=TENANT, before=None, limit=5) == [MANAGED]


def set_managed(database: Database) -> None:
    database.rows(
        """
        UPDATE destination
        SET state = %(state)s, state_reason = %(state_reason)s, state_changed_at = %(state_changed_at)s,
            state_changed_by = %(state_changed_by)s, version = %(version)s,
            credentials_changed_at = %(credentials_changed_at)s
        RETURNING destination_id
        """,
        {name: getattr(MANAGED, name) for name in CHANGES},
    )


def test_the_options_of_a_plain_destination_are_one_value_that_is_shared(stored: Database) -> None:
    plain = replace(STORED, destination_id=DestinationId(UUID(int=4)), name="plain", options=DestinationOptions())
    destinations.insert(stored, plain)
    found = destinations.find(stored, tenant_id=TENANT, reference="plain")
    assert found is not None
    assert found.options is PLAIN
    (row,) = stored.rows("SELECT options::text FROM destination WHERE name = 'plain'", {})
    assert row["options"] == "{}"


def test_every_option_is_read_back_complete(stored: Database) -> None:
    given = replace(STORED, destination_id=DestinationId(UUID(int=4)), name="others", options=OTHERS)
    destinations.insert(stored, given)
    found = destinations.find(stored, tenant_id=TENANT, reference="others")
    assert found is not None
    assert found.options == OTHERS


def test_no_member_is_left_out_or_has_its_default_here() -> None:
    """A member that is new has to get a value here, and to come back."""
    given = members((STORED, OTHERS))
    assert DestinationOptions in {kind for kind, _ in given}
    assert [f"{kind.__name__}.{name}" for (kind, name), is_set in given.items() if not is_set] == []


def members(value: object) -> dict[tuple[type, str], bool]:
    """Whether each member of the dataclasses in it has, in one of them at least, another value than its default."""
    found: dict[tuple[type, str], bool] = {}
    parts = [getattr(value, field.name) for field in fields(value)] if is_dataclass(value) else []
    for field, part in zip(fields(value), parts, strict=True) if is_dataclass(value) else ():
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        found[type(value), field.name] = part != default
    for part in [*parts, *(value if isinstance(value, tuple) else ())]:
        for member, is_set in members(part).items():
            found[member] = found.get(member, False) or is_set
    return found


def test_a_member_that_newer_code_stored_is_passed_over(stored: Database) -> None:
    stored.rows("UPDATE destination SET options = options || '{\"later\": [1]}' RETURNING destination_id", {})
    found = destinations.find(stored, tenant_id=TENANT, reference="bank")
    assert found is not None
    assert found.options == STORED.options


def test_an_accepted_delivery_is_read_back_complete(stored: Database) -> None:
    found = accept(stored)
    assert (found.delivery, found.replayed, found.claim) == (ACCEPTED, False, None)
    assert told(stored) == ACCEPTED
    assert accept(stored) == replace(found, replayed=False)  # the statement that was run again, not another call
    assert logged(stored) == []


def test_a_delivery_that_is_sent_at_once_is_claimed_whole(stored: Database) -> None:
    sending = replace(ACCEPTED, state=State.SENDING, attempts_made=1, due_at=NOW)
    found = accept(stored, wait_seconds=STORED.timeouts.total_seconds)
    assert (found.delivery, found.claim) == (sending, CLAIM)
    assert told(stored) == sending


def test_a_claim_brings_the_access_token_whole_and_who_renews_it(stored: Database) -> None:
    first, second = UUID(int=40), UUID(int=41)
    token = StoredToken(
        token_id=first,
        sealed_token=b"\x00token",
        basis=bytes(range(32)),
        usable_until=NOW + timedelta(seconds=295, microseconds=7),
        renew_at=NOW + timedelta(seconds=240),
        renewing_until=None,
    )
    destination_id, until = STORED.destination_id, NOW + timedelta(seconds=15)
    assert oauth_tokens.find(stored, destination_id) is None
    for renewal_id in (first, second):
        oauth_tokens.take(stored, destination_id, renewal_id=renewal_id, instead_of=None, until=until, now=NOW)
    oauth_tokens.store(stored, destination_id, token, renewal_id=second)  # it was never theirs
    oauth_tokens.store(stored, destination_id, token, renewal_id=first)
    assert accept(stored, wait_seconds=STORED.timeouts.total_seconds).claim == replace(CLAIM, token=token)
    found = oauth_tokens.take(stored, destination_id, renewal_id=second, instead_of=first, until=until, now=NOW)
    assert found == oauth_tokens.Renewal(
        ours=True,
        token=replace(token, renewing_until=until),
        renewal_id=second,
        failed_renewal_id=None,
        failure=None,
    )
    again_at = NOW + timedelta(seconds=300)
    oauth_tokens.fail(stored, destination_id, renewal_id=second, failure="why", again_at=again_at)
    claims = deliveries.claim(stored, [ACCEPTED.delivery_id], lease=LEASE, now=NOW)
    assert claims == [replace(CLAIM, token=replace(token, renew_at=again_at))]
    third = oauth_tokens.take(stored, destination_id, renewal_id=first, instead_of=None, until=until, now=NOW)
    assert oauth_tokens.find(stored, destination_id) == replace(token, renew_at=again_at)
    assert third == oauth_tokens.Renewal(
        ours=False,
        token=replace(token, renew_at=again_at),
        renewal_id=None,
        failed_renewal_id=second,
        failure="why",
    )


def test_a_wait_shorter_than_the_total_deadline_leaves_it_to_the_queue(stored: Database) -> None:
    assert accept(stored, wait_seconds=3.25).claim is None


def test_a_due_delivery_is_claimed_whole_and_not_before(stored: Database) -> None:
    accept(stored)
    early = deliveries.claim(stored, [ACCEPTED.delivery_id], lease=LEASE, now=NOW)
    assert early == [NotDue(delivery_id=ACCEPTED.delivery_id, at=ACCEPTED.due_at)]
    assert deliveries.claim(stored, [ACCEPTED.delivery_id], lease=LEASE, now=ACCEPTED.due_at) == [CLAIM]


def test_what_another_holds_is_to_be_looked_at_when_its_lease_ends(stored: Database) -> None:
    accept(stored, wait_seconds=STORED.timeouts.total_seconds)
    another = replace(LEASE, lease_id=LeaseId(UUID(int=21)))
    found = deliveries.claim(stored, [ACCEPTED.delivery_id], lease=another, now=NOW)
    assert found == [NotDue(delivery_id=ACCEPTED.delivery_id, at=LEASE.until)]


def test_attempts_come_back_whole_with_and_without_an_answer(stored: Database) -> None:
    accept(stored, wait_seconds=STORED.timeouts.total_seconds)
    again_at = NOW + timedelta(seconds=50)
    record(stored, UNANSWERED, State.PENDING, again_at)
    assert told(stored) == replace(ACCEPTED, attempts_made=1, due_at=again_at)
    assert deliveries.claim(stored, [ACCEPTED.delivery_id], lease=LEASE, now=again_at) == [
        replace(CLAIM, attempts_made=2)
    ]
    second = replace(
        UNANSWERED,
        attempt_id=AttemptId(UUID(int=31)),
        number=2,
        outcome=OutcomeKind.ANSWERED,
        reason=None,
        started_at=again_at,
        timings=Timings(total_ms=9.5),
        remote_address="2001:db8::7",
        egress_address=None,
        response=RESPONSE,
    )
    record(stored, second, State.DELIVERED)
    assert logged(stored) == [UNANSWERED, second]
    assert (told(stored).state, told(stored).finished_at) == (State.DELIVERED, again_at)
    assert deliveries.claim(stored, [ACCEPTED.delivery_id], lease=LEASE, now=again_at) == [
        Finished(delivery_id=ACCEPTED.delivery_id)
    ]


def test_an_answer_that_was_not_read_to_its_end_has_neither_length_nor_digest(stored: Database) -> None:
    accept(stored, wait_seconds=STORED.timeouts.total_seconds)
    cut = replace(
        UNANSWERED,
        reason=None,
        outcome=OutcomeKind.ANSWERED,
        response=replace(RESPONSE, length_bytes=None, sha256=None),
    )
    record(stored, cut, State.FAILED)
    assert logged(stored) == [cut]


def test_large_bodies_are_compressed_by_lz4_and_come_back_as_they_were(stored: Database) -> None:
    large = b'{"amount": 1}' * 5000
    new = replace(NEW, body=large, not_before=None)
    deliveries.accept(
        stored,
        new,
        delivery_id=ACCEPTED.delivery_id,
        fingerprint=ACCEPTED.fingerprint,
        now=NOW,
        lease=LEASE,
        wait_seconds=None,
    )
    assert deliveries.claim(stored, [ACCEPTED.delivery_id], lease=LEASE, now=NOW) == [replace(CLAIM, body=large)]
    answered = replace(
        UNANSWERED, reason=None, outcome=OutcomeKind.ANSWERED, response=replace(RESPONSE, body=large[:65_536])
    )
    record(stored, answered, State.DELIVERED)
    assert logged(stored) == [answered]
    (row,) = stored.rows(
        "SELECT pg_column_compression(body) AS sent, pg_column_compression(response_body) AS answered"
        " FROM delivery_body JOIN attempt USING (delivery_id)",
        {},
    )
    assert row == {"sent": "lz4", "answered": "lz4"}
