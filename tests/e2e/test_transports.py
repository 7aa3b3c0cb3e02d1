"""What SDKs send through the gateway: by httpx with and without asyncio, and by requests."""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest
import requests

from local.partner import Call
from local.stack import Stack
from sallyport import (
    AnswerLost,
    NotSallyport,
    PartnerUnreachable,
    RequestRefused,
    TokenRefused,
    UnknownOutcome,
    under_key,
)
from sallyport.errors import GatewayAway
from sallyport.httpx_transport import AsyncSallyportTransport, SallyportTransport
from sallyport.passing import via
from sallyport.requests_adapter import SallyportAdapter
from tests.e2e.conftest import Consumer

type Sent = tuple[int, dict[str, str], bytes]
type Sending = Callable[..., Sent]


def by_httpx(token: str, method: str, url: str, *, body: bytes = b"", headers: dict[str, str] | None = None) -> Sent:
    with httpx.Client(transport=SallyportTransport(token)) as client:
        answer = client.request(method, url, content=body, headers=headers)
    return answer.status_code, dict(answer.headers), answer.content


def by_async_httpx(
    token: str, method: str, url: str, *, body: bytes = b"", headers: dict[str, str] | None = None
) -> Sent:
    async def send() -> Sent:
        async with httpx.AsyncClient(transport=AsyncSallyportTransport(token)) as client:
            answer = await client.request(method, url, content=body, headers=headers)
        return answer.status_code, dict(answer.headers), answer.content

    return asyncio.run(send())


def by_requests(token: str, method: str, url: str, *, body: bytes = b"", headers: dict[str, str] | None = None) -> Sent:
    with requests.Session() as session:
        session.mount("http://", SallyportAdapter(token))
        answer = session.request(method, url, data=body, headers=headers)
    return answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content


WAYS = pytest.mark.parametrize("send", [by_httpx, by_async_httpx, by_requests])


@pytest.fixture(scope="module")
def base(stack: Stack, consumer: Consumer) -> str:
    """The base URL of the demo partner's SDK."""
    nobody = {"name": "transports-nobody", "base_url": f"http://127.23.45.69:{stack.partner.port}"}
    assert consumer.call("POST", "/v1/destinations", body=nobody).status == 201
    return via(stack.url, "partner")


@WAYS
def test_the_partners_answer_comes_back_and_the_sdks_own_credentials_do_not_reach_it(
    send: Sending, base: str, consumer: Consumer, calls: Callable[[], list[Call]], key: str
) -> None:
    headers = {"Authorization": "Bearer of-the-sdk", "Idempotency-Key": key, "X-Sdk": "1.0"}
    status, answered, _ = send(consumer.token, "POST", f"{base}/orders?a=1", body=b"amount=10", headers=headers)
    assert (status, answered["sallyport-outcome"]) == (201, "answered")
    (call,) = calls()
    assert (call.target, call.body, call.headers["x-sdk"]) == ("/orders?a=1", b"amount=10", "1.0")
    assert "authorization" not in call.headers


@WAYS
@pytest.mark.parametrize("status", [400, 404, 503, 504])
def test_a_partners_own_failure_is_its_answer(send: Sending, base: str, consumer: Consumer, status: int) -> None:
    assert send(consumer.token, "POST", f"{base}/status/{status}")[0] == status


@WAYS
def test_an_unknown_outcome_is_typed_and_is_no_error_that_an_sdk_repeats(
    send: Sending, base: str, consumer: Consumer, stack: Stack
) -> None:
    before = len(list(stack.partner.calls))
    with pytest.raises(UnknownOutcome) as unknown:
        send(consumer.token, "POST", f"{base}/lose/payments", body=b"{}")
    error = unknown.value
    assert not isinstance(error, TimeoutError | OSError | httpx.HTTPError | requests.RequestException)
    (call,) = [call for call in list(stack.partner.calls)[before:] if call.path == "/lose/payments"]
    assert call.idempotency_key == error.idempotency_key
    shown = consumer.delivery(error.delivery_id or "")
    assert (shown["state"], shown["idempotency_key"]) == ("unknown", error.idempotency_key)


@WAYS
def test_where_nothing_was_sent_it_is_a_connection_error_of_the_library_too(
    send: Sending, base: str, consumer: Consumer
) -> None:
    with pytest.raises(PartnerUnreachable) as unreachable:
        send(consumer.token, "POST", f"{base.removesuffix('partner')}transports-nobody/orders")
    assert isinstance(unreachable.value, httpx.ConnectError | requests.ConnectionError)
    assert not unreachable.value.may_have_happened
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/via/partner/orders"
        with pytest.raises(GatewayAway) as away:
            send(consumer.token, "POST", url)
    assert isinstance(away.value, httpx.ConnectError | requests.ConnectionError)


