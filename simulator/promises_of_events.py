"""The promises of events (docs/events.md): who is told of the ends of another destination's deliveries."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from simulator.setting import BY_ID
from simulator.trace import Broken

if TYPE_CHECKING:
    from simulator.promises import Facts

ENDS = frozenset({"delivered", "failed", "unknown", "canceled"})
TOLD_STATES = frozenset({"paused", "disabled"})


class EventFacts:
    """The events of one run, by what they are about."""

    def __init__(self, facts: "Facts") -> None:
        self.facts = facts

    @cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Those that the gateway made itself, in the order of what they tell of."""
        made = [row for row in self.facts.rows.values() if row.get("event") and not row.get("replay_of")]
        return sorted(made, key=lambda row: (row["created_at"], row["delivery_id"]))

    @cached_property
    def bodies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """What they say, by the delivery or the destination that they tell of."""
        found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in self.rows:
            body = json.loads(bytes(row["body"]))
            found[body["data"].get("delivery_id") or body["data"]["destination_id"]].append(body)
        return found

    @cached_property
    def ends(self) -> Mapping[str, Sequence[tuple[float, str]]]:
        """When deliveries ended, and how, of those that somebody is to be told of."""
        found: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for at, delivery, _, after in self.facts.evidence.changes:
            if after in ENDS and self.is_told_of(delivery):
                found[delivery].append((at, after))
        return found

    def is_told_of(self, delivery: str) -> bool:
        """Whether its destination names another one, and it is no event itself."""
        row = self.facts.rows.get(delivery)
        return row is not None and not self._is_event(row) and self.told(str(row["destination_id"])) is not None

    def _is_event(self, row: Mapping[str, Any]) -> bool:
        """Also where it repeats one."""
        original = self.facts.rows.get(str(row.get("replay_of")))
        return bool(row.get("event")) or (original is not None and self._is_event(original))

    def told(self, destination: str) -> str | None:
        """The destination that is told."""
        to = BY_ID[destination].options.events_to
        return None if to is None else str(to)

    def refuses(self, destination: str) -> bool:
        """Whether it answered 410 to an event."""
        keys = {row["idempotency_key"] for row in self.rows if str(row["destination_id"]) == destination}
        gone = (arrival for arrival in self.facts.evidence.arrivals if arrival.status == 410)
        return any(arrival.destination == destination and arrival.key in keys for arrival in gone)

    def takes_none(self, destination: str, at: float) -> bool:
        """Whether it was disabled then, so that it takes no new deliveries."""
        states = [state for when, moved, state in self.facts.evidence.moves if moved == destination and when <= at]
        return states[-1:] == ["disabled"]


def each_end_is_told_once(facts: "Facts") -> Iterator[Broken]:
    """docs/events.md: there is one event whenever there is an end, and none otherwise."""
    known = EventFacts(facts)
    listed = [name for name in facts.rows if name in known.ends or (name in known.bodies and known.is_told_of(name))]
    for delivery in listed:
        ends = known.ends.get(delivery, ())
        to = str(known.told(str(facts.rows[delivery]["destination_id"])))
        due = sorted(state for at, state in ends if not known.takes_none(to, at))
        said = sorted(body["data"]["state"] for body in known.bodies.get(delivery, ()))
        # Somebody resolved as failed what had failed, and held back its order
        decided = facts.evidence.resolved.get(delivery) is not None and said == sorted([*due, "failed"])
        if said != due and not decided:
            yield _broken("each end is told once", f"it came to {due}, and told are {said}", delivery)
    for about in known.bodies:
        if about in facts.rows and not known.is_told_of(about):
            yield _broken("each end is told once", "nobody was to be told of it", about)


def events_tell_the_truth(facts: "Facts") -> Iterator[Broken]:
    """docs/events.md: what an event says of the delivery is so, and so is how it ended."""
    for about, bodies in EventFacts(facts).bodies.items():
        if (row := facts.rows.get(about)) is None:
            continue
        for body in bodies:
            data, kind = body["data"], body["type"].removeprefix("delivery.")
            by_hand = kind == "resolved" and _decided(facts, about)
            if kind != data["state"] and not by_hand:
                yield _broken("events tell the truth", f"{body['type']} says that it is {data['state']}", about)
            for name in ("idempotency_key", "ordering_key", "destination_id"):
                if data[name] != (None if row[name] is None else str(row[name])):
                    yield _broken("events tell the truth", f"its {name} is {row[name]}, told is {data[name]}", about)
            attempt = (data["outcome"], data["status"])
            if not _was_so(facts, about, attempt, made=data["attempts_made"]):
                yield _broken("events tell the truth", f"it says that an attempt was {attempt}", about)


def _decided(facts: "Facts", delivery: str) -> bool:
    return delivery in facts.evidence.resolved or any(each.delivery == delivery for each in facts.evidence.verdicts)


def _was_so(facts: "Facts", delivery: str, attempt: tuple[str | None, int | None], *, made: int) -> bool:
    """Whether some attempt was recorded so; what is canceled or resolved may have none."""
    recorded = {
        (record.outcome, record.status)
        for (name, _), records in facts.records.items()
        if name == delivery
        for record in records
    }
    logged = {(row["outcome"], row["status"]) for row in facts.sends.get(delivery, ())}
    return attempt in recorded | logged or (attempt == (None, None) and made <= len(logged))


def states_are_told(facts: "Facts") -> Iterator[Broken]:
    """docs/events.md: there is one event whenever a destination is paused or disabled."""
    known = EventFacts(facts)
    moves: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for at, destination, state in facts.evidence.moves:
        if state in TOLD_STATES and known.told(destination) is not None:
            moves[destination].append((at, state))
    for destination, states in moves.items():
        to = str(known.told(destination))
        due = sorted(state for at, state in states if not known.takes_none(to, at))
        told = [body for body in known.bodies.get(destination, ()) if body["type"].startswith("destination.")]
        said = sorted(body["data"]["state"] for body in told)
        # A 410 to an event disables it as well, and of what comes of events nobody is told
        lacking = list((Counter(due) - Counter(said)).elements())
        by_event = set(lacking) == {"disabled"} and len(said) + len(lacking) == len(due) and known.refuses(destination)
        if said != due and not by_event:
            text = f"{BY_ID[destination].name} was {due}, and told is {said}"
            yield Broken(promise="states are told", text=text)


def _broken(promise: str, text: str, delivery: str) -> Broken:
    return Broken(promise=promise, text=text, delivery=delivery)


PROMISES_OF_EVENTS = (each_end_is_told_once, events_tell_the_truth, states_are_told)
