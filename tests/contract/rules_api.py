"""What the API must be. Each rule returns its faults in words; none is good."""

import json
import re
from typing import Any

from handlers.problems import TITLES, TYPE_PREFIX
from tests.contract.project import APPLICATION, Project

OPEN_ROUTES = {("/healthz", "get"), ("/openapi.json", "get"), ("/docs", "get")}
ANY = "x-amazon-apigateway-any-method"
# Kinds of problems that only API Gateway can tell of.
GATEWAY_TITLES = {"too-many-requests": "Requests arrive too fast", "timeout": "No answer came in time"}
GATEWAY_RESPONSES = {  # by API Gateway's name; the status that callers see, None where API Gateway knows best
    "UNAUTHORIZED": 401,
    "ACCESS_DENIED": 403,
    "MISSING_AUTHENTICATION_TOKEN": 404,
    "REQUEST_TOO_LARGE": 413,
    "THROTTLED": 429,
    "AUTHORIZER_FAILURE": 503,
    "AUTHORIZER_CONFIGURATION_ERROR": 503,
    "INTEGRATION_FAILURE": 502,
    "INTEGRATION_TIMEOUT": 504,
    "DEFAULT_4XX": None,
    "DEFAULT_5XX": None,
}
LOGGED = {  # all that the access log may hold; a path can carry a partner's secret, the route cannot
    "requestId",
    "requestTimeEpoch",
    "identity.sourceIp",
    "tlsVersion",
    "httpMethod",
    "resourcePath",
    "status",
    "responseLength",
    "responseLatency",
    "integrationLatency",
    "authorizer.latency",
    "authorizer.tenant_id",
    "error.responseType",
}


def every_v1_route_asks_the_authorizer_and_no_open_one_does(project: Project) -> list[str]:
    """The open routes are exactly three."""
    body = _body(project)
    security = {
        (path, method): [name for entry in operation.get("security", []) for name in entry]
        for path, operations in body["paths"].items()
        for method, operation in operations.items()
    }
    faults = []
    for (path, method), schemes in security.items():
        is_open = (path, method) in OPEN_ROUTES
        if schemes != (["NONE"] if is_open else ["TokenAuthorizer"]):
            faults.append(f"{method} {path} is checked by {schemes or 'nobody'}")
        if not is_open and not path.startswith("/v1/"):
            faults.append(f"{method} {path} is neither open nor below /v1")
    missing = OPEN_ROUTES | {("/v1/{proxy+}", ANY)}
    return faults + [f"there is no {method} {path}" for path, method in sorted(missing - security.keys())]


def the_authorizer_sees_each_token_at_least_once_a_minute(project: Project) -> list[str]:
    """A REQUEST authorizer by the Authorization header; the answer is kept for at most 60 s."""
    (scheme,) = _body(project)[
        "securityDefinitions" if "securityDefinitions" in _body(project) else "components"
    ].values()
    authorizer = scheme.get("TokenAuthorizer", scheme)["x-amazon-apigateway-authorizer"]
    faults = []
    if authorizer["type"] != "request" or authorizer.get("identitySource") != "method.request.header.Authorization":
        faults.append("the authorizer is not a REQUEST authorizer by the Authorization header")
    if not 0 < int(authorizer.get("authorizerResultTtlInSeconds", 300)) <= 60:
        faults.append("a revoked token works for more than a minute")
    if "AuthorizeFunction" not in json.dumps(authorizer["authorizerUri"]):
        faults.append("the authorizer is another function")
    return faults


def functions_without_a_route_have_no_caller(project: Project) -> list[str]:
    """Operators' function and migration: by IAM alone, and no function has a URL."""
    resources = project.resources(APPLICATION)
    faults = [
        f"{name} gives a function a URL" for name, item in resources.items() if item["Type"] == "AWS::Lambda::Url"
    ]
    return faults + [
        f"{name} lets something call {item['Properties']['FunctionName']}"
        for name, item in resources.items()
        if item["Type"] == "AWS::Lambda::Permission"
        and not str(item["Properties"]["FunctionName"]).startswith(("ApiFunction", "AuthorizeFunction"))
    ]


def gateway_responses_are_problems(project: Project) -> list[str]:
    """application/problem+json (RFC 9457) of the kinds and titles that the handlers use too."""
    found = _body(project).get("x-amazon-apigateway-gateway-responses", {})
    faults = [f"{name} is API Gateway's own" for name in GATEWAY_RESPONSES if name not in found]
    for name, response in found.items():
        faults += [f"{name}: {fault}" for fault in _response_faults(response, GATEWAY_RESPONSES.get(name))]
    return faults


