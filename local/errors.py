"""What can go wrong on a developer's machine."""

from enum import Enum, auto


class Advice(Enum):
    """What to do. The texts are those of the command that was typed, so only local/command.py has them."""

    CHOOSE_PORT = auto()
    CHOOSE_PARTNER_PORT = auto()
    CHOOSE_ANY_PORT = auto()
    START_FIRST = auto()
    START_AGAIN = auto()
    START_OVER = auto()


class LocalError(Exception):
    """The local stack cannot go on. The message says what is wrong; it names no command, because tests,
    the bench and the lab run the same parts as `make run`. `advice` is what to do about it, None where the message
    says that too.
    """

    def __init__(self, message: str, *, advice: Advice | None = None) -> None:
        super().__init__(message)
        self.advice = advice
