"""The OpenAPI 3.1 document, generated from the table of operations and the types of the bodies."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from handlers.operations import OPERATIONS, Operation, Parameter
from handlers.problems import CONTENT_TYPE
from handlers.schemas import ProblemBody
from runtime.version import VERSION

_REFERENCE = "#/components/schemas/{name}"
_ALWAYS_WITH_TOKEN = (401, 403, 503)
# In the order of the page. The first part of a path below /v1 names its tag; what is open to everybody comes last.
_TAGS = {
    "deliveries": "Hand over requests, and see what became of them",
    "via": "Pass calls through: the caller changes its base URL and nothing else",
    "destinations": "The third parties",
    "egress": "The fixed addresses",
    "about": "Open to everybody",
}


def document(*, server: str, operations: Iterable[Operation] = OPERATIONS) -> dict[str, Any]:
    """The whole document; `server` is what stands before the paths, such as the stage."""
    listed = list(operations)
    schemas = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        paths.setdefault(operation.template, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sallyport",
            "version": VERSION,
            "summary": "Hand over HTTP requests for third parties; they leave from a fixed address.",
        },
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "servers": [{"url": server or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "spt_..."}},
        },
    }


def _bodies(operation: Operation) -> list[type[msgspec.Struct]]:
    answers = [answer.body for answer in operation.answers.values() if answer.body is not None]
    return answers if operation.body is None else [operation.body, *answers]


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    kinds = {kind: None for operation in operations for kind in _bodies(operation)}
    return msgspec.json.schema_components([*kinds, ProblemBody], ref_template=_REFERENCE)[1]


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "tags": [_tag(operation)],
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *map(_parameter, operation.parameters)],
        "responses": _responses(operation),
        "security": [] if operation.scope is None else [{"token": []}],
    }
    if operation.description:
        described["description"] = operation.description
    if operation.scope is not None:
        described["x-scope"] = operation.scope
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(operation.body)}}}
    return described


def _tag(operation: Operation) -> str:
    first = operation.template.removeprefix("/v1/").partition("/")[0]
    return first if first in _TAGS else "about"


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[a-z]+", operation.template.removeprefix("/v1"))
    return "_".join([operation.method.lower(), *words])


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", operation.template)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": False,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        responses[str(status)] = {"description": answer.description}
        if answer.body is not None:
            responses[str(status)]["content"] = {"application/json": {"schema": _ref(answer.body)}}
    with_token = () if operation.scope is None else _ALWAYS_WITH_TOKEN
    for status in sorted({*operation.problems, *with_token}):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {CONTENT_TYPE: {"schema": _ref(ProblemBody)}},
        }
    return responses


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}
