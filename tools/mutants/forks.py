"""The pytest plugin of the warm runs: it collects the tests once, and forks for each edit.

MUTANTS_PIPES has two descriptors, of what is asked and what is answered: one JSON object a line each. Each question is
an `Ask` of tools/mutants/warm.py; the answer is the child's exit code, COLD where the edit needs a process of its own.
"""

import gc
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any, cast

import msgspec
import psycopg
import pytest

from tests.support.databases import Databases
from tools.mutants.plugin import Watch
from tools.mutants.warm import COLD, TIMED_OUT, Ask

FAILED, PASSED = 1, 0
# What tests with a fixture load on first use, each child again otherwise.
LOADED_EARLY = {"queue_server": ("tests.support.gateway", "tests.support.api")}
WAIT_SECONDS = 0.005


class Forks:
    """Runs no tests by itself; answers what is asked until the pipe is closed."""

    def __init__(self, asked: int, answered: int) -> None:
        self._asked, self._answered = asked, answered
        self._databases: Databases | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
        for name in (module for fixture in LOADED_EARLY.keys() & used for module in LOADED_EARLY[fixture]):
            importlib.import_module(name)
        self._with_databases(session)
        items = {item.nodeid: item for item in session.items}
        with os.fdopen(self._asked, "rb") as asked, os.fdopen(self._answered, "wb", buffering=0) as answered:
            answered.write(b"ready\n")
            for number, line in enumerate(asked):
                ask = msgspec.json.decode(line, type=Ask)
                answered.write(f"{self._forked(session, items, ask, number)}\n".encode())
        return True

    def _with_databases(self, session: pytest.Session) -> None:
        """Runs one test that has a database, so that the server and the template are there for all children."""
        names = {item: set(getattr(item, "fixturenames", ())) for item in session.items}
        using = [item for item, used in names.items() if "databases" in used and not LOADED_EARLY.keys() & used]
        if len(using) > 1:
            session.config.hook.pytest_runtest_protocol(item=using[0], nextitem=using[-1])
            (definition,) = session._fixturemanager.getfixturedefs("databases", using[0]) or ()
            assert definition.cached_result is not None  # noqa: S101 - for the type checker
            self._databases = definition.cached_result[0]
            self._left_by_children()

    def _left_by_children(self) -> None:
        """Nobody is connected to a server when a child is forked, and no database is to be used again."""
        databases = self._databases
        if databases is None:
            return
        databases.close()
        databases._server, databases._idle = None, []
        with closing(psycopg.connect(databases._postgres.url(), autocommit=True)) as connection:
            for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^(test|fork)'"):
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())

    def _forked(self, session: pytest.Session, items: dict[str, Any], ask: Ask, number: int) -> int:
        child = os.fork()
        if child == 0:
            code = COLD
            try:
                os.setsid()
                code = self._run(session, items, ask, number)
            except Exception:  # noqa: BLE001 - whatever it is, a process of its own is to say
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = _ended(child, ask.timeout_seconds)
        self._left_by_children()
        return code

    def _run(self, session: pytest.Session, items: dict[str, Any], ask: Ask, number: int) -> int:
        if not _replaced(ask) or set(ask.tests) - items.keys():
            return COLD
        if self._databases is not None:
            self._databases._prefix = f"fork{number}"
        watch = Watch(Path(ask.log), ask.tests)
        stop = SimpleNamespace(
            shouldstop=""
        )  # a session that is told to stop ends its fixtures, which are the parent's
        watch.pytest_sessionstart(cast("pytest.Session", stop))
        session.config.pluginmanager.register(watch, "mutants of a child")
        chosen = [items[test] for test in ask.tests]
        session._setupstate.teardown_exact(chosen[0])
        # Never None: what the session has, PostgreSQL for one, is the parent's to end.
        for item, following in zip(chosen, [*chosen[1:], session.items[0]], strict=True):
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if stop.shouldstop:
                return FAILED
        return FAILED if session.testsfailed else PASSED


def _ended(child: int, seconds: float) -> int:
    """The exit code of a child, which is killed with all that it started when the time is up."""
    deadline = time.monotonic() + seconds
    code = TIMED_OUT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(WAIT_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code == TIMED_OUT:
        os.waitpid(child, 0)
    return code


def _replaced(ask: Ask) -> bool:
    """Gives each function of the edited file that is loaded its new code; False where none is."""
    new = [code for code in _codes(compile(ask.text, ask.file, "exec")) if _place(code) == (ask.function, ask.line)]
    gc.unfreeze()  # what is frozen is not listed (runtime/observability.py)
    functions = [
        function
        for function in gc.get_objects()
        if isinstance(function, FunctionType)
        and function.__code__.co_filename == ask.file
        and _place(function.__code__) == (ask.function, ask.line)
    ]
    if len(new) != 1 or any(function.__code__.co_freevars != new[0].co_freevars for function in functions):
        return False
    for function in functions:
        function.__code__ = new[0]
    return bool(functions)


def _place(code: CodeType) -> tuple[str, int]:
    return code.co_name, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from _codes(inner)


def pytest_configure(config: pytest.Config) -> None:
    asked, answered = map(int, os.environ["MUTANTS_PIPES"].split())
    config.pluginmanager.register(Forks(asked, answered), "forks")
