"""Proposals: in some runs one token may make no job alone. What it wants is stored, and another one approves it: at
once, a day later or too late, two at a time, or while somebody takes it back.

What the handlers do around the flows (handlers/proposing.py, handlers/routes/proposals.py) is done here in the same
order: approve, make the call under a key of the proposal, and note what came of it.
"""

from collections.abc import Callable
from functools import partial

from domain.errors import ApprovalNeeded, KeyReused, SallyportError, SameToken, TooManyJobs, Unavailable, WrongState
from domain.ids import ProposalId, TenantId
from domain.jobs import BulkJob
from domain.proposals import Proposal
from flows.approvals import approve, find, finish, propose, reject
from flows.audit import Actor
from flows.services import Services
from simulator.choices import JOBS
from simulator.functions import Fleet, NoAnswer
from simulator.world import World

PROPOSER, APPROVER, THIRD = "the first token", "the second token", "the third token"
WAITS_SECONDS = (5.0, 60.0, 0.0, 86_399.0, 86_390.0, 86_405.0, 90_000.0)
TRIES = 6
AGAIN_SECONDS = 20.0
_COULD_NOT = (WrongState, SameToken, Unavailable, NoAnswer, TooManyJobs, KeyReused)

type MakeJob = Callable[[Services, Actor, str | None], BulkJob]


class FourEyes:
    """Those who propose and approve jobs in a run that has them."""

    def __init__(self, world: World, api: Fleet) -> None:
        self._world = world
        self._api = api

    def want(self, make: MakeJob, tenant_id: TenantId) -> None:
        """One token wants a job, is told that it needs an approval, and proposes it; others decide."""
        proposal = self._call(partial(self._proposed, make, tenant_id), "proposes a job")
        if not isinstance(proposal, Proposal):
            return
        for _ in range(self._world.choices.of((1, 1, 2))):
            self._world.scheduler.spawn(partial(self._approve, proposal.proposal_id, make, tenant_id))
        if self._world.choices.happens(25):
            self._world.scheduler.spawn(partial(self._reject, proposal.proposal_id, tenant_id))

    def _proposed(self, make: MakeJob, tenant_id: TenantId, services: Services) -> Proposal | BulkJob:
        """A job of no deliveries needs nobody."""
        actor = Actor(by=PROPOSER)
        try:
            return make(services, actor, None)
        except ApprovalNeeded as needed:
            return propose(
                needed.act,
                target="/v1/replays",
                shown={},
                call=b"the call",
                tenant_id=tenant_id,
                actor=actor,
                services=services,
            )

    def _approve(self, proposal_id: ProposalId, make: MakeJob, tenant_id: TenantId) -> None:
        """Tries again as long as the end is not known, as the documents say."""
        self._world.scheduler.follow(JOBS)
        by = self._world.choices.of((APPROVER, APPROVER, THIRD, PROPOSER))
        self._world.scheduler.pause(self._world.choices.of(WAITS_SECONDS))
        for _ in range(TRIES):
            done = self._call(partial(self._approved, proposal_id, make, tenant_id, by), f"{by} approves")
            if done is not None:
                return
            self._world.scheduler.pause(AGAIN_SECONDS)

    def _approved(
        self, proposal_id: ProposalId, make: MakeJob, tenant_id: TenantId, by: str, services: Services
    ) -> BulkJob:
        actor = Actor(by=by)
        proposal = find(proposal_id, tenant_id=tenant_id, services=services)
        approve(proposal, actor=actor, services=services)
        try:
            made = make(services, Actor(by=PROPOSER, approval=proposal_id), f"proposal:{proposal_id}")
        except Unavailable:
            raise  # it is approved once more
        except SallyportError:
            finish(proposal, done=False, services=services)
            raise
        finish(proposal, done=True, services=services)
        return made

    def _reject(self, proposal_id: ProposalId, tenant_id: TenantId) -> None:
        self._world.scheduler.follow(JOBS)
        self._world.scheduler.pause(self._world.choices.of(WAITS_SECONDS))

        def work(services: Services) -> bool:
            proposal = find(proposal_id, tenant_id=tenant_id, services=services)
            reject(proposal, actor=Actor(by=PROPOSER), services=services)
            return True

        self._call(work, "the first token takes it back")

    def _call[T](self, work: Callable[[Services], T], what: str) -> T | None:
        self._world.log("manager", "manage", what)
        try:
            found, _ = self._api.invoke(lambda services, _: work(services), what="manage")
        except _COULD_NOT as error:
            self._world.mark(f"proposals: cannot, {type(error).__name__}")
            return None
        except Exception as error:  # noqa: BLE001 - the API would answer 500, which no fault of the schedule may cause
            self._world.evidence.misuse.append(f"proposal: {type(error).__name__}: {error}")
            return None
        self._world.mark(f"proposals: {what}")
        return found
