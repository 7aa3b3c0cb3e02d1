"""Everything that the API offers, used once over HTTP through the whole stack; the OpenAPI document says what there is.

The last test fails for what the document offers and nobody here used. What cannot be used on one machine stands below
with the reason.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
import standardwebhooks
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509 import load_pem_x509_certificate

from domain.auth import AssertionAlgorithm
from domain.ordering import AfterFailure
from domain.signing import DetachedJws, JwsAlgorithm, MessageAlgorithm
from local.demonstration import TENANT
from local.functions import REPOSITORY
from local.partner import Call, Partner, Reply
from local.partner.bank import Bank
from local.stack import Stack
from tests.e2e.conftest import GENEROUS_SECONDS, Answer, Consumer, Use, eventually
from tests.support.signing import public_key_of_public_pem, verify_jws, verify_message
from tests.support.usage import Document

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TRANSITIONS = ("pause", "resume", "disable", "enable")
OPEN = (("GET", "/healthz"), ("GET", "/openapi.json"), ("GET", "/docs"))
WAIT = {"Prefer": "wait=20"}
NEVER_ISSUED = f"spt_{'A' * 43}"
TOO_LONG = {"Idempotency-Key": "k" * 256}
OVER_THE_LIMIT = b"x" * (4 * 1024 * 1024 + 1)
NOBODY = "01a203c7-77fb-788f-a3b0-54d47b8c9561"
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]  # as datetime.weekday() counts
PASSPHRASE = "open sesame"

type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey
PRIVATE_KEYS: dict[AssertionAlgorithm, Callable[[], PrivateKey]] = {
    AssertionAlgorithm.RS256: lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    AssertionAlgorithm.PS256: lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    AssertionAlgorithm.ES256: lambda: ec.generate_private_key(ec.SECP256R1()),
    AssertionAlgorithm.EDDSA: Ed25519PrivateKey.generate,
}

# A use, as an expression over its whole line, and why nobody makes it here.
UNUSED = {
    r"(?!POST /v1/destinations/.*/verify|.*/via/).* 429": "API Gateway throttles, which the local one does not",
    r".* 500": "a bug, which no call provokes; tests/faults",
    r"(?!.*/via/).* 502": "API Gateway's own, where a function dies; tests/e2e/test_faults.py",
    r"(?!.*/via/).* 504": "API Gateway's own, after 29 s; tests/local/test_front.py",
    r".* default": "the partner's own, counted as 200 here; tests/e2e/test_examples.py",
    r"GET /(healthz|openapi.json|docs) 403": "the firewall's, of which there is none on one machine",
    r"GET /(?!v1/via).* 400": "API Gateway's own: these read neither a body nor a key",
    r".* 405": "belongs to a path and not to an operation; test_what_is_not_there",
    r"ProbeResult = (not_sent|refused_by_guard|.*unusable|tls_refused_by_.*)": "tests/handlers/test_verify.py",
    r"CheckStatus = unverified": "needs an hour without a check; tests/handlers/test_egress.py",
}
UNUSED_PROBLEMS = {
    "blocked": "the firewall's, of which there is none on one machine",
    "too-many-requests": "API Gateway throttles, which the local one does not",
    "timeout": "API Gateway's own, after 29 s; tests/local/test_front.py",
    "answer-too-large": "a bug, for everything in an answer is bounded; tests/faults/test_large_answers.py",
    "egress-refused": "here of HEAD alone, whose answers have no body; tests/handlers/test_via.py",
    "not-ended": "needs a database that is slow in one moment; tests/handlers/test_via.py",
}


class Holding(Partner):
    """The demo partner's behaviour on another loopback address, and what only a test asks for."""

    def __init__(self, *, port: int) -> None:
        super().__init__(port=port, report=lambda _: None, address="127.0.0.2")
        self.released = threading.Event()

    def behave(self, call: Call) -> Reply:
        """/hold answers when it is released; /large does with more than is stored, /huge with more than is read;
        /odd has a status that HTTP does not have.
        """
        match call.path:
            case "/hold":
                self.released.wait(GENEROUS_SECONDS)
                return Reply(status=200, content="held\n")
            case "/large":
                return Reply(status=200, content="x" * (64 * 1024 + 1))
            case "/odd":
                return Reply(status=799, content="odd\n")
            case "/huge":
                return Reply(status=200, content="x" * (4 * 1024 * 1024 + 1))
            case _:
                return super().behave(call)


@pytest.fixture(scope="module")
def other(stack: Stack) -> Iterator[Holding]:
    partner = Holding(port=stack.partner.port)
    partner.start()
    yield partner
    partner.released.set()
    partner.stop()


@pytest.fixture(scope="module")
def user(stack: Stack, consumer: Consumer, other: Holding) -> Consumer:
    """With every scope and uses of its own, and three destinations: one answers on demand, one never, one slowly."""
    user = replace(consumer, uses=[])
    port = stack.partner.port
    for name, base_url in {
        "other": f"http://127.0.0.2:{other.port}",
        "nobody": f"http://127.23.45.67:{port}",  # whoever has the port has it on the partner's addresses alone
    }.items():
        assert user.call("POST", "/v1/destinations", body={"name": name, "base_url": base_url}).status == 201
    return user


@pytest.fixture(scope="module")
def limited(stack: Stack, user: Consumer) -> dict[str, Consumer]:
    """A user by scope, with that scope alone."""
    admin = stack.functions["AdminFunction"]
    return {
        scope: replace(
            user, token=admin.invoke({"action": "issue_token", "tenant": TENANT, "scopes": [scope]})["token"]
        )
        for scope in ("read", "send", "manage")
    }


def via(path: str = "/orders") -> list[tuple[str, str]]:
    return [(method, f"/v1/via/partner{path}") for method in METHODS]


def every_call() -> list[tuple[str, str, str]]:
    """Every operation that needs a token: the scope, the method and a path."""
    return [
        ("manage", "POST", "/v1/destinations"),
        ("read", "GET", "/v1/destinations"),
        ("read", "GET", "/v1/destinations/partner"),
        ("manage", "POST", "/v1/destinations/partner/rotate-secret"),
        ("manage", "PATCH", "/v1/destinations/absent"),
        ("manage", "DELETE", "/v1/destinations/absent"),
        *(("manage", "POST", f"/v1/destinations/absent/{action}") for action in (*TRANSITIONS, "verify")),
        ("send", "POST", "/v1/deliveries"),
        ("read", "GET", "/v1/deliveries"),
        ("read", "GET", f"/v1/deliveries/{NOBODY}"),
        ("read", "GET", "/v1/egress"),
        ("read", "GET", "/v1/egress/allowlist"),
        ("send", "POST", "/v1/egress/verify"),
        *(("send", *call) for call in via()),
    ]


