"""/v1/replays, /v1/cancellations and /v1/jobs: many deliveries at once."""

from functools import partial
from typing import Any

from aws_lambda_powertools.event_handler import Response

from db import jobs as table
from domain.ids import JobId
from domain.jobs import BulkJob, JobAct, JobTransition
from domain.scopes import MANAGE, READ
from flows import jobs as flow
from flows.destinations import find as find_destination
from handlers import wiring
from handlers.answers import fitting
from handlers.operations import Operation, OperationResponse, as_json, new_router, serves
from handlers.paging import CURSOR, LIMIT, cursor_of, limit_of, next_cursor
from handlers.parsing import body_as
from handlers.request import Request, actor_of, uuid_of
from handlers.routes.deliveries import IDEMPOTENCY_KEY
from handlers.schemas.jobs import (
    DryRunBody,
    JobBody,
    JobsBody,
    NewCancellationBody,
    NewReplayBody,
    bounds,
    dry_run_body,
    job_body,
)

router = new_router()

CREATED = {
    200: OperationResponse(description="A dry run: what it would come to", body=DryRunBody),
    201: OperationResponse(
        description="The job, which has begun",
        body=JobBody,
        headers=("Location",),
        some_headers=("Idempotency-Replayed",),
    ),
}
PROBLEMS = ("not-found", "too-many-jobs", "key-reused", "too-many-proposals")
SHOWN = OperationResponse(description="The job", body=JobBody)


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/replays",
        summary="Replay many deliveries",
        description="A job replays those that are in a state now, the oldest first. Those that are accepted later, or "
        "come into that state later, are not part of it. `dry_run` counts them first, and says how many of them the "
        "partner may have carried out already.",
        scope=MANAGE,
        body=NewReplayBody,
        parameters=(IDEMPOTENCY_KEY,),
        responses=CREATED,
        problems=PROBLEMS,
        may_wait=True,
    ),
)
def replay(request: Request) -> Response[Any]:
    """A job, or what it would come to."""
    body = body_as(request.body, NewReplayBody)
    return _created(request, body, act=JobAct.REPLAY, rate=body.rate)


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/cancellations",
        summary="Cancel many pending deliveries",
        description="A job cancels those that are pending, the oldest first. What is accepted later is not part of it.",
        scope=MANAGE,
        body=NewCancellationBody,
        parameters=(IDEMPOTENCY_KEY,),
        responses=CREATED,
        problems=PROBLEMS,
        may_wait=True,
    ),
)
def cancel_many(request: Request) -> Response[Any]:
    """A job, or what it would come to."""
    return _created(request, body_as(request.body, NewCancellationBody), act=JobAct.CANCEL, rate=1.0)


def _created(request: Request, body: NewReplayBody | NewCancellationBody, *, act: JobAct, rate: float) -> Response[Any]:
    services, destination_id, key = wiring.api(), None, request.idempotency_key()
    if body.destination is not None:
        found = find_destination(body.destination, tenant_id=request.tenant_id, services=services)
        destination_id = found.destination_id
    within = bounds(
        body,
        tenant_id=request.tenant_id,
        destination_id=destination_id,
        now=services.clock(),
        proposed_at=request.proposed_at,
    )
    if body.dry_run:
        return as_json(200, dry_run_body(flow.survey(within, services=services)))
    job, was_there = flow.create(
        act,
        within,
        rate=rate,
        idempotency_key=key or (f"proposal:{request.approval}" if request.approval else None),
        actor=actor_of(request),
        services=services,
    )
    headers = {"Location": f"{request.stage_path}/v1/jobs/{job.job_id}"}
    return as_json(201, job_body(job), headers | ({"Idempotency-Replayed": "true"} if was_there else {}))


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/jobs",
        summary="List jobs, newest first",
        scope=READ,
        parameters=(LIMIT, CURSOR),
        responses={200: OperationResponse(description="A page of jobs", body=JobsBody)},
    ),
)
def list_jobs(request: Request) -> Response[Any]:
    """Keyset pagination."""
    limit, before = limit_of(request), cursor_of(request)
    found = table.page(
        wiring.api().database,
        tenant_id=request.tenant_id,
        before=None if before is None else JobId(before),
        limit=limit + 1,
    )
    shown = fitting([job_body(job) for job in found[:limit]])
    following = next_cursor([job.job_id for job in found], limit=len(shown))
    return as_json(200, JobsBody(shown, following))


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/jobs/<job_id>",
        summary="Show a job and how far it has come",
        scope=READ,
        responses={200: SHOWN},
        problems=("not-found",),
    ),
)
def show_job(request: Request, job_id: str) -> Response[Any]:
    """As it is now."""
    return _shown(flow.find(_id_of(job_id), tenant_id=request.tenant_id, services=wiring.api()))


def _transition(transition: JobTransition, summary: str, description: str) -> Operation:
    return Operation(
        method="POST",
        path=f"/v1/jobs/<job_id>/{transition.value}",
        summary=summary,
        description=description,
        scope=MANAGE,
        responses={200: SHOWN},
        problems=("not-found", "wrong-state"),
    )


def _move(request: Request, job_id: str, *, transition: JobTransition) -> Response[Any]:
    moved = flow.move(
        _id_of(job_id), transition, tenant_id=request.tenant_id, actor=actor_of(request), services=wiring.api()
    )
    return _shown(moved)


for _operation in (
    _transition(JobTransition.PAUSE, "Pause a job", "What it has made due is sent; nothing is added to that."),
    _transition(JobTransition.RESUME, "Resume a paused job", "It goes on where it was."),
    _transition(JobTransition.CANCEL, "Cancel a job", "It ends. What it has changed stays as it is."),
):
    serves(router, _operation)(partial(_move, transition=JobTransition(_operation.path.rpartition("/")[2])))


def _id_of(text: str) -> JobId:
    return JobId(uuid_of(text, noun="job"))


def _shown(job: BulkJob) -> Response[Any]:
    return as_json(200, job_body(job))
