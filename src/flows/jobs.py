"""Jobs: replay or cancel many deliveries, a page at a time (docs/adr/0050-jobs-in-pages.md).

A job is a row and a message in the queue of wake-ups. Whoever receives the message makes one step: it looks at the next
page, queues the wake-ups of what is to be sent, and then changes the deliveries and advances the job in one statement.
Only one step can follow another, whoever else has a message of the job; the one that made it queues the next message.
A worker that stops in between leaves its own message, with which the next one begins where the job is.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from db import jobs as table
from db.jobs import JobDelivery, JobStep, Move, Stepped, Survey
from domain.control import CHANGED_WITHIN_SECONDS
from domain.deliveries import State
from domain.errors import (
    DatabaseUnavailable,
    JobKeyReused,
    NotFound,
    QueueUnavailable,
    StatementRefused,
    TooManyJobs,
    WrongState,
)
from domain.events import event_wakeup
from domain.ids import DeliveryId, JobId, TenantId
from domain.jobs import (
    JOB_POSSIBLE,
    JOB_TRANSITIONS,
    STEPPED_WITHIN_SECONDS,
    Bounds,
    BulkJob,
    JobAct,
    JobState,
    JobTransition,
)
from domain.wakeups import Wakeup, group_name
from flows.approvals import need_approval
from flows.audit import Act, Actor, audited
from flows.services import Services
from flows.wake import wake
from runtime.observability import logger

PUT_BACK_SECONDS = 30  # how long to leave a step alone that failed
JOB_ACTS = {
    JobTransition.PAUSE: "job.paused",
    JobTransition.RESUME: "job.resumed",
    JobTransition.CANCEL: "job.canceled",
}


def survey(bounds: Bounds, *, services: Services) -> Survey:
    """What a job with these bounds would come to now. Raises DatabaseUnavailable."""
    return table.survey(services.database, bounds)


def create(
    act: JobAct,
    bounds: Bounds,
    *,
    rate: float,
    idempotency_key: str | None,
    actor: Actor,
    services: Services,
) -> tuple[BulkJob, bool]:
    """Stores a job, which begins at once; and says whether it was there before, by its idempotency key.

    Raises JobKeyReused, TooManyJobs, DatabaseUnavailable and QueueUnavailable.
    """
    now = services.clock()
    job = BulkJob(
        job_id=JobId(services.new_id(now)),
        act=act,
        bounds=replace(bounds, as_of=now),
        destination_name=None,
        rate=rate,
        expected=table.survey(services.database, bounds).count,
        created_by=actor.label,
        state=JobState.RUNNING,
        after_id=DeliveryId(UUID(int=max(0, bounds.since_id.int - 1))),
        paced_until=now,
        changed=0,
        skipped=0,
        finished_at=None,
    )
    need_approval(f"{act.value}.create", tenant_id=bounds.tenant_id, actor=actor, services=services, size=job.expected)
    _queue_step(job, at=now + timedelta(seconds=CHANGED_WITHIN_SECONDS), services=services)
    noted = _act(f"{act.value}.created", job, actor=actor, expected=job.expected)
    stored = audited(
        partial(table.insert, services.database, job, idempotency_key=idempotency_key),
        lambda found: noted if found is not None and found.job_id == job.job_id else None,
        services=services,
    )
    if stored is None:
        raise TooManyJobs
    if stored.job_id != job.job_id:
        if not _is_same(stored, job):
            raise JobKeyReused(job_id=str(stored.job_id))
        return stored, True
    _queue_now(stored, services=services)
    return stored, False


def find(job_id: JobId, *, tenant_id: TenantId, services: Services) -> BulkJob:
    """The tenant's job of that id. Raises NotFound."""
    found = table.find(services.database, job_id, tenant_id=tenant_id)
    if found is None:
        raise NotFound("job", str(job_id))
    return found


def move(job_id: JobId, transition: JobTransition, *, tenant_id: TenantId, actor: Actor, services: Services) -> BulkJob:
    """Pauses, resumes or cancels a job; what it has changed by then stays so. Raises NotFound, WrongState,
    DatabaseUnavailable and QueueUnavailable."""
    now = services.clock()
    current, becomes = find(job_id, tenant_id=tenant_id, services=services), JOB_TRANSITIONS[transition]
    if current.state is becomes:
        return current
    _refuse_unless_possible(current, transition)
    if becomes is JobState.RUNNING:
        _queue_step(current, at=now + timedelta(seconds=CHANGED_WITHIN_SECONDS), services=services)
    since = [state for state, possible in JOB_POSSIBLE.items() if transition.value in possible]
    noted = _act(JOB_ACTS[transition], current, actor=actor)
    move_id = services.new_id(now)
    moved, _ = audited(
        partial(
            table.move,
            services.database,
            job_id,
            tenant_id=tenant_id,
            since=since,
            becomes=becomes,
            move_id=move_id,
            now=now,
        ),
        lambda found: noted if found[1] else None,  # of two at once, one did it
        services=services,
    )
    if moved is None or moved.state is not becomes:
        raise _wrong_state(moved or current)
    if becomes is JobState.RUNNING:
        _queue_now(moved, services=services)
    return moved


def advance(wakeup: Wakeup, *, services: Services) -> list[Wakeup]:
    """Makes the next step of the job that a message names; returns the message that follows it, none at its end."""
    try:
        return _advanced(wakeup, services=services)
    except (DatabaseUnavailable, QueueUnavailable, StatementRefused) as error:
        logger.warning("a step of a job is made later", job_id=str(wakeup.delivery_id), reason=str(error))
        later = services.clock() + timedelta(seconds=PUT_BACK_SECONDS)
        return [replace(wakeup, due_at=later)]


