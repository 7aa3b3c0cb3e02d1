"""JSON whose numbers keep their digits: those above 2^53, and fractions that a float would round."""

import json
from typing import Any


class ExactNumber(float):
    """A float that knows how it was written."""

    text: str

    def __new__(cls, text: str) -> "ExactNumber":
        """Of a number as JSON writes it."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def loads(text: str | bytes) -> Any:
    """As json.loads; integers are Python's, which have no limit. Raises ValueError."""
    return json.loads(text, parse_float=ExactNumber)


def dumps(value: object, *, indent: int = 2) -> str:
    """As json.dumps, with each number as it was written."""
    return _written(value, " " * indent, "\n")


def _written(value: object, step: str, line: str) -> str:
    match value:
        case ExactNumber():
            return value.text
        case dict() if value:
            members = (f"{json.dumps(str(name))}: {_written(item, step, line + step)}" for name, item in value.items())
            return "{" + line + step + f",{line}{step}".join(members) + line + "}"
        case list() if value:
            items = (_written(item, step, line + step) for item in value)
            return "[" + line + step + f",{line}{step}".join(items) + line + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def on_one_line(value: object) -> str:
    """The same without line feeds."""
    match value:
        case ExactNumber():
            return value.text
        case dict():
            members = (f"{json.dumps(str(name))}: {on_one_line(item)}" for name, item in value.items())
            return "{" + ", ".join(members) + "}"
        case list():
            return "[" + ", ".join(map(on_one_line, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)
