"""Destinations that sign: from the call that makes them to what the partner receives, and to a rotation's end."""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from domain.outcomes import Headers
from domain.signing import KeyKind, MessageAlgorithm
from tests.egress.servers import Partner, Script
from tests.support.api import Api, Functions
from tests.support.partners import answers, answers_in_turn
from tests.support.signing import key_of, public_key_of_public_pem, value, verify_message

type StartPartner = Callable[[Script], Partner]

GIVEN = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WEBHOOKS = {"type": "standard_webhooks"}
HMAC = {"type": "hmac", "header": "X-Sig", "secret": "of-the-partner-and-us"}
RFC_9421 = {"type": "http_message_signatures", "algorithm": "ed25519", "components": ["@method", "content-digest"]}


def received(server: Partner, at: int = -1) -> tuple[Headers, bytes]:
    """Header fields and body of a request that the partner got."""
    head, _, body = server.requests[at].partition(b"\r\n\r\n")
    pairs = (line.partition(": ")[::2] for line in head.decode("latin-1").split("\r\n")[1:])
    return tuple((name, text) for name, text in pairs), body


def test_a_secret_that_was_made_is_shown_once_and_verifies_what_the_partner_gets(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers())
    (made,) = api.destination(server.url(), signing=[WEBHOOKS])["signing"]
    (key,) = made["keys"]
    api.create_delivery(("Prefer", "wait=5"), ("Idempotency-Key", "order-1"))
    headers, body = received(server)
    assert standardwebhooks.Webhook(key["secret"]).verify(body, dict(headers)) == {"amount": 1}
    assert value(headers, "webhook-id") == "order-1"
    (shown,) = api.get("/v1/destinations/partner").json["signing"]
    assert shown == {**made, "keys": [{name: text for name, text in key.items() if name != "secret"}]}
    assert key["secret"] not in functions.log.getvalue() + str(functions.sql("SELECT * FROM destination"))


def test_a_secret_that_was_given_is_never_shown(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers())
    made = api.destination(server.url(), signing=[{**WEBHOOKS, "secret": GIVEN, "keyid": "ours", "name": "hooks"}])
    assert [(one["name"], key["keyid"], "secret" in key) for one in made["signing"] for key in one["keys"]] == [
        ("hooks", "ours", False)
    ]
    api.create_delivery(("Prefer", "wait=5"))
    headers, body = received(server)
    standardwebhooks.Webhook(GIVEN).verify(body, dict(headers))
    raw = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    (row,) = functions.sql("SELECT * FROM destination")
    assert raw not in functions.log.getvalue() + str(row) + str(made)
    assert raw.encode() not in row["sealed_signing"]


def test_the_public_half_of_a_made_key_pair_is_all_that_a_partner_needs(api: Api, partner: StartPartner) -> None:
    server = partner(answers())
    made = api.destination(server.url(), signing=[RFC_9421])
    (key,) = made["signing"][0]["keys"]
    assert "secret" not in key
    api.create_delivery(("Prefer", "wait=5"))
    headers, body = received(server)
    (result,) = verify_message(
        MessageAlgorithm.ED25519,
        public_key_of_public_pem(key["public_key"]),
        method="POST",
        url=server.url("/orders"),
        headers=headers,
        body=body,
    )
    assert result.parameters["keyid"] == key["keyid"]


def test_every_attempt_is_signed_at_its_own_time_under_the_same_id(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_in_turn(503, 200))
    scheme = {"type": "hmac", "header": "X-Sig", "signed": "{id}", "timestamp_header": "X-Time"}
    api.destination(server.url(), signing=[{**scheme, "timestamp_format": "unix_ms"}])
    api.create_delivery()
    functions.work()
    functions.work_early()
    first, second = (received(server, at)[0] for at in (0, 1))
    assert value(first, "x-sig") == value(second, "x-sig")
    assert int(value(first, "x-time")) < int(value(second, "x-time"))


def test_a_caller_cannot_set_what_a_scheme_writes(api: Api, partner: StartPartner) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[{**WEBHOOKS, "secret": GIVEN}])
    forged = {"Webhook-Signature": "v1,forged", "WEBHOOK-ID": "forged", "webhook-timestamp": ["1", "2"]}
    api.create_delivery(("Prefer", "wait=5"), headers=forged)
    headers, body = received(server)
    assert "forged" not in str(headers)
    standardwebhooks.Webhook(GIVEN).verify(body, dict(headers))
    api.call("POST", "/v1/via/partner/x", body=b"{}", headers=[("webhook-id", "forged"), ("webhook-signature", "v1,a")])
    headers, body = received(server)
    standardwebhooks.Webhook(GIVEN).verify(body, dict(headers))