@contextmanager
def held(user: Consumer, other: Holding, method: str, *, key: str, name: str = "other") -> Iterator["Future[Answer]"]:
    """A pass-through call that waits for its partner meanwhile; it ends with this."""
    other.released.clear()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(user.call, method, f"/v1/via/{name}/hold", headers={"Idempotency-Key": key})
        try:
            eventually(lambda: [call for call in list(other.calls) if call.idempotency_key == key])
            yield running
        finally:
            other.released.set()


def test_what_needs_no_token(user: Consumer) -> None:
    nobody = replace(user, token="")
    assert nobody.call("GET", "/healthz").json["status"] == "ok"
    assert nobody.call("GET", "/openapi.json").json["openapi"].startswith("3.1")
    assert b"swagger" in nobody.call("GET", "/docs").body.lower()


def test_each_kind_of_credential_and_guarantee_makes_a_destination(stack: Stack, user: Consumer) -> None:
    kinds: list[dict[str, str]] = [
        {"type": "none"},
        {"type": "bearer", "token": "of-a-bank"},
        {"type": "basic", "username": "user", "password": "of-a-bank"},
        {"type": "header", "name": "X-Api-Key", "value": "of-a-bank"},
    ]
    guarantees = ("auto", "at_least_once", "at_most_once", "auto")
    for auth, guarantee in zip(kinds, guarantees, strict=True):
        body = {
            "name": f"features-{auth['type']}",
            "base_url": f"{stack.partner.url}/orders",
            "auth": auth,
            "timeouts": {"connect_seconds": 2, "first_byte_seconds": 9, "total_seconds": 10},
            "guarantee": guarantee,
            "idempotent": auth["type"] == "header",
            "idempotency_header": "X-Request-Key",
        }
        created = user.call("POST", "/v1/destinations", body=body)
        assert created.status == 201, created.body
        shown = user.call("GET", f"/v1/destinations/{created.json['destination_id']}").json
        assert shown["auth"]["type"] == auth["type"]
        assert {**body, "auth": shown["auth"]}.items() <= shown.items()
        assert user.deliver(destination=body["name"], headers={"Prefer": "wait=20"}).json["state"] == "delivered"
        assert stack.partner.calls[-1].headers["x-request-key"]


def change(user: Consumer, name: str, members: dict[str, Any], **headers: str) -> Answer:
    return user.call("PATCH", f"/v1/destinations/{name}", body=members, headers=headers)


def test_a_destination_is_changed_at_its_version(stack: Stack, user: Consumer) -> None:
    policies = {
        "retry": {"schedule": [0, 1, 2], "statuses": {"add": [409], "remove": [500]}, "give_up_after": 3600},
        "allow": {"methods": list(METHODS), "paths": ["/orders"]},
    }
    body = {"name": "changing", "base_url": stack.partner.url, "auth": {"type": "bearer", "token": "first"}}
    assert user.call("POST", "/v1/destinations", body=body | policies | {"name": "policies"}).status == 201
    made = user.call("POST", "/v1/destinations", body=body)
    assert made.headers["etag"] == '"1"'
    changes = {
        "auth": {"token": "second"},
        **policies,
        "idempotent": True,
        "timeouts": {"connect_seconds": 2},
        "idempotency_header": "X-Request-Key",
        "guarantee": "at_least_once",
    }
    changed = change(user, "changing", changes, **{"If-Match": '"1"'})
    assert (changed.status, changed.headers["etag"]) == (200, '"2"'), changed.body
    assert change(user, "changing", changed.json).json == changed.json
    late = change(user, "changing", {"idempotent": False}, **{"If-Match": '"1"'})
    assert (late.status, kind_of(late)) == (412, "precondition-failed")
    assert change(user, "changing", {"name": "other"}).status == 409
    assert change(user, "absent", {"name": "other"}).status == 404
    elsewhere = change(user, "changing", {"base_url": "https://evil.example"})
    assert (elsewhere.status, elsewhere.json["faults"][0]["field"]) == (422, "/auth")
    assert user.deliver(destination="changing", path="/orders", headers=WAIT).json["attempts_allowed"] == 3
    assert stack.partner.calls[-1].headers["authorization"] == "Bearer second"
    assert kind_of(user.deliver(destination="changing", path="/admin")) == "not-allowed"
    for method in METHODS:
        assert user.call(method, "/v1/via/changing/admin").status == 403
    assert change(user, "changing", {"verify": {"path": "/orders"}}).json["verify"] == {"path": "/orders"}
    assert user.call("POST", "/v1/destinations/changing/verify").json["result"] == "answered"
    assert change(user, "changing", {"retry": None, "allow": None, "auth": None}).json["allow"] is None


def test_what_a_paused_destination_is_sent_waits_and_goes_on(stack: Stack, user: Consumer) -> None:
    user.call("POST", "/v1/destinations", body={"name": "pausing", "base_url": stack.partner.url})
    path = "/v1/destinations/pausing"
    paused = user.call("POST", f"{path}/pause", body={"reason": "their cut-off"})
    assert (paused.json["state"], paused.json["state_reason"]) == ("paused", "their cut-off")
    waits = user.deliver(destination="pausing", path="/orders")
    waiting = user.deliver(destination="pausing", path="/orders", headers=WAIT)
    for answer in (waits, waiting):
        assert (answer.status, answer.json["waiting_for"]) == (202, "destination_paused")
    passed = {method: user.call(method, "/v1/via/pausing/orders") for method in METHODS}
    assert {(answer.status, answer.headers["retry-after"]) for answer in passed.values()} == {(503, "60")}
    assert kind_of(passed["GET"]) == "destination-paused"
    assert kind_of(user.call("POST", f"{path}/enable")) == "wrong-state"
    assert user.call("POST", f"{path}/resume").json["state"] == "active"
    accepted = [answer.json["delivery_id"] for answer in (waits, waiting)]
    assert eventually(lambda: {user.delivery(delivery_id)["state"] for delivery_id in accepted} == {"delivered"})


def test_a_disabled_destination_refuses_and_a_deleted_one_is_gone(stack: Stack, user: Consumer) -> None:
    user.call("POST", "/v1/destinations", body={"name": "ending", "base_url": stack.partner.url})
    path = "/v1/destinations/ending"
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    pending = user.deliver(destination="ending", not_before=later)
    assert user.call("POST", f"{path}/disable").json["state"] == "disabled"
    assert user.delivery(pending.json["delivery_id"])["waiting_for"] == "destination_disabled"
    assert kind_of(user.deliver(destination="ending")) == "destination-disabled"
    for method in METHODS:
        assert user.call(method, "/v1/via/ending/orders").status == 409
    for wrong in ("pause", "resume"):
        assert kind_of(user.call("POST", f"{path}/{wrong}")) == "wrong-state"
    assert user.call("POST", f"{path}/enable").json["state"] == "active"
    refused = user.call("DELETE", path)
    assert (refused.status, refused.json["unfinished"]) == (409, 1)
    assert user.call("DELETE", path, headers={"If-Match": '"1"'}).status == 412
    assert user.call("DELETE", path, body={}).status == 400
    deleted = user.call("DELETE", f"{path}?pending=cancel")
    assert (deleted.json["canceled"], deleted.json["unfinished"]) == (1, 0)
    assert user.call("GET", path).status == 404
    assert user.delivery(pending.json["delivery_id"])["state"] == "canceled"
    assert ids(user, f"?state=canceled&destination={deleted.json['destination_id']}") == [pending.json["delivery_id"]]


