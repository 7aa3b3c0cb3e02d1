"""Templates: literal text, fields, and braces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.templates import fields_in, filled, template_fault, times_in

FIELDS = ("id", "timestamp", "body")
LITERALS = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    parts=st.lists(st.one_of(LITERALS, st.sampled_from([f"{{{name}}}" for name in FIELDS]).map(lambda name: (name,)))),
    values=st.fixed_dictionaries({name: st.binary() for name in FIELDS}),
)
def test_every_field_is_replaced_and_every_literal_stays(
    parts: list[str | tuple[str]], values: dict[str, bytes]
) -> None:
    """Values are bytes of any kind, braces and what is no UTF-8 among them, and are never read as templates."""
    template = "".join(
        part[0] if isinstance(part, tuple) else part.replace("{", "{{").replace("}", "}}") for part in parts
    )
    expected = b"".join(values[part[0][1:-1]] if isinstance(part, tuple) else part.encode() for part in parts)
    assert template_fault(template, fields=FIELDS) is None
    assert filled(template, values) == expected
    fields = [part[0][1:-1] for part in parts if isinstance(part, tuple)]
    assert fields_in(template) == set(fields)
    assert {name: times_in(template, name) for name in FIELDS} == {name: fields.count(name) for name in FIELDS}


@given(template=st.text("{}ab"))
def test_a_template_without_a_fault_can_be_filled_in(template: str) -> None:
    values = {"a": b"1", "b": b"2", "ab": b"3"}
    if template_fault(template, fields=tuple(values)) is None:
        filled(template, values)
    else:
        assert template.count("{") + template.count("}") > 0


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{timestamp}.{body}", b"1.\xff{id}"),
        ("{{body}}", b"{body}"),
        ("{{{body}}}", b"{\xff{id}}"),
        ("\u00fc{id}", b"\xc3\xbck"),
        ("", b""),
        ("a}}{{b", b"a}{b"),
        ("{id}\n{id}", b"k\nk"),
    ],
)
def test_what_a_template_gives(template: str, result: bytes) -> None:
    assert filled(template, {"id": b"k", "timestamp": b"1", "body": b"\xff{id}"}) == result


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{timestamp}.{Body}", "has a field that is unknown; the fields are {id}, {timestamp}, {body}"),
        ("{nonce}{amount}{nonce}", "has 2 fields that are unknown;"),
        ("{}", "has a field that is unknown;"),
        ("{ id }", "has a field that is unknown;"),
        ("{body.x}", "has a field that is unknown;"),
        ("{body!r}", "has a field that is unknown;"),
        ("{", "has a '{' without its counterpart"),
        ("a}", "has a '}' without its counterpart"),
        ("{{id}", "has a '}' without its counterpart"),
        ("{id", "has a '{' without its counterpart"),
    ],
)
def test_what_is_wrong_with_a_template_is_named(template: str, fault: str) -> None:
    assert (template_fault(template, fields=FIELDS) or "").startswith(fault)
