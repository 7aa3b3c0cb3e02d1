"""Every fault that the types alone cannot find: alone, with all else valid, and beside the nearest that is none.

The last test fails for a refusal in src/handlers/schemas/ that has no row here.
"""

import ast
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeGuard
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from domain.auth import AuthType, BearerAuth, ClientAuthentication, OAuthClient
from domain.certificates import CertificateFacts
from domain.destinations import Guarantee, ManagedDestination, Timeouts
from domain.errors import Fault, InvalidRequest
from domain.ids import DestinationId, TenantId
from domain.options import DestinationOptions
from domain.signing import KeyInfo, KeyKind, StandardWebhooks, scheme
from handlers import schemas
from handlers.parsing import body_as, made_of
from handlers.schemas import deliveries
from handlers.schemas.deliveries import CLOCK_SKEW, METADATA_LIMIT_BYTES, NewDeliveryBody, new_delivery
from handlers.schemas.destinations import JUDGED_WITH, STAND_INS, NewDestinationBody, new_destination
from handlers.schemas.destinations.patch import change
from handlers.schemas.headers import HEADERS_LIMIT, HEADERS_LIMIT_BYTES
from handlers.schemas.jobs import NewCancellationBody, NewReplayBody, bounds
from tests.egress.authorities import Authority
from tests.support.signing import key_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TENANT = TenantId(UUID(int=1))
AN_ID = "01a203c7-77fb-788f-a3b0-54d47b8c9561"
MONTH = timedelta(days=30)
METADATA_ROOM = METADATA_LIMIT_BYTES - len('{"a": ""}')
MOMENT = timedelta(microseconds=1)
AN_HOUR_AGO = NOW - timedelta(hours=1)

type Members = dict[str, Any]


def at(moment: datetime) -> Members:
    return {"not_before": moment.isoformat()}


def basic(username: str, password: str) -> Members:
    return {"auth": {"type": "basic", "username": username, "password": password}}


def header(name: str, value: str = "of-a-bank", **more: str) -> Members:
    return {"auth": {"type": "header", "name": name, "value": value}, **more}


WEBHOOKS = {"type": "standard_webhooks"}
A_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def schemes(*given: Members, **more: str) -> Members:
    return {"signing": list(given), **more}


def hmac(**members: Any) -> Members:
    return {"type": "hmac", "header": "X-Sig", **members}


def message(**members: Any) -> Members:
    return {"type": "http_message_signatures", "algorithm": "ed25519", "components": ["@method"], **members}


def jws(**members: Any) -> Members:
    return {"type": "jws_detached", "algorithm": "ES256", "header": "X-Jws", **members}


def pem(kind: KeyKind, *, passphrase: bytes = b"") -> str:
    key = load_der_private_key(key_of(kind).secret, None)
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def weak_rsa() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - it must be refused
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


OFFICE = {"days": ["mon", "tue"], "from": "08:00", "to": "16:30", "time_zone": "Europe/Berlin"}


def windows(**members: Any) -> Members:
    return {"windows": [OFFICE, {**OFFICE, **members}]}


