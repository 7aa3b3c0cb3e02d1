"""The OpenAPI document says what the routes are."""

from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from handlers import api  # the routes enter themselves into the table when they are imported
from handlers.openapi import document
from handlers.operations import OPERATIONS
from handlers.problems import CONTENT_TYPE
from runtime.version import VERSION

SECRETS = ("token", "username", "password", "value")


@pytest.fixture
def described() -> dict[str, Any]:
    return document(server="/dev")


def test_it_is_openapi_3_1_of_this_version(described: dict[str, Any]) -> None:
    validate(described)
    assert api.app is not None
    assert (described["openapi"], described["info"]["version"]) == ("3.1.0", VERSION)


def test_without_a_stage_the_server_is_the_root() -> None:
    assert document(server="")["servers"] == [{"url": "/"}]


def test_every_operation_is_there_with_its_scope_and_its_answers(described: dict[str, Any]) -> None:
    for operation in OPERATIONS:
        found = described["paths"][operation.template][operation.method.lower()]
        assert found.get("x-scope") == operation.scope
        assert found["security"] == ([] if operation.scope is None else [{"token": []}])
        assert {str(status) for status in (*operation.answers, *operation.problems)} <= set(found["responses"])


def test_every_problem_is_an_rfc_9457_problem(described: dict[str, Any]) -> None:
    for operations in described["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == [CONTENT_TYPE]


def test_every_part_of_a_path_is_a_parameter(described: dict[str, Any]) -> None:
    for template, operations in described["paths"].items():
        for operation in operations.values():
            names = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
            assert names == {part[1:-1] for part in template.split("/") if part.startswith("{")}


def test_credentials_are_write_only_and_in_no_answer(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    for name, schema in schemas.items():
        for field, kind in schema.get("properties", {}).items():
            if name.endswith("AuthBody") and field in SECRETS:
                assert kind["writeOnly"] is True, (name, field)
    assert set(schemas["AuthTypeBody"]["properties"]) == {"type"}


def test_only_a_body_that_comes_in_refuses_what_it_does_not_know(described: dict[str, Any]) -> None:
    for operation in OPERATIONS:
        if operation.body is not None:
            assert described["components"]["schemas"][operation.body.__name__]["additionalProperties"] is False


def test_it_can_be_sent(described: dict[str, Any]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(described)) == described
