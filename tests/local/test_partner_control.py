"""The demo partner's control: rules, credentials, the page; for this machine alone. And what the server may cost."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest

from local.errors import LocalError
from local.partner import Call, Partner
from local.partner import server as server_module
from local.partner.rules import RULES_AT_MOST
from tests.support.browser import CHROMIUM, BrowserPage, browsing
from tests.support.demo_partner import Answered, ask, connected, running_partner, trusting

FORM = {"Content_Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def partner() -> Iterator[Partner]:
    with running_partner() as partner:
        yield partner


def control(partner: Partner, path: str, body: object) -> Answered:
    return ask(partner, f"/control/{path}", json.dumps(body))


def eventually(condition: Callable[[], bool]) -> None:
    end_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_at
        time.sleep(0.01)


# ---- Rules


def test_a_path_behaves_like_others_one_after_the_other_and_then_like_the_last(partner: Partner) -> None:
    assert (
        control(partner, "rules", {"path": "/pay", "like": ["/status/503", "/lose/payments", "/payments"]}).status
        == 200
    )
    key = {"Idempotency_Key": "k1"}
    answers = [ask(partner, "/pay", "a=1", key) for _ in range(4)]
    assert [answer.status if answer.raw else None for answer in answers] == [503, None, 201, 201]
    assert len(partner.bank.ledger) == 1


def test_what_follows_a_rules_path_is_kept_and_its_parameters_win(partner: Partner) -> None:
    control(partner, "rules", {"path": "/pay", "like": "/payments"})
    ask(partner, "/pay", "a=1", {"Idempotency_Key": "k1"})
    assert ask(partner, "/pay/k1", method="GET").json["key"] == "k1"
    control(partner, "rules", {"path": "/slow-one", "like": ["/late/orders?seconds=0"]})
    assert ask(partner, "/slow-one?seconds=x").status == 201


def test_the_longest_rule_counts_and_only_whole_segments(partner: Partner) -> None:
    control(partner, "rules", {"path": "/a", "like": ["/status/418"]})
    control(partner, "rules", {"path": "/a/b", "like": ["/status/419"]})
    paths = ("/a", "/a/", "/a/b", "/a/b/c", "/ab", "/a/c")
    assert [ask(partner, path).status for path in paths] == [418, 418, 419, 419, 404, 418]


def test_a_rule_goes_when_it_is_removed_and_all_go_with_a_reset(partner: Partner) -> None:
    for path in ("/a", "/b"):
        control(partner, "rules", {"path": path, "like": ["/status/418"]})
    assert control(partner, "rules/remove", {"path": "/a"}).status == 200
    assert [ask(partner, path).status for path in ("/a", "/b")] == [404, 418]
    control(partner, "reset", {})
    assert ask(partner, "/b").status == 404


@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"path": "/a"}, {"path": "a", "like": ["/b"]}, {"path": "/a", "like": []}, {"path": "/a", "like": [1]},
        {"path": "/a", "like": ["b"]}, {"path": "/control", "like": ["/b"]}, {"path": "/a", "like": ["/control/reset"]},
        {"path": "/a\n", "like": ["/b"]}, {"path": "/a", "like": ["/b"] * 1000},
        {"path": "/" + "a" * 5000, "like": ["/b"]},
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(partner: Partner, body: object) -> None:
    assert control(partner, "rules", body).status == 400
    assert partner.bank.rules.all() == []


def test_rules_are_limited(partner: Partner) -> None:
    statuses = [control(partner, "rules", {"path": f"/r{n}", "like": ["/b"]}).status for n in range(RULES_AT_MOST + 1)]
    assert (statuses.count(200), statuses[-1]) == (RULES_AT_MOST, 400)


# ---- Credentials and what is shown


def test_other_credentials_count_from_now_on_and_are_never_shown(partner: Partner) -> None:
    members = {"bearer": "b3arer", "headers": {"X-A": "h3ader"}, "client_secret": "s3cret", "password": "p4ss"}
    answered = control(partner, "accept", members)
    assert answered.status == 200
    assert ask(partner, "/bearer/orders", headers={"Authorization": "Bearer b3arer"}).status == 201
    assert ask(partner, "/bearer/orders", headers={"Authorization": "Bearer demo-token"}).status == 401
    assert ask(partner, "/header/orders", headers={"X_A": "h3ader"}).status == 201
    page = ask(partner, "/control", method="GET", headers={"Accept": "text/html"}).raw
    for secret in (b"b3arer", b"h3ader", b"s3cret", b"p4ss"):
        assert secret not in answered.raw + page + ask(partner, "/control", method="GET").raw


@pytest.mark.parametrize(
    "body", [{"other": "x"}, {"bearer": 1}, {"bearer": ""}, {"headers": "x"}, {"headers": {"a": 1}}]
)
def test_wrong_credentials_are_refused_and_change_nothing(partner: Partner, body: object) -> None:
    before = partner.bank.accepted
    assert control(partner, "accept", body).status == 400
    assert partner.bank.accepted == before


def test_the_state_has_requests_payments_rules_and_counters(partner: Partner) -> None:
    control(partner, "rules", {"path": "/pay", "like": ["/payments"]})
    ask(partner, "/pay?token=s3cret", "a=1", {"Idempotency_Key": "k1"})
    state = ask(partner, "/control", method="GET").json
    assert state["rules"] == [{"path": "/pay", "like": ["/payments"], "used": 1}]
    assert [payment["key"] for payment in state["ledger"]] == ["k1"]
    assert state["calls"][0]["call"] == "127.0.0.1 POST /pay auth=none key=k1"
    assert state["counters"]["calls"] == 1
    assert state["doors"]["http"]["port"] == partner.port


# ---- For this machine alone


@pytest.mark.parametrize("host", ["rebound.example", "10.0.0.1", "", "[", "127.0.0.1.example"])
def test_the_control_answers_to_this_machines_own_names_alone(partner: Partner, host: str) -> None:
    for path in ("/control", "/control/reset"):
        assert ask(partner, path, "{}", headers={"Host": host}).status == 404


def test_a_caller_from_elsewhere_finds_no_control(partner: Partner) -> None:
    call = Call(method="GET", target="/control", headers={"host": "127.0.0.1"}, body=b"", source="192.0.2.1")
    assert partner.reply(call).status == 404
    assert partner.reply(replace(call, source="127.0.0.1")).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_a_page_of_another_origin_changes_nothing(partner: Partner, headers: dict[str, str]) -> None:
    ask(partner, "/payments", "a=1")
    for extra in ({}, FORM):
        assert ask(partner, "/control/reset", "", {**headers, **extra}).status == 403
    assert len(partner.bank.ledger) == 1


def test_only_post_changes_anything(partner: Partner) -> None:
    ask(partner, "/payments", "a=1")
    for method in ("GET", "PUT", "DELETE"):
        assert ask(partner, "/control/reset", method=method).status in (404, 405)
    assert len(partner.bank.ledger) == 1


# ---- The page


def test_the_page_needs_no_script_and_shows_what_was_sent_as_text(partner: Partner) -> None:
    ask(partner, "/payments", "<script>alert(1)</script>", {"Idempotency_Key": "<b>"})
    control(partner, "rules", {"path": '/"><script>', "like": ["/<i>"]})
    page = ask(partner, "/control", method="GET", headers={"Accept": "text/html,*/*"})
    assert page.header("Content-Type") == "text/html; charset=utf-8"
    assert (page.header("Content-Security-Policy") or "").startswith("default-src 'none'; style-src 'self'")
    for text in (b"<script", b"<b>", b"<i>", b" style=", b" onclick"):
        assert text not in page.body
    assert b"&lt;script&gt;alert(1)" in page.body
    assert ask(partner, "/control/style.css", method="GET").header("Content-Type") == "text/css; charset=utf-8"


def test_a_form_leads_back_to_the_page(partner: Partner) -> None:
    body = urlencode({"path": "/pay", "like": "/status/503\r\n/payments"})
    answered = ask(partner, "/control/rules", body, {**FORM, "Origin": f"http://127.0.0.1:{partner.port}"})
    assert (answered.status, answered.header("Location")) == (303, "/control")
    assert partner.bank.rules.all()[0].like == ("/status/503", "/payments")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_person_sets_and_removes_a_rule_in_a_browser(tmp_path: Path, scheme: str) -> None:
    with running_partner(doors=True) as partner, browsing(tmp_path / "browser", finds="127.0.0.1") as browser:
        ask(partner, "/payments", '{"amount": 10}', {"Idempotency_Key": "invoice-1"})
        ask(partner, "/rejects/payments", '{"amount": 20}', {"Idempotency_Key": "invoice-2"})
        page = BrowserPage(browser, f"{partner.url}/control", width=900, height=900)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.run("document.querySelector('[name=path]').value = '/pay'")
        page.run("document.querySelector('[name=like]').value = '/status/503\\n/payments'")
        page.run("document.querySelector('form[action=\"/control/rules\"] button').click()")
        page.wait("document.querySelector('form[action=\"/control/rules/remove\"]') !== null")
        (tmp_path / f"{scheme}.png").write_bytes(page.picture())
        dark = page.run("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 27)"
        assert dark == (scheme == "dark")
        assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
        page.run("document.querySelector('form[action=\"/control/rules/remove\"] button').click()")
        page.wait("document.querySelector('form[action=\"/control/rules/remove\"]') === null")
        assert partner.bank.rules.all() == []
        assert page.complaints() == []


# ---- What the server may cost


def test_a_connection_leaves_no_thread_behind(partner: Partner) -> None:
    before = threading.active_count()
    for number in range(50):
        ask(partner, ("/orders", "/lose/orders", "/cut/orders", "/x")[number % 4])
    eventually(lambda: threading.active_count() <= before)


def test_connections_beyond_the_limit_are_closed_and_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_AT_MOST", 2)
    with running_partner() as partner:
        with connected(partner) as one, connected(partner) as two:
            for connection in (one, two):
                connection.sendall(b"GET /orders HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(10)
            with connected(partner) as third:
                assert third.recv(10) == b""
        eventually(lambda: is_served(partner))


def is_served(partner: Partner) -> bool:
    """Whether there is room: a connection beyond the limit is closed or reset, as it comes."""
    try:
        return ask(partner, "/orders").raw != b""
    except OSError:
        return False


def test_old_requests_are_forgotten(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CALLS_AT_MOST", 3)
    monkeypatch.setattr(server_module, "CALLS_BYTES_AT_MOST", 1000)
    for number in range(5):
        ask(partner, f"/orders/{number}")
    assert [call.path for call in partner.calls] == ["/orders/2", "/orders/3", "/orders/4"]
    ask(partner, "/orders/large", b"x" * 2000)
    assert [call.path for call in partner.calls] == ["/orders/large"]


@pytest.mark.parametrize(
    "path", ["/slow?seconds=60", "/late/orders?seconds=60", "/hang/headers/orders", "/drip/orders?seconds=60"]
)
def test_stopping_ends_whatever_hangs(path: str) -> None:
    before = threading.active_count()
    with running_partner(doors=True) as partner, connected(partner) as hanging, connected(partner) as silent:
        hanging.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        silent.sendall(b"GET /orders HTTP/1.1\r\n")  # it never ends its headers
        eventually(lambda: bool(partner.calls))
        partner.stop()
        eventually(lambda: threading.active_count() <= before)


def test_no_connection_comes_about_at_a_port_whose_queue_is_full() -> None:
    with running_partner(doors=True) as partner, socket.socket() as caller:
        caller.settimeout(0.3)
        with pytest.raises(TimeoutError):
            caller.connect(("127.0.0.1", partner.doors["accept-hangs"][0]))


def test_many_callers_at_once_are_all_served(tmp_path: Path) -> None:
    with running_partner(doors=True) as partner:
        known, statuses = trusting(partner, tmp_path, client="client"), list[int]()

        def pay(number: int) -> None:
            key = {"Idempotency_Key": f"k{number % 10}"}
            statuses.append(ask(partner, "/payments", "a=1", key, door="mtls", tls=known).status)

        threads = [threading.Thread(target=pay, args=(number,)) for number in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [201] * 60
        assert len(partner.bank.ledger) == 10


def test_a_port_that_is_taken_leaves_none_open() -> None:
    with running_partner() as other, pytest.raises(LocalError, match=f"{other.port} cannot be used"):
        Partner(port=0, doors_from=other.port)