def test_each_end_of_a_verification_that_one_machine_can_have(stack: Stack, user: Consumer) -> None:
    ends = {
        "answered": f"{stack.partner.url}/orders",
        "denied": f"{stack.partner.url}/status/403",
        "no_answer": f"{stack.partner.url}/hang-up",
        "tls_failed": stack.partner.url.replace("http://", "https://"),
        "not_connected": f"http://127.23.45.67:{stack.partner.port}",
        "name_not_resolved": f"http://nobody.invalid:{stack.partner.port}",
    }
    for result, base_url in ends.items():
        name = f"verify-{result.replace('_', '-')}"
        body = {"name": name, "base_url": base_url, "verify": {"path": ""}}
        assert user.call("POST", "/v1/destinations", body=body).status == 201
        verified = user.call("POST", f"/v1/destinations/{name}/verify")
        assert (verified.status, verified.json["result"]) == (200, result), verified.body
    auth = {"type": "oauth2", "token_url": f"{stack.partner.url}/status/400", "client_id": "a", "client_secret": "b"}
    body = {"name": "verify-token", "base_url": stack.partner.url, "auth": auth}
    assert user.call("POST", "/v1/destinations", body=body).status == 201
    assert user.call("POST", "/v1/destinations/verify-token/verify").json["result"] == "no_access_token"
    again = [user.call("POST", "/v1/destinations/verify-answered/verify") for _ in range(9)]
    assert "too-soon" in {kind_of(answer) for answer in again if answer.status == 429}
    assert user.call("POST", "/v1/destinations/verify-answered/verify", body={}).status == 400


def hmac_scheme(algorithm: str, encoding: str, secret_encoding: str, timestamp_format: str) -> dict[str, Any]:
    return {
        "type": "hmac",
        "name": f"hmac-{algorithm}",
        "header": f"X-{algorithm}",
        "signed": "{timestamp}.{id}.{method} {path}?{query}.{body}",
        "value": "t={timestamp},s={signature}",
        "repeat": ",s={signature}",
        "algorithm": algorithm,
        "encoding": encoding,
        "secret_encoding": secret_encoding,
        "timestamp_header": f"X-{algorithm}-Time",
        "timestamp_format": timestamp_format,
    }


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # partners still ask for that name
def test_each_kind_of_signature_reaches_the_partner_and_verifies_there(stack: Stack, user: Consumer) -> None:
    """With keys that the gateway made: what the partner knows of them is what the API showed."""
    hmacs = [
        hmac_scheme("sha256", "hex", "text", "unix"),
        hmac_scheme("sha512", "base64", "hex", "unix_ms"),
        hmac_scheme("sha1", "base64url", "base64", "iso8601"),
    ]
    webhooks = [{"type": "standard_webhooks", "name": version, "version": version} for version in ("v1", "v1a")]
    messages = [
        {
            "type": "http_message_signatures",
            "name": algorithm,
            "algorithm": algorithm,
            "label": f"sig{number}",
            "components": ["@method", "@authority", "@path", "@query", "content-digest", "webhook-signature"],
            "components_if_present": ["content-type", "x-sha1"],
            "digest": "sha-512" if number % 2 else "sha-256",
            "expires_seconds": 60,
            "nonce": True,
            "alg": True,
            "tag": algorithm,
        }
        for number, algorithm in enumerate(MessageAlgorithm)
    ]
    tokens = [
        {
            "type": "jws_detached",
            "name": f"jws-{algorithm.lower()}-{number}",
            "algorithm": algorithm,
            "header": f"X-Jws-{algorithm}",
        }
        for number, algorithm in enumerate(JwsAlgorithm)
    ]
    parts = [[*webhooks, *messages[:3]], [*webhooks, *messages[3:]], [*hmacs, *tokens[:2]], tokens[2:]]
    for number, signing in enumerate(parts):
        body = {"name": f"signed-{number}", "base_url": stack.partner.url, "signing": signing}
        created = user.call("POST", "/v1/destinations", body=body)
        assert created.status == 201, created.body
        sent = user.deliver(destination=body["name"], path="/orders", query="a=%7e", body={"a": 1}, headers=WAIT)
        assert sent.json["state"] == "delivered", sent.body
        for one in created.json["signing"]:
            must_verify(one, stack.partner.calls[-1], url=f"{stack.partner.url}/orders?a=%7e")


def test_a_key_is_rotated_and_both_sign_until_the_overlap_is_over(stack: Stack, user: Consumer) -> None:
    body = {"name": "rotating", "base_url": stack.partner.url, "signing": [{"type": "standard_webhooks"}]}
    made = user.call("POST", "/v1/destinations", body=body).json
    rotation = {"scheme": "standard_webhooks", "overlap_seconds": 3600, "keyid": "second"}
    rotated = user.call("POST", "/v1/destinations/rotating/rotate-secret", body=rotation)
    assert rotated.status == 200, rotated.body
    secrets = [answer["signing"][0]["keys"][0]["secret"] for answer in (made, rotated.json)]
    user.deliver(destination="rotating", path="/orders", body={"a": 1}, headers=WAIT)
    for secret in secrets:
        standardwebhooks.Webhook(secret).verify(stack.partner.calls[-1].body, dict(stack.partner.calls[-1].headers))
    given = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "overlap_seconds": 0}
    late = user.call("POST", "/v1/destinations/rotating/rotate-secret", body=given, headers={"If-Match": '"1"'})
    assert (late.status, kind_of(late)) == (412, "precondition-failed")
    version = {"If-Match": user.call("GET", "/v1/destinations/rotating").headers["etag"]}
    assert user.call("POST", "/v1/destinations/rotating/rotate-secret", body=given, headers=version).status == 200
    user.deliver(destination="rotating", path="/orders", body={"a": 1}, headers=WAIT)
    assert len(stack.partner.calls[-1].headers["webhook-signature"].split(" ")) == 1


def test_a_key_pair_is_rotated_to_a_given_one(user: Consumer) -> None:
    signing = [{"type": "jws_detached", "algorithm": "ES256", "header": "X-Jws"}]
    body = {"name": "rotating-pair", "base_url": "https://bank.example", "signing": signing}
    assert user.call("POST", "/v1/destinations", body=body).status == 201
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
    )
    given = {"private_key": key.decode(), "passphrase": "open sesame"}
    answer = user.call("POST", "/v1/destinations/rotating-pair/rotate-secret", body=given)
    assert answer.status == 200, answer.body
    assert [key["expires_at"] is None for key in answer.json["signing"][0]["keys"]] == [True, False]