@WAYS
def test_what_the_gateway_refuses_is_not_taken_for_the_partners_answer(
    send: Sending, base: str, consumer: Consumer
) -> None:
    with pytest.raises(TokenRefused):
        send("spt_" + "A" * 43, "GET", f"{base}/orders")
    with pytest.raises(RequestRefused, match="there is no such destination"):
        send(consumer.token, "GET", f"{base}-of-nobody/orders")


@WAYS
def test_a_request_that_is_repeated_under_a_key_happens_once(
    send: Sending, base: str, consumer: Consumer, stack: Stack, key: str
) -> None:
    with under_key(key):
        answers = [send(consumer.token, "POST", f"{base}/payments", body=b"{}") for _ in range(2)]
        send(consumer.token, "POST", f"{base}/payments", body=b'{"another": 1}')
    assert [answer[0] for answer in answers] == [201, 201]
    assert answers[0][2] == answers[1][2]
    assert answers[1][1]["idempotency-replayed"] == "true"
    assert len([call for call in list(stack.partner.calls) if (call.idempotency_key or "").startswith(key)]) == 2


@WAYS
def test_an_answer_that_was_lost_on_its_way_to_us_is_asked_for_again_under_the_same_key(
    send: Sending, base: str, consumer: Consumer, stack: Stack, calls: Callable[[], list[Call]], key: str
) -> None:
    with Losing(stack.front.port, answers=1) as between:
        url = f"http://127.0.0.1:{between.port}/v1/via/partner/payments"
        status, answered, _ = send(consumer.token, "POST", url, body=b"{}", headers={"Idempotency-Key": key})
    assert (status, answered["idempotency-replayed"]) == (201, "true")
    assert len(calls()) == 1


@WAYS
def test_an_answer_that_stays_lost_is_an_unknown_outcome(send: Sending, consumer: Consumer, stack: Stack) -> None:
    with Losing(stack.front.port, answers=10) as between, pytest.raises(AnswerLost) as lost:
        send(consumer.token, "POST", f"http://127.0.0.1:{between.port}/v1/via/partner/orders")
    assert lost.value.delivery_id is None
    assert lost.value.idempotency_key
    assert not isinstance(lost.value, httpx.HTTPError | requests.RequestException)


@WAYS
def test_a_caller_that_wants_no_answer_gets_the_delivery(send: Sending, base: str, consumer: Consumer) -> None:
    status, answered, _ = send(consumer.token, "POST", f"{base}/orders", headers={"Prefer": "respond-async"})
    assert (status, answered["preference-applied"]) == (202, "respond-async")


@WAYS
def test_a_url_that_is_not_the_gateways_is_not_taken_for_it(send: Sending, consumer: Consumer, stack: Stack) -> None:
    with pytest.raises(NotSallyport):
        send(consumer.token, "GET", f"{stack.url}/healthz")


@WAYS
def test_a_compressed_answer_and_one_without_a_body_come_as_they_are(
    send: Sending, base: str, consumer: Consumer
) -> None:
    assert send(consumer.token, "GET", f"{base}/status/204")[::2] == (204, b"")
    assert send(consumer.token, "HEAD", f"{base}/orders")[2] == b""


def test_a_body_that_cannot_be_sent_again_is_refused_before_anything_is_sent(base: str, consumer: Consumer) -> None:
    with requests.Session() as session:
        session.mount("http://", SallyportAdapter(consumer.token))
        with pytest.raises(TypeError, match="cannot be sent again"):
            session.post(f"{base}/orders", data=iter([b"a", b"b"]))


class Losing:
    """A proxy that passes requests on and loses the first `answers`."""

    def __init__(self, target: int, *, answers: int) -> None:
        self._target, self._left = target, answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> "Losing":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with closing(caller), socket.create_connection(("127.0.0.1", self._target)) as server:
                server.sendall(_whole(caller))
                answer = _whole(server)
                if self._left:
                    self._left -= 1
                else:
                    caller.sendall(answer)


def _whole(caller: socket.socket) -> bytes:
    """A message with its body, which may come behind its headers."""
    received = caller.recv(1 << 20)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while lengths and len(body) < int(lengths[0]):
        part = caller.recv(1 << 20)
        received, body = received + part, body + part
    return received
