"""What `make run` adds to an empty stack for the reader: a token, a destination, and lines to paste."""

import http.client
import json
import re
from pathlib import Path
from typing import Any

from local.errors import LocalError
from local.files import write_private
from local.functions import FunctionError
from local.stack import Stack

TENANT = "demo"
SCOPES = ("read", "send", "manage")
DESTINATION = "partner"
_TOKEN = re.compile(rb"[!-~]{1,1000}")  # whatever is allowed in a header: which of them work is the API's to say


def working_token(stack: Stack, *, stored_in: Path) -> str:
    """The token of the last run if it still works, otherwise a new one, stored with mode 0600. Raises LocalError."""
    token = read_token(stored_in)
    if token is not None and _call(stack, "GET", "/v1/egress", token=token)[0] == http.client.OK:
        return token
    command = {"action": "issue_token", "tenant": TENANT, "scopes": list(SCOPES)}
    try:
        issued: str = stack.functions["AdminFunction"].invoke(command)["token"]
    except FunctionError as error:
        raise LocalError(f"No token could be issued: {error}. See the functions' logs.") from error
    write_private(stored_in, f"{issued}\n".encode("ascii"))
    return issued


def read_token(path: Path) -> str | None:
    """The token in the file; None where there is no file, or what is in it cannot be a token."""
    if not path.exists():
        return None
    text = path.read_bytes().strip()
    return text.decode("ascii") if _TOKEN.fullmatch(text) else None


def make_destination(stack: Stack, *, token: str) -> str:
    """The destination of the lines to paste; there already, from the second run on. Returns what the reader should
    know, mostly nothing. Raises LocalError.

    The partner may have another port than last time. A destination of that name that leads elsewhere is the user's own.
    """
    body = {"name": DESTINATION, "base_url": stack.partner.url}
    status, answer = _call(stack, "POST", "/v1/destinations", token=token, body=body)
    if status == http.client.CONFLICT:
        return _follow_partner(stack, token=token)
    if status != http.client.CREATED:
        raise LocalError(f"The API refused the destination '{DESTINATION}': {status} {answer}")
    return ""


def _follow_partner(stack: Stack, *, token: str) -> str:
    path, url = f"/v1/destinations/{DESTINATION}", stack.partner.url
    _, shown = _call(stack, "GET", path, token=token)
    if not str(shown.get("base_url", "")).startswith("http://127.0.0.1:"):
        return ""
    status, answer = _call(stack, "PATCH", path, token=token, body={"base_url": url})
    if status == http.client.OK:
        return ""
    return f"The destination '{DESTINATION}' does not lead to {url}: {answer.get('detail', status)}"


def lines_to_paste(url: str, token: str) -> tuple[str, str, str]:
    """Create a delivery; look at the newest one with its attempts; call the partner through the gateway."""
    who = f'-H "Authorization: Bearer {token}"'
    newest = f"""$(curl -s "{url}/v1/deliveries?limit=1" {who} | grep -o '[0-9a-f-]\\{{36\\}}' | head -n 1)"""
    return (
        f'curl {url}/v1/deliveries {who} -H "Idempotency-Key: order-$(date +%s)" '
        f"""-d '{{"destination": "{DESTINATION}", "path": "/orders", "body": {{"amount": 10}}}}'""",
        f"curl {url}/v1/deliveries/{newest} {who}",
        f"curl {url}/v1/via/{DESTINATION}/orders {who} -d 'amount=10'",
    )


def _call(stack: Stack, method: str, path: str, *, token: str, body: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", stack.front.port, timeout=90)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
