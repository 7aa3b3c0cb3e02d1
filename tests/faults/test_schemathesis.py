"""Requests that schemathesis derives from the OpenAPI document, valid by it and not, and all its checks of the answers.

One check is left out: that whatever fits the schemas is accepted. Many rules of ours are about two members, or about
what is stored, and a schema cannot say them; the answer is a 422 then.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from handlers import api as function
from handlers.openapi import document
from handlers.routes import every_operation
from tests.support.api import STAGE, Context, Functions, forget_services, reply

type StartResponse = Callable[[str, list[tuple[str, str]]], object]

PASSED_ON = "/v1/via/"  # its answers are the partner's
ALL_SLOW = list(HealthCheck)
# 412 too, where an If-Match is not the present version.
REFUSES_WITH = {
    "checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 409, 412, 413, 422, 429, 503]}}
}
UNAUTHORIZED = {
    "type": "urn:sallyport:problem:unauthorized",
    "title": "A valid bearer token is required",
    "status": 401,
    "detail": "as API Gateway says it",
}


def gateway(functions: Functions) -> Callable[[dict[str, Any], StartResponse], Iterable[bytes]]:
    """A WSGI application that calls the API as API Gateway does, for whoever has the token."""
    open_paths = {operation.template for operation in every_operation() if operation.scope is None}

    def call(environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        path = environ["REQUEST_URI"].partition("?")[0].removeprefix(f"/{STAGE}")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        headers = [
            (name.removeprefix("HTTP_").replace("_", "-").title(), value)
            for name, value in environ.items()
            if name.startswith("HTTP_") or name == "CONTENT_TYPE"
        ]
        target = f"{path}?{environ['QUERY_STRING']}"
        event = functions.api.event(environ["REQUEST_METHOD"], target, body=body or None, headers=headers)
        if path not in open_paths and dict(headers).get("Authorization") != f"Bearer {functions.token}":
            start("401 -", [("Content-Type", "application/problem+json"), ("WWW-Authenticate", "Bearer")])
            return [json.dumps(UNAUTHORIZED).encode()]
        answer = reply(function.handler(event, Context()))
        start(f"{answer.status} -", list(answer.headers))
        return [answer.body]

    return call


@pytest.fixture
def complete(functions: Functions, ssm_url: str, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """With the results of egress checks, and a destination that nothing can be sent to."""
    monkeypatch.setenv("EGRESS_RESULTS_PATH", f"/sallyport/{uuid4()}/egress")
    monkeypatch.setenv("SSM_ENDPOINT_URL", ssm_url)
    forget_services()
    functions.api.destination("http://127.0.0.1:1")
    return functions


def described_for(mode: GenerationMode) -> dict[str, Any]:
    """What is to be wrong with a call is not that it has no token."""
    described = document(server=f"/{STAGE}")
    for operations in described["paths"].values() if mode is GenerationMode.NEGATIVE else ():
        for operation in operations.values():
            operation["security"] = []
    return described


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_api_does_what_its_document_says(complete: Functions, mode: GenerationMode) -> None:
    config = SchemathesisConfig.from_dict(REFUSES_WITH)
    schema = schemathesis.openapi.from_dict(described_for(mode), config=config)
    schema.app = gateway(complete)
    token = {"Authorization": f"Bearer {complete.token}"}

    def tried(operation: Any) -> bool:
        @settings(max_examples=4, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=ALL_SLOW)
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case: Case[Any]) -> None:
            answer = case.call(headers=token)
            case.validate_response(answer, excluded_checks=[positive_data_acceptance], headers=token)

        try:
            call()
        except Unsatisfiable:  # it takes nothing that could be wrong
            return False
        return True

    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    own = [operation for operation in found if not operation.path.startswith(PASSED_ON)]
    number = sum(map(tried, own))
    assert number == len(own) if mode is GenerationMode.POSITIVE else number > 20
