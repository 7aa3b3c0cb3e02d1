"""`sallyport replay`: many deliveries at once, after their number and their impact were shown."""

import time
from collections.abc import Mapping
from typing import Any

import click

from sallyport.cli.codes import ExitCode
from sallyport.cli.session import CommandSession, pass_session, with_json

OLDEST_LOOK_SECONDS, NEWEST_LOOK_SECONDS = 30.0, 2.0


@click.command()
@click.option("-s", "--state", required=True, type=click.Choice(["failed", "unknown", "delivered"]))
@click.option("--since", required=True, metavar="TIME", help="Accepted at this time or later.")
@click.option("--until", metavar="TIME", help="Accepted before this time.")
@click.option("-t", "--destination", help="By name or id.")
@click.option("--outcome", type=click.Choice(["answered", "unreachable", "unknown", "refused"]), help="The last one.")
@click.option("--status-class", type=click.IntRange(1, 9), help="5 for 5xx, of the last attempt.")
@click.option("--rate", type=float, help="How many become due per second; 10 without it.")
@click.option("--dry-run", is_flag=True, help="Count them, and change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the job is done.")
@with_json
@pass_session
def replay(session: CommandSession, /, dry_run: bool, yes: bool, no_wait: bool, **wanted: Any) -> None:
    """Replay many deliveries. It shows first how many that would be, and how many of them may have happened."""
    body = {name: value for name, value in wanted.items() if value is not None}
    counted = session.api.replay(**{name: value for name, value in body.items() if name != "rate"}, dry_run=True)
    if not (session.output.as_json and dry_run):
        _say_impact(session, counted, state=str(body["state"]))
    if dry_run and session.output.as_json:
        session.output.data(counted)
    if dry_run or counted["count"] == 0:
        return
    if not yes:
        click.confirm(f"Replay {counted['count']} deliveries?", abort=True, err=True)
    job = session.api.replay(**body)
    _tell(session, job if no_wait or "proposal_id" in job else _done(session, job))


def _tell(session: CommandSession, job: Mapping[str, Any]) -> None:
    """The job, or the proposal that another token has to approve."""
    if session.output.as_json:
        session.output.data(job)
    elif "proposal_id" in job:
        session.output.say(f"Proposal {job['proposal_id']}: another token has to approve it.")
    else:
        session.output.say(f"Job {job['job_id']} is {job['state']}: {job['changed']} changed, {job['skipped']} skipped")
    if job["state"] == "canceled":
        raise click.exceptions.Exit(ExitCode.NOT_DONE)


def _say_impact(session: CommandSession, counted: Mapping[str, Any], *, state: str) -> None:
    said = {
        "failed": "go on under the same idempotency keys",
        "unknown": "are sent again under the same idempotency keys",
        "delivered": "are repeated as new deliveries, with new keys",
    }[state]
    session.output.note(f"{counted['count']} deliveries {said}.")
    if counted["count"]:
        session.output.note(f"The oldest is of {counted['oldest']}, the newest of {counted['newest']}.")
    if counted["may_have_happened"]:
        session.output.note(
            f"{counted['may_have_happened']} of them may have happened already; the key protects from a second time "
            "only at a partner that checks it."
        )


def _done(session: CommandSession, job: Mapping[str, Any]) -> Any:
    """The job once it is over. It is looked at about twenty times, as it says how long it takes."""
    rate = float(job["rate"] or 10)
    pause = min(OLDEST_LOOK_SECONDS, max(NEWEST_LOOK_SECONDS, job["expected"] / rate / 20))
    with session.working("replaying") as status:
        while job["state"] == "running":
            time.sleep(pause)
            job = session.api.job(str(job["job_id"]))
            status.update(f"replaying: {job['changed'] + job['skipped']} of {job['expected']}")
    return job
