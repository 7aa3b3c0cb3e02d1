"""What partners answer, and what of it is kept."""

import gzip
import random
import zlib
from collections.abc import Callable

import pytest

from domain.bodies import INFLATED_LIMIT_BYTES, STORED_RESPONSE_BYTES, stored_response
from domain.outcomes import Answered, Exchange, Unknown
from egress.client import RESPONSE_CAP_BYTES
from tests.egress.servers import OK, Line, Partner, has_ipv6_loopback, says, says_and_closes

type StartPartner = Callable[..., Partner]
type Send = Callable[..., Exchange]


def answered(exchange: Exchange) -> Answered:
    assert isinstance(exchange.outcome, Answered), exchange.outcome
    return exchange.outcome


def unknown(exchange: Exchange) -> str:
    assert isinstance(exchange.outcome, Unknown), exchange.outcome
    return exchange.outcome.reason


def test_an_answer_is_returned_complete(partner: StartPartner, send: Send) -> None:
    there = partner(
        says(b"HTTP/1.1 201 Created\r\nX-One: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 3\r\n\r\nyes")
    )
    exchange = send(there.url())
    assert answered(exchange) == Answered(
        status=201,
        headers=(("X-One", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "3")),
        body=b"yes",
        complete=True,
    )
    assert exchange.remote_address == "127.0.0.1"
    timings = exchange.timings
    assert timings.dns_ms is not None
    assert timings.connect_ms is not None
    assert timings.first_byte_ms is not None
    assert timings.tls_ms is None
    assert 0 <= timings.dns_ms <= timings.connect_ms <= timings.first_byte_ms <= timings.total_ms


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6 on loopback")
def test_a_partner_on_ipv6_is_reached(partner: StartPartner, send: Send) -> None:
    exchange = send(partner(says(OK), host="::1").url())
    assert answered(exchange).status == 200
    assert exchange.remote_address == "::1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(partner: StartPartner, send: Send, status: int) -> None:
    elsewhere = partner(says(OK))
    answer = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.url()}\r\nContent-Length: 0\r\n\r\n"
    there = partner(says(answer.encode()))
    assert answered(send(there.url(), method="GET")).status == status
    assert elsewhere.connections == 0


@pytest.mark.parametrize("status", [400, 401, 404, 407, 410, 429, 500, 503])
def test_an_error_status_is_an_answer(partner: StartPartner, send: Send, status: int) -> None:
    challenge = "WWW-Authenticate: Basic realm=x\r\nProxy-Authenticate: Basic realm=x\r\n"
    there = partner(says(f"HTTP/1.1 {status} No\r\n{challenge}Content-Length: 2\r\n\r\nno".encode()))
    assert answered(send(there.url(), headers=(("Authorization", "Basic eDp5"),))).status == status
    assert len(there.requests) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_end_at_once(partner: StartPartner, send: Send, method: str, status: int) -> None:
    there = partner(says(f"HTTP/1.1 {status} Nothing\r\nETag: x\r\n\r\n".encode()))
    assert answered(send(there.url(), method=method)) == Answered(status=status, headers=(("ETag", "x"),))