def _advanced(wakeup: Wakeup, *, services: Services) -> list[Wakeup]:
    job = table.find(services.database, JobId(wakeup.delivery_id))
    if job is None or job.state is not JobState.RUNNING:
        return []
    now = services.clock()
    next_at = job.paced_until - timedelta(seconds=STEPPED_WITHIN_SECONDS)
    if now < next_at:
        return [replace(wakeup, due_at=next_at)]  # there may be several messages of a job; they make no more steps
    listed = table.listed(services.database, job)
    step = _step(job, listed, now=now, services=services)
    services.queue.send(_wakeups(job, listed, step), now=now)  # message first, row second
    stepped = audited(
        partial(_made, job, step, now=now, services=services),
        lambda made: _done(job, made) if made is not None and step.is_last else None,
        services=services,
    )
    if stepped is None:
        return []  # it was paused, or somebody else has made this step and queued the next message
    wake(stepped.woken, services=services)
    logger.info("step of a job", job_id=str(job.job_id), changed=stepped.changed, skipped=stepped.skipped)
    if step.is_last:
        return []
    next_at = max(now, step.paced_until - timedelta(seconds=STEPPED_WITHIN_SECONDS))
    return [replace(wakeup, due_at=next_at)]


def _step(job: BulkJob, listed: Sequence[JobDelivery], *, now: datetime, services: Services) -> JobStep:
    """What is sent is due one by one, when nothing of this step can happen any more: so it needs one message."""
    begin_at = max(job.paced_until, now + timedelta(seconds=STEPPED_WITHIN_SECONDS))
    fits = [delivery for delivery in listed if delivery.fits]
    repeats, ends = job.bounds.state is State.DELIVERED, job.act is JobAct.CANCEL
    # In the order of those that they repeat: ids of one millisecond have none by themselves.
    new_ids = sorted(DeliveryId(services.new_id(now)) for _ in fits)
    moves = [
        Move(
            delivery_id=delivery.delivery_id,
            due_at=begin_at + timedelta(seconds=position / job.rate),
            new_id=new_ids[position] if repeats else None,
            event_id=DeliveryId(services.new_id(now)) if ends and delivery.events_to is not None else None,
        )
        for position, delivery in enumerate(fits)
    ]
    return JobStep(
        step_id=services.new_id(now),
        moves=moves,
        looked_at=len(listed),
        last_id=listed[-1].delivery_id if listed else job.after_id,
        paced_until=begin_at + timedelta(seconds=len(moves) / job.rate) if moves else job.paced_until,
        is_last=len(listed) < job.page,
    )


def _wakeups(job: BulkJob, listed: Sequence[JobDelivery], step: JobStep) -> list[Wakeup]:
    if job.act is JobAct.CANCEL:
        told = {delivery.delivery_id: delivery.events_to for delivery in listed}
        return [
            event_wakeup(move.event_id, tenant_id=job.bounds.tenant_id, to=to)
            for move in step.moves
            if move.event_id is not None and (to := told[move.delivery_id]) is not None
        ]
    names = {delivery.delivery_id: delivery.destination_name for delivery in listed}
    return [
        Wakeup(
            delivery_id=move.new_id or move.delivery_id,
            due_at=move.due_at,
            group=group_name(job.bounds.tenant_id, names[move.delivery_id]),
        )
        for move in step.moves
    ]


def _made(job: BulkJob, step: JobStep, *, now: datetime, services: Services) -> Stepped | None:
    if job.act is JobAct.CANCEL:
        return table.cancel(services.database, job, step, now=now)
    if job.bounds.state is State.DELIVERED:
        return table.repeat(services.database, job, step, now=now)
    return table.send_again(services.database, job, step, now=now)


def _is_same(stored: BulkJob, wanted: BulkJob) -> bool:
    """Whether both are for the same; the time of a call that says none is its own."""

    def of(job: BulkJob) -> tuple[object, ...]:
        bounds = job.bounds
        return (
            job.act,
            job.rate,
            bounds.state,
            bounds.since_id,
            bounds.destination_id,
            bounds.outcome,
            bounds.status_class,
        )

    return of(stored) == of(wanted)


def _refuse_unless_possible(job: BulkJob, transition: JobTransition) -> None:
    if transition.value not in JOB_POSSIBLE[job.state]:
        raise _wrong_state(job)


def _wrong_state(job: BulkJob) -> WrongState:
    return WrongState(noun="job", state=job.state.value, possible=JOB_POSSIBLE[job.state])


def _queue_step(job: BulkJob, *, at: datetime, services: Services) -> None:
    services.queue.send([_wakeup(job, at)], now=services.clock())


def _queue_now(job: BulkJob, *, services: Services) -> None:
    now = services.clock()
    if services.queue.send_some([_wakeup(job, now)], now=now):
        logger.warning("the job waits for its first message", job_id=str(job.job_id))


def _wakeup(job: BulkJob, at: datetime) -> Wakeup:
    group = group_name(job.bounds.tenant_id, f"job:{job.job_id}")
    return Wakeup(delivery_id=DeliveryId(job.job_id), due_at=at, group=group, of_job=True)


def _done(job: BulkJob, last: Stepped) -> Act:
    """The entry of a job that has made its last step."""
    return _act("job.done", job, actor=Actor(by=job.created_by), changed=last.changed, skipped=last.skipped)


def _act(what: str, job: BulkJob, *, actor: Actor, **details: int) -> Act:
    bounds = job.bounds
    said = {
        "act": job.act.value,
        "state": bounds.state.value,
        "destination_id": None if bounds.destination_id is None else str(bounds.destination_id),
        **details,
    }
    known = {name: value for name, value in said.items() if value is not None}
    return Act(tenant_id=bounds.tenant_id, actor=actor, what=what, on=job.job_id, details=known)
