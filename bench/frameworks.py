"""Ours, plain and plain with other frameworks: instructions per warm call, all in one run.

Each does the same work on the same tables. Below its routes, every one but ours has plain's statement and wake-up, so
what differs is the framework, how it reads, checks and writes JSON, and its log line.
"""

import json
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import events
from bench.chart import Counts, chart
from bench.environments import Environment, NotInstalled
from bench.figures import heading, markdown, say, skipped
from bench.handler import GET, OURS, PLAIN, POST, delivered
from bench.instructions import Work, count
from bench.stage import Stage
from local.functions import REPOSITORY

RECORDED = REPOSITORY / "docs" / "measured" / "peers.json"
HANDLERS = REPOSITORY / "bench" / "peers"
WARM_UP = 20
CALLS = 20
COLUMNS = ("the same work by", "POST, million", "POST / plain", "GET, million", "GET / plain")


def as_it_is(event: events.LambdaEvent) -> events.LambdaEvent:
    """For a framework that routes by the path."""
    return event


def by_resource(event: events.LambdaEvent) -> events.LambdaEvent:
    """As API Gateway sends it where each route is a resource, and not one that takes all paths."""
    head, _, delivery_id = event["path"].partition("/v1/deliveries/")
    resource = "/v1/deliveries/{delivery_id}" if delivery_id and not head else "/v1/deliveries"
    return event | {
        "resource": resource,
        "pathParameters": {"delivery_id": delivery_id} if delivery_id else None,
        "requestContext": event["requestContext"] | {"resourcePath": resource},
    }


SHIPPED_ALONE = Environment(requirements=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One side: `handler` is module:function, `event` makes the event of API Gateway into the one that it gets."""

    name: str
    handler: str
    environment: Environment = SHIPPED_ALONE
    event: Callable[[events.LambdaEvent], events.LambdaEvent] = as_it_is


def _installed(name: str) -> Environment:
    return Environment(requirements=HANDLERS / f"{name}.txt")


PLAIN_PEER = Peer(name="plain", handler=PLAIN)
PEERS = (
    PLAIN_PEER,
    Peer(name="plain + msgspec", handler="bench.peers.msgspec_alone:handler"),
    Peer(name="Powertools + msgspec", handler="bench.peers.powertools:handler"),
    Peer(name="Powertools + msgspec, Logger, Metrics", handler="bench.peers.powertools_observed:handler"),
    Peer(
        name="Chalice",
        handler="bench.peers.with_chalice:app",
        environment=_installed("chalice"),
        event=by_resource,
    ),
    Peer(name="Flask + apig-wsgi", handler="bench.peers.with_flask:handler", environment=_installed("flask")),
    Peer(name="FastAPI + Mangum", handler="bench.peers.with_fastapi:handler", environment=_installed("fastapi")),
    Peer(name="ours", handler=OURS),
)


def run(stage: Stage, *, out: Path | None = None, peers: Sequence[Peer] = PEERS) -> None:
    """Prints the table, and with `out` records and draws it in that folder. Who cannot be installed is named, and the
    rest runs. When it is interrupted, what was counted until then is printed, and recorded as partial."""
    if shutil.which("valgrind") is None:
        skipped("peers", "valgrind is not installed (on Debian and Ubuntu: apt install valgrind)")
        return
    heading(f"The same work by frameworks: instructions per warm call under callgrind, {stage.times(CALLS)} calls")
    counts: dict[str, Mapping[str, int]] = {}
    missing: dict[str, str] = {}
    whole = False
    try:
        for peer, counted in measured(stage, _there(peers, missing)):
            counts[peer.name] = counted
        whole = True
    finally:
        _tell(report(counts, missing=missing, partial=not whole), out)


def measured(stage: Stage, peers: Sequence[Peer]) -> Iterator[tuple[Peer, Mapping[str, int]]]:
    """The instructions of a POST and a GET, one peer after the other."""
    delivery_id = delivered(stage)
    for peer in peers:
        works = _works(stage, peer, delivery_id)
        yield (
            peer,
            {
                name: count(
                    stage,
                    peer.handler,
                    work,
                    warm_up=stage.times(WARM_UP),
                    calls=stage.times(CALLS),
                    python=peer.environment.python,
                )
                for name, work in works.items()
            },
        )


def report(counts: Counts, *, missing: Mapping[str, str], partial: bool) -> dict[str, Any]:
    """What is recorded: `partial` means that it was interrupted; `missing` has a reason for each that did not run."""
    return {
        "python": platform.python_version(),
        "partial": partial,
        "missing": dict(missing),
        "packages": {peer.name: peer.environment.pins() for peer in PEERS if peer.environment.pins()},
        "counts": {name: dict(counted) for name, counted in counts.items()},
    }


def table(recorded: Mapping[str, Any]) -> str:
    """Markdown, from the fewest instructions of a POST to the most; ratios only where plain was counted."""
    counts: Counts = recorded["counts"]
    plain = counts.get(PLAIN_PEER.name)
    rows = [
        [name, *(cell for call in (POST, GET) for cell in _cells(counted[call], plain[call] if plain else None))]
        for name, counted in sorted(counts.items(), key=lambda of: of[1][POST])
    ]
    return markdown(COLUMNS, rows)


def _cells(counted: int, plain: int | None) -> list[str]:
    return [f"{counted / 1e6:.3f}", f"{counted / plain:.2f}" if plain else ""]


def _there(peers: Sequence[Peer], missing: dict[str, str]) -> Sequence[Peer]:
    """Those that can run. Why others cannot is put into `missing`."""
    for peer in peers:
        try:
            if not peer.environment.ready:
                say(f"Installing {peer.name}: {', '.join(peer.environment.pins())}\n")
            peer.environment.install()
        except NotInstalled as error:
            missing[peer.name] = str(error)
            skipped(f"peer {peer.name}", str(error))
    return [peer for peer in peers if peer.name not in missing]


def _tell(recorded: Mapping[str, Any], out: Path | None) -> None:
    if recorded["counts"]:
        say(table(recorded))
    if recorded["partial"]:
        say("\n!!! PARTIAL: it ended before all of them were counted\n")
    if out is not None:
        path = out / RECORDED.name
        path.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
        say(f"\nRecorded in {path}.")
        if PLAIN_PEER.name in recorded["counts"]:
            path.with_suffix(".svg").write_text(chart(recorded["counts"]), encoding="utf-8")


def _works(stage: Stage, peer: Peer, delivery_id: str) -> Mapping[str, Work]:
    def posts(calls: int) -> list[events.LambdaEvent]:
        return [peer.event(events.post(stage)) for _ in range(calls)]

    def gets(calls: int) -> list[events.LambdaEvent]:
        return [peer.event(events.get(stage, delivery_id))] * calls

    return {
        POST: Work(ours=OURS, plain=PLAIN, status=202, per_call=1, events=posts),
        GET: Work(ours=OURS, plain=PLAIN, status=200, per_call=1, events=gets),
    }
