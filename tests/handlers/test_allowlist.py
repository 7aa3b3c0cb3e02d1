"""/v1/egress/allowlist: what a partner's network team needs, in three forms, signed over exactly the bytes sent."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from domain.checks import Check, CheckStatus
from egress.check_store import CheckStore
from egress.sealing import SealKey
from flows.check_egress import NO_FIXED_ADDRESS
from runtime.settings import CheckSettings
from tests.support.api import EGRESS_ADDRESSES, Functions, Reply, forget_services
from tests.support.browser import CHROMIUM, BrowserPage, browsing
from tests.support.gateway import REGION

ZONES, ADDRESSES = zip(*(pair.split("=") for pair in EGRESS_ADDRESSES.split(",")), strict=True)
PATH = "/v1/egress/allowlist"
NOTHING = {"contact": "", "addresses": "", "begins_on": ""}

type Announce = Callable[..., None]


@pytest.fixture
def store(refusing: Functions, ssm_url: str, monkeypatch: pytest.MonkeyPatch) -> CheckStore:
    """Where the checks and the announcement of this test are."""
    settings = CheckSettings(egress_results_path=f"/sallyport/{uuid4()}/egress", ssm_endpoint_url=ssm_url)
    monkeypatch.setenv("EGRESS_RESULTS_PATH", settings.egress_results_path)
    monkeypatch.setenv("SSM_ENDPOINT_URL", settings.ssm_endpoint_url)
    monkeypatch.setenv("ALLOWED_PORTS", "80,443,8080,8443")
    forget_services()
    return CheckStore(settings)


@pytest.fixture
def announce(store: CheckStore, ssm_url: str, aws_credentials: None) -> Announce:
    """Writes the parameter as the template does."""

    def write(value: str | None = None, **members: str) -> None:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        client = boto3.client("ssm", endpoint_url=ssm_url, region_name=REGION, **keys)
        name = f"{store._settings.egress_results_path}/allowlist"
        text = value if value is not None else json.dumps(NOTHING | members)
        client.put_parameter(Name=name, Value=text, Type="String", Overwrite=True)
        client.close()

    return write


def header(answer: Reply, name: str) -> str:
    value = answer.header(name)
    assert value is not None, name
    return value


def verify(answer: Reply, public_key: str) -> None:
    """Raises InvalidSignature unless the answer is signed with this key."""
    assert public_key.startswith("whpk_")
    version, _, signature = header(answer, "webhook-signature").partition(",")
    assert version == "v1a"
    content = f"{answer.header('webhook-id')}.{answer.header('webhook-timestamp')}.".encode() + answer.body
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    key.verify(base64.b64decode(signature), content)


def test_it_has_all_that_a_network_team_needs(refusing: Functions, store: CheckStore, announce: Announce) -> None:
    announce(contact="network@example.com", addresses="203.0.113.77,203.0.113.78", begins_on="2027-01-15")
    now = datetime.now(UTC)
    first = Check(
        published=ADDRESSES[0], verdict=CheckStatus.MATCHES, seen=ADDRESSES[0], checked_at=now, verified_at=now,
        since=now - timedelta(days=30),
    )  # fmt: skip
    store.store(ZONES[0], first)
    shown = refusing.api.get(PATH).json
    entry, other = shown["addresses"]
    assert (entry["address"], entry["cidr"]) == (ADDRESSES[0], f"{ADDRESSES[0]}/32")
    assert entry["availability_zones"] == [ZONES[0]]
    assert datetime.fromisoformat(entry["since"]) == first.since
    assert datetime.fromisoformat(entry["last_verified_at"]) == now
    assert (other["address"], other["since"], other["last_verified_at"]) == (ADDRESSES[1], None, None)
    assert (shown["ports"], shown["tls_versions"]) == ([80, 443, 8080, 8443], ["1.2", "1.3"])
    assert (shown["contact"], shown["reason"]) == ("network@example.com", None)
    assert shown["next_change"] == {
        "addresses": [
            {"address": "203.0.113.77", "cidr": "203.0.113.77/32"},
            {"address": "203.0.113.78", "cidr": "203.0.113.78/32"},
        ],
        "begins_on": "2027-01-15",
    }


def test_while_nothing_is_announced_it_says_so(refusing: Functions, announce: Announce) -> None:
    announce()
    shown = refusing.api.get(PATH).json
    assert (shown["contact"], shown["next_change"]) == (None, None)
    assert "Next change: none is announced" in refusing.api.get(PATH, headers=[("Accept", "text/plain")]).body.decode()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/json", "application/json"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
    ],
)
def test_exactly_the_bytes_that_are_sent_are_signed(
    refusing: Functions, announce: Announce, accept: str, content_type: str
) -> None:
    announce(contact="network@example.com")
    public_key = refusing.api.get(PATH).json["public_key"]
    answer = refusing.api.get(PATH, headers=[("Accept", accept)])
    assert header(answer, "content-type") == content_type
    assert header(answer, "vary") == "Accept"
    verify(answer, public_key)
    UUID(header(answer, "webhook-id"))
    with pytest.raises(InvalidSignature):
        verify(replace(answer, body=answer.body + b" "), public_key)


def test_the_key_is_the_stacks_own_and_another_one_than_that_which_seals(
    refusing: Functions, announce: Announce
) -> None:
    announce()
    keys = {refusing.api.get(PATH).json["public_key"] for _ in range(2)}
    assert len(keys) == 1
    one, other = SealKey.derived_from("a" * 32), SealKey.derived_from("b" * 32)
    assert one.allowlist_seed == SealKey.derived_from("a" * 32).allowlist_seed
    assert len({one.secret, one.allowlist_seed, other.allowlist_seed}) == 3
    assert len(one.allowlist_seed) == 32


def test_the_page_loads_and_runs_nothing(refusing: Functions, announce: Announce) -> None:
    announce(contact="ops (a/b), +1 555")
    answer = refusing.api.get(PATH, headers=[("Accept", "text/html")])
    policy, page = header(answer, "content-security-policy"), answer.body.decode()
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    for text in ("<script", "http://", "https://", "<link", "<img", " style="):
        assert text not in page
    assert "ops (a/b), +1 555" in page
    assert f"{ADDRESSES[0]}/32" in page


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("media", ["screen", "print"])
def test_the_page_is_readable_on_a_screen_and_on_paper(
    refusing: Functions, announce: Announce, tmp_path: Path, media: str
) -> None:
    announce(contact="network@example.com", addresses="203.0.113.77", begins_on="2027-01-15")
    (tmp_path / "page.html").write_bytes(refusing.api.get(PATH, headers=[("Accept", "text/html")]).body)
    with browsing(tmp_path / "browser") as browser:
        page = BrowserPage(browser, (tmp_path / "page.html").as_uri(), width=800, height=900)
        page.call("Emulation.setEmulatedMedia", media=media)
        assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.run("document.querySelectorAll('tbody tr').length") == len(ADDRESSES)
        assert page.run("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
        (tmp_path / f"{media}.png").write_bytes(page.picture())
        assert page.complaints() == []


def test_no_document_is_issued_while_the_announcement_cannot_be_read(
    refusing: Functions, store: CheckStore, announce: Announce, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that said 'no change' by mistake would be signed all the same."""
    announce("not JSON")
    answer = refusing.api.get(PATH)
    assert (answer.status, answer.json["type"]) == (503, "urn:sallyport:problem:unavailable")
    announce(begins_on="2027-02-31")
    assert refusing.api.get(PATH).status == 503
    monkeypatch.setenv("SSM_ENDPOINT_URL", "http://127.0.0.1:1")
    forget_services()
    assert refusing.api.get(PATH).status == 503