def test_every_member_of_a_signature_is_taken(user: Consumer) -> None:
    """Those of the document's examples, which have all of them."""
    document = user.call("GET", "/openapi.json").json
    content = document["paths"]["/v1/destinations"]["post"]["requestBody"]["content"]["application/json"]
    for name, example in content["examples"].items():
        if signing := example["value"].get("signing"):
            body = {"name": f"features-{name}", "base_url": "https://bank.example", "signing": signing}
            assert user.call("POST", "/v1/destinations", body=body).status == 201


def must_verify(scheme: dict[str, Any], call: Call, *, url: str) -> None:
    """Fails unless the partner can check the signature of `scheme` with what the API showed of its key."""
    (key,) = scheme["keys"]
    headers = tuple(call.headers.items())
    match scheme["type"]:
        case "standard_webhooks" if scheme["version"] == "v1":
            standardwebhooks.Webhook(key["secret"]).verify(call.body, dict(headers))
        case "standard_webhooks":
            content = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
            raw = base64.b64decode(call.headers["webhook-signature"].partition("v1a,")[2])
            public = base64.b64decode(key["public_key"].removeprefix("whpk_"))
            Ed25519PublicKey.from_public_bytes(public).verify(raw, content)
        case "http_message_signatures":
            label = scheme["label"]
            alone = tuple(
                (name, next(part for part in text.split(", ") if part.startswith(f"{label}=")))
                if name in ("signature", "signature-input")
                else (name, text)
                for name, text in headers
            )
            algorithm = MessageAlgorithm(scheme["algorithm"])
            secret = key.get("secret")
            public_key = base64.b64decode(secret) if secret else public_key_of_public_pem(key["public_key"])
            verify_message(algorithm, public_key, method=call.method, url=url, headers=alone, body=call.body)
        case "hmac":
            must_verify_hmac(scheme, call)
        case _:
            verify_jws(
                call.headers[scheme["header"].lower()],
                call.body,
                DetachedJws(algorithm=JwsAlgorithm(scheme["algorithm"]), header=scheme["header"]),
                pem=key["public_key"],
            )


def must_verify_hmac(scheme: dict[str, Any], call: Call) -> None:
    secret = scheme["keys"][0]["secret"]
    raw = {"text": str.encode, "hex": bytes.fromhex, "base64": base64.b64decode}[scheme["secret_encoding"]](secret)
    stamp = call.headers[scheme["timestamp_header"].lower()]
    content = f"{stamp}.{call.idempotency_key}.{call.method} /orders?a=%7e.".encode() + call.body
    digest = hmac.digest(raw, content, scheme["algorithm"])
    written = {
        "hex": digest.hex(),
        "base64": base64.b64encode(digest).decode(),
        "base64url": base64.urlsafe_b64encode(digest).decode().rstrip("="),
    }
    assert call.headers[scheme["header"].lower()] == f"t={stamp},s={written[scheme['encoding']]}"


def created(user: Consumer, stack: Stack, name: str, **members: Any) -> str:
    """The name of a new destination, by default the partner's plain port."""
    answer = user.call("POST", "/v1/destinations", body={"name": name, "base_url": stack.partner.url, **members})
    assert answer.status == 201, answer.body
    return name


def door(stack: Stack, name: str) -> str:
    return f"https://127.0.0.1:{stack.partner.doors[name][0]}"


def pem(stack: Stack, name: str) -> str:
    assert stack.partner.certificates is not None
    return stack.partner.certificates.files()[name].decode()


def client_certificate(stack: Stack) -> dict[str, str]:
    """The one that the partner knows, with its key under a passphrase."""
    assert stack.partner.certificates is not None
    pair = stack.partner.certificates.clients["client"]
    return {
        "certificate": pair.certificate_pem.decode(),
        "key": encrypted(pair.key),
        "passphrase": PASSPHRASE,
    }