FLOW: list[tuple[str, Members, Members]] = [
    ("/limits", {"limits": {}}, {"limits": {"concurrency": 1}}),
    ("/limits/burst", {"limits": {"burst": 2, "concurrency": 1}}, {"limits": {"burst": 2, "rate": 1}}),
    ("/windows/1/to", windows(to="08:00"), windows(to="07:59")),
    ("/windows/1/to", windows(**{"from": "00:00", "to": "00:00"}), windows(**{"from": "00:00", "to": "24:00"})),
    ("/windows/1/days", windows(days=["sun", "sun"]), windows(days=["sun", "sat"])),
]
# Refused by their types; each is just outside of what is taken.
FLOW_TYPES: list[tuple[str, Members, Members]] = [
    ("/limits/rate", {"limits": {"rate": -1}}, {"limits": {"rate": 1}}),
    ("/limits/rate", {"limits": {"rate": 0}}, {"limits": {"rate": 0.001}}),
    ("/limits/rate", {"limits": {"rate": 1000.5}}, {"limits": {"rate": 1000}}),
    ("/limits/rate", {"limits": {"rate": "fast"}}, {"limits": {"rate": 0.1}}),
    ("/limits/burst", {"limits": {"rate": 1, "burst": 0}}, {"limits": {"rate": 1, "burst": 1}}),
    ("/limits/burst", {"limits": {"rate": 1, "burst": 10**12}}, {"limits": {"rate": 1, "burst": 1000}}),
    ("/limits/burst", {"limits": {"rate": 1, "burst": 1.5}}, {"limits": {"rate": 1, "burst": 2}}),
    ("/limits/concurrency", {"limits": {"concurrency": 0}}, {"limits": {"concurrency": 1}}),
    ("/limits/concurrency", {"limits": {"concurrency": 201}}, {"limits": {"concurrency": 200}}),
    ("/circuit_breaker/failure_ratio", {"circuit_breaker": {"failure_ratio": 0}}, {"circuit_breaker": None}),
    ("/circuit_breaker/failure_ratio", {"circuit_breaker": {"failure_ratio": 1.1}}, {"circuit_breaker": {}}),
    (
        "/circuit_breaker/open_seconds",
        {"circuit_breaker": {"open_seconds": 0}},
        {"circuit_breaker": {"open_seconds": 1}},
    ),
    (
        "/circuit_breaker/window_seconds",
        {"circuit_breaker": {"window_seconds": 3601}},
        {"circuit_breaker": {"window_seconds": 3600}},
    ),
    (
        "/circuit_breaker/minimum_attempts",
        {"circuit_breaker": {"minimum_attempts": 0}},
        {"circuit_breaker": {"minimum_attempts": 1}},
    ),
    ("/windows/1/from", windows(**{"from": "24:00"}), windows(**{"from": "23:59"})),
    ("/windows/1/from", windows(**{"from": "8:00"}), windows(**{"from": "08:01"})),
    ("/windows/1/to", windows(to="24:01"), windows(to="24:00")),
    ("/windows/1/to", windows(to="16:30\n"), windows(to="16:31")),
    ("/windows/1/days", windows(days=[]), windows(days=["wed"])),
    ("/windows/1/days/0", windows(days=["Monday"]), windows(days=["mon"])),
    ("/windows/1/time_zone", windows(time_zone="'; DROP TABLE"), windows(time_zone="America/Port-au-Prince")),
    ("/windows/1/time_zone", windows(time_zone=""), windows(time_zone="Etc/GMT+3")),
    ("/windows", {"windows": [OFFICE] * 21}, {"windows": [OFFICE] * 20}),
    ("/ordering/after_failure", {"ordering": {"after_failure": "stop"}}, {"ordering": {"after_failure": "skip"}}),
]
P256, RSA, LOCKED = pem(KeyKind.P256), pem(KeyKind.RSA), pem(KeyKind.P256, passphrase=b"open")
SIGNING: list[tuple[str, Members, Members]] = [
    ("/signing/0/secret", schemes({**WEBHOOKS, "secret": "whsec_AA=="}), schemes({**WEBHOOKS, "secret": A_SECRET})),
    (
        "/signing/0/secret",
        schemes({**WEBHOOKS, "version": "v1a", "secret": A_SECRET}),
        schemes({**WEBHOOKS, "version": "v1a"}),
    ),
    ("/signing/0/keyid", schemes({**WEBHOOKS, "keyid": "caf\u00e9"}), schemes({**WEBHOOKS, "keyid": "cafe"})),
    ("/signing/0/keyid", schemes(jws(keyid="a\n")), schemes(jws(keyid="a"))),
    (
        "/signing/1/name",
        schemes(WEBHOOKS, {**WEBHOOKS, "version": "v1a"}),
        schemes(WEBHOOKS, {**WEBHOOKS, "version": "v1a", "name": "v1a"}),
    ),
    (
        "/signing/1",
        schemes(WEBHOOKS, {**WEBHOOKS, "name": "b"}),
        schemes(WEBHOOKS, {**WEBHOOKS, "name": "b", "version": "v1a"}),
    ),
    (
        "/signing/0",
        schemes(WEBHOOKS, idempotency_header="Webhook-Timestamp"),
        schemes(WEBHOOKS, idempotency_header="Webhook-Id"),
    ),
    (
        "/signing/0/private_key",
        schemes(jws(private_key=weak_rsa(), algorithm="PS256")),
        schemes(jws(private_key=RSA, algorithm="PS256")),
    ),
    ("/signing/0/private_key", schemes(jws(private_key=RSA)), schemes(jws(private_key=P256))),
    ("/signing/0/private_key", schemes(jws(private_key="no key")), schemes(jws(private_key=P256))),
    ("/signing/0/passphrase", schemes(jws(private_key=LOCKED)), schemes(jws(private_key=LOCKED, passphrase="open"))),
    (
        "/signing/0/private_key",
        schemes(jws(private_key=LOCKED, passphrase="shut")),
        schemes(jws(private_key=LOCKED, passphrase="open")),
    ),
    ("/signing/0/passphrase", schemes(jws(private_key=P256, passphrase="open")), schemes(jws(private_key=P256))),
    ("/signing/0/passphrase", schemes(jws(passphrase="open")), schemes(jws())),
    (
        "/signing/0/secret",
        schemes(message(secret="k" * 32)),
        schemes(message(secret="a" * 24, algorithm="hmac-sha256")),
    ),
    (
        "/signing/0/private_key",
        schemes(message(private_key=P256, algorithm="hmac-sha256")),
        schemes(message(private_key=P256, algorithm="ecdsa-p256-sha256")),
    ),
    ("/signing/0/secret", schemes(hmac(secret="k" * 15)), schemes(hmac(secret="k" * 16))),
    (
        "/signing/0/secret",
        schemes(hmac(secret="xyz" * 16, secret_encoding="hex")),
        schemes(hmac(secret="abc" * 16, secret_encoding="hex")),
    ),
    (
        "/signing/0/secret",
        schemes(hmac(secret="ab-" * 16, secret_encoding="base64")),
        schemes(hmac(secret="abc" * 16, secret_encoding="base64")),
    ),
    (
        "/signing/0/components/1",
        schemes(message(components=["@path", "@status"])),
        schemes(message(components=["@path", "@query"])),
    ),
    (
        "/signing/0/components/0",
        schemes(message(components=["Content-Digest"])),
        schemes(message(components=["content-digest"])),
    ),
    (
        "/signing/0/components/0",
        schemes(message(components=["signature"])),
        schemes(message(components=["x-signature"])),
    ),
    (
        "/signing/0/components_if_present/0",
        schemes(message(components_if_present=["@method"])),
        schemes(message(components_if_present=["@path"])),
    ),
    ("/signing/0/label", schemes(message(label="Sig")), schemes(message(label="sig"))),
    ("/signing/0/tag", schemes(message(tag="\u20ac")), schemes(message(tag="EUR"))),
    ("/signing/1/label", schemes(message(), message(name="b")), schemes(message(), message(name="b", label="sig2"))),
    (
        "/signing/1/label",
        schemes(message(), message(name="b", label="sig1-2")),
        schemes(message(), message(name="b", label="sig1.2")),
    ),
    ("/signing/0/header", schemes(hmac(header="Host")), schemes(hmac(header="Hosts"))),
    ("/signing/0/header", schemes(hmac(header="Content-Type")), schemes(hmac(header="Authorization"))),
    (
        "/signing/0/timestamp_header",
        schemes(hmac(timestamp_header="Date", header="date")),
        schemes(hmac(timestamp_header="Date")),
    ),
    ("/signing/0/timestamp_header", schemes(hmac(timestamp_header="Via")), schemes(hmac(timestamp_header="Date"))),
    ("/signing/0/signed", schemes(hmac(signed="{nonce}.{body}")), schemes(hmac(signed="{{nonce}}.{body}"))),
    ("/signing/0/members", schemes(jws(members={"a": [[[[[[]]]]]]})), schemes(jws(members={"a": [[[[[]]]]]}))),
    ("/signing", schemes(hmac(signed="\0")), schemes(hmac(signed="\1"))),
    ("/signing", schemes(jws(members={"a": ["\0"]})), schemes(jws(members={"a": ["\\u0000"]}))),
    ("/signing/0/signed", schemes(hmac(signed="{body}{body}")), schemes(hmac(signed="{body}{{body}}"))),
    (
        "/signing/0/payload",
        schemes(jws(payload="{headers}{body}{headers}", headers=["A"])),
        schemes(jws(payload="{headers}{body}", headers=["A"])),
    ),
    ("/signing/0/value", schemes(hmac(value="t={timestamp}")), schemes(hmac(value="t={timestamp},v1={signature}"))),
    ("/signing/0/repeat", schemes(hmac(repeat=",v1=")), schemes(hmac(repeat=",v1={signature}"))),
    (
        "/signing/1/header",
        schemes(hmac(), hmac(name="b", header="X-SIG")),
        schemes(hmac(), hmac(name="b", header="X-Sig-2")),
    ),
    ("/signing/1/header", schemes(WEBHOOKS, hmac(header="Webhook-Id")), schemes(WEBHOOKS, hmac(header="X-Webhook-Id"))),
    ("/signing/0/header", {**header("X-Sig"), **schemes(hmac())}, {**header("X-Key"), **schemes(hmac())}),
    (
        "/signing/0/header",
        {**basic("a", "b"), **schemes(hmac(header="Authorization"))},
        schemes(hmac(header="Authorization")),
    ),
    ("/signing/0/header", schemes(hmac(), idempotency_header="X-sig"), schemes(hmac(), idempotency_header="X-key")),
    ("/signing/0/header", schemes(jws(header="Expect")), schemes(jws(header="Expects"))),
    ("/signing/0/payload", schemes(jws(payload="{metadata}")), schemes(jws(payload="{method}"))),
    (
        "/signing/0/headers",
        schemes(jws(payload="{body}", headers=["A"])),
        schemes(jws(payload="{headers}", headers=["A"])),
    ),
    ("/signing/0/headers", schemes(jws(payload="{headers}")), schemes(jws(payload="{{headers}}"))),
    ("/signing/0/members/kid", schemes(jws(members={"kid": "a"})), schemes(jws(members={"x5t": "a"}))),
    ("/signing/0/members", schemes(jws(members={"a": "{body}"})), schemes(jws(members={"a": "{id}"}))),
    ("/signing/0/members", schemes(jws(members={"a": "x" * 4088})), schemes(jws(members={"a": "x" * 4087}))),
    ("/signing/0/critical/0", schemes(jws(critical=["a"])), schemes(jws(critical=["a"], members={"a": 1}))),
    (
        "/signing/0/critical/0",
        schemes(jws(critical=["typ"], members={"typ": 1})),
        schemes(jws(critical=["a"], members={"a": 1})),
    ),
]


