"""What a partner receives of a signed request is what was signed: it checks every signature from the bytes it got."""

import hmac
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import pytest

from domain.outcomes import Answered, Exchange, Headers
from domain.signing import (
    DetachedJws,
    Form,
    JwsAlgorithm,
    KeyKind,
    MessageAlgorithm,
    MessageSignatures,
    Scheme,
    StandardWebhooks,
    TemplatedHmac,
    WebhookVersion,
)
from egress.signing.schemes import signed_headers
from egress.signing.unsigned import UnsignedRequest
from tests.egress.authorities import Authority
from tests.egress.servers import OK, Partner, says
from tests.egress.test_http2 import answers_ok, speaks_http2
from tests.support.signing import AT, key_of, one_key, public_key, value, verify_jws, verify_message

type StartPartner = Callable[..., Partner]
type Send = Callable[..., Exchange]

SECRET = b"k" * 32
KEYS = {
    "k": SECRET,
    "ed": key_of(KeyKind.ED25519).secret,
    "ec": key_of(KeyKind.P256).secret,
}
MESSAGE = MessageSignatures(
    algorithm=MessageAlgorithm.ED25519,
    components=("@method", "@target-uri", "@authority", "@path", "@query", "@request-target", "content-digest"),
    components_if_present=("content-type", "content-length", "user-agent", "webhook-signature", "x-empty", "x-jws"),
)
HMAC = TemplatedHmac(header="X-Sig", signed="{method} {path}?{query}\n{timestamp}.{body}", timestamp_header="X-Time")
JWS = DetachedJws(
    algorithm=JwsAlgorithm.ES256,
    header="X-Jws",
    payload="{method} {path} {query}\n{headers}{body}",
    headers=("X-Two", "X-Sig"),
    unencoded=True,
)
FORMS: list[tuple[str, Form]] = [
    ("k", StandardWebhooks()),
    ("ed", StandardWebhooks(version=WebhookVersion.V1A)),
    ("ed", MESSAGE),
    ("k", HMAC),
    ("ec", JWS),
]
SCHEMES: list[Scheme] = [one_key(form, ref=ref) for ref, form in FORMS]
HEADERS: Headers = (("Content-Type", "text/plain"), ("X-Empty", ""), ("X-Two", " a  b "))


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as a partner has it."""

    method: str
    url: str
    target: str
    headers: Headers
    body: bytes


def received(there: Partner) -> Received:
    head, _, body = there.requests[0].partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = tuple((name, text.strip(" ")) for name, _, text in (line.partition(":") for line in lines))
    url = f"{there.scheme}://{value(headers, 'host')}{target}"
    return Received(method=method, url=url, target=target, headers=headers, body=body)


def signed(url: str, *, method: str, body: bytes, headers: Headers = HEADERS) -> Headers:
    request = UnsignedRequest(method=method, url=url, headers=headers, body=body, message_id="key-1", at=AT)
    return signed_headers(request, SCHEMES, secrets=KEYS)


def check_all(got: Received) -> None:
    """Every signature, from what was received alone."""
    stamp = str(int(AT.timestamp()))
    assert (value(got.headers, "webhook-id"), value(got.headers, "webhook-timestamp")) == ("key-1", stamp)
    content = f"key-1.{stamp}.".encode() + got.body
    v1, v1a = value(got.headers, "webhook-signature").split(" ")
    assert v1 == "v1," + b64encode(hmac.digest(SECRET, content, "sha256")).decode()
    assert v1a.startswith("v1a,")
    (result,) = verify_message(
        MESSAGE.algorithm, public_key(KEYS["ed"]), method=got.method, url=got.url, headers=got.headers, body=got.body
    )
    assert '"webhook-signature"' in result.covered_components
    path, _, query = got.target.partition("?")
    content = f"{got.method} {path}?{query}\n{value(got.headers, 'x-time')}.".encode() + got.body
    assert value(got.headers, "x-sig") == hmac.new(SECRET, content, sha256).hexdigest()
    lines = f"X-Two: {value(got.headers, 'x-two')}\nX-Sig: {value(got.headers, 'x-sig')}\n"
    payload = f"{got.method} {path} {query}\n{lines}".encode() + got.body
    verify_jws(value(got.headers, "x-jws"), payload, JWS)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1/payments",
        "/a%2fb%2Fc/%7e~/%C3%BC",
        "//double//slashes",
        "/a;b=1,2:3@4!$&'()*=",
        "/x?a=%20&b=+&a=2&c=%25",
        "/x?next=http://example.com/?y",
        "/x?",
    ],
)
def test_any_path_and_query(partner: StartPartner, send: Send, target: str) -> None:
    there = partner(says(OK))
    url = there.url(target)
    send(url, method="POST", headers=signed(url, method="POST", body=b"{}"), body=b"{}")
    check_all(received(there))


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("POST", b""),
        ("PUT", b"a"),
        ("PATCH", bytes(range(256))),
        ("DELETE", b"why"),
        ("DELETE", b""),
        ("GET", b""),
        ("GET", b"a query as a body"),
        ("HEAD", b""),
        ("OPTIONS", b""),
        ("POST", b"\xff\xfe{" * 1_398_101),
    ],
    ids=lambda given: str(given)[:12],
)
def test_any_method_and_body_up_to_four_megabytes(partner: StartPartner, send: Send, method: str, body: bytes) -> None:
    there = partner(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    url = there.url("/v1?x=1")
    send(url, method=method, headers=signed(url, method=method, body=body), body=body)
    got = received(there)
    assert got.body == body
    check_all(got)


def test_a_url_without_a_path(partner: StartPartner, send: Send) -> None:
    there = partner(says(OK))
    url = there.url("?a=1")
    send(url, headers=signed(url, method="POST", body=b""))
    check_all(received(there))


def test_a_name_in_capitals_and_a_port_of_its_own(partner: StartPartner, send: Send) -> None:
    there = partner(says(OK))
    url = there.url("/x", host="LOCALHOST")
    send(url, headers=signed(url, method="POST", body=b""))
    check_all(received(there))


def test_a_user_agent_of_the_callers_own_is_the_one_that_is_covered(partner: StartPartner, send: Send) -> None:
    there = partner(says(OK))
    url = there.url()
    headers = signed(url, method="POST", body=b"", headers=(*HEADERS, ("User-Agent", "of-the-caller/1")))
    send(url, headers=headers)
    got = received(there)
    assert value(got.headers, "user-agent") == "of-the-caller/1"
    check_all(got)


@pytest.mark.parametrize(("method", "body"), [("POST", b"x" * 200_000), ("GET", b""), ("POST", b"")])
def test_over_http2(partner: StartPartner, send: Send, authority: Authority, method: str, body: bytes) -> None:
    seen: list[dict[bytes, bytes]] = []
    there = partner(
        speaks_http2(answers_ok, seen=seen), tls=authority.context("127.0.0.1", protocols=("h2", "http/1.1"))
    )
    url = there.url("/a%2fb?c=%7e")
    assert isinstance(
        send(url, method=method, headers=signed(url, method=method, body=body), body=body).outcome, Answered
    )
    fields = {name.decode(): text.decode("latin-1") for name, text in seen[0].items()}
    target = fields.pop(":path")
    check_all(
        Received(
            method=fields.pop(":method"),
            url=f"{fields.pop(':scheme')}://{fields.pop(':authority')}{target}",
            target=target,
            headers=tuple(fields.items()),
            body=body,
        )
    )
