"""Every member of a destination has a bound: it is read with each delivery that is sent to it."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from msgspec import inspect

from domain.errors import InvalidRequest
from domain.ids import TenantId
from handlers.parsing import body_as
from handlers.schemas.destinations import NewDestinationBody, new_destination
from handlers.schemas.destinations.reconcile import LIMIT_BYTES

# What its type does not bound, and what does.
BOUNDED_ELSEWHERE = {
    "HeaderAuthBody.headers": "auth.py counts them with its name and value",
    "NewJwsBody.members": "MEMBERS_LIMIT_BYTES, of all of it",
    "NewJwsBody.members{}": "the same",
    "ConditionBody.values[]": "the only list that is a value is the empty one",
}
_ENDLESS = re.compile(r"(?<!\\)[*+](?!\?)|\{\d+,\}")


def unbounded(found: inspect.Type, at: str) -> Iterator[str]:
    """The places of what may be as large as a request."""
    if not is_bounded(found):
        yield at
    for inner, where in parts(found, at):
        yield from unbounded(inner, where)


def is_bounded(found: inspect.Type) -> bool:
    match found:
        case inspect.StrType(max_length=None, pattern=pattern):
            outside_of_sets = re.sub(r"\[(?:\\.|[^\]])*\]", "x", pattern or "x*")
            return not _ENDLESS.search(outside_of_sets)
        case inspect.ListType(max_length=most) | inspect.DictType(max_length=most):
            return most is not None
        case _:
            return not isinstance(found, inspect.AnyType)


def parts(found: inspect.Type, at: str) -> Iterator[tuple[inspect.Type, str]]:
    match found:
        case inspect.Metadata(type=inner):
            yield inner, at
        case inspect.UnionType(types=types):
            yield from ((inner, at) for inner in types)
        case inspect.ListType(item_type=item):
            yield item, f"{at}[]"
        case inspect.DictType(key_type=key, value_type=value):
            yield from ((inner, f"{at}{{}}") for inner in (key, value))
        case inspect.StructType(cls=cls, fields=fields):
            yield from ((field.type, f"{cls.__name__}.{field.encode_name}") for field in fields)
        case _:
            return


def test_every_text_and_every_list_of_a_destination_has_a_bound() -> None:
    found = set(unbounded(inspect.type_info(NewDestinationBody), ""))
    found -= {"ConditionBody.values[][]"}  # of a list that is refused
    assert found == set(BOUNDED_ELSEWHERE)


def judged(reconcile: dict[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with a destination that asks so."""
    body = {"name": "bank", "base_url": "https://bank.example", "reconcile": reconcile}
    try:
        new_destination(
            body_as(json.dumps(body).encode(), NewDestinationBody),
            tenant_id=TenantId(UUID(int=1)),
            now=datetime.now(UTC),
            judge=lambda _: (),
        )
    except InvalidRequest as error:
        return [(fault.field, fault.detail) for fault in error.faults]
    return []


def asks(**members: Any) -> dict[str, Any]:
    return {"path": "/{idempotency_key}", "received": [{"status": 200}], **members}


LONG = "{response./" + "a" * 4_000_000 + "}"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"path": f"/{LONG}"}, "/reconcile/path"),
        ({"query": LONG}, "/reconcile/query"),
        ({"headers": {"X-Key": LONG}}, "/reconcile/headers"),
        ({"headers": {f"X-{number}": "{delivery_id}" for number in range(101)}}, "/reconcile/headers"),
    ],
)
def test_a_template_of_four_megabytes_is_refused_by_its_place(members: dict[str, Any], field: str) -> None:
    ((where, detail),) = judged(asks(**members))
    assert where.startswith(field)
    assert "at most" in detail


def test_rules_are_bounded_together() -> None:
    where = [{"pointer": "/state", "values": [f"{number:0>1000}" for number in range(50)]}] * 2
    ((field, detail),) = judged(asks(received=[{"status": 200, "where": where}]))
    assert (field, detail) == ("/reconcile", f"must have at most {LIMIT_BYTES} bytes of JSON in all")
    assert judged(asks(received=[{"status": 200, "where": where[:1]}])) == []