def encrypted(key: PrivateKey) -> str:
    encryption = BestAvailableEncryption(PASSPHRASE.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def test_several_headers_carry_the_credentials(stack: Stack, user: Consumer) -> None:
    pairs = [{"name": "X-Client-Id", "value": "acme"}, {"name": "X-Client-Secret", "value": "of-a-bank"}]
    name = created(user, stack, "features-headers", auth={"type": "header", "headers": pairs})
    assert user.deliver(destination=name, path="/orders", headers=WAIT).json["state"] == "delivered"
    arrived = stack.partner.calls[-1].headers
    assert (arrived["x-client-id"], arrived["x-client-secret"]) == ("acme", "of-a-bank")


def test_a_request_is_signed_for_aws_as_its_own_library_would(stack: Stack, user: Consumer) -> None:
    auth = {
        "type": "aws_sigv4",
        "region": "eu-central-1",
        "service": "execute-api",
        "access_key_id": "AKIDEXAMPLE26NOV",
        "secret_access_key": "of-the-warehouse",
        "session_token": "of-temporary-credentials",
    }
    name = created(user, stack, "features-aws", auth=auth)
    sent = user.deliver(destination=name, path="/orders", query="a=1", body={"a": 1}, headers=WAIT)
    assert sent.json["state"] == "delivered"
    call = stack.partner.calls[-1]
    assert call.headers["x-amz-security-token"] == auth["session_token"]
    assert call.headers["authorization"] == signed_by_botocore(call, auth)


def signed_by_botocore(call: Call, auth: Mapping[str, str]) -> str:
    """The Authorization header that botocore makes of the same request, signed at the same time."""
    names = call.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    signed = {name: call.headers[name] for name in names if name != "host"}
    request = AWSRequest(method=call.method, url=call.url, data=call.body, headers=signed)
    request.context["timestamp"] = call.headers["x-amz-date"]
    credentials = Credentials(auth["access_key_id"], auth["secret_access_key"])
    signer = SigV4Auth(credentials, auth["service"], auth["region"])
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    scope = f"Credential={signer.scope(request)}"
    return f"AWS4-HMAC-SHA256 {scope}, SignedHeaders={';'.join(names)}, Signature={signature}"


@pytest.fixture
def bank(stack: Stack) -> Iterator[Bank]:
    """With the credentials from before afterwards, for the stack is that of all tests."""
    before = stack.partner.bank.accepted
    yield stack.partner.bank
    stack.partner.bank.accept(lambda _: before)


def pays_by_oauth(
    stack: Stack, user: Consumer, name: str, auth: Mapping[str, Any], **members: Any
) -> dict[str, list[str]]:
    """A payment with a token that the bank issued for it; returns what it was asked for the token with."""
    before = stack.partner.bank.counters["tokens_issued"]
    destination = created(user, stack, name, auth={"type": "oauth2", "client_id": "demo", **auth}, **members)
    paid = user.deliver(destination=destination, path="/payments", body={"amount": 10}, headers=WAIT)
    assert paid.json["state"] == "delivered", paid.body
    assert stack.partner.bank.counters["tokens_issued"] == before + 1
    asked, call = list(stack.partner.calls)[-2:]
    assert (asked.url, call.path.rpartition("/")[2]) == (auth["token_url"], "payments")
    scheme, _, token = call.headers["authorization"].partition(" ")
    assert (scheme, stack.partner.bank.tokens.get(token) is None) == ("Bearer", False)
    return parse_qs(asked.body.decode())


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_token_is_fetched_with_a_secret(stack: Stack, user: Consumer, method: str) -> None:
    auth = {
        "token_url": f"{stack.partner.url}/token/{method}",
        "client_authentication": method,
        "client_secret": "demo-secret",
        "scope": "payments:write",
        "audience": "https://api.bank.example",
        "parameters": {"resource": "payments"},
    }
    name = f"features-{method.replace('_', '-')}"
    form = pays_by_oauth(stack, user, name, auth, base_url=f"{stack.partner.url}/oauth")
    assert (form["scope"], form["audience"]) == ([auth["scope"]], [auth["audience"]])
    assert form["resource"] == ["payments"]
    assert ("client_secret" in form) == (method == "client_secret_post")


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # partners still ask for that name
@pytest.mark.parametrize("algorithm", AssertionAlgorithm)
def test_a_token_is_fetched_with_a_signed_assertion(
    stack: Stack, user: Consumer, bank: Bank, algorithm: AssertionAlgorithm
) -> None:
    key = PRIVATE_KEYS[algorithm]()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    bank.accept(lambda accepted: replace(accepted, public_keys=(("acme-2026", public),)))
    url = f"{stack.partner.url}/token/private_key_jwt"
    auth = {
        "token_url": url,
        "client_authentication": "private_key_jwt",
        "private_key": encrypted(key),
        "passphrase": PASSPHRASE,
        "algorithm": algorithm,
        "key_id": "acme-2026",
        "assertion_audience": url,
    }
    name = f"features-jwt-{algorithm.lower()}"
    form = pays_by_oauth(stack, user, name, auth, base_url=f"{stack.partner.url}/oauth")
    header = json.loads(base64.urlsafe_b64decode(form["client_assertion"][0].partition(".")[0] + "=="))
    assert (header["alg"], header["kid"]) == (algorithm, "acme-2026")


def test_a_token_is_fetched_with_a_certificate_and_counts_with_it_alone(stack: Stack, user: Consumer) -> None:
    auth = {
        "token_url": f"{door(stack, 'mtls')}/token/tls_client_auth",
        "client_authentication": "tls_client_auth",
    }
    form = pays_by_oauth(
        stack,
        user,
        "features-mtls",
        auth,
        base_url=f"{door(stack, 'mtls')}/oauth/certificate",
        client_certificate=client_certificate(stack),
        tls={"ca": pem(stack, "ca.pem"), "minimum_version": "1.3"},
    )
    assert form["client_id"] == ["demo"]
    assert stack.partner.certificates is not None
    shown = stack.partner.certificates.clients["client"].certificate.public_bytes(Encoding.DER)
    assert [call.certificate for call in list(stack.partner.calls)[-2:]] == [shown, shown]


def test_a_partner_without_the_pinned_key_is_not_trusted(stack: Stack, user: Consumer) -> None:
    """And one with the certificate, given later, is asked by it."""
    certificate = load_pem_x509_certificate(
        ssl.get_server_certificate(("127.0.0.1", stack.partner.doors["tls"][0])).encode()
    )
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    right, wrong = (base64.b64encode(hashlib.sha256(content).digest()).decode() for content in (key, b"another"))
    tls = {"ca": pem(stack, "ca.pem"), "pins": [f"sha256/{wrong}"], "minimum_version": "1.2"}
    name = created(user, stack, "features-tls", base_url=door(stack, "tls"), tls=tls)
    refused = user.call("POST", f"/v1/via/{name}/orders")
    assert (refused.status, kind_of(refused)) == (502, "partner-unreachable")
    changed = change(user, name, {"tls": tls | {"pins": [f"sha256/{right}"]}})
    assert changed.status == 200, changed.body
    assert user.call("POST", f"/v1/via/{name}/orders").status == 201
    assert (stack.partner.calls[-1].scheme, stack.partner.calls[-1].certificate) == ("https", None)
    changed = change(user, name, {"client_certificate": client_certificate(stack)})
    assert changed.json["client_certificate"]["subject"] == "CN=demo-client", changed.body


def would_wait(user: Consumer, name: str, reason: str) -> None:
    """A pass-through call to `name` is refused because of `reason`, whatever its method."""
    status = 429 if reason == "rate_limit" else 503
    for method in METHODS:
        refused = user.call(method, f"/v1/via/{name}/orders")
        assert (refused.status, kind_of(refused)) == (status, "" if method == "HEAD" else "would-wait")
        assert int(refused.headers["retry-after"]) > 0
    assert user.call("GET", f"/v1/via/{name}/orders").json["waiting_for"] == reason


def waiting_for(user: Consumer, answer: Answer, reason: str) -> str:
    """The id of a delivery that waits for `reason` and was not attempted."""
    delivery_id: str = answer.json["delivery_id"]
    waiting = eventually(lambda: found if (found := user.delivery(delivery_id))["waiting_for"] == reason else None)
    assert (waiting["state"], waiting["attempts"]) == ("pending", [])
    return delivery_id


def arrived_at(partner: Partner, name: str) -> list[str]:
    """The paths of `/orders/NAME/...` that the partner saw, in order, without the part in front."""
    return [call.path.rpartition("/")[2] for call in list(partner.calls) if call.path.startswith(f"/orders/{name}/")]


def test_a_rate_and_its_burst_hold_what_is_too_much(stack: Stack, user: Consumer) -> None:
    name = created(user, stack, "features-rate", limits={"rate": 0.001, "burst": 2})
    first = [user.deliver(destination=name, path=f"/orders/{name}/{number}", headers=WAIT) for number in (1, 2)]
    assert [answer.json["state"] for answer in first] == ["delivered", "delivered"]
    waiting_for(user, user.deliver(destination=name, path=f"/orders/{name}/3"), "rate_limit")
    would_wait(user, name, "rate_limit")
    assert arrived_at(stack.partner, name) == ["1", "2"]
    assert change(user, name, {"limits": {"rate": 1000, "burst": 1000}}).status == 200
    assert user.call("POST", f"/v1/via/{name}/orders/{name}/4").status == 201
    assert "4" in arrived_at(stack.partner, name)


def test_only_as_many_at_once_as_are_allowed(user: Consumer, stack: Stack, other: Holding, key: str) -> None:
    """The slot of the call that is held is its own for as long as a lease, which is short here: so it is held again
    where the machine was too slow to ask in that time.
    """
    base_url = f"http://127.0.0.2:{other.port}"
    name = created(user, stack, "features-concurrency", base_url=base_url, limits={"concurrency": 1})

    def told() -> tuple[Answer, Any] | None:
        with held(user, other, "POST", key=f"{key}-{uuid4()}", name=name):
            passing = user.call("POST", f"/v1/via/{name}/orders")
            made = user.deliver(destination=name, path=f"/orders/{name}/{uuid4()}")
            shown = user.delivery(made.json["delivery_id"])
        return (passing, shown) if passing.status == 429 and shown["waiting_for"] == "concurrency" else None

    refused, waiting = eventually(told)
    assert (kind_of(refused), refused.json["waiting_for"]) == ("would-wait", "concurrency")
    assert (waiting["state"], waiting["attempts"], waiting["waits_until"]) == ("pending", [], None)
    assert user.finished(waiting["delivery_id"])["state"] == "delivered"
    assert arrived_at(other, name).count(waiting["path"].rpartition("/")[2]) == 1


def test_a_circuit_breaker_sends_nothing_more_to_a_partner_that_fails(stack: Stack, user: Consumer) -> None:
    breaker = {
        "enabled": True,
        "failure_ratio": 0.5,
        "window_seconds": 3600,
        "minimum_attempts": 2,
        "open_seconds": 3600,
    }
    name = created(user, stack, "features-breaker", circuit_breaker=breaker)
    for _ in range(2):
        assert user.call("GET", f"/v1/via/{name}/status/503").status == 503
    held_back = waiting_for(user, user.deliver(destination=name, path=f"/orders/{name}/1"), "circuit_breaker")
    would_wait(user, name, "circuit_breaker")
    assert arrived_at(stack.partner, name) == []
    assert user.delivery(held_back)["waits_until"] is not None


def test_outside_of_its_windows_nothing_is_sent(stack: Stack, user: Consumer) -> None:
    """All days but three around today, so that the test is outside wherever midnight falls."""
    today = datetime.now(UTC).weekday()
    days = [day for number, day in enumerate(DAYS) if (number - today) % 7 in (2, 3, 4, 5)]
    closed = {"days": days, "from": "00:00", "to": "24:00", "time_zone": "Etc/UTC"}
    name = created(user, stack, "features-windows", windows=[closed])
    held_back = waiting_for(user, user.deliver(destination=name, path=f"/orders/{name}/1"), "sending_window")
    would_wait(user, name, "sending_window")
    assert arrived_at(stack.partner, name) == []
    opens = datetime.fromisoformat(user.delivery(held_back)["waits_until"])
    assert DAYS[opens.weekday()] == DAYS[(today + 2) % 7]
    always = created(user, stack, "features-always", windows=[closed | {"days": DAYS}])
    assert user.deliver(destination=always, path="/orders", headers=WAIT).json["state"] == "delivered"


@pytest.mark.parametrize("after_failure", AfterFailure)
def test_what_is_behind_a_failure_in_order_is_held_or_sent(
    stack: Stack, user: Consumer, after_failure: AfterFailure
) -> None:
    name = created(user, stack, f"features-order-{after_failure}", ordering={"after_failure": after_failure})
    ordered: dict[str, Any] = {"destination": name, "ordering_key": "account-17"}
    failed = user.deliver(**ordered, path="/status/422")
    assert user.finished(failed.json["delivery_id"])["state"] == "failed"
    behind = user.deliver(**ordered, path=f"/orders/{name}/2")
    if after_failure is AfterFailure.SKIP:
        assert user.finished(behind.json["delivery_id"])["state"] == "delivered"
    else:
        waiting_for(user, behind, "ordering")
    elsewhere = user.deliver(**ordered | {"ordering_key": "account-18"}, path=f"/orders/{name}/3")
    assert user.finished(elsewhere.json["delivery_id"])["state"] == "delivered"
    assert arrived_at(stack.partner, name) == (["2", "3"] if after_failure is AfterFailure.SKIP else ["3"])


def test_a_guarantee_decides_what_follows_an_unknown_outcome(stack: Stack, user: Consumer) -> None:
    """Held, held and tried again: what is tried again waits for its next attempt."""
    for name, guarantee, state in (
        ("auto", "auto", "unknown"),
        ("most", "at_most_once", "unknown"),
        ("least", "at_least_once", "pending"),
    ):
        body = {"name": f"guarantee-{name}", "base_url": stack.partner.url, "guarantee": guarantee}
        assert user.call("POST", "/v1/destinations", body=body).status == 201
        answer = user.deliver(destination=body["name"], path="/hang-up", headers={"Prefer": "wait=20"})
        assert (answer.status, answer.json["state"]) == (202 if state == "pending" else 200, state), answer.body
        assert answer.json["attempts"][0]["outcome"] == "unknown"


def test_every_field_of_a_delivery_arrives_or_comes_back(stack: Stack, user: Consumer, key: str) -> None:
    sent: list[tuple[dict[str, Any], bytes]] = [
        ({"body": "text"}, b"text"),
        ({"body": {"a": 1}}, b'{"a": 1}'),
        ({"body": [1]}, b"[1]"),
    ]
    sent.append(({"body_base64": base64.b64encode(b"\xff\x00").decode()}, b"\xff\x00"))
    for number, (content, arrives) in enumerate(sent):
        answer = user.deliver(
            method="PUT",
            path="/orders/1",
            query="a=1",
            headers={"Idempotency-Key": f"{key}-{number}", "Prefer": "wait=20"},
            metadata={"order": number},
            **content,
        )
        assert (answer.status, answer.json["metadata"]) == (200, {"order": number}), answer.body
        assert answer.headers["preference-applied"] == "wait=20"
        (call,) = [call for call in list(stack.partner.calls) if call.idempotency_key == f"{key}-{number}"]
        assert (call.method, call.target, call.body) == ("PUT", "/orders/1?a=1", arrives)
    body = {"destination": "partner", "path": "/orders", "headers": {"X-Own": "kept", "X-Two": ["1", "2"]}}
    answer = user.call("POST", "/v1/deliveries", body=body, headers={"Prefer": "wait=20"})
    assert (answer.status, answer.json["headers"]) == (200, body["headers"])


def test_each_state_is_seen_and_found_by_the_list(user: Consumer, other: Holding, key: str) -> None:
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = {
        "pending": user.deliver(path="/orders", not_before=later),
        "delivered": user.deliver(path="/orders", headers={"Prefer": "wait=20"}),
        "failed": user.deliver(path="/status/422", headers={"Prefer": "wait=20"}),
        "unknown": user.deliver(path="/hang-up", headers={"Prefer": "wait=20"}),
    }
    for state, answer in made.items():
        assert answer.json["state"] == state, answer.body
        assert user.delivery(answer.json["delivery_id"])["state"] == state
        assert answer.json["delivery_id"] in ids(user, f"?state={state}")
    with held(user, other, "POST", key=key) as running:
        (sending,) = ids(user, "?state=sending&destination=other")
        assert user.delivery(sending)["state"] == "sending"
    assert running.result().body == b"held\n"


def ids(user: Consumer, query: str) -> list[str]:
    answer = user.call("GET", f"/v1/deliveries{query}")
    assert answer.status == 200, answer.body
    return [delivery["delivery_id"] for delivery in answer.json["deliveries"]]


def test_lists_are_paged_and_filtered(user: Consumer) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    moments = {"since": before.isoformat(), "until": (before + timedelta(hours=1)).isoformat()}
    query = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in moments.items())
    created = [user.deliver(path="/orders").json["delivery_id"] for _ in range(3)]
    assert ids(user, f"?{query}&destination=partner&limit=3") == created[::-1]
    assert ids(user, f"?until={moments['since'].replace('+', '%2B')}&destination=nobody") == []
    for noun in ("deliveries", "destinations"):
        first = user.call("GET", f"/v1/{noun}?limit=1").json
        second = user.call("GET", f"/v1/{noun}?limit=1&cursor={first['next_cursor']}").json
        assert len(first[noun]) == len(second[noun]) == 1
        assert first[noun] != second[noun]


