"""Commands about deliveries: send, show, list, tail, resolve, cancel, retry, ask."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click

from sallyport import calls, exact
from sallyport.calls import DeliveryContent, RawJson
from sallyport.cli import life
from sallyport.cli.codes import ExitCode, of_state
from sallyport.cli.output import state_text
from sallyport.cli.session import CommandSession, pass_session, with_json
from sallyport.errors import RequestRefused, UnknownOutcome
from sallyport.keys import new_key

STATES = ("pending", "sending", "delivered", "failed", "unknown", "canceled")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LONG_POLL_SECONDS = 20
PAGE = 200  # the most that the API lists at a time
# Nearer than this it is waited for by a call; further off, without one: a call that waits keeps the database awake.
NEAR_SECONDS = 30.0


def content_of(data: str | None, headers: Mapping[str, object]) -> DeliveryContent:
    """What --data means: `@file`, `@-` for standard input, or the text itself. JSON keeps its digits."""
    if data is None:
        return None
    raw = _read(data)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw
    kinds = [str(value) for name, value in headers.items() if name.lower() == "content-type"]
    return RawJson(text=text) if _is_json(text) and all("json" in kind for kind in kinds) else text


def _read(data: str) -> bytes:
    if data == "@-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"{data[1:]} cannot be read ({error.strerror})", param_hint="--data") from error
    return data.encode()


def _is_json(text: str) -> bool:
    try:
        return isinstance(exact.loads(text), dict | list)
    except ValueError:
        return False


def headers_of(lines: tuple[str, ...]) -> dict[str, str | list[str]]:
    """`Name: value` lines; a name that comes twice has both values."""
    found: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"a header is 'Name: value', not {line!r}", param_hint="--header")
        found.setdefault(name.strip(), []).append(value.strip())
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def pairs_of(texts: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE, several times."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise click.BadParameter(f"it is NAME=VALUE, not {wrong[0]!r}", param_hint="--metadata")
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def named[F: Callable[..., Any]](command: F) -> F:
    """A delivery by its id, or by the key that it was sent with: the options of named_id()."""
    by_key = click.option("-k", "--key", help="The delivery that was sent with this key, instead of its id.")
    return click.argument("delivery_id", required=False)(by_key(command))


def named_id(session: CommandSession, delivery_id: str | None, key: str | None) -> str:
    """The id. Raises UsageError where none or both are given, RequestRefused where no delivery has the key."""
    if (delivery_id is None) == (key is None):
        raise click.UsageError("give the delivery's id, or the --key that it was sent with")
    if delivery_id is not None:
        return delivery_id
    for found in session.api.deliveries(idempotency_key=key):
        return str(found["delivery_id"])
    raise RequestRefused(f"no delivery has the key {key}", kind="not-found", status=404, members={})


@click.command()
@click.argument("destination")
@click.argument("target", metavar="PATH[?QUERY]", default="")
@click.option("-X", "--method", type=click.Choice(METHODS, case_sensitive=False), default="POST", show_default=True)
@click.option("-d", "--data", help="The body; @FILE reads a file, @- standard input. JSON is sent byte for byte.")
@click.option("-H", "--header", multiple=True, help="'Name: value', several times.")
@click.option("-k", "--key", help="The idempotency key: repeat the command under it and nothing happens twice.")
@click.option("-w", "--wait", type=click.IntRange(1, 25), help="Wait so many seconds for the partner's answer.")
@click.option("-m", "--metadata", multiple=True, metavar="NAME=VALUE", help="Comes back with the delivery; not sent.")
@click.option("--not-before", metavar="TIME", help="The first attempt at this time, such as 2026-12-01T08:00:00Z.")
@click.option("--ordering-key", help="Deliveries with the same one are sent one after the other.")
@with_json
@pass_session
def send(
    session: CommandSession, /, destination: str, target: str, key: str | None, wait: int | None, **options: Any
) -> None:
    """Create a delivery: Sallyport sends it, and repeats what may be repeated.

    Without --wait it ends with 0 as soon as the delivery is accepted; with --wait the exit code says what became of it.
    """
    path, _, query = target.partition("?")
    headers = headers_of(options["header"])
    used = key or new_key()
    if key is None:
        session.output.note(f"key {used}")
    with session.working("sending"):
        delivery = session.api.send(
            destination,
            method=options["method"],
            path=path,
            query=query,
            headers=headers or None,
            body=content_of(options["data"], headers),
            metadata=pairs_of(options["metadata"]) or None,
            not_before=options["not_before"],
            ordering_key=options["ordering_key"],
            key=used,
            wait_seconds=wait,
        )
    _print(session, delivery)
    if wait:
        raise click.exceptions.Exit(of_state(delivery["state"]))


def _print(session: CommandSession, delivery: Mapping[str, Any]) -> None:
    if session.output.as_json:
        session.output.data(delivery)
        return
    life.headline(session.output, delivery)
    life.attempts(session.output, delivery.get("attempts", []))
    life.response(session.output, delivery.get("response"))
    life.advice(session.output, delivery)


@click.command()
@named
@click.option(
    "-w", "--wait", type=click.IntRange(1, 25), help="Answer once it has ended, after so many seconds at most."
)
@with_json
@pass_session
def show(session: CommandSession, /, delivery_id: str | None, key: str | None, wait: int | None) -> None:
    """A delivery with all its attempts and the partner's answer."""
    with session.working("waiting for its end" if wait else "reading"):
        wanted = named_id(session, delivery_id, key)
        delivery = session.api.show(wanted, wait_seconds=wait)
        left = delivery["next_cursor"]
        while left is not None:
            page = session.api.call(calls.show(wanted, cursor=left)).json
            delivery["attempts"] += page["attempts"]
            left = delivery["next_cursor"] = page["next_cursor"]
    _print(session, delivery)
    if wait:
        raise click.exceptions.Exit(of_state(delivery["state"]))


