"""The bodies of /v1/replays, /v1/cancellations and /v1/jobs."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from db.jobs import Survey
from domain.deliveries import State
from domain.errors import Fault, InvalidRequest
from domain.ids import DeliveryId, DestinationId, TenantId, uuid7_floor
from domain.jobs import Bounds, BulkJob, JobAct, JobState
from domain.outcomes import OutcomeKind
from handlers.schemas.common import CreatedAt, Cursor

type Moment = Annotated[datetime, Meta(tz=True)]

OF_DESTINATION = "Only deliveries to this destination, by name or id; without it those to all of them"
SINCE = "Only deliveries accepted at this time or later"
UNTIL = "Only deliveries accepted before this time; without it, before the call"
DRY_RUN = "true only counts them, and changes nothing"


class NewReplayBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which deliveries are replayed. There is no replay without a state and a beginning."""

    state: Annotated[
        str,
        Meta(
            pattern="^(failed|unknown|delivered)$(?!\\n)",
            extra={"must": "one of failed, unknown, delivered"},
            description="failed, unknown: they go on under the same idempotency keys. delivered: they are repeated as "
            "new deliveries, with keys of their own",
        ),
    ]
    since: Annotated[Moment, Meta(description=SINCE)]
    until: Annotated[Moment | None, Meta(description=UNTIL)] = None
    destination: Annotated[
        Annotated[str, Meta(min_length=1, max_length=63)] | None, Meta(description=OF_DESTINATION)
    ] = None
    outcome: Annotated[OutcomeKind | None, Meta(description="Only those whose last attempt had this outcome")] = None
    status_class: Annotated[
        Annotated[int, Meta(ge=1, le=9)] | None,
        Meta(description="Only those whose last attempt was answered with a status that begins with this digit"),
    ] = None
    rate: Annotated[float, Meta(ge=0.001, le=100, description="How many become due per second")] = 10.0
    dry_run: Annotated[bool, Meta(description=DRY_RUN)] = False


class NewCancellationBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which pending deliveries are canceled. There is no cancellation without a beginning."""

    since: Annotated[Moment, Meta(description=SINCE)]
    until: Annotated[Moment | None, Meta(description=UNTIL)] = None
    destination: Annotated[
        Annotated[str, Meta(min_length=1, max_length=63)] | None, Meta(description=OF_DESTINATION)
    ] = None
    dry_run: Annotated[bool, Meta(description=DRY_RUN)] = False


class DryRunBody(Struct, frozen=True, kw_only=True):
    """What a job would come to. Nothing was changed."""

    count: Annotated[int, Meta(ge=0, description="How many deliveries; 100000 means so many or more")]
    may_have_happened: Annotated[
        int,
        Meta(
            ge=0,
            description="How many of them the partner has carried out, or may have: delivered, unknown, or failed "
            "after an attempt that left it open: without an answer, or with the status 408 or one of most from 500 on",
        ),
    ]
    oldest: Annotated[datetime | None, Meta(description="When the oldest was accepted; null where there is none")]
    newest: Annotated[datetime | None, Meta(description="When the newest was accepted; null where there is none")]
    sample: Annotated[list[UUID], Meta(description="The ids of the ten oldest")]


class JobBody(Struct, frozen=True, kw_only=True):
    """A job. What it works on was fixed when it was created."""

    job_id: Annotated[UUID, Meta(description="The job's id")]
    act: Annotated[JobAct, Meta(description="replay or cancel")]
    state: Annotated[
        JobState,
        Meta(description="running, paused, done, or canceled: what it had changed by then stays so"),
    ]
    deliveries: Annotated[State, Meta(description="The state of the deliveries that it works on")]
    destination: Annotated[str | None, Meta(description="The destination's name; null for all")]
    outcome: Annotated[OutcomeKind | None, Meta(description="The outcome that it was restricted to; null for any")]
    status_class: Annotated[int | None, Meta(description="The first digit of a status; null for any")]
    rate: Annotated[float | None, Meta(description="How many become due per second; null for a cancellation")]
    expected: Annotated[int, Meta(ge=0, description="How many there were when it was created; at most 100000")]
    changed: Annotated[int, Meta(ge=0, description="How many it has replayed or canceled")]
    skipped: Annotated[
        int, Meta(ge=0, description="How many it has come to and left: they are in another state by now, or do not fit")
    ]
    created_at: CreatedAt
    created_by: Annotated[str, Meta(description="token:<id>")]
    finished_at: Annotated[datetime | None, Meta(description="When it was done or canceled; null until then")]


class JobsBody(Struct, frozen=True):
    """A page of jobs, newest first."""

    jobs: Annotated[list[JobBody], Meta(description="The jobs of this page")]
    next_cursor: Cursor


def bounds(
    body: NewReplayBody | NewCancellationBody,
    *,
    tenant_id: TenantId,
    destination_id: DestinationId | None,
    now: datetime,
    proposed_at: datetime | None,
) -> Bounds:
    """Those of a job that was proposed end then. Raises InvalidRequest where they hold nothing."""
    latest = proposed_at or now
    until = min(body.until or latest, latest)
    if body.since >= until:
        raise InvalidRequest(Fault(field="/since", detail="must be before now, and before until"))
    within = Bounds(
        tenant_id=tenant_id,
        state=State.PENDING,
        since_id=DeliveryId(uuid7_floor(body.since)),
        until_id=DeliveryId(uuid7_floor(until)),
        as_of=now,
        destination_id=destination_id,
    )
    if isinstance(body, NewCancellationBody):
        return within
    return replace(within, state=State(body.state), outcome=body.outcome, status_class=body.status_class)


def dry_run_body(found: Survey) -> DryRunBody:
    """What would be changed."""
    return DryRunBody(
        count=found.count,
        may_have_happened=found.may_have_happened,
        oldest=found.oldest,
        newest=found.newest,
        sample=list(found.sample),
    )


def job_body(job: BulkJob) -> JobBody:
    """What is shown of a job."""
    return JobBody(
        job_id=job.job_id,
        act=job.act,
        state=job.state,
        deliveries=job.bounds.state,
        destination=job.destination_name,
        outcome=job.bounds.outcome,
        status_class=job.bounds.status_class,
        rate=job.rate if job.act is JobAct.REPLAY else None,
        expected=job.expected,
        changed=job.changed,
        skipped=job.skipped,
        created_at=job.bounds.as_of,
        created_by=job.created_by,
        finished_at=job.finished_at,
    )
