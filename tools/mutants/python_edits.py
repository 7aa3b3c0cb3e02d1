"""Edits of Python such as a slip would make. Texts for people, logs, annotations and decorators are left alone."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tools.mutants.edits import Edit, Span, once
from tools.mutants.sql_edits import sql_edits

type PythonRule = Callable[["PythonSource", ast.AST], Iterator[Span]]

LOGGERS = {"logger", "log"}
# Calls that only concern people, the type checker or the definition of classes.
MUTE_CALLS = {"NewType", "TypeVar", "cast", "assert_never", "field", "getLogger", "Logger", "overload"}
# Arguments that people read, or that make values frozen, which mypy checks.
MUTE_KEYWORDS = {
    "description", "title", "summary", "examples", "example", "help", "doc", "detail", "message", "reason",
    "frozen", "slots", "kw_only", "gc", "strict",
}  # fmt: skip
OPERATORS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Is: (r"is\b(?!\s+not\b)", ("is not",)),
    ast.IsNot: (r"is\s+not\b", ("is",)),
    ast.In: (r"\bin\b", ("not in",)),
    ast.NotIn: (r"not\s+in\b", ("in",)),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.Mod: ("%", "*"),
}
SQL = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|CREATE|GRANT|ALTER|REVOKE)\b")


@dataclass(slots=True)
class PythonSource:
    """A module's text, its tree, and where in the text a node is."""

    text: str
    required: dict[str, set[str]]
    tree: ast.Module = field(init=False)
    parents: dict[ast.AST, ast.AST] = field(init=False)
    _starts: list[int] = field(init=False)
    _lines: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self._lines = self.text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self._offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None  # noqa: S101, PT018 - from ast.parse
        return self._offset(node.end_lineno, node.end_col_offset)

    def of(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        return self.text[self.start(node) : self.end(node)]

    def wide(self, node: ast.expr, inside: ast.expr) -> tuple[int, int]:
        """The span of the node, with the parentheses around it that are inside another node."""
        start, end = self.start(node), self.end(node)
        while True:
            before = len(self.text[:start].rstrip())
            after = end + len(self.text[end:]) - len(self.text[end:].lstrip())
            if self.text[before - 1] != "(" or self.text[after] != ")":
                return start, end
            if before - 1 < self.start(inside) or after + 1 > self.end(inside):
                return start, end
            start, end = before - 1, after + 1

    def _offset(self, line: int, column_bytes: int) -> int:
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column_bytes].decode())


def python_edits(path: str, text: str, required: dict[str, set[str]]) -> list[Edit]:
    """All edits of a module, and those of the SQL in its strings. Some do not compile: see `compiles`.

    `required` has the keywords without which a call fails, by what is called; they are not dropped.
    """
    source = PythonSource(text, required)
    nodes = list(_effective(source, source.tree))
    code = [
        Edit(path=path, start=start, end=end, new=new, stratum="python", rule=name)
        for node in nodes
        for name, rule in RULES.items()
        for start, end, new in rule(source, node)
    ]
    statements = [
        edit
        for node in nodes
        if isinstance(node, ast.Constant) and is_sql(node)
        for edit in sql_edits(path, text, source.start(node), source.end(node))
    ]
    return [*once(sorted(code), text), *statements]


def required_keywords(texts: Iterable[str]) -> dict[str, set[str]]:
    """Of functions and dataclasses, by their name: what has no default. Where two share a name, what both require."""
    required: dict[str, set[str]] = {}
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                needed = _fields(node) if isinstance(node, ast.ClassDef) else _parameters(node.args)
                required[node.name] = required.get(node.name, needed) & needed
    return required


def _fields(node: ast.ClassDef) -> set[str]:
    return {
        statement.target.id
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value is None
    }


def _parameters(arguments: ast.arguments) -> set[str]:
    alone = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return {argument.arg for argument, default in alone if default is None}


