"""Partners that are dead, slow, endless or broken: each leaves an attempt on record, and nothing is sent twice."""

import base64
import gzip
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.egress.servers import OK, SAFETY_SECONDS, Line, Partner, Script, says, says_and_closes
from tests.support.api import Api, Functions, Reply
from tests.support.partners import answers, closes_in_the_middle, hangs, takes_and_closes

type StartPartner = Callable[[Script], Partner]

WAIT = ("Prefer", "wait=5")
STORED_BYTES = 64 * 1024


def streams_forever(line: Line) -> None:
    """An answer without an end, a little at a time."""
    line.read_request()
    line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    line.drip(b"4\r\nmore\r\n")


def drips_headers(line: Line) -> None:
    """Begins an answer and never gets past its headers."""
    line.read_request()
    line.send(b"HTTP/1.1 200 OK\r\n")
    line.drip(b"X-More: 1\r\n")


def resets(line: Line) -> None:
    line.read_request()
    line.reset()


def closes_in_the_headers(line: Line) -> None:
    line.read_request()
    line.send(b"HTTP/1.1 200 OK\r\nContent-Le")


def never_listens(line: Line) -> None:
    """Takes the connection and reads nothing."""
    line.hang()


UNANSWERED = [
    (hangs, "no answer within 0.3 s"),
    (never_listens, "no answer within 0.3 s"),
    (streams_forever, "no complete answer within 0.5 s"),
    (drips_headers, "no complete answer within 0.5 s"),
    (takes_and_closes, "closed"),
    (closes_in_the_middle, "closed"),
    (closes_in_the_headers, "closed"),
    (resets, "reset"),
    (says_and_closes(b"\x00\x01\x02 this is not HTTP\r\n\r\n"), "not HTTP"),
    (says_and_closes(b"HTTP/1.1 200 OK\r\nX-Nul: a\x00b\r\nContent-Length: 2\r\n\r\nok"), "not HTTP"),
    (says_and_closes(b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\nok"), "not HTTP"),
    (says_and_closes(b"SSH-2.0-OpenSSH_9.9\r\n"), "not HTTP"),
    (says_and_closes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), ""),
]
IMPATIENT = {"connect_seconds": 0.3, "first_byte_seconds": 0.3, "total_seconds": 0.5}


@pytest.mark.parametrize(("script", "reason"), UNANSWERED)
def test_without_a_whole_answer_a_post_is_held_and_not_sent_again(
    functions: Functions, api: Api, partner: StartPartner, script: Script, reason: str
) -> None:
    server = partner(script)
    api.destination(server.url(), timeouts=IMPATIENT)
    answer = api.create_delivery(WAIT)
    assert (answer.status, answer.json["state"], answer.json["response"]) == (200, "unknown", None)
    (attempt,) = answer.json["attempts"]
    assert attempt["outcome"] == "unknown"
    assert reason in attempt["reason"]

    functions.work_early()
    assert server.connections == 1
    assert [row["outcome"] for row in functions.attempts()] == ["unknown"]


@pytest.mark.parametrize("script", [hangs, streams_forever, resets])
def test_what_may_be_repeated_is_tried_again(
    functions: Functions, api: Api, partner: StartPartner, script: Script
) -> None:
    api.destination(partner(script).url(), timeouts=IMPATIENT)
    answer = api.create_delivery(WAIT, method="PUT")
    assert (answer.status, answer.json["state"]) == (202, "pending")
    assert [wakeup.delivery_id for wakeup in functions.queue.wakeups()][-1] == functions.delivery()["delivery_id"]


def test_a_dead_partner_is_tried_again_whatever_the_method(functions: Functions, api: Api) -> None:
    api.destination("http://127.0.0.1:1", guarantee="at_most_once")
    answer = api.create_delivery(WAIT)
    assert (answer.status, answer.json["state"]) == (202, "pending")
    (attempt,) = answer.json["attempts"]
    assert (attempt["outcome"], attempt["remote_address"]) == ("unreachable", None)
    assert "Connection refused" in attempt["reason"]


def test_a_partner_whose_name_does_not_resolve_is_unreachable(functions: Functions, api: Api) -> None:
    api.destination("http://no-such-host.invalid", timeouts={"total_seconds": 3})  # RFC 6761 section 6.4: never exists
    (attempt,) = api.create_delivery(WAIT).json["attempts"]
    assert attempt["outcome"] == "unreachable"
    assert "no-such-host.invalid" in attempt["reason"]


def test_a_hanging_partner_does_not_hold_up_the_others_of_its_batch(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    """It closes its connections only when all requests of the batch are there: one by one, none would come after the
    first, whose deadline would end it with another reason.
    """
    all_here = threading.Barrier(10)

    def closes_when_all_are_here(line: Line) -> None:
        line.read_request()
        with suppress(threading.BrokenBarrierError):
            all_here.wait(SAFETY_SECONDS)

    def answers_when_all_are_here(line: Line) -> None:
        closes_when_all_are_here(line)
        line.send(OK)

    quick, slow = partner(answers_when_all_are_here), partner(closes_when_all_are_here)
    api.destination(quick.url(), name="quick")
    api.destination(slow.url(), name="slow")
    for name in ("slow", "slow", "slow", "slow", "quick") * 2:
        api.create_delivery(destination=name)
    assert functions.work() == {"batchItemFailures": []}
    states = [row["state"] for row in functions.sql("SELECT state FROM delivery ORDER BY state")]
    assert states == ["delivered"] * 2 + ["unknown"] * 8
    reasons = [row["reason"] for row in functions.attempts() if row["outcome"] == "unknown"]
    assert reasons == ["the connection was closed before any answer"] * 8


def zip_bomb(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    piece = bytes(1024 * 1024)
    return b"".join(packer.compress(piece) for _ in range(mebibytes)) + packer.flush()


@pytest.mark.parametrize("call", ["deliveries", "via"])
def test_a_zip_bomb_is_decompressed_only_up_to_a_limit(
    functions: Functions, api: Api, partner: StartPartner, call: str
) -> None:
    bomb = zip_bomb(100)
    assert len(bomb) < 125_000
    api.destination(partner(answers(200, bomb, "Content-Encoding: gzip")).url(), timeouts={"total_seconds": 5})
    tracemalloc.start()
    answer = api.create_delivery(WAIT) if call == "deliveries" else api.call("GET", "/v1/via/partner/x")
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status == 200
    assert most_bytes < 40 * 1024 * 1024  # a response of 4 MiB, as base64, in JSON, and once more by this test
    (attempt,) = functions.attempts()
    assert attempt["response_body"] == bytes(STORED_BYTES)
    assert (attempt["response_truncated"], attempt["response_length"]) == (True, None)


def test_a_response_without_end_is_cut_at_the_cap(functions: Functions, api: Api, partner: StartPartner) -> None:
    def floods(line: Line) -> None:
        line.read_request()
        line.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while not line.stopping.is_set():
            line.send(b"flood " * 10_000)

    server = partner(floods)
    api.destination(server.url(), timeouts={"total_seconds": 5})
    answer = api.create_delivery(WAIT)
    assert (answer.status, answer.json["state"]) == (200, "delivered")
    (attempt,) = functions.attempts()
    assert len(attempt["response_body"]) == STORED_BYTES
    assert (attempt["response_truncated"], attempt["response_length"]) == (True, None)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "encoding", "kept"),
    [
        (b"not gzip at all", "gzip", b"not gzip at all"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "gzip", b"x" * 1000),
        (b"text", "br", b"text"),
        (b"text", "gzip, br", b"text"),
        (zlib.compress(b"packed"), "deflate", b"packed"),
        (b"", "gzip", b""),
    ],
)
def test_a_mislabelled_body_is_stored_as_far_as_it_can_be_decoded(
    functions: Functions, api: Api, partner: StartPartner, body: bytes, encoding: str, kept: bytes
) -> None:
    api.destination(partner(answers(200, body, f"Content-Encoding: {encoding}")).url())
    assert api.create_delivery(WAIT).json["state"] == "delivered"
    assert functions.attempts()[0]["response_body"] == kept


ODD_ANSWERS = [
    b"HTTP/1.1 200 OK\r\nX-Latin: M\xfcller\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX-Surrogate: \xed\xa0\x80\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX-Controls: \x01\x1b[31m\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
]


@pytest.mark.parametrize("raw", ODD_ANSWERS)
def test_odd_headers_are_stored_and_returned(functions: Functions, api: Api, partner: StartPartner, raw: bytes) -> None:
    server = partner(says(raw))
    api.destination(server.url())
    waited = api.create_delivery(WAIT)
    passed = api.call("POST", "/v1/via/partner/x", body=b"{}")
    assert (waited.status, waited.json["state"], waited.json["response"]["body"]) == (200, "delivered", "ok")
    assert (passed.status, passed.body) == (200, b"ok")
    assert all(no_control_characters(reply) for reply in (waited, passed))
    assert [row["status"] for row in functions.attempts()] == [200, 200]


def no_control_characters(reply: Reply) -> bool:
    return all(character >= " " for _, value in reply.headers for character in value)


@pytest.mark.parametrize("body", [b"\x00", b"\xed\xa0\x80", bytes(range(256)), b"a\x00b"])
def test_a_response_body_is_bytes_whatever_they_are(
    functions: Functions, api: Api, partner: StartPartner, body: bytes
) -> None:
    api.destination(partner(answers(200, body)).url())
    api.create_delivery(WAIT)
    assert api.call("GET", "/v1/via/partner/x").body == body
    assert {row["response_body"] for row in functions.attempts()} == {body}


def test_a_partner_that_redirects_into_the_house_is_not_followed(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    inside: Any = partner(answers(200, b"secret"))
    api.destination(partner(answers(302, b"", f"Location: {inside.url('/latest/meta-data')}")).url())
    answer = api.create_delivery(WAIT)
    assert (answer.json["state"], answer.json["response"]["status"]) == ("failed", 302)
    assert inside.connections == 0


def echoes(line: Line) -> None:
    """Answers with the request that it got, in its body and in a header."""
    while request := line.read_request():
        (given,) = [text for text in request.split(b"\r\n") if text.lower().startswith(b"authorization:")]
        body = request + base64.b64encode(request) + given[15:].hex().encode()
        head = b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n" % (given, len(body))
        line.send(head + body)


@pytest.mark.parametrize(
    "auth",
    [{"type": "bearer", "token": "tok-abcdefgh"}, {"type": "basic", "username": "joe", "password": "pass-abcdefgh"}],
)
def test_credentials_that_a_partner_echoes_are_neither_stored_nor_returned(
    functions: Functions, api: Api, partner: StartPartner, auth: dict[str, str]
) -> None:
    server = partner(echoes)
    api.destination(server.url(), auth=auth)
    told = api.create_delivery(WAIT)
    assert told.json["state"] == "delivered"
    assert "truncated" in told.json["response"]
    (attempt,) = functions.attempts()
    (sent,) = [text[15:] for text in server.requests[0].split(b"\r\n") if text.lower().startswith(b"authorization:")]
    secrets = [b"abcdefgh", sent.split()[1], b"abcdefgh".hex().encode(), base64.b64encode(b"-abcdefgh")[:8]]
    for shown in (told.body, attempt["response_body"], repr(attempt["response_headers"]).encode()):
        assert not [secret for secret in secrets if secret in shown]
    assert b"X-Echo" in told.body


def test_thousands_of_empty_members_are_an_answer_all_the_same(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    body = gzip.compress(b"", mtime=0) * 50_000
    api.destination(partner(answers(200, body, "Content-Encoding: gzip")).url())
    assert api.create_delivery(WAIT).json["state"] == "delivered"
    (attempt,) = functions.attempts()
    assert attempt["outcome"] == "answered"
    assert attempt["response_body"] == body[:STORED_BYTES]
    assert ["Sallyport-Note", "not decoded: more than 1000 members"] in attempt["response_headers"]


def test_headers_that_escape_to_six_times_their_size_leave_the_delivery_readable(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    lines = [f"X-{number}: " + "\xff" * 2000 for number in range(100)]
    raw = "HTTP/1.1 200 OK\r\n" + "\r\n".join([*lines, "Content-Length: 2", "", "ok"])
    api.destination(partner(says(raw.encode("latin-1"))).url())
    told = api.create_delivery(WAIT)
    assert told.json["state"] == "delivered"
    assert told.json["response"]["truncated"]
    shown = api.call("GET", f"/v1/deliveries/{told.json['delivery_id']}")
    assert len(shown.body) < 64 * 1024
    assert "headers were cut: 2 of 101 are here" in shown.body.decode()
