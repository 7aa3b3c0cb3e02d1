"""Acts: what tokens, operators and partners changed. Every transition of what a tenant manages is noted by one call."""

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from db import audit
from db.connection import Database
from domain.audit import AuditCheckpoint, Detail, Entry, canonical, storable
from domain.errors import DatabaseUnavailable, StatementRefused
from domain.ids import RANDOM_BYTES, TenantId, uuid7
from domain.values import value_class
from runtime.observability import logger


@value_class(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: `by` is the id of a token, or says that it was a partner; `source_address` is where the call came from,
    None where there was no call. `approval` is the proposal that another token approved, None where there was none.
    """

    by: str
    source_address: str | None = None
    approval: UUID | None = None

    @property
    def label(self) -> str:
        """What is stored with a thing that was changed: `token:<id>`, or `approval:<id>` of the proposal."""
        return f"token:{self.by}" if self.approval is None else f"approval:{self.approval}"


@value_class(frozen=True, slots=True, kw_only=True)
class Act:
    """`what` is a noun and what became of it, such as `destination.changed`; `on` is the id of that. `members` are the
    names of what was changed, never values. `details` are few and short, and no secrets: counts, a reason, a state.
    """

    tenant_id: TenantId
    actor: Actor
    what: str
    on: UUID
    members: tuple[str, ...] = ()
    details: Mapping[str, Detail] = field(default_factory=dict)

    @property
    def said(self) -> dict[str, Detail]:
        """The details, and the proposal that was approved, if any."""
        approval = self.actor.approval
        return {**self.details, **({} if approval is None else {"approval": str(approval)})}


OPERATOR = "operator"


class ActServices(Protocol):
    """What writing an act down takes: Services have it, and so have the operators' function's few parts."""

    @property
    def database(self) -> Database:
        """Where the audit log is."""

    @property
    def clock(self) -> Callable[[], datetime]:
        """Aware, UTC."""

    def new_id(self, now: datetime) -> UUID:
        """A new UUIDv7."""


@value_class(frozen=True, slots=False, kw_only=True)
class OperatorServices:
    """Of handlers/admin.py, which starts without all that sends requests."""

    database: Database
    clock: Callable[[], datetime]
    randomness: Callable[[int], bytes]

    def new_id(self, now: datetime) -> UUID:
        """A new UUIDv7."""
        return uuid7(now=now, randomness=self.randomness(RANDOM_BYTES))


def audited[T](
    work: Callable[[], T], act_of: Callable[[T], Act | None], *, services: ActServices, repeatable: bool = True
) -> T:
    """Does `work`, and writes the act that its result stands for into the audit log, in one transaction: neither is
    without the other. `act_of` returns None where nothing was done.

    `work` is statements alone. Where it is `repeatable`, it is done once more where the connection breaks. Raises what
    `work` raises, DatabaseUnavailable, and StatementRefused where the log does not take the entry.
    """
    entry_id = services.new_id(services.clock())

    def both() -> tuple[T, Act | None, AuditCheckpoint | None]:
        result = work()
        act = act_of(result)
        if act is None:
            return result, None, None
        return result, act, audit.append(services.database, entry_of(act, entry_id=entry_id, services=services))

    result, act, checkpoint = services.database.together(both, repeatable=repeatable)
    if act is not None:
        log_act(act, checkpoint, services=services)
    return result


def where_done(act: Act) -> Callable[[object], Act | None]:
    """For `audited`: the act, where the result of the work says that it was done."""
    return lambda done: act if done else None


def note_act(act: Act, *, services: ActServices) -> None:
    """Writes what was done outside the database into the audit log and the function's log. It is done by now, so
    nothing is raised: where the database does not take the entry, the line of the function's log says all that it would
    have said."""
    try:
        checkpoint = audit.append(services.database, entry_of(act, services=services))
    except (DatabaseUnavailable, StatementRefused) as error:
        logger.error("an act is missing in the audit log", reason=str(error), what=act.what, on=str(act.on))
        log_act(act, None, services=services)
        return
    log_act(act, checkpoint, services=services)


def entry_of(act: Act, *, services: ActServices, entry_id: UUID | None = None) -> Entry:
    """The entry of an act that is done now; its id names it among all, however often it is written."""
    now = services.clock()
    content = {
        "by": act.actor.by,
        "details": {name: storable(detail) for name, detail in act.said.items()},
        "entry_id": str(entry_id or services.new_id(now)),
        "members": list(act.members),
        "on": str(act.on),
        "source_address": act.actor.source_address,
        "tenant_id": str(act.tenant_id),
        "what": act.what,
    }
    return Entry(tenant_id=act.tenant_id, at=now, content=canonical(content))


def log_act(act: Act, checkpoint: AuditCheckpoint | None, *, services: ActServices) -> None:
    """The line of the function's log. With the entry's number and hash it leaves the database: a chain that is cut or
    rewritten afterwards does not lead to them any more."""
    logger.info(
        "act",
        what=act.what,
        on=str(act.on),
        by=act.actor.by,
        source_address=act.actor.source_address,
        tenant_id=str(act.tenant_id),
        members=list(act.members),
        details=act.said,
        at=services.clock().isoformat(),
        audit_sequence=None if checkpoint is None else checkpoint.sequence,
        audit_hash=None if checkpoint is None else checkpoint.hash.hex(),
    )
