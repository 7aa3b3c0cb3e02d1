"""Client certificates at the door: what is refused, all of it at once, and what is shown of what is not."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from domain.certificates import ClientCertificate
from egress.certificates import PemFaultsError, client_certificate, facts_of_der, roots_faults
from tests.egress.authorities import Authority, encrypted, unencrypted

DAY = timedelta(days=1)
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("authority"))


def faults(certificate: str, key: str, passphrase: str | None = None) -> list[tuple[str, str]]:
    with pytest.raises(PemFaultsError) as caught:
        client_certificate(certificate, key, passphrase, now=datetime.now(UTC))
    assert not key or key not in str(caught.value)
    return [(fault.member, fault.detail) for fault in caught.value.faults]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
        ed448.Ed448PrivateKey.generate,
    ],
)
def test_a_certificate_and_its_key_are_taken(authority: Authority, make: type) -> None:
    key = make()
    certificate, pem = authority.client("acme", key=key)
    for text, passphrase in ((pem, None), (encrypted(key, "pass phrase"), "pass phrase")):
        stored, shown = client_certificate(certificate, text, passphrase, now=datetime.now(UTC))
        assert stored == ClientCertificate(chain=certificate, key=unencrypted(key))
        assert (shown.subject, shown.issuer) == ("CN=acme", "CN=tests")
        assert pem not in repr(stored)


def test_what_is_shown_is_what_openssl_says(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.client("acme")
    _, shown = client_certificate(certificate, key, None, now=datetime.now(UTC))
    file = tmp_path / "certificate.pem"
    file.write_text(certificate)
    fields = ["-serial", "-fingerprint", "-sha256", "-startdate", "-enddate", "-dateopt", "iso_8601"]
    said = subprocess.run(
        ["openssl", "x509", "-in", str(file), "-noout", *fields], capture_output=True, text=True, check=True
    ).stdout.lower()
    values = [line.partition("=")[2] for line in said.splitlines()]
    assert [f"{int(values[0], 16):x}", values[1].replace(":", "")] == [shown.serial_number, shown.sha256]
    assert values[2:] == [f"{moment:%Y-%m-%d %H:%M:%S}z" for moment in (shown.not_before, shown.not_after)]


def test_a_chain_is_stored_with_the_certificate_of_the_key_first(authority: Authority) -> None:
    certificate, key = authority.client("acme")
    roots = authority.roots.read_text()
    stored, shown = client_certificate(certificate + roots, key, None, now=datetime.now(UTC))
    assert (stored.chain, shown.subject) == (certificate + roots, "CN=acme")
    assert faults(roots + certificate, key) == [
        ("certificate", "1 was not issued by the next one: the chain is out of order"),
        ("certificate", "must begin with that of the key, which is number 2"),
    ]


def test_each_fault_is_named(authority: Authority) -> None:
    certificate, key = authority.client("acme")
    of_another = authority.client("acme")[1]
    expired, key_of_expired = authority.client("acme", starts_in=-3 * DAY)
    early, key_of_early = authority.client("acme", starts_in=DAY)
    unreadable = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    secret = encrypted(ec.generate_private_key(ec.SECP256R1()), "right")

    assert faults(certificate, of_another) == [("key", "is not the key of the certificate")]
    ((member, detail),) = faults(expired, key_of_expired)
    assert (member, detail[:10]) == ("certificate", "1 expired ")
    ((member, detail),) = faults(early, key_of_early)
    assert (member, detail[:21]) == ("certificate", "1 is not valid before")
    for text in ("", "no PEM", unreadable, certificate[:-40]):
        assert faults(text, key) == [("certificate", "is not one or more certificates in PEM")]
    for text in ("", "no PEM", certificate, key[:60]):
        assert faults(certificate, text) == [("key", "is not a private key in PEM")]
    assert faults(certificate, secret) == [("passphrase", "is missing: the key is encrypted")]
    assert faults(certificate, secret, "wrong") == [("key", "cannot be read with this passphrase")]
    assert faults(certificate, key, "needless") == [("passphrase", "must be left out: the key is not encrypted")]
    assert faults(certificate * 11, key) == [("certificate", "has more than 10 certificates")]
    assert faults(certificate, key + " " * 10 + "x" * 5000) == [("key", "has more than 4,500 characters")]


def test_all_faults_come_at_once(authority: Authority) -> None:
    expired, _ = authority.client("acme", starts_in=-3 * DAY)
    found = faults(expired + authority.roots.read_text(), unencrypted(WEAK_RSA))
    assert [member for member, _ in found] == ["key", "certificate"]
    found = faults("no PEM", encrypted(ec.generate_private_key(ec.SECP256R1()), "right"))
    assert [member for member, _ in found] == ["certificate", "passphrase"]
    found = faults(expired, authority.client("acme")[1])
    assert [member for member, _ in found] == ["certificate", "key"]


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        (WEAK_RSA, "has 1024 bits; an RSA key must have 2048 to 4096"),
        (ec.generate_private_key(ec.SECP256K1()), "is on another curve than P-256, P-384 and P-521"),
        (ec.generate_private_key(ec.SECP192R1()), "is on another curve than P-256, P-384 and P-521"),
        (dsa.generate_private_key(2048), "is not a key for RSA, ECDSA, Ed25519 or Ed448"),
    ],
)
def test_weak_and_unusual_keys_are_refused(
    authority: Authority, key: CertificateIssuerPrivateKeyTypes, detail: str
) -> None:
    certificate, _ = authority.client("acme")
    assert ("key", detail) in faults(certificate, unencrypted(key))


def test_a_certificate_by_a_broken_hash_is_refused(authority: Authority, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for name, text in (("ca.key", unencrypted(authority.key)), ("key", unencrypted(key))):
        (tmp_path / name).write_text(text)
    asked = ["openssl", "req", "-new", "-key", str(tmp_path / "key"), "-subj", "/CN=acme"]
    request = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    signed = ["openssl", "x509", "-req", "-sha1", "-days", "2", "-CA", str(authority.roots)]
    certificate = subprocess.run(
        [*signed, "-CAkey", str(tmp_path / "ca.key")], input=request, capture_output=True, text=True, check=True
    ).stdout
    assert faults(certificate, unencrypted(key)) == [
        ("certificate", "1 is signed with sha1, which is not accepted any more")
    ]


def test_a_key_that_takes_long_to_decrypt_is_not_decrypted(authority: Authority) -> None:
    certificate, _ = authority.client("acme")
    command = "openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 1000001 -passout pass:right"
    slow = subprocess.run(
        command.split(), input=unencrypted(ec.generate_private_key(ec.SECP256R1())), capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    assert faults(certificate, slow, "right") == [("key", "is encrypted with more than 1,000,000 rounds")]


@pytest.mark.parametrize("body", ["", "A", "MA==", "MIH//////w==", "////", "MIIBAAICAgIC"])
def test_an_encrypted_key_that_is_none_is_not_readable(authority: Authority, body: str) -> None:
    certificate, _ = authority.client("acme")
    text = f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    assert faults(certificate, text, "right") == [("key", "cannot be read with this passphrase")]


def test_roots_are_one_or_more_certificates_that_have_not_expired(authority: Authority) -> None:
    roots, now = authority.roots.read_text(), datetime.now(UTC)
    assert roots_faults(roots * 2, now=now) == []
    assert roots_faults("", now=now) == ["is not one or more certificates in PEM"]
    assert roots_faults(roots * 51, now=now) == ["has more than 50 certificates"]
    (fault,) = roots_faults(roots, now=now + 365 * DAY)
    assert fault.startswith("1 expired at ")


def test_a_name_that_somebody_chose_is_one_line_of_text(authority: Authority) -> None:
    certificate, key = authority.client("a\r\nb\x1b")
    _, shown = client_certificate(certificate, key, None, now=datetime.now(UTC))
    assert shown.subject.isprintable()


def test_what_a_partner_shows_is_described_where_it_can_be_read(authority: Authority) -> None:
    der = authority.certificate.public_bytes(serialization.Encoding.DER)
    shown = facts_of_der(der)
    assert shown is not None
    assert replace(shown, sha256="").subject == "CN=tests"
    assert facts_of_der(b"") is None
    assert facts_of_der(der[:100]) is None
