"""A delivery for people: what became of it, its attempts with their phases, and what can be done about it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from sallyport.cli.output import Output, milliseconds, safe, state_text

_PHASES = (("dns", "dns_ms"), ("connect", "connect_ms"), ("tls", "tls_ms"), ("first byte", "first_byte_ms"))
MAY_HAVE = "It may have been carried out, and nobody here knows."


def headline(output: Output, delivery: Mapping[str, Any]) -> None:
    """Its id, state and request."""
    output.say(delivery["delivery_id"], "  ", state_text(delivery["state"]))
    query = f"?{delivery['query']}" if delivery["query"] else ""
    output.facts(
        {
            "request": f"{delivery['method']} {delivery['destination']} {delivery['path'] or '/'}{query}",
            "key": delivery["idempotency_key"],
            "created": delivery["created_at"],
            "ended": delivery["finished_at"],
            "waits for": waits(delivery),
            "attempts": f"{delivery['attempts_made']} of {delivery['attempts_allowed']}",
            "resolved": _resolved(delivery),
            "note": delivery["note"],
            "payload": None if delivery["payload"] == "whole" else delivery["payload"],
        }
    )


def waits(delivery: Mapping[str, Any]) -> str | None:
    """What a pending delivery waits for, and until when."""
    if delivery["state"] != "pending":
        return None
    until = delivery["waits_until"] or delivery["next_attempt_at"]
    return f"{delivery['waiting_for'] or 'a worker'}{f', until {until}' if until else ''}"


def _resolved(delivery: Mapping[str, Any]) -> str | None:
    if delivery["resolution"] is None:
        return None
    return f"as {delivery['resolution']} by {delivery['resolved_by']} at {delivery['resolved_at']}"


def attempts(output: Output, found: list[Mapping[str, Any]]) -> None:
    """A table: each phase by itself, not since the beginning."""
    if not found:
        return
    phases = [f"{name} ms" for name, _ in _PHASES]
    columns = ["#", "at", "outcome", *phases, "rest ms", "total ms", "from", "to"]
    output.table(columns, (_row(attempt) for attempt in found))


def _row(attempt: Mapping[str, Any]) -> list[str | Text]:
    asked = "?" if attempt["kind"] == "reconcile" else ""
    return [
        f"{attempt['number']}{asked}",
        attempt["started_at"],
        outcome(attempt),
        *(milliseconds(took) for _, took in phases(attempt["timings"])),
        milliseconds(attempt["timings"]["total_ms"]),
        attempt["egress_address"] or "",
        attempt["remote_address"] or "",
    ]


def outcome(attempt: Mapping[str, Any]) -> Text:
    """In words, with the status or the reason."""
    response = attempt["response"]
    more = f" {response['status']}" if response else f": {attempt['reason']}" if attempt["reason"] else ""
    style = {"answered": "", "unknown": "bold yellow"}.get(attempt["outcome"], "red")
    return Text(safe(f"{attempt['outcome']}{more}"), style=style)


def phases(timings: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """How long each phase took, None where it was not reached: the API says until when each was over."""
    before = 0.0
    for name, member in _PHASES:
        until = timings[member]
        yield name, None if until is None else max(0.0, until - before)
        before = before if until is None else until
    yield "rest", timings["total_ms"] - before


def one_line(attempt: Mapping[str, Any]) -> Text:
    """An attempt as `tail` shows it."""
    spent = " · ".join(f"{name} {took:.1f}" for name, took in phases(attempt["timings"]) if took)
    way = f"  {attempt['egress_address'] or '?'} -> {attempt['remote_address']}" if attempt["remote_address"] else ""
    what = "question" if attempt["kind"] == "reconcile" else "attempt"
    total = f"{attempt['timings']['total_ms']:.1f} ms"
    return Text.assemble(
        safe(f"{attempt['started_at']}  {what} {attempt['number']}  "),
        outcome(attempt),
        safe(f"  {total} ({spent}){way}"),
    )


def response(output: Output, found: Mapping[str, Any] | None) -> None:
    """The partner's answer as text; bytes that are no text are only counted."""
    if found is None:
        return
    output.say("")
    output.say(Text(f"{found['status']}", style="bold"), "  ", _size(found))
    for name, value in found["headers"].items():
        for one in value if isinstance(value, list) else [value]:
            output.say(Text(safe(f"{name}: "), style="dim"), one)
    if found["body"]:
        output.say("")
        output.block(found["body"])


def _size(found: Mapping[str, Any]) -> str:
    if found["body"] is None and found["body_base64"]:
        return f"{found['length_bytes']} bytes that are no text (--json shows them in base64)"
    cut = ", not whole" if found["truncated"] else ""
    return f"{'?' if found['length_bytes'] is None else found['length_bytes']} bytes{cut}"


def advice(output: Output, delivery: Mapping[str, Any]) -> None:
    """What a person does about an unknown outcome."""
    if delivery["state"] == "unknown":
        key, delivery_id = delivery["idempotency_key"], delivery["delivery_id"]
        output.note(f"{MAY_HAVE} Ask the partner for the key {key}, then:")
        output.note(f"  sallyport resolve {delivery_id} --as delivered|failed|again --note '...'")


def seconds_until(moment: str | None, *, now: datetime | None = None) -> float:
    """How far off a time of the API is; 0 for one that is over or not known."""
    if moment is None:
        return 0.0
    at = datetime.fromisoformat(moment)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