def condition(pointer: str = "/state", *values: object) -> Members:
    return {"pointer": pointer, "values": list(values or ("executed",))}


def rule(status: int, *conditions: Members) -> Members:
    return {"status": status, "where": list(conditions)}


ABSENT = rule(404, condition("/code", "not_found"))


def asks(**members: Any) -> Members:
    return {"reconcile": {"path": "/payments/{idempotency_key}", "received": [rule(200, condition())], **members}}


def absent(*conditions: Members, status: int = 404) -> Members:
    return asks(absent=[rule(status, *conditions)])


def received(*rules: Members, **members: Any) -> Members:
    return asks(received=list(rules), **members)


RECONCILE: list[tuple[str, Members, Members]] = [
    ("/reconcile", asks(received=[]), asks(received=[], absent=[ABSENT])),
    (
        "/reconcile",
        received(*[rule(200, condition("/state", *["x" * 1000] * 50))] * 2),
        received(rule(200, condition("/state", *["x" * 1000] * 50))),
    ),
    ("/reconcile/path", asks(path="payments/{delivery_id}"), asks(path="/payments/{delivery_id}")),
    ("/reconcile/path", asks(path="/../{idempotency_key}"), asks(path="/..{idempotency_key}")),
    ("/reconcile/path", asks(path="/a/%2e%2e/{idempotency_key}"), asks(path="/a/%2e%2ea/{idempotency_key}")),
    ("/reconcile/path", asks(path="/payments/{key}"), asks(path="/payments/{metadata.key}")),
    ("/reconcile/path", asks(path="/payments/{metadata.}"), asks(path="/payments/{metadata.a}")),
    ("/reconcile/path", asks(path="/payments/{response.id}"), asks(path="/payments/{response./id}")),
    ("/reconcile/path", asks(path="/payments/{response./a~2}"), asks(path="/payments/{response./a~1}")),
    ("/reconcile/path", asks(path="/payments/{idempotency_key"), asks(path="/payments/{idempotency_key}")),
    ("/reconcile/path", asks(path="/payments"), asks(path="/payments", query="key={idempotency_key}")),
    (
        "/reconcile/path",
        asks(path="/payments", headers={"X-Key": "a"}),
        asks(path="/payments", headers={"X-Key": "{delivery_id}"}),
    ),
    ("/reconcile/query", asks(query="a b"), asks(query="a%20b")),
    ("/reconcile/query", asks(query="key={id}"), asks(query="key={delivery_id}")),
    ("/reconcile/headers", asks(headers={"X-Key": "{id}"}), asks(headers={"X-Key": "{{id}}"})),
    ("/reconcile/headers", asks(headers={"Authorization": "a"}), asks(headers={"X-Authorization": "a"})),
    ("/reconcile/headers", asks(headers={"X-Key": "a\nb"}), asks(headers={"X-Key": "a b"})),
    ("/reconcile/received/0/status", received(rule(302, condition())), received(rule(203, condition()))),
    ("/reconcile/rejected/0/status", asks(rejected=[rule(403, condition())]), asks(rejected=[rule(402, condition())])),
    ("/reconcile/absent/0/status", absent(condition(), status=429), absent(condition(), status=422)),
    ("/reconcile/absent/0/where", absent(), absent(condition())),
    ("/reconcile/rejected/0/where", asks(rejected=[rule(404)]), asks(rejected=[rule(422)])),
    (
        "/reconcile/absent/0/where",
        absent(condition("/items", [])),
        absent(condition("/items", []), condition("/next", None)),
    ),
    (
        "/reconcile/received/0/where",
        received(rule(200, condition()), method="HEAD"),
        received(rule(200), method="HEAD"),
    ),
    (
        "/reconcile/received/0/where/0/pointer",
        received(rule(200, condition("state"))),
        received(rule(200, condition("/state"))),
    ),
    ("/reconcile/received/0/where/0/pointer", received(rule(200, condition(""))), received(rule(200, condition("/")))),
    (
        "/reconcile/received/0/where/0/pointer",
        received(rule(200, condition("/a~"))),
        received(rule(200, condition("/a~0"))),
    ),
    (
        "/reconcile/received/0/where/0/values/1",
        received(rule(200, condition("/a", 1, "{b}"))),
        received(rule(200, condition("/a", 1, "{{b}}"))),
    ),
    (
        "/reconcile/received/0/where/0/values/0",
        received(rule(200, condition("/a", ["b"]))),
        received(rule(200, condition("/a", []))),
    ),
    (
        "/reconcile/received/0/where",
        received(rule(200, condition("/a", 1), condition("/a", True))),
        received(rule(200, condition("/a", 1), condition("/a", 1.0))),
    ),
    (
        "/reconcile/received/1",
        received(rule(200, condition("/a", "b", "c")), rule(200, condition("/a", "b"), condition("/d", 1))),
        received(rule(200, condition("/a", "b", "c"), condition("/d", 1)), rule(200, condition("/a", "b"))),
    ),
    ("/reconcile/absent/0", asks(received=[rule(404)], absent=[ABSENT]), asks(received=[rule(410)], absent=[ABSENT])),
]


