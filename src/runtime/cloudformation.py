"""The answer that a CloudFormation custom resource waits for (AWS: "Custom resource response objects")."""

import json
import ssl
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

ANSWER_TIMEOUT_SECONDS = 5
PAUSES_SECONDS = (1.0, 2.0)  # between the three tries, which with them take 18 s at most
_REASON_BYTES = 1000  # the whole answer may have 4096


type CustomResourceEvent = Mapping[str, Any]  # AWS: "Custom resource request objects"


class AnswerRefused(OSError):
    """The response URL rejected the answer: trying again is of no use."""


def answer(
    event: CustomResourceEvent,
    *,
    succeeded: bool,
    physical_id: str,
    reason: str = "",
    data: Mapping[str, str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Sends the result to the presigned URL of the event, in up to three tries. Raises OSError where it is not
    accepted.
    """
    body = _body(event, succeeded=succeeded, physical_id=physical_id, reason=reason, data=dict(data or {}))
    url = urlsplit(event["ResponseURL"])
    for pause in PAUSES_SECONDS:
        try:
            return _put(url, body)
        except (AnswerRefused, ssl.SSLCertVerificationError):
            raise
        except OSError:
            sleep(pause)
    return _put(url, body)


def _body(
    event: CustomResourceEvent, *, succeeded: bool, physical_id: str, reason: str, data: Mapping[str, str]
) -> bytes:
    short_reason = reason.encode(errors="replace")[:_REASON_BYTES].decode(errors="ignore")
    fields = {
        "Status": "SUCCESS" if succeeded else "FAILED",
        "Reason": short_reason or "see the log of the function",
        "PhysicalResourceId": physical_id,
        "StackId": event.get("StackId", ""),
        "RequestId": event.get("RequestId", ""),
        "LogicalResourceId": event.get("LogicalResourceId", ""),
        "Data": data,
    }
    return json.dumps(fields, ensure_ascii=False).encode()  # not ASCII, where an escape takes six bytes


def _put(url: SplitResult, body: bytes) -> None:
    connection = _connection(url)
    try:
        # An empty Content-Type: the URL is signed for none.
        connection.request("PUT", f"{url.path}?{url.query}", body=body, headers={"Content-Type": ""})
        status = connection.getresponse().status
    except HTTPException as error:
        raise OSError(f"CloudFormation's response URL does not speak HTTP: {type(error).__name__}") from None
    finally:
        connection.close()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise OSError(f"CloudFormation's response URL answered with status {status}")
    if status >= HTTPStatus.MULTIPLE_CHOICES:  # nor is a redirect a success: it stored nothing
        raise AnswerRefused(f"CloudFormation's response URL answered with status {status}")


def _connection(url: SplitResult) -> HTTPConnection:
    """TLS, verified; plain HTTP only to this machine, where tests listen."""
    if url.scheme == "http" and url.hostname == "127.0.0.1":
        return HTTPConnection(url.netloc, timeout=ANSWER_TIMEOUT_SECONDS)
    return HTTPSConnection(url.netloc, timeout=ANSWER_TIMEOUT_SECONDS, context=ssl.create_default_context())
