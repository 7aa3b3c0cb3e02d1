"""What of the OpenAPI document was used: operations with their parameters, fields, enumerated values and statuses.

A use is a line of text, so that what is missing can be read as it is printed:

    GET /v1/deliveries ?state            a parameter (`?` query, `-` header)
    GET /v1/deliveries 404               a status
    NewDestinationBody/timeouts          a field of a request
    NewDeliveryBody/body is object       one of the kinds that a field of a request takes
    State = failed                       one of the values that a request or an answer takes
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

_PLACES = {"query": "?", "header": "-"}
_UNNAMED = ""  # of the schema of a whole answer, whose fields nobody must use


@dataclass(frozen=True)
class Document:
    """An OpenAPI document, read for what can be used of it."""

    content: Mapping[str, Any]

    @cached_property
    def all_uses(self) -> set[str]:
        """Every use that the document offers."""
        return {use for operation in self._operations() for use in self._offered(*operation)}

    def uses(self, method: str, target: str, *, sent: frozenset[str], body: object, answer: Any) -> Iterator[str]:
        """What one call used. `sent` are header names in lower case; `answer` has status, headers and body."""
        found = self._operation(method, urlsplit(target).path)
        if found is None:
            return
        name, operation = found
        yield name
        yield f"{name} {_status_of(name, answer)}"
        yield from self._parameters_used(name, operation, query=parse_qs(urlsplit(target).query), sent=sent)
        if isinstance(body, dict) and "requestBody" in operation:
            yield from self._of_value(_schema_of(operation["requestBody"]), body, name=_UNNAMED, fields=True)
        answered = _schema_of(operation["responses"].get(str(answer.status), {}))
        is_json = "json" in answer.headers.get("content-type", "json")  # another form of it is no value
        if answered and answer.body and is_json:  # none where it answers HEAD
            yield from self._of_value(answered, json.loads(answer.body), name=_UNNAMED, fields=False)

    def _operations(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for template, operations in self.content["paths"].items():
            for method, operation in operations.items():
                yield f"{method.upper()} {template}", operation

    def _operation(self, method: str, path: str) -> tuple[str, dict[str, Any]] | None:
        for name, operation in self._operations():
            template = name.partition(" ")[2].replace("{path}", ".*")
            if name.startswith(f"{method} ") and re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
                return name, operation
        return None

    def _offered(self, name: str, operation: dict[str, Any]) -> Iterator[str]:
        yield name
        for parameter in operation["parameters"]:
            if parameter["in"] in _PLACES:
                yield f"{name} {_PLACES[parameter['in']]}{parameter['name']}"
                yield from self._of_schema(parameter["schema"], f"{name} {parameter['name']}", fields=True)
        if "requestBody" in operation:
            yield from self._of_schema(_schema_of(operation["requestBody"]), _UNNAMED, fields=True)
        for status, answer in operation["responses"].items():
            yield f"{name} {status}"
            yield from self._of_schema(_schema_of(answer), _UNNAMED, fields=False)

    def _parameters_used(
        self, name: str, operation: dict[str, Any], *, query: Mapping[str, list[str]], sent: frozenset[str]
    ) -> Iterator[str]:
        for parameter in operation["parameters"]:
            if parameter.get("style") == "deepObject" and any(key.startswith(f"{parameter['name']}[") for key in query):
                yield f"{name} ?{parameter['name']}"  # each member is a parameter of its own
            elif parameter["name"] in query:
                yield f"{name} ?{parameter['name']}"
                value = query[parameter["name"]][0]
                yield from self._of_value(parameter["schema"], value, name=f"{name} {parameter['name']}", fields=True)
            if parameter["in"] == "header" and parameter["name"].lower() in sent:
                yield f"{name} -{parameter['name']}"

    def _of_schema(self, schema: Mapping[str, Any], name: str, *, fields: bool) -> Iterator[str]:
        """All uses of a schema; `name` is what it is called, a component by its own name."""
        schema, name = self._resolved(schema, name)
        for value in schema.get("enum", ()):
            yield f"{name} = {value}"
        for alternative in _alternatives(schema):
            yield from _kind_used(alternative, name, fields=fields)
            yield from self._of_schema(alternative, name, fields=fields)
        for field, inner in schema.get("properties", {}).items():
            yield from [f"{name}/{field}"] if fields else ()
            yield from self._of_schema(inner, f"{name}/{field}", fields=fields)
        yield from self._of_schema(schema.get("items", {}), name, fields=fields) if "items" in schema else ()

    def _of_value(self, schema: Mapping[str, Any], value: Any, *, name: str, fields: bool) -> Iterator[str]:
        """The uses of a schema that `value` makes."""
        schema, name = self._resolved(schema, name)
        if value in schema.get("enum", ()):
            yield f"{name} = {value}"
        for alternative in _alternatives(schema):
            if self._conforms(alternative, value):
                yield from _kind_used(alternative, name, fields=fields)
                yield from self._of_value(alternative, value, name=name, fields=fields)
        for field, inner in schema.get("properties", {}).items() if isinstance(value, dict) else ():
            if field in value:
                yield from [f"{name}/{field}"] if fields else ()
                yield from self._of_value(inner, value[field], name=f"{name}/{field}", fields=fields)
        for element in value if isinstance(value, list) else ():
            yield from self._of_value(schema.get("items", {}), element, name=name, fields=fields)

    def _resolved(self, schema: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], str]:
        if "$ref" not in schema:
            return schema, name
        component = schema["$ref"].rpartition("/")[2]
        return self.content["components"]["schemas"][component], component

    def _conforms(self, schema: Mapping[str, Any], value: Any) -> bool:
        whole = {**schema, "components": self.content["components"]}
        return bool(Draft202012Validator(whole).is_valid(value))


def _status_of(name: str, answer: Any) -> int:
    """A partner's own answer counts as 200, whatever it is: so the document has it."""
    own = "/via/" in name and answer.headers.get("sallyport-outcome") == "answered"
    return 200 if own else int(answer.status)


def _schema_of(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a request or an answer; empty where it has no JSON."""
    schema: Mapping[str, Any] = described.get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def _alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of one that has several types in one word, each of them."""
    if isinstance(schema.get("type"), list):
        return [{"type": kind} for kind in schema["type"]]
    return [*schema.get("anyOf", ()), *schema.get("oneOf", ())]


def _kind_used(schema: Mapping[str, Any], name: str, *, fields: bool) -> Iterator[str]:
    """The JSON type that a request's field may have; of a component, which has a name, and of null there is none."""
    kind = schema.get("type", "null")
    if fields and kind != "null":
        yield f"{name} is {kind}"
