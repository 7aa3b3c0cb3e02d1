"""Seal attempts into the audit log, an interval at a time: what was sent and what came back cannot be changed later
without a trace, at the cost of an entry for hundreds of them."""

from uuid import UUID

from db import seals
from db.seals import AttemptSeal
from domain.audit import Detail, canonical
from domain.ids import TenantId
from domain.merkle import root_of
from flows.audit import Act, Actor, ActServices, entry_of
from runtime.observability import logger

SEALER = "sallyport"
INTERVAL_ATTEMPTS = 2000  # of all tenants together, so that the export of one fits into an answer
SEALED = "attempts.sealed"
LEAF_BYTES = 32


def seal_attempts(*, services: ActServices) -> int | None:
    """Seals the oldest attempts that are not; how many, None where somebody else is doing it.

    Those of transactions that are still running, or began after one that is, come later. Raises DatabaseUnavailable.
    """
    found = seals.unsealed(services.database, limit=INTERVAL_ATTEMPTS)
    if not found.leaves:
        return 0
    made = [_seal(tenant_id, leaves, services=services) for tenant_id, leaves in found.leaves.items()]
    checkpoints = seals.store(services.database, made, since=found.since, until=found.until)
    for checkpoint in checkpoints or ():
        logger.info(
            "attempts sealed",
            tenant_id=str(checkpoint.tenant_id),
            audit_sequence=checkpoint.sequence,
            audit_hash=checkpoint.hash.hex(),
        )
    return None if checkpoints is None else sum(len(seal.leaves) // LEAF_BYTES for seal in made)


def sealed_lines(tenant_id: TenantId, seal_id: UUID, *, services: ActServices) -> list[str] | None:
    """The export of an interval: a line with its leaves, and one for each attempt that is still there; None where the
    tenant has no such interval."""
    leaves = seals.leaves_of(services.database, tenant_id=tenant_id, seal_id=seal_id)
    if leaves is None:
        return None
    listed = [leaf.hex() for leaf in _split(leaves)]
    attempts = seals.attempts_of(services.database, tenant_id=tenant_id, seal_id=seal_id)
    return [
        canonical({"leaves": listed, "seal": str(seal_id)}) + "\n",
        *(f'{{"attempt":{facts}}}\n' for facts in attempts),
    ]


def _seal(tenant_id: TenantId, leaves: bytes, *, services: ActServices) -> AttemptSeal:
    listed = _split(leaves)
    seal_id = services.new_id(services.clock())
    details: dict[str, Detail] = {"count": len(listed), "root": root_of(listed).hex()}
    act = Act(tenant_id=tenant_id, actor=Actor(by=SEALER), what=SEALED, on=seal_id, details=details)
    return AttemptSeal(seal_id=seal_id, leaves=leaves, entry=entry_of(act, services=services))


def _split(leaves: bytes) -> list[bytes]:
    return [leaves[start : start + LEAF_BYTES] for start in range(0, len(leaves), LEAF_BYTES)]
