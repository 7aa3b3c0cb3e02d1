"""`retention`: for how long what has ended is stored."""

from typing import Annotated

from msgspec import Meta, Struct

from domain.errors import Fault
from domain.retention import LONGEST_DAYS, RetentionOptions

Days = Annotated[int, Meta(ge=1, le=LONGEST_DAYS)]


class RetentionBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For how many days after the end of a delivery what is stored. Nothing is stored longer than the stack stores
    records."""

    bodies_days: Annotated[
        Days | None,
        Meta(description="The bodies of requests; null for as long as the record. It is not sent again then"),
    ] = None
    responses_days: Annotated[
        Days | None, Meta(description="The partner's responses; null for as long as the record")
    ] = None
    record_days: Annotated[
        Days | None, Meta(description="All of it, with the idempotency key; null for as long as the stack says")
    ] = None


def faults(body: RetentionBody | None, at: str = "/retention") -> list[Fault]:
    """What the types alone cannot judge."""
    if body is None:
        return []
    if body == RetentionBody():
        return [Fault(field=at, detail="must say for how long; null for as long as the stack does")]
    parts = {"bodies_days": body.bodies_days, "responses_days": body.responses_days}
    return [
        Fault(field=f"{at}/{name}", detail="must not be longer than the record is stored")
        for name, days in parts.items()
        if days is not None and body.record_days is not None and days > body.record_days
    ]


def domain(body: RetentionBody | None) -> RetentionOptions | None:
    """As the flows take it."""
    if body is None:
        return None
    return RetentionOptions(
        bodies_days=body.bodies_days, responses_days=body.responses_days, record_days=body.record_days
    )


def shown(options: RetentionOptions | None) -> RetentionBody | None:
    """What the API shows of it."""
    if options is None:
        return None
    return RetentionBody(
        bodies_days=options.bodies_days, responses_days=options.responses_days, record_days=options.record_days
    )
