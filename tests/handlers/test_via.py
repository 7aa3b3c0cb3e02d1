"""/v1/via: what goes in goes out, and what comes back goes back."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers import answers as answers_module
from tests.egress.authorities import Authority
from tests.egress.servers import OK, Partner, Script, Server, says, says_and_closes
from tests.support.api import Api, Functions, Reply, forget_services
from tests.support.banks import AskedBank
from tests.support.partners import answers, closes_in_the_middle, hangs, takes_and_closes

type StartPartner = Callable[[Script], Partner]

ALL_BYTES = bytes(range(256))


def lines_of(request: bytes) -> list[bytes]:
    return request.partition(b"\r\n\r\n")[0].split(b"\r\n")


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def test_a_call_is_passed_through_and_the_answer_is_returned(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(201, b"\x00\xff made", "Content-Type: application/x-bank", "X-Partner: yes"))
    api.destination(server.url("/v1"))
    answer = api.call("POST", "/v1/via/partner/orders?a=1", body=ALL_BYTES, headers=[("Content-Type", "x/y")])

    (request,) = server.requests
    assert lines_of(request)[0] == b"POST /v1/orders?a=1 HTTP/1.1"
    assert b"Content-Type: x/y" in lines_of(request)
    assert body_of(request) == ALL_BYTES
    row = functions.delivery()
    assert (answer.status, answer.body) == (201, b"\x00\xff made")
    assert answer.headers == (
        ("Content-Type", "application/x-bank"),
        ("X-Partner", "yes"),
        ("Sallyport-Delivery-Id", str(row["delivery_id"])),
        ("Sallyport-Outcome", "answered"),
    )
    assert (row["state"], row["attempts_allowed"], row["body"]) == ("delivered", 1, ALL_BYTES)
    assert [attempt["status"] for attempt in functions.attempts()] == [201]


@pytest.mark.parametrize("body", [b'{ "a":1.50 }', b"[1]", b"not JSON", b"", "\u20ac".encode("utf-16")])
def test_a_body_is_no_business_of_ours_whatever_it_says_it_is(api: Api, partner: StartPartner, body: bytes) -> None:
    server = partner(answers(200, body, "Content-Type: application/json"))
    api.destination(server.url())
    answer = api.call("POST", "/v1/via/partner/x", body=body, headers=[("Content-Type", "application/json")])
    assert (answer.body, body_of(server.requests[0])) == (body, body)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_method_is_passed_through(api: Api, partner: StartPartner, method: str) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    assert api.call(method, "/v1/via/partner/x").body == b"ok"
    assert server.requests[0].startswith(f"{method} /x HTTP/1.1".encode())


def test_head_has_the_headers_and_no_body(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200, b"twelve bytes", "ETag: abc"))
    api.destination(server.url())
    answer = api.call("HEAD", "/v1/via/partner/x")
    assert (answer.status, answer.body, answer.header("ETag")) == (200, b"", "abc")
    assert server.requests[0].startswith(b"HEAD /x HTTP/1.1")


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("", b"/base"),
        ("/", b"/base/"),
        ("/a%2Fb/c", b"/base/a%2Fb/c"),
        ("/a%252Fb", b"/base/a%252Fb"),
        ("/a%20b%E2%82%AC", b"/base/a%20b%E2%82%AC"),
        ("/a+b;v=1,2:3@4", b"/base/a+b;v=1,2:3@4"),
        ("/a//b/", b"/base/a//b/"),
        ("/a|b", b"/base/a%7Cb"),
        ("/50%", b"/base/50%25"),
        ("/x?a=1&a=2&b=", b"/base/x?a=1&a=2&b="),
        ("/x?q=a%20b%26c%3Dd", b"/base/x?q=a%20b%26c%3Dd"),
        ("/x?q=caf%C3%A9%2B1", b"/base/x?q=caf%C3%A9%2B1"),
    ],
)
def test_path_and_query_go_through(api: Api, partner: StartPartner, target: str, sent: bytes) -> None:
    server = partner(answers(200))
    api.destination(server.url("/base"))
    assert api.call("GET", f"/v1/via/partner{target}").status == 200
    assert lines_of(server.requests[0])[0] == b"GET " + sent + b" HTTP/1.1"


@pytest.mark.parametrize("path", ["/../admin", "/a/../b", "/.", "/%2e%2e/admin", "/a/%2E./b", "/a%0d%0ab/.."])
def test_a_path_that_climbs_is_refused(refusing: Functions, path: str) -> None:
    assert refusing.api.call("GET", f"/v1/via/partner{path}").faults == ["path"]


def test_repeated_headers_are_passed_through_in_both_directions(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200, b"", "Set-Cookie: a=1", "Set-Cookie: b=2, c", "X-Name: M\u00fcller"))
    api.destination(server.url())
    answer = api.call("GET", "/v1/via/partner/x", headers=[("X-Tag", "b"), ("X-Tag", "a")])
    assert [line for line in lines_of(server.requests[0]) if line.startswith(b"X-Tag")] == [b"X-Tag: b", b"X-Tag: a"]
    assert answer.values("Set-Cookie") == ["a=1", "b=2, c"]


def test_the_headers_of_this_hop_and_ours_stay_here(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url(), auth={"type": "bearer", "token": "the-partners"})
    kept_here = [
        ("Authorization", "Bearer spt_the-callers"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic abc"),
        ("TE", "trailers"),
        ("Trailer", "X-Checksum"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("Expect", "100-continue"),
        ("Content-Length", "99"),
        ("Prefer", "wait=3"),
        ("Idempotency-Key", "order-42"),
        ("Via", "1.1 cloudfront"),
        ("Forwarded", "for=1.2.3.4"),
        ("X-Forwarded-Port", "443"),
        ("X-Amzn-Trace-Id", "Root=1"),
        ("X-Amz-Cf-Id", "abc"),
        ("CloudFront-Viewer-Country", "DE"),
        ("Sallyport-Anything", "1"),
    ]
    api.call("POST", "/v1/via/partner/x", body=b"{}", headers=[*kept_here, ("Accept", "x/y"), ("User-Agent", "me/1")])
    assert sorted(lines_of(server.requests[0])[1:]) == [
        b"Accept: x/y",
        b"Authorization: Bearer the-partners",
        b"Content-Length: 2",
        f"Host: 127.0.0.1:{server.port}".encode(),
        b"Idempotency-Key: order-42",
        b"User-Agent: me/1",
    ]


def test_the_headers_of_the_partners_hop_stay_there(api: Api, partner: StartPartner) -> None:
    hop = ["Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Authenticate: Basic", "X-End: 1"]
    api.destination(partner(answers(200, b"ok", *hop)).url())
    answer = api.call("GET", "/v1/via/partner/x")
    assert [name for name, _ in answer.headers] == ["X-End", "Sallyport-Delivery-Id", "Sallyport-Outcome"]


@pytest.mark.parametrize(
    "name", ["Sallyport-Delivery-Id", "sallyport-delivery-id", "Idempotency-Replayed", "Sallyport-Anything"]
)
def test_a_partner_cannot_speak_for_us(functions: Functions, api: Api, partner: StartPartner, name: str) -> None:
    api.destination(partner(answers(200, b"ok", f"{name}: forged")).url())
    answer = api.call("GET", "/v1/via/partner/x")
    assert answer.header("Sallyport-Delivery-Id") == str(functions.delivery()["delivery_id"])
    assert answer.header("Idempotency-Replayed") is None


def test_a_compressed_answer_is_returned_unchanged(functions: Functions, api: Api, partner: StartPartner) -> None:
    packed = gzip.compress(b"zipped" * 100)
    server = partner(answers(200, packed, "Content-Encoding: gzip"))
    api.destination(server.url())
    answer = api.call("GET", "/v1/via/partner/x", headers=[("Accept-Encoding", "gzip")])
    assert b"Accept-Encoding: gzip" in lines_of(server.requests[0])
    assert (answer.body, answer.header("Content-Encoding")) == (packed, "gzip")
    assert functions.attempts()[0]["response_body"] == b"zipped" * 100


@pytest.mark.parametrize("status", [204, 302, 304, 400, 404, 429, 500, 503])
def test_the_partners_status_is_returned_and_there_is_one_attempt(
    functions: Functions, api: Api, partner: StartPartner, status: int
) -> None:
    script = says(f"HTTP/1.1 {status} Told\r\nLocation: /elsewhere\r\nRetry-After: 1\r\n\r\n".encode())
    if status not in (204, 304):
        script = answers(status, b"told", "Location: /elsewhere", "Retry-After: 1")
    server = partner(script)
    api.destination(server.url())
    answer = api.call("POST", "/v1/via/partner/x", body=b"{}")
    assert (answer.status, answer.header("Location"), answer.header("Retry-After")) == (status, "/elsewhere", "1")
    assert len(server.requests) == 1
    assert len(functions.attempts()) == 1
    assert functions.delivery()["state"] == ("delivered" if status == 204 else "failed")
    functions.work_early()
    assert len(server.requests) == 1


def test_a_partner_that_cannot_be_reached_is_a_bad_gateway(functions: Functions, api: Api) -> None:
    api.destination("http://127.0.0.1:1")
    answer = api.call("POST", "/v1/via/partner/x", body=b"{}")
    assert (answer.status, answer.kind) == (502, "partner-unreachable")
    assert answer.header("Sallyport-Delivery-Id") == answer.json["delivery_id"]
    assert answer.json["outcome"] == "unreachable"
    assert functions.delivery()["state"] == "failed"


@pytest.mark.parametrize("script", [takes_and_closes, closes_in_the_middle, hangs])
def test_a_partner_that_does_not_answer_leaves_it_open_whether_it_acted(
    functions: Functions, api: Api, partner: StartPartner, script: Script
) -> None:
    server = partner(script)
    api.destination(server.url(), timeouts={"total_seconds": 0.3})
    answer = api.call("POST", "/v1/via/partner/x", body=b"{}")
    assert (answer.status, answer.kind) == (504, "outcome-unknown")
    assert "may have acted" in answer.json["detail"]
    assert functions.delivery()["state"] == "unknown"
    assert len(server.requests) == 1


def test_what_the_guard_refuses_is_not_sent(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example")
    functions.sql("UPDATE destination SET base_url = 'http://169.254.169.254'")  # a name that turned out to lead there
    answer = api.call("GET", f"/v1/via/{made['destination_id']}/latest/meta-data")
    assert (answer.status, answer.kind) == (502, "egress-refused")
    assert functions.attempts()[0]["outcome"] == "refused"


def test_an_answer_over_four_mebibytes_is_not_cut_but_refused(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(200, bytes(4 * 1024 * 1024 + 1))).url())
    answer = api.call("GET", "/v1/via/partner/x", headers=[("Idempotency-Key", "big")])
    assert (answer.status, answer.kind) == (502, "response-too-large")
    assert answer.json["partner_status"] == 200
    assert answer.json["detail"].startswith("the partner answered with more than 4 MiB; ")
    assert functions.delivery()["state"] == "delivered"
    assert len(functions.attempts()[0]["response_body"]) == 64 * 1024


def test_an_answer_of_four_mebibytes_fits_into_what_lambda_may_answer(api: Api, partner: StartPartner) -> None:
    whole = bytes(4 * 1024 * 1024)
    api.destination(partner(answers(200, whole)).url())
    assert api.call("GET", "/v1/via/partner/x").body == whole


def test_an_answer_whose_tls_ends_without_a_farewell_says_that_it_may_be_cut(
    functions: Functions, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.new(tmp_path)
    monkeypatch.setenv("CA_BUNDLE", str(authority.roots))
    forget_services()
    server = Server(says_and_closes(b"HTTP/1.1 201 Made\r\n\r\nall"), tls=authority.context("127.0.0.1"))
    api.destination(server.partner.url())
    answer = api.call("GET", "/v1/via/partner/x")
    server.stop()
    assert (answer.status, answer.kind, answer.json["partner_status"]) == (502, "response-too-large", 201)
    assert "without a close_notify" in answer.json["detail"]
    assert "4 MiB" not in answer.json["detail"]
    assert functions.delivery()["state"] == "delivered"


@pytest.mark.parametrize(("count", "status"), [(2, 200), (4, 502)])
def test_headers_that_leave_no_room_for_the_body_are_refused_with_the_delivery_s_id(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch, count: int, status: int
) -> None:
    """libcurl accepts 300 KB of headers; each quote is two bytes to Lambda. A lower limit replaces a longer body."""
    monkeypatch.setattr(answers_module, "LAMBDA_ANSWER_BYTES", 5_900_000)
    quotes = [f"X-{number}: {chr(34) * 60_000}" for number in range(count)]
    api.destination(partner(answers(200, bytes(4 * 1024 * 1024), *quotes)).url())
    answer = api.call("GET", "/v1/via/partner/x")
    assert answer.status == status
    assert answer.header("Sallyport-Delivery-Id") == str(functions.delivery()["delivery_id"])
    if status == 502:
        assert (answer.kind, answer.json["partner_status"]) == ("response-too-large", 200)
        assert answer.json["detail"].startswith("the partner's answer and its headers are together larger than ")


@pytest.mark.parametrize("status", [600, 700, 999])
def test_a_status_that_http_does_not_have_is_reported_with_the_delivery_id(
    functions: Functions, api: Api, partner: StartPartner, status: int
) -> None:
    api.destination(partner(answers(status, b"odd")).url())
    headers = [("Idempotency-Key", "odd")]
    first, again = (api.call("GET", "/v1/via/partner/x", headers=headers) for _ in range(2))
    for answer in (first, again):
        assert (answer.status, answer.kind, answer.json["partner_status"]) == (502, "invalid-status", status)
        assert answer.header("Sallyport-Delivery-Id") == answer.json["delivery_id"]
        assert answer.header("Sallyport-Outcome") == "withheld"
    assert functions.attempts()[0]["response_body"] == b"odd"


def test_the_highest_status_is_passed_through(api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(599, b"odd")).url())
    assert api.call("GET", "/v1/via/partner/x").status == 599


@pytest.mark.parametrize("status", [200, 304])
def test_the_length_of_an_absent_body_is_returned(api: Api, partner: StartPartner, status: int) -> None:
    head = f"HTTP/1.1 {status} Told\r\nContent-Length: 12345\r\n\r\n".encode()
    api.destination(partner(says(head)).url())
    method = "HEAD" if status == 200 else "GET"
    assert api.call(method, "/v1/via/partner/x").header("Sallyport-Content-Length") == "12345"


def test_the_length_of_a_body_that_is_there_is_api_gateway_s_to_tell(api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(200, b"ok")).url())
    assert api.call("GET", "/v1/via/partner/x").header("Sallyport-Content-Length") is None


@pytest.mark.parametrize(
    ("target", "headers", "field"),
    [
        ("/" + "a" * 14_000, [], "path"),
        ("/x?" + "a" * 13_998, [], "path"),
        ("/x", [("X-Many", "1")] * 101, "headers"),
        ("/x", [("X-Long", "x" * (16 * 1024 - 5))], "headers"),
        ("/x", [("X-Nul", "a\x00")], "headers"),
        ("/x", [("X-Euro", "\u20ac")], "headers"),
    ],
)
def test_what_is_beyond_a_limit_is_refused(
    refusing: Functions, target: str, headers: list[tuple[str, str]], field: str
) -> None:
    assert refusing.api.call("GET", f"/v1/via/partner{target}", headers=headers).faults == [field]


def test_what_is_exactly_at_a_limit_is_passed_through(api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(200)).url())
    for target, headers in (
        ("/" + "a" * 13_999, []),
        ("/x?" + "a" * 13_997, []),
        ("/x", [("X-Many", "1")] * 100),
        ("/x", [("X-Long", "x" * (16 * 1024 - 6))]),
    ):
        assert api.call("GET", f"/v1/via/partner{target}", headers=headers).status == 200


def test_a_repeat_with_the_same_key_gets_the_stored_answer(api: Api, partner: StartPartner) -> None:
    server = partner(answers(402, b"\xff\x00", "X-Partner: a", "X-Partner: b"))
    api.destination(server.url())
    first, again = (
        api.call("POST", "/v1/via/partner/x", body=b"{}", headers=[("Idempotency-Key", "order-42")]) for _ in range(2)
    )
    assert len(server.requests) == 1
    assert (again.status, again.body) == (first.status, first.body) == (402, b"\xff\x00")
    assert [pair for pair in again.headers if pair[0] != "Idempotency-Replayed"] == list(first.headers)
    assert again.header("Idempotency-Replayed") == "true"


def test_a_repeat_of_what_got_no_answer_gets_the_same_problem(api: Api, partner: StartPartner) -> None:
    server = partner(takes_and_closes)
    api.destination(server.url())
    first, again = (
        api.call("POST", "/v1/via/partner/x", body=b"{}", headers=[("Idempotency-Key", "order-42")]) for _ in range(2)
    )
    assert len(server.requests) == 1
    assert (again.status, again.json) == (first.status, first.json)
    assert again.header("Idempotency-Replayed") == "true"


def test_an_answer_that_was_cut_when_it_was_stored_is_not_played_back(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200, bytes(64 * 1024 + 1)))
    api.destination(server.url())
    headers = [("Idempotency-Key", "order-42")]
    assert len(api.call("GET", "/v1/via/partner/x", headers=headers).body) == 64 * 1024 + 1
    again = api.call("GET", "/v1/via/partner/x", headers=headers)
    assert (again.status, again.kind, again.json["partner_status"]) == (409, "response-not-stored", 200)
    assert len(server.requests) == 1


def test_a_key_with_another_request_is_refused(api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(200)).url())
    headers = [("Idempotency-Key", "order-42")]
    api.call("POST", "/v1/via/partner/x", body=b"1", headers=headers)
    refused = api.call("POST", "/v1/via/partner/x", body=b"2", headers=headers)
    assert (refused.status, refused.kind) == (422, "key-reused")


def test_respond_async_makes_it_a_delivery_with_retries(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    headers = [("Prefer", "respond-async"), ("X-Mine", "1"), ("Idempotency-Key", "order-42")]
    accepted = api.call("PUT", "/v1/via/partner/x?a=1", body=ALL_BYTES, headers=headers)
    assert (accepted.status, accepted.json["state"], accepted.json["attempts_allowed"]) == (202, "pending", 10)
    assert accepted.header("Preference-Applied") == "respond-async"
    assert accepted.header("Sallyport-Delivery-Id") == accepted.json["delivery_id"]
    assert accepted.header("Location") == f"/dev/v1/deliveries/{accepted.json['delivery_id']}"
    assert server.requests == []

    again = api.call("PUT", "/v1/via/partner/x?a=1", body=ALL_BYTES, headers=headers)
    assert (again.json["delivery_id"], again.header("Idempotency-Replayed")) == (accepted.json["delivery_id"], "true")

    functions.work()
    (request,) = server.requests
    assert (lines_of(request)[0], body_of(request)) == (b"PUT /x?a=1 HTTP/1.1", ALL_BYTES)
    assert b"X-Mine: 1" in lines_of(request)


@pytest.mark.parametrize("reference", ["nobody", "%00", "x" * 300, "a%2Fb", "b%C3%A4nk", "-"])
def test_an_unknown_destination_is_not_found_and_nothing_is_queued(refusing: Functions, reference: str) -> None:
    answer = refusing.api.call("GET", f"/v1/via/{reference}/x")
    assert (answer.status, answer.kind) == (404, "not-found")
    queued = len(refusing.queue.messages)
    assert queued == (
        1 if reference == "nobody" else 0
    )  # message first: that of a name which could be comes to nothing


def test_the_partner_answers_to_a_reused_connection_too(api: Api, partner: StartPartner) -> None:
    server = partner(says(OK))
    api.destination(server.url())
    assert [api.call("GET", "/v1/via/partner/x").status for _ in range(3)] == [200, 200, 200]
    assert len(server.requests) == 3


def test_a_caller_whose_wait_ran_out_is_told_where_to_look(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the queue took so long that the attempt was left to the worker, which has not come to it yet."""
    server = partner(answers(200))
    api.destination(server.url())
    monkeypatch.setattr("handlers.routes.via.MAX_TOTAL_SECONDS", 0.3)
    answer = api.call("POST", "/v1/via/partner/x")
    assert (answer.status, answer.json["type"]) == (504, "urn:sallyport:problem:not-ended")
    assert answer.json["delivery_id"] == answer.header("Sallyport-Delivery-Id")
    assert answer.header("Sallyport-Outcome") is None
    assert server.requests == []


