"""The functions, deployed for one test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FreshDatabase
from tests.support.api import Api, Functions, deployed
from tests.support.gateway import EmulatedQueue


@pytest.fixture
def functions(
    database: FreshDatabase, queue: EmulatedQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Functions]:
    """All functions, with real database, queue API and key file."""
    with deployed(database, queue, tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def refusing(
    shared_database: FreshDatabase, queue: EmulatedQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Functions]:
    """The same for tests in which everything is refused: that nothing was stored is looked after here. There is one
    destination, `partner`.
    """
    with deployed(shared_database, queue, tmp_path, monkeypatch) as made:
        made.sql("DELETE FROM destination")
        made.api.destination("https://bank.example")
        yield made
        assert [row["name"] for row in made.sql("SELECT name FROM destination")] == ["partner"]
        assert made.sql("SELECT FROM delivery") == []


@pytest.fixture
def api(functions: Functions) -> Api:
    """The API, called by the first tenant."""
    return functions.api
