"""`allow`: what callers may send to a destination."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from domain.allow import AllowRule, plain_path
from domain.errors import Fault
from domain.targets import path_fault

MOST_PATHS = 50
MOST_METHODS = 7

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class AllowBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What callers may send; everything else is refused. What is null is not restricted."""

    methods: Annotated[
        Annotated[list[Method], Meta(min_length=1, max_length=MOST_METHODS)] | None,
        Meta(description="The methods that callers may use; null for all"),
    ] = None
    paths: Annotated[
        Annotated[list[Annotated[str, Meta(min_length=1, max_length=500)]], Meta(min_length=1, max_length=MOST_PATHS)]
        | None,
        Meta(
            description="The paths below the base URL that callers may use, and all below them: /orders allows "
            "/orders/7, and not /orders-of-others. null for all"
        ),
    ] = None


def faults(body: AllowBody | None, at: str = "/allow") -> list[Fault]:
    """What the types alone cannot judge."""
    paths = body.paths if body is not None and body.paths is not None else []
    wrong = ((number, path_fault(path)) for number, path in enumerate(paths))
    return [Fault(field=f"{at}/paths/{number}", detail=detail) for number, detail in wrong if detail is not None]


def domain(body: AllowBody | None) -> AllowRule | None:
    """As the flows take it; None where everything is allowed."""
    if body is None or body == AllowBody():
        return None
    return AllowRule(
        methods=None if body.methods is None else tuple(body.methods),
        paths=None if body.paths is None else tuple(map(plain_path, body.paths)),
    )


def shown(rule: AllowRule | None) -> AllowBody | None:
    """What the API shows of it."""
    if rule is None:
        return None
    return AllowBody(
        methods=None if rule.methods is None else list(rule.methods),  # type: ignore[arg-type]  # once validated
        paths=None if rule.paths is None else list(rule.paths),
    )
