"""The inside of one execution environment: imports a handler once, then answers one request at a time, as on Lambda.

    python -m local.environment HANDLER REQUESTS_FD LIFELINE_FD

Frames go both ways over the socket REQUESTS_FD: four bytes of length (big-endian), then JSON. After the import comes
`{"ready": true}`, or `{"error": ...}` and the end. A request is `{"event": ..., "context": {...}}`; its answer is
`{"result": ...}`, or `{"error": {"errorType", "errorMessage", "stackTrace"}}` when the handler raised. LIFELINE_FD is a
pipe that nobody writes to: it ends when the process that started this one does, and this one ends with it.
"""

import contextlib
import importlib
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.frames import PAYLOAD_LIMIT_BYTES, read_frame, write_frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The second argument of a handler: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html."""

    function_name: str
    memory_limit_in_mb: str
    aws_request_id: str
    deadline: float
    function_version: str = "$LATEST"
    log_group_name: str = "local"
    log_stream_name: str = "local"
    identity: None = None
    client_context: None = None

    @property
    def invoked_function_arn(self) -> str:
        """As on AWS, with an account that does not exist."""
        return f"arn:aws:lambda:{os.environ['AWS_REGION']}:000000000000:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Until the function's time-out, at least 0."""
        return max(0, int((self.deadline - time.monotonic()) * 1000))


def main(handler_path: str, requests_fd: int, lifeline_fd: int) -> None:
    """Serve until the other end closes."""
    threading.Thread(target=_die_with_parent, args=(lifeline_fd,), daemon=True).start()
    requests = socket.socket(fileno=requests_fd)
    try:
        handler = _imported(handler_path)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises at import belongs in the answer
        write_frame(requests, {"error": _described(error)})
        return
    write_frame(requests, {"ready": True})
    with contextlib.suppress(ConnectionError):
        while (request := read_frame(requests)) is not None:
            write_frame(requests, _answer(handler, request))


REFUSAL = "Unauthorized"  # the message by which an authorizer refuses a token, as API Gateway requires


class ResultTooLarge(Exception):
    """With Lambda's own message."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"Response payload size exceeded maximum allowed payload size ({PAYLOAD_LIMIT_BYTES} bytes): {size}"
        )


def _die_with_parent(lifeline_fd: int) -> None:
    os.read(lifeline_fd, 1)
    os._exit(1)


def _imported(handler_path: str) -> Callable[[Any, Context], Any]:
    module, _, name = handler_path.rpartition(".")
    handler: Callable[[Any, Context], Any] = getattr(importlib.import_module(module), name)
    return handler


def _answer(handler: Callable[[Any, Context], Any], request: dict[str, Any]) -> dict[str, Any]:
    details = request["context"]
    context = Context(
        function_name=os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        memory_limit_in_mb=os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        aws_request_id=details["aws_request_id"],
        deadline=time.monotonic() + details["timeout_seconds"],
    )
    try:
        result = handler(request["event"], context)
        size = len(json.dumps(result).encode())
        if size > PAYLOAD_LIMIT_BYTES:
            raise ResultTooLarge(size)
    except Exception as error:  # noqa: BLE001 - the runtime reports whatever a handler raises, and goes on
        return {"error": _described(error)}
    return {"result": result}


def _described(error: Exception) -> dict[str, Any]:
    """As Lambda's runtime describes it; the trace also goes to the log, but for a refusal: that is an answer."""
    lines = [f"{error}\n"] if str(error) == REFUSAL else traceback.format_exception(error)
    sys.stderr.writelines(lines)
    sys.stderr.flush()
    return {
        "errorType": type(error).__name__,
        "errorMessage": str(error),
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
