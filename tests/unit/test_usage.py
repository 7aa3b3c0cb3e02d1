"""The reading of what was used of the OpenAPI document must tell every kind of thing that nobody used."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.usage import Document

SIZE = {"enum": ["small", "large"]}
DOCUMENT = Document(
    {
        "paths": {
            "/things/{thing}": {
                "put": {
                    "parameters": [
                        {"in": "path", "name": "thing", "schema": {"type": "string"}},
                        {"in": "query", "name": "size", "schema": SIZE},
                        {"in": "header", "name": "Prefer", "schema": {"type": "string"}},
                    ],
                    "requestBody": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
                    },
                    "responses": {
                        "200": {"content": {"application/json": {"schema": {"items": {"properties": {"made": SIZE}}}}}},
                        "404": {},
                    },
                }
            }
        },
        "components": {
            "schemas": {"Thing": {"properties": {"body": {"anyOf": [{"type": "string"}, {"type": "array"}]}}}}
        },
    }
)
EVERYTHING = {
    "PUT /things/{thing}",
    "PUT /things/{thing} ?size",
    "PUT /things/{thing} size = small",
    "PUT /things/{thing} size = large",
    "PUT /things/{thing} -Prefer",
    "PUT /things/{thing} 200",
    "PUT /things/{thing} 404",
    "Thing/body",
    "Thing/body is string",
    "Thing/body is array",
    "/made = small",
    "/made = large",
}


@dataclass(frozen=True)
class Said:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def used(target: str, *sent: str, body: Any = None, status: int = 404, answer: Any = None) -> set[str]:
    said = Said(status, b"" if answer is None else json.dumps(answer).encode())
    return set(DOCUMENT.uses("PUT", target, sent=frozenset(sent), body=body, answer=said))


def test_the_document_offers_every_kind_of_use() -> None:
    assert DOCUMENT.all_uses == EVERYTHING


@pytest.mark.parametrize(
    ("found", "uses"),
    [
        (used("/things/1"), set()),
        (used("/things/1?size=small"), {"PUT /things/{thing} ?size", "PUT /things/{thing} size = small"}),
        (used("/things/1", "prefer"), {"PUT /things/{thing} -Prefer"}),
        (used("/things/1", body={"body": "x"}), {"Thing/body", "Thing/body is string"}),
        (used("/things/1", body={"body": []}), {"Thing/body", "Thing/body is array"}),
    ],
)
def test_a_call_uses_what_it_names_and_nothing_else(found: set[str], uses: set[str]) -> None:
    assert found == {"PUT /things/{thing}", "PUT /things/{thing} 404"} | uses


def test_values_of_an_answer_count_and_its_fields_do_not() -> None:
    found = used("/things/1", status=200, answer=[{"made": "small"}, {}])
    assert found == {"PUT /things/{thing}", "PUT /things/{thing} 200", "/made = small"}


def test_a_path_that_is_not_in_the_document_uses_nothing_of_it() -> None:
    assert used("/other") == set()
