"""Templates such as `{timestamp}.{body}`: text with fields, filled in as bytes.

`{{` and `}}` stand for the braces themselves, as in Python's format strings. Nothing else is special.
"""

import re
from collections.abc import Collection, Mapping

_PART = r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+"
_LITERAL_BRACES = {"{{": "{", "}}": "}"}


def template_fault(template: str, *, fields: Collection[str]) -> str | None:
    """Why `template` cannot be filled in with `fields` alone; None when it can. Says which fields there are, and
    how many are unknown: what was sent is not repeated."""
    matches = list(re.finditer(_PART, template))
    lone = next((match[0] for match in matches if match[0] in ("{", "}")), None)
    if lone is not None:
        return f"has a '{lone}' without its counterpart; a literal brace is written twice"
    unknown = {match[1]: None for match in matches if match[1] is not None and match[1] not in fields}
    return unknown_fault(len(unknown), fields=", ".join(f"{{{name}}}" for name in fields)) if unknown else None


def unknown_fault(count: int, *, fields: str) -> str:
    """What is said of so many fields that are none of `fields`. They are not named, for one may be a secret."""
    many = "has a field that is unknown" if count == 1 else f"has {count} fields that are unknown"
    return f"{many}; the fields are {fields}"


def fields_in(template: str) -> frozenset[str]:
    """The names of the fields in `template`."""
    return frozenset(match[1] for match in re.finditer(_PART, template) if match[1] is not None)


def times_in(template: str, field: str) -> int:
    """How often `field` is in `template`."""
    return sum(match[1] == field for match in re.finditer(_PART, template))


def filled(template: str, values: Mapping[str, bytes]) -> bytes:
    """`template`, in UTF-8, with each field's value in its place, byte for byte.

    Values are never read as templates. Raises KeyError for a field that has no value.
    """
    return b"".join(
        values[match[1]] if match[1] is not None else _LITERAL_BRACES.get(match[0], match[0]).encode()
        for match in re.finditer(_PART, template)
    )
