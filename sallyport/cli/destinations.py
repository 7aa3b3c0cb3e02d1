"""Commands about destinations and addresses: destinations list | show | apply, verify, egress."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sallyport.cli import declared
from sallyport.cli.codes import ExitCode
from sallyport.cli.declared import DestinationChange
from sallyport.cli.session import CommandSession, pass_session, with_json
from sallyport.errors import RequestRefused

# What a request to a destination says about the layer at fault; docs/destinations.md has the results.
LAYERS = {
    "name_not_resolved": ("DNS", "the partner's name does not resolve"),
    "not_connected": ("allowlist", "no connection: most often the partner has not allowlisted our address"),
    "tls_refused_by_us": ("TLS", "we refuse the partner's certificate"),
    "tls_refused_by_partner": ("TLS", "the partner refuses our TLS, most often our client certificate"),
    "tls_failed": ("TLS", "the handshake failed"),
    "no_access_token": ("credentials", "the token endpoint gives no access token"),
    "credentials_unusable": ("credentials", "the stored credentials cannot be used"),
    "denied": ("credentials", "the partner refuses the credentials, or does not allow our address"),
    "no_answer": ("partner", "the request was sent and the partner did not answer"),
    "refused_by_guard": ("guard", "Sallyport does not call such addresses"),
    "not_sent": ("partner", "nothing was sent"),
}


def layer_of(found: Mapping[str, Any]) -> tuple[str, str] | None:
    """The layer at fault and what is wrong with it; None where the partner answered and does not fail itself."""
    if found["result"] == "answered":
        failed = (found["partner_status"] or 0) >= 500
        return ("partner", f"it answers with {found['partner_status']}") if failed else None
    layer, said = LAYERS.get(found["result"], ("partner", str(found["result"])))
    return layer, f"{said}{f' ({found["reason"]})' if found['reason'] else ''}"


@click.group()
def destinations() -> None:
    """Third parties that may be called."""


@destinations.command("list")
@with_json
@pass_session
def list_(session: CommandSession, /) -> None:
    """All destinations. With --json one a line."""
    found = session.api.destinations()
    if session.output.as_json:
        for item in found:
            session.output.line(item)
        return
    rows = ([item["name"], item["state"], item["base_url"], item["auth"]["type"], item["guarantee"]] for item in found)
    session.output.table(["destination", "state", "base URL", "credentials", "guarantee"], rows)


@destinations.command("show")
@click.argument("destination")
@with_json
@pass_session
def show(session: CommandSession, /, destination: str) -> None:
    """One of them, as the API shows it."""
    found = session.api.destination(destination)
    if session.output.as_json:
        session.output.data(found)
    else:
        session.output.facts(found)


@destinations.command()
@click.option("-f", "--file", required=True, type=click.Path(path_type=Path), help="YAML; see docs/cli.md.")
@click.option("--dry-run", is_flag=True, help="Show the difference and change nothing; 1 where there is one.")
@click.option("--secrets", is_flag=True, help="Send secrets too where nothing else differs: they cannot be compared.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_json
@pass_session
def apply(session: CommandSession, /, file: Path, dry_run: bool, secrets: bool, yes: bool) -> None:
    """Make destinations what a file says, after showing the difference.

    Destinations that the file lacks, and members of one that it lacks, stay as they are.
    """
    changes = [_change(session, item, secrets) for item in declared.read(file, session.environment)]
    needed = [change for change in changes if change.is_needed]
    _show(session, changes)
    if dry_run or not needed:
        raise click.exceptions.Exit(ExitCode.NOT_DONE if needed else ExitCode.DONE)
    if not yes:
        click.confirm(f"Change {len(needed)} destinations?", abort=True, err=True)
    for change in needed:
        _carry_out(session, change)


def _change(session: CommandSession, wanted: dict[str, Any], secrets: bool) -> DestinationChange:
    try:
        shown = session.api.destination(str(wanted["name"]))
    except RequestRefused as error:
        if error.kind != "not-found":
            raise
        shown = None
    return declared.change(wanted, shown, with_secrets=secrets)


def _show(session: CommandSession, changes: list[DestinationChange]) -> None:
    for change in changes:
        if session.output.as_json:
            does = "create" if change.patch is None else "change" if change.is_needed else "nothing"
            session.output.line({"destination": change.name, "does": does, "difference": list(change.lines)})
            continue
        does = "is new" if change.patch is None else "changes" if change.is_needed else "stays as it is"
        session.output.say(f"{change.name} {does}")
        for line in change.lines:
            session.output.say(f"  {line}")


def _carry_out(session: CommandSession, change: DestinationChange) -> None:
    if change.patch is None:
        answer = session.api.create_destination(dict(change.wanted))
    else:
        answer = session.api.change_destination(change.name, dict(change.patch), version=change.version)
    if "proposal_id" in answer:
        session.output.note(f"{change.name}: proposal {answer['proposal_id']}, which another token has to approve")
    else:
        session.output.note(f"{change.name} is at version {answer['version']}")


@click.command()
@click.argument("destination")
@with_json
@pass_session
def verify(session: CommandSession, /, destination: str) -> None:
    """How far a harmless request to a destination comes, and from which address."""
    with session.working("asking the partner"):
        found = session.api.verify(destination)
    fault = layer_of(found)
    if session.output.as_json:
        session.output.data(found)
    else:
        session.output.facts(found)
        session.output.say("No fault." if fault is None else f"The layer at fault is {fault[0]}: {fault[1]}.")
    if fault is not None:
        raise click.exceptions.Exit(ExitCode.NOT_DONE)


@click.command()
@click.option("--verify", "now", is_flag=True, help="Ask an outside service now which address it sees.")
@with_json
@pass_session
def egress(session: CommandSession, /, now: bool) -> None:
    """The fixed addresses that partners must allowlist. It ends with 1 where another address was seen."""
    found = session.api.verify_egress() if now else session.api.egress()
    if session.output.as_json:
        session.output.data(found)
    elif now:
        session.output.facts(found)
    else:
        columns = ["address", "zone", "verdict", "seen", "last verified", "reason"]
        members = ("address", "availability_zone", "verdict", "seen_address", "last_verified_at", "reason")
        rows = ([str(item[member] or "") for member in members] for item in found["addresses"])
        session.output.table(columns, rows)
        if found["reason"]:
            session.output.note(found["reason"])
    verdicts = [found["verdict"]] if now else [item["verdict"] for item in found["addresses"]]
    if "differs" in verdicts or (now and verdicts != ["matches"]):
        raise click.exceptions.Exit(ExitCode.NOT_DONE)


COMMANDS: tuple[click.Command, ...] = (destinations, verify, egress)
