"""The exit codes of every command; docs/cli.md has the same table."""

from enum import IntEnum

from sallyport.errors import (
    AnswerWithheld,
    GatewayAway,
    GatewayError,
    GatewayUnavailable,
    StillRunning,
    UnknownOutcome,
)


class ExitCode(IntEnum):
    """What a script has to tell apart."""

    DONE = 0
    NOT_DONE = 1
    USAGE = 2
    MAY_HAVE_HAPPENED = 3
    NOT_ENDED = 4
    REFUSED = 5
    AWAY = 6
    INTERRUPTED = 130


_BY_STATE = {
    "delivered": ExitCode.DONE,
    "failed": ExitCode.NOT_DONE,
    "canceled": ExitCode.NOT_DONE,
    "unknown": ExitCode.MAY_HAVE_HAPPENED,
}


def of_state(state: str) -> ExitCode:
    """For a command that waited for a delivery to end."""
    return _BY_STATE.get(state, ExitCode.NOT_ENDED)


def of_error(error: GatewayError) -> ExitCode:
    """For a command that an error ended."""
    match error:
        case StillRunning():
            return ExitCode.NOT_ENDED
        case UnknownOutcome() | AnswerWithheld():
            return ExitCode.MAY_HAVE_HAPPENED
        case GatewayAway() | GatewayUnavailable():
            return ExitCode.AWAY
        case _:
            return ExitCode.REFUSED
