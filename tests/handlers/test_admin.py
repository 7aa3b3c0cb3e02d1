"""The operators' function: tokens issued, listed, revoked."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from db import tenants
from domain.errors import InvalidRequest, NotFound
from flows import audit_chain
from handlers import admin, wiring
from tests.support.api import NOBODYS_ID, Api, Context, Functions, authorizer_context, json_round_trip


def invoke(**event: Any) -> dict[str, Any]:
    return dict(json_round_trip(admin.handler(event, Context())))


def test_a_token_is_issued_shown_once_and_stored_as_its_hash(functions: Functions) -> None:
    issued = invoke(action="issue_token", tenant="initech", scopes=["read"])
    assert set(issued) == {"token", "token_id", "tenant_id", "scopes", "expires_at", "destination_ids"}
    assert issued["scopes"] == ["read"]
    assert issued["token"].startswith("spt_")
    assert len(issued["token"]) == 47
    everything = str(functions.sql("SELECT * FROM token")) + functions.log.getvalue()
    assert issued["token"] not in everything

    caller = Api(authorizer=authorizer_context(issued["token"]))
    assert caller.get("/v1/deliveries").status == 200
    assert caller.create_delivery().status == 403


def test_a_second_token_is_for_the_same_tenant(functions: Functions) -> None:
    first, second = (invoke(action="issue_token", tenant="initech") for _ in range(2))
    assert first["tenant_id"] == second["tenant_id"]
    assert first["token"] != second["token"]
    assert second["scopes"] == ["read", "send", "manage"]


def test_tokens_are_listed_without_their_secrets(functions: Functions) -> None:
    issued = invoke(action="issue_token", tenant="initech", scopes=["read", "send"])
    (shown,) = invoke(action="list_tokens", tenant="initech")["tokens"]
    assert shown == {
        "token_id": issued["token_id"],
        "tenant_id": issued["tenant_id"],
        "scopes": ["read", "send"],
        "created_at": shown["created_at"],
        "revoked_at": None,
        "last_used_at": None,
        "expires_at": None,
        "destination_ids": None,
    }
    assert invoke(action="list_tokens", tenant="nobody") == {"tokens": [], "next": None}


def test_however_many_tokens_there_are_each_is_on_one_page(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "TOKENS_OF_A_PAGE", 2)
    issued = [invoke(action="issue_token", tenant="initech")["token_id"] for _ in range(3)]
    pages: list[list[str]] = []
    after: str | None = None
    while len(pages) < 5:
        answer = invoke(action="list_tokens", tenant="initech", after=after)
        pages.append([token["token_id"] for token in answer["tokens"]])
        after = answer["next"]
        if after is None:
            break
    assert pages == [issued[:2], issued[2:]]


def test_a_token_is_revoked_once_and_stays_so(functions: Functions) -> None:
    token_id = invoke(action="issue_token", tenant="initech")["token_id"]
    first, second = (invoke(action="revoke_token", token_id=token_id) for _ in range(2))
    assert first == second == {"token_id": token_id, "revoked_at": first["revoked_at"]}
    (shown,) = invoke(action="list_tokens", tenant="initech")["tokens"]
    assert shown["revoked_at"].rstrip("Z") in first["revoked_at"]


def test_what_does_not_exist_cannot_be_revoked(refusing: Functions) -> None:
    with pytest.raises(NotFound, match="there is no such token"):
        invoke(action="revoke_token", token_id=NOBODYS_ID)


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ({"tenant": "Initech"}, ["/tenant"]),
        ({"tenant": ""}, ["/tenant"]),
        ({"tenant": "initech\n"}, ["/tenant"]),
        ({"tenant": "x" * 64}, ["/tenant"]),
        ({"tenant": "initech", "scopes": []}, ["/scopes"]),
        ({"tenant": "initech", "scopes": ["read", "admin"]}, ["/scopes"]),
        ({"tenant": "a b", "scopes": ["admin"]}, ["/tenant", "/scopes"]),
        ({"tenant": "initech", "expires_at": "2026-03-01T12:00:00Z"}, ["/expires_at"]),
        ({"tenant": "initech", "expires_at": "2100-03-01T12:00:00"}, ["/expires_at"]),
        ({"tenant": "acme", "destinations": []}, ["/destinations"]),
        ({"tenant": "acme", "destinations": ["partner"] * 21}, ["/destinations"]),
        ({"tenant": "acme", "destinations": ["partner", "nowhere", ""]}, ["/destinations/1", "/destinations/2"]),
        ({"tenant": "globex", "destinations": ["partner"]}, ["/destinations/0"]),
        ({"tenant": "initech", "destinations": ["partner"]}, ["/destinations/0"]),
    ],
)
def test_what_cannot_be_issued_is_named(refusing: Functions, event: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        invoke(action="issue_token", **event)
    assert [fault.field for fault in refused.value.faults] == fields


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"action": "drop_tables"},
        {"action": "issue_token"},
        {"action": "issue_token", "tenant": 7},
        {"action": "issue_token", "tenant": "initech", "scope": "read"},
        {"action": "revoke_token", "token_id": "42"},
        {"action": "list_tokens", "tenant": "initech", "all": True},
    ],
)
def test_a_command_that_cannot_be_read_is_refused(refusing: Functions, event: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        admin.handler(event, Context())


def test_every_id_is_a_uuid_of_version_7(functions: Functions) -> None:
    issued = invoke(action="issue_token", tenant="initech")
    assert {UUID(issued[name]).version for name in ("token_id", "tenant_id")} == {7}


def test_a_tenant_is_created_once_and_listed_by_name(functions: Functions) -> None:
    first, second = (invoke(action="create_tenant", tenant="initech") for _ in range(2))
    assert first == second
    assert [tenant["name"] for tenant in invoke(action="list_tenants")["tenants"]] == ["acme", "globex", "initech"]
    rest = invoke(action="list_tenants", after="acme")
    assert [tenant["name"] for tenant in rest["tenants"]] == ["globex", "initech"]
    assert rest["next"] is None
    assert invoke(action="issue_token", tenant="initech")["tenant_id"] == first["tenant_id"]


def test_what_operators_do_is_in_the_tenants_audit_log(functions: Functions) -> None:
    invoke(action="create_tenant", tenant="initech")
    invoke(action="create_tenant", tenant="initech")
    issued = invoke(action="issue_token", tenant="initech", scopes=["read"], expires_at="2100-01-01T00:00:00Z")
    for _ in range(2):
        invoke(action="revoke_token", token_id=issued["token_id"])
    rows = functions.sql(
        "SELECT what, actor, subject, content FROM audit_entry WHERE tenant_id = %s ORDER BY sequence",
        issued["tenant_id"],
    )
    assert [row["what"] for row in rows] == ["tenant.created", "token.issued", "token.revoked"]
    assert [row["subject"] for row in rows] == [issued["tenant_id"], issued["token_id"], issued["token_id"]]
    assert all(row["actor"].startswith("operator:") for row in rows)
    assert issued["token"] not in str(rows)
    assert '"expires_at":"2100-01-01T00:00:00+00:00"' in rows[1]["content"]


def test_a_long_chain_is_verified_in_parts_each_where_the_last_one_ended(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_chain, "PAGE", 2)
    invoke(action="create_tenant", tenant="initech")
    for _ in range(4):
        invoke(action="issue_token", tenant="initech")
    assert invoke(action="verify_audit", tenant="initech")["verified_to"] == 5  # all of it, where there is time
    (row,) = functions.sql("SELECT tenant_id FROM tenant WHERE name = 'initech'")
    after, ends = 0, []
    for _ in range(3):
        part = audit_chain.verified(wiring.admin(), row["tenant_id"], after=after, has_time=lambda: False)
        assert part.fault is None
        after = part.sequence
        ends.append((part.sequence, part.is_all))
    assert ends == [(2, False), (4, False), (5, True)]


def test_a_chain_cannot_be_verified_from_an_entry_that_is_not_there(functions: Functions) -> None:
    invoke(action="create_tenant", tenant="initech")
    invoke(action="issue_token", tenant="initech")
    functions.sql("DELETE FROM audit_entry WHERE sequence = 1 AND what = 'tenant.created'")
    found = invoke(action="verify_audit", tenant="initech", after=1)
    assert (found["verified_to"], found["fault"]) == (0, "entry 2 follows entry 0")


def test_a_chain_is_verified_where_it_is(functions: Functions) -> None:
    tenant_id = invoke(action="create_tenant", tenant="initech")["tenant_id"]
    for _ in range(3):
        invoke(action="issue_token", tenant="initech")
    assert invoke(action="verify_audit", tenant="initech")["verified_to"] == 4
    after = invoke(action="verify_audit", tenant="initech", after=2)
    assert (after["verified_to"], after["fault"], after["next"]) == (4, None, None)
    of_the_stack = invoke(action="verify_audit")
    assert (of_the_stack["verified_to"], of_the_stack["fault"]) == (0, None)
    functions.sql(
        "UPDATE audit_entry SET content = replace(content, 'send', 'Send') WHERE tenant_id = %s AND sequence = 3",
        tenant_id,
    )
    found = invoke(action="verify_audit", tenant="initech")
    assert (found["verified_to"], found["fault"]) == (2, "entry 3 does not have its own hash")
    assert "the audit log was changed" in functions.log.getvalue()


@pytest.mark.parametrize(
    ("tampering", "fault"),
    [
        ("DELETE FROM audit_entry WHERE sequence = 2", "entry 3 follows entry 1"),
        ("DELETE FROM audit_entry WHERE sequence = 1", "entry 2 follows entry 0"),
        ("UPDATE audit_entry SET previous = hash WHERE sequence = 3", "entry 3 does not have the hash of the entry"),
        ("UPDATE audit_head SET hash = decode(repeat('00', 32), 'hex')", "the end of the chain is not the one"),
        ("UPDATE audit_head SET sequence = 2", "the end of the chain is not the one"),
    ],
)
def test_what_was_done_to_a_chain_is_named(functions: Functions, tampering: str, fault: str) -> None:
    for _ in range(3):
        invoke(action="issue_token", tenant="initech")
    functions.sql(tampering)
    assert invoke(action="verify_audit", tenant="initech")["fault"].startswith(fault)


def test_only_a_tenants_chain_is_verified(refusing: Functions) -> None:
    with pytest.raises(NotFound, match="there is no such tenant"):
        invoke(action="verify_audit", tenant="nobody")
    with pytest.raises(InvalidRequest):
        invoke(action="create_tenant", tenant="No Body")


def test_operators_see_which_destinations_an_address_was_let_in_by(functions: Functions) -> None:
    token = invoke(action="issue_token", tenant="initech")["token"]
    api = Api(authorizer=authorizer_context(token))
    assert api.post("/v1/destinations", {"name": "bank", "base_url": "https://bank.example"}).status == 201
    destination = functions.sql("SELECT destination_id, name FROM destination ORDER BY destination_id")
    assert destination
    shown = invoke(action="seen_from", address="203.0.113.11")
    assert (shown["address"], shown["next"]) == ("203.0.113.11", None)
    assert [entry["destination_id"] for entry in shown["destinations"]] == [
        str(row["destination_id"]) for row in destination
    ]
    for entry in shown["destinations"]:
        assert entry["answered_at"] is entry["status"] is entry["answered_elsewhere_at"] is None
    last = shown["destinations"][-1]["destination_id"]
    assert invoke(action="seen_from", address="203.0.113.11", after=last)["destinations"] == []


@pytest.mark.parametrize("address", ["", "203.0.113", "203.0.113.11/32", "::1", "partner.example"])
def test_what_is_no_address_is_refused(functions: Functions, address: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="address must be an IPv4 address"):
        invoke(action="seen_from", address=address)


def test_a_tenant_gets_and_loses_the_wish_for_approvals(functions: Functions) -> None:
    for above in (0, 100, None):
        assert invoke(action="set_approvals", tenant="acme", above=above) == {"tenant": "acme", "above": above}
        assert functions.sql("SELECT approvals_above FROM tenant WHERE name = 'acme'") == [{"approvals_above": above}]
    assert functions.sql("SELECT approvals_above FROM tenant WHERE name = 'globex'") == [{"approvals_above": None}]
    entries = functions.sql("SELECT content FROM audit_entry WHERE strpos(content::text, 'tenant.approvals_set') > 0")
    assert len(entries) == 3
    with pytest.raises(NotFound):
        invoke(action="set_approvals", tenant="nobody", above=1)
    for wrong in (-1, 2**31, "many"):
        with pytest.raises(msgspec.ValidationError):
            invoke(action="set_approvals", tenant="acme", above=wrong)
