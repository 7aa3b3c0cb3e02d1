"""Edits of SQL, in the strings of src/db and in its migrations: locks, conditions, columns, grants, constraints."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tools.mutants.edits import Edit, Span, once

type SqlRule = Callable[["SqlStatement"], Iterator[Span]]

TOKEN = re.compile(
    r"(?P<comment>--[^\n]*)|(?P<string>'(?:[^']|'')*')|(?P<given>%\(\w+\)s|%s)|(?P<word>[A-Za-z_]\w*(?:\.\w+)*)"
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<operator>::|<@|@>|->>?|<>|!=|<=|>=|[=<>]|\|\||[-+*/])|(?P<mark>[(),;\[\]])"
)
FLIPS = {
    "=": ("<>",), "<>": ("=",), "!=": ("=",), "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
}  # fmt: skip
# Where a condition begins and ends, on its own level of parentheses.
BEFORE = {"WHERE", "ON", "HAVING", "WHEN", "SELECT", "CHECK", ",", "(", ";", "THEN", "ELSE", "BY", "SET"}
BEHIND = {
    ")", ",", ";", "AS", "THEN", "ELSE", "END", "GROUP", "ORDER", "LIMIT", "FOR", "RETURNING", "JOIN", "LEFT", "CROSS",
    "INNER", "UNION", "DO", "FROM", "WHERE", "ON", "HAVING", "INCLUDE",
}  # fmt: skip
OPPOSITES = {"greatest": "least", "least": "greatest", "min": "max", "max": "min"}
MIN_ITEMS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A word, string, number, operator or mark; `depth` counts the parentheses around it (those of a pair included)."""

    kind: str
    text: str
    start: int
    end: int
    depth: int

    @property
    def key(self) -> str:
        """What keywords are compared by."""
        return self.text.upper() if self.kind == "word" else self.text


@dataclass(slots=True)
class SqlStatement:
    """A part of a file that is SQL, as tokens without its comments. Places are indexes of tokens, spans are offsets in
    the file.
    """

    text: str
    start: int
    end: int
    tokens: list[Token] = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = list(self._read())

    def _read(self) -> Iterator[Token]:
        depth = 0
        for match in TOKEN.finditer(self.text, self.start, self.end):
            kind = str(match.lastgroup)
            depth += match[0] == "("
            if kind != "comment":
                yield Token(kind=kind, text=match[0], start=match.start(), end=match.end(), depth=depth)
            depth -= match[0] == ")"

    def key(self, place: int) -> str:
        """Of the token at a place; nothing before the first and behind the last."""
        return self.tokens[place].key if 0 <= place < len(self.tokens) else ""

    def at(self, *keys: str) -> Iterator[int]:
        """All places where these keywords follow each other."""
        for place in range(len(self.tokens)):
            if all(self.key(place + step) == key for step, key in enumerate(keys)):
                yield place

    def level(self, place: int) -> int:
        """How deep the inside of what begins at a place is: for a parenthesis, that of its contents."""
        return self.tokens[place].depth

    def until(self, place: int, ends: set[str], depth: int) -> int:
        """The first place from this one on with one of `ends` on that level, or outside of it."""
        for at in range(place, len(self.tokens)):
            token = self.tokens[at]
            if token.depth < depth or (token.depth == depth and token.key in ends):
                return at
        return len(self.tokens)

    def items(self, begin: int, end: int, depth: int) -> list[tuple[int, int]]:
        """The places [begin, end) split at the commas of that level."""
        commas = [at for at in range(begin, end) if self.key(at) == "," and self.tokens[at].depth == depth]
        edges = [begin - 1, *commas, end]
        return [(left + 1, right) for left, right in pairwise(edges) if left + 1 < right]

    def group(self, opening: int) -> tuple[int, int, int]:
        """Inside a parenthesis: its first place, that of its end, and the level."""
        depth = self.tokens[opening].depth
        return opening + 1, self.until(opening + 1, {")"}, depth), depth

    def span(self, begin: int, end: int, new: str = "") -> Span:
        """The text from the token at `begin` to the one before `end`."""
        return self.tokens[begin].start, self.tokens[end - 1].end, new

    def dropped(self, items: Sequence[tuple[int, int]], which: int) -> Span:
        """One of several items between commas, with a comma."""
        begin, end = items[which]
        if which + 1 < len(items):
            return self.tokens[begin].start, self.tokens[items[which + 1][0]].start, ""
        return self.tokens[items[which - 1][1] - 1].end, self.tokens[end - 1].end, ""

    def of(self, item: tuple[int, int]) -> str:
        """An item's text."""
        start, end, _ = self.span(*item)
        return self.text[start:end]


