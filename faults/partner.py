"""A partner that misbehaves as the path asks, and writes down every request that arrives."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from faults.wire import WireRequest, WireResponse

HANG_SECONDS = 1.6  # longer than the deadline of a request
SLOW_SECONDS = 0.3


@dataclass(slots=True, kw_only=True)
class SeenRequest:
    """A request at the partner. `status` is what it answers, None where it does not, or long after the deadline;
    `answered_at` is when it had written that. Monotonic times."""

    status: int | None
    arrived_at: float
    answered_at: float | None = None


class PartnerLedger:
    """The partner. `arrivals` are by idempotency key, in their order.

    The first part of a path says what comes; `-once` is for the first request of a key alone: ok 200; slow 200 after a
    moment; busy-once 503; broken-once 500; close-once no answer; hang-once 200, but long after the deadline; refuse
    400.
    """

    def __init__(self) -> None:
        self.arrivals: dict[str, list[SeenRequest]] = {}
        self.behaviours: Counter[str] = Counter()

    async def answer(self, request: WireRequest) -> WireResponse | None:
        """Written down as it arrives, whatever follows."""
        behaviour = request.path.split("/")[1]
        earlier = self.arrivals.setdefault(request.headers["idempotency-key"], [])
        hangs = behaviour == "hang-once" and not earlier
        status = None if hangs else _status(behaviour, first=not earlier)
        arrival = SeenRequest(status=status, arrived_at=time.monotonic())
        earlier.append(arrival)
        self.behaviours[behaviour] += 1
        if hangs or behaviour == "slow":
            await asyncio.sleep(HANG_SECONDS if hangs else SLOW_SECONDS)
        arrival.answered_at = time.monotonic()
        if status is None and not hangs:
            return None
        return WireResponse(status=status or 200, body=b'{"status": %d}' % (status or 200))


def _status(behaviour: str, *, first: bool) -> int | None:
    match behaviour:
        case "refuse":
            return 400
        case "busy-once" if first:
            return 503
        case "broken-once" if first:
            return 500
        case "close-once" if first:
            return None
        case _:
            return 200
