"""JSON bodies into typed values, with every fault named."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, get_args
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from domain.errors import InvalidRequest, Malformed
from handlers.parsing import _read, _without_duplicates, body_as
from handlers.schemas.deliveries import NewDeliveryBody
from handlers.schemas.destinations import NewDestinationBody


class Cat(Struct, forbid_unknown_fields=True, tag_field="kind", tag="cat"):
    lives: Annotated[int, Meta(ge=1, le=9)]


class Dog(Struct, forbid_unknown_fields=True, tag_field="kind", tag="dog"):
    name: str
    tricks: list[str] = []


class Home(Struct, forbid_unknown_fields=True, kw_only=True):
    city: str
    pet: Cat | Dog | None = None
    second_pet: Annotated[Cat | Dog | None, Meta(description="the type is inside")] = None
    rooms: dict[str, int] = {}


class House(Struct, forbid_unknown_fields=True):
    home: Home
    number: int = 1


def faults(value: object) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        body_as(json.dumps(value).encode(), House)
    return {fault.field: fault.detail for fault in refused.value.faults}


def test_a_valid_body_becomes_its_type() -> None:
    body = b'{"home": {"city": "Ulm", "pet": {"kind": "dog", "name": "Rex"}}}'
    assert body_as(body, House) == House(Home(city="Ulm", pet=Dog("Rex")))


def test_all_faults_are_found_however_deep() -> None:
    found = faults(
        {
            "home": {
                "pet": {"kind": "dog", "tricks": [1], "age": 3},
                "second_pet": {"kind": "cat", "lives": 10},
                "x": 1,
            },
            "number": "one",
        }
    )
    assert found == {
        "/home/pet": "member 3 is unknown; known are kind, name, tricks",
        "/home/pet/name": "is required",
        "/home/pet/tricks/0": "must be a string, not an integer",
        "/home/second_pet/lives": "must be at most 9",
        "/home": "member 3 is unknown; known are city, pet, second_pet, rooms",
        "/home/city": "is required",
        "/number": "must be an integer, not a string",
    }


@pytest.mark.parametrize(
    ("pet", "field"),
    [
        ({"kind": "fish"}, "/home/pet/kind"),
        ({"name": "Rex"}, "/home/pet"),
        ("Rex", "/home/pet"),
        ([], "/home/pet"),
    ],
)
def test_a_value_of_no_known_kind_is_one_fault(pet: object, field: str) -> None:
    assert list(faults({"home": {"city": "Ulm", "pet": pet}})) == [field]


def test_a_fault_in_a_mapping_points_at_the_mapping() -> None:
    assert list(faults({"home": {"city": "Ulm", "rooms": {"a": 1, "b": "x"}}})) == ["/home/rooms"]


def test_unknown_members_are_reported_by_position_ten_at_most() -> None:
    ten = {f"x{number}": 1 for number in range(10)}
    known = "known are city, pet, second_pet, rooms"
    listed = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
    assert faults({"home": {"city": "Ulm", **ten}}) == {"/home": f"members {listed} are unknown; {known}"}
    assert faults({"home": {"city": "Ulm", **ten, "y": 1}}) == {"/home": f"members {listed}, ... are unknown; {known}"}


def test_what_a_value_could_be_is_listed_instead_of_the_value() -> None:
    assert faults({"home": {"city": "Ulm", "pet": {"kind": "hunter2"}}}) == {
        "/home/pet/kind": "must be one of cat, dog"
    }
    with pytest.raises(InvalidRequest) as refused:
        body_as(b'{"name": "a", "base_url": "b", "guarantee": "hunter2"}', NewDestinationBody)
    (fault,) = refused.value.faults
    assert fault.detail == "must be one of auto, at_least_once, at_most_once"
    with pytest.raises(InvalidRequest) as refused:
        body_as(b'{"name": "a", "base_url": "b", "allow": {"methods": ["hunter2"]}}', NewDestinationBody)
    (fault,) = refused.value.faults
    assert fault.detail == "must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ({"name": 5}, "must be a string, not an integer"),
        ({"name": None}, "must be a string, not null"),
        ({"name": "A"}, "must be 1 to 63 lower-case letters, digits and hyphens, and must not start with a hyphen"),
        (
            {"idempotency_header": "a b"},
            "must be the name of a header: 1 to 100 letters, digits and characters of !#$%&'*+-.^_`|~",
        ),
        ({"idempotent": "yes"}, "must be a boolean, not a string"),
        ({"timeouts": {"total_seconds": 90}}, "must be at most 25"),
        ({"timeouts": {"total_seconds": 0}}, "must be at least 0.1"),
        ({"timeouts": {"total_seconds": 0.09}}, "must be at least 0.1"),
        ({"timeouts": {"connect_seconds": 1e-9}}, "must be at least 0.1"),
        ({"timeouts": {"first_byte_seconds": 25.5}}, "must be at most 25"),
        ({"timeouts": {"first_byte_seconds": "x"}}, "must be a number, not a string"),
        ({"timeouts": {"first_byte_seconds": None}}, "must be a number, not null"),
        ({"timeouts": {"total_seconds": 10**400}}, "has a value that this field cannot have"),
        ({"auth": {"type": "bearer", "token": ""}}, "must have at least 1 character"),
        ({"auth": {"token": "hunter2"}}, "must have the field 'type'"),
        ({"base_url": "b" * 2049}, "must have at most 2048 characters"),
    ],
)
def test_a_fault_speaks_of_json_and_not_of_python(value: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        body_as(json.dumps({"name": "a", "base_url": "b", **value}).encode(), NewDestinationBody)
    assert [fault.detail for fault in refused.value.faults] == [detail]


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ({"method": "get"}, "must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, in upper case"),
        ({"body": 5}, "must be a string, an object, an array or null, not an integer"),
        ({"headers": {"a": None}}, "must be a string or an array, not null"),
        ({"not_before": 5}, "must be an RFC 3339 date and time or null, not an integer"),
        ({"not_before": "tomorrow"}, "must be an RFC 3339 date and time with its offset, such as 2026-01-31T12:00:00Z"),
        (
            {"not_before": "2026-12-01T00:00:00"},
            "must be an RFC 3339 date and time with its offset, such as 2026-01-31T12:00:00Z",
        ),
    ],
)
def test_so_does_a_fault_of_a_delivery(value: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        body_as(json.dumps({"destination": "a", **value}).encode(), NewDeliveryBody)
    assert [fault.detail for fault in refused.value.faults] == [detail]


def patterns(kind: Any) -> Iterator[Meta]:
    """What is said about every pattern inside a type."""
    if isinstance(kind, Meta):
        yield from [kind] if kind.pattern else []
    elif isinstance(kind, type) and issubclass(kind, Struct):
        for field in msgspec.structs.fields(kind):
            yield from patterns(field.type)
    else:
        for part in get_args(kind):
            yield from patterns(part)


def test_every_pattern_of_a_body_has_a_description() -> None:
    found = [meta for kind in (NewDeliveryBody, NewDestinationBody) for meta in patterns(kind)]
    assert len(found) == 20
    assert all(meta.extra and meta.extra["must"] for meta in found)


def test_a_pattern_without_a_description_is_not_shown() -> None:
    class Code(Struct):
        code: Annotated[str, Meta(pattern="^[0-9]{4}$")]

    with pytest.raises(InvalidRequest) as refused:
        body_as(b'{"code": "hunter2"}', Code)
    assert [fault.detail for fault in refused.value.faults] == [
        "does not have the form that the API's description gives"
    ]


class CountedName:
    """A name that counts how often it is compared."""

    compared = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        type(self).compared += 1
        return isinstance(other, CountedName) and self.number == other.number


def test_a_duplicate_name_is_found_in_one_pass() -> None:
    names = [CountedName(number) for number in range(20_000)]
    pairs: Any = [(name, 1) for name in (*names, CountedName(19_999))]
    with pytest.raises(Malformed, match="number 20001"):
        _without_duplicates(pairs)
    assert CountedName.compared < 10 * len(names)


def test_a_type_without_fields_knows_none() -> None:
    class Nothing(Struct, forbid_unknown_fields=True):
        pass

    with pytest.raises(InvalidRequest, match="known are none"):
        body_as(b'{"a": 1}', Nothing)


def test_a_value_that_does_not_fit_as_a_whole_is_a_fault_of_the_whole() -> None:
    class Even(Struct):
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError("must be even")

    with pytest.raises(InvalidRequest) as refused:
        body_as(b'{"number": 1}', Even)
    (fault,) = refused.value.faults
    assert (fault.field, fault.detail) == ("", "its members do not fit together")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "^the body is empty"),
        (b" \r\n", "^the body is empty"),
        (b"{", "line 1, column 2"),
        (b"\xff", "not UTF-8"),
        (b"[]", "must be a JSON object"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 1e400}', "too large"),
        (b'{"a": -1e400}', "too large"),
        (b'{"a": ' + b"1" * 5000 + b"}", "too many digits"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": {"b": 1, "b": 2}}', "the same name; the second is number 2"),
    ],
)
def test_what_cannot_be_read_is_malformed(body: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        body_as(body, House)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [field.name for kind in (NewDeliveryBody, NewDestinationBody) for field in msgspec.structs.fields(kind)]
)


def faults_of(body: bytes, kind: type[Struct]) -> list[str]:
    """What is wrong with each field at fault; a body that is refused has one at least."""
    try:
        body_as(body, kind)
    except InvalidRequest as refused:
        return [fault.detail for fault in refused.faults] or [""]
    return []


@given(st.dictionaries(FIELDS | st.text(max_size=3), JSON, max_size=5))
def test_no_body_fails_in_any_other_way(value: dict[str, Any]) -> None:
    for kind in (NewDeliveryBody, NewDestinationBody):
        details = faults_of(json.dumps(value).encode(), kind)
        assert all(detail and detail != "must be one of " for detail in details)
        assert not [detail for detail in details if "Expected" in detail or "`str" in detail or "regex" in detail]


@given(st.binary(max_size=50))
def test_nor_do_any_bytes(body: bytes) -> None:
    with suppress(Malformed, InvalidRequest):
        body_as(body, NewDeliveryBody)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
PIECES = st.sampled_from(
    [
        *'{}[]",:\\',
        "\\\\",
        '\\"',
        '"a":1,',
        '"a": 1, "a": 2',
        '"\\u0061":1,',
        "\\ud83d",
        "\\ude00",
        "\\u0000",
        "1e999",
        "-0",
        "NaN",
        *(
            "\ufeff",
            "\x00",
            "\n",
            "\t",
            " ",
            "01",
            "1.",
            "9" * 25,
            "9" * 4400,
            "\x7f",
            "null",
            "true",
            "é",
            "\U0001f600",
        ),
    ]
)


def read_by(body: bytes) -> object:
    """What a body is read as, or why it is not."""
    try:
        read = body_as(body, Anything)
    except (InvalidRequest, Malformed) as error:
        return repr(getattr(error, "faults", str(error)))
    return repr(read)  # tells 1 from 1.0 and from True, and 0.0 from -0.0


class Anything(Struct, forbid_unknown_fields=True):
    a: Any = None
    b: dict[str, Any] | list[Any] | str | int | float | None = None


@given(
    members=st.dictionaries(st.sampled_from("abc"), JSON_VALUES, max_size=3),
    ascii_only=st.booleans(),
    pieces=st.lists(st.tuples(st.floats(0, 1), PIECES), max_size=3),
)
def test_the_quick_reading_of_a_body_comes_to_the_same_as_the_thorough_one(
    members: dict[str, Any], ascii_only: bool, pieces: list[tuple[float, str]]
) -> None:
    text = json.dumps(members, ensure_ascii=ascii_only)
    for where, piece in pieces:
        at = round(where * len(text))
        text = text[:at] + piece + text[at:]
    body = text.encode("utf-8", "surrogatepass")
    quick = read_by(body)
    with patch("handlers.parsing._read", return_value=None):
        assert quick == read_by(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": {"x": 1, "x": 1}}',
        b'{"a": [{"x": "\\"", "x": "\\""}]}',
        b'{"a": 1, "\\u0061": 1}',
        b'{"a": {"\\\\": 1, "\\\\": "\\\\\\""}}',
        b'{"a": [' + b'{"k": 1},' * 1000 + b'{"k": 1, "k": 1}]}',
    ],
)
def test_a_name_that_occurs_twice_is_found_wherever_it_is_and_however_it_is_written(body: bytes) -> None:
    with pytest.raises(Malformed, match="same name"):
        body_as(body, Anything)


@pytest.mark.parametrize("body", [b'{"a": "\\\\\\"x"}', b'{"\\"": {"\\\\": "\\u0022"}}'.replace(b'"\\""', b'"a"')])
def test_the_quick_reading_is_taken_for_escaped_quotes_too(body: bytes) -> None:
    assert _read(body) == json.loads(body)
