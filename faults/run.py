"""One run: load and faults, then peace until everything has ended, then the count."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from faults.disk import Disk, NoSuchDisk
from faults.load import Load
from faults.monkey import Monkey
from faults.promises import Count, counted, keep_journal, steps, stored
from faults.site import DISK, Pace, Session, Site
from wakeups.sqs import decode

SETTLE_SECONDS = 600.0  # of a machine that is busy with other things
SAY_EVERY_SECONDS = 5.0
ASKED_AGAIN = 40  # keys that are used once more when all is over
_REST_SECONDS = 0.05
_DISK_BYTES = 384 << 20
_BYTES_OF_A_DELIVERY = 12_000

type Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """What a run does: so many faults, evenly among so many deliveries; or within `seconds`, where that is not None,
    however many deliveries these are. With `over_http` callers go through an HTTP server."""

    deliveries: int
    faults: int
    seed: int
    pace: Pace
    per_second: float
    over_http: bool
    seconds: float | None = None

    def done(self, *, accepted: int, seconds: float) -> float:
        """The share of it that is done, from 0."""
        return accepted / self.deliveries if self.seconds is None else seconds / self.seconds


@dataclass(slots=True, kw_only=True)
class FaultRun:
    """What a run was and what was counted; `count` is None before the end."""

    plan: FaultPlan
    started_at: datetime
    load: Load
    monkey: Monkey
    site: Site
    no_disk_because: str
    loaded_seconds: float = 0.0
    settled_seconds: float = 0.0
    count: Count | None = None
    deliveries: int = 0
    steps: int = 0
    guarantees: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)


def carry_out(
    plan: FaultPlan, *, directory: Path, no_disk_because: str, say: Say, begun: Callable[[FaultRun], None]
) -> FaultRun:
    """The whole of it. `no_disk_because` says why no disk can be mounted, empty where it can. `begun` gets the run as
    soon as there is one: it grows."""
    randomness = random.Random(plan.seed)  # noqa: S311 - it shall be repeatable
    with ExitStack() as after:
        disk, no_disk_because = _disk(plan, directory, after, no_disk_because)
        if no_disk_because:
            say(f"the disk is never full in this run: {no_disk_because}")
        site = after.enter_context(
            Site(directory, disk=disk, pace=plan.pace, over_http=plan.over_http, randomness=randomness)
        )
        load = Load(site, seed=plan.seed, per_second=plan.per_second)
        monkey = Monkey(site, load, randomness)
        after.callback(monkey.close)
        after.callback(monkey.calm)
        run = FaultRun(
            plan=plan,
            started_at=datetime.now(UTC),
            load=load,
            monkey=monkey,
            site=site,
            no_disk_because=no_disk_because,
        )
        begun(run)
        keep_journal(monkey.session)
        say(f"seed {plan.seed}: {plan.faults} faults, {_length(plan)}")
        _break_things(run, say)
        settle(site, monkey, say)
        run.settled_seconds = (datetime.now(UTC) - run.started_at).total_seconds() - run.loaded_seconds
        load.repeat(ASKED_AGAIN)
        _count(run)
    return run


def _length(plan: FaultPlan) -> str:
    return f"{plan.deliveries} deliveries" if plan.seconds is None else f"{plan.seconds:g} s"


def _disk(plan: FaultPlan, directory: Path, after: ExitStack, because: str) -> tuple[Disk | None, str]:
    mounted_on = directory / DISK
    mounted_on.mkdir()
    if because:
        return None, because
    try:
        disk = Disk(mounted_on, size_bytes=_DISK_BYTES + plan.deliveries * _BYTES_OF_A_DELIVERY)
    except NoSuchDisk as error:
        return None, str(error)
    after.callback(disk.unmount)
    return disk, ""


def _break_things(run: FaultRun, say: Say) -> None:
    started_at = time.monotonic()
    with run.load.running():
        try:
            _strike_all(run, started_at, say)
        except BaseException:
            run.monkey.calm()
            run.site.stop_functions()  # callers need not wait for what has been given up
            raise
        run.monkey.calm()
    run.loaded_seconds = time.monotonic() - started_at


def _strike_all(run: FaultRun, started_at: float, say: Say) -> None:
    plan, monkey = run.plan, run.monkey
    deck = monkey.deck(plan.faults)
    said_at = started_at
    struck = 0
    while (done := plan.done(accepted=len(run.load.accepted), seconds=time.monotonic() - started_at)) < 1 or (
        struck < plan.faults
    ):
        monkey.rest(_REST_SECONDS)
        if struck < plan.faults and done * plan.faults >= struck:
            monkey.strike(deck[struck])
            struck += 1
        if time.monotonic() - said_at > SAY_EVERY_SECONDS:
            said_at = time.monotonic()
            say(progress(run, struck, said_at - started_at))


def progress(run: FaultRun, struck: int, seconds: float) -> str:
    """One line."""
    accepted = len(run.load.accepted)
    return (
        f"{accepted} deliveries accepted ({accepted / seconds:.0f}/s), {struck} faults, "
        f"{run.site.queue.count()} messages in the queue, {len(run.site.queue.dead)} dead"
    )


def settle(site: Site, monkey: Monkey, say: Say) -> None:
    """Waits, bounded, until all deliveries have ended and no message is left. Those without a message are not waited
    for: nothing can end them."""
    give_up_at = time.monotonic() + SETTLE_SECONDS
    without_message: set[str] = set()
    lost: set[str] = set()
    while time.monotonic() < give_up_at:
        monkey.tick()
        site.bring_forward(monkey.session, beyond_seconds=site.pace.lease_seconds + 1, orphans=True)
        open_ids = _open_ids(monkey.session)
        awake = {str(decode(message.body).delivery_id) for message in site.queue.held()}
        say(f"settling: {len(open_ids)} deliveries have not ended, {site.queue.count()} messages")
        lost = (lost | without_message) & (open_ids - awake)
        without_message = open_ids - awake
        if not awake and open_ids <= lost:
            break
        time.sleep(1.0)
    for delivery_id in sorted(lost):
        say(f"lost: {delivery_id} has no message")


def _open_ids(session: Session) -> set[str]:
    rows = session.execute("SELECT delivery_id::text AS id FROM delivery WHERE state IN ('pending', 'sending')")
    return {row["id"] for row in rows}


def _count(run: FaultRun) -> None:
    session = run.monkey.session
    rows = stored(session)
    run.deliveries = len(rows)
    run.steps = session.execute("SELECT count(*) AS steps FROM faults_journal").fetchall()[0]["steps"]
    run.guarantees = _tally(row.guarantee for row in rows.values())
    run.states = _tally(row.state for row in rows.values())
    run.outcomes = _tally(outcome for row in rows.values() for outcome in row.outcomes)
    run.count = counted(
        rows=rows,
        journal=steps(session),
        told=run.load.told,
        looks=run.load.looks,
        arrivals=run.site.ledger.arrivals,
        windows=run.monkey.windows,
        lease_seconds=run.plan.pace.lease_seconds,
    )
    run.count.lost[:0] = [f"a message is dead: {message.body}" for message in run.site.queue.dead]


def _tally(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
