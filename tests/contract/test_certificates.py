"""The root certificates that the functions verify the database with."""

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.project import ROOT

BUNDLE = ROOT / "src/certs/rds-global-bundle.pem"
NOTICE = timedelta(days=365)


def _roots() -> list[Any]:
    """As OpenSSL takes them, which is what psycopg asks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=BUNDLE)
    return context.get_ca_certs()


def _name(root: Any) -> str:
    return " ".join(value for entry in root["subject"] for key, value in entry if key == "commonName")


def test_the_bundle_says_where_it_comes_from() -> None:
    assert "Origin:" in BUNDLE.read_text(encoding="utf-8")[:600]


def test_every_certificate_of_the_bundle_is_taken_once() -> None:
    assert len(_roots()) == BUNDLE.read_text(encoding="utf-8").count("BEGIN CERTIFICATE") > 80


@pytest.mark.parametrize("root", _roots(), ids=_name)
def test_a_root_is_one_and_good_for_another_year(root: Any) -> None:
    """A year's notice to run `make certs` and deploy."""
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(root["notAfter"]), UTC)
    assert root["issuer"] == root["subject"]
    assert ends - NOTICE > datetime.now(UTC)
