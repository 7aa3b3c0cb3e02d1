"""JSON bodies into typed values, naming every field at fault and not just the first.

No fault repeats what the caller sent, neither a value nor a name that is not ours: a secret in the wrong place would
come back in the answer, and end up in somebody's log.
"""

import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec.structs import fields

from domain.errors import Fault, InvalidRequest, Malformed

_fields = cache(fields)  # to resolve the names of types takes longer than all else
_MOST_POSITIONS = 10  # of unknown members that a fault lists
_MOST_ITEMS = 100  # of a list that are looked at for faults: no list may be so long


def body_as[T: msgspec.Struct](body: bytes, kind: type[T]) -> T:
    """The body as a `kind`. Raises Malformed where it is not a JSON object, InvalidRequest with every fault
    otherwise."""
    plain = _read(body)
    if plain is not None:
        try:
            return msgspec.convert(plain, kind)
        except msgspec.ValidationError:
            pass  # what is wrong is looked for below
    return value_as(object_as_sent(body), kind)


def made_of[T: msgspec.Struct, R](
    sent: bytes | dict[str, Any],
    kind: type[T],
    make: Callable[[T], R],
    *,
    stand_ins: Mapping[str, Any],
    judged_with: Mapping[str, frozenset[str]],
) -> R:
    """What `make` makes of a body, or of a JSON object, as a `kind`. Raises Malformed, and InvalidRequest with every
    fault: those that the types find, and those that `make` finds in the members that the types accept.

    `make` has no effects, and raises InvalidRequest with all that it finds. `stand_ins` take the place of members that
    are required and at fault. Of a member, `judged_with` names those that its faults depend on: while one of these is
    at fault, nothing is said of it.
    """
    try:
        value = body_as(sent, kind) if isinstance(sent, bytes) else value_as(sent, kind)
    except InvalidRequest as refused:
        found = refused.faults
    else:
        return make(value)
    raw = object_as_sent(sent) if isinstance(sent, bytes) else sent
    _refuse_lone_surrogates(raw, kind)  # nothing else is said of a text that cannot be read in full
    at_fault = {_member(fault) for fault in found}
    rest = _without(at_fault, raw, kind)
    try:
        make(value_as({**stand_ins, **rest}, kind))
    except InvalidRequest as refused:
        unsure = at_fault | {name for name, others in judged_with.items() if others & at_fault}
        found += tuple(fault for fault in refused.faults if _member(fault) not in unsure)
    raise InvalidRequest(*found)


