"""The states of a CloudFormation stack: which of them take a change set, and what to do about the others.

By https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html (Stack status codes). A test
holds the table to the states that botocore knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Readiness(StrEnum):
    """What a deployment can do with a stack."""

    CREATE = "create"  # there is none yet
    UPDATE = "update"
    WAIT = "wait"
    REPAIR = "repair"  # it takes no change set until somebody has acted


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """One state. `advice` says what happened and what to do: `{stack}` is the stack's name in it; '' after a success.

    `succeeded` is whether a deployment that ends in it is what was wanted. `stays` is whether the stack is still one to
    protect, and not the remains of a first deployment or of a deletion.
    """

    readiness: Readiness
    advice: str
    succeeded: bool = False
    stays: bool = True


_RUNNING = "another deployment is running; wait for it"
_DELETE = "aws cloudformation delete-stack --stack-name {stack}"
_FORCE = f"{_DELETE} --deletion-mode FORCE_DELETE_STACK leaves what still cannot be deleted in the account"
_NOTHING_LOST = "nothing of value is in it"
_COMPLETE = StackState(readiness=Readiness.UPDATE, advice="", succeeded=True)
_BUSY = StackState(readiness=Readiness.WAIT, advice=_RUNNING)

STATES = {
    "REVIEW_IN_PROGRESS": StackState(
        readiness=Readiness.CREATE,
        advice=f"a change set was made for it and never executed; {_NOTHING_LOST}: deploy, or {_DELETE}",
        stays=False,
    ),
    # ---- Creation
    "CREATE_IN_PROGRESS": _BUSY,
    "CREATE_COMPLETE": _COMPLETE,
    "CREATE_FAILED": StackState(
        readiness=Readiness.REPAIR,
        advice=f"its first deployment failed and was not rolled back; {_NOTHING_LOST}: {_DELETE}, then deploy again",
        stays=False,
    ),
    "ROLLBACK_IN_PROGRESS": StackState(
        readiness=Readiness.WAIT, advice="its first deployment failed and is being undone; wait for it", stays=False
    ),
    "ROLLBACK_COMPLETE": StackState(
        readiness=Readiness.REPAIR,
        advice=f"its first deployment failed; {_NOTHING_LOST}: {_DELETE}, then deploy again",
        stays=False,
    ),
    "ROLLBACK_FAILED": StackState(
        readiness=Readiness.REPAIR,
        advice=f"its first deployment failed, and CloudFormation could not delete all of what it had made; "
        f"{_NOTHING_LOST}: {_DELETE}, then deploy again. If that ends as DELETE_FAILED: {_FORCE}",
        stays=False,
    ),
    # ---- Deletion
    "DELETE_IN_PROGRESS": StackState(
        readiness=Readiness.WAIT,
        advice="it is being deleted, which may take half an hour because of the functions' network interfaces; wait",
        stays=False,
    ),
    "DELETE_COMPLETE": StackState(
        readiness=Readiness.CREATE, advice="somebody deleted it: deploy again for a new one", stays=False
    ),
    "DELETE_FAILED": StackState(
        readiness=Readiness.REPAIR,
        advice=f"its deletion failed half-way. Remove what stood in the way, often a network interface or the "
        f"database's deletion protection, and repeat: {_DELETE}. {_FORCE}",
        stays=False,
    ),
    # ---- Update
    "UPDATE_IN_PROGRESS": _BUSY,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": _BUSY,
    "UPDATE_COMPLETE": _COMPLETE,
    "UPDATE_FAILED": StackState(
        readiness=Readiness.REPAIR,
        advice="an update failed and was not rolled back, so it is half old and half new: "
        "aws cloudformation rollback-stack --stack-name {stack}, then deploy again",
    ),
    "UPDATE_ROLLBACK_IN_PROGRESS": _BUSY,
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": _BUSY,
    "UPDATE_ROLLBACK_COMPLETE": StackState(
        readiness=Readiness.UPDATE,
        advice="the update failed, and the stack is as it was before; correct what failed, then deploy again",
    ),
    "UPDATE_ROLLBACK_FAILED": StackState(
        readiness=Readiness.REPAIR,
        advice="an update failed, and CloudFormation could not undo it. Correct what its last failure names, then: "
        "aws cloudformation continue-update-rollback --stack-name {stack}",
    ),
    # ---- Import
    "IMPORT_IN_PROGRESS": _BUSY,
    "IMPORT_COMPLETE": _COMPLETE,
    "IMPORT_ROLLBACK_IN_PROGRESS": _BUSY,
    "IMPORT_ROLLBACK_FAILED": StackState(
        readiness=Readiness.REPAIR,
        advice="an import failed, and CloudFormation could not undo it: AWS Support can repair it",
    ),
    "IMPORT_ROLLBACK_COMPLETE": StackState(
        readiness=Readiness.UPDATE, advice="an import failed, and the stack is as it was before"
    ),
}


def is_there(summary: Mapping[str, Any]) -> bool:
    """Whether the stack still has the resource of a ListStackResources' summary: it lists those that are gone too."""
    return summary.get("ResourceStatus") not in ("DELETE_COMPLETE", "DELETE_SKIPPED")


def in_words(status: str, stack: str) -> str:
    """The stack's state, and what to do about it where that is anything."""
    advice = state_of(status, stack).advice
    return f"{stack} is {status}{': ' if advice else ''}{advice}"


def state_of(status: str, stack: str) -> StackState:
    """With the stack's name in its advice; '' is a stack that does not exist. What is not known here is not touched."""
    if not status:
        return StackState(readiness=Readiness.CREATE, advice="", stays=False)
    unknown = StackState(
        readiness=Readiness.REPAIR, advice="that state is not known here; see the stack in the console"
    )
    state = STATES.get(status, unknown)
    return StackState(
        readiness=state.readiness,
        advice=state.advice.format(stack=stack),
        succeeded=state.succeeded,
        stays=state.stays,
    )
