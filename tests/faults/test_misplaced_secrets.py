"""A secret in the wrong place is not repeated: neither by the answer that refuses it, nor by a log, nor in a table.

The places are all that the OpenAPI document names: each member of each body, however deep, and each query parameter,
header and part of a path. In each the secret stands as the value, in a value that is right but for it, as the name of a
member and as the type of an object.
"""

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from traceback import format_exception
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from handlers import api as function
from handlers import authorize
from handlers.openapi import document
from tests.support.api import NOBODYS_ID, Context, Functions, authorizer_event, reply

SECRET = "hunter2"
# Alone, and in what most kinds of texts consist of.
VALUES = [
    *(SECRET, f"{SECRET} ", f"\0{SECRET}", SECRET.upper(), SECRET * 1000, f"{{{SECRET}}}", f"/{SECRET}/.."),
    *(f"https://user:{SECRET}@bank.example", f"{SECRET}://bank.example", f"https://bank.example:{SECRET}"),
    *(f"content-{SECRET}", f"sallyport-{SECRET}"),
]
type Put = Callable[[Any], Any]
type Places = Iterator[tuple[Put, Mapping[str, Any]]]


def forms_of(secret: str) -> list[bytes]:
    """How a secret may be found in a text in lower case: as it is, in hex, percent-encoded, or in base64."""
    sent = secret.encode()
    shifted = [b64encode(bytes(shift) + sent)[4 * (shift > 0) : -4].lower() for shift in range(3)]
    return [sent, sent.hex().encode(), "".join(f"%{byte:02x}" for byte in sent).encode(), *shifted]


FORMS = forms_of(SECRET)


def is_repeated(text: str) -> bool:
    lowered = text.lower().encode()
    return any(form in lowered for form in FORMS)


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_a_secret_is_found_in_all_its_forms(before: str) -> None:
    text = f"{before}{SECRET}{before}"
    assert all(map(is_repeated, (text, text.upper(), text.encode().hex(), b64encode(text.encode()).decode())))
    assert is_repeated("".join(f"%{byte:02X}" for byte in text.encode()))
    assert not is_repeated("hunter3")


@cache
def described() -> dict[str, Any]:
    return document(server="/dev")


def resolved(schema: Mapping[str, Any], met: set[str] | None = None) -> Mapping[str, Any]:
    """What a schema refers to, with what is said beside that; `met` takes up the reference."""
    if "$ref" not in schema:
        return schema
    if met is not None:
        met.add(schema["$ref"])
    target = described()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return {**target, **{name: value for name, value in schema.items() if name != "$ref"}}


def valid(schema: Mapping[str, Any]) -> Any:
    """A value of a schema: the example of it, or the least that it takes."""
    schema = resolved(schema)
    if schema.get("examples"):
        return schema["examples"][0]
    if "anyOf" in schema:
        return valid(schema["anyOf"][0])
    if "enum" in schema:
        return schema["enum"][0]
    return least(schema) if schema["type"] == "object" else {"string": "a", "array": [], "null": None}[schema["type"]]