@click.command("list")
@click.option("-s", "--state", type=click.Choice(STATES))
@click.option("-t", "--destination", help="By name or id.")
@click.option("--since", metavar="TIME", help="Accepted at this time or later.")
@click.option("--until", metavar="TIME", help="Accepted before this time.")
@click.option("-k", "--key", help="With this idempotency key.")
@click.option("--ordering-key")
@click.option("-m", "--metadata", multiple=True, metavar="NAME=VALUE")
@click.option("--outcome", type=click.Choice(["answered", "unreachable", "unknown", "refused"]), help="Of an attempt.")
@click.option("--status", metavar="5xx", help="The class of an attempt's status.")
@click.option("--may-have-happened", is_flag=True, help="Not delivered, and the partner may have acted all the same.")
@click.option("-n", "--limit", type=click.IntRange(1), default=50, show_default=True)
@with_json
@pass_session
def list_(session: CommandSession, /, limit: int, key: str | None, metadata: tuple[str, ...], **filters: Any) -> None:
    """Deliveries, newest first. Filters narrow them down together.

    With --json one delivery a line.
    """
    wanted = {name: value for name, value in filters.items() if value}
    wanted |= {f"metadata[{name}]": value for name, value in pairs_of(metadata).items()}
    found = islice(session.api.deliveries(**wanted, idempotency_key=key, limit=min(limit, PAGE)), limit)
    if session.output.as_json:
        for delivery in found:
            session.output.line(delivery)
        return
    with session.working("reading"):
        rows = list(found)
    columns = ["delivery", "created", "state", "attempts", "request", "key", "waits for"]
    session.output.table(columns, map(_listed, rows))
    if len(rows) == limit:
        session.output.note(f"The newest {limit}; -n shows more.")


def _listed(delivery: Mapping[str, Any]) -> list[Any]:
    return [
        delivery["delivery_id"],
        delivery["created_at"],
        state_text(delivery["state"]),
        f"{delivery['attempts_made']}/{delivery['attempts_allowed']}",
        f"{delivery['method']} {delivery['destination']} {delivery['path'] or '/'}",
        delivery["idempotency_key"],
        life.waits(delivery) or "",
    ]


