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
def api(functions: Functions) -> Api:
    """The API, called by the first tenant."""
    return functions.api
