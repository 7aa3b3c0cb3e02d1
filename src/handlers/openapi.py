"""The OpenAPI 3.1 document, generated from the table of operations and the types of the bodies."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from handlers import examples
from handlers.descriptions import ALWAYS, EXAMPLE_ID, HEADERS, KINDS, MEMBERS, WITH_TOKEN
from handlers.operations import Operation, OperationResponse, Parameter
from handlers.problems import CONTENT_TYPE, TYPE_PREFIX
from handlers.routes import every_operation
from handlers.schemas.deliveries import DeliveryBody, DeliveryDetailsBody
from handlers.schemas.destinations import DestinationBody
from handlers.schemas.jobs import JobBody
from handlers.schemas.problems import ProblemBody
from handlers.schemas.proposals import ProposalBody
from runtime.version import VERSION

_REFERENCE = "#/components/schemas/{name}"
# In the order of the page. The first part of a path below /v1 names its tag; what is open to everybody comes last.
_TAGS = {
    "deliveries": "Create deliveries, and see what became of them",
    "jobs": "Replay or cancel many deliveries",
    "proposals": "Acts that wait for the approval of another token",
    "via": "Pass calls through: the caller changes its base URL and nothing else",
    "destinations": "The third parties",
    "egress": "The fixed addresses",
    "audit": "What was done, and by whom",
    "stats": "Numbers for people",
    "about": "Open to everyone, without a token",
}
_PART_OF = {"replays": "jobs", "cancellations": "jobs"}
_PATH: Mapping[str, dict[str, Any]] = {
    # The id has no prefilled example, since none would exist. The links of the responses say where it comes from.
    "delivery_id": {
        "description": "The delivery's id",
        "schema": {"type": "string", "format": "uuid", "examples": [EXAMPLE_ID]},
    },
    "destination": {
        "description": "The destination's name or id",
        "schema": {"type": "string", "maxLength": 63},
        "example": "partner",
    },
    "proposal_id": {
        "description": "The proposal's id",
        "schema": {"type": "string", "format": "uuid", "examples": [EXAMPLE_ID]},
    },
    "job_id": {
        "description": "The job's id",
        "schema": {"type": "string", "format": "uuid", "examples": [EXAMPLE_ID]},
    },
    "version": {
        "description": "As `/console` names it",
        "schema": {"type": "string"},
        "example": "latest",
    },
    "file": {
        "description": "The file's name",
        "schema": {"type": "string"},
        "example": "app.js",
    },
    "path": {
        "description": "Goes below the destination's base URL, with any number of segments",
        "schema": {"type": "string"},
        "example": "orders",
    },
}
# Instead of these examples, where the demo destination would not do: another example of the page makes this one.
_OTHER_EXAMPLES: Mapping[tuple[str, str, str], str] = {
    ("POST", "/v1/destinations/{destination}/rotate-secret", "destination"): "example-subscriber",
    # Who tries it on the page does not lose the demo destination, of which all other examples are.
    ("DELETE", "/v1/destinations/{destination}", "destination"): "example-bank",
}
# Where an answer leads: the operation, its parameter, and the member of the answer that is its value.
_LINKS: Mapping[type[msgspec.Struct], tuple[str, str, str]] = {
    DeliveryBody: ("get_deliveries_delivery_id", "delivery_id", "delivery_id"),
    DeliveryDetailsBody: ("get_deliveries_delivery_id", "delivery_id", "delivery_id"),
    DestinationBody: ("get_destinations_destination", "destination", "destination_id"),
    JobBody: ("get_jobs_job_id", "job_id", "job_id"),
    ProposalBody: ("get_proposals_proposal_id", "proposal_id", "proposal_id"),
}
_PROPOSED = OperationResponse(
    description="A proposal: the tenant wants another token to approve this first",
    body=ProposalBody,
    headers=("Location",),
)
_METHODS_WITH_CONTENT = ("POST", "PUT", "PATCH", "DELETE")
_TEXT: Mapping[str, Any] = {"schema": {"type": "string"}}
_ANY = "*/*"


def document(*, server: str, operations: Iterable[Operation] | None = None) -> dict[str, Any]:
    """The whole document, or that of some operations; `server` is the prefix of the paths, such as the stage."""
    listed = every_operation() if operations is None else list(operations)
    schemas = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        paths.setdefault(operation.template, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sallyport",
            "version": VERSION,
            "summary": "HTTP requests to third parties, from a fixed IP address",
        },
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "servers": [{"url": server or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "examples": examples.shared(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "spt_..."}},
        },
    }


def _bodies(operation: Operation) -> list[type[msgspec.Struct]]:
    answers = [answer.body for answer in operation.responses.values() if answer.body is not None]
    return answers if operation.body is None else [operation.body, *answers]


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    kinds = {kind: None for operation in operations for kind in _bodies(operation)}
    schemas: dict[str, Any] = msgspec.json.schema_components([*kinds, ProblemBody], ref_template=_REFERENCE)[1]
    shown = examples.properties()
    for name, schema in schemas.items():
        for member, value in shown.get(name, {}).items():
            schema["properties"][member]["examples"] = [value]
    for schema in schemas.values():
        if (tag := schema.get("properties", {}).get("type", {})).keys() == {"enum"}:  # msgspec describes no tag
            tag |= {"type": "string", "description": "The kind", "examples": tag["enum"]}
    return schemas


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "tags": [_tag(operation)],
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *map(_parameter, operation.parameters)],
        "responses": _answers(operation) | _problems(operation),
        "security": [] if operation.scope is None else [{"token": []}],
    }
    if operation.description:
        described["description"] = operation.description
    if operation.scope is not None:
        described["x-scope"] = operation.scope
    if operation.body is not None:
        content = {"schema": _ref(operation.body), "examples": examples.requests(operation.body)}
        described["requestBody"] = {
            "required": operation.body_required,
            "content": dict.fromkeys(operation.body_types, content),
        }
    elif operation.passes and operation.method in _METHODS_WITH_CONTENT:
        described["requestBody"] = _content_passed()
    return described


def _content_passed() -> dict[str, Any]:
    return {
        "description": "Goes to the partner byte for byte, whatever its media type",
        "required": False,
        "content": {
            "application/json": {"schema": {}, "example": {"amount": 10}},
            "text/plain": {"schema": {"type": "string"}, "example": "amount=10"},
            _ANY: {"schema": {}},
        },
    }


def _tag(operation: Operation) -> str:
    first = operation.template.removeprefix("/v1/").partition("/")[0]
    first = _PART_OF.get(first, first)
    return first if first in _TAGS else "about"


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[a-z]+", operation.template.removeprefix("/v1"))
    return "_".join([operation.method.lower(), *words])


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", operation.template)
    return [{"name": name, "in": "path", "required": True, **_path_part(operation, name)} for name in names]


def _path_part(operation: Operation, name: str) -> dict[str, Any]:
    other = _OTHER_EXAMPLES.get((operation.method, operation.template, name))
    return _PATH[name] if other is None else {**_PATH[name], "example": other}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    """The example is in the schema: next to it, the page would prefill the field, and so send a value nobody chose."""
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        **({"style": "deepObject", "explode": True} if parameter.members else {}),
        "description": parameter.description,
        "schema": {**parameter.schema, "examples": [parameter.example]},
    }


def _answers(operation: Operation) -> dict[str, Any]:
    described = {str(status): _answer(answer, operation) for status, answer in operation.responses.items()}
    if operation.may_wait:
        described["202"] = _answer(_PROPOSED, operation)
    if operation.passes:
        other = "The partner's response with any other status, marked by `Sallyport-Outcome: answered`"
        described["default"] = described["200"] | {"description": other}
    return described


def _answer(answer: OperationResponse, operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {}}
    if answer.body is not None:
        content = {"schema": _ref(answer.body), "examples": _shared(answer.body.__name__)}
    described = {
        "description": answer.description,
        "headers": _headers(always=answer.headers, sometimes=answer.some_headers),
        "content": {answer.media_type: content} | dict.fromkeys(answer.other_media_types, _TEXT),
    }
    link = None if answer.body is None else _LINKS.get(answer.body)
    if link is not None and link[0] != _operation_id(operation):
        target, parameter, member = link
        described["links"] = {"show": {"operationId": target, "parameters": {parameter: f"$response.body#/{member}"}}}
    return described


def _problems(operation: Operation) -> dict[str, Any]:
    kinds = {
        *operation.problems,
        *ALWAYS,
        *(WITH_TOKEN if operation.scope is not None else ()),
    }
    by_status: dict[int, list[str]] = {}
    for kind in KINDS:
        for status in KINDS[kind].statuses if kind in kinds else ():
            by_status.setdefault(status, []).append(kind)
    return {str(status): _problem(status, by_status[status], operation) for status in sorted(by_status)}


def _problem(status: int, kinds: list[str], operation: Operation) -> dict[str, Any]:
    always = set.intersection(*(set(KINDS[kind].headers) for kind in kinds))
    every = {name for kind in kinds for name in (*KINDS[kind].headers, *KINDS[kind].some_headers)}
    shown = _shared(*(f"{kind}-{status}" for kind in kinds))
    content: dict[str, Any] = {CONTENT_TYPE: {"schema": _problem_schema(status, kinds), "examples": shown}}
    if operation.passes:
        content[_ANY] = {"schema": {}}  # the partner's own answer of that status
        every |= {name for answer in operation.responses.values() for name in (*answer.headers, *answer.some_headers)}
    phrase = HTTPStatus(status).phrase
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        phrase += ", to any method of this path that is not described here"
    return {
        "description": phrase,
        "headers": _headers(always=always, sometimes=every - always),
        "content": content,
    }


def _problem_schema(status: int, kinds: list[str]) -> dict[str, Any]:
    described = ProblemBody.__struct_fields__
    members = dict.fromkeys(name for kind in kinds for name in (*KINDS[kind].members, *KINDS[kind].some_members))
    types = [TYPE_PREFIX + kind for kind in kinds]
    more: dict[str, Any] = {
        "type": {"enum": types, "description": "The kind of problem", "examples": types[:1]},
        "status": {"const": status, "description": "The HTTP status of the answer", "examples": [status]},
        **{name: dict(MEMBERS[name]) for name in members if name not in described},
    }
    return {"allOf": [_ref(ProblemBody), {"type": "object", "properties": more}]}


def _headers(*, always: Iterable[str], sometimes: Iterable[str]) -> dict[str, Any]:
    required = set(always)
    return {
        name: {
            "description": HEADERS[name].description,
            "required": name in required,
            "schema": {**HEADERS[name].schema, "examples": [HEADERS[name].example]},
        }
        for name in sorted({*required, *sometimes})
    }


def _shared(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/examples/{name}"} for name in names}


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}
