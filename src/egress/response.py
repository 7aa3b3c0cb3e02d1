"""Collects an answer as libcurl delivers it, line by line and piece by piece."""

import re
from functools import lru_cache

from domain.outcomes import Answered
from egress.headers import received

RESPONSE_CAP_BYTES = 4 * 1024 * 1024
_SWITCHING = 101  # a server may send it only to a request with Upgrade (RFC 9110 section 7.8), which is never sent
_LENGTHS = frozenset({"content-length", "transfer-encoding"})
_BLANK = (b"\r\n", b"\n")
_STATUS_LINE = re.compile(rb"HTTP/[0-9.]+ ([0-9]{3})(?=[ \t\r\n])")  # libcurl reads three digits of any text

_STATUS_BYTES = 16  # of "HTTP/1.1 200 OK" what says the status


@lru_cache(maxsize=100)
def _status_in(beginning: bytes) -> int | None:
    """None where it is no status line."""
    match = _STATUS_LINE.match(beginning)
    return int(match[1]) if match else None


class Response:
    """The answer to one request, as far as it has come.

    `begun` says that some of it has come (an interim answer counts), `capped` that its body was longer than
    `RESPONSE_CAP_BYTES`. `fault` says why no answer can come of it; None as long as one can.
    """

    def __init__(self) -> None:
        self.begun = False
        self.capped = False
        self.fault: str | None = None
        self._fields_come = False  # only the first line of a header section is a status line, whatever others look like
        self._status = 0
        self._version = b""
        self._lines: list[bytes] = []
        self._headers_done = False
        self._body = bytearray()

    @property
    def has_status(self) -> bool:
        """Whether the final status and all headers have come."""
        return self._headers_done

    @property
    def ends_with_connection(self) -> bool:
        """Whether only the end of the connection says where the body ends (RFC 9112 section 6.3, item 8)."""
        names = {name.lower() for name, _ in received(self._lines)}
        return self.has_status and self._version.startswith(b"HTTP/1") and not names & _LENGTHS

    def take_header(self, line: bytes) -> int:
        """One line of a header section. Fields after the body (trailers) are dropped: unknown ones must not be merged.

        RFC 9110 section 6.5.1 has the rule; 15.2 that interim answers (1xx) precede the final one. Returns how many
        bytes were taken: none makes libcurl end the transfer, which has a `fault` then.
        """
        if self._fields_come and line not in _BLANK:
            self._lines.append(line)
            return len(line)
        self.begun = True
        if not self._headers_done:
            self._begin_or_end_section(line)
        return len(line) if self.fault is None else 0

    def _begin_or_end_section(self, line: bytes) -> None:
        if line in _BLANK:
            self._headers_done = self._status >= 200
            self._fields_come = False
        else:
            self._begin_section(line)

    def _begin_section(self, line: bytes) -> None:
        status = _status_in(line[:_STATUS_BYTES])
        self._version, self._status, self._lines = line[:8], status or 0, []
        self._fields_come = status is not None
        if status is None:
            self.fault = "the status line of the answer is not HTTP"
        elif self._status == _SWITCHING:  # whatever follows is of a protocol that we do not speak
            self.fault = "the partner switched to another protocol without being asked to"

    def take_body(self, piece: bytes) -> int:
        """One piece of the body. Returns how many bytes were taken; fewer than it has make libcurl end the transfer."""
        room = RESPONSE_CAP_BYTES - len(self._body)
        self._body += piece[:room]
        self.capped = len(piece) > room
        return min(len(piece), room)

    def answered(self, *, complete: bool = True) -> Answered:
        """The outcome, once all that is wanted has come, or with `complete` False all that will come."""
        return Answered(
            status=self._status,
            headers=received(self._lines),
            body=bytes(self._body),
            complete=complete and not self.capped,
            capped=self.capped,
        )