def test_a_stack_without_a_way_to_the_internet_has_none(refusing: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EGRESS_ADDRESSES", "EGRESS_ECHO_URL", "EGRESS_RESULTS_PATH"):
        monkeypatch.setenv(name, "")
    forget_services()
    shown = refusing.api.get(PATH)
    assert (shown.status, shown.json["addresses"], shown.json["reason"]) == (200, [], NO_FIXED_ADDRESS)
    for accept in ("text/plain", "text/html"):
        assert NO_FIXED_ADDRESS in refusing.api.get(PATH, headers=[("Accept", accept)]).body.decode()


def test_the_announcement_is_asked_for_once_in_a_while(store: CheckStore, announce: Announce) -> None:
    now = datetime.now(UTC)
    announce(contact="one")
    assert store.announcement(now=now).contact == "one"
    announce(contact="two")
    assert store.announcement(now=now + timedelta(seconds=29)).contact == "one"
    assert store.announcement(now=now + timedelta(seconds=30)).contact == "two"


def test_since_is_the_first_check_of_an_address_and_begins_again_with_another_one() -> None:
    from domain.checks import NotObserved, Observed, checked

    begun = datetime(2026, 11, 1, tzinfo=UTC)
    first: Any = checked(NotObserved(reason="x"), published="192.0.2.1", previous=None, now=begun)
    later = checked(Observed(address="192.0.2.1"), published="192.0.2.1", previous=first, now=begun + timedelta(days=1))
    other = checked(Observed(address="192.0.2.2"), published="192.0.2.2", previous=later, now=begun + timedelta(days=2))
    assert (first.since, later.since, other.since) == (begun, begun, begun + timedelta(days=2))