def sql_edits(path: str, text: str, start: int, end: int) -> list[Edit]:
    """All edits of the SQL between two offsets of a file, in the order of the text."""
    statement = SqlStatement(text, start, end)
    edits = [
        Edit(path=path, start=begin, end=stop, new=new, stratum="sql", rule=name)
        for name, rule in RULES.items()
        for begin, stop, new in rule(statement)
    ]
    return list(once(sorted(edits), text))


def _locks(sql: SqlStatement) -> Iterator[Span]:
    for lock in ("UPDATE", "SHARE"):
        for place in sql.at("FOR", lock):
            end = sql.until(place, {")", ";"}, sql.level(place))
            yield sql.span(place, end)
            for skip in sql.at("SKIP", "LOCKED"):
                if place < skip < end:
                    yield sql.span(skip, skip + 2)


def _conditions(sql: SqlStatement) -> Iterator[Span]:
    """Each operand of AND and OR; the whole WHERE where it has only one."""
    for place, token in enumerate(sql.tokens):
        if token.key in {"AND", "OR"} and sql.key(place - 2) != "BETWEEN":
            begin = _left(sql, place)
            end = sql.until(place + 1, BEHIND | {"AND", "OR"}, token.depth)
            yield sql.span(begin, place + 1)
            yield sql.span(place, end)
            yield token.start, token.end, "OR" if token.key == "AND" else "AND"
    for place in sql.at("WHERE"):
        end = sql.until(place + 1, BEHIND, sql.level(place))
        if not any(sql.key(at) in {"AND", "OR"} and sql.level(at) == sql.level(place) for at in range(place, end)):
            yield sql.span(place, end)


def _left(sql: SqlStatement, place: int) -> int:
    depth = sql.level(place)
    for at in range(place - 1, -1, -1):
        token = sql.tokens[at]
        outside = token.depth < depth or (token.key == "(" and token.depth == depth)
        if outside or (token.depth == depth and token.key in BEFORE | {"AND", "OR"}):
            return at + 1
    return 0


def _comparisons(sql: SqlStatement) -> Iterator[Span]:
    for place, token in enumerate(sql.tokens):
        assigns = token.text == "=" and sql.key(place - 2) in {"SET", ","}
        if token.text in FLIPS and token.kind == "operator" and not assigns and sql.key(place - 3) != "ROLE":
            for other in FLIPS[token.text]:
                yield token.start, token.end, other


def _nulls(sql: SqlStatement) -> Iterator[Span]:
    for place in sql.at("IS", "NULL"):
        yield sql.span(place, place + 2, "IS NOT NULL")
    for place in sql.at("IS", "NOT", "NULL"):
        yield sql.span(place, place + 3, "IS NULL")


def _negations(sql: SqlStatement) -> Iterator[Span]:
    for place in sql.at("NOT"):
        if sql.key(place - 1) not in {"IS", "IF"} and sql.key(place + 1) != "NULL":
            yield sql.tokens[place].start, sql.tokens[place + 1].start, ""


def _orders(sql: SqlStatement) -> Iterator[Span]:
    indexes = any(True for _ in sql.at("INDEX"))
    for place in sql.at("DESC"):
        if not indexes:  # an index is read from both ends
            yield sql.tokens[place - 1].end, sql.tokens[place].end, ""
    for place in sql.at("ORDER", "BY"):
        end = sql.until(place + 2, {")", ";", "LIMIT", "FOR"}, sql.level(place))
        yield sql.span(place, end)
        if sql.key(end - 1) != "DESC":
            yield sql.tokens[end - 1].end, sql.tokens[end - 1].end, " DESC"


