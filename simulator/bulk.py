"""Jobs: somebody replays or cancels many deliveries at once, pauses that, goes on with it, and asks twice for the same.

A step looks at two deliveries at most here, not at 200: so the few of a run make several pages, and what goes wrong
can go wrong at each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from domain.deliveries import State
from domain.errors import TooManyJobs, Unavailable, WrongState
from domain.ids import DeliveryId, DestinationId, JobId, TenantId, uuid7_floor
from domain.jobs import Bounds, BulkJob, JobAct, JobTransition
from domain.outcomes import OutcomeKind
from flows import jobs
from flows.audit import Actor
from flows.services import Services
from simulator.choices import JOBS
from simulator.database import Server
from simulator.evidence import JobTold
from simulator.features import Feature
from simulator.four_eyes import FourEyes
from simulator.functions import Fleet, NoAnswer
from simulator.setting import TENANTS, targets_of
from simulator.world import EPOCH, World

TRIES = 4
AGAIN_SECONDS = 20.0
PAUSES_SECONDS = (5.0, 0.0, 15.0, 60.0, 300.0, 1_500.0)
RATES = (10.0, 0.1, 0.1, 0.3, 0.02)  # a page of a replay is what is due within ten seconds
KINDS = (
    (JobAct.REPLAY, State.FAILED),
    (JobAct.REPLAY, State.DELIVERED),
    (JobAct.REPLAY, State.DELIVERED),
    (JobAct.REPLAY, State.UNKNOWN),
    (JobAct.CANCEL, State.PENDING),
)
_COULD_NOT = (WrongState, TooManyJobs, Unavailable, NoAnswer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """A job that somebody wants."""

    tenant_id: TenantId
    destination_id: DestinationId | None
    act: JobAct
    state: State
    outcome: OutcomeKind | None
    rate: float
    key: str | None

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.act.value} all that is {self.state.value}"

    def work(self, services: Services, _: float) -> BulkJob:
        """The call."""
        return self.make(services, Actor(by="a token"), self.key)

    def make(self, services: Services, actor: Actor, key: str | None) -> BulkJob:
        """The same by somebody, under a key."""
        now = services.clock()
        within = Bounds(
            tenant_id=self.tenant_id,
            state=self.state,
            since_id=DeliveryId(uuid7_floor(EPOCH - timedelta(minutes=1))),
            until_id=DeliveryId(uuid7_floor(now)),
            as_of=now,
            destination_id=self.destination_id,
            outcome=self.outcome,
        )
        made, _ = jobs.create(self.act, within, rate=self.rate, idempotency_key=key, actor=actor, services=services)
        return made


class BulkManagers:
    """Those who want jobs in a run that has them."""

    def __init__(self, world: World, server: Server, api: Fleet) -> None:
        self._world = world
        self._server = server
        self._api = api
        self._wishes = 0
        self._four_eyes = FourEyes(world, api)

    def plan(self, *, within_seconds: float) -> None:
        """Some jobs, some of them at one moment, or twice under one key."""
        if Feature.JOBS not in self._world.features:
            return
        choices = self._world.choices
        with choices.of_stream(JOBS):
            for _ in range(choices.of((1, 2, 3))):
                at = within_seconds * choices.choose(20) / 20 * choices.of((1.0, 0.1))
                self._plan_one(at)

    def _plan_one(self, at: float) -> None:
        choices, tenant_id = self._world.choices, self._world.choices.of(TENANTS)
        targets = [target for target in targets_of(self._world.features) if target.tenant_id == tenant_id]
        destination = choices.of((None, *targets)) if choices.happens(40) else None
        act, state = choices.of(KINDS)
        wish = _Wish(
            tenant_id=tenant_id,
            destination_id=None if destination is None else destination.destination_id,
            act=act,
            state=state,
            outcome=choices.of((None, None, OutcomeKind.ANSWERED)) if state is State.FAILED else None,
            rate=choices.of(RATES),
            key=self._key(),
        )
        for _ in range(choices.of((1, 1, 2))):
            self._world.scheduler.call_at(at, lambda: self._world.scheduler.spawn(partial(self._live, wish)))

    def _key(self) -> str | None:
        self._wishes += 1
        return None if self._world.choices.happens(25) else f"job {self._wishes}"

    def _live(self, wish: "_Wish") -> None:
        """Asks until there is an answer, as somebody does who has a key; perhaps pauses the job, or ends it."""
        self._world.scheduler.follow(JOBS)
        self._world.log("manager", "manage", f"wants to {wish.text}")
        if Feature.PROPOSALS in self._world.features:
            self._four_eyes.want(wish.make, wish.tenant_id)
            return
        for _ in range(1 if wish.key is None else TRIES):
            made = self._call(wish.work, f"{wish.act.value}s what is {wish.state.value}")
            if made is not None:
                self._world.evidence.jobs_told.append(
                    JobTold(tenant=str(wish.tenant_id), key=wish.key, job=str(made.job_id))
                )
                self._interfere(made.job_id, wish.tenant_id)
                return
            self._world.scheduler.pause(AGAIN_SECONDS)

    def _interfere(self, job_id: JobId, tenant_id: TenantId) -> None:
        choices = self._world.choices
        if not choices.happens(40):
            return
        self._world.scheduler.pause(choices.of(PAUSES_SECONDS))
        self._move(job_id, tenant_id, JobTransition.PAUSE)
        self._world.scheduler.pause(choices.of(PAUSES_SECONDS))
        self._move(job_id, tenant_id, choices.of((JobTransition.RESUME, JobTransition.RESUME, JobTransition.CANCEL)))

    def _move(self, job_id: JobId, tenant_id: TenantId, transition: JobTransition) -> None:
        def work(services: Services, _: float) -> BulkJob:
            return jobs.move(job_id, transition, tenant_id=tenant_id, actor=Actor(by="a token"), services=services)

        self._world.log("manager", "manage", f"{transition.value}s a job")
        self._call(work, f"{transition.value}s a job")

    def _call(self, work: Callable[[Services, float], BulkJob], what: str) -> BulkJob | None:
        try:
            found, _ = self._api.invoke(work, what="manage")
        except _COULD_NOT as error:
            self._world.mark(f"jobs: cannot, {type(error).__name__}")
            return None
        except Exception as error:  # noqa: BLE001 - the API would answer 500, which no fault of the schedule may cause
            self._world.evidence.misuse.append(f"job: {type(error).__name__}: {error}")
            return None
        self._world.mark(f"jobs: {what}")
        return found

    def finish(self, *, purged: bool, waiting: frozenset[str]) -> None:
        """Once faults have stopped: goes on with what is paused. A job whose message was purged is paused and resumed,
        as docs/running.md says."""
        for job, tenant, state in self._server.unfinished_jobs():
            if state == "running" and (job in waiting or not purged):
                continue
            job_id, tenant_id = JobId(UUID(job)), TenantId(UUID(tenant))
            if state == "running":
                self._world.mark("jobs: has no message, and is begun again")
                self._move(job_id, tenant_id, JobTransition.PAUSE)
            self._move(job_id, tenant_id, JobTransition.RESUME)
