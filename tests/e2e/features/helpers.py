"""What the tests of single features have in common."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from local.partner import Call, Partner
from local.stack import Stack
from tests.e2e.conftest import Answer, Consumer, Holding, eventually

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TRANSITIONS = ("pause", "resume", "disable", "enable")
WAIT = {"Prefer": "wait=20"}
NOBODY = "01a203c7-77fb-788f-a3b0-54d47b8c9561"
OPEN = (
    ("GET", "/healthz"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/console"),
    ("GET", "/console/any/app.js"),
)
NEVER_ISSUED = f"spt_{'A' * 43}"
TOO_LONG = {"Idempotency-Key": "k" * 256}
OVER_THE_LIMIT = b"x" * (4 * 1024 * 1024 + 1)
PASSPHRASE = "open sesame"
type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey


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
        ("send", "PATCH", f"/v1/deliveries/{NOBODY}"),
        *(("send", "POST", f"/v1/deliveries/{NOBODY}/{action}") for action in ("resolve", "ask", "cancel", "retry")),
        ("manage", "POST", f"/v1/deliveries/{NOBODY}/expunge"),
        ("manage", "POST", "/v1/replays"),
        ("manage", "POST", "/v1/cancellations"),
        ("read", "GET", "/v1/jobs"),
        ("read", "GET", f"/v1/jobs/{NOBODY}"),
        *(("manage", "POST", f"/v1/jobs/{NOBODY}/{action}") for action in ("pause", "resume", "cancel")),
        ("read", "GET", "/v1/proposals"),
        ("read", "GET", f"/v1/proposals/{NOBODY}"),
        *(("manage", "POST", f"/v1/proposals/{NOBODY}/{action}") for action in ("approve", "reject")),
        ("read", "GET", "/v1/audit"),
        ("read", "GET", "/v1/audit/export"),
        ("read", "GET", "/v1/audit/attempts"),
        ("read", "GET", "/v1/stats"),
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


def change(user: Consumer, name: str, members: dict[str, Any], **headers: str) -> Answer:
    return user.call("PATCH", f"/v1/destinations/{name}", body=members, headers=headers)


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


def ids(user: Consumer, query: str) -> list[str]:
    answer = user.call("GET", f"/v1/deliveries{query}")
    assert answer.status == 200, answer.body
    return [delivery["delivery_id"] for delivery in answer.json["deliveries"]]


def kind_of(answer: Answer) -> str:
    """The last word of a problem's type; empty where there is no body, as in an answer to HEAD."""
    return str(answer.json["type"]).rpartition(":")[2] if answer.body else ""


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


def received(partner: Partner, delivery: Mapping[str, Any]) -> Call:
    """The partner's last call with the delivery's idempotency key, in whichever header; others may come meanwhile."""
    key = delivery["idempotency_key"]
    return next(call for call in reversed(list(partner.calls)) if key in call.headers.values())


def arrived_at(partner: Partner, name: str) -> list[str]:
    """The paths of `/orders/NAME/...` that the partner saw, in order, without the part in front."""
    return [call.path.rpartition("/")[2] for call in list(partner.calls) if call.path.startswith(f"/orders/{name}/")]


def ended(user: Consumer, name: str, path: str, **fields: Any) -> str:
    """The id of a delivery that has ended."""
    answer = user.deliver(destination=name, path=path, headers=WAIT, **fields)
    assert answer.status == 200, answer.body
    delivery_id: str = answer.json["delivery_id"]
    return delivery_id


def after_an_hour(sign: int = 1) -> str:
    """That time, or with -1 the time an hour ago, with an offset that a query can hold."""
    return (datetime.now(UTC) + sign * timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def issued(stack: Stack, user: Consumer, tenant: str, **limits: Any) -> Consumer:
    """A consumer with a new token, whose uses count for `user`."""
    command = {"action": "issue_token", "tenant": tenant, **limits}
    return replace(user, token=stack.functions["AdminFunction"].invoke(command)["token"])
