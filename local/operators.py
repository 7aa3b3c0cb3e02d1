"""What operators do, on the stack that `make run` runs: `make admin`.

In the cloud IAM lets an operator invoke two functions. Here the running stack invokes them for whoever can open its
door, a Unix socket beside PostgreSQL's: its owner alone.
"""

import json
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from local.errors import Advice, LocalError
from local.functions import FunctionError, Invocable
from local.postgres import socket_directory

DOOR = "operators"
LONGEST_EVENT_BYTES = 64 * 1024
_CALL_SECONDS = 120.0  # longer than any function may run
_FILE_ENDING = ".json"


class OperatorsDoor:
    """Of a running stack. `directory` is the stack's."""

    def __init__(self, functions: Mapping[str, Invocable], *, directory: Path) -> None:
        self._path = _path(directory)
        self._path.unlink(missing_ok=True)
        self._server = _Server(str(self._path), _Call)
        self._path.chmod(0o600)
        self._server.functions = functions
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        """Takes commands from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Takes no more commands."""
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    functions: Mapping[str, Invocable]


class _Call(socketserver.StreamRequestHandler):
    """One line of JSON in, {"function", "event"}; one out, {"answer"} or {"error"}."""

    timeout = _CALL_SECONDS
    server: _Server

    def handle(self) -> None:
        asked = json.loads(self.rfile.readline(2 * LONGEST_EVENT_BYTES))
        try:
            said = {"answer": self.server.functions[asked["function"]].invoke(asked["event"])}
        except FunctionError as error:
            said = {"error": str(error)}
        self.wfile.write(f"{json.dumps(said)}\n".encode())


def act(directory: Path, event: Mapping[str, Any]) -> Any:
    """What the function answers to `event`. Raises LocalError where no stack runs on `directory`, there is no such
    action, or the function refuses it."""
    asked = json.dumps({"function": _function_of(event), "event": event})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CALL_SECONDS)
        try:
            connection.connect(str(_path(directory)))
        except OSError as error:
            raise LocalError(f"No stack runs with {directory}.", advice=Advice.START_FIRST) from error
        connection.sendall(f"{asked}\n".encode())
        with connection.makefile("rb") as answer:
            said = json.loads(answer.readline() or b'{"error": "the stack stopped before it answered"}')
    if "error" in said:
        raise LocalError(f"{event['action']} was refused: {said['error']}.")
    return said["answer"]


def event_in(text: str) -> Mapping[str, Any]:
    """The event that `text` is, or that is in the file of this name, which ends in .json. Raises LocalError."""
    try:
        written = Path(text).read_text(encoding="utf-8") if text.endswith(_FILE_ENDING) else text
        event = json.loads(written)
    except OSError as error:
        raise LocalError(f"{text} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise LocalError(f"EVENT is neither JSON nor a file that ends in {_FILE_ENDING}: {error}.") from error
    if not isinstance(event, dict) or len(written) > LONGEST_EVENT_BYTES:
        raise LocalError(f"EVENT must be one JSON object of at most {LONGEST_EVENT_BYTES} characters.")
    return event


def actions() -> Iterator[tuple[str, str]]:
    """Each action as an event with all its members, with defaults of those that may be left out; and what it does."""
    for commands in _commands().values():
        for name, command in commands.items():
            members = {"action": name, **{field.name: _shown(field) for field in msgspec.structs.fields(command)}}
            yield json.dumps(members), " ".join((command.__doc__ or "").split())


def _commands() -> Mapping[str, Mapping[str, Any]]:
    """By function, the class of each of its actions."""
    from handlers import admin, attempt_commands  # with all that they import: no other command of ours needs it

    unions = {"AdminFunction": admin.Command, "AttemptFunction": attempt_commands.Command}
    return {
        function: {str(command.__struct_config__.tag): command for command in get_args(union)}
        for function, union in unions.items()
    }


def _function_of(event: Mapping[str, Any]) -> str:
    commands = _commands()
    named = event.get("action")
    found = [function for function, known in commands.items() if named in known]
    if not found:
        known = ", ".join(name for of_function in commands.values() for name in of_function)
        raise LocalError(f"EVENT has no action that there is, but {json.dumps(named)}; there are {known}.")
    return found[0]


def _shown(field: msgspec.structs.FieldInfo) -> Any:
    if field.required:
        return "..."
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _path(directory: Path) -> Path:
    sockets = socket_directory(directory / "postgres")
    if sockets is None:
        raise LocalError(f"No stack runs with {directory}.", advice=Advice.START_FIRST)
    return Path(sockets) / DOOR
