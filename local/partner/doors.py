"""The ports of the partner. What goes wrong before a request was read goes wrong at a port of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ssl import SSLContext

from local.partner.authority import KeyPair, PartnerAuthority, server_context

NAMES = ("127.0.0.1", "localhost", "partner.localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """`accepts` is whether connections come about, `shakes_hands` whether a TLS handshake
    that began goes on. `tls` is None for a port without TLS."""

    name: str
    about: str
    tls: SSLContext | None = None
    accepts: bool = True
    shakes_hands: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Everything that the partner made at its start. `clients` are what callers may show, by name."""

    authority: PartnerAuthority = field(default_factory=PartnerAuthority)
    stranger: PartnerAuthority = field(default_factory=lambda: PartnerAuthority("Nobody knows this CA"))
    clients: dict[str, KeyPair] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clients["client"] = self.authority.client("demo-client")
        self.clients["other-client"] = self.authority.client("other-client")
        self.clients["expired-client"] = self.authority.client("expired-client", expired=True)
        self.clients["unknown-client"] = self.stranger.client("unknown-client")

    def files(self) -> Mapping[str, bytes]:
        """PEM files by name; the clients' have certificate and key."""
        pairs = {f"{name}.pem": pair.certificate_pem + pair.key_pem for name, pair in self.clients.items()}
        return {"ca.pem": self.authority.certificate_pem, **pairs}


def tls_doors(certificates: Certificates) -> list[Door]:
    """Each port with TLS, in the order of their numbers."""
    ours, stranger = certificates.authority, certificates.stranger
    good = server_context(ours.server(*NAMES))
    return [
        Door(name="tls", about="a good certificate of the partner's CA", tls=good),
        Door(
            name="mtls",
            about="demands a client certificate of the partner's CA",
            tls=server_context(ours.server(*NAMES), clients_of=ours),
        ),
        Door(
            name="expired",
            about="its certificate has expired",
            tls=server_context(ours.server(*NAMES, expired=True)),
        ),
        Door(
            name="wrong-name",
            about="its certificate is for partner.example",
            tls=server_context(ours.server("partner.example")),
        ),
        Door(
            name="unknown-ca",
            about="its certificate is from a CA that nobody knows",
            tls=server_context(stranger.server(*NAMES)),
        ),
        Door(name="tls-hangs", about="takes connections and never answers the handshake", tls=good, shakes_hands=False),
        Door(name="accept-hangs", about="its queue is full: no connection comes about", accepts=False),
    ]
