"""Commands of the documents that need nothing but a file: what they print is what their page says."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from tests.support.documents import ROOT
from tests.support.terminal import Terminal


def test_the_command_for_a_pin_prints_the_hash_of_the_certificates_key(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "partner.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    (tmp_path / "partner.pem").write_bytes(certificate)
    pin = Terminal(directory=tmp_path).types("docs/credentials.md", "openssl x509 -in partner.pem").strip()
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert pin == base64.b64encode(hashlib.sha256(spki).digest()).decode()


def test_the_command_for_a_functions_last_definition_names_one() -> None:
    found = Terminal(directory=ROOT).types("docs/migrations.md", "grep -l")
    assert "FUNCTION return_turns(" in (ROOT / found.strip()).read_text(encoding="utf-8")
