"""The command line behind `make run`, `make token`, `make admin` and `make run-clean`: python -m local NAME."""

import argparse
import contextlib
import json
import logging
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from local.demonstration import SCOPES, TENANT, lines_to_paste, make_destination, working_token
from local.errors import Advice, LocalError
from local.functions import REPOSITORY
from local.operators import act, actions, event_in
from local.stack import Stack, StackConfiguration, clean
from local.stopping import stoppable
from local.tokens import issue

_WATCH_SECONDS = 0.5

_ADVICE = {
    Advice.CHOOSE_PORT: "Stop what uses it, or choose another: make run PORT=9000",
    Advice.CHOOSE_PARTNER_PORT: "Stop what uses it, or choose another: make run PARTNER_PORT=9001",
    Advice.CHOOSE_ANY_PORT: "Choose another for one of them: make run PARTNER_PORT=9001",
    Advice.START_FIRST: "Start one in another terminal: make run",
    Advice.START_AGAIN: "`make run` starts it again; the data are still there.",
    Advice.START_OVER: "`make run-clean` starts over with an empty database.",
}


class Stopped(BaseException):
    """Someone asked us to stop: Ctrl-C, `kill`, or a closed terminal."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one line on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        _COMMANDS[options.command](options)
    except LocalError as error:
        _say(_advised(error), to_error=True)
        return 1
    except OSError as error:  # a directory that is a file, is not ours or is full: whatever of it comes first
        place = error.filename or options.directory
        _say(f"{place} cannot be used ({error.strerror or error}).", to_error=True)
        return 1
    return 0


def _clean(options: argparse.Namespace) -> None:
    existed = options.directory.exists()
    clean(options.directory)
    _say(f"Deleted {options.directory}" if existed else "There was nothing to delete")


def _token(options: argparse.Namespace) -> None:
    _say(issue(options.directory, tenant=options.tenant, scopes=options.scopes))


def _advised(error: LocalError) -> str:
    """On one line: what is wrong, and what to type."""
    return str(error) if error.advice is None else f"{error} {_ADVICE[error.advice]}"


def run(options: argparse.Namespace) -> None:
    """The stack, until a signal. Raises LocalError."""
    if options.port == options.partner_port != 0:
        raise LocalError(f"PORT and PARTNER_PORT are both {options.port}.", advice=Advice.CHOOSE_ANY_PORT)
    configuration = StackConfiguration(
        directory=options.directory, port=options.port, partner_port=options.partner_port, report=_say
    )
    _say("Starting PostgreSQL, the queue and the functions")
    with _stoppable(), Stack(configuration) as stack:
        token = working_token(stack, stored_in=options.directory / "token")
        if remark := make_destination(stack, token=token):
            _say(remark)
        _say(_welcome(stack, token, options.directory))
        _watch(stack)


def _admin(options: argparse.Namespace) -> None:
    """Without an event, which there are."""
    if options.event:
        _say(json.dumps(act(options.directory, event_in(options.event)), indent=2, ensure_ascii=False))
    else:
        _say("\n\n".join(f"{event}\n    {what}" for event, what in actions()))


_COMMANDS = {"run": run, "clean": _clean, "token": _token, "admin": _admin}


def _watch(stack: Stack) -> None:
    """Returns never; raises LocalError when a part of the stack ends by itself, Stopped on a signal or when nobody
    reads on."""
    forever = threading.Event()
    while not forever.wait(_WATCH_SECONDS):
        if hung_up(sys.stdout):
            raise Stopped
        if stack.ended:
            raise LocalError(f"{stack.ended} ended.", advice=Advice.START_AGAIN)


def hung_up(output: TextIO) -> bool:
    """Whether `output` is a terminal that is closed, or a pipe that nobody reads any more.

    A closed terminal also sends a signal, but not to us where `make` itself leads the terminal's session.
    """
    watched = select.poll()
    watched.register(output.fileno(), 0)  # no events requested: a hang-up and an error are always reported
    return any(state & (select.POLLHUP | select.POLLERR) for _, state in watched.poll(0))


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Until a signal to stop, which ends it in order."""
    try:
        with stoppable(Stopped):
            yield
    except Stopped:
        _say("\nStopped.")


def _welcome(stack: Stack, token: str, directory: Path) -> str:
    lines = "\n\n".join(lines_to_paste(stack.url, token))
    return f"""
Sallyport runs. Ctrl-C stops it; the data stay in {directory}, the functions' logs in {directory / "logs"}.

Token     {token}
API docs  {stack.url}/docs
Console   {stack.url}/console (sign in with the token)
Partner   {stack.partner.url} (demo; what it receives is shown below, and what it does at /control)
Command   pipx install ./sallyport; sallyport profile set local --url {stack.url} --token-file {directory / "token"}

Create a delivery, look at it and its attempts, and call the partner through the gateway:

{lines}
"""


def _say(text: str, *, to_error: bool = False) -> None:
    """Print at once; a terminal that is gone is no reason to fail."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr if to_error else sys.stdout, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make run", usage=argparse.SUPPRESS, description="Sallyport on this machine.")
    parser.add_argument("command", choices=_COMMANDS, help="run the stack, delete what it stored, or act on it")
    parser.add_argument("--port", type=_port, default=8080, help="of the API (default 8080)")
    parser.add_argument("--partner-port", type=_port, default=8081, help="of the demo partner (default 8081)")
    parser.add_argument("--tenant", default=TENANT, help=f"whose token (default {TENANT})")
    parser.add_argument("--scopes", type=_words, default=list(SCOPES), help="of the token, separated by commas")
    parser.add_argument("--event", default="", help="of an operator: JSON, or a file of it that ends in .json")
    parser.add_argument("--directory", type=Path, default=_default_directory(), help="where everything is stored")
    return parser


def _default_directory() -> Path:
    """.sallyport in the repository, named shortly where we are in it."""
    directory = REPOSITORY / ".sallyport"
    here = Path.cwd()
    return directory.relative_to(here) if directory.is_relative_to(here) else directory


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port number, which is 0 to 65535 (0: any that is free)")
    return int(text)
