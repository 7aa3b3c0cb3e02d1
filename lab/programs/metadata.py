"""Lambda's metadata endpoint, which gives an execution environment the ID of its Availability Zone.

AWS Lambda developer guide, "Using the Lambda metadata endpoint". It stands on the loopback of the function's namespace,
as it stands beside the function on Lambda: no packet to it passes the VPC.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lab.kernel.apply import Lab
from lab.programs.services import serve

_PATH = "/2026-01-15/metadata/execution-environment"
# Names are shuffled from account to account, IDs are not; so they do not go by the alphabet.
_IDS = ("use1-az4", "use1-az6", "use1-az2", "use1-az1", "use1-az3", "use1-az5")


def zone_ids(zones: Sequence[str]) -> Mapping[str, str]:
    """An ID for each zone."""
    return dict(zip(zones, _IDS, strict=False))


class Metadata:
    """The endpoint of one namespace. `variables` are what Lambda puts into the function's environment for it."""

    def __init__(self, lab: Lab, interface: str, zone_id: str) -> None:
        token = secrets.token_hex(16)
        with lab.inside(interface):
            self._server = _MetadataServer(("127.0.0.1", 0), _MetadataHandler)
        self._server.token, self._server.zone_id = token, zone_id
        serve(self._server, "metadata")
        self.variables: Mapping[str, str] = {
            "AWS_LAMBDA_METADATA_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_METADATA_TOKEN": token,
        }

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _MetadataServer(ThreadingHTTPServer):
    daemon_threads = True
    token: str
    zone_id: str


class _MetadataHandler(BaseHTTPRequestHandler):
    server: _MetadataServer

    def do_GET(self) -> None:
        """401 without the token, 404 for every other path."""
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._answer(HTTPStatus.UNAUTHORIZED, {})
        elif self.path != _PATH:
            self._answer(HTTPStatus.NOT_FOUND, {})
        else:
            self._answer(HTTPStatus.OK, {"AvailabilityZoneID": self.server.zone_id})

    def _answer(self, status: HTTPStatus, content: Mapping[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nobody reads it."""