@click.command()
@click.argument("delivery_ids", nargs=-1)
@click.option("-k", "--key", help="The delivery that was sent with this key, instead of ids.")
@click.option("-t", "--timeout", type=click.FloatRange(0), help="Stop after so many seconds, with exit code 4.")
@with_json
@pass_session
def tail(session: CommandSession, /, delivery_ids: tuple[str, ...], key: str | None, timeout: float | None) -> None:
    """Follow deliveries until they have ended: each attempt with its phases, as it ends.

    Without an id it follows what is unfinished now. It waits by long polls, and without any call for what is due later.
    With --json one attempt a line, and the delivery when it has ended.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    named_ids = delivery_ids if key is None else (*delivery_ids, named_id(session, None, key))
    wanted = named_ids or tuple(_unfinished(session))
    if not wanted:
        session.output.note("Nothing is unfinished.")
    codes = [_followed(session, delivery_id, deadline) for delivery_id in wanted]
    raise click.exceptions.Exit(max(codes, default=ExitCode.DONE))


def _unfinished(session: CommandSession) -> Iterator[str]:
    """The oldest first."""
    found = [item for state in ("sending", "pending") for item in session.api.deliveries(state=state)]
    yield from dict.fromkeys(item["delivery_id"] for item in sorted(found, key=lambda item: str(item["created_at"])))


def _followed(session: CommandSession, delivery_id: str, deadline: float | None) -> ExitCode:
    """The delivery until it has ended, or until the time is over."""
    seen: set[str] = set()
    delivery = session.api.show(delivery_id)
    if not session.output.as_json:
        life.headline(session.output, delivery)
    while True:
        for attempt in delivery["attempts"]:
            if attempt["attempt_id"] not in seen:
                seen.add(attempt["attempt_id"])
                _told(session, delivery_id, attempt)
        if delivery["finished_at"] is not None:
            return _ended(session, delivery)
        if _left(deadline) <= 0:
            session.output.note(f"{delivery_id} has not ended: it is {delivery['state']}")
            return ExitCode.NOT_ENDED
        delivery = _next(session, delivery, _left(deadline))


def _left(deadline: float | None) -> float:
    return float("inf") if deadline is None else deadline - time.monotonic()


def _next(session: CommandSession, delivery: Mapping[str, Any], left: float) -> Any:
    """The delivery after one more long poll, which begins when something can have happened."""
    text = f"{delivery['state']}: {life.waits(delivery) or 'an attempt is being made'}"
    with session.working(text):
        due = life.seconds_until(delivery["waits_until"] or delivery["next_attempt_at"])
        if due > NEAR_SECONDS:
            time.sleep(min(due, left))
            left -= due
        wait = max(1, int(min(LONG_POLL_SECONDS, left)))
        return session.api.show(str(delivery["delivery_id"]), wait_seconds=wait)


def _told(session: CommandSession, delivery_id: str, attempt: Mapping[str, Any]) -> None:
    if session.output.as_json:
        session.output.line({"delivery_id": delivery_id, "attempt": attempt})
    else:
        session.output.say(life.one_line(attempt))


def _ended(session: CommandSession, delivery: Mapping[str, Any]) -> ExitCode:
    if session.output.as_json:
        session.output.line({"delivery": delivery})
    else:
        session.output.say(delivery["delivery_id"], "  ", state_text(delivery["state"]))
        life.advice(session.output, delivery)
    return of_state(str(delivery["state"]))


@click.command()
@named
@click.option("--as", "as_", required=True, type=click.Choice(["delivered", "failed", "again"]))
@click.option("--note", help="For people, such as whom you asked.")
@with_json
@pass_session
def resolve(session: CommandSession, /, delivery_id: str | None, key: str | None, as_: str, note: str | None) -> None:
    """Say what became of a delivery whose outcome is unknown.

    delivered: the partner has it. failed: the partner does not have it, and it is not sent again. again: it is sent
    once more, under the key that the partner saw.
    """
    wanted = named_id(session, delivery_id, key)
    seen = session.api.show(wanted)["attempts_made"] if as_ == "again" else None
    _acted(session, session.api.resolve(wanted, as_, note=note, attempts_made=seen))


def _acted(session: CommandSession, answer: Mapping[str, Any]) -> None:
    """A delivery, or the proposal that another token has to approve."""
    if session.output.as_json:
        session.output.data(answer)
    elif "proposal_id" in answer:
        until = answer["expires_at"]
        session.output.say(f"Proposal {answer['proposal_id']}: another token has to approve it, until {until}.")
    else:
        life.headline(session.output, answer)


@click.command()
@named
@with_json
@pass_session
def cancel(session: CommandSession, /, delivery_id: str | None, key: str | None) -> None:
    """Cancel a pending delivery: it is never sent."""
    _acted(session, session.api.cancel(named_id(session, delivery_id, key)))


@click.command()
@named
@with_json
@pass_session
def retry(session: CommandSession, /, delivery_id: str | None, key: str | None) -> None:
    """One more attempt now: of a failed delivery, or a pending one without waiting for its time."""
    _acted(session, session.api.retry(named_id(session, delivery_id, key)))


@click.command()
@named
@with_json
@pass_session
def ask(session: CommandSession, /, delivery_id: str | None, key: str | None) -> None:
    """Ask the partner now what became of a delivery whose outcome is unknown."""
    try:
        with session.working("asking the partner"):
            delivery = session.api.ask(named_id(session, delivery_id, key))
    except UnknownOutcome as error:
        raise click.ClickException(f"{error}. Asking changes nothing, so you can ask again") from error
    _print(session, delivery)
    raise click.exceptions.Exit(of_state(delivery["state"]))


COMMANDS: tuple[click.Command, ...] = (send, show, list_, tail, resolve, cancel, retry, ask)
