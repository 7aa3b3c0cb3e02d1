"""JSON bodies into typed values, naming every field at fault and not just the first."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from domain.errors import Fault, InvalidRequest, Malformed


def body_as[T: msgspec.Struct](body: bytes, kind: type[T]) -> T:
    """The body as a `kind`. Raises Malformed where it is no JSON object, InvalidRequest with every fault otherwise."""
    raw = _object(body)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        faults = tuple(_faults(raw, kind, pointer=""))
        raise InvalidRequest(*(faults or (Fault(field="", detail=str(error)),))) from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        raw = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except UnicodeDecodeError as error:
        raise Malformed("the body is not JSON: it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except ValueError as error:  # Python reads no whole number of more than 4300 digits
        raise Malformed("the body holds a number with too many digits") from error
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error
    if not isinstance(raw, dict):
        raise Malformed("the body must be a JSON object")
    return raw


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 8259 section 4 leaves open which of two equal names counts, so two readers may disagree: neither does
    here.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Malformed(f"the name '{twice}' stands twice in one JSON object")
    return members


def _finite(text: str) -> float:
    """A number beyond what a double holds would become an infinity, which JSON cannot say."""
    number = float(text)
    if math.isinf(number):
        raise Malformed("the body holds a number that is too large")
    return number


def _no_constant(name: str) -> None:
    raise Malformed(f"{name} is not JSON (RFC 8259 section 6)")


# As json.loads reads bytes, but made once instead of for each body.
_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant, parse_float=_finite)


def _faults(raw: Mapping[str, Any], kind: type[msgspec.Struct], *, pointer: str) -> Iterator[Fault]:
    known = {field.encode_name: field for field in fields(kind)}
    tag = kind.__struct_config__.tag_field
    for name in raw:
        if name not in known and name != tag:
            detail = f"unknown; known are {', '.join(known)}" if known else "unknown; nothing is known here"
            yield Fault(field=f"{pointer}/{escaped(name)}", detail=detail)
    for name, field in known.items():
        if name in raw:
            yield from _value_faults(raw[name], field, pointer=f"{pointer}/{name}")
        elif field.required:
            yield Fault(field=f"{pointer}/{name}", detail="is required")


def _value_faults(value: Any, field: FieldInfo, *, pointer: str) -> Iterator[Fault]:
    kind = _struct_for(value, field.type)
    if kind is not None:
        yield from _faults(value, kind, pointer=pointer)
        return
    try:
        msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        yield Fault(field=pointer + _pointer(where), detail=message[:1].lower() + message[1:])


def _struct_for(value: Any, kind: Any) -> type[msgspec.Struct] | None:
    """The struct that an object is meant to be, where its type (or its tag, in a union) tells."""
    if not isinstance(value, dict):
        return None
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    for member in get_args(get_args(kind)[0] if get_origin(kind) is Annotated else kind):
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            config = member.__struct_config__
            if config.tag_field is not None and value.get(config.tag_field) == config.tag:
                return member
    return None


def escaped(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901 section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _pointer(where: str) -> str:
    """msgspec's path (`.a[0]`, closed by a backtick) as a JSON pointer; it names no keys of a mapping (`[...]`)."""
    return where.rstrip("`").partition("[...]")[0].replace("[", "/").replace("]", "").replace(".", "/")
