"""Lambda functions on this machine: each is a pool of execution environments, processes that take a request at a time.

As on Lambda, an environment is started when all others are busy, kept for the next request, and replaced when its
process ends or the function's time-out passes. Unlike on Lambda they are not frozen between requests, and the number
of them is bounded by waiting, not by a throttling error.
"""

import contextlib
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from local.frames import PAYLOAD_LIMIT_BYTES, encoded, read_frame

REPOSITORY = Path(__file__).resolve().parent.parent
REGION = "us-east-1"
START_TIMEOUT_SECONDS = 180.0  # Lambda gives an import 10 s; several at once on a busy machine may need far longer
STOP_TIMEOUT_SECONDS = 1.0


class FunctionError(Exception):
    """An invocation without a result."""


class FunctionRaised(FunctionError):
    """The handler raised, or could not be imported. `error_type` is the exception's name, the message its text."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


class FunctionCrashed(FunctionError):
    """The process ended in the middle of the request."""


class FunctionTimedOut(FunctionError):
    """The function's time-out passed; its process was killed."""


class PayloadTooLarge(FunctionError):
    """The event is over Lambda's limit; nothing was invoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionConfiguration:
    """What a function runs. `handler` is module.function, `code` the directory that holds it.

    `prefix` is a command that becomes the one behind it, somewhere else (the lab's namespaces); `descriptors` are what
    it inherits for that.
    """

    name: str
    handler: str
    code: Path
    log: Path
    timeout_seconds: float
    memory_mb: int = 512
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    prefix: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()


class Invocable(Protocol):
    """What the API and event sources need of a function."""

    def invoke(self, event: object, *, limit_seconds: float = math.inf) -> Any:
        """See Function.invoke."""


class Function:
    """Invokes one function. At most `concurrency` requests run at a time; more wait. Safe to use from many threads."""

    def __init__(self, configuration: FunctionConfiguration, *, concurrency: int) -> None:
        self.configuration = configuration
        self._places = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._idle: list[_Environment] = []
        self._all: set[_Environment] = set()
        self._stopped = False

    def invoke(self, event: object, *, limit_seconds: float = math.inf) -> Any:
        """The handler's result for `event`, both as JSON values. Raises FunctionError.

        After `limit_seconds`, or the function's own time-out if that is less, it has timed out.
        """
        with self._places:
            environment = self._take()
            try:
                result = environment.invoke(event, limit_seconds)
            except (FunctionRaised, PayloadTooLarge):
                self._keep(environment)
                raise
            except FunctionError:
                self._drop(environment)
                raise
            self._keep(environment)
            return result

    def start(self) -> None:
        """Have one environment ready. Raises FunctionError when the handler cannot be imported."""
        self._keep(self._take())

    @property
    def process_ids(self) -> list[int]:
        """Of all environments that live."""
        with self._lock:
            return [environment.pid for environment in self._all]

    def stop(self) -> None:
        """End all environments; requests under way fail with FunctionCrashed."""
        with self._lock:
            self._stopped = True
            environments, self._idle = list(self._all), []
        for environment in environments:
            environment.close()
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        for environment in environments:
            environment.wait(deadline)

    def _take(self) -> "_Environment":
        with self._lock:
            if self._stopped:
                raise FunctionCrashed(f"{self.configuration.name} is shut down")
            while self._idle:
                environment = self._idle.pop()
                if environment.alive:
                    return environment
                self._all.discard(environment)
                environment.kill()
            environment = _Environment(self.configuration)
            self._all.add(environment)
        try:
            environment.wait_until_ready()
        except FunctionError:
            self._drop(environment)
            raise
        return environment

    def _keep(self, environment: "_Environment") -> None:
        with self._lock:
            if not self._stopped:
                self._idle.append(environment)

    def _drop(self, environment: "_Environment") -> None:
        with self._lock:
            self._all.discard(environment)
        environment.kill()


class _Environment:
    """One process (local/environment.py) and the two descriptors that tie it to us."""

    def __init__(self, configuration: FunctionConfiguration) -> None:
        self._configuration = configuration
        self._requests, theirs = socket.socketpair()
        lifeline, ours = os.pipe()
        self._lifeline = os.fdopen(ours, "wb")  # a file, as closing that twice is harmless
        command = [
            *configuration.prefix,
            sys.executable,
            "-m",
            "local.environment",
            configuration.handler,
            str(theirs.fileno()),
            str(lifeline),
        ]
        with configuration.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=configuration.code,
                env=_variables(configuration),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(), lifeline, *configuration.descriptors),
                start_new_session=True,  # Ctrl-C in the terminal reaches only our parent, which stops us in order
            )
        theirs.close()
        os.close(lifeline)

    @property
    def alive(self) -> bool:
        """Of an idle environment: readable input can only be the end of the connection."""
        if self._process.poll() is not None:
            return False
        poll = select.poll()
        poll.register(self._requests, select.POLLIN)
        return not poll.poll(0)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        ready = self._receive(START_TIMEOUT_SECONDS)
        if "error" in ready:
            raise FunctionRaised(ready["error"]["errorType"], ready["error"]["errorMessage"])

    def invoke(self, event: object, limit_seconds: float) -> Any:
        timeout = min(self._configuration.timeout_seconds, limit_seconds)
        context = {"aws_request_id": str(uuid.uuid4()), "timeout_seconds": timeout}
        request = encoded({"event": event, "context": context})
        if len(request) > PAYLOAD_LIMIT_BYTES:
            raise PayloadTooLarge(f"{len(request)} byte payload is too large, the limit is {PAYLOAD_LIMIT_BYTES} bytes")
        self._send(request)
        answer = self._receive(timeout)
        if "error" in answer:
            raise FunctionRaised(answer["error"]["errorType"], answer["error"]["errorMessage"])
        return answer["result"]

    def _send(self, request: bytes) -> None:
        self._requests.settimeout(self._configuration.timeout_seconds)
        try:
            self._requests.sendall(request)
        except OSError as error:
            raise FunctionCrashed(f"{self._configuration.name} is gone: {error}") from error

    def _receive(self, timeout_seconds: float) -> dict[str, Any]:
        self._requests.settimeout(timeout_seconds)
        try:
            answer = read_frame(self._requests)
        except TimeoutError as error:
            raise FunctionTimedOut(
                f"{self._configuration.name} timed out after {timeout_seconds:.2f} seconds"
            ) from error
        except OSError as error:
            raise FunctionCrashed(f"{self._configuration.name} is gone: {error}") from error
        if answer is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_SECONDS)
            status = self._process.returncode
            raise FunctionCrashed(
                f"{self._configuration.name} ended with status {status}; see {self._configuration.log}"
            )
        return answer

    def close(self) -> None:
        """Let the process end by itself: its next read gets the end of the connection."""
        with contextlib.suppress(OSError):
            self._requests.shutdown(socket.SHUT_RDWR)

    def wait(self, deadline: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """Kill the process and close all descriptors."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._requests.close()
        self._lifeline.close()


def _variables(configuration: FunctionConfiguration) -> dict[str, str]:
    """What Lambda's runtime sets, then the function's own. Nothing of the developer's shell, as on Lambda."""
    inherited = {name: value for name, value in os.environ.items() if name in _INHERITED}
    return {
        **inherited,
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
        "TZ": ":UTC",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_NAME": configuration.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "LAMBDA_TASK_ROOT": str(configuration.code),
        "_HANDLER": configuration.handler,
        **configuration.variables,
    }


# Where programs and libraries are, and coverage's settings for child processes; no proxies, no credentials.
_INHERITED = frozenset(
    {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"}
)