def test_credentials_and_the_key_of_the_delivery_can_be_covered(api: Api, partner: StartPartner) -> None:
    server = partner(answers())
    covering = {**RFC_9421, "components": ["authorization", "idempotency-key", "content-type", "content-length"]}
    made = api.destination(server.url(), signing=[covering], auth={"type": "bearer", "token": "of-the-bank"})
    api.create_delivery(("Prefer", "wait=5"))
    headers, _ = received(server)
    public = public_key_of_public_pem(made["signing"][0]["keys"][0]["public_key"])
    verify_message(MessageAlgorithm.ED25519, public, method="POST", url=server.url("/orders"), headers=headers)


def test_a_request_without_what_is_covered_is_not_sent_and_says_why(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[{**RFC_9421, "components": ["x-request-id"]}])
    api.create_delivery()
    functions.work()
    (attempt,) = functions.attempts()
    assert (attempt["outcome"], server.requests) == ("unreachable", [])
    assert attempt["reason"] == (
        "x-request-id, which the signature covers, is not in the request, or more than once; nothing was sent"
    )


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE destination SET sealed_signing = NULL WHERE name = 'bad'",
        "UPDATE destination SET sealed_signing = '\\x01' WHERE name = 'bad'",
        "UPDATE destination SET sealed_signing = o.sealed_signing FROM destination o "
        "WHERE destination.name = 'bad' AND o.name = 'partner'",
        "UPDATE destination SET options = replace(options::text, 'ed25519', 'rsa-pss-sha512')::jsonb "
        "WHERE name = 'bad'",
    ],
)
def test_keys_that_cannot_sign_leave_it_unsent_and_others_go_on(
    functions: Functions, api: Api, partner: StartPartner, spoil: str
) -> None:
    server, other = partner(answers()), partner(answers())
    api.destination(server.url(), signing=[RFC_9421], name="bad")
    api.destination(other.url(), signing=[RFC_9421])
    functions.sql(spoil)
    api.create_delivery(destination="bad")
    api.create_delivery()
    functions.work()
    assert (len(server.requests), len(other.requests)) == (0, 1)
    assert sorted((attempt["outcome"], attempt["reason"]) for attempt in functions.attempts()) == [
        ("answered", None),
        ("unreachable", "the request could not be signed with the destination's keys; nothing was sent"),
    ]
    assert "a request could not be signed" in functions.log.getvalue()


def test_all_of_several_schemes_sign_one_request(api: Api, partner: StartPartner) -> None:
    server = partner(answers())
    api.destination(
        server.url(),
        signing=[
            {**RFC_9421, "components": ["webhook-signature", "x-hub-signature-256", "x-jws"]},
            WEBHOOKS,
            {**WEBHOOKS, "version": "v1a", "name": "asymmetric"},
            {**HMAC, "header": "X-Hub-Signature-256", "value": "sha256={signature}"},
            {"type": "jws_detached", "header": "X-Jws", "algorithm": "ES256"},
        ],
    )
    api.create_delivery(("Prefer", "wait=5"))
    headers, body = received(server)
    assert [entry[:3] for entry in value(headers, "webhook-signature").split(" ")] == ["v1,", "v1a"]
    digest = hmac.new(b"of-the-partner-and-us", body, hashlib.sha256).hexdigest()
    assert value(headers, "x-hub-signature-256") == f"sha256={digest}"
    assert ".." in value(headers, "x-jws")
    assert value(headers, "signature").startswith("sig1=:")


def test_bytes_that_are_no_text_are_signed_as_they_are(api: Api, partner: StartPartner) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[HMAC])
    raw = bytes(range(256))
    api.create_delivery(("Prefer", "wait=5"), body=None, body_base64=b64encode(raw).decode())
    headers, body = received(server)
    assert body == raw
    assert value(headers, "x-sig") == hmac.new(b"of-the-partner-and-us", raw, "sha256").hexdigest()


