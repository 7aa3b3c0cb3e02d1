"""One request from its start to its end, and the outcome that follows from how it ended."""

import math
import os
from dataclasses import replace

import pycurl

from domain.masks import masked_text
from domain.outcomes import Answered, Exchange, FailedStep, Outcome, Refused, Timings, Unknown, Unreachable
from egress.connection_policy import ConnectionPolicy, PinnedRoute, new_handle
from egress.engine import Ended
from egress.headers import storable
from egress.request import OutboundRequest, PendingRequest, set_request
from egress.response import Response
from egress.tls import HandshakeFailure

_LONGEST_DETAIL = 200
# What we refuse: a bad certificate (E_SSL_PEER_CERTIFICATE by its other name), and a key that is none of the pins.
_TLS_REFUSALS = frozenset({pycurl.E_SSL_CACERT, pycurl.E_SSL_PINNEDPUBKEYNOTMATCH})
# And a failed handshake, or roots or a certificate of ours that OpenSSL does not accept.
_TLS_FAILURES = _TLS_REFUSALS | {
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_CIPHER,
    pycurl.E_BAD_FUNCTION_ARGUMENT,  # a key that is not the certificate's
}
# CURLE_HTTP2_STREAM and CURLE_TOO_LARGE, for which pycurl has no names
_HTTP2_STREAM = 92
_TOO_LARGE = 100
_BROKEN = {
    pycurl.E_OK: "the connection was closed in the middle of the answer",  # before the headers were whole
    pycurl.E_GOT_NOTHING: "the connection was closed before any answer",
    pycurl.E_PARTIAL_FILE: "the connection was closed in the middle of the answer",
    pycurl.E_SEND_ERROR: "the connection broke while the request was being sent",
    pycurl.E_RECV_ERROR: "the connection broke before the answer was complete",
    pycurl.E_HTTP2: "the HTTP/2 connection broke before the answer was complete",
    _HTTP2_STREAM: "the HTTP/2 stream was reset before the answer was complete",
    # A reused connection broke, and libcurl's attempt to send everything again failed or was stopped.
    pycurl.E_ABORTED_BY_CALLBACK: "the connection broke before any answer",
    pycurl.E_COULDNT_CONNECT: "the connection broke before any answer",
    pycurl.E_SSL_CONNECT_ERROR: "the connection broke before any answer",
    pycurl.E_UNSUPPORTED_PROTOCOL: "the answer is not HTTP",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "the answer is not HTTP",
    _TOO_LARGE: "the headers of the answer are too long",
}
_CLOSED_AFTER_ASKING = "the connection was closed after a handshake in which the partner asked for a certificate"
# What E_RECV_ERROR means, by libcurl's own text; where its words change, the reason says less and is still true.
_RECEIVED = (
    ("Connection reset by peer", "the connection was reset before the answer was complete"),
    ("chunk", "the chunked coding of the answer is malformed"),
    ("Too large response headers", "the headers of the answer are too long"),  # all of them, interim answers included
)


class Transfer:
    """One request, and in the end its `exchange`. All moments are monotonic seconds.

    `may_be_sent` says that libcurl was given it, so that some of it may have been sent. `pending` is what it waits for
    before that; None where it waits for nothing, or no longer.
    """

    def __init__(self, wanted: OutboundRequest | PendingRequest, *, started_at: float) -> None:
        self.pending = wanted if isinstance(wanted, PendingRequest) else None
        self.request = wanted.draft if isinstance(wanted, PendingRequest) else wanted
        self.started_at = started_at
        self.wait_until = math.inf
        self.may_be_sent = False
        self.exchange: Exchange | None = None
        self.end_by = started_at + self.request.timeouts.total_seconds  # whatever it waits for

    @property
    def connect_seconds(self) -> float:
        """How long it may take to have a connection, name lookup and TLS included."""
        timeouts = self.request.timeouts
        return min(timeouts.connect_seconds, timeouts.first_byte_seconds, timeouts.total_seconds)

    @property
    def connect_by(self) -> float:
        """When there must be a connection."""
        return min(self.started_at + self.connect_seconds, self.end_by)

    def await_pending(self, pending: PendingRequest, *, now: float) -> None:
        """It waits for `pending` from now on, as it has not been sent, or has for nothing."""
        self.pending = pending
        self.exchange = None
        self.may_be_sent = False
        self.wait_until = min(now + pending.within_seconds, self.end_by)

    def restart(self, request: OutboundRequest, *, now: float) -> None:
        """What it waited for has come: its time to connect and to the first byte begins now."""
        self.pending = None
        self.request = request
        self.started_at = now

    def end_unsent(self, outcome: Outcome, *, now: float) -> None:
        """Ends a transfer that libcurl was not given, or that was taken from it."""
        self.exchange = Exchange(outcome=outcome, timings=Timings(total_ms=_since(self.started_at, now)))