def redact(**members: Any) -> Members:
    return {"redact": members}


def retention(bodies: int | None, responses: int | None, record: int | None) -> Members:
    return {"retention": {"bodies_days": bodies, "responses_days": responses, "record_days": record}}


REDACT: list[tuple[str, Members, Members]] = [
    ("/redact", redact(), redact(headers=["X-A"])),
    ("/redact", redact(headers=[], pointers=[]), redact(pointers=["/a"])),
    ("/redact/pointers/0", redact(pointers=["a"]), redact(pointers=["/"])),
    ("/redact/pointers/1", redact(pointers=["/a", "/a~2"]), redact(pointers=["/a", "/a~1"])),
    ("/retention", {"retention": {}}, {"retention": {"record_days": 1}}),
    ("/retention/bodies_days", retention(3, 2, 2), retention(2, 2, 2)),
    ("/retention/responses_days", retention(2, 3, 2), retention(None, 3, None)),
    # Refused by their types; each is just outside of what is taken.
    ("/retention/bodies_days", retention(0, None, None), retention(1, None, None)),
    ("/retention/record_days", retention(None, None, 3651), retention(None, None, 3650)),
    ("/redact/pointers", redact(pointers=["/a"] * 51), redact(pointers=["/a"] * 50)),
    ("/redact/pointers/0", redact(pointers=["/" + "a" * 500]), redact(pointers=["/" + "a" * 499])),
    ("/redact/pointers/0", redact(pointers=[""]), redact(pointers=["/a"])),
    ("/redact/headers/0", redact(headers=["a b"]), redact(headers=["a-b"])),
    ("/redact/headers", redact(headers=["A"] * 51), redact(headers=["A"] * 50)),
]
# Refused by their types; each is just outside of what is taken.
RECONCILE_TYPES: list[tuple[str, Members, Members]] = [
    ("/reconcile/after", asks(after=[1] * 21), asks(after=[1] * 20)),
    ("/reconcile/after", asks(after=[]), asks(after=[604_800])),
    ("/reconcile/after/0", asks(after=[0]), asks(after=[1])),
    ("/reconcile/absent_after", asks(absent_after=0), asks(absent_after=1)),
    ("/reconcile/on_absent", asks(on_absent="resend"), asks(on_absent="again")),
    ("/reconcile/method", asks(method="POST"), asks(method="GET")),
    ("/reconcile/absent/0/status", absent(condition(), status=500), absent(condition(), status=499)),
    ("/reconcile/received/0/status", received(rule(199)), received(rule(200))),
    (
        "/reconcile/received/0/where/0/values",
        received({"status": 200, "where": [{"pointer": "/a", "values": []}]}),
        received(rule(200)),
    ),
]

