"""What the members of a destination have in common: the forms of texts that become header fields."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from domain.errors import Fault
from domain.headers import header_fault

# Python's $ also matches before a line feed at the end; (?!\n) takes that back and changes nothing elsewhere.
FIELD_NAME = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}$(?!\n)"
# `must` is what a fault says instead of the pattern.
IS_HEADER = {"must": "the name of a header: 1 to 100 letters, digits and characters of !#$%&'*+-.^_`|~"}
Secret = Annotated[str, Meta(min_length=1, max_length=8192, extra_json_schema={"writeOnly": True})]


def secret_faults(values: Mapping[str, str]) -> list[Fault]:
    """What is wrong with secrets that become header values, by their pointers; no fault repeats a value."""
    detail = "must be one line of Latin-1 text without control characters"
    return [Fault(field=where, detail=detail) for where, value in values.items() if header_fault("X", value)]


def reserved(name: str) -> str | None:
    """Why a destination must not use the header `name` for credentials of its own or for the key."""
    lowered = name.lower()
    if lowered.startswith("content-") or lowered in ("cookie", "accept", "user-agent"):
        return "a header of that name says something else already"
    return None if lowered == "idempotency-key" else header_fault(name, "")
