"""The API's port: real HTTP in, real function processes behind it."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.programs.authority import Authority
from local.errors import LocalError
from local.front import Front, Gateway, listening
from local.functions import Function, FunctionConfiguration
from local.gateway import HttpResponse
from local.template import ApiRoute, ApiTemplate, Template

HANDLERS = """
import base64, json, os, signal, time

def api(event, context):
    name = event["path"].rpartition("/")[2]
    if name == "vanish":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "raise":
        raise RuntimeError("a bug")
    if name == "malformed":
        return {"status": 200}
    if name == "slow":
        time.sleep(20)
    if name == "empty":
        return {"statusCode": 204}
    body = base64.b64decode(event["body"] or "")
    context = {name: event["requestContext"].get(name) for name in ("authorizer", "path")}
    seen = {"method": event["httpMethod"], "path": event["path"], "length": len(body), "context": context,
            "head": body[:20].decode("latin-1"), "headers": event["headers"]}
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": json.dumps(seen)}

asked = 0

def authorize(event, context):
    global asked
    asked += 1
    token = {name.lower(): value for name, value in event["headers"].items()}["authorization"]
    if token == "wrong":
        raise Exception("Unauthorized")
    if token == "broken":
        raise RuntimeError("no database")
    if token == "odd":
        return {"principalId": "p"}
    resource = event["methodArn"] if token == "once" else "*"
    effect = "Deny" if token == "denied" else "Allow"
    policy = {"Statement": [{"Effect": effect, "Action": "execute-api:Invoke", "Resource": resource}]}
    return {"principalId": "p", "policyDocument": policy, "context": {"asked": asked, "flag": True}}
"""


@pytest.fixture
def api(repository: Path) -> ApiTemplate:
    return Template(repository / "template.yaml").api()


@pytest.fixture
def gateway_of(tmp_path: Path) -> Iterator[Callable[[ApiTemplate], Front]]:
    """Serves an API with the functions above."""
    (tmp_path / "handlers_of_front.py").write_text(HANDLERS)
    functions = {
        name: Function(
            FunctionConfiguration(
                name=name,
                handler=f"handlers_of_front.{handler}",
                code=tmp_path,
                log=tmp_path / "log",
                timeout_seconds=timeout,
            ),
            concurrency=4,
        )
        for name, handler, timeout in (("ApiFunction", "api", 2.0), ("AuthorizeFunction", "authorize", 10.0))
    }
    fronts: list[Front] = []

    def make(api: ApiTemplate) -> Front:
        fronts.append(Front(port=0))
        fronts[-1].start(Gateway(api, functions).answer)
        return fronts[-1]

    yield make
    for front in fronts:
        front.stop()
    for function in functions.values():
        function.stop()


@pytest.fixture
def front(gateway_of: Callable[[ApiTemplate], Front], api: ApiTemplate) -> Front:
    return gateway_of(api)


def call(
    front: Front, method: str, path: str, *, token: str | None = "good", body: Any = None, **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
    try:
        sent = headers | ({} if token is None else {"Authorization": token})
        connection.request(method, path, body, sent, encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def raw(front: Front, request: bytes, *, answers: int) -> bytes:
    """Bytes out, and back until `answers` status lines came and nothing follows for a moment."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=60) as connection:
        connection.sendall(request)
        received = b""
        while received.count(b"HTTP/1.1 ") < answers or not received.endswith(b"}"):
            received += connection.recv(65536)
        return received


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_reaches_the_function(front: Front, method: str) -> None:
    status, _, body = call(front, method, "/v1/via/x")
    assert (status, json.loads(body)["method"]) == (200, method)


def test_a_head_request_gets_headers_alone(front: Front) -> None:
    status, headers, body = call(front, "HEAD", "/v1/via/x")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


def test_the_path_reaches_the_function_byte_for_byte(front: Front) -> None:
    _, _, body = call(front, "GET", "/v1/via/a%2Fb//c%20d;e?q=1")
    assert json.loads(body)["path"] == "/v1/via/a%2Fb//c%20d;e"
    assert json.loads(body)["context"]["path"] == "/v1/via/a%2Fb//c%20d;e"


def test_four_mebibytes_arrive_whole(front: Front) -> None:
    _, _, body = call(front, "POST", "/v1/via/x", body=b"x" * 4 * 1024 * 1024)
    assert json.loads(body)["length"] == 4 * 1024 * 1024


def test_a_chunked_body_arrives_whole(front: Front) -> None:
    _, _, body = call(front, "POST", "/v1/via/x", body=iter([b"one ", b"two"]))
    assert json.loads(body)["head"] == "one two"


def test_more_than_lambda_or_api_gateway_accepts_is_413(front: Front) -> None:
    for mebibytes in (6, 11):
        status, headers, body = call(front, "POST", "/v1/via/x", body=b"x" * mebibytes * 1024 * 1024)
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert json.loads(body)["status"] == 413


