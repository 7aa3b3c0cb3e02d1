"""The pytest plugin of `make mutants`: which tests run, in which order, until one of them fails, and a log of it.

MUTANTS_WANTED names a file with the ids of the tests to run, one a line; without it all run, to the end.
MUTANTS_LOG names the file to log to: one JSON object a line, {"test", "seconds", "failed", "why"}.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

# A test that changes a template's text to see a rule report it has this message if the text is another one. That shows
# only that the text is pinned, not that a test checks what it means.
ONLY_THE_TEXT = "no longer has:"
WHY_CHARACTERS = 200


class Watch:
    """Chooses, orders, logs, and ends the run at the first failure that is not about the text alone."""

    def __init__(self, log: Path, wanted: list[str] | None) -> None:
        self._log = log
        self._order = None if wanted is None else {test: place for place, test in enumerate(wanted)}
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        order = self._order
        if order is not None:
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in order])
            items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(report.nodeid, 0.0, failed=True, why=str(report.longrepr))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        spent = self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed or report.when == "teardown":
            self._write(report.nodeid, spent, failed=report.failed, why=str(report.longrepr) if report.failed else "")

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    def _write(self, test: str, seconds: float, *, failed: bool, why: str) -> None:
        text_alone = ONLY_THE_TEXT in why
        line: dict[str, Any] = {"test": test, "seconds": seconds, "failed": failed, "why": why[-WHY_CHARACTERS:]}
        with self._log.open("a") as log:
            log.write(json.dumps(line | {"text_alone": text_alone}) + "\n")
        if failed and not text_alone and self._order is not None:
            self._session.shouldstop = "caught"


def pytest_configure(config: pytest.Config) -> None:
    wanted = os.environ.get("MUTANTS_WANTED")
    watch = Watch(Path(os.environ["MUTANTS_LOG"]), Path(wanted).read_text().splitlines() if wanted else None)
    config.pluginmanager.register(watch, "mutants")
