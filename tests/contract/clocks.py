"""Finds the assertions that a busy machine breaks: an upper bound on time that has really passed.

A wait may end with a failure: `while not happened(): assert time.monotonic() < deadline`. It asserts on what it waits
for, and its deadline only ends the test, if it is generous.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

GENEROUS_SECONDS = 60
_CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "default_timer"}
_CLOCKS |= {f"{clock}_ns" for clock in _CLOCKS} | {"time_ns"}
_WALL_CLOCKS = {"time.time", "datetime.now", "datetime.utcnow", "datetime.datetime.now"}
# What the client measures of a transfer (domain/outcomes.py), and what other libraries call it.
_MEASURED = {"dns_ms", "connect_ms", "tls_ms", "first_byte_ms", "total_ms", "elapsed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Readings:
    """What the names of one function stand for: `moments` that were read from a clock, `deadlines` that lie some time
    after one, and `durations`.
    """

    moments: set[str] = field(default_factory=set)
    deadlines: set[str] = field(default_factory=set)
    durations: set[str] = field(default_factory=set)

    def note(self, name: str, value: ast.expr) -> None:
        """Notes what is assigned to a name."""
        if self.is_elapsed(value):
            self.durations.add(name)
        elif self.is_deadline(value):
            self.deadlines.add(name)
        elif self.is_moment(value):
            self.moments.add(name)

    def is_moment(self, node: ast.expr) -> bool:
        return _is_clock(node) or ast.unparse(node) in self.moments

    def is_deadline(self, node: ast.expr) -> bool:
        if ast.unparse(node) in self.deadlines:
            return True
        parts = [part for part in ast.walk(node) if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add)]
        return any(self._has_moment(part) for part in parts)

    def is_elapsed(self, node: ast.expr) -> bool:
        """Whether it is made of time that has passed: the difference of two moments, or what was measured."""
        parts = [part for part in ast.walk(node) if isinstance(part, ast.expr)]
        return any(self._is_elapsed(part) for part in parts)

    def is_left(self, node: ast.expr) -> bool:
        """Whether it is the time that is left until a deadline."""
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and self.is_deadline(node.left)

    def _is_elapsed(self, node: ast.expr) -> bool:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and not self.is_left(node):
            return self._has_moment(node) and not _is_length(node.right)
        called = isinstance(node, ast.Call) and ast.unparse(node.func) in self.durations
        return called or ast.unparse(node) in self.durations or _measured(node) is not None

    def _has_moment(self, node: ast.expr) -> bool:
        return any(self.is_moment(part) for part in ast.walk(node) if isinstance(part, ast.expr))


def upper_bounds(source: str) -> list[str]:
    """The assertions in `source` that compare real time with an upper bound, and the waits that end too soon: each
    with its line.
    """
    module = ast.parse(source)
    units = [node for node in _outermost(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [fault for unit in units for fault in _faults(unit)]


def _outermost(node: ast.AST) -> Iterator[ast.AST]:
    """Functions and methods; those inside of them share their names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        else:
            yield from _outermost(child)


