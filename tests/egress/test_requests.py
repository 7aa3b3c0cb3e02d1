"""What goes over the wire: what the caller asked for, byte for byte, and nothing that libcurl would add."""

from collections.abc import Callable
from ipaddress import ip_network

import pycurl
import pytest

from domain.outcomes import Answered, Exchange, Headers, Refused
from egress.addresses import Guard
from egress.client import Client, OutboundRequest
from egress.connection_policy import _unused_handle
from runtime.version import VERSION
from tests.egress.authorities import Authority
from tests.egress.servers import OK, Partner, says

type StartPartner = Callable[..., Partner]
type Send = Callable[..., Exchange]

TARGETS = [
    "/",
    "/a%2fb%2Fc",
    "/a/../b/./c",
    "//double//slashes",
    "/x?",
    "/x?a=%20&b=+&a=2",
    "/x?next=http://example.com/?y",
    '/[x]{y}|z^`"<>',
    "/%00%0d%0a",
    "/~user;v=1,2:3@4!$&'()*=",
]


def head_of(request: bytes) -> list[str]:
    return request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")


@pytest.mark.parametrize("target", TARGETS)
def test_path_and_query_are_sent_byte_for_byte(partner: StartPartner, send: Send, target: str) -> None:
    there = partner(says(OK))
    assert isinstance(send(there.url(target), method="GET").outcome, Answered)
    assert head_of(there.requests[0])[0] == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize(("rest", "target"), [("", "/"), ("?a=1", "/?a=1"), ("?", "/?")])
def test_a_url_without_a_path_asks_for_the_root(partner: StartPartner, send: Send, rest: str, target: str) -> None:
    there = partner(says(OK))
    send(there.url(rest), method="GET")
    assert head_of(there.requests[0])[0] == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "get"])
def test_every_method_is_sent_unchanged(partner: StartPartner, send: Send, method: str) -> None:
    there = partner(says(b"HTTP/1.1 204 None\r\n\r\n"))
    assert isinstance(send(there.url("/x"), method=method).outcome, Answered)
    assert head_of(there.requests[0])[0] == f"{method} /x HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