def test_attempts_are_shown_after_a_cursor(user: Consumer) -> None:
    """Only a delivery with large attempts has a next_cursor: the number of the last one that was shown."""
    made = user.deliver(path="/orders", headers={"Prefer": "wait=20"}).json
    assert [attempt["number"] for attempt in made["attempts"]] == [1]
    after = user.call("GET", f"/v1/deliveries/{made['delivery_id']}?cursor=1")
    assert (after.status, after.json["attempts"]) == (200, [])
    wrong = user.call("GET", f"/v1/deliveries/{made['delivery_id']}?cursor=first")
    assert (wrong.status, kind_of(wrong)) == (422, "invalid-request")


def test_a_key_is_replayed_refused_or_in_flight(user: Consumer, other: Holding, key: str) -> None:
    first = user.deliver(path="/orders", headers={"Idempotency-Key": key, "Prefer": "wait=20"})
    for preference in ({}, {"Prefer": "wait=20"}):
        again = user.deliver(path="/orders", headers={"Idempotency-Key": key, **preference})
        assert (again.status, again.headers["idempotency-replayed"]) == (200 if preference else 202, "true")
        assert again.json["delivery_id"] == first.json["delivery_id"]
    reused = user.deliver(path="/orders/2", headers={"Idempotency-Key": key})
    assert (reused.status, kind_of(reused)) == (422, "key-reused")
    waiting = {"Idempotency-Key": f"{key}-waits", "Prefer": "wait=1"}
    other.released.clear()
    try:
        assert user.deliver(destination="other", path="/hold", headers=waiting).status == 202
        in_flight = user.deliver(destination="other", path="/hold", headers=waiting)
        assert (in_flight.status, kind_of(in_flight)) == (409, "in-flight")
        assert int(in_flight.headers["retry-after"]) > 0
    finally:
        other.released.set()


