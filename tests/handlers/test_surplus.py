"""What a call has too much is refused: a slip would go unnoticed, and a list would be wider than was meant."""

import re

import pytest

from handlers.operations import Operation
from handlers.routes import every_operation
from tests.support.api import NOBODYS_ID, Api, Functions

OURS = [operation for operation in every_operation() if not operation.passes]
NAMES = [f"{operation.method} {operation.path}" for operation in OURS]


def path_of(operation: Operation) -> str:
    return re.sub("<[a-z_]+>", NOBODYS_ID, operation.path)


def api_for(functions: Functions, operation: Operation) -> Api:
    return functions.open_api if operation.scope is None else functions.api_with(operation.scope)


@pytest.mark.parametrize("operation", OURS, ids=NAMES)
def test_an_unknown_parameter_is_refused_and_not_named(refusing: Functions, operation: Operation) -> None:
    refused = api_for(refusing, operation).call(operation.method, f"{path_of(operation)}?hunter2=1&hunter3=1")
    known = [parameter.shown for parameter in operation.parameters if parameter.place == "query"]
    detail = f"2 unknown; known are {', '.join(known) or 'none'}"
    assert (refused.status, refused.json["faults"]) == (422, [{"field": "query", "detail": detail}])
    assert b"hunter" not in refused.body


@pytest.mark.parametrize("path", ["/v1/egress", "/v1/deliveries", "/v1/destinations"])
def test_a_token_without_the_scope_learns_nothing_of_its_parameters(refusing: Functions, path: str) -> None:
    assert refusing.api_with().call("GET", f"{path}?x=1").kind == "forbidden"


def test_a_body_where_none_is_read_is_refused(refusing: Functions) -> None:
    refused = refusing.api.call("POST", "/v1/egress/verify", body=b"{}")
    assert (refused.status, refused.kind, refused.json["detail"]) == (
        400,
        "malformed-request",
        "this call takes no body",
    )


def test_a_body_of_a_get_has_no_meaning_and_is_ignored(refusing: Functions) -> None:
    assert refusing.open_api.call("GET", "/healthz", body=b"{}").status == 200


def test_a_parameter_of_a_pass_through_call_is_the_partner_s(refusing: Functions) -> None:
    assert refusing.api.call("GET", "/v1/via/nobody/orders?x=1").kind != "invalid-request"
