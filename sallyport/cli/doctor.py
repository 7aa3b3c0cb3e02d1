"""`sallyport doctor`: goes the way of a request, layer by layer, and names the first one at fault."""

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import click

from sallyport.cli.codes import ExitCode
from sallyport.cli.destinations import layer_of
from sallyport.cli.diagnosis import in_one_line, server_version
from sallyport.cli.session import CommandSession, pass_session, with_json
from sallyport.errors import GatewayError, GatewayUnavailable
from sallyport.version import VERSION

SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFinding:
    """One layer. `is_good` is None where it could not be looked at."""

    layer: str
    is_good: bool | None
    said: str


@click.command()
@click.argument("destination", required=False)
@with_json
@pass_session
def doctor(session: CommandSession, /, destination: str | None) -> None:
    """Find the layer at fault: from here to the API, and from the API to a destination.

    It makes one harmless request to the destination. It ends with 1 where something is wrong.
    """
    fault = None
    for finding in _findings(session, destination):
        _say(session, finding)
        if finding.is_good is False:
            fault = finding
            break
    if not session.output.as_json:
        session.output.say("No fault was found." if fault is None else f"The layer at fault is {fault.layer}.")
    if fault is not None:
        raise click.exceptions.Exit(ExitCode.NOT_DONE)


def _say(session: CommandSession, finding: LayerFinding) -> None:
    mark = {True: "ok", False: "FAULT", None: "?"}[finding.is_good]
    if session.output.as_json:
        session.output.line({"layer": finding.layer, "is_good": finding.is_good, "said": finding.said})
    else:
        session.output.say(f"{mark:<6}{finding.layer:<22}{finding.said}")


def _findings(session: CommandSession, destination: str | None) -> Iterator[LayerFinding]:
    profile = session.profile
    yield _tried(
        "profile", lambda: f"{profile.name}: {profile.url}, {len(profile.token(session.environment))} characters"
    )
    yield from _way(profile.url)
    version = server_version(profile.url)
    said = f"Sallyport {version}; this is {VERSION}" if version else "nothing at /healthz: is the stage in the URL?"
    yield LayerFinding(layer="API", is_good=version is not None, said=said)
    yield _checked(session, "token", lambda: f"{len(session.api.egress()['addresses'])} fixed addresses")
    yield _egress(session)
    if destination is not None:
        yield _checked(session, "destination", lambda: f"state {session.api.destination(destination)['state']}")
        yield _partner(session, destination)


def _tried(layer: str, look: Callable[[], str]) -> LayerFinding:
    try:
        return LayerFinding(layer=layer, is_good=True, said=look())
    except click.ClickException as error:
        return LayerFinding(layer=layer, is_good=False, said=error.format_message())


def _checked(session: CommandSession, layer: str, look: Callable[[], str]) -> LayerFinding:
    try:
        return LayerFinding(layer=layer, is_good=True, said=look())
    except GatewayError as error:
        return LayerFinding(layer=layer, is_good=False, said=in_one_line(error, session))


def _way(url: str) -> Iterator[LayerFinding]:
    """DNS, TCP and TLS to the API itself."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield LayerFinding(layer="DNS", is_good=False, said=f"{host}: {error}")
        return
    yield LayerFinding(
        layer="DNS", is_good=True, said=f"{host} is {', '.join(sorted({str(one[4][0]) for one in found}))}"
    )
    try:
        connection = socket.create_connection((host, port), timeout=SECONDS)
    except OSError as error:
        yield LayerFinding(layer="TCP", is_good=False, said=f"port {port}: {error}")
        return
    with connection:
        yield LayerFinding(layer="TCP", is_good=True, said=f"port {port}")
        if parts.scheme == "https":
            yield _tls(connection, host)


def _tls(connection: socket.socket, host: str) -> LayerFinding:
    try:
        with ssl.create_default_context().wrap_socket(connection, server_hostname=host) as secured:
            return LayerFinding(layer="TLS", is_good=True, said=str(secured.version()))
    except OSError as error:
        return LayerFinding(layer="TLS", is_good=False, said=str(error))


def _egress(session: CommandSession) -> LayerFinding:
    """What the last checks saw. That there was none yet is no fault."""
    verdicts = {item["address"]: item["verdict"] for item in session.api.egress()["addresses"]}
    said = ", ".join(f"{address} {verdict}" for address, verdict in verdicts.items()) or "this stack has none"
    good = False if "differs" in verdicts.values() else True if set(verdicts.values()) == {"matches"} else None
    return LayerFinding(layer="fixed addresses", is_good=good, said=said)


def _partner(session: CommandSession, destination: str) -> LayerFinding:
    try:
        found = session.api.verify(destination)
    except GatewayUnavailable as error:
        return LayerFinding(layer="partner", is_good=None, said=in_one_line(error, session))
    except GatewayError as error:
        return LayerFinding(layer="partner", is_good=False, said=in_one_line(error, session))
    fault = layer_of(found)
    way = f"from {found['egress_address'] or 'an unknown address'} to {found['remote_address'] or 'nowhere'}"
    if fault is None:
        return LayerFinding(layer="partner", is_good=True, said=f"answers with {found['partner_status']}, {way}")
    return LayerFinding(layer=fault[0], is_good=False, said=f"{fault[1]}, {way}")