def test_a_key_that_is_refused_is_not_repeated(refusing: Functions) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nhunter2hunter2\n-----END PRIVATE KEY-----\n"
    wanted = {
        "name": "bank",
        "base_url": "https://bank.example",
        "signing": [
            {**RFC_9421, "private_key": pem, "passphrase": "hunter2"},
            {**WEBHOOKS, "secret": "hunter2"},
            {"type": "hmac", "header": "X", "signed": "{hunter2", "secret": "hunter2", "value": "{signature}hunter2"},
        ],
    }
    refused = refusing.api.post("/v1/destinations", wanted)
    assert refused.status == 422
    assert "hunter2" not in refused.body.decode() + refusing.log.getvalue()
    assert json.loads(refused.body)["faults"] == [
        {"field": "/signing/0/private_key", "detail": "cannot be read with this passphrase"},
        {"field": "/signing/1/secret", "detail": "must be whsec_ and base64 of 24 to 64 bytes"},
        {
            "field": "/signing/2/signed",
            "detail": "has a '{' without its counterpart; a literal brace is written twice",
        },
        {"field": "/signing/2/secret", "detail": "must have 16 bytes or more"},
    ]


def test_a_destination_without_signing_asks_for_no_key_and_signs_nothing(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = partner(answers())
    assert api.destination(server.url())["signing"] == []
    monkeypatch.setattr("flows.prepare._seal_keys", _must_not_be_called)
    api.create_delivery(("Prefer", "wait=5"))
    assert {name.lower() for name, _ in received(server)[0]} == {
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "user-agent",
    }
    assert functions.sql("SELECT options FROM destination") == [{"options": {}}]


def _must_not_be_called(*_: Any) -> Any:
    raise AssertionError


OVERLAP_OVER = (
    "UPDATE destination SET options = "
    """jsonb_set(options, '{signing,0,keys,1,expires_at}', '"2026-01-01T00:00:00Z"')"""
)


def rotate(api: Api, destination: str = "partner", **body: Any) -> Any:
    answer = api.post(f"/v1/destinations/{destination}/rotate-secret", body)
    assert answer.status == 200, answer.body
    return answer.json


def signatures(server: Partner) -> list[str]:
    return value(received(server)[0], "webhook-signature").split(" ")


def test_during_the_overlap_both_keys_sign_and_the_partner_may_have_either(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[{**WEBHOOKS, "secret": GIVEN}])
    (new, old) = rotate(api)["signing"][0]["keys"]
    assert (new["expires_at"], "secret" in new, "secret" in old) == (None, True, False)
    assert datetime.fromisoformat(old["expires_at"]) - datetime.fromisoformat(new["created_at"]) == timedelta(days=1)
    api.create_delivery(("Prefer", "wait=5"))
    headers, body = received(server)
    for secret in (new["secret"], GIVEN):
        standardwebhooks.Webhook(secret).verify(body, dict(headers))
    shown = api.get("/v1/destinations/partner").body.decode()
    assert new["secret"] not in shown + functions.log.getvalue()
    act = [json.loads(line) for line in functions.log.getvalue().splitlines() if '"act"' in line][-1]
    assert (act["what"], act["members"]) == ("destination.secret_rotated", ["signing"])


def test_without_an_overlap_the_old_key_is_gone_at_once(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[WEBHOOKS])
    rotate(api)
    (row,) = functions.sql("SELECT sealed_signing, version FROM destination")
    assert row["version"] == 2
    (key,) = rotate(api, secret=GIVEN, overlap_seconds=0, keyid="third")["signing"][0]["keys"]
    assert (key["keyid"], "secret" in key) == ("third", False)
    api.create_delivery(("Prefer", "wait=5"))
    assert len(signatures(server)) == 1
    (after,) = functions.sql("SELECT sealed_signing FROM destination")
    assert len(after["sealed_signing"]) < len(row["sealed_signing"])


def test_when_the_overlap_is_over_the_old_key_signs_nothing_and_goes_with_the_next_change(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[WEBHOOKS, {**HMAC, "name": "hmac"}])
    rotate(api, scheme="standard_webhooks")
    functions.sql(OVERLAP_OVER)
    api.create_delivery(("Prefer", "wait=5"))
    assert len(signatures(server)) == 1
    after = rotate(api, scheme="hmac", secret="another-secret-of-both")
    assert [len(one["keys"]) for one in after["signing"]] == [1, 2]


def test_a_header_for_one_signature_changes_to_the_new_key_when_the_overlap_is_over(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[HMAC])
    new, old = rotate(api, secret="of-the-partner-from-now-on", overlap_seconds=3600)["signing"][0]["keys"]
    assert new["signs_from"] == old["expires_at"]
    api.create_delivery(("Prefer", "wait=5"))
    headers, body = received(server)
    assert value(headers, "x-sig") == hmac.new(b"of-the-partner-and-us", body, "sha256").hexdigest()
    functions.sql(OVERLAP_OVER)
    api.create_delivery(("Prefer", "wait=5"))
    headers, body = received(server)
    assert value(headers, "x-sig") == hmac.new(b"of-the-partner-from-now-on", body, "sha256").hexdigest()


def test_rotations_at_the_same_time_all_count(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example", signing=[WEBHOOKS])
    with ThreadPoolExecutor(4) as threads:
        answers_ = list(threads.map(lambda number: rotate(api, keyid=f"n{number}"), range(4)))
    keys = api.get("/v1/destinations/partner").json["signing"][0]["keys"]
    assert {key["keyid"] for key in keys} >= {f"n{number}" for number in range(4)}
    assert len({answer["signing"][0]["keys"][0]["secret"] for answer in answers_}) == 4
    assert functions.sql("SELECT version FROM destination") == [{"version": 5}]


def test_a_sixth_key_is_refused_until_an_overlap_is_over(api: Api) -> None:
    api.destination("https://bank.example", signing=[WEBHOOKS])
    for _ in range(4):
        rotate(api)
    refused = api.post("/v1/destinations/partner/rotate-secret", {})
    assert (refused.status, refused.faults) == (422, ["/overlap_seconds"])
    assert refused.json["faults"][0]["detail"].startswith("must be 0: the scheme has 5 keys, until 20")
    assert len(rotate(api, overlap_seconds=0)["signing"][0]["keys"]) == 1


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        ({}, "/scheme", "must be one of standard_webhooks, ours"),
        ({"scheme": "nobodys"}, "/scheme", "must be one of standard_webhooks, ours"),
        ({"scheme": "ours", "keyid": "\u00e9"}, "/keyid", "must be ASCII without control characters"),
        ({"scheme": "ours", "secret": "k" * 32}, "/secret", "must be left out: with ed25519 the key is 'private_key'"),
        (
            {"scheme": "standard_webhooks", "secret": "whsec_"},
            "/secret",
            "must be whsec_ and base64 of 24 to 64 bytes",
        ),
        (
            {"scheme": "standard_webhooks", "secret": GIVEN},
            "/secret",
            "must be another key than those that the scheme has",
        ),
        ({"scheme": "ours", "overlap_seconds": 2_592_001}, "/overlap_seconds", "must be at most 2592000"),
        ({"scheme": "ours", "overlap_seconds": -1}, "/overlap_seconds", "must be at least 0"),
        ({"scheme": "ours", "overlap": 1}, "", "member 2 is unknown; known are scheme, overlap_seconds, keyid"),
    ],
)
def test_a_rotation_that_cannot_be_made_says_why(api: Api, body: dict[str, Any], field: str, detail: str) -> None:
    signing = [{**WEBHOOKS, "secret": GIVEN}, {**RFC_9421, "name": "ours"}]
    api.destination("https://bank.example", signing=signing)
    refused = api.post("/v1/destinations/partner/rotate-secret", body)
    assert (refused.status, refused.faults) == (422, [field])
    assert refused.json["faults"][0]["detail"].startswith(detail)


