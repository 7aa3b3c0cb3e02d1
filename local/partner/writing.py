"""A reply as bytes."""

import json
from email.utils import formatdate
from http import HTTPStatus

from local.partner.calls import Reply, ReplyBytes

_BODILESS = (204, 304)


def message(reply: Reply, *, to_head: bool = False) -> ReplyBytes:
    """What goes over the connection. `to_head` is for a HEAD request: the headers of a GET, without its body."""
    status = reply.status or 500
    text = isinstance(reply.content, str)
    body = reply.content.encode() if isinstance(reply.content, str) else json.dumps(reply.content).encode() + b"\n"
    headers = [("Server", "demo-partner"), ("Date", formatdate(usegmt=True)), *reply.headers]
    if status not in _BODILESS:
        if not any(name.lower() == "content-type" for name, _ in reply.headers):
            headers.append(("Content-Type", "text/plain" if text else "application/json"))
        headers.append(("Content-Length", str(len(body))))
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
    return ReplyBytes(head=head, body=b"" if to_head or status in _BODILESS else body)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unusual"
