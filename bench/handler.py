"""Warm calls of the API: ours against plain."""

from statistics import median
from typing import Any

from bench import events
from bench.figures import heading, ratio, say, spread, table
from bench.side import Side
from bench.stage import Stage

OURS = "handlers.api:handler"
PLAIN = "bench.plain:handler"
POST = "POST /v1/deliveries"
GET = "GET /v1/deliveries/{id}"
ROUNDS = 7
CHUNKS = 12  # per round, alternating between the sides
CALLS = 25  # per chunk
WARM_UP = 60
HEAVY = ["boto3", "botocore.session", "pydantic", "aws_xray_sdk"]  # Powertools looks whether there is a botocore


def run(stage: Stage) -> None:
    """POST /v1/deliveries and GET /v1/deliveries/{id}."""
    calls = stage.times(CHUNKS) * CALLS
    heading(f"Warm calls of the API handler, {stage.times(ROUNDS)} rounds of {calls} calls, fresh processes each round")
    delivery_id = delivered(stage)
    rounds = [_round(stage, delivery_id, ours_first=number % 2 == 0) for number in range(stage.times(ROUNDS))]
    rows = []
    for what in (POST, GET):
        ours, plain = ([round_[side][what] for round_ in rounds] for side in (OURS, PLAIN))
        rows.append([what, spread(ours, digits=0), spread(plain, digits=0), str(ratio(ours, plain)), "1.30"])
    table(["call", "ours p50, us", "plain p50, us", "ratio", "budget"], rows)
    say(f"\nLoaded by the API's process of {', '.join(HEAVY)}: {', '.join(rounds[0]['loaded']) or 'none'}")


def delivered(stage: Stage) -> str:
    """The id of a delivery with one answered attempt."""
    with Side(stage.environment()) as side:
        event = events.post(stage, Prefer="wait=25")
        answer = side.do("last_answer", handler=OURS, event=event)
    if answer.get("state") != "delivered":
        raise AssertionError(f"the partner was not reached: {answer}")
    return str(answer["delivery_id"])


def _round(stage: Stage, delivery_id: str, *, ours_first: bool) -> dict[str, Any]:
    environment = stage.environment()
    with Side(environment) as ours, Side(environment) as plain:
        sides = {OURS: ours, PLAIN: plain}
        order = [OURS, PLAIN] if ours_first else [PLAIN, OURS]
        for name in order:
            _post(stage, sides[name], name, WARM_UP)
            _get(stage, sides[name], name, delivery_id, WARM_UP)
        taken: dict[str, dict[str, list[float]]] = {name: {POST: [], GET: []} for name in order}
        for _ in range(stage.times(CHUNKS)):
            for name in order:
                taken[name][POST] += _post(stage, sides[name], name, CALLS)
            for name in order:
                taken[name][GET] += _get(stage, sides[name], name, delivery_id, CALLS)
        loaded = ours.do("loaded", names=HEAVY)
    medians: dict[str, Any] = {
        name: {what: median(calls[what]) for what in (POST, GET)} for name, calls in taken.items()
    }
    return medians | {"loaded": loaded}


def _post(stage: Stage, side: Side, handler: str, count: int) -> list[float]:
    taken: list[float] = side.do(
        "calls", handler=handler, events=[events.post(stage) for _ in range(count)], status=202
    )
    return taken


def _get(stage: Stage, side: Side, handler: str, delivery_id: str, count: int) -> list[float]:
    event = events.get(stage, delivery_id)
    taken: list[float] = side.do("calls", handler=handler, events=[event] * count, status=200)
    return taken
