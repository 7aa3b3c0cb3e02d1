"""/v1/audit: what is listed and exported, and what the offline verifier finds in it."""

import json

import pytest

from handlers.routes import audit as routes
from sallyport_audit.__main__ import verify
from sallyport_audit.chain import KnownHash, Tampered
from tests.support.api import Functions, Reply


def some_acts(functions: Functions) -> None:
    """A destination is created, changed, paused and resumed."""
    functions.api.destination("https://bank.example", name="bank")
    assert functions.api.call("PATCH", "/v1/destinations/bank", json={"idempotent": True}).status == 200
    for transition in ("pause", "resume"):
        assert functions.api.call("POST", f"/v1/destinations/bank/{transition}").status == 200


def lines(reply: Reply) -> list[bytes]:
    assert (reply.status, reply.header("Content-Type")) == (200, "application/jsonl")
    return reply.body.splitlines(keepends=True)


def test_each_act_is_listed_with_who_and_what(functions: Functions) -> None:
    some_acts(functions)
    shown = functions.api.get("/v1/audit").json
    assert [entry["what"] for entry in shown["entries"]] == [
        "destination.resumed",
        "destination.paused",
        "destination.changed",
        "destination.created",
        "token.issued",
    ]
    assert [entry["sequence"] for entry in shown["entries"]] == [5, 4, 3, 2, 1]
    assert shown["next_cursor"] is None
    changed = shown["entries"][2]
    assert changed["members"] == ["idempotent"]
    assert changed["by"] == functions.api.authorizer["token_id"]  # type: ignore[index]
    assert changed["previous"] == shown["entries"][3]["hash"]
    assert shown["entries"][4]["previous"] == "0" * 64


def test_pages_follow_one_another(functions: Functions) -> None:
    some_acts(functions)
    first = functions.api.get("/v1/audit?limit=3").json
    rest = functions.api.get(f"/v1/audit?limit=3&cursor={first['next_cursor']}").json
    assert [entry["sequence"] for page in (first, rest) for entry in page["entries"]] == [5, 4, 3, 2, 1]
    assert rest["next_cursor"] is None


def test_filters_narrow_the_list(functions: Functions) -> None:
    some_acts(functions)
    shown = functions.api.get("/v1/audit").json["entries"]
    third = shown[1]

    def found(query: str) -> list[int]:
        return [entry["sequence"] for entry in functions.api.get(f"/v1/audit?{query}").json["entries"]]

    assert found("what=destination.paused") == [4]
    assert found(f"on={third['on']}&by={third['by']}") == [5, 4, 3, 2]
    assert found("on=nothing") == found("by=nobody") == found("what=%25") == []
    assert found(f"since={third['at']}") == [5, 4]
    assert found(f"until={third['at']}") == [3, 2, 1]
    assert found("since=2100-01-01T00:00:00Z") == found("until=2000-01-01T00:00:00Z") == []


def test_another_tenants_acts_are_neither_listed_nor_exported(functions: Functions) -> None:
    some_acts(functions)
    stranger = functions.other_api
    (own,) = stranger.get("/v1/audit").json["entries"]
    assert own["what"] == "token.issued"
    assert len(lines(stranger.get("/v1/audit/export"))) == 1


def test_an_export_is_verified_against_the_lines_of_the_log(functions: Functions) -> None:
    some_acts(functions)
    exported = lines(functions.api.get("/v1/audit/export"))
    assert "4 checkpoints agree" in verify(exported, checkpoints(functions))
    assert "no checkpoint was given" not in verify(exported, checkpoints(functions))


