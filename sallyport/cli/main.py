"""The command `sallyport`."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from sallyport.cli import audits, deliveries, destinations, doctor, passing_through, profile_commands, replays
from sallyport.cli.codes import ExitCode, of_error
from sallyport.cli.diagnosis import in_one_line
from sallyport.cli.output import safe
from sallyport.cli.session import CommandSession
from sallyport.errors import GatewayError
from sallyport.version import VERSION

COMMANDS: tuple[click.Command, ...] = (
    *deliveries.COMMANDS,
    passing_through.via_,
    replays.replay,
    *destinations.COMMANDS,
    doctor.doctor,
    *audits.COMMANDS,
    profile_commands.profile,
)


class CallFailed(click.ClickException):
    """An error of the API, in one line."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


class Commands(click.Group):
    """All commands, whose errors become one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Raises CallFailed instead of GatewayError."""
        try:
            return super().invoke(ctx)
        except GatewayError as error:
            session = ctx.ensure_object(CommandSession)
            raise CallFailed(in_one_line(error, session), of_error(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-p", "--profile", envvar="SALLYPORT_PROFILE", help="Which API; see `sallyport profile`.")
@click.option("--url", envvar="SALLYPORT_URL", help="Another API than the profile's; SALLYPORT_TOKEN has its token.")
@click.version_option(VERSION, message="%(version)s")
@click.pass_context
def sallyport(context: click.Context, profile: str | None, url: str | None) -> None:
    """Send deliveries through Sallyport, see what became of them, and resolve what is unknown.

    Exit codes: 0 done; 1 not done; 2 the command is wrong; 3 it may have happened; 4 it has not ended; 5 refused; 6 the
    API is away.
    """
    context.obj = session = CommandSession(profile_name=profile, url=url)
    context.call_on_close(session.close)


for _command in COMMANDS:
    sallyport.add_command(_command)


def main() -> None:
    """Run it, and end the process with its exit code."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code. What goes wrong is on standard error."""
    try:
        ended = sallyport.main(args=arguments, prog_name="sallyport", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except click.ClickException as error:
        return _fault(error)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("Interrupted. What was accepted goes on without this command.\n")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        return ExitCode.DONE
    return int(ended or 0)


def _fault(error: click.ClickException) -> int:
    sys.stderr.write(f"sallyport: {safe(error.format_message())}\n")
    return error.code if isinstance(error, CallFailed) else ExitCode.USAGE