def kind_of(answer: Answer) -> str:
    """The last word of a problem's type; empty where there is no body, as in an answer to HEAD."""
    return str(answer.json["type"]).rpartition(":")[2] if answer.body else ""


@pytest.mark.parametrize("method", METHODS)
def test_every_method_passes_through_and_reports_its_outcome(
    user: Consumer, other: Holding, key: str, method: str
) -> None:
    head = method == "HEAD"
    with held(user, other, method, key=key) as running:
        in_flight = user.call(method, "/v1/via/other/hold", headers={"Idempotency-Key": key})
        assert (in_flight.status, kind_of(in_flight)) == (409, "" if head else "in-flight")
    assert (running.result().status, running.result().headers["sallyport-outcome"]) == (200, "answered")
    replayed = user.call(method, "/v1/via/other/hold", headers={"Idempotency-Key": key})
    assert replayed.headers["idempotency-replayed"] == "true"
    accepted = user.call(method, "/v1/via/partner/orders", headers={"Prefer": "respond-async"})
    assert (accepted.status, accepted.headers["preference-applied"]) == (202, "respond-async")
    for path, status, kind in (
        ("/v1/via/nobody/orders", 502, "partner-unreachable"),
        ("/v1/via/partner/hang-up", 504, "outcome-unknown"),
        ("/v1/via/no-such-destination/orders", 404, "not-found"),
        ("/v1/via/partner/..%2Forders", 422, "invalid-request"),
    ):
        answer = user.call(method, path)
        assert (answer.status, kind_of(answer)) == (status, "" if head else kind), path


def test_an_answer_that_cannot_be_returned_is_withheld(user: Consumer, key: str) -> None:
    headers = {"Idempotency-Key": key}
    assert user.call("GET", "/v1/via/other/large", headers=headers).status == 200
    again = user.call("GET", "/v1/via/other/large", headers=headers)
    assert (again.status, kind_of(again), again.headers["sallyport-outcome"]) == (
        409,
        "response-not-stored",
        "withheld",
    )
    odd = user.call("GET", "/v1/via/other/odd")
    assert (odd.status, kind_of(odd), odd.json["partner_status"]) == (502, "invalid-status", 799)
    huge = user.call("GET", "/v1/via/other/huge")
    assert (huge.status, kind_of(huge), huge.headers["sallyport-outcome"]) == (502, "response-too-large", "withheld")


def test_a_request_that_cannot_go_out_is_refused(user: Consumer) -> None:
    refused = user.call("HEAD", "/v1/via/partner/orders", body=b"a HEAD request carries none")
    assert (refused.status, refused.headers["sallyport-outcome"]) == (502, "refused")
    assert user.delivery(refused.headers["sallyport-delivery-id"])["attempts"][0]["outcome"] == "refused"
    unreachable = user.call("POST", "/v1/via/nobody/orders")
    assert user.delivery(unreachable.headers["sallyport-delivery-id"])["attempts"][0]["outcome"] == "unreachable"


def test_each_scope_opens_its_calls_and_no_others(user: Consumer, limited: dict[str, Consumer]) -> None:
    for scope, method, path in every_call():
        for held_scope, consumer in limited.items():
            status = consumer.call(method, path).status
            assert (status == 403) == (held_scope != scope), (held_scope, method, path, status)