BANK = {
    "path": "/payments/{idempotency_key}",
    "after": [1],
    "received": [{"status": 200, "where": [{"pointer": "/state", "values": ["executed"]}]}],
    "rejected": [{"status": 200, "where": [{"pointer": "/state", "values": ["rejected"]}]}],
}
PAID = [("Idempotency-Key", "salary-1")]


def pay(api: Api) -> Reply:
    return api.call("POST", "/v1/via/partner/payments", body=b"{}", headers=PAID)


def resolve(api: Api, reply: Reply, decision: str) -> None:
    delivery = reply.header("Sallyport-Delivery-Id")
    assert api.post(f"/v1/deliveries/{delivery}/resolve", {"as": decision}).status == 200


@pytest.mark.parametrize(("said", "state"), [("executed", "delivered"), ("rejected", "failed")])
def test_a_repeat_of_what_the_partner_settled_says_so_and_sends_nothing(
    api: Api, partner: StartPartner, said: str, state: str
) -> None:
    bank = AskedBank(answers=[(200, {"state": said})], payments=[None])
    api.destination(partner(bank.script).url(), reconcile=BANK)
    first = pay(api)
    assert (first.status, first.kind) == (504, "outcome-unknown")
    assert api.call("POST", f"/v1/deliveries/{first.header('Sallyport-Delivery-Id')}/ask").json["state"] == state
    again = pay(api)
    assert (again.status, again.kind) == (409, "settled")
    assert {name: again.json[name] for name in ("state", "resolution", "resolved_by")} == {
        "state": state,
        "resolution": state,
        "resolved_by": "reconcile",
    }
    assert "partner_status" not in again.json
    assert again.json["delivery_id"] == again.header("Sallyport-Delivery-Id") == first.header("Sallyport-Delivery-Id")
    assert (again.header("Sallyport-Outcome"), again.header("Idempotency-Replayed")) == ("unknown", "true")
    assert len(bank.paid) == 1


