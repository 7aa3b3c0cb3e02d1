"""What every function of the application is for, in one table, by its address in the templates.

Whatever needs to know that reads it here: the bill (how often does it run?), the lab's proofs (whom may it reach?),
`make invoke` and the benchmarks (is one left out?), and the contract tests. A test holds the table against the
templates: a function without an entry fails, and so does one with another trigger or database user.

It is written down, not derived from the templates, because the proofs and the contract tests compare the two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Trigger(StrEnum):
    """What invokes a function."""

    REQUEST = "API Gateway, for a request"
    TOKEN = "API Gateway, for a token that it does not know yet"  # noqa: S105 - no password
    WAKEUP = "SQS, with messages of the wake-up queue"
    SCHEDULE = "EventBridge, by the clock"
    CUSTOM_RESOURCE = "CloudFormation, for a custom resource"
    OPERATOR = "an operator, by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPurpose:
    """`database_user` is the role in PostgreSQL, None for a function that does not use the database.

    `calls_partners`: it makes requests to destinations. `checked_zone`: it checks the address by which this zone's
    requests leave, and calls the echo service alone.
    """

    trigger: Trigger
    database_user: str | None = None
    calls_partners: bool = False
    checked_zone: str | None = None
    in_vpc: bool = True

    @property
    def calls_out(self) -> bool:
        """Whether it calls others than AWS's services."""
        return self.calls_partners or self.checked_zone is not None


FUNCTIONS: Mapping[str, FunctionPurpose] = {
    "ApiFunction": FunctionPurpose(trigger=Trigger.REQUEST, database_user="sallyport_app", calls_partners=True),
    "AuthorizeFunction": FunctionPurpose(trigger=Trigger.TOKEN, database_user="sallyport_authorizer"),
    "AttemptFunction": FunctionPurpose(trigger=Trigger.WAKEUP, database_user="sallyport_app", calls_partners=True),
    "AdminFunction": FunctionPurpose(trigger=Trigger.OPERATOR, database_user="sallyport_admin"),
    "MigrateFunction": FunctionPurpose(trigger=Trigger.CUSTOM_RESOURCE, database_user="sallyport_owner"),
    "NetworkResourcesFunction": FunctionPurpose(trigger=Trigger.CUSTOM_RESOURCE, in_vpc=False),
    "CheckEgressA.Function": FunctionPurpose(trigger=Trigger.SCHEDULE, checked_zone="A"),
    "CheckEgressB.Function": FunctionPurpose(trigger=Trigger.SCHEDULE, checked_zone="B"),
}


def functions_where(wanted: Callable[[FunctionPurpose], object]) -> tuple[str, ...]:
    """The addresses of those whose purpose is wanted, in the order of the table."""
    return tuple(name for name, purpose in FUNCTIONS.items() if wanted(purpose))


def triggered_by(*triggers: Trigger) -> tuple[str, ...]:
    """The addresses of those that one of the triggers invokes."""
    return functions_where(lambda purpose: purpose.trigger in triggers)


DATABASE_USERS = {name: user for name, purpose in FUNCTIONS.items() if (user := purpose.database_user) is not None}
CALLERS = functions_where(lambda purpose: purpose.calls_out)
# Those that migrate answer CloudFormation, which they reach by way of the internet.
STAY_INSIDE = functions_where(
    lambda purpose: purpose.in_vpc and not purpose.calls_out and purpose.trigger is not Trigger.CUSTOM_RESOURCE
)
EGRESS_CHECKS = {name: zone for name, purpose in FUNCTIONS.items() if (zone := purpose.checked_zone) is not None}
