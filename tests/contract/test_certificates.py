"""The root certificates that the functions verify the database with."""

import os
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
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


# A curl that answers with as many certificates as each of AWS's bundles has, and writes what it was asked for.
CURL = """#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" = --output ] && out=$2; shift; done
case $1 in *us-gov*|*.com.cn/*) count=6 ;; *) count=108 ;; esac
for _ in $(seq $count); do echo "-----BEGIN CERTIFICATE-----"; done >"$out"
"""


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("", "//truststore.pki.rds.amazonaws.com/"),
        ("il-central-1", "//truststore.pki.rds.amazonaws.com/"),
        ("us-gov-east-1", "//truststore.pki.us-gov-west-1.rds.amazonaws.com/"),
        ("cn-northwest-1", "//rds-truststore.s3.cn-north-1.amazonaws.com.cn/"),
    ],
)
def test_each_part_of_aws_has_its_own_bundle(tmp_path: Path, region: str, host: str) -> None:
    """The one of most Regions has no root of GovCloud's or China's, so fetching it would change nothing there."""
    bundle, curl = tmp_path / "bundle.pem", tmp_path / "curl"
    curl.write_text(CURL, encoding="utf-8")
    curl.chmod(0o755)
    command = [str(ROOT / "tools/fetch-certs"), str(bundle), region]
    done = subprocess.run(
        command,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert host in bundle.read_text(encoding="utf-8")
