"""API Gateway's part, without the network: HTTP requests to REST proxy events and the functions' answers back.

Sources: "Lambda proxy integrations in API Gateway", "Input to an API Gateway Lambda authorizer", "Gateway response
types" and "Amazon API Gateway important notes" (headers dropped or renamed), in API Gateway's developer guide.

What differs from a deployed API, on purpose: paths have no stage in front, neither outside nor in
`requestContext.path`, as behind a custom domain name; header names arrive in lower case; there is no throttling, no WAF
and no limit on headers; the connection is HTTP, not HTTPS.
"""

import base64
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from local.template import ApiRoute, ApiTemplate, GatewayResponse

type HeaderList = tuple[tuple[str, str], ...]

REQUEST_LIMIT_BYTES = 10 * 1024 * 1024
INTEGRATION_TIMEOUT_SECONDS = 29.0
API_ID = "local"
ACCOUNT_ID = "000000000000"

# The Lambda columns of the table in "Amazon API Gateway important notes".
_DROPPED_FROM_REQUESTS = {
    "connection",
    "content-md5",
    "expect",
    "max-forwards",
    "proxy-authenticate",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
}
_DROPPED_FROM_RESPONSES = frozenset(
    ["expect", "host", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade", "via", "keep-alive"]
)
_RENAMED_IN_RESPONSES = frozenset(
    ["authorization", "connection", "content-md5", "date", "max-forwards", "server", "user-agent", "www-authenticate"]
)

# "Gateway response types": the status and message of each where the template says nothing.
_KINDS = {
    "ACCESS_DENIED": (403, "User is not authorized to access this resource"),
    "AUTHORIZER_CONFIGURATION_ERROR": (500, "Internal server error"),
    "AUTHORIZER_FAILURE": (500, "Internal server error"),
    "INTEGRATION_FAILURE": (502, "Internal server error"),
    "INTEGRATION_TIMEOUT": (504, "Endpoint request timed out"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "Missing Authentication Token"),
    "REQUEST_TOO_LARGE": (413, "Request Too Long"),
    "UNAUTHORIZED": (401, "Unauthorized"),
    "DEFAULT_5XX": (502, "Internal server error"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request as it came. `path` is percent-encoded, `query` the raw query string, names in any case."""

    method: str
    path: str
    query: str
    headers: HeaderList
    body: bytes
    source_ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A response to send."""

    status: int
    headers: HeaderList
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The route that a request takes, with its path parameters, decoded."""

    route: ApiRoute
    path_parameters: Mapping[str, str]


class MalformedProxyResponse(Exception):
    """A function returned something that API Gateway does not accept; the message says what."""


def matched(routes: Iterable[ApiRoute], *, method: str, path: str) -> Match | None:
    """The most exact route for a request: fixed segments before `{name}` before `{name+}`. None for no route."""
    found = [
        (route.path.count("+}"), route.path.count("{"), route.method == "ANY", route, parameters)
        for route in routes
        if route.method in ("ANY", method) and (parameters := _path_parameters(route.path, path)) is not None
    ]
    if not found:
        return None
    *_, route, parameters = min(found, key=lambda candidate: candidate[:3])
    return Match(route=route, path_parameters=parameters)


def _path_parameters(pattern: str, path: str) -> dict[str, str] | None:
    """A greedy parameter matches one character or more; the others match no slash."""
    expression = re.sub(r"\\{(\w+)(\\\+)?\\}", lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", re.escape(pattern))
    found = re.fullmatch(expression, path)
    return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


def proxy_event(api: ApiTemplate, match: Match, request: HttpRequest, *, context: Mapping[str, Any]) -> dict[str, Any]:
    """The event of a Lambda proxy integration. With `*/*` among the API's binary types every body is base64."""
    binary = "*/*" in api.binary_media_types
    body = base64.b64encode(request.body).decode() if binary else request.body.decode("utf-8", errors="replace")
    return {
        **_request_part(match, request),
        "requestContext": dict(context),
        "body": body if request.body else None,
        "isBase64Encoded": binary and bool(request.body),
    }


def authorizer_event(
    api: ApiTemplate, match: Match, request: HttpRequest, *, context: Mapping[str, Any]
) -> dict[str, Any]:
    """The event of a REQUEST authorizer."""
    return {
        "type": "REQUEST",
        "methodArn": method_arn(api, request),
        **_request_part(match, request),
        "requestContext": dict(context),
    }


def method_arn(api: ApiTemplate, request: HttpRequest) -> str:
    """What an authorizer's policy is matched with."""
    path = request.path.lstrip("/")
    return f"arn:aws:execute-api:us-east-1:{ACCOUNT_ID}:{API_ID}/{api.stage}/{request.method}/{path}"


def request_context(api: ApiTemplate, match: Match, request: HttpRequest) -> dict[str, Any]:
    """The `requestContext` of both events, with a fresh request id."""
    moment = time.time()
    host = _last(request.headers).get("host", "")
    return {
        "accountId": ACCOUNT_ID,
        "apiId": API_ID,
        "domainName": host,
        "domainPrefix": host.partition(".")[0],
        "extendedRequestId": uuid.uuid4().hex[:15] + "=",
        "httpMethod": request.method,
        "identity": {"sourceIp": request.source_ip, "userAgent": _last(request.headers).get("user-agent")},
        "path": request.path,
        "protocol": "HTTP/1.1",
        "requestId": str(uuid.uuid4()),
        "requestTime": datetime.fromtimestamp(moment, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "requestTimeEpoch": int(moment * 1000),
        "resourceId": "local",
        "resourcePath": match.route.path,
        "stage": api.stage,
    }


def _request_part(match: Match, request: HttpRequest) -> dict[str, Any]:
    headers = _forwarded(request)
    query = parse_qsl(request.query, keep_blank_values=True, encoding="utf-8", errors="replace")
    return {
        "resource": match.route.path,
        "path": request.path,
        "httpMethod": request.method,
        "headers": _last(headers),
        "multiValueHeaders": _all(headers),
        "queryStringParameters": _last(query) or None,
        "multiValueQueryStringParameters": _all(query) or None,
        "pathParameters": dict(match.path_parameters) or None,
        "stageVariables": None,
    }


def _forwarded(request: HttpRequest) -> list[tuple[str, str]]:
    """The headers a function sees: some dropped, API Gateway's own added."""
    kept = [(name, value) for name, value in request.headers if name.lower() not in _DROPPED_FROM_REQUESTS]
    earlier = [value for name, value in kept if name.lower() == "x-forwarded-for"]
    own = {
        "X-Forwarded-For": ", ".join([*earlier, request.source_ip]),
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
        "X-Amzn-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}",
    }
    others = [(name, value) for name, value in kept if name.lower() not in {key.lower() for key in own}]
    return [*others, *own.items()]


def _last(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return dict(pairs)


def _all(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def http_response(result: object, *, request_id: str) -> HttpResponse:
    """The HTTP response that a function's result stands for. Raises MalformedProxyResponse."""
    if not isinstance(result, dict):
        raise MalformedProxyResponse("the result is not an object")
    unknown = result.keys() - {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded", "cookies"}
    if unknown:
        raise MalformedProxyResponse(f"the result has unknown keys: {sorted(unknown)}")
    try:
        status = int(result["statusCode"])
        body = _body(result)
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedProxyResponse(f"{type(error).__name__}: {error}") from error
    if not 100 <= status <= 599:
        raise MalformedProxyResponse(f"{status} is not an HTTP status")
    own = (("x-amzn-RequestId", request_id), ("x-amz-apigw-id", uuid.uuid4().hex[:15] + "="))
    return HttpResponse(status=status, headers=(*_returned(result), *own), body=body)


def _body(result: Mapping[str, Any]) -> bytes:
    body = result.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise TypeError("the body is not a string")
    return base64.b64decode(body, validate=True) if result.get("isBase64Encoded") else body.encode()


def _returned(result: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """`multiValueHeaders` wins over `headers` for a name that both have. The connection's own are replaced."""
    multiple = result.get("multiValueHeaders") or {}
    single = {name: [value] for name, value in (result.get("headers") or {}).items() if name not in multiple}
    for name, values in {**single, **multiple}.items():
        if name.lower() in _DROPPED_FROM_RESPONSES or name.lower() == "content-length":
            continue
        shown = f"x-amzn-Remapped-{name}" if name.lower() in _RENAMED_IN_RESPONSES else name
        yield from ((shown, str(value)) for value in values)


def gateway_response(api: ApiTemplate, kind: str, *, request_id: str, message: str = "") -> HttpResponse:
    """What API Gateway answers by itself for `kind`, as the template has it for the kind or for its class."""
    status, own_message = _KINDS[kind]
    default = GatewayResponse(status=None, templates={"application/json": '{"message":$context.error.messageString}'})
    found = api.gateway_responses.get(kind) or api.gateway_responses.get(f"DEFAULT_{status // 100}XX") or default
    media_type, template = next(iter((found.templates or default.templates).items()))
    values = {
        "error.messageString": f'"{message or own_message}"',
        "error.message": message or own_message,
        "error.responseType": kind,
        "requestId": request_id,
    }
    headers = {"content-type": media_type} | {
        name.lower(): _header_value(value, values) for name, value in found.headers.items()
    }
    return HttpResponse(
        status=found.status or status,
        headers=(*headers.items(), ("x-amzn-RequestId", request_id), ("x-amzn-ErrorType", kind)),
        body=_filled(template, values).encode(),
    )


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Only variables are replaced: gateway responses know no template language."""
    return re.sub(r"\$context\.([A-Za-z.]+)", lambda found: values.get(found[1], ""), template)


def _header_value(value: str, values: Mapping[str, str]) -> str:
    """'quoted' is literal, context.x a variable."""
    return value[1:-1] if value.startswith("'") else values.get(value.removeprefix("context."), "")


def allows(policy: Mapping[str, Any], arn: str) -> bool:
    """Whether an authorizer's policy document lets `arn` be invoked: some Allow matches and no Deny."""
    effects = {
        statement["Effect"]
        for statement in _listed(policy["Statement"])
        if any(_matches(action, "execute-api:Invoke") for action in _listed(statement["Action"]))
        and any(_matches(resource, arn) for resource in _listed(statement["Resource"]))
    }
    return "Allow" in effects and "Deny" not in effects


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _matches(pattern: str, value: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, value, re.IGNORECASE if "Invoke" in value else 0) is not None
