"""The messages of a handshake, as libcurl's trace has them: read where they are whole, and never a cause of trouble."""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from egress.tls import Handshake
from tests.egress.authorities import Authority


@pytest.fixture(scope="module")
def der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    authority = Authority.new(tmp_path_factory.mktemp("authority"), name="bank")
    return authority.certificate.public_bytes(Encoding.DER)


def message(kind: int, content: bytes) -> bytes:
    return bytes((kind,)) + len(content).to_bytes(3) + content


def certificates_1_2(*ders: bytes) -> bytes:
    """RFC 5246 section 7.4.2."""
    listed = b"".join(len(der).to_bytes(3) + der for der in ders)
    return message(11, len(listed).to_bytes(3) + listed)


def certificates_1_3(*ders: bytes) -> bytes:
    """RFC 8446 section 4.4.2, without extensions."""
    listed = b"".join(len(der).to_bytes(3) + der + b"\0\0" for der in ders)
    return message(11, b"\0" + len(listed).to_bytes(3) + listed)


REQUEST, FINISHED = message(13, b"\0" * 8), message(20, b"f" * 32)


def alert(number: int, level: int = 2) -> bytes:
    return bytes((level, number))


@pytest.mark.parametrize("listed", [certificates_1_2, certificates_1_3])
def test_the_first_certificate_is_the_one_that_was_shown(der: bytes, listed: object) -> None:
    assert callable(listed)
    handshake = Handshake()
    handshake.read(listed(der, b"another"))
    assert handshake.failure("bad", ours=True).reason.startswith(
        "TLS: we refused the partner's certificate: bad; it showed CN=bank, issued by CN=bank, valid "
    )


@pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 3, b"\0" * 7, b"\0\0\3abc", b"\0\0\0\6\0\0\3xyz"])
def test_a_certificate_that_cannot_be_read_is_said_to_be_one(content: bytes) -> None:
    handshake = Handshake()
    handshake.read(message(11, content))
    said = handshake.failure("bad", ours=True).reason.removeprefix("TLS: we refused the partner's certificate: bad")
    assert said in {"", "; it showed a certificate that cannot be read"}


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), max_size=8))
def test_no_message_is_a_cause_of_trouble(messages: list[tuple[bool, bytes]]) -> None:
    handshake = Handshake()
    for comes_in, content in messages:
        (handshake.read if comes_in else handshake.sent)(content)
    assert handshake.failure("x", ours=False).reason.startswith("TLS: ")


@given(st.binary(min_size=1, max_size=200))
def test_no_certificate_is_a_cause_of_trouble(content: bytes) -> None:
    handshake = Handshake()
    handshake.read(certificates_1_3(content))
    assert handshake.failure("x", ours=True).reason.startswith("TLS: we refused")


@pytest.mark.parametrize(
    ("number", "about_us"), [(40, True), (42, True), (46, True), (48, True), (116, True), (70, False), (80, False)]
)
def test_only_an_alert_about_our_certificate_refuses_it(number: int, about_us: bool) -> None:
    handshake = Handshake()
    handshake.read(REQUEST)
    handshake.sent(FINISHED)
    handshake.read(alert(number))
    assert handshake.refused_us is about_us
    assert handshake.failure("", ours=False).reason.startswith("TLS: the partner refused us: ")


def test_a_farewell_is_no_refusal() -> None:
    handshake = Handshake()
    handshake.read(alert(0, level=1))
    assert not handshake.refused_us
    assert handshake.failure("why", ours=False).reason == "TLS: why"


def test_a_partner_that_asks_for_a_certificate_only_after_the_request_may_have_acted() -> None:
    handshake = Handshake()
    handshake.sent(FINISHED)
    handshake.read(REQUEST)
    handshake.read(alert(116))
    assert not handshake.refused_us


def test_an_alert_without_a_name_is_named_by_its_number() -> None:
    handshake = Handshake()
    handshake.read(alert(200))
    assert handshake.failure("", ours=False).reason == "TLS: the partner refused us: alert 200"
