"""Steps that do what the rest of the path says, and then let something go wrong with the reply."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime

from local.partner.calls import CallerConnection, Reply, ReplyBytes, Sending
from local.partner.visit import PartnerVisit, PathStep, refused

_DRIPS_AT_MOST = 100_000
_KILOBYTES_AT_MOST = 1024


def _sent(manner: Callable[[PartnerVisit], Sending]) -> PathStep:
    """The rest is done, and its reply is sent in this manner; of several the first in the path wins."""

    def step(visit: PartnerVisit) -> Reply:
        sending = manner(visit)
        reply = visit.go_on()
        return replace(reply, sending=sending) if reply.status is not None else reply

    return step


def _lose(visit: PartnerVisit) -> Reply:
    """Done, and the connection closed without a reply."""
    visit.go_on()
    return Reply(status=None, content={})


def _reset(visit: PartnerVisit) -> Sending:  # noqa: ARG001 - a manner gets the visit
    """Done, and the connection reset instead of a reply."""

    def send(connection: CallerConnection, message: ReplyBytes) -> bool:  # noqa: ARG001 - it sends nothing
        connection.reset()
        return False

    return send


def _hang(visit: PartnerVisit) -> Reply:
    """/hang/headers says nothing, /hang/head stops within the headers, /hang/body within the body; all after the rest
    was done, for `seconds` (60)."""
    phase, seconds = (visit.left or ("",))[0], visit.parameters.seconds(60)
    if phase not in _SENT_BEFORE_HANGING:
        return refused(404, "no_such_phase", f"try /hang/ and one of {', '.join(_SENT_BEFORE_HANGING)}")

    def send(connection: CallerConnection, message: ReplyBytes) -> bool:
        connection.send(_SENT_BEFORE_HANGING[phase](message))
        connection.wait(seconds)
        return False

    return replace(visit.behind(1).go_on(), sending=send)


_SENT_BEFORE_HANGING: dict[str, Callable[[ReplyBytes], bytes]] = {
    "headers": lambda _: b"",
    "head": lambda message: message.head[: len(message.head) // 2],
    "body": lambda message: message.head + message.body[: len(message.body) // 2],
}


def _drip(visit: PartnerVisit) -> Sending:
    """One byte every `seconds` (0.1)."""
    seconds = visit.parameters.seconds(0.1)

    def send(connection: CallerConnection, message: ReplyBytes) -> bool:
        whole = message.head + message.body
        for at in range(min(len(whole), _DRIPS_AT_MOST)):
            connection.send(whole[at : at + 1])
            connection.wait(seconds)
        return True

    return send


def _cut(visit: PartnerVisit) -> Sending:  # noqa: ARG001 - a manner gets the visit
    """The connection ends within the headers."""

    def send(connection: CallerConnection, message: ReplyBytes) -> bool:
        connection.send(message.head[: len(message.head) // 2])
        return False

    return send


def _short(visit: PartnerVisit) -> Sending:  # noqa: ARG001 - a manner gets the visit
    """Fewer bytes than Content-Length says, and the end of the connection."""

    def send(connection: CallerConnection, message: ReplyBytes) -> bool:
        connection.send(message.head + message.body[: len(message.body) // 2])
        return False

    return send


def _long(visit: PartnerVisit) -> Sending:  # noqa: ARG001 - a manner gets the visit
    """More bytes than Content-Length says: what looks like another reply, on a connection that stays open."""

    def send(connection: CallerConnection, message: ReplyBytes) -> bool:
        connection.send(message.head + message.body + b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nstolen\n")
        return True

    return send


def _twice(visit: PartnerVisit) -> Sending:  # noqa: ARG001 - a manner gets the visit
    """The whole reply a second time."""

    def send(connection: CallerConnection, message: ReplyBytes) -> bool:
        connection.send((message.head + message.body) * 2)
        return True

    return send


def _nonsense(visit: PartnerVisit) -> Reply:
    """`kind`: html and text (a 200 that is no JSON), empty, list (JSON, but no object), bytes (no HTTP at all)."""
    reply, kind = visit.go_on(), visit.parameters.text("kind", "html")
    if kind == "bytes":
        return replace(reply, sending=_bytes)
    texts = {"html": "<html><body>Welcome!</body></html>", "text": "OK", "empty": "", "list": "[1, 2, 3]"}
    if kind not in texts:
        return refused(404, "no_such_kind", f"kind must be one of bytes, {', '.join(texts)}")
    return replace(reply, status=200, content=texts[kind])


def _bytes(connection: CallerConnection, message: ReplyBytes) -> bool:  # noqa: ARG001 - it sends something else
    connection.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    return False


def _late(visit: PartnerVisit) -> Reply:
    """Done at once, answered after `seconds` (3)."""
    reply = visit.go_on()
    visit.bank.wait(visit.parameters.seconds(3))
    return reply


def _big_headers(visit: PartnerVisit) -> Reply:
    """A header of `kilobytes` (64), or of `count` headers."""
    kilobytes = visit.parameters.whole("kilobytes", 64, at_most=_KILOBYTES_AT_MOST)
    count = visit.parameters.whole("count", 1, at_most=10_000)
    reply, text = visit.go_on(), "x" * (kilobytes * 1024 // max(count, 1))
    return replace(reply, headers=(*reply.headers, *((f"X-Big-{number}", text) for number in range(count))))


def _retry_after(visit: PartnerVisit) -> Reply:
    """`status` (429) with a Retry-After of the form that the next segment names, `seconds` (3) from now. Nothing is
    done."""
    form = (visit.left or ("",))[0]
    if form not in FORMS:
        return refused(404, "no_such_form", f"try /retry-after/ and one of {', '.join(FORMS)}")
    seconds = visit.parameters.whole("seconds", 3, at_most=10**9)
    status = visit.parameters.whole("status", 429, at_least=400, at_most=599)
    values = FORMS[form](seconds, datetime.fromtimestamp(visit.bank.clock() + min(seconds, 10**8), UTC))
    headers = tuple(("Retry-After", value) for value in values)
    return Reply(status=status, content={"code": "slow_down"}, headers=headers)


# https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3; the three forms of a date are those of section 5.6.7.
FORMS: dict[str, Callable[[int, datetime], tuple[str, ...]]] = {
    "seconds": lambda seconds, _: (str(seconds),),
    "date": lambda _, moment: (format_datetime(moment, usegmt=True),),
    "rfc850": lambda _, moment: (moment.strftime("%A, %d-%b-%y %H:%M:%S GMT"),),
    "asctime": lambda _, moment: (moment.strftime("%a %b %e %H:%M:%S %Y"),),
    "past": lambda *_: ("Sun, 06 Nov 1994 08:49:37 GMT",),
    "zero": lambda *_: ("0",),
    "negative": lambda *_: ("-5",),
    "fraction": lambda seconds, _: (f"{seconds}.5",),
    "huge": lambda *_: ("9" * 30,),
    "words": lambda *_: ("in a moment",),
    "empty": lambda *_: ("",),
    "two": lambda seconds, _: (str(seconds), str(seconds * 2)),
}

TROUBLES: dict[str, PathStep] = {
    "lose": _lose,
    "reset": _sent(_reset),
    "hang": _hang,
    "drip": _sent(_drip),
    "cut": _sent(_cut),
    "short": _sent(_short),
    "long": _sent(_long),
    "twice": _sent(_twice),
    "nonsense": _nonsense,
    "late": _late,
    "big-headers": _big_headers,
    "retry-after": _retry_after,
}