def test_a_head_answer_has_the_length_of_a_body_that_never_comes(partner: StartPartner, send: Send) -> None:
    there = partner(says(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"))
    answer = answered(send(there.url(), method="HEAD"))
    assert (answer.headers, answer.body, answer.complete) == ((("Content-Length", "5000"),), b"", True)


def test_interim_answers_are_passed_over(partner: StartPartner, send: Send) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    answer = answered(send(partner(says(interim + OK)).url()))
    assert (answer.status, answer.headers, answer.body) == (200, (("Content-Length", "2"),), b"ok")


def test_an_interim_answer_alone_is_no_answer(partner: StartPartner, send: Send) -> None:
    there = partner(says_and_closes(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"))
    assert "closed" in unknown(send(there.url()))


def test_a_switch_of_protocols_that_nobody_asked_for_is_no_answer(partner: StartPartner, send: Send) -> None:
    there = partner(says_and_closes(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"))
    assert unknown(send(there.url()))


def test_chunks_are_joined_and_trailers_dropped(partner: StartPartner, send: Send) -> None:
    answer = answered(
        send(
            partner(
                says(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                    b"5;ext=1\r\nhello\r\n7\r\n, world\r\n0\r\nX-Sum: 12\r\n\r\n"
                )
            ).url()
        )
    )
    assert (answer.body, answer.complete) == (b"hello, world", True)
    assert answer.headers == (("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum"))


def test_a_body_that_ends_with_the_connection_is_complete(partner: StartPartner, send: Send) -> None:
    answer = answered(send(partner(says_and_closes(b"HTTP/1.0 200 OK\r\n\r\nall of it")).url()))
    assert (answer.body, answer.complete) == (b"all of it", True)


def test_header_values_are_latin_1_text_without_control_characters(partner: StartPartner, send: Send) -> None:
    there = partner(
        says(
            b"HTTP/1.1 200 OK\r\nX-Name: J\xfcrgen\r\nX-Bell: a\x07b\x7fc\r\nX-Folded: one\r\n  two\r\n"
            b"Bad Name: x\r\nX-Spaced : 1\r\nX-Empty:\r\nContent-Length: 2\r\n\r\nok"
        )
    )
    assert answered(send(there.url())).headers == (
        ("X-Name", "Jürgen"),
        ("X-Bell", "a b c"),
        ("X-Folded", "one two"),
        ("X-Spaced", "1"),
        ("X-Empty", ""),
        ("Content-Length", "2"),
    )


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK: 1", b"HTTP/1.1 103 Hints: 1", b"HTTP/1.1 abc: 1"])
@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"])
def test_a_field_that_reads_like_a_status_line_changes_no_status(
    partner: StartPartner, send: Send, interim: bytes, line: bytes
) -> None:
    """It has come from a value that the partner put into a header without looking for line breaks."""
    said = interim + b"HTTP/1.1 500 No\r\nX: a\r\n" + line + b"\r\nContent-Length: 2\r\n\r\nok"
    answer = answered(send(partner(says(said)).url()))
    assert (answer.status, answer.headers) == (500, (("X", "a"), ("Content-Length", "2")))


def test_many_and_long_headers_are_taken(partner: StartPartner, send: Send) -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 1000) for number in range(50))
    answer = answered(send(partner(says(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n")).url()))
    assert len(answer.headers) == 51


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"v" * 2_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Y: 12345678901234567890\r\n" * 40_000 + b"\r\n",
        b"SMTP ready\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200a OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/7.3 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Return: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"",
    ],
    ids=[
        "one endless header",
        "endless headers",
        "another protocol",
        "empty lines",
        "short status",
        "long status",
        "status with a letter",
        "no status",
        "unheard-of version",
        "line without colon",
        "bare CR in a header",
        "NUL in a header",
        "length in letters",
        "negative length",
        "bad chunk",
        "TLS on a plain port",
        "nothing",
    ],
)
def test_a_malformed_answer_leaves_it_unknown(partner: StartPartner, send: Send, answer: bytes) -> None:
    there = partner(says_and_closes(answer))
    assert unknown(send(there.url()))
    assert len(there.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ],
    ids=["length", "chunked", "headers"],
)
def test_a_connection_closed_in_the_middle_leaves_it_unknown(partner: StartPartner, send: Send, answer: bytes) -> None:
    assert "closed" in unknown(send(partner(says_and_closes(answer)).url()))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (CHUNKED + b"zz\r\nhello\r\n", "the chunked coding of the answer is malformed"),
        (CHUNKED + b"f" * 21 + b"\r\nhello\r\n", "the chunked coding of the answer is malformed"),
        (CHUNKED + b"5\r\nhelloXX5\r\n", "the chunked coding of the answer is malformed"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 30_000, "the headers of the answer are too long"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"v" * 2_000_000, "the headers of the answer are too long"),
        (b"HTTP/1.1 1000\r\nContent-Length: 2\r\n\r\nok", "the status line of the answer is not HTTP"),
        (b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", "the status line of the answer is not HTTP"),
        (b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 1000\r\n\r\n", "the status line of the answer is not HTTP"),
        (SWITCHED, "the partner switched to another protocol without being asked to"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "the answer is not HTTP"),
    ],
    ids=[
        "chunk size in letters",
        "huge chunk size",
        "overlong chunk",
        "endless interim answers",
        "endless header",
        "status of four digits",
        "status of four digits that begins like another",
        "status of four digits after an interim answer",
        "another protocol",
        "no status line",
        "negative length",
    ],
)
def test_what_no_answer_can_come_of_is_given_up_at_once_and_says_why(
    partner: StartPartner, send: Send, answer: bytes, reason: str
) -> None:
    """The partner would keep the connection open; the reason is not that time ran out."""

    def script(line: Line) -> None:
        line.read_request()
        line.send(answer)
        line.hang()

    assert unknown(send(partner(script).url())) == reason


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"], ids=["no", "half an"])
def test_a_reset_after_an_answer_that_is_not_whole_is_named(partner: StartPartner, send: Send, begun: bytes) -> None:
    def script(line: Line) -> None:
        line.read_request()
        line.send(begun)
        line.reset()

    assert unknown(send(partner(script).url())) == "the connection was reset before the answer was complete"


def test_any_response_is_an_answer_or_unknown(partner: StartPartner, send: Send) -> None:
    chance = random.Random(7)
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n5\r\nhello\r\n0\r\nX-B: c\r\n\r\n"

    def script(line: Line) -> None:
        line.read_request()
        damaged = bytearray(answer[: chance.randrange(len(answer) + 1)] if chance.random() < 0.3 else answer)
        for _ in range(chance.randrange(4) if damaged else 0):
            damaged[chance.randrange(len(damaged))] = chance.choice(b"\0\r\n 9A:\xff")
        line.send(bytes(damaged))

    there = partner(script)
    outcomes = [send(there.url()).outcome for _ in range(300)]
    assert all(isinstance(outcome, Answered | Unknown) for outcome in outcomes)
    assert len(there.requests) == 300
    texts = [text for outcome in outcomes if isinstance(outcome, Answered) for pair in outcome.headers for text in pair]
    assert not [text for text in texts if "\0" in text or "\r" in text or "\n" in text]


def test_a_reset_after_the_request_leaves_it_unknown(partner: StartPartner, send: Send) -> None:
    def script(line: Line) -> None:
        line.read_request()
        line.reset()

    there = partner(script)
    assert "reset" in unknown(send(there.url(), body=b"pay"))
    assert len(there.requests) == 1


def test_a_reset_in_the_middle_of_a_long_request_leaves_it_unknown(partner: StartPartner, send: Send) -> None:
    def script(line: Line) -> None:
        line.connection.recv(1000)
        line.reset()

    assert unknown(send(partner(script).url(), body=b"x" * 4_000_000))


def test_an_answer_before_the_request_was_all_sent_counts(partner: StartPartner, send: Send) -> None:
    def script(line: Line) -> None:
        line.connection.recv(1000)
        line.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        while line.connection.recv(65536):
            pass

    assert answered(send(partner(script).url(), body=b"x" * 4_000_000)).status == 413


def test_a_body_is_read_up_to_the_cap(partner: StartPartner, send: Send) -> None:
    body = b"x" * RESPONSE_CAP_BYTES
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    exactly = answered(send(partner(says(head % len(body) + body)).url()))
    assert (len(exactly.body), exactly.complete, exactly.capped) == (RESPONSE_CAP_BYTES, True, False)
    beyond = answered(send(partner(says(head % (len(body) + 1) + body + b"x")).url()))
    assert (len(beyond.body), beyond.complete, beyond.capped) == (RESPONSE_CAP_BYTES, False, True)


def test_a_partner_that_streams_forever_is_cut_off(partner: StartPartner, send: Send) -> None:
    def script(line: Line) -> None:
        line.read_request()
        line.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while not line.stopping.is_set():
            line.send(b"more " * 20_000)

    answer = answered(send(partner(script).url()))
    assert (len(answer.body), answer.complete) == (RESPONSE_CAP_BYTES, False)
    kept = stored_response(answer)
    assert (len(kept.body), kept.truncated, kept.length_bytes) == (STORED_RESPONSE_BYTES, True, None)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_zip_bomb_stays_packed_on_the_wire_and_is_unpacked_within_bounds(
    partner: StartPartner, send: Send, coding: str
) -> None:
    bomb = _packed(coding, 2 * INFLATED_LIMIT_BYTES)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(bomb)}\r\n\r\n"
    answer = answered(send(partner(says(head.encode() + bomb)).url()))
    assert answer.body == bomb
    assert len(bomb) < RESPONSE_CAP_BYTES
    kept = stored_response(answer)
    assert (len(kept.body), kept.truncated, kept.length_bytes) == (STORED_RESPONSE_BYTES, True, None)


def test_a_compressed_answer_is_stored_decompressed(partner: StartPartner, send: Send) -> None:
    packed = gzip.compress(b"plain words")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    answer = answered(send(partner(says(head + packed)).url()))
    assert answer.body == packed
    assert stored_response(answer).body == b"plain words"


def _packed(coding: str, zeros: int) -> bytes:
    packer = zlib.compressobj(9, wbits={"gzip": 31, "deflate": 15}[coding])
    block = bytes(1024 * 1024)
    return b"".join(packer.compress(block) for _ in range(zeros // len(block))) + packer.flush()
