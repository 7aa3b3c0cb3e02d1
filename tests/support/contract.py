"""Holds every answer that a test sees to what the OpenAPI document says of it."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it has no types

from handlers.openapi import document

# What HTTP and API Gateway add to every answer.
OF_THE_GATEWAY = {"content-type", "content-length", "date", "x-amzn-requestid", "x-amz-apigw-id"}


def must_be_documented(method: str, path: str, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
    """Fails where the document does not know the status, a header or the kind of problem, where a header that always
    comes is not there, or where the body does not have the shape it promises.

    A partner's own answer is part of the contract as to our own headers only. Paths and methods that the document does
    not have are no part of it.
    """
    operation = _operation(method, path)
    if operation is None:
        return
    named = {name.lower(): value for name, value in headers}
    found = operation["responses"].get(str(status), operation["responses"].get("default"))
    assert found is not None, f"{method} {path} is not documented to answer {status}: {body!r}"
    partners_own = named.get("sallyport-outcome") == "answered"
    _headers_must_be_documented(found["headers"], named, partners_own=partners_own)
    if partners_own or (method == "HEAD" and not body):
        return
    media_type = named["content-type"].partition(";")[0]
    assert media_type in found["content"], f"{method} {path} is not documented to answer {status} with {media_type}"
    if media_type.endswith("json"):
        must_conform(found["content"][media_type]["schema"], json.loads(body))


def _headers_must_be_documented(described: Mapping[str, Any], named: Mapping[str, str], *, partners_own: bool) -> None:
    known = {name.lower(): header for name, header in described.items()}
    wanted = {name for name, header in known.items() if header["required"]}
    assert wanted <= set(named), f"always there by the document, and missing here: {wanted - set(named)}"
    ours = {name for name in named if name.startswith(("sallyport-", "idempotency-"))} if partners_own else set(named)
    unknown = ours - set(known) - OF_THE_GATEWAY
    assert not unknown, f"not in the document: {unknown}"


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