def test_a_repeat_of_what_a_person_decided_says_so_though_the_partner_had_answered(
    api: Api, partner: StartPartner
) -> None:
    server = partner(answers(500, b"try later"))
    api.destination(server.url(), guarantee="at_most_once")
    first = pay(api)
    assert (first.status, pay(api).status) == (500, 500)
    resolve(api, first, "delivered")
    again = pay(api)
    assert (again.status, again.kind, again.json["partner_status"]) == (409, "settled", 500)
    assert again.json["resolved_by"].startswith("token:")
    assert again.header("Sallyport-Outcome") == "withheld"
    assert len(server.requests) == 1


def test_a_repeat_of_what_was_sent_again_gets_the_answer_to_that(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(takes_and_closes).url())
    first = pay(api)
    server = partner(answers(201, b"made"))
    assert api.call("PATCH", "/v1/destinations/partner", json={"base_url": server.url()}).status == 200
    resolve(api, first, "again")
    assert pay(api).kind == "in-flight"
    functions.work_early()
    again = pay(api)
    assert (again.status, again.body, again.header("Idempotency-Replayed")) == (201, b"made", "true")
    assert len(server.requests) == 1


def test_a_repeat_of_what_could_not_be_sent_again_does_not_say_that_nothing_was_sent(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(takes_and_closes).url())
    first = pay(api)
    assert api.call("PATCH", "/v1/destinations/partner", json={"base_url": "http://127.0.0.1:9"}).status == 200
    resolve(api, first, "again")
    functions.work_early()
    again = pay(api)
    assert (again.status, again.kind, again.json["state"], again.json["resolution"]) == (
        409,
        "settled",
        "failed",
        "again",
    )


def test_a_waiting_repeat_of_what_the_partner_settled_says_so_and_sends_nothing(
    api: Api, partner: StartPartner
) -> None:
    bank = AskedBank(answers=[(200, {"state": "executed"})], payments=[None])
    api.destination(partner(bank.script).url(), reconcile=BANK)
    body = {"destination": "partner", "path": "/payments", "body": {}}
    waiting = [*PAID, ("Prefer", "wait=25")]
    first = api.post("/v1/deliveries", body, headers=waiting)
    assert (first.status, first.json["state"]) == (200, "unknown")
    api.call("POST", f"/v1/deliveries/{first.json['delivery_id']}/ask")
    again = api.post("/v1/deliveries", body, headers=waiting)
    assert (again.status, again.json["delivery_id"]) == (200, first.json["delivery_id"])
    assert (again.json["state"], again.json["resolved_by"]) == ("delivered", "reconcile")
    assert again.header("Idempotency-Replayed") == "true"
    assert len(bank.paid) == 1
