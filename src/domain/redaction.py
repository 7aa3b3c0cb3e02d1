"""Redaction: what of requests and responses is never stored, by a destination's word."""

import json
import re
from collections.abc import Iterator

from domain.outcomes import Headers
from domain.values import value_class

REDACTED = "redacted"  # stands for the value of a header
READ_BYTES = 256 * 1024  # a response that is longer is not searched, and not stored
_NOTHING = "null"  # stands for a value in JSON: what reads it finds neither text nor number
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


@value_class(frozen=True, slots=True, kw_only=True)
class Redaction:
    """Names of headers, in any case, and JSON pointers (RFC 6901) whose values are not stored."""

    headers: tuple[str, ...] = ()
    pointers: tuple[str, ...] = ()


def redacted_headers(fields: Headers, redaction: Redaction) -> Headers:
    """The same headers, with REDACTED as the value of those that are named."""
    names = {name.lower() for name in redaction.headers}
    return tuple([(name, REDACTED if name.lower() in names else value) for name, value in fields])


def redacted_body(body: bytes, redaction: Redaction) -> bytes | None:
    """The body with null for each value that a pointer leads to, and otherwise byte for byte; None where it is not JSON
    or longer than READ_BYTES, so that nobody knows what is in it. An empty one has nothing to redact."""
    if not body or not redaction.pointers:
        return body
    text = _json_text(body)
    if text is None:
        return None
    pieces, end = [], 0
    for start, until in _outermost(_spans(text, _tree(redaction.pointers))):
        pieces += [text[end:start], _NOTHING]
        end = until
    return "".join([*pieces, text[end:]]).encode()


def _json_text(body: bytes) -> str | None:
    """The body as text, where it is one value in JSON."""
    if len(body) > READ_BYTES:
        return None
    try:
        text = body.decode("utf-8-sig")
        # Numbers stay texts: they may have more digits than Python reads.
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    return text


def _outermost(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """In their order, without those that are within another one."""
    kept: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


class _Node:
    """A value in JSON to which pointers lead: by `names` to what is in it, or here, where all of it is redacted."""

    __slots__ = ("is_redacted", "names")

    def __init__(self) -> None:
        self.is_redacted = False
        self.names: dict[str, _Node] = {}


def _tree(pointers: tuple[str, ...]) -> _Node:
    root = _Node()
    for pointer in pointers:
        node = root
        for name in pointer.split("/")[1:]:
            node = node.names.setdefault(name.replace("~1", "/").replace("~0", "~"), _Node())
        node.is_redacted = True
    return root


class _Container:
    """An object or a list that is being walked through; `node` is what pointers lead to in it, None where none does."""

    __slots__ = ("begins", "is_list", "key", "node", "position")

    def __init__(self, node: _Node | None, *, is_list: bool, begins: int) -> None:
        self.node, self.is_list, self.begins = node, is_list, begins
        self.position = 0
        self.key: str | None = None

    def take(self, mark: str) -> bool:
        """Goes on behind a comma, a colon or a name; False where `mark` is a value."""
        if mark == ",":
            self.position += 1
            self.key = None
        elif mark != ":" and (self.is_list or self.key is not None):
            return False
        elif mark != ":":
            self.key = json.loads(mark)
        return True

    @property
    def inner(self) -> _Node | None:
        """What pointers lead to in the value that comes now."""
        name = str(self.position) if self.is_list else self.key
        return None if self.node is None or name is None else self.node.names.get(name)


def _spans(text: str, root: _Node) -> Iterator[tuple[int, int]]:
    """Where the redacted values are in JSON text that is known to be well formed, those within others before them."""
    containers: list[_Container] = []
    for token in _TOKEN.finditer(text):
        mark, innermost = token[0], containers[-1] if containers else None
        if mark in "{[":
            node = root if innermost is None else innermost.inner
            containers.append(_Container(node, is_list=mark == "[", begins=token.start()))
        elif mark in "}]":
            ended = containers.pop()
            if _is_redacted(ended.node):
                yield ended.begins, token.end()
        elif innermost is not None and not innermost.take(mark) and _is_redacted(innermost.inner):
            yield token.span()


def _is_redacted(node: _Node | None) -> bool:
    return node is not None and node.is_redacted
