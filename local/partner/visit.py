"""A request on its way through the steps of its path."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import unquote

from local.partner.bank import Bank
from local.partner.calls import Call, Reply
from local.partner.query import StepParameters

STEPS_AT_MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerVisit:
    """`left` are the segments behind this step, percent-decoded; `marks` are what earlier steps asked of the last."""

    call: Call
    bank: Bank
    parameters: StepParameters
    left: tuple[str, ...]
    finish: Callable[["PartnerVisit"], Reply]
    marks: frozenset[str] = frozenset()

    def go_on(self, *marks: str) -> Reply:
        """The reply of the rest of the path; /orders where there is none."""
        rest = self.left or ("orders",)
        return self.finish(replace(self, left=rest, marks=self.marks | set(marks)))

    def behind(self, count: int) -> "PartnerVisit":
        """The same visit, `count` segments further on."""
        return replace(self, left=self.left[count:])


type PathStep = Callable[[PartnerVisit], Reply]


def segments(path: str) -> tuple[str, ...]:
    """Of a path, percent-decoded one by one; empty ones do not count."""
    return tuple(unquote(part) for part in path.split("/") if part)


def refused(status: int, code: str, detail: str, *headers: tuple[str, str]) -> Reply:
    """A refusal in the partner's own form."""
    return Reply(status=status, content={"code": code, "detail": detail}, headers=headers)
