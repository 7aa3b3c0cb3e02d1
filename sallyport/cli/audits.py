"""`sallyport audit verify`: an export of the audit log, verified here by code that the server does not have."""

import json
from collections.abc import Iterator
from pathlib import Path

import click

from sallyport import calls
from sallyport.cli.codes import ExitCode
from sallyport.cli.session import CommandSession, pass_session, with_json
from sallyport_audit.__main__ import read_checkpoints
from sallyport_audit.__main__ import verify as verified
from sallyport_audit.chain import Tampered


@click.group()
def audit() -> None:
    """The log of what was done."""


@audit.command()
@click.argument("export", required=False, type=click.Path(path_type=Path))
@click.option(
    "-c", "--checkpoints", multiple=True, type=click.Path(path_type=Path), help="What the chain is known to be."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Keep the export in this file.")
@click.option("--part", is_flag=True, help="The export is a range of the log and not all of it.")
@with_json
@pass_session
def verify(
    session: CommandSession, /, export: Path | None, checkpoints: tuple[Path, ...], out: Path | None, part: bool
) -> None:
    """Export the audit log and verify its chain; or verify an EXPORT that is here already.

    It ends with 1 where an entry was changed, added, taken away or moved.
    """
    try:
        lines = export.read_bytes().splitlines(keepends=True) if export else list(_exported(session))
        if out is not None:
            out.write_bytes(b"".join(lines))
        known = [one for path in checkpoints for one in read_checkpoints(path)]
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot verify: {error}") from error
    try:
        said, good = verified(lines, known, part=part), True
    except Tampered as fault:
        said, good = str(fault), False
    if session.output.as_json:
        session.output.data({"verified": good, "said": said})
    else:
        session.output.say(said if good else f"NOT VERIFIED: {said}")
    if not good:
        raise click.exceptions.Exit(ExitCode.NOT_DONE)


def _exported(session: CommandSession) -> Iterator[bytes]:
    """Page by page: each says by a Link header that there is another."""
    after = 0
    with session.working("exporting") as status:
        while True:
            page = session.api.call(calls.get("/v1/audit/export", {"after": after or None}))
            lines = page.content.splitlines(keepends=True)
            yield from lines
            if "link" not in page.headers or not lines:
                return
            after = json.loads(lines[-1])["sequence"]
            status.update(f"exporting: {after} entries")


COMMANDS: tuple[click.Command, ...] = (audit,)
