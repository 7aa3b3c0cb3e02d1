"""The simulator can fail: each deliberate mistake in the code is found, by a seed that is written down here.

make simulate-mutants looks for them from a fresh seed on.
"""

import re
from itertools import chain

import pytest

from simulator import search
from simulator.mutants import MUTANTS, mutated
from simulator.run import run_tape
from simulator.setting import RealConnection
from tests.support.making import make

# Where each was found when this was written. After a change of the simulator another one finds it, within MORE seeds.
FOUND_BY = {
    "a lapsed claim is sent again": 2,
    "a lapsed claim counts as never sent": 15,
    "a lease keeps nobody off": 2,
    "an open outcome is tried again under every guarantee": 0,
    "an ambiguous status is tried again under at_most_once": 13,
    "a key opens its delivery again": 4,
    "the row is written before its message": 0,
    "a wake-up that is early is dropped": 1,
    "a wake-up of what is not due is dropped": 0,
    "a wake-up without a row is dropped at once": 91,
    "a wake-up is dropped while the database is away": 46,
    "what SQS refuses counts as queued": 78,
    "an outcome is dropped while the database is away": 46,
    "a carried outcome is dropped at the second outage": 46,
    "an operator wakes no delivery whose worker crashed": 111,
    "what SQS refused while a batch was recorded early is forgotten": 115,
    "what the database did not accept early counts as recorded": 177,
    "an outcome that a waiting caller was told is not carried": 46,
    "the wrong messages are reported as failed": 115,
    "an operator's first page is the last": 70,
    "a 503 ends a delivery": 8,
    "a partner out of reach ends a delivery": 10,
    "an open outcome is held under every guarantee": 2,
    "the last attempt is not made": 2,
    "the retry is queued after the record": 53,
    "a lapse is forgotten when its claim is repeated": 84,
    "an answer gives way to an unknown outcome": 64,
    "an outcome is recorded without its lease": 20,
    "an outcome that comes late is only logged": 12,
    "attempts are not counted": 2,
    "an open outcome is called failed": 2,
    "a redirect counts as delivered": 20,
    "answers are mixed up": 1,
    "a delivery without a result is replayed as one": 6,
    "who waits does not see the end": 13,
    "another tenant reads a delivery": 0,
    "a key may be used for another destination": 1,
    "a key may be used for another method": 1,
    "not_before is ignored": 1,
    "nobody wakes what a waiting caller left to the worker": 1,
    "nobody wakes the retry after a waiting call": 8,
    "one attempt more is made than allowed": 0,
    "the jitter has no bound": 2,
    "Retry-After is ignored": 20,
    "Retry-After has no upper bound": 11,
    "what is not due is claimed": 20,
    "a lapse has no wake-up of its own": 158,
    "an outcome that comes late counts for another attempt": 493,
    "a lapse is recorded although its outcome is under way": 15,
    "what is paused is sent": 21,
    "a sending window holds nobody back": 0,
    "what was canceled is sent": 9,
    "who is to be sent again has no message": 20,
    "one more attempt by hand is not allowed for": 6,
    "who is resolved holds back the next": 34,
    "an ordering key holds nobody back": 1,
    "a rate holds nobody back": 236,
    "an open circuit breaker holds nobody back": 256,
    "a slot is free before its attempt has ended": 86,
    "the success of an earlier attempt is only logged": 1475,
    "the success of an earlier attempt is forgotten when another one ends": 1475,
    "absent without a rule's words": 19,
    "absence counts before its time": 19,
    "absence is not asked for once more": 19,
    "what an idle partner says is believed": 19,
    "silence is absence": 19,
    "a question counts as a send": 45,
    "a question takes one of the attempts": 19,
    "two ask at once": 22,
    "what is sent again has another key": 2,
    "nobody wakes the next question": 19,
    "two workers make the same step of a job": 184,
    "a job has what comes to its state later": 45,
    "a job changes rows before their messages": 348,
    "nobody makes the second step of a job": 45,
    "a job that is full is done": 38,
    "a job has no rate": 54,
    "a job counts what it skips": 351,
    "a repeat has no body": 38,
    "a key makes another job": 5,
    "a job that has ended begins again": 5,
    "an event has no message": 1,
    "nobody is told of what somebody canceled": 9,
    "nobody is told of what a job canceled": 270,
    "nobody is told of a pause": 37,
    "a repeated event is told of": 272,
    "one token alone is enough": 30,
    "a proposal does not expire": 379,
    "a proposal that is done keeps its call": 30,
    "a delay is not cut to what SQS allows": 1,
}
MORE = 500


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


def test_the_search_says_what_found_each() -> None:
    done = make("simulate-mutants", "SEED=0", "N=500", "ONLY=a lapsed claim is sent again")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"found after +[0-9]+ seeds?, by SEED=[0-9]+: a lapsed claim is sent again \(", done.stdout)
    assert "1 of 1 were found" in done.stdout


def test_a_name_that_no_mistake_has_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main(["--only=paints it blue"]) == 2
    assert "no mistake has 'paints it blue' in its name" in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["--n=0", "--seed=4294967296"])
def test_numbers_that_mean_nothing_are_refused(argument: str) -> None:
    with pytest.raises(SystemExit) as ended:
        search.main([argument])
    assert ended.value.code == 2


def test_the_search_fails_where_one_is_not_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "_found", lambda *_: False)
    assert search.main(["--seed=0", "--n=1", "--only=a lapsed claim is sent again"]) == 1
    assert "0 of 1 were found" in capsys.readouterr().out
