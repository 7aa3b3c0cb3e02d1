"""What the API must be. Each rule returns its faults in words; none is good."""

import json
import re
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from handlers.problems import TITLES, TYPE_PREFIX
from handlers.routes import every_operation
from stack.functions import Trigger, triggered_by
from tests.contract.project import APPLICATION, Project

OPEN_ROUTES = {
    *(("/healthz", "get"), ("/openapi.json", "get"), ("/docs", "get")),
    *(("/console", "get"), ("/console/{version}/{file}", "get")),
}
ANY = "x-amazon-apigateway-any-method"
CALLED_BY = {
    "apigateway.amazonaws.com": triggered_by(Trigger.REQUEST, Trigger.TOKEN),
    "events.amazonaws.com": triggered_by(Trigger.SCHEDULE),
}
# Kinds of problems that only API Gateway can tell of.
GATEWAY_TITLES = {
    "too-many-requests": "Requests arrive too fast",
    "timeout": "No answer came in time",
    "blocked": "The request was blocked",
}
GATEWAY_RESPONSES = {  # by API Gateway's name; the status that callers see
    "UNAUTHORIZED": 401,
    "ACCESS_DENIED": 403,
    "WAF_FILTERED": 403,
    "MISSING_AUTHENTICATION_TOKEN": 404,
    "REQUEST_TOO_LARGE": 413,
    "THROTTLED": 429,
    "AUTHORIZER_FAILURE": 503,
    "AUTHORIZER_CONFIGURATION_ERROR": 503,
    "INTEGRATION_FAILURE": 502,
    "INTEGRATION_TIMEOUT": 504,
    "DEFAULT_4XX": 400,
    "DEFAULT_5XX": 500,
}
LAYER = "arn:aws:lambda:us-east-1:901920570463:layer:aws-otel-python-arm64-ver-1-32-0:12345"
KEY = "arn:aws:kms:us-east-1:555555555555:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SETTINGS_OF_THE_API = [  # parameters that change what the API's function is given
    {"LogLevel": "DEBUG"},
    {"Architecture": "x86_64"},
    {"SnapStart": "yes"},
    {"Tracing": "xray"},
    {"Tracing": "otel", "OpenTelemetryLayerArn": LAYER},
    {"KmsKeyArn": KEY},
    {"AllowedPrivateCidrs": "10.1.0.0/16"},
    {"EgressEchoUrl": "https://echo.example.com/"},
    {"Egress": "per-az"},
    {"Egress": "regional"},
    {"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16"},
    {"DatabaseProxy": "yes", "DatabaseMinCapacity": "0.5"},
    {"DomainName": "api.example.com", "CertificateArn": "arn:aws:acm:us-east-1:555555555555:certificate/1234abcd"},
    {"Stage": "staging"},
]
CLUSTER = "Database.DatabaseCluster.DBClusterResourceId"
CLUSTER_LENGTH = 34  # cluster- and 26 letters and digits; that of a proxy is shorter
LONGEST_SETTINGS = {
    "Egress": "per-az",
    "AllowedPrivateCidrs": ",".join(f"192.168.100.10{place}/32" for place in range(4)),
    "LogLevel": "WARNING",
    "Tracing": "otel",
    "OpenTelemetryLayerArn": LAYER,
    "Architecture": "x86_64",
    "KmsKeyArn": KEY,
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
    """The open routes are exactly these."""
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
    return faults + [f"there is no {method} {path}" for path, method in sorted(OPEN_ROUTES - security.keys())]


def every_operation_has_a_route_and_every_route_an_operation(project: Project) -> list[str]:
    """API Gateway answers 404 to every other path, so a path that is not in the template does not exist."""
    routes = {
        path: re.sub(r"\{\w+(\+?)\}", lambda part: ".+" if part[1] else "[^/]+", path)
        for path in _body(project)["paths"]
    }
    samples = {operation.template: re.sub(r"\{\w+\}", "some", operation.template) for operation in every_operation()}
    faults = [
        f"there is no route for {path}"
        for path, sample in samples.items()
        if not any(re.fullmatch(pattern, sample) for pattern in routes.values())
    ]
    return faults + [
        f"{path} leads to no operation"
        for path, pattern in routes.items()
        if not any(re.fullmatch(pattern, sample) for sample in samples.values())
    ]


def callers_are_limited_where_they_enter(project: Project) -> list[str]:
    """A resource policy always; a private API lets in only what came through its own endpoint; a list of ranges is
    compared with the address that the kind of API knows."""
    private = {"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16"}
    ranges = {"AllowedCallerCidrs": "198.51.100.0/24,203.0.113.7/32"}
    listed = ["198.51.100.0/24", "203.0.113.7/32"]
    endpoint = {"StringNotEquals": {"aws:SourceVpce": "Endpoints.ApiEndpoint"}}
    wanted: list[tuple[dict[str, str], str, list[dict[str, Any]]]] = [
        ({}, "REGIONAL", []),
        (ranges, "REGIONAL", [{"NotIpAddress": {"aws:SourceIp": listed}}]),
        (private, "PRIVATE", [endpoint]),
        (private | ranges, "PRIVATE", [endpoint, {"NotIpAddress": {"aws:VpcSourceIp": listed}}]),
    ]
    faults = []
    for parameters, kind, conditions in wanted:
        made = project.resources(APPLICATION, **parameters)["Api"]["Properties"]
        statements = made["Body"].get("x-amazon-apigateway-policy", {}).get("Statement", [])
        allowed = [statement for statement in statements if statement["Effect"] == "Allow"]
        denied = [statement["Condition"] for statement in statements if statement["Effect"] == "Deny"]
        if made["EndpointConfiguration"]["Types"] != [kind]:
            faults.append(f"with {parameters} the endpoint is {made['EndpointConfiguration']['Types']}")
        if (
            len(allowed) != 1
            or denied != conditions
            or any(statement["Resource"] != "execute-api:/*" for statement in statements)
        ):
            faults.append(f"with {parameters} the resource policy lets in {statements}")
    return faults


def a_change_of_who_may_call_is_deployed(project: Project) -> list[str]:
    """A stage shows a new resource policy, endpoint type or domain only after a deployment, which SAM makes when it
    sees another value in the document."""
    changes = [
        {"Topology": "internal-only"},
        {"CorporateApi": "public"},
        {"AllowedCallerCidrs": "198.51.100.0/24"},
        {"DomainName": "api.example.com"},
    ]
    before = _deployment(project, {})
    return [f"a change to {change} is not deployed" for change in changes if _deployment(project, change) == before]


def _deployment(project: Project, parameters: dict[str, str]) -> str:
    """The logical id of the API's deployment, as SAM makes it when CloudFormation hands it these parameters."""
    template = json.loads(json.dumps(project.written(APPLICATION)))
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    session = boto3.Session(region_name="us-east-1")
    made = Translator({}, Parser(), boto_session=session).translate(template, parameters)
    (name,) = (key for key, resource in made["Resources"].items() if resource["Type"] == "AWS::ApiGateway::Deployment")
    return str(name)


def the_alias_follows_every_setting_of_the_function(project: Project) -> list[str]:
    """API Gateway calls the version of the alias. A new version is created when its description changes, which must
    therefore change with every setting of the function; and so must the function's own description, for Lambda
    publishes no version of a function that did not change. 256 characters hold the longest."""
    before = project.resources(APPLICATION)
    faults = [
        f"{name} is described otherwise than the function"
        for name, resource in before.items()
        if resource["Type"] == "AWS::Lambda::Version"
        and resource["Properties"].get("Description") != before["ApiFunction"]["Properties"]["Description"]
    ]
    for parameters in SETTINGS_OF_THE_API:
        after = project.resources(APPLICATION, **parameters)["ApiFunction"]["Properties"]
        description, other = after["Description"], before["ApiFunction"]["Properties"]
        if _settings(after) != _settings(other) and description == other["Description"]:
            faults.append(f"{parameters} does not reach the alias")
        host = after["Environment"]["Variables"]["DATABASE_HOST"].rpartition(".Endpoint")[0]
        if host not in description:
            faults.append(f"with {parameters} a {host} that is created again does not reach the alias")
    url = "https://.com"
    url = url.replace(".", f"{'e' * (_longest_echo_url(project) - len(url))}.")
    made = project.resources(APPLICATION, **LONGEST_SETTINGS, EgressEchoUrl=url)
    longest = made["ApiFunction"]["Properties"]["Description"]
    length = len(re.sub(r"Network\.\w+\.PublicIp", "255.255.255.255", longest.replace(CLUSTER, "c" * CLUSTER_LENGTH)))
    return faults if length <= 256 else [*faults, f"the description has up to {length} characters"]


def _longest_echo_url(project: Project) -> int:
    return int(project.written(APPLICATION)["Parameters"]["EgressEchoUrl"].get("MaxLength", 1000))


def _settings(function: dict[str, Any]) -> dict[str, Any]:
    """What a version keeps."""
    return {key: value for key, value in function.items() if key not in {"Description", "ReservedConcurrentExecutions"}}


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
    """Operators' function and migration: by IAM alone, and no function has a URL. Schedules call the checks alone."""
    resources = project.resources(APPLICATION)
    faults = [
        f"{name} gives a function a URL"
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Lambda::Url"
    ]
    return faults + [
        f"{name} lets something call {resource['Properties']['FunctionName']}"
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Lambda::Permission"
        and not str(resource["Properties"]["FunctionName"]).startswith(
            CALLED_BY.get(resource["Properties"]["Principal"], ())
        )
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
    if "$context.error.message" in template:
        faults.append("hands on API Gateway's text, which may quote the Authorization header")
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
        everything = [
            setting for setting in settings if (setting["HttpMethod"], setting["ResourcePath"]) == ("*", "/*")
        ]
        limits = [
            int(setting.get(name, 0))
            for setting in everything
            for name in ("ThrottlingRateLimit", "ThrottlingBurstLimit")
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
    every_operation_has_a_route_and_every_route_an_operation,
    callers_are_limited_where_they_enter,
    a_change_of_who_may_call_is_deployed,
    the_alias_follows_every_setting_of_the_function,
    the_authorizer_sees_each_token_at_least_once_a_minute,
    functions_without_a_route_have_no_caller,
    gateway_responses_are_problems,
    logs_hold_no_body_path_or_token,
    the_stage_is_throttled,
    bodies_arrive_as_bytes_over_current_tls,
    only_the_worker_names_the_api_among_blocked_hosts,
]
