"""The answer that a CloudFormation custom resource waits for (AWS: "Custom resource response objects")."""

import json
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

ANSWER_TIMEOUT_SECONDS = 10
_REASON_LIMIT = 1000  # the whole answer may have 4096 bytes


def answer(
    event: Mapping[str, Any],
    *,
    succeeded: bool,
    physical_id: str,
    reason: str = "",
    data: Mapping[str, str] | None = None,
) -> None:
    """Sends the verdict to the presigned URL of the event. Raises OSError where that cannot be reached."""
    body = json.dumps(
        {
            "Status": "SUCCESS" if succeeded else "FAILED",
            "Reason": reason[:_REASON_LIMIT] or "see the log of the function",
            "PhysicalResourceId": physical_id,
            "StackId": event["StackId"],
            "RequestId": event["RequestId"],
            "LogicalResourceId": event["LogicalResourceId"],
            "Data": dict(data or {}),
        }
    ).encode()
    # An empty Content-Type: the URL is signed for none.
    url = urlsplit(event["ResponseURL"])
    connection = _connection(url)
    try:
        connection.request("PUT", f"{url.path}?{url.query}", body=body, headers={"Content-Type": ""})
        status = connection.getresponse().status
    finally:
        connection.close()
    if status >= HTTPStatus.BAD_REQUEST:
        raise OSError(f"CloudFormation's answer address took the answer with status {status}")


def _connection(url: SplitResult) -> HTTPConnection:
    """TLS, verified; plain HTTP to this machine alone, which is where tests listen."""
    if url.scheme == "http" and url.hostname == "127.0.0.1":
        return HTTPConnection(url.netloc, timeout=ANSWER_TIMEOUT_SECONDS)
    return HTTPSConnection(url.netloc, timeout=ANSWER_TIMEOUT_SECONDS, context=ssl.create_default_context())
