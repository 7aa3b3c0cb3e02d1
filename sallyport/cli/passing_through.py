"""`sallyport via`: one call to a partner through the gateway, as curl would make it."""

import base64
import sys

import click
import httpx

from sallyport import exact
from sallyport.calls import GRACE_SECONDS, LONGEST_WAIT_SECONDS, RawJson
from sallyport.cli.codes import ExitCode
from sallyport.cli.deliveries import METHODS, content_of, headers_of
from sallyport.cli.session import TRIES, CommandSession, pass_session, with_json
from sallyport.httpx_transport import SallyportTransport
from sallyport.keys import new_key
from sallyport.passing import SAFE_METHODS, via


@click.command("via")
@click.argument("destination")
@click.argument("target", metavar="PATH[?QUERY]", default="")
@click.option("-X", "--method", type=click.Choice(METHODS, case_sensitive=False), help="GET, or POST with --data.")
@click.option("-d", "--data", help="The body; @FILE reads a file, @- standard input.")
@click.option("-H", "--header", multiple=True, help="'Name: value', several times.")
@click.option("-k", "--key", help="The idempotency key: repeat the command under it and nothing happens twice.")
@click.option("-i", "--include", is_flag=True, help="Print the status and the headers too.")
@with_json
@pass_session
def via_(
    session: CommandSession,
    /,
    destination: str,
    target: str,
    method: str | None,
    data: str | None,
    header: tuple[str, ...],
    key: str | None,
    include: bool,
) -> None:
    """Pass one call through to a partner, and print its own answer.

    There is one attempt. It ends with 1 where the partner's status is 400 or above.
    """
    wanted = method or ("GET" if data is None else "POST")
    headers = [(name, value) for name, values in headers_of(header).items() for value in _listed(values)]
    used = key or (None if wanted in SAFE_METHODS else new_key())
    if used is not None:
        headers.append(("Idempotency-Key", used))
        if key is None:
            session.output.note(f"key {used}")
    answer = _answered(session, destination, target, method=wanted, headers=headers, data=data)
    _print(session, answer, include=include)
    if answer.status_code >= 400:
        raise click.exceptions.Exit(ExitCode.NOT_DONE)


def _listed(values: str | list[str]) -> list[str]:
    return values if isinstance(values, list) else [values]


def _answered(
    session: CommandSession,
    destination: str,
    target: str,
    *,
    method: str,
    headers: list[tuple[str, str]],
    data: str | None,
) -> httpx.Response:
    """The partner's. Raises GatewayError."""
    content = content_of(data, dict(headers))
    named = {name.lower() for name, _ in headers}
    if isinstance(content, RawJson):
        headers = headers if "content-type" in named else [*headers, ("Content-Type", "application/json")]
        content = content.text
    profile = session.profile
    slash = "" if not target or target.startswith(("/", "?")) else "/"
    transport = SallyportTransport(profile.token(session.environment), tries=TRIES)
    seconds = LONGEST_WAIT_SECONDS + GRACE_SECONDS
    with httpx.Client(transport=transport, timeout=seconds) as client, session.working("passing it through"):
        url = f"{via(profile.url, destination)}{slash}{target}"
        raw = content if isinstance(content, str | bytes) else None
        return client.request(method, url, headers=headers, content=raw)


def _print(session: CommandSession, answer: httpx.Response, *, include: bool) -> None:
    if session.output.as_json:
        session.output.data(_as_json(answer))
        return
    if include:
        session.output.say(f"{answer.status_code} {answer.reason_phrase}")
        for name, value in answer.headers.multi_items():
            session.output.say(f"{name}: {value}")
        session.output.say("")
    if sys.stdout.isatty():
        session.output.block(answer.text)
    else:  # byte for byte, for whatever reads it
        sys.stdout.flush()
        sys.stdout.buffer.write(answer.content)
        sys.stdout.buffer.flush()


def _as_json(answer: httpx.Response) -> dict[str, object]:
    headers: dict[str, list[str]] = {}
    for name, value in answer.headers.multi_items():
        headers.setdefault(name, []).append(value)
    try:
        body: dict[str, object] = {"body": answer.content.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(answer.content).decode()}
    if "json" in answer.headers.get("content-type", ""):
        try:
            body = {"json": exact.loads(answer.content)}
        except ValueError:
            body = {"body": answer.text}
    return {"status": answer.status_code, "headers": headers, **body}