def test_all_faults_of_a_rotation_are_said_at_once(api: Api) -> None:
    api.destination("https://bank.example", signing=[WEBHOOKS])
    refused = api.post("/v1/destinations/partner/rotate-secret", {"keyid": "\u00e9", "secret": "whsec_"})
    assert refused.faults == ["/keyid", "/secret"]


def test_a_pair_cannot_be_rotated_to_itself(api: Api) -> None:
    pem = load_der_private_key(key_of(KeyKind.ED25519).secret, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    api.destination("https://bank.example", signing=[{**RFC_9421, "private_key": pem.decode()}])
    refused = api.post("/v1/destinations/partner/rotate-secret", {"private_key": pem.decode()})
    assert refused.faults == ["/private_key"]


def test_there_is_nothing_to_rotate_where_nothing_is_signed(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example")
    refused = api.post("/v1/destinations/partner/rotate-secret", {})
    assert refused.json["faults"] == [
        {"field": "/scheme", "detail": "there is none: the destination does not sign its requests"}
    ]
    assert api.post("/v1/destinations/nobody/rotate-secret", {}).kind == "not-found"
    assert functions.other_api.post("/v1/destinations/partner/rotate-secret", {}).kind == "not-found"
    for scope in ("read", "send"):
        assert functions.api_with(scope).post("/v1/destinations/partner/rotate-secret", {}).status == 403


def test_keys_that_cannot_be_opened_cannot_be_rotated(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example", signing=[WEBHOOKS])
    functions.sql("UPDATE destination SET sealed_signing = '\\x01'")
    refused = api.post("/v1/destinations/partner/rotate-secret", {})
    assert refused.faults == ["/scheme"]
    assert "cannot be opened any more" in refused.json["faults"][0]["detail"]


def test_keys_that_cannot_be_opened_can_all_be_given_again(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[WEBHOOKS, HMAC])
    functions.sql("UPDATE destination SET sealed_signing = '\\x01'")
    refused = patch(api, {"signing": [{**WEBHOOKS, "secret": GIVEN}, {"type": "hmac", "header": "X-Sig"}]})
    assert (refused.status, refused.faults) == (422, ["/signing"])
    assert patch(api, {"signing": [{**WEBHOOKS, "secret": GIVEN}, HMAC]}).status == 200
    api.create_delivery(("Prefer", "wait=5"))
    headers, body = received(server)
    standardwebhooks.Webhook(GIVEN).verify(body, dict(headers))


def test_a_rotation_of_another_version_than_the_caller_knows_is_refused(api: Api) -> None:
    api.destination("https://bank.example", signing=[WEBHOOKS])
    target = "/v1/destinations/partner/rotate-secret"
    first = api.post(target, {}, headers=[("If-Match", '"1"')])
    assert (first.status, first.header("ETag")) == (200, '"2"')
    again = api.post(target, {}, headers=[("If-Match", '"1"')])
    assert (again.status, again.kind) == (412, "precondition-failed")
    assert len(api.get("/v1/destinations/partner").json["signing"][0]["keys"]) == 2


def test_a_change_of_signing_keeps_what_is_still_wanted_and_deletes_what_expired(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[WEBHOOKS])
    new, _ = rotate(api)["signing"][0]["keys"]
    functions.sql(OVERLAP_OVER)
    (shown,) = api.get("/v1/destinations/partner").json["signing"]
    changed = patch(api, {"signing": [shown, HMAC]}).json["signing"]
    assert [[key["keyid"] for key in one["keys"]] for one in changed[:1]] == [[new["keyid"]]]
    api.create_delivery(("Prefer", "wait=5"))
    headers, body = received(server)
    standardwebhooks.Webhook(new["secret"]).verify(body, dict(headers))


def test_a_change_of_any_member_deletes_keys_whose_overlap_is_over(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[WEBHOOKS])
    new, _ = rotate(api)["signing"][0]["keys"]
    (before,) = functions.sql("SELECT sealed_signing FROM destination")
    functions.sql(OVERLAP_OVER)
    (shown,) = patch(api, {"idempotent": True}).json["signing"]
    assert [key["keyid"] for key in shown["keys"]] == [new["keyid"]]
    (after,) = functions.sql("SELECT sealed_signing FROM destination")
    assert len(after["sealed_signing"]) < len(before["sealed_signing"])
    api.create_delivery(("Prefer", "wait=5"))
    headers, body = received(server)
    standardwebhooks.Webhook(new["secret"]).verify(body, dict(headers))


def test_expired_keys_that_cannot_be_opened_hinder_no_change(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example", signing=[WEBHOOKS])
    rotate(api)
    functions.sql(OVERLAP_OVER)
    functions.sql("UPDATE destination SET sealed_signing = '\\x01'")
    assert patch(api, {"idempotent": True}).status == 200


def test_a_change_of_another_member_leaves_keys_and_rotations_alone(api: Api, partner: StartPartner) -> None:
    server = partner(answers())
    api.destination(server.url(), signing=[WEBHOOKS])
    rotated = rotate(api)["signing"]
    (shown,) = patch(api, {"idempotent": True}).json["signing"]
    assert [key["keyid"] for key in shown["keys"]] == [key["keyid"] for key in rotated[0]["keys"]]
    api.create_delivery(("Prefer", "wait=5"))
    assert len(signatures(server)) == 2


def patch(api: Api, members: dict[str, Any]) -> Any:
    return api.call("PATCH", "/v1/destinations/partner", json=members)


def test_a_destination_that_others_change_all_the_time_is_unavailable(functions: Functions, api: Api) -> None:
    """Whatever is to be stored, the row is at another version by then."""
    api.destination("https://bank.example", signing=[WEBHOOKS])
    functions.sql("CREATE FUNCTION skipped() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    functions.sql("CREATE TRIGGER skipped BEFORE UPDATE ON destination FOR EACH ROW EXECUTE FUNCTION skipped()")
    answer = api.post("/v1/destinations/partner/rotate-secret", {})
    assert (answer.status, answer.kind, answer.header("Retry-After")) == (503, "unavailable", "1")