# The field of the fault, a call at fault, and the nearest call that is not.
DELIVERIES: list[tuple[str, Members, Members]] = [
    ("/headers", {"headers": {"X-A": "a\n"}}, {"headers": {"X-A": "a\t"}}),
    ("/headers", {"headers": {"X-A": ["a", "\0"]}}, {"headers": {"X-A": ["a", "b"]}}),
    ("/headers", {"headers": {"Host": "a"}}, {"headers": {"Hosts": "a"}}),
    ("/headers", {"headers": {"X": [""] * (HEADERS_LIMIT + 1)}}, {"headers": {"X": [""] * HEADERS_LIMIT}}),
    (
        "/headers",
        {"headers": {"X": "a" * HEADERS_LIMIT_BYTES}},
        {"headers": {"X": "a" * (HEADERS_LIMIT_BYTES - 1)}},
    ),
    ("/body_base64", {"body": "", "body_base64": ""}, {"body_base64": ""}),
    ("/body", {"method": "HEAD", "body": "a"}, {"method": "HEAD", "body": ""}),
    ("/body", {"method": "HEAD", "body_base64": "AA=="}, {"method": "HEAD", "body_base64": ""}),
    ("/body_base64", {"body_base64": "AA==\n"}, {"body_base64": "AA=="}),
    ("/body_base64", {"body_base64": "_-8="}, {"body_base64": "/+8="}),
    ("/path", {"path": "/a/%2e%2e/b"}, {"path": "/a/%2e%2ec/b"}),
    ("/path", {"path": "a"}, {"path": "/a"}),
    ("/query", {"query": "a=b c"}, {"query": "a=b%20c"}),
    (
        "/metadata",
        {"metadata": {"a": "b" * (METADATA_ROOM + 1)}},
        {"metadata": {"a": "b" * METADATA_ROOM}},
    ),
    ("/metadata", {"metadata": {"a": "\0"}}, {"metadata": {"a": "\\u0000"}}),
    ("/not_before", at(NOW - CLOCK_SKEW - MOMENT), at(NOW - CLOCK_SKEW)),
    ("/not_before", at(NOW + MONTH + MOMENT), at(NOW + MONTH)),
    ("/ordering_key", {"ordering_key": ""}, {"ordering_key": " "}),
    ("/ordering_key", {"ordering_key": "k" * 201}, {"ordering_key": "\u00e4" * 200}),
    ("/ordering_key", {"ordering_key": "k" * 10_240}, {"ordering_key": None}),
    ("/ordering_key", {"ordering_key": "a\0"}, {"ordering_key": "a\u00a0"}),
    ("/ordering_key", {"ordering_key": "a\n"}, {"ordering_key": "a b"}),
    ("/ordering_key", {"ordering_key": "a\x7f"}, {"ordering_key": "a~"}),
]
DESTINATIONS: list[tuple[str, Members, Members]] = [
    ("/name", {"name": AN_ID}, {"name": AN_ID.replace("-", "x")}),
    ("/auth/username", basic("a:b", "secret"), basic("a", "b:secret")),
    ("/auth/username", basic("a\n", "secret"), basic("a", "secret")),
    ("/auth/password", basic("a", "secret\n"), basic("a", "secret")),
    ("/auth/token", {"auth": {"type": "bearer", "token": "a\nb"}}, {"auth": {"type": "bearer", "token": "a b"}}),
    ("/auth/value", header("X-Api-Key", "a\rb"), header("X-Api-Key", "ab")),
    ("/auth/name", header("Content-Type"), header("X-Content-Type")),
    ("/auth/name", header("Cookie"), header("Authorization")),
    ("/auth/name", header("X Key"), header("X-Key")),
    ("/idempotency_header", {"idempotency_header": "Accept"}, {"idempotency_header": "Accepted"}),
    (
        "/idempotency_header",
        header("X-Key", idempotency_header="x-KEY"),
        header("X-Key", idempotency_header="X-Key-2"),
    ),
    ("/retry/schedule/0", {"retry": {"schedule": [1, 2]}}, {"retry": {"schedule": [0, 2]}}),
    ("/retry/schedule/2", {"retry": {"schedule": [0, 2, 1]}}, {"retry": {"schedule": [0, 2, 2]}}),
    (
        "/retry/statuses/remove/0",
        {"retry": {"statuses": {"add": [409], "remove": [409]}}},
        {"retry": {"statuses": {"add": [409], "remove": [408]}}},
    ),
    ("/verify/path", {"verify": {"path": "health"}}, {"verify": {"path": "/health"}}),
    ("/allow/paths/0", {"allow": {"paths": ["/a/.."]}}, {"allow": {"paths": ["/a/..b"]}}),
    (
        "/timeouts/connect_seconds",
        {"timeouts": {"connect_seconds": 20.5, "total_seconds": 20}},
        {"timeouts": {"connect_seconds": 20, "total_seconds": 20}},
    ),
]


def pairs(*names: str, value: str = "secret") -> Members:
    return {"auth": {"type": "header", "headers": [{"name": name, "value": value} for name in names]}}


def aws(**members: str) -> Members:
    key = {"access_key_id": "AKIDEXAMPLE26NOV", "secret_access_key": "secret"}
    return {"auth": {"type": "aws_sigv4", "region": "eu-central-1", "service": "execute-api", **key, **members}}


def oauth(*left_out: str, **members: Any) -> Members:
    whole = {"token_url": "https://partner.example.com/token", "client_id": "acme", "client_secret": "secret"} | members
    return {"auth": {"type": "oauth2"} | {name: value for name, value in whole.items() if name not in left_out}}


def by_key(*left_out: str, **members: str) -> Members:
    key = {"client_authentication": "private_key_jwt", "private_key": P256, "algorithm": "ES256"}
    return oauth("client_secret", *left_out, **(key | members))


def by_certificate(**members: Any) -> Members:
    certificate, key = CLIENT
    return {
        **oauth("client_secret", client_authentication="tls_client_auth", **members),
        "client_certificate": {"certificate": certificate, "key": key},
    }


def shows(*client: str, **members: str) -> Members:
    certificate, key = client
    return {"client_certificate": {"certificate": certificate, "key": key, **members}}


with TemporaryDirectory() as directory:
    ROOT = Authority.new(Path(directory))
    CA = ROOT.roots.read_text()
