"""Destinations that sign: from the call that makes them to what the partner receives, and to a rotation's end."""

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
import standardwebhooks

from domain.outcomes import Headers
from domain.signing import MessageAlgorithm
from tests.egress.servers import Partner, Script
from tests.support.api import Api, Functions
from tests.support.partners import answers, answers_in_turn
from tests.support.signing import public_key_of_public_pem, value, verify_message

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
        {"field": "/signing/0/passphrase", "detail": "must be the one that opens the private key"},
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
    monkeypatch.setattr("flows.prepare._seal_key", _must_not_be_called)
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
