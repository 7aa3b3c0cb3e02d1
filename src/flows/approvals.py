"""Four eyes: what one token may not do alone, where its tenant wants that (docs/api.md, "Approvals").

`need_approval` is the one place that decides it. Each act that may need an approval calls it when it has checked that
the act is possible, and before it does anything. Where one is needed it raises ApprovalNeeded, and the call is stored
as a proposal. When another token approves that, the same call is made again, with an Actor that names the proposal.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from db import proposals as table
from domain.errors import ApprovalNeeded, NotFound, SameToken, TooManyProposals, WrongState
from domain.ids import DestinationId, ProposalId, TenantId
from domain.proposals import OPEN_FOR_SECONDS, PROPOSAL_POSSIBLE, Proposal, ProposalState
from egress.sealing import seal, unseal
from flows.audit import Act, Actor, audited, where_done
from flows.services import Services

PURPOSE = "proposal"  # what the sealed call is bound to, beside the proposal's id
# The members of a destination by which somebody could read what is sent, or send in our name.
CREDENTIALS = frozenset({"auth", "client_certificate", "signing", "base_url", "tls"})


def need_approval(act: str, *, tenant_id: TenantId, actor: Actor, services: Services, size: int | None = None) -> None:
    """Raises ApprovalNeeded where the tenant wants another token's approval of an act, and it has none.

    `size` is how many deliveries it is about; None for an act that needs one whatever it is about.
    """
    if actor.approval is not None:
        return
    above = table.approvals_above(services.database, tenant_id)
    if above is not None and (size is None or size > above):
        raise ApprovalNeeded(act)


def need_approval_of_change(members: tuple[str, ...], *, tenant_id: TenantId, actor: Actor, services: Services) -> None:
    """The same for a changed destination, which needs one where its credentials, or where they are sent, change."""
    if CREDENTIALS.intersection(members):
        need_approval("destination.change", tenant_id=tenant_id, actor=actor, services=services)


def propose(
    act: str,
    *,
    target: str,
    shown: Mapping[str, object],
    call: bytes,
    tenant_id: TenantId,
    actor: Actor,
    services: Services,
) -> Proposal:
    """Stores a call that needs an approval: sealed, as it may hold credentials; `shown` is what others see of it.

    Raises TooManyProposals, DatabaseUnavailable and SecretUnavailable.
    """
    now = services.clock()
    proposal = Proposal(
        proposal_id=ProposalId(services.new_id(now)),
        tenant_id=tenant_id,
        act=act,
        target=target,
        request=shown,
        state=ProposalState.OPEN,
        created_at=now,
        created_by=actor.by,
        expires_at=now + timedelta(seconds=OPEN_FOR_SECONDS),
    )
    place = DestinationId(proposal.proposal_id)  # a seal is bound to an id, whatever has it
    sealed = seal(call, purpose=PURPOSE, destination_id=place, key=services.seal_key)
    store = partial(table.insert, services.database, proposal, sealed_request=sealed)
    if not _audited("proposal.created", store, proposal, actor=actor, services=services):
        raise TooManyProposals
    return proposal


def find(proposal_id: ProposalId, *, tenant_id: TenantId, services: Services) -> Proposal:
    """The tenant's proposal of that id. Raises NotFound."""
    now = services.clock()
    found = table.find(services.database, proposal_id, tenant_id=tenant_id, now=now)
    if found is None:
        raise NotFound("proposal", str(proposal_id))
    return found


def approve(proposal: Proposal, *, actor: Actor, services: Services) -> bytes:
    """The call that is to be made now. The same token may approve once more what it did not see the end of.

    Raises SameToken, WrongState, Unsealable, DatabaseUnavailable and SecretUnavailable.
    """
    if proposal.created_by == actor.by:
        raise SameToken
    take = partial(
        table.approve,
        services.database,
        proposal.proposal_id,
        tenant_id=proposal.tenant_id,
        by=actor.by,
        now=services.clock(),
    )
    sealed = _audited("proposal.approved", take, proposal, actor=actor, services=services)
    if sealed is None:
        raise _wrong_state(proposal, services=services)
    place = DestinationId(proposal.proposal_id)
    return unseal(sealed, purpose=PURPOSE, destination_id=place, keys=services.seal_keys.opening(sealed))


def finish(proposal: Proposal, *, done: bool, services: Services) -> None:
    """Notes what came of an approved call."""
    state = ProposalState.DONE if done else ProposalState.FAILED
    table.finish(services.database, proposal.proposal_id, state=state)


def reject(proposal: Proposal, *, actor: Actor, services: Services) -> None:
    """Ends an open proposal, also by the token that made it. Raises WrongState and DatabaseUnavailable."""
    end = partial(
        table.reject,
        services.database,
        proposal.proposal_id,
        tenant_id=proposal.tenant_id,
        by=actor.by,
        now=services.clock(),
    )
    if proposal.state is ProposalState.OPEN:
        rejected = _audited("proposal.rejected", end, proposal, actor=actor, services=services)
    else:
        rejected = end()
    if not rejected:
        raise _wrong_state(proposal, services=services)


def _wrong_state(proposal: Proposal, *, services: Services) -> WrongState:
    now = find(proposal.proposal_id, tenant_id=proposal.tenant_id, services=services)
    return WrongState(noun="proposal", state=now.state.value, possible=PROPOSAL_POSSIBLE[now.state])


def _audited[T](what: str, work: Callable[[], T], proposal: Proposal, *, actor: Actor, services: Services) -> T:
    """Does it, and writes it down where it was done."""
    act = Act(
        tenant_id=proposal.tenant_id,
        actor=actor,
        what=what,
        on=proposal.proposal_id,
        details={"act": proposal.act, "target": proposal.target},
    )
    return audited(work, where_done(act), services=services)