CLIENT, EXPIRED = ROOT.client("acme"), ROOT.client("acme", starts_in=timedelta(days=-3))
PLAIN_HTTP = {"base_url": "http://partner.example.com"}
PIN = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
CREDENTIALS: list[tuple[str, Members, Members]] = [
    ("/auth/name", {"auth": {"type": "header", "value": "a"}}, header("X-Api-Key")),
    ("/auth/value", {"auth": {"type": "header", "name": "X-Api-Key"}}, header("X-Api-Key")),
    ("/auth/headers", pairs(), pairs("A")),
    ("/auth/headers", pairs(*(f"A-{n}" for n in range(11))), pairs(*(f"A-{n}" for n in range(10)))),
    ("/auth/name", {"auth": {**pairs("A")["auth"], "name": "B"}}, pairs("A", "B")),
    ("/auth/headers/1/name", pairs("X-Key", "x-key"), pairs("X-Key", "X-Key-2")),
    ("/auth/headers/0/name", pairs("Content-Type"), pairs("Authorization", "X")),
    ("/auth/headers/0/value", pairs("X", value="a\n"), pairs("X", value="a")),
    ("/idempotency_header", {**pairs("A", "B"), "idempotency_header": "b"}, {**pairs("A"), "idempotency_header": "b"}),
    ("/auth/secret_access_key", aws(secret_access_key="caf\u00e9"), aws(secret_access_key="cafe")),
    ("/auth/session_token", aws(session_token="a\n"), aws(session_token="a")),
    ("/auth/client_id", oauth(client_id="caf\u00e9"), oauth(client_id="cafe")),
    ("/auth/scope", oauth(scope="a  b"), oauth(scope="a b")),
    ("/auth/scope", oauth(scope='"a"'), oauth(scope="a")),
    ("/auth/parameters/scope", oauth(parameters={"scope": "a"}), oauth(parameters={"Scope": "a"})),
    ("/auth/client_secret", oauth("client_secret"), oauth()),
    ("/auth/private_key", by_key("private_key"), by_key()),
    ("/auth/algorithm", by_key("algorithm"), by_key()),
    ("/auth/key_id", oauth(key_id="a"), by_key(key_id="a")),
    ("/auth/passphrase", oauth(passphrase="open"), by_key(private_key=LOCKED, passphrase="open")),
    ("/auth/passphrase", by_key(private_key=LOCKED), by_key(private_key=LOCKED, passphrase="open")),
    ("/auth/private_key", by_key(private_key=RSA), by_key(private_key=RSA, algorithm="RS256")),
    (
        "/auth/private_key",
        by_key(private_key=weak_rsa(), algorithm="PS256"),
        by_key(private_key=RSA, algorithm="PS256"),
    ),
    ("/auth/token_url", by_certificate(token_url="http://partner.example.com/"), by_certificate()),
    ("/client_certificate", {**by_certificate(), "client_certificate": None}, by_certificate()),
    ("/client_certificate", {**shows(*CLIENT), **PLAIN_HTTP}, shows(*CLIENT)),
    ("/client_certificate/certificate", shows(*EXPIRED), shows(*CLIENT)),
    ("/client_certificate/key", shows(CLIENT[0], EXPIRED[1]), shows(*CLIENT)),
    ("/client_certificate/passphrase", shows(*CLIENT, passphrase="open"), shows(*CLIENT)),
    ("/tls", {"tls": {"minimum_version": "1.3"}, **PLAIN_HTTP}, {"tls": {"minimum_version": "1.3"}}),
    ("/tls/ca", {"tls": {"ca": "no PEM"}}, {"tls": {"ca": CA}}),
    ("/tls/pins/1", {"tls": {"pins": [PIN, PIN[:-4]]}}, {"tls": {"pins": [PIN]}}),
    ("/tls/pins/0", {"tls": {"pins": [PIN.removeprefix("sha256/")]}}, {"tls": {"pins": [PIN]}}),
]


def delivery(members: Members) -> None:
    sent = json.dumps({"destination": "partner", **members}).encode()
    make = partial(new_delivery, sent=sent, tenant_id=TENANT, idempotency_key=None, now=NOW)
    made_of(sent, NewDeliveryBody, make, stand_ins=deliveries.STAND_INS, judged_with=deliveries.JUDGED_WITH)


def destination(members: Members) -> None:
    sent = json.dumps({"name": "partner", "base_url": "https://partner.example.com", **members}).encode()
    make = partial(new_destination, tenant_id=TENANT, now=datetime.now(UTC), judge=lambda _: ())
    made_of(sent, NewDestinationBody, make, stand_ins=STAND_INS, judged_with=JUDGED_WITH)


def replay(members: Members, *, proposed_at: datetime | None = None) -> None:
    body = body_as(json.dumps({"state": "failed", **members}).encode(), NewReplayBody)
    bounds(body, tenant_id=TENANT, destination_id=None, now=NOW, proposed_at=proposed_at)


def proposed_replay(members: Members) -> None:
    """One that was approved an hour later: what was accepted meanwhile was not proposed."""
    replay(members, proposed_at=AN_HOUR_AGO)


def cancellation(members: Members) -> None:
    body = body_as(json.dumps(members).encode(), NewCancellationBody)
    bounds(body, tenant_id=TENANT, destination_id=None, now=NOW, proposed_at=None)


FACTS = CertificateFacts(
    subject="CN=acme", issuer="CN=bank", serial_number="1", not_before=NOW, not_after=NOW + MONTH, sha256="00"
)


def patched(members: Members, **others: Any) -> None:
    """A patch of a destination with credentials and a client certificate."""
    current = ManagedDestination(
        destination_id=DestinationId(UUID(int=2)),
        tenant_id=TENANT,
        name="partner",
        base_url="https://partner.example.com",
        auth_type=AuthType.BEARER,
        sealed_credentials=b"sealed",
        sealed_certificate=b"sealed",
        options=DestinationOptions(certificate=FACTS),
        guarantee=Guarantee.AUTO,
        idempotent=False,
        idempotency_header="Idempotency-Key",
        timeouts=Timeouts(),
        created_at=NOW,
    )
    current = replace(current, **others)
    change(members, current, unsealed=lambda: BearerAuth(token="secret"), now=NOW, judge=lambda _: ())


def patched_client(members: Members) -> None:
    """A patch of a destination whose client authenticates with its certificate."""
    client = OAuthClient(
        token_url="https://partner.example.com/token",
        client_id="acme",
        client_authentication=ClientAuthentication.TLS_CLIENT_AUTH,
    )
    patched(members, auth_type=AuthType.OAUTH2, options=DestinationOptions(certificate=FACTS, oauth=client))