def test_a_request_without_a_body_has_only_host_and_user_agent(partner: StartPartner, send: Send, method: str) -> None:
    there = partner(says(OK))
    send(there.url("/x"), method=method)
    assert head_of(there.requests[0])[1:] == [f"Host: 127.0.0.1:{there.port}", f"User-Agent: Sallyport/{VERSION}"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_an_empty_body_says_its_length(partner: StartPartner, send: Send, method: str) -> None:
    there = partner(says(OK))
    send(there.url("/x"), method=method)
    assert head_of(there.requests[0])[3:] == ["Content-Length: 0"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("size", [1, 100_000, 4 * 1024 * 1024])
def test_a_binary_body_arrives_whole(partner: StartPartner, send: Send, method: str, size: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    there = partner(says(OK))
    assert isinstance(send(there.url("/x"), method=method, body=body).outcome, Answered)
    head, _, sent = there.requests[0].partition(b"\r\n\r\n")
    assert sent == body
    assert head_of(head)[0] == f"{method} /x HTTP/1.1"
    assert head_of(head)[3:] == [f"Content-Length: {size}"]


def test_headers_arrive_in_order_with_their_duplicates(partner: StartPartner, send: Send) -> None:
    headers: Headers = (
        ("X-Two", "first"),
        ("x-two", "second"),
        ("X-Empty", ""),
        ("X-Tab", "a\tb"),
        ("X-Latin", "Jürgen"),
        ("X-Semicolon", ";"),
        ("Cookie", "a=1; b=2"),
    )
    there = partner(says(OK))
    send(there.url(), headers=headers)
    assert head_of(there.requests[0])[3:-1] == [f"{name}: {value}".rstrip(" ") for name, value in headers]


def test_what_the_caller_gives_replaces_what_the_client_would_set(partner: StartPartner, send: Send) -> None:
    headers = (
        ("User-Agent", "mine/1"),
        ("Accept", "text/csv"),
        ("Content-Type", "text/plain"),
        ("Accept-Encoding", "br"),
    )
    there = partner(says(OK))
    send(there.url(), headers=headers, body=b"x")
    sent = sorted(head_of(there.requests[0])[2:])
    assert sent == sorted([f"{name}: {value}" for name, value in headers] + ["Content-Length: 1"])


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((("X-A", "1\r\nX-B: 2"),), "X-A"),
        ((("X-A", "1\nX-B: 2"),), "X-A"),
        ((("X-A", "1\0"),), "X-A"),
        ((("X-A", "\u20ac"),), "X-A"),
        ((("X-A: 1\r\nX-B", "2"),), "name"),
        ((("X A", "2"),), "name"),
        ((("", "2"),), "name"),
        ((("Host", "elsewhere"),), "Host"),
        ((("content-length", "5"),), "content-length"),
        ((("Transfer-Encoding", "chunked"),), "Transfer-Encoding"),
        ((("Connection", "upgrade"),), "Connection"),
        ((("Expect", "100-continue"),), "Expect"),
    ],
)
def test_headers_that_would_change_the_message_are_refused(
    partner: StartPartner, send: Send, headers: Headers, reason: str
) -> None:
    there = partner(says(OK))
    outcome = send(there.url(), headers=headers).outcome
    assert isinstance(outcome, Refused)
    assert reason in outcome.reason
    assert there.connections == 0


@pytest.mark.parametrize("method", ["", "GET /x HTTP/1.1\r\nX:", "CONNECT", "connect", "A B"])
def test_methods_that_are_none_are_refused(partner: StartPartner, send: Send, method: str) -> None:
    there = partner(says(OK))
    assert isinstance(send(there.url(), method=method).outcome, Refused)
    assert there.connections == 0


def test_a_head_request_with_a_body_is_refused(partner: StartPartner, send: Send) -> None:
    assert isinstance(send(partner(says(OK)).url(), method="HEAD", body=b"x").outcome, Refused)


def test_nothing_in_the_environment_changes_the_way(
    partner: StartPartner, send: Send, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    (home / ".curlrc").write_text("proxy = http://127.0.0.1:1\n")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(home))
    there = partner(says(OK))
    assert isinstance(send(there.url(), method="GET").outcome, Answered)
    assert not [line for line in head_of(there.requests[0]) if line.startswith("Authorization")]


def test_no_cookie_is_kept(partner: StartPartner, send: Send) -> None:
    there = partner(says(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nContent-Length: 0\r\n\r\n"))
    for _ in range(2):
        send(there.url(), method="GET", may_repeat=True)
    assert "Cookie" not in there.requests[1].decode()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:25/_x",
        "http://user:secret@127.0.0.1/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://2130706433/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://127.0.0.1/#x",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
    ],
)
def test_urls_that_the_guard_does_not_pass_are_refused(send: Send, url: str) -> None:
    outcome = send(url).outcome
    assert isinstance(outcome, Refused)
    assert "secret" not in outcome.reason


def test_without_an_exception_loopback_is_refused(partner: StartPartner) -> None:
    there = partner(says(OK))
    client = Client(Guard(allowed_ports=range(1, 65536)))
    addressed, named = client.send_all(
        [OutboundRequest(method="GET", url=there.url(host=host)) for host in ("127.0.0.1", "localhost")]
    )
    assert isinstance(addressed.outcome, Refused)
    assert isinstance(named.outcome, Refused)
    assert there.connections == 0


def test_a_port_that_is_not_allowed_is_refused(partner: StartPartner) -> None:
    there = partner(says(OK))
    client = Client(Guard(allowed_private_cidrs=[ip_network("127.0.0.0/8")]))
    outcome = client.send_all([OutboundRequest(method="GET", url=there.url())])[0].outcome
    assert isinstance(outcome, Refused)
    assert "port" in outcome.reason


def test_no_requests_are_answered_by_none(client: Client) -> None:
    assert client.send_all([]) == []


def test_a_request_carries_nothing_of_the_one_before_it_on_the_same_connection(
    partner: StartPartner, send: Send
) -> None:
    there = partner(says(OK))
    secret = ("Authorization", "Bearer of-the-first")
    send(there.url("/first"), method="PUT", headers=(secret,), body=b"body of the first", may_repeat=True)
    send(there.url("/second"), method="GET", may_repeat=True)
    send(there.url("/third"), method="HEAD", may_repeat=True)
    assert there.connections == 1
    own = [f"Host: 127.0.0.1:{there.port}", f"User-Agent: Sallyport/{VERSION}"]
    for request, line in zip(there.requests[1:], ("GET /second HTTP/1.1", "HEAD /third HTTP/1.1"), strict=True):
        assert head_of(request) == [line, *own]
        assert request.endswith(b"\r\n\r\n")


def test_the_handle_that_others_are_copied_from_is_never_given_a_request(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    there = partner(says(OK))
    send(there.url("/x"), body=b"secret", headers=(("X-Key", "secret"),))
    unused = _unused_handle(str(authority.roots))
    for copied in (unused, unused.duphandle()):
        with pytest.raises(pycurl.error) as failed:
            copied.perform()
        assert failed.value.args[0] == pycurl.E_URL_MALFORMAT  # no URL, and with it nothing else
