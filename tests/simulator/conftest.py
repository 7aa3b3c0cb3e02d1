"""A real connection to a database that the simulator made for itself."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from simulator.setting import Databases, RealConnection, connected


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    with Databases(tmp_path_factory.mktemp("simulator")) as made:
        yield made


@pytest.fixture(scope="module")
def real(databases: Databases, request: pytest.FixtureRequest) -> Iterator[RealConnection]:
    name = request.module.__name__.rpartition(".")[2]
    with ExitStack() as stack:
        yield stack.enter_context(connected(databases.make(f"simulated_{name}")))
