"""The API: API Gateway's part (local/front.py) behind TLS, and a caller of it.

A public API stands on the internet and reaches its functions past the VPC, as API Gateway does; a private one stands on
the interfaces of the execute-api endpoint.
"""

import dataclasses
import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import urlsplit

from lab.kernel.apply import Lab
from lab.model.world import API, HTTPS
from lab.programs.authority import Authority
from lab.programs.functions import PlacedFunction, filled
from local.front import Front, Gateway
from local.functions import REPOSITORY
from local.gateway import HttpRequest, HttpResponse
from local.template import Template
from stack.network.model import Network
from stack.render import Rendered

# What replaces the ids that AWS would assign, in the API's URL.
API_IDS = {"Api": "labapi1234", "Endpoints.ApiEndpoint": "vpce-lab1234"}
_TIMEOUT_SECONDS = 40.0  # the API itself answers within 29


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiResponse:
    """A response of the API; the names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def url(rendered: Rendered) -> str:
    """The API's URL, from the stack's output."""
    return filled("ApiUrl", rendered.outputs["ApiUrl"], API_IDS)


def is_private(rendered: Rendered) -> bool:
    """Whether the API is reached through its endpoint alone."""
    configuration: Mapping[str, Any] = rendered.resources["Api"]["Properties"].get("EndpointConfiguration", {})
    return list(configuration.get("Types", ())) == ["PRIVATE"]


class Api:
    """The API in front of its functions."""

    def __init__(
        self, lab: Lab, network: Network, rendered: Rendered, placed: Mapping[str, PlacedFunction], authority: Authority
    ) -> None:
        template = Template(REPOSITORY / "template.yaml", parameters=rendered.parameters).api()
        self._stage = f"/{template.stage}"
        self._gateway = Gateway(template, placed)
        name = urlsplit(url(rendered)).hostname or ""
        certificate = authority.issue("api", [name])
        owners = {owner for service, owner in network.service_endpoints if service == "execute-api"}
        hosts = (
            [interface.id for interface in network.interfaces if interface.owner in owners]
            if is_private(rendered)
            else [API]
        )
        self._front = Front(
            listeners=[_listening(lab, host) for host in hosts], certificate=(certificate.chain, certificate.key)
        )
        self._front.start(self._answer)

    def stop(self) -> None:
        self._front.stop()

    def _answer(self, request: HttpRequest) -> HttpResponse:
        """The path begins with the stage, which functions never see."""
        path = request.path.removeprefix(self._stage)
        return self._gateway.answer(dataclasses.replace(request, path=path or "/"))


def _listening(lab: Lab, host: str) -> socket.socket:
    with lab.inside(host):
        return socket.create_server(("", HTTPS), backlog=128)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCaller:
    """A client in the namespace `host` that calls the API at `address`."""

    lab: Lab
    host: str
    url: str
    address: IPv4Address
    authority: Authority

    def call(
        self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> ApiResponse:
        """One request; a body that is not bytes is sent as JSON. Raises OSError where nobody answers."""
        where = urlsplit(self.url)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPSConnection(where.hostname or "", timeout=_TIMEOUT_SECONDS)
        connection.sock = self.authority.client().wrap_socket(self._connected(), server_hostname=where.hostname)
        try:
            connection.request(method, where.path + path, content, dict(headers or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return ApiResponse(status=response.status, headers=names, body=response.read())
        finally:
            connection.close()

    def _connected(self) -> socket.socket:
        with self.lab.inside(self.host):
            connection = socket.create_connection((str(self.address), HTTPS), timeout=_TIMEOUT_SECONDS)
        connection.settimeout(_TIMEOUT_SECONDS)
        return connection