def test_a_204_has_no_body(front: Front) -> None:
    status, headers, body = call(front, "GET", "/v1/via/empty")
    assert (status, body) == (204, b"")
    assert "content-length" not in headers


def test_two_requests_in_one_go_are_answered_in_order(front: Front) -> None:
    one = b"GET /v1/via/%s HTTP/1.1\r\nHost: h\r\nAuthorization: good\r\n\r\n"
    received = raw(front, one % b"first" + one % b"second", answers=2)
    assert received.index(b"/v1/via/first") < received.index(b"/v1/via/second")


def test_a_client_that_waits_for_100_continue_is_served(front: Front) -> None:
    request = b"POST /v1/via/x HTTP/1.1\r\nHost: h\r\nAuthorization: good\r\nContent-Length: 2\r\n"
    request += b"Expect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front.port), timeout=60) as connection:
        connection.sendall(request)
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"ok")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_nonsense_is_a_400(front: Front) -> None:
    with socket.create_connection(("127.0.0.1", front.port), timeout=60) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("", 401), ("wrong", 401), ("denied", 403), ("broken", 503), ("odd", 503)]
)
def test_the_authorizer_comes_first(front: Front, token: str | None, status: int) -> None:
    found, headers, _ = call(front, "GET", "/v1/via/vanish", token=token)
    assert (found, headers["content-type"]) == (status, "application/problem+json")


def test_the_authorizers_context_arrives_as_text(front: Front) -> None:
    _, _, body = call(front, "GET", "/v1/via/x")
    assert json.loads(body)["context"]["authorizer"] == {"principalId": "p", "asked": "1", "flag": "true"}


def test_the_authorizers_result_is_cached_and_applies_to_other_routes_only_if_it_says_so(front: Front) -> None:
    for path in ("/v1/via/x", "/v1/via/y"):
        _, _, body = call(front, "GET", path)
        assert json.loads(body)["context"]["authorizer"]["asked"] == "1"
    assert call(front, "GET", "/v1/via/x", token="once")[0] == 200
    assert call(front, "GET", "/v1/via/y", token="once")[0] == 403


def test_without_a_time_to_live_the_authorizer_is_asked_every_time(
    gateway_of: Callable[[ApiTemplate], Front], api: ApiTemplate
) -> None:
    authorizers = {name: replace(authorizer, ttl_seconds=0) for name, authorizer in api.authorizers.items()}
    front = gateway_of(replace(api, authorizers=authorizers))
    asked = [json.loads(call(front, "GET", "/v1/via/x")[2])["context"]["authorizer"]["asked"] for _ in range(2)]
    assert asked == ["1", "2"]


def test_an_open_route_needs_no_authorizer(gateway_of: Callable[[ApiTemplate], Front], api: ApiTemplate) -> None:
    route = ApiRoute(path="/open", method="GET", function="ApiFunction", authorizer=None)
    front = gateway_of(replace(api, routes=(route,)))
    assert call(front, "GET", "/open", token=None)[0] == 200


def test_a_path_without_a_route_is_404(front: Front) -> None:
    for method, path in (("GET", "/nowhere"), ("POST", "/healthz"), ("GET", "/v1/")):
        status, headers, _ = call(front, method, path, token=None)
        assert (status, headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(("name", "status"), [("vanish", 502), ("raise", 502), ("malformed", 500), ("slow", 504)])
def test_a_function_that_fails_is_a_problem_and_the_next_call_works(front: Front, name: str, status: int) -> None:
    found, headers, _ = call(front, "GET", f"/v1/via/{name}")
    assert (found, headers["content-type"]) == (status, "application/problem+json")
    assert call(front, "GET", "/v1/via/x")[0] == 200


def test_many_callers_at_once_are_all_answered(front: Front) -> None:
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(call(front, "GET", "/v1/via/x")[0])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 20


def test_a_busy_port_is_one_clear_line() -> None:
    with listening(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=rf"^127\.0\.0\.1:{port} cannot be used"):
            listening(port)


def test_a_front_with_a_certificate_serves_all_its_listeners_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("api", ["api.example.com"])
    listeners = [listening(0), listening(0)]
    front = Front(listeners=listeners, certificate=(certificate.chain, certificate.key))
    front.start(lambda request: HttpResponse(status=200, headers=(), body=request.path.encode()))
    try:
        for listener in listeners:
            plain = socket.create_connection(listener.getsockname(), timeout=60)
            connection = http.client.HTTPSConnection("api.example.com")
            connection.sock = authority.client().wrap_socket(plain, server_hostname="api.example.com")
            with closing(connection):
                connection.request("GET", "/here")
                assert connection.getresponse().read() == b"/here"
    finally:
        front.stop()