def _faults(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    readings = _readings(function)
    waits = {id(part) for loop in ast.walk(function) if isinstance(loop, ast.While) for part in ast.walk(loop)}
    for node in ast.walk(function):
        claim = _claim(node)
        if claim is not None and id(node) not in waits and _is_bounded(*claim, readings):
            yield f"{claim[0].lineno}: {ast.unparse(claim[0])}"
        if (isinstance(node, ast.Assign) and _is_too_soon(node.value)) or _is_short_wait(node):
            yield f"{getattr(node, 'lineno', 0)}: {ast.unparse(node)} (wait at least {GENEROUS_SECONDS} s)"


def _readings(function: ast.AST) -> _Readings:
    readings = _Readings()
    for node in ast.walk(function):
        for name, value in _assigned(node):
            readings.note(name, value)
    return readings


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they are given: by assignment, by append(), and by the return of an inner function."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _paired(target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.AugAssign) and node.value is not None:
        yield ast.unparse(node.target), node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
        yield ast.unparse(node.func.value), node.args[0]
    elif isinstance(node, ast.FunctionDef):
        yield from ((node.name, part.value) for part in ast.walk(node) if isinstance(part, ast.Return) and part.value)


def _paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one_target, one_value in zip(target.elts, value.elts, strict=False):
            yield from _paired(one_target, one_value)
    else:
        yield ast.unparse(target), value


def _claim(node: ast.AST) -> tuple[ast.expr, bool] | None:
    """What must be true, or (False) what must not be, for the test to pass."""
    if isinstance(node, ast.Assert):
        return node.test, True
    if isinstance(node, ast.If) and any(_fails(statement) for statement in node.body):
        return node.test, False
    return None


def _fails(statement: ast.stmt) -> bool:
    written = ast.unparse(statement)
    return written.startswith(("raise AssertionError", "pytest.fail(")) or written == "assert False"


def _is_bounded(claim: ast.expr, wanted: bool, readings: _Readings) -> bool:
    if isinstance(claim, ast.UnaryOp) and isinstance(claim.op, ast.Not):
        return _is_bounded(claim.operand, not wanted, readings)
    if isinstance(claim, ast.BoolOp):
        return any(_is_bounded(part, wanted, readings) for part in claim.values)
    compared = [part for part in ast.walk(claim) if isinstance(part, ast.Compare)]
    return any(_binds(*sides, readings) for part in compared for sides in _sides(part, wanted))


def _sides(compared: ast.Compare, wanted: bool) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Pairs of a smaller and a larger side. What must be equal is bounded from both sides."""
    operands = [compared.left, *compared.comparators]
    for left, operator, right in zip(operands, compared.ops, operands[1:], strict=False):
        if isinstance(operator, ast.Eq) and not (_measured(left) or _measured(right)):
            yield from ((left, right), (right, left))
        elif isinstance(operator, ast.Lt | ast.LtE):
            yield (left, right) if wanted else (right, left)
        elif isinstance(operator, ast.Gt | ast.GtE):
            yield (right, left) if wanted else (left, right)


def _binds(smaller: ast.expr, larger: ast.expr, readings: _Readings) -> bool:
    """Whether it fails once too much time has passed. The stages of one transfer are in order on any machine."""
    if (owner := _measured(smaller)) is not None and owner == _measured(larger):
        return False
    if readings.is_moment(smaller):
        return readings.is_deadline(larger)
    return readings.is_elapsed(smaller) or readings.is_left(larger)


def _is_length(node: ast.expr) -> bool:
    """Whether it is written as so many seconds, days and so on: a moment less that is an earlier moment."""
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "timedelta"
    )


def _is_too_soon(value: ast.expr) -> bool:
    """Whether it is a moment less than GENEROUS_SECONDS from now."""
    if not (isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add)):
        return False
    return _is_clock(value.left) and _is_short(value.right)


def _is_short_wait(node: ast.AST) -> bool:
    """Whether it fails what takes GENEROUS_SECONDS: a call with a `timeout`, the result of a future, or the wait of an
    assertion. That something does not happen (`assert not ended.wait(0.3)`) may be looked at for a shorter time.
    """
    if isinstance(node, ast.Assert) and not isinstance(node.test, ast.UnaryOp):
        return any(_is_wait(part, "wait") for part in ast.walk(node.test))
    if not isinstance(node, ast.Call):
        return False
    return _is_wait(node, "result") or any(_is_short(word.value) for word in node.keywords if word.arg == "timeout")


def _is_wait(node: ast.AST, method: str) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method):
        return False
    return any(_is_short(given) for given in node.args)


def _is_short(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and 0 < node.value < GENEROUS_SECONDS


def _is_clock(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    return name in _WALL_CLOCKS or name.rpartition(".")[2] in _CLOCKS


def _measured(node: ast.AST) -> str | None:
    """Whose measured time it is: `exchange.timings` for `exchange.timings.total_ms`, `row` for `row["total_ms"]`."""
    if isinstance(node, ast.Attribute) and node.attr in _MEASURED:
        return ast.unparse(node.value)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in _MEASURED:
        return ast.unparse(node.value)
    return None
