"""The demo partner's steps: what each does to a request and to its reply, byte for byte."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from local.partner import Partner
from local.partner.bank import Bank
from local.partner.steps import STEPS
from local.partner.visit import STEPS_AT_MOST
from tests.support.demo_partner import ask, connected, exchange, running_partner

KEY = {"Idempotency_Key": "k1"}


@pytest.fixture
def partner() -> Iterator[Partner]:
    with running_partner() as partner:
        yield partner


def ledger(partner: Partner) -> list[tuple[str, str, int]]:
    """Key, state and number of requests of every payment, oldest first."""
    entries = ask(partner, "/ledger", method="GET").json["payments"]
    return [(entry["key"], entry["state"], entry["asked"]) for entry in reversed(entries)]


def test_a_payment_is_made_once_for_each_key(partner: Partner) -> None:
    first, second = ask(partner, "/payments", "a=1", headers=KEY), ask(partner, "/payments", "a=1", headers=KEY)
    assert (first.status, first.header("Idempotent-Replayed")) == (201, None)
    assert (second.status, second.header("Idempotent-Replayed")) == (201, "true")
    assert second.body == first.body
    assert ledger(partner) == [("k1", "executed", 2)]


def test_a_key_of_another_request_is_refused_and_nothing_is_done(partner: Partner) -> None:
    ask(partner, "/payments", "a=1", headers=KEY)
    assert ask(partner, "/payments", "a=2", headers=KEY).status == 422
    assert ledger(partner) == [("k1", "executed", 1)]


def test_without_a_key_and_for_a_careless_bank_every_request_is_a_payment(partner: Partner) -> None:
    for path, headers in (("/payments", {}), ("/careless/payments", KEY)):
        ask(partner, path, "a=1", headers=headers)
        ask(partner, path, "a=1", headers=headers)
    assert ledger(partner) == [("", "executed", 1), ("", "executed", 1), ("k1", "executed", 1), ("k1", "executed", 1)]


@pytest.mark.parametrize("step", ["lose", "hang/headers", "hang/head", "hang/body", "cut", "short", "nonsense"])
def test_whatever_happens_to_the_reply_the_payment_was_made(partner: Partner, step: str) -> None:
    ask(partner, f"/{step}/payments?seconds=0", "a=1", headers=KEY)
    assert ledger(partner) == [("k1", "executed", 1)]


@pytest.mark.parametrize(
    ("step", "received"),
    [("lose", "none"), ("hang/headers", "none"), ("hang/head", "part of the head"), ("cut", "part of the head")],
)
def test_a_reply_that_is_lost_or_hangs_goes_so_far(partner: Partner, step: str, received: str) -> None:
    answered = ask(partner, f"/{step}/orders?seconds=0").raw
    assert b"\r\n\r\n" not in answered
    assert bool(answered) == (received != "none")


@pytest.mark.parametrize("step", ["short", "hang/body"])
def test_content_length_promises_more_than_comes(partner: Partner, step: str) -> None:
    answered = ask(partner, f"/{step}/orders?seconds=0")
    assert 0 < len(answered.body) < int(answered.header("Content-Length") or 0)


@pytest.mark.parametrize("step", ["long", "twice"])
def test_more_comes_than_content_length_says(partner: Partner, step: str) -> None:
    answered = ask(partner, f"/{step}/orders")
    assert len(answered.body) > int(answered.header("Content-Length") or 0)
    assert answered.raw.count(b"HTTP/1.1 ") == 2


def test_a_connection_is_reset_after_the_payment(partner: Partner) -> None:
    with pytest.raises(ConnectionResetError):
        ask(partner, "/reset/payments", "a=1", headers=KEY)
    assert ledger(partner) == [("k1", "executed", 1)]


def test_a_reply_may_come_byte_by_byte(partner: Partner) -> None:
    with connected(partner) as connection:
        connection.sendall(b"GET /drip/status/200?seconds=0.001 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        pieces = list(iter(lambda: connection.recv(65536), b""))
    assert len(pieces) > 20
    assert b"".join(pieces).endswith(b'{"status": 200}\n')


@pytest.mark.parametrize(
    ("kind", "content"), [("html", b"<html"), ("text", b"OK"), ("empty", b""), ("list", b"[1"), ("bytes", b"")]
)
def test_a_reply_may_be_nonsense(partner: Partner, kind: str, content: bytes) -> None:
    answered = ask(partner, f"/nonsense/token?kind={kind}")
    assert answered.body.startswith(content)
    assert answered.raw.startswith(b"HTTP/") == (kind != "bytes")


def test_headers_may_be_huge_or_many(partner: Partner) -> None:
    assert len(ask(partner, "/big-headers/orders?kilobytes=100").head) > 100 * 1024
    assert ask(partner, "/big-headers/orders?kilobytes=1&count=500").head.count("\r\nX-Big-") == 500


@pytest.mark.parametrize("form", ["date", "rfc850", "asctime"])
def test_retry_after_names_a_moment(partner: Partner, form: str) -> None:
    answered = ask(partner, f"/retry-after/{form}?seconds=3600")
    moment = parsedate_to_datetime(answered.header("Retry-After") or "")
    sent_at = parsedate_to_datetime(answered.header("Date") or "")
    assert 3590 <= (moment.replace(tzinfo=UTC) - sent_at).total_seconds() <= 3610


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("seconds", "7"), ("fraction", "7.5"), ("zero", "0"), ("negative", "-5"), ("huge", "9" * 30),
        ("words", "in a moment"), ("empty", ""), ("past", "Sun, 06 Nov 1994 08:49:37 GMT"), ("two", "7"),
    ],
)  # fmt: skip
def test_retry_after_has_every_form(partner: Partner, form: str, value: str) -> None:
    answered = ask(partner, f"/retry-after/{form}?seconds=7&status=503")
    assert (answered.status, answered.header("Retry-After")) == (503, value)
    assert answered.head.count("Retry-After") == (2 if form == "two" else 1)


def test_a_token_is_refused_in_mid_run(partner: Partner) -> None:
    statuses = [ask(partner, "/mid-run/payments?after=2&failures=1").status for _ in range(4)]
    assert statuses == [201, 201, 401, 201]
    assert len(ledger(partner)) == 3


def test_flaky_does_the_rest_when_it_recovers(partner: Partner) -> None:
    statuses = [ask(partner, "/flaky/payments?failures=1&status=500", headers=KEY).status for _ in range(2)]
    assert statuses == [500, 201]
    assert ledger(partner) == [("k1", "executed", 1)]


# ---- What a bank answers when it is asked what became of a payment


def asked(partner: Partner, path: str) -> tuple[int, object]:
    answered = ask(partner, path, method="GET")
    return answered.status, answered.json.get("state") or answered.json.get("code")


def test_a_payment_is_found_rejected_or_absent(partner: Partner) -> None:
    ask(partner, "/payments", headers=KEY)
    ask(partner, "/rejects/payments", headers={"Idempotency_Key": "k2"})
    assert asked(partner, "/payments/k1") == (200, "executed")
    assert asked(partner, "/payments/k2") == (200, "rejected")
    assert asked(partner, "/payments/k3") == (404, "payment_not_found")


def test_records_lag_behind_the_payment(partner: Partner) -> None:
    ask(partner, "/payments", headers=KEY)
    assert asked(partner, "/lagging/payments/k1?seconds=60") == (404, "payment_not_found")
    assert asked(partner, "/lagging/payments/k1?seconds=0") == (200, "executed")


def test_a_bank_may_act_late_and_nobody_finds_the_payment_until_then() -> None:
    now = [1_000_000.0]
    with running_partner(bank=Bank(clock=lambda: now[0])) as partner:
        accepted = ask(partner, "/acts-late/payments?seconds=30", headers=KEY)
        assert (accepted.status, accepted.json["state"]) == (202, "accepted")
        assert asked(partner, "/payments/k1") == (404, "payment_not_found")
        now[0] += 30
        assert asked(partner, "/payments/k1") == (200, "executed")
        assert ask(partner, "/payments", headers=KEY).status == 422  # another path, so another request


def test_a_bank_may_answer_with_another_payment(partner: Partner) -> None:
    ask(partner, "/payments", headers=KEY)
    assert ask(partner, "/another/payments/k1", method="GET").json["key"] == "not-k1"


def test_payments_are_listed_page_by_page(partner: Partner) -> None:
    for number in range(5):
        ask(partner, "/payments", headers={"Idempotency_Key": f"k{number}"})
    keys, path = [], "/payments?limit=2"
    while path:
        page = ask(partner, path, method="GET").json
        keys += [payment["key"] for payment in page["payments"]]
        path = page["next"]
    assert keys == ["k0", "k1", "k2", "k3", "k4"]
    assert [entry["key"] for entry in ask(partner, "/payments?key=k3", method="GET").json["payments"]] == ["k3"]


# ---- Wrong requests


@pytest.mark.parametrize(
    "path",
    [
        "/flaky?failures=x", "/slow?seconds=soon", "/slow?seconds=nan", "/slow?seconds=-1", "/payments?limit=0",
        "/big-headers/orders?kilobytes=999999", "/retry-after/seconds?status=200", "/late" * (STEPS_AT_MOST + 1),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_by_name(partner: Partner, path: str) -> None:
    answered = ask(partner, path, method="GET")
    assert (answered.status, answered.json["code"]) == (400, "bad_parameter")


@pytest.mark.parametrize(
    "path", ["/hang/up", "/retry-after/tomorrow", "/signed/by-hand", "/nonsense/x?kind=y", "/x/orders"]
)
def test_what_does_not_exist_is_404(partner: Partner, path: str) -> None:
    assert ask(partner, path).status == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Content-Length: -1", 400), (b"Content-Length: 1e3", 400), (b"Content-Length: 99999999999999999999", 413),
        (b"Transfer-Encoding: chunked", 411),
    ],
)  # fmt: skip
def test_a_body_of_no_good_length_is_not_read(partner: Partner, fields: bytes, status: int) -> None:
    answered = exchange(partner, b"POST /payments HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n")
    assert answered.startswith(f"HTTP/1.1 {status} ".encode())
    assert ledger(partner) == []


def test_a_caller_that_leaves_within_its_body_pays_nothing(partner: Partner) -> None:
    with connected(partner) as connection:
        connection.sendall(b"POST /payments HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert ask(partner, "/orders").status == 201
    assert ledger(partner) == []


def test_every_step_answers_something_to_a_plain_request(partner: Partner) -> None:
    """Whatever is behind a step: none of them raises."""
    for name in sorted(set(STEPS) - {"reset"}):
        for path in (f"/{name}?seconds=0", f"/{name}/x?seconds=0", f"/{name}/orders?seconds=0"):
            answered = ask(partner, path, method="GET").raw
            assert answered or name in {"lose", "hang-up"}, path
    assert threading.active_count() < 20


def test_the_ledger_shows_what_was_sent_and_when(partner: Partner) -> None:
    ask(partner, "/payments", json.dumps({"amount": 10}), headers=KEY)
    (entry,) = ask(partner, "/ledger", method="GET").json["payments"]
    assert entry["body"] == '{"amount": 10}'
    assert datetime.fromtimestamp(entry["done_at"], UTC).year >= 2026