def _limits(sql: SqlStatement) -> Iterator[Span]:
    for place in sql.at("LIMIT"):
        yield sql.span(place, place + 2)
    for place in sql.at("DISTINCT"):
        yield sql.span(place, place + 1)


def _joins(sql: SqlStatement) -> Iterator[Span]:
    for place in sql.at("LEFT", "JOIN"):
        yield sql.span(place, place + 2, "JOIN")
    for place in sql.at("UNION", "ALL"):
        yield sql.span(place, place + 2, "UNION")


def _functions(sql: SqlStatement) -> Iterator[Span]:
    for place, token in enumerate(sql.tokens):
        if token.kind == "word" and sql.key(place + 1) == "(":
            if token.text.lower() in OPPOSITES:
                yield token.start, token.end, OPPOSITES[token.text.lower()]
            if token.key == "COALESCE":
                begin, end, depth = sql.group(place + 1)
                for argument in sql.items(begin, end, depth):
                    yield sql.span(place, end + 1, sql.of(argument))


def _values(sql: SqlStatement) -> Iterator[Span]:
    for token in sql.tokens:
        if token.kind == "number" and "." not in token.text:
            for other in (int(token.text) + 1, int(token.text) - 1, int(token.text) * 10):
                yield token.start, token.end, str(other)
        if token.kind == "string":
            number = re.fullmatch(r"'(\d+)(\w*)'", token.text)
            yield token.start, token.end, f"'{int(number[1]) * 10}{number[2]}'" if number else "'mutant'"


def _lists(sql: SqlStatement) -> Iterator[Span]:
    for place in sql.at("IN", "("):
        begin, end, depth = sql.group(place + 1)
        items = sql.items(begin, end, depth)
        if len(items) >= MIN_ITEMS and sql.key(begin) != "SELECT":
            for which in range(len(items)):
                yield sql.dropped(items, which)


def _assignments(sql: SqlStatement) -> Iterator[Span]:
    for place in sql.at("SET"):
        if sql.key(place - 2) == "ROLE" or sql.key(place - 1) == "DELETE":
            continue
        end = sql.until(place + 1, {"FROM", "WHERE", "RETURNING", ";", ")"}, sql.level(place))
        items = sql.items(place + 1, end, sql.level(place))
        for which in range(len(items) if len(items) >= MIN_ITEMS else 0):
            yield sql.dropped(items, which)


def _inserts(sql: SqlStatement) -> Iterator[Span]:
    """A column together with its value."""
    for place in sql.at("INSERT", "INTO"):
        begin, end, depth = sql.group(place + 3)
        columns = sql.items(begin, end, depth)
        if sql.key(end + 1) == "VALUES":
            values = sql.items(*sql.group(end + 2))
        else:
            end_of_values = sql.until(end + 2, {"FROM", "ON", ")", ";"}, sql.level(place))
            values = sql.items(end + 2, end_of_values, sql.level(place))
        if len(columns) == len(values):
            for which in range(len(columns)):
                first, second = sql.dropped(columns, which), sql.dropped(values, which)
                yield first[0], second[1], sql.text[first[1] : second[0]]


def _conflicts(sql: SqlStatement) -> Iterator[Span]:
    for place in sql.at("DO", "UPDATE"):
        yield sql.span(place, sql.until(place, {"RETURNING", ")", ";"}, sql.level(place)), "DO NOTHING")
    for place in sql.at("ON", "DELETE", "CASCADE"):
        yield sql.span(place, place + 3)


def _cases(sql: SqlStatement) -> Iterator[Span]:
    for place in sql.at("CASE"):
        depth = sql.level(place)
        end = sql.until(place, {"END"}, depth)
        then, other = sql.until(place, {"THEN"}, depth), sql.until(place, {"ELSE", "END"}, depth)
        held = sql.of((then + 1, other))
        yield sql.span(place, end + 1, held)
        yield sql.span(place, end + 1, sql.of((other + 1, end)) if other < end else "NULL")


