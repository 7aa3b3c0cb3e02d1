"""AWS around the VPC: moto's SQS, Secrets Manager and SSM, and the bucket that takes custom resources' answers.

They stand on the internet, and on the interfaces of the VPC's endpoints where there are some. Whatever reaches SQS from
AWS's side (Lambda's pollers) speaks to it in AWS's own namespace and not through the VPC.
"""

import http.client
import json
import logging
import secrets
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from ipaddress import IPv4Address
from ssl import SSLContext
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from lab.kernel.apply import Lab
from lab.model.errors import ProgramCannotRun
from lab.model.world import AWS, HTTPS, SERVICES, bucket
from lab.programs.authority import Authority
from local.sqs import SqsServer
from stack.network.model import Network
from stack.render import Rendered

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomResourceAnswer:
    """The response of a custom resource, and the source address that the bucket saw."""

    source: IPv4Address
    content: Mapping[str, Any]


def load() -> None:
    """Import moto's backends, which takes two seconds of processor time: before a fork, or in another thread."""
    create_backend_app("ssm")
    create_backend_app("secretsmanager")
    create_backend_app("sqs")


class AwsApis:
    """AWS's APIs. `start` listens everywhere; then `make` what the template makes."""

    def __init__(self, lab: Lab, network: Network, *, region: str) -> None:
        self._lab = lab
        self._region = region
        self._endpoints = {owner: service for service, owner in network.service_endpoints if service in SERVICES}
        self._interfaces = {
            interface.id: self._endpoints[interface.owner]
            for interface in network.interfaces
            if interface.owner in self._endpoints
        }
        self.sqs = SqsServer()
        self._tls: list[HTTPServer] = []

    def start(self, authority: Authority) -> None:
        names = [f"{service}.{self._region}.amazonaws.com" for service in SERVICES]
        with self._lab.inside(AWS):
            self.sqs.start()
            self._listen(authority.issue("aws", names).server())
        for interface, service in self._interfaces.items():
            certificate = authority.issue(f"aws-{service}", [f"{service}.{self._region}.amazonaws.com"])
            with self._lab.inside(interface):
                self._listen(certificate.server())
        self._control("POST", "/moto-api/reset", {})  # moto keeps everything in this process, also of a lab before

    def stop(self) -> None:
        for server in self._tls:
            server.shutdown()
            server.server_close()
        self.sqs.stop()

    def make(self, rendered: Rendered) -> dict[str, str]:
        """Secrets and parameters as the template makes them. Returns the ARNs of the secrets by address."""
        for address, resource in rendered.of_type("AWS::SSM::Parameter").items():
            properties = resource["Properties"]
            content = {"Name": properties["Name"], "Type": properties["Type"], "Value": properties["Value"]}
            self._call("ssm", "AmazonSSM.PutParameter", content, address)
        return {address: self._secret(address) for address in rendered.of_type("AWS::SecretsManager::Secret")}

    def _secret(self, address: str) -> str:
        content = {
            "Name": address,
            "SecretString": secrets.token_urlsafe(48),
            "ClientRequestToken": secrets.token_hex(16),
        }
        return str(self._call("secretsmanager", "secretsmanager.CreateSecret", content, address)["ARN"])

    def _call(self, service: str, target: str, content: Mapping[str, Any], resource: str) -> dict[str, Any]:
        scope = f"Credential=lab/20260101/{self._region}/{service}/aws4_request"
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": target,
            "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0",
        }
        status, body = self._control("POST", "/", content, headers)
        if status != HTTPStatus.OK:
            raise ProgramCannotRun(resource, f"{target}: {status} {body[:300]!r}")
        response: dict[str, Any] = json.loads(body or b"{}")
        return response

    def _control(
        self, method: str, path: str, content: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """In AWS's own namespace, over its loopback."""
        connection = http.client.HTTPConnection(self.sqs.endpoint_url.removeprefix("http://"), timeout=30)
        with self._lab.inside(AWS):
            connection.connect()
        try:
            connection.request(method, path, json.dumps(content), dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _listen(self, tls: SSLContext) -> None:
        """Serve the same moto on port 443 of this thread's namespace too."""
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        application = DomainDispatcherApplication(create_backend_app)
        server = make_server("0.0.0.0", HTTPS, application, threaded=True, request_handler=MotoRequestHandler)  # noqa: S104 - all of its namespace
        server.socket = without_handshake(server.socket, tls)
        serve(server, "aws")
        self._tls.append(server)


class Bucket:
    """Takes PUT requests, as S3 does with a presigned URL. `answers` are what came, in order."""

    def __init__(self, lab: Lab, host: str, authority: Authority, *, region: str) -> None:
        self.answers: list[CustomResourceAnswer] = []
        with lab.inside(host):
            self._server = _BucketServer(("0.0.0.0", HTTPS), _BucketHandler)  # noqa: S104 - all of its namespace
        self._server.bucket = self
        self._server.socket = without_handshake(self._server.socket, authority.issue("s3", [bucket(region)]).server())
        serve(self._server, "s3")

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _BucketServer(ThreadingHTTPServer):
    daemon_threads = True
    bucket: Bucket

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that disconnected is not reported."""


class _BucketHandler(BaseHTTPRequestHandler):
    server: _BucketServer

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.bucket.answers.append(
            CustomResourceAnswer(source=IPv4Address(self.client_address[0]), content=json.loads(body))
        )
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """What matters is in `answers`."""


def without_handshake(listener: socket.socket, tls: SSLContext) -> socket.socket:
    """TLS whose handshake is left to the thread that serves the caller: a silent one must not hold up the others."""
    return tls.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)


def serve(server: HTTPServer, name: str) -> None:
    """From now on, in a thread of its own, until it is shut down."""
    threading.Thread(target=server.serve_forever, args=(_LOOK_SECONDS,), name=name, daemon=True).start()
