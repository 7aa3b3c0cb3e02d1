"""Third parties: HTTPS servers that log who calls, and refuse everyone who is not on their allowlist."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address

from lab.kernel.apply import Lab
from lab.model.world import HTTPS
from lab.programs.authority import Certificate
from local.partner import Call, Partner, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request as the third party got it, and the status of its response. `key` is the idempotency key."""

    source: IPv4Address
    method: str
    path: str
    status: int | None
    key: str


class ThirdParty(Partner):
    """`host` is its namespace. Answers 403 to every address that `admits` refuses."""

    def __init__(
        self, lab: Lab, host: str, address: IPv4Address, certificate: Certificate, admits: Callable[[IPv4Address], bool]
    ) -> None:
        self.host, self.address = host, address
        self.visits: list[Visit] = []
        self._admits = admits
        with lab.inside(host):
            super().__init__(port=HTTPS, report=_quiet, address=str(address), tls=certificate.server())
        self.start()

    def reply(self, call: Call) -> Reply:
        """Log the visit and its response."""
        source = IPv4Address(call.source)
        reply = self.welcome(call) if self._admits(source) else _refused(source)
        self.visits.append(
            Visit(source=source, method=call.method, path=call.path, status=reply.status, key=call.idempotency_key)
        )
        return reply

    def welcome(self, call: Call) -> Reply:
        """The response for an admitted caller."""
        return super().reply(call)


class Echo(ThirdParty):
    """Answers with the caller's address in plain text, as checkip.amazonaws.com does."""

    def welcome(self, call: Call) -> Reply:
        return Reply(status=HTTPStatus.OK, content=f"{call.source}\n")


def _refused(source: IPv4Address) -> Reply:
    return Reply(status=HTTPStatus.FORBIDDEN, content={"detail": f"{source} is not on the list"})


def _quiet(line: str) -> None:
    """`visits` has all of it."""
