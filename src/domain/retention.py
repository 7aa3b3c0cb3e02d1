"""Retention: how long what has ended is stored."""

from datetime import datetime, timedelta

from domain.values import value_class

LONGEST_DAYS = 3650


@value_class(frozen=True, slots=True, kw_only=True)
class RetentionOptions:
    """For how many days after its end a delivery's body, the responses to it, and its record are stored; None where the
    destination does not say."""

    bodies_days: int | None = None
    responses_days: int | None = None
    record_days: int | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Cutoffs:
    """What of a delivery goes if it ended before that moment."""

    records: datetime
    bodies: datetime
    responses: datetime

    @property
    def latest(self) -> datetime:
        """What was accepted later has nothing to lose."""
        return max(self.records, self.bodies, self.responses)


def record_days(options: RetentionOptions | None, *, stack_days: int) -> int:
    """For how many days the record is stored: what the destination says, and at most what the stack does."""
    wanted = None if options is None else options.record_days
    return stack_days if wanted is None else min(wanted, stack_days)


def cutoffs(options: RetentionOptions | None, *, stack_days: int, now: datetime) -> Cutoffs:
    """Nothing is stored longer than the record is."""
    record = record_days(options, stack_days=stack_days)
    bodies = record if options is None or options.bodies_days is None else min(options.bodies_days, record)
    responses = record if options is None or options.responses_days is None else min(options.responses_days, record)
    return Cutoffs(
        records=now - timedelta(days=record),
        bodies=now - timedelta(days=bodies),
        responses=now - timedelta(days=responses),
    )


def kept_until(
    options: RetentionOptions | None, *, stack_days: int, finished_at: datetime | None, ask_at: datetime | None
) -> datetime | None:
    """Until when the record is stored, and with it the idempotency key; None while another attempt or question may
    follow, since it is not deleted then."""
    if finished_at is None or ask_at is not None:
        return None
    return finished_at + timedelta(days=record_days(options, stack_days=stack_days))