def least(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What an object must have."""
    return {name: valid(schema["properties"][name]) for name in schema.get("required", ())}


def places(schema: Mapping[str, Any], put: Put, walked: set[str]) -> Places:
    """The place of a value, and all within it: what makes a body with something else there, and its schema. What has a
    name of its own, and so is judged by the same code wherever it stands, is walked through where it is met first.
    """
    is_new, schema = schema.get("$ref", "") not in walked, resolved(schema, walked)
    yield put, schema
    for alternative in schema.get("anyOf", ()):
        yield from places(alternative, put, walked)
    if schema.get("type") == "object" and is_new:
        yield from members(schema, put, walked)
    if schema.get("type") == "array" and "items" in schema:
        yield from places(schema["items"], as_item(0, [], put), walked)


def members(schema: Mapping[str, Any], put: Put, walked: set[str]) -> Places:
    """Those that an object has, and the secret as the name of one where it may have any."""
    base = least(schema)
    others = schema.get("additionalProperties", None if "properties" in schema else {})
    named = {**schema.get("properties", {}), **({SECRET: others} if isinstance(others, dict) else {})}
    for name, member in named.items():
        yield from places(member, as_member(name, base, put), walked)


def as_member(name: str, others: Mapping[str, Any], put: Put) -> Put:
    return lambda value: put({**others, name: value})


def as_item(position: int, others: Sequence[Any], put: Put) -> Put:
    return lambda value: put([*others[:position], value, *others[position + 1 :]])


def within(value: Any, put: Put) -> Iterator[tuple[Put, Any]]:
    """The places of an example, whose bodies have all else that belongs to it, and what stands there."""
    yield put, value
    if isinstance(value, dict):
        for name, member in value.items():
            yield from within(member, as_member(name, value, put))
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from within(item, as_item(position, value, put))


def at_schema(schema: Mapping[str, Any], texts: Sequence[str]) -> Iterator[Any]:
    """What is tried where that is expected: of all texts one at least."""
    is_text = schema.get("type", "string") == "string" and not schema.keys() & {"enum", "anyOf"}
    yield from texts if is_text else texts[:1]
    yield from ([SECRET], {SECRET: SECRET}, {**(least(schema) if schema.get("type") == "object" else {}), SECRET: 1})


def at_example(value: Any) -> Any:
    """What is tried instead of that."""
    if isinstance(value, dict):
        return {**value, SECRET: 1}
    return f"{value}{SECRET}" if isinstance(value, str) else SECRET


def bodies_of(operation: Mapping[str, Any], texts: Sequence[str] = VALUES) -> list[bytes]:
    """Bodies with the secret at all places of an operation's, each once; none where it takes none of ours."""
    contents = list(operation.get("requestBody", {"content": {}})["content"].values())
    content: Mapping[str, Any] = contents[0] if contents else {}
    if "examples" not in content:
        return []
    tried = [put(value) for put, at in places(content["schema"], itself, set()) for value in at_schema(at, texts)]
    for example in content["examples"].values():
        tried += [put(at_example(at)) for put, at in within(example["value"], itself)]
    return list(dict.fromkeys(json.dumps(body).encode() for body in tried))


def itself(value: Any) -> Any:
    return value


@dataclass(kw_only=True)
class Caller:
    """Makes calls, each of which has a secret of its own, and looks at what becomes of it."""

    functions: Functions
    destination: str
    refused: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)

    def target(self, path: str) -> str:
        """The path of something that there is; of what is known by ids alone, nothing is."""
        return re.sub("{.*?}", NOBODYS_ID, path.replace("{destination}", self.destination))

    def call(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        number = f"{self.statuses.total():05}"
        given = [(name, value.replace(SECRET, SECRET + number)) for name, value in (headers or {}).items()]
        body = body and body.replace(SECRET.encode(), f"{SECRET}{number}".encode())
        event = self.functions.api.event(method, target.replace(SECRET, SECRET + number), body=body, headers=given)
        answer = reply(function.handler(event, Context()))
        self.statuses[answer.status] += 1
        if 400 <= answer.status < 500:
            self.refused.add(number)
            text = answer.body.decode() + str(answer.headers)
            assert not is_repeated(text), (method, target, body, headers, text)
        log = self.functions.log.getvalue()
        self.functions.log.seek(0)
        self.functions.log.truncate()
        assert not is_repeated(log), (method, target, body, headers, log)
        assert answer.status != 500, log

    def stored(self) -> set[str]:
        """The numbers of all secrets that are in a table or in the queue."""
        find = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        tables = [row["relname"] for row in self.functions.sql(find)]
        read = 'SELECT to_jsonb(t)::text AS row FROM "{}" AS t'
        rows = [row for table in tables for row in self.functions.sql(read.format(table))]
        text = "".join(row["row"] for row in rows) + str(self.functions.queue.messages)
        in_bytes = (
            bytes.fromhex(found).decode(errors="replace") for found in re.findall(r"\\x((?:[0-9a-f]{2})+)", text)
        )
        return set(re.findall(SECRET + r"(\d{5})", "\n".join([text, *in_bytes])))


@pytest.fixture
def caller(functions: Functions) -> Iterator[Caller]:
    """With a destination, `partner`, that nothing can be sent to."""
    partner = functions.api.destination("http://127.0.0.1:1")
    functions.log.truncate(0)
    made = Caller(functions=functions, destination=partner["destination_id"])
    yield made
    assert made.refused
    assert not made.stored() & made.refused


def operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """With their methods and paths."""
    for path, described_there in described()["paths"].items():
        for method, operation in described_there.items():
            yield method.upper(), path, operation


def part_of(path: str) -> str:
    """What an operation belongs to: `deliveries`, `destinations` and others."""
    return path.removeprefix("/v1").split("/")[1]


PARTS = dict.fromkeys(part_of(path) for _, path, operation in operations() if bodies_of(operation))


@pytest.mark.parametrize("part", PARTS)
def test_no_secret_in_a_body_is_repeated(caller: Caller, part: str) -> None:
    for method, path, operation in operations():
        if part_of(path) == part:
            for body in bodies_of(operation):
                caller.call(method, caller.target(path), body)
    assert caller.statuses[422] > 20


def test_no_secret_in_a_patch_is_repeated(caller: Caller) -> None:
    """It has the members of a new destination, which its own schema does not describe once more."""
    for body in bodies_of(described()["paths"]["/v1/destinations"]["post"], VALUES[:1]):
        caller.call("PATCH", caller.target("/v1/destinations/{destination}"), body)
    assert caller.statuses[422] > 300


# What is at fault only together.
PAIRS: list[dict[str, Any]] = [
    {"auth": {"type": "header", "name": SECRET, "value": "v"}, "idempotency_header": SECRET},
    {"auth": {"type": "header", "name": SECRET, "value": "v"}, "signing": [{"type": "hmac", "header": SECRET}]},
    {"auth": {"type": "header", "headers": [{"name": SECRET, "value": "v"}] * 2}},
    {"idempotency_header": SECRET, "signing": [{"type": "hmac", "header": SECRET}]},
    {"signing": [{"type": "hmac", "header": SECRET}, {"type": "hmac", "header": SECRET, "name": "b"}]},
    {"signing": [{"type": "hmac", "header": SECRET, "timestamp_header": SECRET}]},
    {"signing": [{"type": "hmac", "header": "a", "name": SECRET}, {"type": "hmac", "header": "b", "name": SECRET}]},
]


def test_nor_is_one_in_two_places(caller: Caller) -> None:
    for fields in PAIRS:
        body = {"name": SECRET, "base_url": "https://bank.example", **fields}
        caller.call("POST", "/v1/destinations", json.dumps(body).encode())
    assert caller.statuses == {422: len(PAIRS)}


# Headers that the API reads without the document saying so, or passes on.
OTHERS = ["Authorization", "Content-Type", "Cookie", "Host", "traceparent", "tracestate", f"X-{SECRET}"]


def test_no_secret_in_a_header_is_repeated(caller: Caller) -> None:
    values = [SECRET, f"{SECRET} {SECRET}", f'"{SECRET}', f"wait={SECRET}", f'W/"{SECRET}"', f"00-{SECRET}-{SECRET}-01"]
    values += [f"{SECRET}/{SECRET};q={SECRET}", f"Bearer {SECRET}", f"{SECRET}\u20ac", f"evt_{SECRET}"]
    for method, path, operation in operations():
        if not operation["security"]:
            continue  # it looks at nothing of the call
        read = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"]
        body = b"{}" if operation.get("requestBody") else None
        for named, value in product([*([name] for name in read), OTHERS], values):
            where = caller.target(path.replace("/via/{destination}", "/via/nobody"))
            caller.call(method, where, body, dict.fromkeys(named, value))


def test_no_secret_in_a_query_is_repeated(caller: Caller) -> None:
    for method, path, operation in operations():
        read = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"]
        others = ("metadata[x]", f"metadata[{SECRET}]") if "metadata" in read else ()
        for name in (*read, *others, SECRET):
            for value in VALUES[:-2]:
                caller.call(method, f"{caller.target(path)}?{urlencode({name: value})}")
            caller.call(method, f"{caller.target(path)}?{urlencode([(name, SECRET)] * 2)}")


def test_no_secret_in_a_path_is_repeated(caller: Caller) -> None:
    for method, path, _ in operations():
        parts = re.findall("{.*?}", path)
        for part, value in product(parts, VALUES[:-2]):
            caller.call(method, caller.target(path.replace(part, quote(value, safe=""))))
        caller.call(method, f"{caller.target(path)}/{SECRET}")
        caller.call(method, f"/{SECRET}{caller.target(path)}")
        caller.call(SECRET.upper(), caller.target(path))


@pytest.mark.parametrize("authorization", [SECRET, f"Bearer {SECRET}", f"Bearer spt_{SECRET}", f"Basic {SECRET}", "\0"])
def test_no_secret_that_is_no_token_is_repeated(functions: Functions, authorization: str) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011 - its own text is what API Gateway wants, and no more
        authorize.handler(authorizer_event(authorization), Context())
    assert str(refused.value) == "Unauthorized"
    assert not is_repeated(functions.log.getvalue() + "".join(format_exception(refused.value)))


def test_what_is_stored_of_a_call_that_was_taken_is_found(functions: Functions) -> None:
    partner = functions.api.destination("http://127.0.0.1:1")
    caller = Caller(functions=functions, destination=partner["destination_id"])
    functions.log.truncate(0)
    for fields in ({"path": f"/{SECRET}"}, {"body": SECRET}):
        caller.call("POST", "/v1/deliveries", json.dumps({"destination": "partner", **fields}).encode())
    assert (caller.statuses, caller.stored()) == ({202: 2}, {"00000", "00001"})