class Run:
    """A transfer on a libcurl handle. With `fresh` it uses a new connection."""

    def __init__(self, transfer: Transfer, route: PinnedRoute, *, now: float, fresh: bool) -> None:
        self.transfer = transfer
        self.route = route
        self.handle = new_handle(route.roots)
        self._began_at = now
        self._policy = ConnectionPolicy(route)
        self._response = Response()
        self._set(fresh=fresh)

    @property
    def answer_by(self) -> float:
        """When the answer must have begun; once it has, when all of it must be there."""
        if self._response.begun:
            return self.transfer.end_by
        return min(self.transfer.end_by, self.transfer.started_at + self.transfer.request.timeouts.first_byte_seconds)

    @property
    def connection_was_stale(self) -> bool:
        """Whether it ended before anything was sent, because the reused connection could not be used any more."""
        return self._policy.stale

    def end(self, ended: Ended, *, now: float) -> None:
        """Ends the transfer, which libcurl has finished, or which was taken from it because it was late."""
        self.transfer.exchange = Exchange(
            outcome=_with_secrets_masked(self.transfer.request.secrets, self._outcome(ended)),
            timings=self._timings(now=now),
            remote_address=self._policy.reached or self._peer(),
        )
        self._policy.ended(self.handle)
        self.handle.close()

    def _set(self, *, fresh: bool) -> None:
        self._policy.set(self.handle, fresh=fresh)
        set_request(self.handle, self.transfer.request)
        set_option = self.handle.setopt
        set_option(pycurl.CONNECTTIMEOUT_MS, _milliseconds(self.transfer.connect_by - self._began_at))
        set_option(pycurl.TIMEOUT_MS, _milliseconds(self.transfer.end_by - self._began_at))
        set_option(pycurl.HEADERFUNCTION, self._response.take_header)
        set_option(pycurl.WRITEFUNCTION, self._response.take_body)

    def _outcome(self, ended: Ended) -> Outcome:
        if self._response.capped or (ended.code == pycurl.E_OK and self._response.has_status):
            return self._response.answered()
        if _ended_without_close_notify(ended) and self._response.ends_with_connection:
            return self._response.answered(complete=False)
        if self._policy.not_processed and not self._response.begun:
            return Unreachable(reason="the partner refused the HTTP/2 stream before it did anything")
        if self._policy.refused_by_partner and not self._response.begun:
            return self._without_tls(self._why_no_tls(ended))
        if self.handle.getinfo(pycurl.REQUEST_SIZE):  # bytes written, over all connections that were tried
            return Unknown(reason=self._why_unknown(ended))
        if self._policy.unchecked is not None:
            return Refused(reason=f"the name led to {self._policy.unchecked}, which was not checked")
        return self._unreachable(ended)

    def _why_unknown(self, ended: Ended) -> str:
        if self._response.fault is not None:
            return self._response.fault
        if ended.code != pycurl.E_OPERATION_TIMEDOUT:
            return _why_broken(ended)
        timeouts = self.transfer.request.timeouts
        if self._response.begun or timeouts.first_byte_seconds >= timeouts.total_seconds:
            return f"no complete answer within {timeouts.total_seconds:.3g} s"
        return f"no answer within {timeouts.first_byte_seconds:.3g} s"

    def _unreachable(self, ended: Ended) -> Unreachable:
        if ended.code == pycurl.E_OPERATION_TIMEDOUT:
            why = f"no connection within {self.transfer.connect_seconds:.3g} s"
            if self._stood:
                return self._without_tls(HandshakeFailure(reason=why, step=FailedStep.TLS))
            return self._unconnected(why)
        if ended.code in _TLS_FAILURES:
            return self._without_tls(self._why_no_tls(ended))
        if self._policy.handshake.asked:
            return self._without_tls(self._policy.handshake.failure(_CLOSED_AFTER_ASKING, ours=False))
        number = self.handle.getinfo(pycurl.OS_ERRNO)
        why = f"no connection: {os.strerror(number)}" if number else "no connection"
        if self._stood:
            return self._without_tls(HandshakeFailure(reason=why, step=FailedStep.TLS))
        return self._unconnected(why)

    @property
    def _stood(self) -> bool:
        """Whether there was a connection, and TLS was not agreed."""
        return self.route.encrypted and bool(self.handle.getinfo(pycurl.CONNECT_TIME))

    def _unconnected(self, reason: str) -> Unreachable:
        return Unreachable(reason=reason, at=FailedStep.CONNECTION, towards=str(self.route.addresses[0]))

    def _without_tls(self, failure: HandshakeFailure) -> Unreachable:
        towards = str(self.route.addresses[0])
        return Unreachable(reason=failure.reason, at=failure.step, towards=towards, shown=failure.shown)

    def _why_no_tls(self, ended: Ended) -> HandshakeFailure:
        detail = storable(ended.detail.encode("latin-1", "replace"))[:_LONGEST_DETAIL]
        return self._policy.handshake.failure(detail, ours=ended.code in _TLS_REFUSALS)

    def _timings(self, *, now: float) -> Timings:
        waited_ms = _since(self.transfer.started_at, self._began_at)
        first_byte = self.handle.getinfo(pycurl.STARTTRANSFER_TIME) if self._response.begun else 0
        return Timings(
            dns_ms=waited_ms,
            connect_ms=_after(waited_ms, self.handle.getinfo(pycurl.CONNECT_TIME)),
            tls_ms=_after(waited_ms, self.handle.getinfo(pycurl.APPCONNECT_TIME)) if self.route.encrypted else None,
            first_byte_ms=_after(waited_ms, first_byte),
            total_ms=_since(self.transfer.started_at, now),
        )

    def _peer(self) -> str | None:
        """The other end of a connection that was made but not used, as when TLS fails."""
        connected = self.handle.getinfo(pycurl.CONNECT_TIME)
        return self.handle.getinfo(pycurl.PRIMARY_IP) or None if connected else None


def _why_broken(ended: Ended) -> str:
    texts = _RECEIVED if ended.code == pycurl.E_RECV_ERROR else ()
    known = next((reason for text, reason in texts if text in ended.detail), None)
    return known or _BROKEN.get(ended.code, "the answer cannot be read")


def _ended_without_close_notify(ended: Ended) -> bool:
    """Whether TLS ended without close_notify. Whoever ended it, what came before is authentic."""
    return ended.code == pycurl.E_RECV_ERROR and "unexpected eof while reading" in ended.detail


def _with_secrets_masked(secrets: tuple[str, ...], outcome: Outcome) -> Outcome:
    """`outcome` with a reason without secrets; an answer notes which are to be masked in it when it is stored."""
    if not secrets:
        return outcome
    if isinstance(outcome, Answered):
        return replace(outcome, secrets=secrets)
    return replace(outcome, reason=masked_text(outcome.reason, secrets))


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000 + 0.5))  # 0 would mean no limit


def _since(earlier: float, later: float) -> float:
    return (later - earlier) * 1000


def _after(waited_ms: float, seconds: float) -> float | None:
    """libcurl's time from its own start, as time from the attempt's; None where it is 0, which means not reached."""
    return waited_ms + seconds * 1000 if seconds else None
