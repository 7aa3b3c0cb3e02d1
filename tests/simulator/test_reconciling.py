"""Unknown deliveries of all kinds, a bank that misbehaves: no verdict is wrong, and each mistake in the code shows."""

from contextlib import suppress

import psycopg
import pytest

from local.postgres import Postgres
from simulator.reconciling import MUTANTS, prepare, prove
from tests.support.making import make

OUTAGES_SECONDS = (0.0, 1_800.0)


@pytest.fixture
def url(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    name = f"reconciled_{abs(hash(request.node.name))}"
    postgres.make_database(name)
    prepare(postgres.url(database=name))
    return postgres.url(database=name)


def test_no_verdict_is_wrong(url: str) -> None:
    verdicts = prove(url, deliveries=50, seed=1, outages_seconds=OUTAGES_SECONDS)
    assert verdicts.wrong == []
    assert verdicts.unknown > 40
    assert verdicts.settled == verdicts.unknown
    assert set(verdicts.by) == {"delivered", "failed", "again"}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_is_found(url: str, mutant: str) -> None:
    wrong: list[str] = ["PostgreSQL refused what it led to"]
    with suppress(psycopg.Error):
        wrong = prove(url, deliveries=50, seed=1, mutant=mutant, outages_seconds=OUTAGES_SECONDS).wrong
    assert wrong


def test_make_refuses_a_mistake_that_is_not_listed() -> None:
    """The run itself is above, in this process: with the outages of the command it takes minutes."""
    done = make("reconcile-proof", "MUTANT=nothing of the kind")
    assert done.returncode == 2
    assert "invalid choice: 'nothing of the kind'" in done.stderr