def is_sql(node: ast.AST) -> bool:
    """Whether a string is a statement of SQL."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value) is not None


def compiles(text: str) -> bool:
    """Whether a module is Python."""
    try:
        compile(text, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _effective(source: PythonSource, node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below this one that have an effect at run time and are not for people. Of annotations these are the
    bounds that msgspec enforces.
    """
    for name, value in ast.iter_fields(node):
        if name == "annotation" and value is not None:
            for bound in (call for call in ast.walk(value) if isinstance(call, ast.Call)):
                yield bound
                yield from _effective(source, bound)
        if name in {"annotation", "returns", "decorator_list", "type_params", "bases"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _mute(child):
                yield child
                yield from _effective(source, child)


def _mute(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.keyword):
        return node.arg in MUTE_KEYWORDS
    if isinstance(node, ast.Call):
        return _called(node) in MUTE_CALLS or _logs(node)
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr, ast.TypeAlias))


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _logs(call: ast.Call) -> bool:
    value = call.func.value if isinstance(call.func, ast.Attribute) else None
    return isinstance(value, ast.Name) and value.id in LOGGERS


def _matched(source: PythonSource, begin: int, end: int, pattern: str, new: str) -> Iterator[Span]:
    match = re.search(pattern, source.text[begin:end])
    if match:
        yield begin + match.start(), begin + match.end(), new