def _response_faults(response: dict[str, Any], status: int | None) -> list[str]:
    headers = response.get("responseParameters", {})
    template = response.get("responseTemplates", {}).get("application/json", "")
    try:
        members = json.loads(re.sub(r"\$context\.[\w.]+", '"text"', template))
    except ValueError:
        return ["the body is not JSON"]
    kind = str(members.get("type", "")).removeprefix(TYPE_PREFIX)
    faults = []
    if headers.get("gatewayresponse.header.Content-Type") != "'application/problem+json'":
        faults.append("is not application/problem+json")
    if members.get("title") != (TITLES | GATEWAY_TITLES).get(kind):
        faults.append(f"the title of {kind} is another")
    if (members.get("status"), response.get("statusCode")) != (status, str(status) if status else None):
        faults.append(f"the status is {response.get('statusCode')}, the body says {members.get('status')}")
    if status in {429, 503} and "gatewayresponse.header.Retry-After" not in headers:
        faults.append("does not say when to come back")
    if status == 401 and "gatewayresponse.header.WWW-Authenticate" not in headers:
        faults.append("does not say how to authenticate (RFC 9110 section 15.5.2)")
    return faults


def logs_hold_no_body_path_or_token(project: Project) -> list[str]:
    """The access log has named values only; execution logs, which can show bodies, are off."""
    stage = project.resources(APPLICATION)["ApiStage"]["Properties"]
    entry = stage.get("AccessLogSetting", {}).get("Format", "")
    faults = [
        f"the access log holds {name}" for name in re.findall(r"\$context\.([\w.]+)", entry) if name not in LOGGED
    ]
    try:
        json.loads(entry)
    except ValueError:
        faults.append("the access log is not JSON")
    faults += [
        "API Gateway writes execution logs"
        for setting in stage.get("MethodSettings", [])
        if setting.get("LoggingLevel") != "OFF" or setting.get("DataTraceEnabled") is not False
    ]
    if stage.get("TracingEnabled"):
        faults.append("traces are taken, which nothing here reads")
    return faults


def the_stage_is_throttled(project: Project) -> list[str]:
    """All methods of all routes, in every stage that is deployed."""
    faults = []
    for stage, parameters in project.stages().items():
        settings = project.resources(APPLICATION, **parameters)["ApiStage"]["Properties"].get("MethodSettings", [])
        everything = [item for item in settings if (item["HttpMethod"], item["ResourcePath"]) == ("*", "/*")]
        limits = [
            int(item.get(name, 0)) for item in everything for name in ("ThrottlingRateLimit", "ThrottlingBurstLimit")
        ]
        if len(limits) != 2 or not all(limits):
            faults.append(f"{stage} is not throttled")
    return faults


def bodies_arrive_as_bytes_over_current_tls(project: Project) -> list[str]:
    """Every media type is binary, the endpoint is regional and takes TLS 1.2 or 1.3."""
    api = project.resources(APPLICATION)["Api"]["Properties"]
    faults = []
    if _body(project).get("x-amazon-apigateway-binary-media-types") != ["*/*"]:
        faults.append("API Gateway turns bodies into text")
    if not str(api.get("SecurityPolicy")).startswith(("SecurityPolicy_TLS13_1_2_", "SecurityPolicy_TLS13_1_3_")):
        faults.append(f"the security policy is {api.get('SecurityPolicy')}")
    if api.get("EndpointConfiguration", {}).get("Types") != ["REGIONAL"]:
        faults.append("the endpoint is not regional")
    return faults


def only_the_worker_names_the_api_among_blocked_hosts(project: Project) -> list[str]:
    """It may not call its own gateway; the API's function knows the host from each call."""
    variables = project.functions()["AttemptFunction"]["Properties"]["Environment"]["Variables"]
    wanted = "Api.execute-api.us-east-1.amazonaws.com"
    return [] if variables.get("BLOCKED_HOSTS") == wanted else [f"BLOCKED_HOSTS is {variables.get('BLOCKED_HOSTS')}"]


def _body(project: Project) -> dict[str, Any]:
    body: dict[str, Any] = project.translated()["Resources"]["Api"]["Properties"]["Body"]
    return body


RULES = [
    every_v1_route_asks_the_authorizer_and_no_open_one_does,
    the_authorizer_sees_each_token_at_least_once_a_minute,
    functions_without_a_route_have_no_caller,
    gateway_responses_are_problems,
    logs_hold_no_body_path_or_token,
    the_stage_is_throttled,
    bodies_arrive_as_bytes_over_current_tls,
    only_the_worker_names_the_api_among_blocked_hosts,
]