def _constraints(sql: SqlStatement) -> Iterator[Span]:
    """Of tables: constraints, and what follows a column's type."""
    for place in sql.at("CREATE", "TABLE"):
        opening = next(at for at in range(place, len(sql.tokens)) if sql.key(at) == "(")
        begin, end, depth = sql.group(opening)
        items = sql.items(begin, end, depth)
        for which, (first, _) in enumerate(items):
            if sql.key(first) == "CONSTRAINT":
                yield sql.dropped(items, which)
    implied = _of_primary_keys(sql)
    for place in sql.at("NOT", "NULL"):
        if sql.key(place - 1) != "IS" and place not in implied:
            yield sql.tokens[place - 1].end, sql.tokens[place + 1].end, ""
    for place in sql.at("DEFAULT"):
        end = sql.until(place + 1, {",", "NOT", ")", ";"}, sql.level(place))
        yield sql.tokens[place - 1].end, sql.tokens[end - 1].end, ""


def _of_primary_keys(sql: SqlStatement) -> set[int]:
    """The places of columns that are part of a primary key: PostgreSQL makes those NOT NULL by itself."""
    places: set[int] = set()
    for place in sql.at("CREATE", "TABLE"):
        items = sql.items(*sql.group(next(at for at in range(place, len(sql.tokens)) if sql.key(at) == "(")))
        names = {name for definition in items for name in _keyed(sql, *definition)}
        places |= {at for first, end in items if sql.key(first) in names for at in range(first, end)}
    return places


def _keyed(sql: SqlStatement, first: int, end: int) -> Iterator[str]:
    """The columns that one entry of a table makes its primary key: those in parentheses, or its own."""
    for place in range(first, end):
        if sql.key(place) == "PRIMARY":
            named = sql.key(place + 2) == "("
            yield from (sql.key(at) for at in range(place + 3, sql.group(place + 2)[1])) if named else (sql.key(first),)


def _statements(sql: SqlStatement) -> Iterator[Span]:
    """Whole statements that others do not need: indexes, grants, settings of roles, constraints added later."""
    for first, second in (("CREATE", "INDEX"), ("CREATE", "UNIQUE"), ("ALTER", "ROLE"), ("ALTER", "TABLE")):
        for place in sql.at(first, second):
            yield from _statement(sql, place)
    for word in ("GRANT", "REVOKE"):
        for place in sql.at(word):
            yield from _statement(sql, place)
    for place in sql.at("UNIQUE", "INDEX"):
        yield sql.span(place, place + 2, "INDEX")


def _statement(sql: SqlStatement, place: int) -> Iterator[Span]:
    end = sql.until(place, {";"}, 0)
    if end < len(sql.tokens):
        yield sql.span(place, end + 1)


def _grants(sql: SqlStatement) -> Iterator[Span]:
    """One privilege of several, one column of several, and all columns instead of some."""
    for place in sql.at("GRANT"):
        end = sql.until(place, {"ON", ";"}, 0)
        rights = sql.items(place + 1, end, 0)
        for which in range(len(rights) if len(rights) >= MIN_ITEMS else 0):
            yield sql.dropped(rights, which)
        for opening in range(place, end):
            if sql.key(opening) == "(":
                begin, closing, depth = sql.group(opening)
                columns = sql.items(begin, closing, depth)
                yield sql.span(opening, closing + 1)
                for which in range(len(columns) if len(columns) >= MIN_ITEMS else 0):
                    yield sql.dropped(columns, which)


RULES: dict[str, SqlRule] = {
    "drops a lock": _locks,
    "changes a condition": _conditions,
    "changes a comparison": _comparisons,
    "inverts a NULL test": _nulls,
    "drops a NOT": _negations,
    "changes an order": _orders,
    "drops a limit": _limits,
    "narrows a join": _joins,
    "changes a function": _functions,
    "changes a value": _values,
    "drops a member": _lists,
    "drops an assignment": _assignments,
    "drops a column": _inserts,
    "changes what follows a conflict or a deletion": _conflicts,
    "drops a branch of CASE": _cases,
    "drops a constraint": _constraints,
    "drops a statement": _statements,
    "changes a grant": _grants,
}
