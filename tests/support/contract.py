"""Holds every answer that a test sees to what the OpenAPI document says of it."""

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it has no types

from handlers.openapi import document

PROBLEM = "application/problem+json"
UNDOCUMENTED = 500  # a bug is not part of the contract


def must_be_documented(method: str, path: str, status: int, content_type: str | None, body: bytes) -> None:
    """Fails where the document does not know the status, or the body does not have the shape it promises.

    A partner's own answer is no part of the contract, nor are paths and methods that the document does not have.
    """
    operation = _operation(method, path)
    if operation is None or status == UNDOCUMENTED:
        return
    found = operation["responses"].get(str(status))
    if path.startswith("/v1/via/") and content_type != PROBLEM and status != 202:
        return
    assert found is not None, f"{method} {path} is not documented to answer {status}: {body!r}"
    for media_type, content in found.get("content", {}).items():
        assert content_type == media_type
        must_conform(content["schema"], json.loads(body))


def must_conform(schema: dict[str, Any], value: Any) -> None:
    """Fails where `value` is not what a schema of the document describes."""
    whole = {**schema, "components": _document()["components"]}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(value)


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for template, operations in _document()["paths"].items():
        last_may_be_long = template.replace("{path}", ".*")
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", last_may_be_long), path):
            found: dict[str, Any] | None = operations.get(method.lower())
            return found
    return None


@cache
def _document() -> dict[str, Any]:
    return document(server="/dev")