def checkpoints(functions: Functions) -> list[KnownHash]:
    acts = [line for line in map(json.loads, functions.log.getvalue().splitlines()) if line["message"] == "act"]
    return [
        KnownHash(tenant_id=line["tenant_id"], sequence=line["audit_sequence"], hash=line["audit_hash"])
        for line in acts
    ]


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM audit_entry WHERE sequence = 2",
        "DELETE FROM audit_entry WHERE sequence = 1",
        "DELETE FROM audit_entry WHERE sequence = 5",
        "UPDATE audit_entry SET content = replace(content, 'idempotent', 'base_url') WHERE sequence = 3",
        "UPDATE audit_entry SET at = at + interval '1 microsecond' WHERE sequence = 5",
        "UPDATE audit_entry SET hash = previous, previous = hash WHERE sequence = 4",
        "UPDATE audit_entry SET sequence = 6 WHERE sequence = 5",
        "UPDATE audit_entry SET content = replace(content, ':', ': ') WHERE sequence = 5",
        "DELETE FROM audit_entry; UPDATE audit_head SET sequence = 0, hash = decode(repeat('00', 32), 'hex')",
    ],
)
def test_what_the_owner_of_the_database_did_to_it_is_found(functions: Functions, tampering: str) -> None:
    some_acts(functions)
    functions.sql(tampering)
    with pytest.raises(Tampered):
        verify(lines(functions.api.get("/v1/audit/export")), checkpoints(functions))


def test_an_export_comes_in_parts_that_lead_to_each_other(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "EXPORT_LINES", 4)
    some_acts(functions)
    first = functions.api.get("/v1/audit/export?until=2100-01-01T00:00:00Z")
    link = first.header("Link") or ""
    assert link == '</dev/v1/audit/export?after=4&until=2100-01-01T00%3A00%3A00Z>; rel="next"'
    rest = functions.api.get(link.removeprefix("</dev").partition(">")[0])
    assert rest.header("Link") is None
    assert verify([*lines(first), *lines(rest)], checkpoints(functions)).startswith("verified 5 entries, 1 to 5")


def test_a_range_of_time_is_a_part_without_a_gap(functions: Functions) -> None:
    some_acts(functions)
    second = functions.api.get("/v1/audit").json["entries"][2]
    part = lines(functions.api.get(f"/v1/audit/export?since={second['at']}"))
    assert verify(part, checkpoints(functions), part=True).startswith("verified 3 entries, 3 to 5")


def test_an_act_that_fails_is_no_entry(functions: Functions) -> None:
    some_acts(functions)
    assert functions.api.call("PATCH", "/v1/destinations/bank", json={"idempotent": True}).status == 200  # as it is
    assert functions.api.call("POST", "/v1/destinations/bank/resume").status == 200
    assert functions.api.call("POST", "/v1/destinations/nowhere/pause").status == 404
    assert len(functions.api.get("/v1/audit").json["entries"]) == 5


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/v1/audit?cursor=x", ["cursor"]),
        ("/v1/audit?cursor=-1", ["cursor"]),
        ("/v1/audit?cursor=9999999999999999999", ["cursor"]),
        ("/v1/audit?since=yesterday", ["since"]),
        ("/v1/audit?until=2026-11-01T00:00:00", ["until"]),
        ("/v1/audit?what=", ["what"]),
        ("/v1/audit?what=a%00b", ["what"]),
        (f"/v1/audit?by={'x' * 201}", ["by"]),
        ("/v1/audit?limit=0", ["limit"]),
        ("/v1/audit?who=x", ["query"]),
        ("/v1/audit/export?after=-1", ["after"]),
        ("/v1/audit/export?after=1e3", ["after"]),
        ("/v1/audit/export?until=x", ["until"]),
        ("/v1/audit/export?limit=5", ["query"]),
    ],
)
def test_what_cannot_be_asked_for_is_named(refusing: Functions, target: str, fields: list[str]) -> None:
    assert refusing.api.get(target).faults == fields


def test_a_token_without_the_scope_sees_nothing(refusing: Functions) -> None:
    sender = refusing.api_with("send", "manage")
    assert sender.get("/v1/audit").status == sender.get("/v1/audit/export").status == 403
