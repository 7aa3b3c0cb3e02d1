"""The simulator can fail: each deliberate mistake in the code is found, by a seed that is written down here.

make simulate-mutants looks for them from a fresh seed on.
"""

from itertools import chain

import pytest

from simulator import search
from simulator.mutants import MUTANTS, mutated
from simulator.run import run_tape
from simulator.setting import RealConnection

# Where each was found when this was written. After a change of the simulator another one finds it, within MORE seeds.
FOUND_BY = {
    "a lapsed claim is sent again": 2,
    "a lapsed claim counts as never sent": 2,
    "a lease keeps nobody off": 2,
    "an open outcome is tried again under every guarantee": 2,
    "an ambiguous status is tried again under at_most_once": 45,
    "a key opens its delivery again": 0,
    "the row is written before its message": 2,
    "a wake-up that is early is dropped": 0,
    "a wake-up of what is not due is dropped": 70,
    "a wake-up without a row is dropped at once": 3,
    "a wake-up is dropped while the database is away": 6,
    "what SQS refuses counts as queued": 23,
    "an outcome is dropped while the database is away": 63,
    "a carried outcome is dropped at the second outage": 63,
    "an operator wakes no delivery whose worker crashed": 11,
    "an outcome is recorded without its lease": 54,
    "attempts are not counted": 10,
    "an open outcome is called failed": 0,
    "a redirect counts as delivered": 11,
    "one attempt more is made than allowed": 0,
    "the jitter has no bound": 11,
    "Retry-After is ignored": 16,
    "Retry-After has no upper bound": 68,
    "what is not due is claimed": 16,
    "a delay is not cut to what SQS allows": 2,
}
MORE = 100


def test_every_mistake_is_here() -> None:
    assert sorted(FOUND_BY) == sorted(MUTANTS)
    assert len(MUTANTS) >= 20


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mistake_in_the_code_is_found(name: str, real: RealConnection) -> None:
    with mutated(name):
        seeds = chain([FOUND_BY[name]], range(MORE))
        assert any(run_tape(seed, real).broken for seed in seeds)


@pytest.mark.parametrize("seed", sorted(set(FOUND_BY.values())))
def test_without_a_mistake_these_seeds_keep_every_promise(seed: int, real: RealConnection) -> None:
    assert run_tape(seed, real).broken == ()


def test_the_search_says_what_found_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main(["--seed=2", "--n=3", "--only=a lapsed claim is sent again"]) == 0
    said = capsys.readouterr().out
    assert "by SEED=2: a lapsed claim is sent again (at most once)" in said
    assert "1 of 1 were found" in said


def test_the_search_fails_where_one_is_not_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "_found", lambda *_: False)
    assert search.main(["--seed=0", "--n=1", "--only=a lapsed claim is sent again"]) == 1
    assert "0 of 1 were found" in capsys.readouterr().out
