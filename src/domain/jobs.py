"""Jobs: many deliveries that are replayed or canceled, a page at a time."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from domain.deliveries import State
from domain.ids import DeliveryId, DestinationId, JobId, TenantId
from domain.outcomes import OutcomeKind
from domain.values import value_class

STEP_SECONDS = 10.0  # how long what one step starts takes at most, at the job's rate
PAGE = 200  # how many deliveries a step looks at
MOST_UNFINISHED = 10  # jobs of a tenant at once
# Nothing of a step can happen later: the worker runs for 45 s at most, and its statement 10 s after that.
STEPPED_WITHIN_SECONDS = 60


class JobAct(StrEnum):
    """What becomes of the deliveries of a job."""

    REPLAY = "replay"
    CANCEL = "cancel"


class JobState(StrEnum):
    """`running -> done`, or between the two `paused` and back, or to the end `canceled`."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELED = "canceled"
    DONE = "done"


class JobTransition(StrEnum):
    """What can be done with a job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


JOB_TRANSITIONS: Mapping[JobTransition, JobState] = {
    JobTransition.PAUSE: JobState.PAUSED,
    JobTransition.RESUME: JobState.RUNNING,
    JobTransition.CANCEL: JobState.CANCELED,
}
JOB_POSSIBLE: Mapping[JobState, tuple[str, ...]] = {
    JobState.RUNNING: ("pause", "cancel"),
    JobState.PAUSED: ("resume", "cancel"),
    JobState.CANCELED: (),
    JobState.DONE: (),
}


@value_class(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Which deliveries: those of the tenant in `state` since a time, with ids from `since_id` to below `until_id`.

    They ended, or were accepted, at `as_of` at the latest. `outcome` is that of their last attempt, `status_class` the
    first digit of the status that it was answered with; None does not restrict them.
    """

    tenant_id: TenantId
    state: State
    since_id: DeliveryId
    until_id: DeliveryId
    as_of: datetime
    destination_id: DestinationId | None = None
    outcome: OutcomeKind | None = None
    status_class: int | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class BulkJob:
    """A job, and how far it has come: it has `changed` so many deliveries and `skipped` others, of some `expected` when
    it was created. `after_id` is the last one that it looked at. What it replays is due one after the other at `rate`
    per second, until `paced_until` so far.
    """

    job_id: JobId
    act: JobAct
    bounds: Bounds
    destination_name: str | None
    rate: float
    expected: int
    created_by: str
    state: JobState
    after_id: DeliveryId
    paced_until: datetime
    changed: int
    skipped: int
    finished_at: datetime | None

    @property
    def page(self) -> int:
        """How many deliveries its next step looks at."""
        if self.act is JobAct.CANCEL:
            return PAGE
        return max(1, min(PAGE, int(self.rate * STEP_SECONDS)))
