"""HTTP requests become REST proxy events, and answers become HTTP, as API Gateway does it."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from local import gateway
from local.front import Gateway
from local.gateway import HttpRequest, MalformedProxyResponse, Match
from local.template import ApiRoute, ApiTemplate, GatewayResponse, Template


@pytest.fixture(scope="module")
def api(repository: Path) -> ApiTemplate:
    return Template(repository / "template.yaml").api()


def request(path: str = "/v1/deliveries", **changes: Any) -> HttpRequest:
    values: dict[str, Any] = {
        "method": "POST",
        "query": "",
        "headers": (("host", "127.0.0.1:8080"), ("authorization", "Bearer t")),
        "body": b"",
        "source_ip": "127.0.0.1",
    }
    return HttpRequest(path=path, **{**values, **changes})


def event(api: ApiTemplate, sent: HttpRequest) -> dict[str, Any]:
    match = matched(api, sent)
    return gateway.proxy_event(api, match, sent, context=gateway.request_context(api, match, sent))


def matched(api: ApiTemplate, sent: HttpRequest) -> Match:
    found = gateway.matched(api.routes, method=sent.method, path=sent.path)
    assert found is not None
    return found


def test_the_path_stays_encoded_and_its_parameters_are_decoded(api: ApiTemplate) -> None:
    made = event(api, request("/v1/via/bank/a%2Fb%20c"))
    assert made["path"] == "/v1/via/bank/a%2Fb%20c"
    assert made["pathParameters"] == {"proxy": "bank/a/b c"}
    assert made["resource"] == "/v1/via/{proxy+}"


def test_the_stage_is_in_the_contexts_path_only(api: ApiTemplate) -> None:
    made = event(api, request("/v1/egress", method="GET"))
    assert made["requestContext"]["path"] == "/v1/egress"
    assert made["requestContext"]["stage"] == "dev"
    assert made["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"
    assert made["requestContext"]["domainName"] == "127.0.0.1:8080"


def test_bodies_arrive_in_base64(api: ApiTemplate) -> None:
    made = event(api, request(body=b"\x00\xff"))
    assert (made["body"], made["isBase64Encoded"]) == (base64.b64encode(b"\x00\xff").decode(), True)


def test_no_body_is_null(api: ApiTemplate) -> None:
    made = event(api, request())
    assert (made["body"], made["isBase64Encoded"]) == (None, False)


def test_repeated_headers_and_parameters_are_all_there_and_the_last_one_wins(api: ApiTemplate) -> None:
    made = event(api, request(query="a=1&a=2&b=&c=x%20y+z&d", headers=(("x-a", "1"), ("x-a", "2"))))
    assert made["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": [""], "c": ["x y z"], "d": [""]}
    assert made["queryStringParameters"] == {"a": "2", "b": "", "c": "x y z", "d": ""}
    assert made["multiValueHeaders"]["x-a"] == ["1", "2"]
    assert made["headers"]["x-a"] == "2"


def test_no_query_is_null(api: ApiTemplate) -> None:
    made = event(api, request())
    assert made["queryStringParameters"] is None
    assert made["multiValueQueryStringParameters"] is None


def test_headers_that_api_gateway_drops_do_not_arrive(api: ApiTemplate) -> None:
    sent = request(headers=(("te", "trailers"), ("expect", "100-continue"), ("connection", "close"), ("accept", "a/b")))
    assert set(event(api, sent)["headers"]) == {
        "accept",
        "X-Forwarded-For",
        "X-Forwarded-Port",
        "X-Forwarded-Proto",
        "X-Amzn-Trace-Id",
    }


def test_the_source_address_is_added_to_what_a_caller_claims(api: ApiTemplate) -> None:
    made = event(api, request(headers=(("x-forwarded-for", "192.0.2.1"),)))
    assert made["headers"]["X-Forwarded-For"] == "192.0.2.1, 127.0.0.1"


def test_an_authorizer_is_asked_about_the_method_and_path(api: ApiTemplate) -> None:
    sent = request("/v1/via/bank/x")
    match = matched(api, sent)
    made = gateway.authorizer_event(api, match, sent, context={})
    assert made["type"] == "REQUEST"
    assert made["methodArn"].endswith(":local/dev/POST/v1/via/bank/x")
    assert made["headers"]["authorization"] == "Bearer t"
    assert "body" not in made


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/things/new", "GET", "exact"),
        ("/things/7", "GET", "one"),
        ("/things/7", "DELETE", "any"),
        ("/things/7/parts", "GET", "all"),
        ("/things/", "GET", None),
        ("/other", "GET", None),
        ("/things/new", "POST", "any"),
    ],
)
def test_the_most_exact_route_wins(path: str, method: str, expected: str | None) -> None:
    routes = (
        ApiRoute(path="/things/{rest+}", method="GET", function="all", authorizer=None),
        ApiRoute(path="/things/{id}", method="ANY", function="any", authorizer=None),
        ApiRoute(path="/things/{id}", method="GET", function="one", authorizer=None),
        ApiRoute(path="/things/new", method="GET", function="exact", authorizer=None),
    )
    found = gateway.matched(routes, method=method, path=path)
    assert (found.route.function if found else None) == expected


def test_an_answer_becomes_a_response() -> None:
    made = gateway.http_response(
        {
            "statusCode": 201,
            "headers": {"Content-Type": "text/plain", "X-Both": "lost"},
            "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"], "X-Both": ["kept"]},
            "body": "größer",
        },
        request_id="r",
    )
    assert (made.status, made.body) == (201, "größer".encode())
    assert sorted(made.headers)[:4] == [
        ("Content-Type", "text/plain"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Both", "kept"),
    ]
    assert ("x-amzn-RequestId", "r") in made.headers


def test_a_base64_answer_is_decoded() -> None:
    made = gateway.http_response({"statusCode": 200, "body": "AP8=", "isBase64Encoded": True}, request_id="r")
    assert made.body == b"\x00\xff"


def test_headers_are_renamed_and_dropped_on_the_way_back() -> None:
    made = gateway.http_response(
        {"statusCode": 401, "headers": {"WWW-Authenticate": "Basic", "Date": "d", "Via": "v", "Content-Length": "7"}},
        request_id="r",
    )
    names = [name for name, _ in made.headers]
    assert names == ["x-amzn-Remapped-WWW-Authenticate", "x-amzn-Remapped-Date", "x-amzn-RequestId", "x-amz-apigw-id"]


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        {},
        {"statusCode": "many"},
        {"statusCode": 99},
        {"statusCode": 200, "body": {"not": "text"}},
        {"statusCode": 200, "body": "*", "isBase64Encoded": True},
        {"statusCode": 200, "bodyy": ""},
    ],
)
def test_an_answer_of_another_form_is_refused(result: object) -> None:
    with pytest.raises(MalformedProxyResponse):
        gateway.http_response(result, request_id="r")


@pytest.mark.parametrize(
    "kind",
    [
        "UNAUTHORIZED",
        "ACCESS_DENIED",
        "MISSING_AUTHENTICATION_TOKEN",
        "REQUEST_TOO_LARGE",
        "AUTHORIZER_FAILURE",
        "AUTHORIZER_CONFIGURATION_ERROR",
        "INTEGRATION_FAILURE",
        "INTEGRATION_TIMEOUT",
        "DEFAULT_5XX",
    ],
)
def test_what_the_gateway_answers_by_itself_is_a_problem_of_the_template(api: ApiTemplate, kind: str) -> None:
    made = gateway.gateway_response(api, kind, request_id="r")
    assert dict(made.headers)["content-type"] == "application/problem+json"
    problem = json.loads(made.body)
    assert problem["type"].startswith("urn:sallyport:problem:")
    assert problem.get("status", made.status) == made.status


def test_an_authorizer_that_fails_says_when_to_retry(api: ApiTemplate) -> None:
    made = gateway.gateway_response(api, "AUTHORIZER_FAILURE", request_id="r")
    assert made.status == 503
    assert dict(made.headers)["retry-after"] == "5"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "ODD"])
def test_an_open_path_has_a_get_and_everything_else_is_answered_without_a_function(
    api: ApiTemplate, method: str
) -> None:
    """As docs/api.md says of API Gateway."""
    open_paths = {route.path for route in api.routes if route.authorizer is None}
    assert open_paths == {"/healthz", "/openapi.json", "/docs", "/console", "/console/{version}/{file}"}
    assert {route.method for route in api.routes if route.path in open_paths} == {"GET"}
    unknown = Gateway(api, {}).answer(request("/nobody", method=method))
    for path in open_paths:
        answer = Gateway(api, {}).answer(request(path, method=method))
        assert (answer.status, json.loads(answer.body)["status"]) == (404, 404)
        assert answer.body == unknown.body


def test_without_a_template_it_is_api_gateways_own_text() -> None:
    bare = ApiTemplate(stage="s", routes=(), authorizers={}, gateway_responses={}, binary_media_types=())
    made = gateway.gateway_response(bare, "UNAUTHORIZED", request_id="r")
    assert (made.status, made.body) == (401, b'{"message":"Unauthorized"}')


def test_variables_of_a_gateway_response_are_filled_in() -> None:
    responses = {
        "DEFAULT_4XX": GatewayResponse(
            status=None,
            headers={"X-Id": "context.requestId", "X-Word": "'word'"},
            templates={"application/json": "$context.error.responseType $context.error.message $context.unknown"},
        )
    }
    bare = ApiTemplate(stage="s", routes=(), authorizers={}, gateway_responses=responses, binary_media_types=())
    made = gateway.gateway_response(bare, "UNAUTHORIZED", request_id="r", message="no")
    assert made.body == b"UNAUTHORIZED no "
    assert {"x-id": "r", "x-word": "word"}.items() <= dict(made.headers).items()


@pytest.mark.parametrize(
    ("effect", "resource", "allowed"),
    [
        ("Allow", "arn:aws:execute-api:us-east-1:000000000000:local/dev/*", True),
        ("Allow", ["arn:other", "arn:aws:execute-api:*:*:local/dev/GET/v1/*"], True),
        ("Allow", "arn:aws:execute-api:us-east-1:000000000000:local/dev/POST/*", False),
        ("Deny", "*", False),
    ],
)
def test_a_policy_is_matched_with_the_method(effect: str, resource: Any, allowed: bool) -> None:
    arn = "arn:aws:execute-api:us-east-1:000000000000:local/dev/GET/v1/egress"
    policy = {"Statement": [{"Effect": effect, "Action": "execute-api:Invoke", "Resource": resource}]}
    assert gateway.allows(policy, arn) is allowed


def test_a_deny_beats_an_allow() -> None:
    statements = [{"Effect": effect, "Action": "execute-api:*", "Resource": "*"} for effect in ("Allow", "Deny")]
    assert not gateway.allows({"Statement": statements}, "arn:x")
