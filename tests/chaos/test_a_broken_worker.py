"""The count is about what really happened: a worker that sends again what may have been sent is found by it."""

import os
import random
import signal
from pathlib import Path

import pytest

from faults import site as sites
from faults.load import Load, PlannedCall
from faults.monkey import Monkey
from faults.promises import Count, counted, keep_journal, steps, stored
from faults.run import settle
from faults.site import DISK, Pace, Site
from tests.e2e.conftest import eventually

PACE = Pace(lease_seconds=2, visibility_seconds=4.0)
SLOW = PlannedCall(how="accept", method="POST", destination="once", path="/hang-once/1", key="order-1", again=False)


def killed_while_the_partner_thinks(directory: Path) -> Count:
    (directory / DISK).mkdir()
    with Site(directory, disk=None, pace=PACE, over_http=False, randomness=random.Random(1)) as site:
        load = Load(site, seed=1, per_second=1.0)
        monkey = Monkey(site, load, random.Random(1))
        keep_journal(monkey.session)
        load.place(SLOW)
        eventually(lambda: site.ledger.arrivals)
        for pid in site.functions["AttemptFunction"].process_ids:
            os.kill(pid, signal.SIGKILL)
        settle(site, monkey, lambda _: None)
        session = monkey.session
        count = counted(
            rows=stored(session),
            journal=steps(session),
            told=load.told,
            looks=load.looks,
            arrivals=site.ledger.arrivals,
            windows=monkey.windows,
            lease_seconds=PACE.lease_seconds,
        )
        monkey.close()
    return count


def test_the_worker_as_it_is_sends_nothing_twice(tmp_path: Path) -> None:
    assert killed_while_the_partner_thinks(tmp_path).broken == []


def test_a_worker_that_ignores_the_lapse_is_counted_as_doubling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sites.HANDLERS, "AttemptFunction", "tests.support.resends.attempt")
    assert len(killed_while_the_partner_thinks(tmp_path).doubled) == 1