def patched_signer(members: Members) -> None:
    """A patch of a destination that signs."""
    keys = (KeyInfo(ref="r", key_id="k", created_at=datetime.now(UTC)),)
    signing = (scheme(StandardWebhooks(), name="ours", keys=keys),)
    options = DestinationOptions(signing=signing)
    plain: dict[str, Any] = {"auth_type": AuthType.NONE, "sealed_credentials": None, "sealed_certificate": None}
    patched(members, sealed_signing=b"sealed", options=options, **plain)


BEARER = {"type": "bearer", "token": "secret"}
ELSEWHERE: Members = {"base_url": "https://other.example.com"}
OURS: Members = {"type": "standard_webhooks", "name": "ours"}
SIGNERS: list[tuple[str, Members, Members]] = [
    ("/signing", ELSEWHERE, {**ELSEWHERE, "signing": None}),
    (
        "/signing/0",
        {**ELSEWHERE, "signing": [{**OURS, "keyid": "other"}]},
        {**ELSEWHERE, "signing": [{**OURS, "name": "another"}]},
    ),
]
PATCHES: list[tuple[str, Members, Members]] = [
    ("/version", {"version": 2}, {"version": 1}),
    ("/base_url", {"base_url": "partner.example.com"}, {"base_url": "https://partner.example.com/"}),
    (
        "/auth",
        {"base_url": "https://other.example.com", "client_certificate": None},
        {"base_url": "https://partner.example.com/v2", "client_certificate": None},
    ),
    (
        "/client_certificate",
        {"base_url": "https://other.example.com", "auth": BEARER},
        {"base_url": "https://other.example.com", "auth": BEARER, "client_certificate": None},
    ),
]


def since(moment: datetime, *, until: datetime | None = None) -> Members:
    return {"since": moment.isoformat(), "until": until and until.isoformat()}


# Deliveries of a job: from `since` on, and before the call and `until`.
JOBS: list[tuple[str, Members, Members]] = [
    ("/since", since(NOW), since(NOW - MOMENT)),
    ("/since", since(NOW, until=NOW + MONTH), since(NOW - MOMENT, until=NOW + MONTH)),
    ("/since", since(AN_HOUR_AGO, until=AN_HOUR_AGO), since(AN_HOUR_AGO - MOMENT, until=AN_HOUR_AGO)),
]
WITHOUT_CERTIFICATE: Members = {"client_certificate": None}
CASES: list[tuple[Any, str, Members, Members]] = [(patched, *case) for case in PATCHES]
CASES += [(patched_client, "/client_certificate", WITHOUT_CERTIFICATE, {**WITHOUT_CERTIFICATE, "auth": BEARER})]
CASES += [(patched_signer, *case) for case in SIGNERS]
CASES += [(delivery, *case) for case in DELIVERIES]
CASES += [(made, *case) for made in (replay, cancellation) for case in JOBS]
CASES += [(proposed_replay, "/since", since(AN_HOUR_AGO), since(AN_HOUR_AGO - MOMENT))]
CASES += [
    (destination, *case)
    for case in (*DESTINATIONS, *CREDENTIALS, *SIGNING, *FLOW, *FLOW_TYPES, *RECONCILE, *RECONCILE_TYPES, *REDACT)
]