def _without(at_fault: set[str], raw: Mapping[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    known = {field.encode_name for field in _fields(kind)}
    return {name: value for name, value in raw.items() if name in known - at_fault}


def _member(fault: Fault) -> str:
    """The body's own member that a fault is in; empty for the body itself."""
    return fault.field.removeprefix("/").partition("/")[0]


def object_as_sent(body: bytes) -> dict[str, Any]:
    """The JSON object that the body is. Raises Malformed."""
    return _object(_text(body))


def value_as[T: msgspec.Struct](raw: dict[str, Any], kind: type[T]) -> T:
    """A JSON object as a `kind`. Raises InvalidRequest with every fault."""
    _refuse_lone_surrogates(raw, kind)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        faults = tuple(_faults(raw, kind, pointer=""))
        # Without the cause: its text repeats values, and a log of the whole chain would have them.
        raise InvalidRequest(*(faults or (Fault(field="", detail="its members do not fit together"),))) from None


def _read(body: bytes) -> object:
    """The body as msgspec reads it, in a third of the time that a decoder with hooks takes; None where it refuses the
    body or where a name occurs twice in an object, which it does not tell. What else it accepts, the other does too.

    A member that another one of the same name has replaced is missing from what is encoded again, and with it the
    quotes around its name.
    """
    try:
        read = _READER.decode(body)
        again = msgspec.json.encode(read)
    except (ValueError, RecursionError):
        return None
    return read if _quotes(body) == _quotes(again) else None


def _quotes(text: bytes) -> int:
    """How many quotes begin or end a string of this JSON. An escape begins with a backslash, and only in a string."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


def _text(body: bytes) -> str:
    try:
        return body.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError:
        raise Malformed("the body is not JSON: it is not UTF-8 text") from None


def _object(text: str) -> dict[str, Any]:
    if not text.strip():
        raise Malformed("the body is empty, where a JSON object is expected")
    try:
        raw = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        why = error.msg.partition(": ")[0]  # what follows is the character itself
        raise Malformed(f"the body is not JSON: {why} (line {error.lineno}, column {error.colno})") from None
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
        position = _first_repeated(name for name, _ in pairs)
        raise Malformed(f"two members of one JSON object have the same name; the second is number {position} of it")
    return members


def _first_repeated(names: Iterable[str]) -> int:
    """The position, from 1, of the first name that is repeated. Linear, since objects may have many members."""
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        if name in seen:
            return position
        seen.add(name)
    raise ValueError("no name is repeated")


def _refuse_lone_surrogates(raw: Mapping[str, Any], kind: type[msgspec.Struct]) -> None:
    """Raises InvalidRequest. Half a pair of UTF-16 (RFC 8259 section 8.2) is no character that anything could store."""
    known = {field.encode_name for field in _fields(kind)}
    wrong = [name for name, value in raw.items() if not _is_unicode({name: value})]
    pointers = dict.fromkeys(f"/{name}" if name in known else "" for name in wrong)
    if pointers:
        raise InvalidRequest(*(Fault(field=pointer, detail="must not contain lone surrogates") for pointer in pointers))


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(text: str) -> float:
    """A number beyond what a double holds would become an infinity, which JSON cannot say."""
    number = float(text)
    if math.isinf(number):
        raise Malformed("the body holds a number that is too large")
    return number


def _no_constant(name: str) -> None:
    raise Malformed(f"{name} is not JSON (RFC 8259 section 6)")


_READER = msgspec.json.Decoder()
# As json.loads reads bytes, but made once instead of for each body.
_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant, parse_float=_finite)


def _faults(raw: Mapping[str, Any], kind: type[msgspec.Struct], *, pointer: str) -> Iterator[Fault]:
    known = {field.encode_name: field for field in _fields(kind)}
    tag = kind.__struct_config__.tag_field
    unknown = [position for position, name in enumerate(raw, start=1) if name not in known and name != tag]
    if unknown:
        yield Fault(field=pointer, detail=_unknown(unknown, [*([tag] if tag else []), *known]))
    for name, field in known.items():
        if name in raw:
            yield from _value_faults(raw[name], field.type, pointer=f"{pointer}/{name}")
        elif field.required:
            yield Fault(field=f"{pointer}/{name}", detail="is required")


def _value_faults(value: Any, kind: Any, *, pointer: str) -> Iterator[Fault]:
    """Of objects and lists every fault, of anything else the first."""
    struct = _struct_for(value, kind)
    if struct is not None:
        yield from _faults(value, struct, pointer=pointer)
        return
    item = _item_of(kind) if isinstance(value, list) else None
    inside = [] if item is None else list(_item_faults(value[:_MOST_ITEMS], item, pointer=pointer))
    yield from inside or _first_fault(value, kind, pointer=pointer)


def _item_faults(values: list[Any], kind: Any, *, pointer: str) -> Iterator[Fault]:
    for position, value in enumerate(values):
        yield from _value_faults(value, kind, pointer=f"{pointer}/{position}")


def _first_fault(value: Any, kind: Any, *, pointer: str) -> Iterator[Fault]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        yield Fault(field=pointer + _pointer(where), detail=_said(message, kind))


def _unknown(positions: list[int], known: Iterable[str]) -> str:
    """The positions of the unknown members. They are not named: a misplaced secret may be one of the names."""
    listed = ", ".join(str(position) for position in positions[:_MOST_POSITIONS])
    more = ", ..." if len(positions) > _MOST_POSITIONS else ""
    members = f"member {listed}{more} is unknown" if len(positions) == 1 else f"members {listed}{more} are unknown"
    return f"{members}; known are {', '.join(known) or 'none'}"


def _said(message: str, kind: Any) -> str:
    """msgspec's message in the words of JSON and without the value, which some of its messages quote."""
    for pattern, said in _MESSAGES:
        if match := re.fullmatch(pattern, message):
            return said(match, kind)
    choices = _choices(kind)
    return f"must be one of {', '.join(choices)}" if choices else "has a value that this field cannot have"


def _wrong_type(match: re.Match[str], kind: Any) -> str:
    *others, last = (_TYPES.get(name, name) for name in match[1].split(" | "))
    wanted = f"{', '.join(others)} or {last}" if others else last
    return f"must be {wanted}, not {_TYPES.get(match[2], match[2])}"


def _wrong_form(match: re.Match[str], kind: Any) -> str:
    """What the type says of its pattern: a regular expression explains nothing to whoever made a slip."""
    said = [meta.extra["must"] for meta in _metas(kind) if meta.extra and "must" in meta.extra]
    return f"must be {said[0]}" if said else "does not have the form that the API's description gives"


def _metas(kind: Any) -> Iterator[msgspec.Meta]:
    """What is said about a type and the types inside it."""
    for part in get_args(kind):
        if isinstance(part, msgspec.Meta):
            yield part
        else:
            yield from _metas(part)


# Python's names of the types that JSON has, in JSON's words.
_TYPES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
    "datetime": "an RFC 3339 date and time",
}
_COUNTED = {"str": "character", "array": "item", "object": "member"}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
# The messages of msgspec that speak of types alone.
_MESSAGES: tuple[tuple[str, Callable[[re.Match[str], Any], str]], ...] = (
    ("Expected `(.*)`, got `(.*)`", _wrong_type),
    ("(?s)Expected `str` matching regex .*", _wrong_form),
    (
        r"Expected `(str|array|object)` of length (>=|<=) (\d+)",
        lambda match, _: (
            f"must have {_BOUNDS[match[2]]} {match[3]} {_COUNTED[match[1]]}{'' if match[3] == '1' else 's'}"
        ),
    ),
    (
        r"Expected `(?:int|float)` (>=|<=|>|<) (-?[\d.]+?)(?:\.0)?",
        lambda match, _: f"must be {_BOUNDS[match[1]]} {match[2]}",
    ),
    (
        "Expected `datetime` with a timezone component|Invalid RFC3339.*",
        lambda match, _: "must be an RFC 3339 date and time with its offset, such as 2026-01-31T12:00:00Z",  # noqa: ARG005
    ),
    ("Object missing required field `(.*)`", lambda match, _: f"must have the field '{match[1]}'"),
)


def _choices(kind: Any) -> list[str]:
    """What a value of an enumeration or of literals, or the tag of a union's members, may be."""
    kind = _bare(kind)
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(member.value) for member in kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [str(kind.__struct_config__.tag)]
    return [choice for member in get_args(kind) for choice in _choices(member)]


def _bare(kind: Any) -> Any:
    """A type without what is said about it: a description changes nothing of what is taken."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _item_of(kind: Any) -> Any:
    """What a list consists of; None for any other type."""
    kind = _bare(kind)
    return get_args(kind)[0] if get_origin(kind) is list else next(filter(None, map(_item_of, get_args(kind))), None)


def _struct_for(value: Any, kind: Any) -> type[msgspec.Struct] | None:
    """The struct that an object is meant to be, where its type (or its tag, in a union) says so."""
    if not isinstance(value, dict):
        return None
    kind = _bare(kind)
    members = map(_bare, get_args(kind)) if get_origin(kind) in (Union, UnionType) else [kind]
    structs = [member for member in members if isinstance(member, type) and issubclass(member, msgspec.Struct)]
    if len(structs) == 1:
        return structs[0]
    for member in structs:
        config = member.__struct_config__
        if config.tag_field is not None and value.get(config.tag_field) == config.tag:
            return member
    return None


def _pointer(where: str) -> str:
    """msgspec's path (`.a[0]`, closed by a backtick) as a JSON pointer; it names no keys of a mapping (`[...]`)."""
    return where.rstrip("`").partition("[...]")[0].replace("[", "/").replace("]", "").replace(".", "/")