def test_what_cannot_be_accepted_is_refused_with_a_reason(user: Consumer, key: str) -> None:
    for _, method, path in every_call():
        answer = replace(user, token="wrong").call(method, path)
        assert answer.status == 401
    for method, path in [*OPEN, *(call[1:] for call in every_call())]:
        assert user.call(method, path, body=OVER_THE_LIMIT).status == 413, (method, path)
    of_absent = [("PATCH", ""), *(("POST", f"/{transition}") for transition in TRANSITIONS)]
    bodies = [(method, f"/v1/destinations/absent{path}") for method, path in of_absent]
    for method, path in [("POST", "/v1/deliveries"), ("POST", "/v1/destinations"), *bodies, *via()]:
        assert user.call(method, path, body=b"{", headers=TOO_LONG).status == 400, (method, path)
    invalid: list[tuple[str, str, object]] = [("POST", "/v1/deliveries", {}), ("POST", "/v1/destinations", {})]
    for method, path, body in [
        *invalid,
        *(("GET", f"/v1/{noun}?limit=0", None) for noun in ("deliveries", "destinations")),
    ]:
        answer = user.call(method, path, body=body)
        assert (answer.status, kind_of(answer)) == (422, "invalid-request"), path
        assert answer.json["faults"]
    taken = user.call("POST", "/v1/destinations", body={"name": "other", "base_url": "http://127.0.0.1"})
    assert (taken.status, kind_of(taken)) == (409, "name-taken")
    assert user.deliver(destination="no-such-destination", headers={"Idempotency-Key": key}).status == 404


def test_what_is_not_there(user: Consumer) -> None:
    for path in (
        f"/v1/deliveries/{NOBODY}",
        "/v1/destinations/no-such-destination",
        "/v1/deliveries?destination=no-such-destination",
        "/v1/nothing",
    ):
        assert kind_of(user.call("GET", path)) == "not-found", path
    assert kind_of(user.call("POST", "/v1/destinations/nobody-at-all/rotate-secret", body={})) == "not-found"
    refused = user.call("PUT", "/v1/deliveries")
    assert (refused.status, kind_of(refused)) == (405, "method-not-allowed")
    assert refused.headers["allow"]


def test_what_a_call_does_not_take_is_refused(user: Consumer) -> None:
    nobody = replace(user, token="")
    answers = [nobody.call(method, f"{path}?x=1") for method, path in OPEN]
    answers += [user.call(method, f"{path}?x=1") for _, method, path in every_call() if "/via/" not in path]
    assert [(answer.status, kind_of(answer)) for answer in answers] == [(422, "invalid-request")] * len(answers)
    refused = user.call("POST", "/v1/egress/verify", body={})
    assert (refused.status, kind_of(refused)) == (400, "malformed-request")


def test_the_fixed_addresses_are_shown_and_asked_for(
    stack: Stack, user: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {entry["address"] for entry in user.call("GET", "/v1/egress").json["addresses"]} == {"127.0.0.1"}
    for accept in ("application/json", "text/plain", "text/html"):
        shown = user.call("GET", "/v1/egress/allowlist", headers={"Accept": accept})
        assert (shown.status, b"127.0.0.1/32" in shown.body) == (200, True)
    said = {"matches": "127.0.0.1\n", "differs": "8.8.4.4\n", "failed": "no address\n"}
    for verdict, text in said.items():
        echo = Reply(status=200, content=text)
        monkeypatch.setattr(stack.partner, "reply", lambda _, echo=echo: echo)
        assert user.call("POST", "/v1/egress/verify").json["verdict"] == verdict


def test_a_function_that_dies_is_a_problem_of_the_same_form(
    stack: Stack, user: Consumer, other: Holding, key: str
) -> None:
    with held(user, other, "GET", key=key) as running:
        for process in stack.functions["ApiFunction"].process_ids:
            os.kill(process, signal.SIGKILL)
        answer = running.result(GENEROUS_SECONDS)
    assert (answer.status, kind_of(answer)) == (502, "internal")


def test_without_the_database_every_call_that_needs_it_says_when_to_come_back(stack: Stack, user: Consumer) -> None:
    """The addresses need it for the token alone, so that a token is shown that nobody has asked for before."""
    bodies: dict[str, Any] = {
        "/v1/destinations": {"name": "late", "base_url": stack.partner.url},
        "/v1/deliveries": {"destination": "partner"},
        "/v1/destinations/partner/rotate-secret": {},
    }
    stack.postgres.stop()
    try:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda call: ask(user, *call, body=bodies.get(call[2])), every_call()))
    finally:
        stack.postgres.start()
    for answer in answers:
        assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True), answer.body
    assert eventually(lambda: user.call("GET", "/v1/deliveries").status == 200)


def ask(user: Consumer, _: str, method: str, path: str, *, body: object) -> Answer:
    own = replace(user, token=NEVER_ISSUED) if "egress" in path else user
    return own.call(
        method, path, body={"idempotent": True} if method == "PATCH" else body if method == "POST" else None
    )


@pytest.fixture
def all_uses(request: pytest.FixtureRequest, user: Consumer) -> list[Use]:
    """What the other tests of this file did, where all of them ran."""
    ran = {getattr(item, "originalname", "") for item in request.session.items if item.path == request.path}
    if not ran.issuperset(name for name in globals() if name.startswith("test_")):
        pytest.skip("it looks at what the other tests of this file did, and not all of them were asked for")
    return user.uses


def test_nothing_that_the_api_offers_was_left_out(user: Consumer, all_uses: list[Use]) -> None:
    document = Document(user.call("GET", "/openapi.json").json)
    used = {
        exercised
        for use in all_uses
        for exercised in document.uses(use.method, use.target, sent=use.sent, body=use.body, answer=use.answer)
    }
    excused = {use for use in document.all_uses if any(re.fullmatch(form, use) for form in UNUSED)}
    assert "\n".join(sorted(document.all_uses - used - excused)) == ""
    assert "\n".join(sorted(excused & used)) == "", "what is used needs no excuse"


def test_no_problem_and_no_outcome_of_the_documents_was_left_out(all_uses: list[Use]) -> None:
    told = set(re.findall(r"(?m)^### `([a-z-]+)`$", document_text("problems")))
    problems = [use.answer for use in all_uses if use.answer.headers.get("content-type") == "application/problem+json"]
    seen = {kind_of(answer) for answer in problems} - {""}
    assert sorted(told - seen - UNUSED_PROBLEMS.keys()) == []
    assert sorted(seen & UNUSED_PROBLEMS.keys()) == [], "what is seen needs no excuse"
    table = document_text("api").partition("| outcome | means |")[2].partition("\n\n")[0]
    assert set(re.findall(r"(?m)^\| `(\w+)`", table)) == {
        attempt["outcome"] for use in all_uses for attempt in attempts_in(use.answer)
    }


def document_text(name: str) -> str:
    return (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")


def attempts_in(answer: Answer) -> list[dict[str, Any]]:
    found = answer.json if answer.headers.get("content-type") == "application/json" and answer.body else {}
    attempts: list[dict[str, Any]] = found.get("attempts", [])
    return attempts