@pytest.mark.parametrize(("made", "field", "wrong", "right"), CASES)
def test_a_fault_alone_is_refused_and_its_nearest_neighbour_is_not(
    made: Any, field: str, wrong: Members, right: Members
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        made(wrong)
    assert [fault.field for fault in refused.value.faults] == [field]
    made(right)


def makes_a_fault(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Fault"


def test_every_refusal_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    made_at: set[tuple[str, int]] = set()

    def noted(**members: str) -> Fault:
        caller = sys._getframe(1)
        made_at.add((caller.f_code.co_filename, caller.f_lineno))
        return Fault(**members)

    for name, module in list(sys.modules.items()):
        if name.startswith(f"{schemas.__name__}.") and hasattr(module, "Fault"):
            monkeypatch.setattr(module, "Fault", noted)
    for made, _, wrong, _ in CASES:
        with pytest.raises(InvalidRequest):
            made(wrong)
    modules = Path(schemas.__file__).parent.rglob("*.py")
    sites = {
        (str(path), node.lineno)
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if makes_a_fault(node)
    }
    assert len(sites) > 10
    assert sites - made_at == set()


def test_every_fault_of_credentials_certificate_and_tls_is_said_at_once() -> None:
    wrong = {
        **oauth("client_secret", client_id="caf\u00e9", key_id="a", parameters={"grant_type": "password"}),
        **shows(EXPIRED[0], weak_rsa(), passphrase="open"),
        "tls": {"ca": "none", "pins": ["x"]},
        **PLAIN_HTTP,
    }
    with pytest.raises(InvalidRequest) as refused:
        destination(wrong)
    assert sorted(fault.field for fault in refused.value.faults) == [
        "/auth/client_id",
        "/auth/client_secret",
        "/auth/key_id",
        "/auth/parameters/grant_type",
        "/client_certificate",
        "/client_certificate/certificate",
        "/client_certificate/passphrase",
        "/tls",
        "/tls/ca",
        "/tls/pins/0",
    ]


def test_every_fault_of_limits_and_windows_is_said_at_once() -> None:
    never = {**OFFICE, "to": "08:00", "days": ["mon", "mon"]}
    with pytest.raises(InvalidRequest) as refused:
        destination({"limits": {"burst": 3, "concurrency": 2}, "windows": [never, OFFICE, never], "name": AN_ID})
    assert {fault.field for fault in refused.value.faults} == {
        *("/name", "/limits/burst"),
        *(f"/windows/{position}/{member}" for position in (0, 2) for member in ("to", "days")),
    }
    with pytest.raises(InvalidRequest) as refused:
        destination({"limits": {"rate": -1, "concurrency": 0}, "ordering": {"after_failure": 1}, "circuit_breaker": 5})
    assert {fault.field for fault in refused.value.faults} == {
        *("/limits/rate", "/limits/concurrency", "/ordering/after_failure", "/circuit_breaker"),
    }


def test_every_fault_of_all_schemes_is_said_at_once() -> None:
    wrong = schemes(
        hmac(signed="{nonce}", value="v1", secret="short"),
        message(components=["@status", "host"], keyid="\u00e9", name="ours"),
        jws(private_key=RSA, headers=["A"], members={"alg": "none"}, header="x-sig"),
    )
    with pytest.raises(InvalidRequest) as refused:
        destination(wrong)
    assert {fault.field for fault in refused.value.faults} == {
        "/signing/0/signed",
        "/signing/0/value",
        "/signing/0/secret",
        "/signing/1/components/0",
        "/signing/1/components/1",
        "/signing/1/keyid",
        "/signing/2/private_key",
        "/signing/2/headers",
        "/signing/2/members/alg",
        "/signing/2/header",
    }


def test_what_the_types_refuse_in_a_list_is_said_of_each_scheme() -> None:
    wrong = schemes({"type": "none"}, hmac(algorithm="md5", encoding="rot13"), hmac(surplus=1), *[WEBHOOKS] * 3)
    with pytest.raises(InvalidRequest) as refused:
        destination(wrong)
    assert [(fault.field, fault.detail) for fault in refused.value.faults][:3] == [
        ("/signing/0/type", "must be one of standard_webhooks, http_message_signatures, hmac, jws_detached"),
        ("/signing/1/algorithm", "must be one of sha256, sha512, sha1"),
        ("/signing/1/encoding", "must be one of hex, base64, base64url"),
    ]
    assert refused.value.faults[3].field == "/signing/2"


def test_there_are_at_most_five_schemes() -> None:
    with pytest.raises(InvalidRequest) as refused:
        destination(schemes(*[hmac(name=f"n{at}", header=f"X-{at}") for at in range(6)]))
    assert [(fault.field, fault.detail) for fault in refused.value.faults] == [
        ("/signing", "must have at most 5 items")
    ]
    destination(schemes(*[hmac(name=f"n{at}", header=f"X-{at}") for at in range(5)]))


def one_of_each_kind(cases: list[tuple[str, Members, Members]], kind: Any) -> dict[str, list[tuple[str, Members]]]:
    """By member, one fault that its type finds and one that only a look at its value does, where there are such."""
    found: dict[tuple[str, bool], tuple[str, Members]] = {}
    for field, wrong, _ in cases:
        member = field.split("/")[1]
        if wrong.keys() == {member}:
            found.setdefault((member, refused_by_types(wrong, kind)), (field, wrong))
    by_member: dict[str, list[tuple[str, Members]]] = {}
    for (member, _), case in found.items():
        by_member.setdefault(member, []).append(case)
    return by_member


def refused_by_types(members: Members, kind: Any) -> bool:
    required: Members = {**STAND_INS, "destination": "a"}
    needed = {name: required[name] for name in ("name", "base_url", "destination") if name in kind.__struct_fields__}
    try:
        body_as(json.dumps({**needed, **members}).encode(), kind)
    except InvalidRequest:
        return True
    return False


ALL_OF_DESTINATIONS = [*DESTINATIONS, *CREDENTIALS, *SIGNING, *FLOW, *FLOW_TYPES, *RECONCILE, *RECONCILE_TYPES]
ALL_OF_DELIVERIES = [*DELIVERIES, ("/method", {"method": "get"}, {}), ("/query", {"query": 1}, {})]
ALL_OF_DELIVERIES += [("/metadata", {"metadata": []}, {}), ("/ordering_key", {"ordering_key": 1}, {})]


@pytest.mark.parametrize(
    ("made", "kind", "cases", "judged_with"),
    [
        (destination, NewDestinationBody, ALL_OF_DESTINATIONS, JUDGED_WITH),
        (delivery, NewDeliveryBody, ALL_OF_DELIVERIES, deliveries.JUDGED_WITH),
    ],
    ids=["destinations", "deliveries"],
)
def test_no_fault_of_one_member_hides_that_of_another(made: Any, kind: Any, cases: Any, judged_with: Any) -> None:
    """Whoever finds them: types, what looks at values, or both. What is judged with another member waits for that."""
    by_member = one_of_each_kind(cases, kind)
    assert len(by_member) > 6
    for one, other in permutations(by_member, 2):
        if other in judged_with.get(one, ()) or one in judged_with.get(other, ()):
            continue
        for (field, wrong), (other_field, other_wrong) in zip(by_member[one], reversed(by_member[other]), strict=False):
            with pytest.raises(InvalidRequest) as refused:
                made({**wrong, **other_wrong})
            assert {fault.field for fault in refused.value.faults} == {field, other_field}


def test_nothing_is_said_that_only_follows_from_a_member_that_is_at_fault() -> None:
    """Its header may be free of the key, which names none; and there may be a certificate: only its form is wrong."""
    scheme = hmac(header="Idempotency-Key", signed="{nonce}")
    client = by_certificate()["auth"]
    wrong = {"idempotency_header": 5, **schemes(scheme), "auth": client, "client_certificate": {"certificate": 1}}
    with pytest.raises(InvalidRequest) as refused:
        destination(wrong)
    assert sorted(fault.field for fault in refused.value.faults) == [
        "/client_certificate/certificate",
        "/client_certificate/key",
        "/idempotency_header",
    ]


def test_what_needs_tls_is_not_said_to_lack_it_where_the_base_url_is_at_fault() -> None:
    with pytest.raises(InvalidRequest) as refused:
        destination({"base_url": 5, **shows(CLIENT[0], EXPIRED[1]), "tls": {"pins": ["x"]}})
    fields = [fault.field for fault in refused.value.faults]
    assert fields == ["/base_url", "/client_certificate/key", "/tls/pins/0"]
