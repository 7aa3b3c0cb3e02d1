"""Tokens and who owns them: when their use is recorded, in which order they are listed, and whose they are."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import LiteralString
from uuid import UUID

import pytest

from db import destinations, tenants
from db.connection import Database, Parameters, Row
from db.tenants import Caller, TokenRecord
from domain.auth import AuthType
from domain.destinations import Guarantee, ManagedDestination, Timeouts
from domain.ids import DestinationId, TenantId, TokenId
from runtime.settings import DatabaseSettings
from tests.db.test_repeats import NOW, TENANT, destination, later
from tests.support.databases import FreshDatabase

OTHERS = TenantId(UUID(int=50))


@pytest.fixture
def database(shared_database: FreshDatabase) -> Iterator[Database]:
    """Without rows."""
    with closing(Database(DatabaseSettings(database_url=shared_database.admin_url))) as made:
        made.connection().execute("TRUNCATE tenant, token, destination, delivery, delivery_body, attempt CASCADE")
        yield made


def issue(
    database: Database, number: int, *, tenant_id: TenantId = TENANT, name: str = "acme", at: float = 0
) -> TenantId:
    return tenants.issue_token(
        database,
        tenant_id=tenant_id,
        tenant_name=name,
        token_id=TokenId(UUID(int=number)),
        token_sha256=number.to_bytes(32),
        scopes=("send", "read"),
        now=later(at),
    )


def token(number: int, **overrides: object) -> TokenRecord:
    made = TokenRecord(
        token_id=TokenId(UUID(int=number)),
        tenant_id=TENANT,
        scopes=("send", "read"),
        created_at=NOW,
        revoked_at=None,
        last_used_at=None,
        expires_at=None,
        destination_ids=None,
    )
    return replace(made, **overrides)  # type: ignore[arg-type]  # of the fields' own types


def caller(database: Database, number: int, at: float) -> Caller | None:
    return tenants.caller_of(database, token_sha256=number.to_bytes(32), now=later(at))


def last_used(database: Database) -> list[object]:
    return [token.last_used_at for token in tenants.tokens_of(database, tenant_name="acme")]


def test_tokens_are_listed_complete_oldest_first_and_for_one_tenant_only(database: Database) -> None:
    for number, at in ((8, 1), (5, 9), (9, 2), (6, 3)):  # stored in another order than that of their ids
        issue(database, number, at=at)
    issue(database, 7, tenant_id=OTHERS, name="others")
    caller(database, 5, 20)
    tenants.revoke_token(database, token_id=TokenId(UUID(int=9)), now=later(30))
    assert tenants.tokens_of(database, tenant_name="acme") == [
        token(5, created_at=later(9), last_used_at=later(20)),
        token(6, created_at=later(3)),
        token(8, created_at=later(1)),
        token(9, created_at=later(2), revoked_at=later(30)),
    ]
    assert tenants.tokens_of(database, tenant_name="nobody") == []


class Explained(Database):
    """Keeps the plan of each statement."""

    plan = ""

    def rows(
        self, statement: LiteralString, parameters: Parameters, *, repeatable: bool = False, binary: bool = False
    ) -> list[Row]:
        self.plan = str(self.connection().execute("EXPLAIN " + statement, parameters).fetchall())
        return super().rows(statement, parameters, repeatable=repeatable, binary=binary)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda database: tenants.tokens_of(database, tenant_name="acme"), "token_by_tenant"),
        (lambda database: caller(database, 5, 1), "token_sha256_once"),
    ],
    ids=["the tokens of a tenant", "the caller of a token"],
)
def test_tokens_are_found_without_reading_those_of_others(
    shared_database: FreshDatabase, database: Database, ask: Callable[[Database], object], index: str
) -> None:
    issue(database, 5)
    issue(database, 6, tenant_id=OTHERS, name="others")
    database.connection().execute(
        """
        INSERT INTO token
        SELECT gen_random_uuid(), tenant_id, sha256(n::text::bytea), scopes, created_at
        FROM token, generate_series(1, 20000) AS n WHERE tenant_id = %s
        """,
        [OTHERS],
    )
    database.connection().execute("ANALYZE tenant, token")
    with closing(Explained(DatabaseSettings(database_url=shared_database.admin_url))) as explained:
        assert ask(explained)
    assert index in explained.plan
    assert "Seq Scan on token" not in explained.plan


def test_a_tenants_first_token_makes_the_tenant_and_the_next_ones_find_it(database: Database) -> None:
    assert issue(database, 5, at=1) == TENANT
    assert issue(database, 6, tenant_id=OTHERS, at=2) == TENANT
    rows = database.rows("SELECT tenant_id, name, created_at FROM tenant", {})
    assert rows == [{"tenant_id": TENANT, "name": "acme", "created_at": later(1)}]


def test_a_use_is_noted_once_a_minute_and_for_that_token_alone(database: Database) -> None:
    for number in (5, 6):
        issue(database, number)
    caller(database, 5, 0)
    assert last_used(database) == [later(0), None]
    for at, noted in ((30, 0), (60, 0), (60.001, 60.001), (119, 60.001), (121, 121)):
        caller(database, 5, at)
        assert last_used(database) == [later(noted), None]
    caller(database, 6, 60)
    assert last_used(database) == [later(121), later(60)]


def test_a_token_identifies_its_tenant_until_it_is_revoked(database: Database) -> None:
    issue(database, 5)
    issue(database, 6, tenant_id=OTHERS, name="others")
    for number, owner in ((5, TENANT), (6, OTHERS)):
        expected = Caller(tenant_id=owner, token_id=TokenId(UUID(int=number)), scopes=("send", "read"))
        assert caller(database, number, 1) == expected
    assert caller(database, 7, 1) is None
    assert tenants.revoke_token(database, token_id=TokenId(UUID(int=6)), now=later(2)) == later(2)
    assert (caller(database, 6, 200) is None, caller(database, 5, 3) is None) == (True, False)
    (revoked,) = tenants.tokens_of(database, tenant_name="others")
    assert revoked.last_used_at == later(1)  # a use that was refused is none


def test_a_revoked_token_keeps_its_first_revocation_and_a_missing_one_is_reported(database: Database) -> None:
    for number in (5, 6):
        issue(database, number)
    for at in (1, 2):
        assert tenants.revoke_token(database, token_id=TokenId(UUID(int=5)), now=later(at)) == later(1)
    assert tenants.revoke_token(database, token_id=TokenId(UUID(int=7)), now=NOW) is None
    assert [token.revoked_at for token in tenants.tokens_of(database, tenant_name="acme")] == [later(1), None]


# Destinations

FULL = ManagedDestination(
    destination_id=DestinationId(UUID(int=70)),
    tenant_id=TENANT,
    name="bank",
    base_url="https://bank.example/v2",
    auth_type=AuthType.HEADER,
    sealed_credentials=b"\0sealed",
    guarantee=Guarantee.AT_MOST_ONCE,
    idempotent=True,
    idempotency_header="X-Key",
    timeouts=Timeouts(connect_seconds=1.5, first_byte_seconds=2.5, total_seconds=3.5),
    created_at=later(4),
)


def test_every_column_of_a_destination_is_read_by_name_and_by_id(database: Database) -> None:
    issue(database, 5)
    destinations.insert(database, destination())
    destinations.insert(database, FULL)
    for reference in ("bank", str(FULL.destination_id)):
        assert destinations.find(database, tenant_id=TENANT, reference=reference) == FULL
        assert destinations.find(database, tenant_id=OTHERS, reference=reference) is None
    assert destinations.find(database, tenant_id=TENANT, reference="other") is None


def test_destinations_are_listed_newest_first_in_pages_and_for_one_tenant_only(database: Database) -> None:
    issue(database, 5)
    issue(database, 6, tenant_id=OTHERS, name="others")
    for number in (72, 74, 71, 73):
        one = replace(FULL, destination_id=DestinationId(UUID(int=number)), name=f"bank-{number}")
        destinations.insert(database, one)
    destinations.insert(database, replace(FULL, tenant_id=OTHERS))

    def page(before: int | None, limit: int) -> list[int]:
        bound = None if before is None else DestinationId(UUID(int=before))
        found = destinations.page(database, tenant_id=TENANT, before=bound, limit=limit)
        return [destination.destination_id.int for destination in found]

    assert page(None, 9) == [74, 73, 72, 71]
    assert page(None, 2) == [74, 73]
    assert page(73, 2) == [72, 71]
    assert page(71, 2) == []
    assert destinations.page(database, tenant_id=TENANT, before=None, limit=1) == [
        replace(FULL, destination_id=DestinationId(UUID(int=74)), name="bank-74")
    ]


def test_two_tenants_may_use_one_name(database: Database) -> None:
    issue(database, 5)
    issue(database, 6, tenant_id=OTHERS, name="others")
    theirs = replace(FULL, tenant_id=OTHERS, destination_id=DestinationId(UUID(int=80)))
    destinations.insert(database, FULL)
    destinations.insert(database, theirs)
    assert destinations.find(database, tenant_id=OTHERS, reference="bank") == theirs
