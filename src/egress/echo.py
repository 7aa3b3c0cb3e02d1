"""Asks an outside service which address our request came from, over the same path as deliveries."""

from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address

from domain.checks import NotObserved, Observation, Observed
from domain.destinations import Timeouts
from domain.outcomes import Answered
from egress.client import Client, OutboundRequest

TIMEOUTS = Timeouts(connect_seconds=3, first_byte_seconds=5, total_seconds=8)
_LONGEST_ANSWER_BYTES = 64  # an IPv6 address has 45 characters at most, and some services put blanks around


def observe(client: Client, url: str) -> Observation:
    """What the service at `url` answers: one address as plain text, such as https://checkip.amazonaws.com/ gives it.

    Over a new connection, since an earlier one may have left from another address. Whatever the service does, this
    returns a value.
    """
    headers = (("Accept", "text/plain"),)
    (exchange,) = client.send_all([OutboundRequest(method="GET", url=url, headers=headers, timeouts=TIMEOUTS)])
    outcome = exchange.outcome
    if not isinstance(outcome, Answered):
        return NotObserved(reason=f"the echo service gave no answer: {outcome.reason}")
    if outcome.status != HTTPStatus.OK:
        return NotObserved(reason=f"the echo service answered with status {outcome.status}")
    return _read(outcome.body)


def _read(body: bytes) -> Observation:
    """The address in the body. Anything else in it is not repeated: it comes from outside."""
    try:
        text = body.decode("ascii").strip() if len(body) <= _LONGEST_ANSWER_BYTES else ""
        return Observed(address=_plain(ip_address(text)))
    except ValueError:
        return NotObserved(reason="the echo service answered something that is not one address in plain text")


def _plain(address: IPv4Address | IPv6Address) -> str:
    """An IPv4 caller is ::ffff:203.0.113.10 to a server that listens on IPv6 for both (RFC 4291 section 2.5.5.2).

    Raises ValueError for a zone (fe80::1%eth0), which may be any text and means nothing outside of a machine.
    """
    if isinstance(address, IPv4Address):
        return str(address)
    if address.scope_id is not None:
        raise ValueError("an address with a zone")
    return str(address.ipv4_mapped or address)