def _comparisons(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            pattern, others = OPERATORS[type(operator)]
            for other in others:
                yield from _matched(source, source.end(left), source.start(right), pattern, other)


def _connectives(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.BoolOp):
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from _matched(source, source.end(left), source.start(right), rf"\b{word}\b", other)


def _operands(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.BoolOp):
        spans = [source.wide(value, node) for value in node.values]
        for (start, _), (following, _) in pairwise(spans):
            yield start, following, ""
        yield spans[-2][1], spans[-1][1], ""


def _negations(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield source.start(node), source.start(node.operand), ""
    if isinstance(node, (ast.If, ast.IfExp)) and not isinstance(node.test, (ast.Compare, ast.UnaryOp)):
        yield source.start(node.test), source.end(node.test), f"not ({source.of(node.test)})"


def _filters(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.comprehension):
        for condition in node.ifs:
            yield source.start(condition), source.end(condition), "True"


def _numbers(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.Constant) and type(node.value) in {int, float}:
        value = node.value
        assert isinstance(value, (int, float))  # noqa: S101 - for the type checker
        others = [value + 1, value - 1, value * 10] if isinstance(value, int) else [value * 10, value + 1]
        for other in others:
            yield source.start(node), source.end(node), f"({other})" if other < 0 else f"{other}"


def _truths(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield source.start(node), source.end(node), str(not node.value)


def _strings(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    """Those that decide something: operands of comparisons and patterns of `case`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and not is_sql(node):
        parent = source.parents[node]
        if isinstance(parent, (ast.Compare, ast.MatchValue)):
            yield source.start(node), source.end(node), '"mutant"'


def _guards(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if (
        isinstance(node, ast.If)
        and not node.orelse
        and isinstance(node.body[-1], (ast.Raise, ast.Return, ast.Continue, ast.Break))
        and source.text[source.start(node) :].startswith("if")
    ):
        yield source.start(node), source.end(node), "pass"


def _raises(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.Raise):
        parent = source.parents[node]
        if not (isinstance(parent, ast.If) and not parent.orelse and len(parent.body) == 1):
            yield source.start(node), source.end(node), "pass"


def _calls(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _mute(node.value):
        yield source.start(node), source.end(node), "pass"


def _assignments(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    """To what others see: attributes, entries, sums. Without a variable the rest of the function would simply fail."""
    if isinstance(node, ast.AugAssign):
        yield source.start(node), source.end(node), "pass"
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
        yield source.start(node), source.end(node), "pass"


def _returns(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.Return) and node.value is not None:
        value = source.of(node.value)
        yield source.start(node.value), source.end(node.value), "None"
        if _returns_bool(source, node) and not isinstance(node.value, (ast.Constant, ast.UnaryOp)):
            start, end = source.wide(node.value, node.value)
            yield start, end, f"not ({value})"


def _returns_bool(source: PythonSource, node: ast.AST) -> bool:
    while not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node = source.parents[node]
    return isinstance(node.returns, ast.Name) and node.returns.id == "bool"


def _swaps(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.Call) and len(node.args) >= 2 and _called(node) not in {"min", "max"}:
        first, second = node.args[:2]
        if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
            between = source.text[source.end(first) : source.start(second)]
            if between.strip() == ",":
                yield source.start(first), source.end(second), source.of(second) + between + source.of(first)


def _keywords(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, (ast.Call, ast.ClassDef)):
        needed = source.required.get(_called(node), set()) if isinstance(node, ast.Call) else set()
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg not in MUTE_KEYWORDS | needed:
                yield _without(source, source.start(keyword), source.end(keyword))


def _without(source: PythonSource, start: int, end: int) -> Span:
    """One of a list's entries, with the comma behind it, or else the one before it."""
    behind = re.match(r"\s*,\s*", source.text[end:])
    if behind:
        return start, end + behind.end(), ""
    before = re.search(r",\s*$", source.text[:start])
    return (before.start() if before else start), end, ""


def _handlers(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.ExceptHandler):
        start, end = source.start(node.body[0]), source.end(node.body[-1])
        yield start, end, "pass"


def _arithmetic(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not _text(node.left) and not _text(node.right):
        pattern, other = ARITHMETIC[type(node.op)]
        yield from _matched(source, source.end(node.left), source.start(node.right), pattern, other)


def _text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _text(node.left) or _text(node.right)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (str, bytes))
    return isinstance(node, (ast.JoinedStr, ast.List, ast.Tuple))


def _extremes(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"min", "max"}:
        yield source.start(node.func), source.end(node.func), "min" if node.func.id == "max" else "max"


def _members(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    """Of sets, lists and constant tuples of two and more."""
    for element in _elements(source, node):
        yield _without(source, source.start(element), source.end(element))
    if isinstance(node, ast.Dict) and len(node.keys) > 1:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                yield _without(source, source.start(key), source.end(value))


def _elements(source: PythonSource, node: ast.AST) -> list[ast.expr]:
    if isinstance(node, (ast.Set, ast.List)) or (isinstance(node, ast.Tuple) and _constant(source, node)):
        return node.elts if len(node.elts) > 1 else []
    return []


def _constant(source: PythonSource, node: ast.Tuple) -> bool:
    parent = source.parents[node]
    plain = all(isinstance(element, (ast.Constant, ast.Name, ast.Attribute)) for element in node.elts)
    return plain and isinstance(parent, (ast.Compare, ast.Call, ast.Assign, ast.AnnAssign, ast.ExceptHandler))


def _slices(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, ast.Slice):
        for bound in (node.lower, node.upper):
            if bound is not None:
                yield source.start(bound), source.end(bound), ""


def _jumps(source: PythonSource, node: ast.AST) -> Iterator[Span]:
    if isinstance(node, (ast.Break, ast.Continue)):
        yield source.start(node), source.end(node), "continue" if isinstance(node, ast.Break) else "break"


RULES: dict[str, PythonRule] = {
    "changes a comparison": _comparisons,
    "swaps and/or": _connectives,
    "drops an operand": _operands,
    "negates": _negations,
    "drops a filter": _filters,
    "changes a number": _numbers,
    "flips a boolean": _truths,
    "changes a string": _strings,
    "drops a guard": _guards,
    "drops a raise": _raises,
    "drops a call": _calls,
    "drops an assignment": _assignments,
    "changes what is returned": _returns,
    "swaps arguments": _swaps,
    "drops a keyword": _keywords,
    "swallows an error": _handlers,
    "changes arithmetic": _arithmetic,
    "swaps min/max": _extremes,
    "drops a member": _members,
    "drops a slice bound": _slices,
    "changes a jump": _jumps,
}
