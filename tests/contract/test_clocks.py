"""No test asserts on a clock: on a machine that is three times as busy, everything takes three times as long."""

import ast
import textwrap
from pathlib import Path

import pytest
from hypothesis import settings

from tests.contract.clocks import upper_bounds


def test_no_test_bounds_the_time_that_really_passes(repository: Path) -> None:
    sources = {
        path.relative_to(repository): path.read_text(encoding="utf-8") for path in (repository / "tests").rglob("*.py")
    }
    assert len(sources) > 100
    assert [f"{path}:{fault}" for path, source in sources.items() for fault in upper_bounds(source)] == []


def test_no_property_has_a_deadline_or_other_examples_in_each_run(repository: Path) -> None:
    usual = settings()
    assert usual.deadline is None
    assert usual.derandomize
    files = [path for path in (repository / "tests").rglob("*.py") if "hypothesis" in path.read_text(encoding="utf-8")]
    assert len(files) > 20
    assert [f"{path.name}:{fault}" for path in files for fault in _own_settings(path.read_text(encoding="utf-8"))] == []


def _own_settings(source: str) -> list[str]:
    """The calls of `settings` that undo what all tests have."""
    return [
        f"{keyword.value.lineno}: {keyword.arg}={ast.unparse(keyword.value)}"
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "settings"
        for keyword in call.keywords
        if (keyword.arg, ast.unparse(keyword.value)) not in {("deadline", "None"), ("derandomize", "True")}
        and keyword.arg in {"deadline", "derandomize"}
    ]


def test_settings_of_one_property_that_undo_these_are_found() -> None:
    assert _own_settings("@settings(deadline=200, max_examples=3)\ndef test_it(): ...") == ["1: deadline=200"]
    assert _own_settings("@settings(deadline=None, derandomize=True)\ndef test_it(): ...") == []


BOUNDS = [
    "began = time.monotonic(); act(); assert time.monotonic() - began < 10",
    "began = perf_counter(); act(); assert 10 >= perf_counter() - began",
    "began = time.time(); act(); took_ms = (time.time() - began) * 1000; assert took_ms < bound()",
    "began = time.monotonic_ns(); act(); ended = time.monotonic_ns(); assert ended - began < 10 ** 9",
    "never, began = Event(), time.monotonic(); act(); assert time.monotonic() - began <= 2",
    "began = datetime.now(UTC); act(); assert datetime.now(UTC) - began < timedelta(seconds=3)",
    "began = time.monotonic(); act(); assert 1 < time.monotonic() - began < 3",
    "began = time.monotonic(); act(); assert not time.monotonic() - began > 3",
    "began = time.monotonic(); act(); assert done and time.monotonic() - began < 3",
    "began = time.monotonic(); act(); assert time.monotonic() - began == pytest.approx(3)",
    "began = time.monotonic(); act(); assert time.monotonic() < began + 3",
    "deadline = time.monotonic() + 90; act(); assert time.monotonic() < deadline",
    "deadline = time.monotonic() + 90; act(); assert deadline - time.monotonic() > 0",
    "self.began = time.monotonic(); act(); assert time.monotonic() - self.began < 3",
    "took = []\nfor _ in range(3):\n    began = time.monotonic()\n    took.append(time.monotonic() - began)\n"
    "assert max(took) < 3",
    "began = time.monotonic()\ndef took(): return time.monotonic() - began\nact()\nassert took() < 3",
    "began = time.monotonic(); act()\nif time.monotonic() - began > 3:\n    pytest.fail('slow')",
    "began = time.monotonic(); act()\nif time.monotonic() - began > 3:\n    raise AssertionError('slow')",
    "assert exchange.timings.total_ms < 500",
    "assert quick.timings.total_ms < slow.timings.total_ms",
    "assert all(exchange.timings.total_ms < exchanges[4].timings.total_ms for exchange in others)",
    "assert took_ms < 3 and attempt['total_ms'] < 900",
    "assert answer.elapsed < timedelta(seconds=1)",
    "assert sent.wait(20)",
    "assert process.wait(30) == 0",
    "assert running.result(5) == 3",
    "assert answers.get(timeout=10) == 3",
    "subprocess.run(command, check=True, timeout=20)",
    "deadline = time.monotonic() + 5\nwhile not done():\n    assert time.monotonic() < deadline",
]
FINE = [
    "deadline = time.monotonic() + 60\nwhile not done():\n    assert time.monotonic() < deadline, said",
    "deadline = time.monotonic() + 60\nwhile time.monotonic() < deadline:\n    if done():\n        return\n"
    "raise AssertionError('it did not happen')",
    "began = time.monotonic(); act(); assert time.monotonic() - began >= 2",
    "began = time.monotonic(); act(); assert 2 < time.monotonic() - began",
    "before = datetime.now(UTC); act(); assert before <= answer.at <= datetime.now(UTC)",
    "first = time.monotonic(); act(); second = time.monotonic(); assert first < second",
    "before = datetime.now(UTC) - timedelta(minutes=1); assert ask(since=before) == []",
    "assert ends - NOTICE > datetime.now(UTC)",
    "assert 0 <= timings.dns_ms <= timings.connect_ms <= timings.total_ms",
    "assert attempt['total_ms'] == 5.25",
    "assert sent.wait(60) and running.result(90) == 3",
    "subprocess.run(command, check=True, timeout=60)",
    "stopping.wait(0.3)",
    "assert not ended.wait(0.3)",
    "assert clock.slept_seconds < 3",
    "end = time.monotonic() + seconds; return Context(seconds_left=lambda: end - time.monotonic())",
]


@pytest.mark.parametrize("statements", BOUNDS)
def test_an_upper_bound_is_found_however_it_is_written(statements: str) -> None:
    assert len(upper_bounds(_function(statements))) == 1


@pytest.mark.parametrize("statements", FINE)
def test_waits_lower_bounds_and_orders_are_no_upper_bounds(statements: str) -> None:
    assert upper_bounds(_function(statements)) == []


def test_methods_of_classes_are_looked_through_too() -> None:
    method = textwrap.indent(_function("assert exchange.timings.total_ms < 500"), "    ")
    assert upper_bounds(f"class TestIt:\n{method}") == ["3: exchange.timings.total_ms < 500"]


def _function(statements: str) -> str:
    return "def test_it():\n" + textwrap.indent(statements, "    ")
