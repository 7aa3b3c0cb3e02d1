"""TLS of one request: what libcurl is told, and why a handshake failed in words that help.

libcurl says only that a certificate was refused, or which alert came. Its trace has the messages of the handshake
(RFC 8446 section 4, RFC 5246 section 7.4), from which this takes the certificate that the partner showed, the alert,
and whether it came in answer to our certificate.
"""

from dataclasses import field

import pycurl

from domain.certificates import CertificateFacts, ClientCertificate, TlsOptions, TlsVersion
from domain.outcomes import FailedStep
from domain.values import value_class
from runtime.isolation import isolated

_VERSIONS = {TlsVersion.TLS_1_2: pycurl.SSLVERSION_TLSv1_2, TlsVersion.TLS_1_3: pycurl.SSLVERSION_TLSv1_3}
# Handshake messages (RFC 8446 section 4)
_CERTIFICATE = 11
_CERTIFICATE_REQUEST = 13
_FINISHED = 20
_FATAL = 2
_HEAD_BYTES = 4  # of a handshake message: its type, and its length in three bytes
_ALERT_BYTES = 2
# RFC 8446 section 6, with the older names of RFC 5246 section 7.2
_ALERTS = {
    10: "unexpected message",
    20: "bad record MAC",
    22: "record overflow",
    40: "handshake failure",
    42: "bad certificate",
    43: "unsupported certificate",
    44: "certificate revoked",
    45: "certificate expired",
    46: "certificate unknown",
    47: "illegal parameter",
    48: "unknown CA",
    49: "access denied",
    50: "decode error",
    51: "decrypt error",
    70: "protocol version",
    71: "insufficient security",
    80: "internal error",
    86: "inappropriate fallback",
    109: "missing extension",
    110: "unsupported extension",
    112: "unrecognized name",
    115: "unknown PSK identity",
    116: "certificate required",
    120: "no application protocol",
}
# Alerts about our certificate, or that there was none
_ABOUT_CERTIFICATE = frozenset({40, 42, 43, 44, 45, 46, 48, 49, 51, 116})


@value_class(frozen=True, slots=True, kw_only=True)
class RequestTls:
    """What one request needs of TLS beside what all do: the destination's options, and a certificate of ours."""

    options: TlsOptions = field(default_factory=TlsOptions)
    certificate: ClientCertificate | None = None


def set_tls(handle: pycurl.Curl, tls: RequestTls) -> None:
    """Gives libcurl certificates, roots and pins, none of which is ever a file."""
    handle.setopt(pycurl.SSLVERSION, _VERSIONS[tls.options.minimum_version])
    if tls.options.ca is not None:
        handle.unsetopt(pycurl.CAPATH)
        handle.setopt(pycurl.CAINFO_BLOB, tls.options.ca.encode())  # instead of CAINFO
    if tls.options.pins:
        handle.setopt(pycurl.PINNEDPUBLICKEY, ";".join(pin.replace("/", "//", 1) for pin in tls.options.pins))
    if tls.certificate is not None:
        handle.setopt(pycurl.SSLCERT_BLOB, tls.certificate.chain.encode())
        handle.setopt(pycurl.SSLKEY_BLOB, tls.certificate.key.encode())
        handle.setopt(pycurl.SSL_SESSIONID_CACHE, 0)  # a resumed session would go on with the certificate it began with


class Handshake:
    """What a new connection's handshake consisted of, so far as it explains a failure.

    `asked` says that the partner asked for a certificate.
    """

    def __init__(self) -> None:
        self._shown = b""
        self._alert: int | None = None
        self._finished = False
        self._asked_late = False
        self.asked = False

    def read(self, message: bytes) -> None:
        """A piece of libcurl's trace that came in (INFOTYPE_SSL_DATA_IN)."""
        if len(message) == _ALERT_BYTES and message[0] == _FATAL:
            self._alert = message[1]
        elif _is_message(message, _CERTIFICATE):
            self._shown = message[_HEAD_BYTES:]
        elif _is_message(message, _CERTIFICATE_REQUEST):
            self.asked = True
            self._asked_late = self._asked_late or self._finished

    def sent(self, message: bytes) -> None:
        """A piece that went out (INFOTYPE_SSL_DATA_OUT)."""
        self._finished = self._finished or _is_message(message, _FINISHED)

    @property
    def refused_us(self) -> bool:
        """Whether the partner refused our certificate, or that there was none, before the handshake was over for it.

        In TLS 1.3 that comes when ours is over and the request is on its way. It is never processed: the partner's
        handshake ends only with our certificate (RFC 8446 sections 4.4.2.4 and 4.4.4). That does not hold where it
        asked for one later, after a request (section 4.6.2).
        """
        return self._alert in _ABOUT_CERTIFICATE and not self._asked_late

    def failure(self, detail: str, *, ours: bool) -> "HandshakeFailure":
        """Why it failed: which side refused, in `detail` or by its alert, and the certificate that was shown.

        `ours` says that libcurl refused the partner's certificate.
        """
        if ours:
            why, step = f"we refused the partner's certificate: {detail}", FailedStep.TLS_REFUSED_BY_US
        elif self._alert is not None:
            why = f"the partner refused us: {_ALERTS.get(self._alert, f'alert {self._alert}')}"
            step = FailedStep.TLS_REFUSED_BY_PARTNER
        else:
            why, step = detail, FailedStep.TLS
        shown = self._certificate()
        return HandshakeFailure(reason=f"TLS: {why}{self._in_words(shown)}", step=step, shown=shown)

    def _certificate(self) -> CertificateFacts | None:
        if not self._shown:
            return None
        from egress.certificates import facts_of_der  # for a failure alone, which no cold start should wait for

        return isolated(lambda: facts_of_der(_first(self._shown)), otherwise=lambda _: None, step="certificate")

    def _in_words(self, shown: CertificateFacts | None) -> str:
        if not self._shown:
            return ""
        return "; it showed a certificate that cannot be read" if shown is None else f"; it showed {_words(shown)}"


@value_class(frozen=True, slots=True, kw_only=True)
class HandshakeFailure:
    """Why TLS failed, in words; which side refused, if either did; and the certificate that the partner showed."""

    reason: str
    step: FailedStep
    shown: CertificateFacts | None = None


def _is_message(message: bytes, kind: int) -> bool:
    """Whether this is one whole handshake message of this type. The trace has heads of records and other pieces too."""
    head, content = message[:_HEAD_BYTES], message[_HEAD_BYTES:]
    return len(head) == _HEAD_BYTES and head[0] == kind and int.from_bytes(head[1:]) == len(content)


def _first(certificates: bytes) -> bytes:
    """The first certificate of a Certificate message: in TLS 1.3 a context, empty here, precedes the list."""
    at = 1 if certificates[0] == 0 and int.from_bytes(certificates[1:4]) == len(certificates) - 4 else 0
    length = int.from_bytes(certificates[at + 3 : at + 6])
    return certificates[at + 6 : at + 6 + length]


def _words(shown: CertificateFacts) -> str:
    until = f"{shown.not_before:%Y-%m-%d} to {shown.not_after:%Y-%m-%d}"
    return f"{shown.subject or 'a certificate'}, issued by {shown.issuer}, valid {until}, SHA-256 {shown.sha256}"
