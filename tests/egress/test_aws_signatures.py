"""AWS Signature Version 4: as botocore's own signer would sign what really arrived at a server that verifies it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.auth import AwsScope, AwsSigV4Auth
from domain.outcomes import Answered
from egress import aws_signature
from egress.aws_signature import signed_headers
from egress.client import Client, OutboundRequest
from egress.credentials import auth_headers
from tests.egress.servers import Line, Partner

type StartPartner = Callable[..., Partner]

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SCOPE = AwsScope(region="eu-central-1", service="execute-api", access_key_id="AKIDEXAMPLE26NOV")
AUTH = AwsSigV4Auth(scope=SCOPE, secret_access_key=SECRET)
TEMPORARY = AwsSigV4Auth(scope=SCOPE, secret_access_key=SECRET, session_token="a+session/token==")


@dataclass(frozen=True)
class Arrived:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, raw: bytes) -> "Arrived":
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = [line.partition(":")[::2] for line in lines]
        return cls(method, target, [(name, value.strip()) for name, value in pairs], body)

    def header(self, name: str) -> str:
        (value,) = [value for given, value in self.headers if given.lower() == name]
        return value


def is_signed(raw: bytes, auth: AwsSigV4Auth) -> bool:
    """Whether the signature is the one that botocore makes of the same request at the same time."""
    arrived = Arrived.of(raw)
    scheme, _, rest = arrived.header("authorization").partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    signed = parts["SignedHeaders"].split(";")
    assert scheme == "AWS4-HMAC-SHA256"
    assert {"host", "x-amz-date"} <= set(signed)
    request = AWSRequest(
        method=arrived.method, url=f"http://{arrived.header('host')}{arrived.target}", data=arrived.body
    )
    for name, value in arrived.headers:
        if name.lower() in signed and name.lower() != "host":
            request.headers.add_header(name, value)
    kind = S3SigV4Auth if auth.scope.service == "s3" else SigV4Auth
    signer = kind(Credentials(auth.scope.access_key_id, auth.secret_access_key), auth.scope.service, auth.scope.region)
    request.context["timestamp"] = arrived.header("x-amz-date")
    canonical = signer.canonical_request(request)
    assert canonical.endswith(hashlib.sha256(arrived.body).hexdigest())
    expected = signer.signature(signer.string_to_sign(request, canonical), request)
    return (parts["Credential"], parts["Signature"]) == (signer.scope(request), expected)


def verifies(auth: AwsSigV4Auth) -> Callable[[Line], None]:
    """A server that answers 403 unless the request is signed as botocore would have signed it."""

    def script(line: Line) -> None:
        while request := line.read_request():
            status = b"200 OK" if is_signed(request, auth) else b"403 Forbidden"
            line.send(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)

    return script


def send(client: Client, url: str, auth: AwsSigV4Auth, **members: Any) -> int:
    whole: dict[str, Any] = {"method": "POST", "body": b"", "headers": (), "url": url} | members
    headers = signed_headers((*whole.pop("headers"), *auth_headers(auth)), auth=auth, at=datetime.now(UTC), **whole)
    request = OutboundRequest(headers=headers, **whole)
    (exchange,) = client.send_all([request])
    assert isinstance(exchange.outcome, Answered), exchange.outcome
    return exchange.outcome.status


BODIES = [b"", b'{"amount":1}', bytes(range(256)) * 40]


@pytest.mark.parametrize(
    ("method", "body"),
    [("HEAD", b""), *((method, body) for method in ("GET", "POST", "PUT", "PATCH", "DELETE") for body in BODIES)],
)
def test_every_method_and_body_is_signed(partner: StartPartner, client: Client, method: str, body: bytes) -> None:
    there = partner(verifies(AUTH))
    assert send(client, there.url("/prod/orders"), AUTH, method=method, body=body) == 200


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "",
        "/a/b/",
        "/a//b",
        "/orders/4711?dry=1",
        "/o?b=2&a=1&a=0&A=9",
        "/o?empty=&flag",
        "/o?q=a%20b&r=%C3%A9",
        "/o?x=%2B%2F%3D",
        "/a%20b/%C3%A9/~x-y_z.t",
        "/a+b/c:d@e",
        "/%7Euser/%2Fencoded%2fslash",
        "//a///b//",
    ],
)
def test_odd_targets_are_signed_as_they_are_sent(partner: StartPartner, client: Client, target: str) -> None:
    there = partner(verifies(AUTH))
    assert send(client, there.url(target), AUTH, body=b"x") == 200


def test_the_session_token_is_sent_and_signed(partner: StartPartner, client: Client) -> None:
    there = partner(verifies(TEMPORARY))
    assert send(client, there.url("/"), TEMPORARY, body=b"x") == 200
    arrived = Arrived.of(there.requests[0])
    assert arrived.header("x-amz-security-token") == TEMPORARY.session_token
    assert "x-amz-security-token" in arrived.header("authorization")


def test_all_headers_are_signed_however_they_are_written(partner: StartPartner, client: Client) -> None:
    there = partner(verifies(AUTH))
    headers = (("Content-Type", "application/json"), ("X-B", "  two   blanks "), ("x-a", ""), ("Idempotency-Key", "k"))
    assert send(client, there.url("/"), AUTH, body=b"{}", headers=headers) == 200
    signed = Arrived.of(there.requests[0]).header("authorization")
    assert "content-type;host;idempotency-key" in signed


def test_another_secret_is_refused(partner: StartPartner, client: Client) -> None:
    there = partner(verifies(AwsSigV4Auth(scope=SCOPE, secret_access_key="another")))
    assert send(client, there.url("/"), AUTH, body=b"x") == 403


def test_a_query_is_signed_as_the_other_end_reads_it() -> None:
    """botocore signs the bytes of a query; AWS decodes them and encodes them in the one way."""
    odd, plain = (
        signed_headers(
            (), auth=AUTH, method="GET", url=f"https://a.example/{query}", body=b"", at=datetime(2026, 1, 1, tzinfo=UTC)
        )
        for query in ("?x=%2b%7Ea&y", "?y=&x=%2B~a")
    )
    assert odd == plain


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://A.example:443/", "A.example"),
        ("https://a.example:8443/", "a.example:8443"),
        ("http://a.example:80/", "a.example"),
        ("http://a.example:443/", "a.example:443"),
    ],
)
def test_the_host_is_signed_as_libcurl_sends_it(url: str, host: str) -> None:
    assert aws_signature._host(url) == host


def test_s3_takes_the_path_as_it_is_and_the_hash_of_the_body(partner: StartPartner, client: Client) -> None:
    scope = AwsScope(region="eu-central-1", service="s3", access_key_id="AKIDEXAMPLE26NOV")
    auth = AwsSigV4Auth(scope=scope, secret_access_key=SECRET)
    there = partner(verifies(auth))
    assert send(client, there.url("/bucket/a%20b//c"), auth, method="PUT", body=b"x") == 200
    assert Arrived.of(there.requests[0]).header("x-amz-content-sha256") == hashlib.sha256(b"x").hexdigest()


def test_the_signature_is_of_now(partner: StartPartner, client: Client) -> None:
    there = partner(verifies(AUTH))
    before = datetime.now(UTC).replace(microsecond=0)
    send(client, there.url("/"), AUTH, body=b"x")
    signed_at = datetime.fromisoformat(Arrived.of(there.requests[0]).header("x-amz-date"))
    assert before <= signed_at <= datetime.now(UTC)
    assert SECRET.encode() not in there.requests[0]


UNRESERVED = "abcXYZ019-._~"
PIECES = st.lists(st.sampled_from([*UNRESERVED, "%20", "%2F", "%C3%A9", "%2B"]), max_size=6)
SEGMENTS = st.lists(st.sampled_from([*UNRESERVED, "%20", "%2f", "%7E", "+", ":", "@", "!", "$", "*", ","]), max_size=6)


@pytest.fixture
def signed_server(partner: StartPartner) -> Partner:
    return partner(verifies(AUTH))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.lists(SEGMENTS, max_size=4),
    query=st.lists(st.tuples(PIECES, PIECES), max_size=4),
    body=st.binary(max_size=64),
)
def test_any_path_query_and_body_are_signed(
    signed_server: Partner,
    client: Client,
    path: list[list[str]],
    query: list[tuple[list[str], list[str]]],
    body: bytes,
) -> None:
    target = "/" + "/".join("".join(pieces) for pieces in path)
    pairs = "&".join(f"{''.join(name)}={''.join(value)}" for name, value in query)
    url = signed_server.url(f"{target}?{pairs}" if pairs else target)
    assert urlsplit(url).fragment == ""
    assert send(client, url, AUTH, body=body) == 200
