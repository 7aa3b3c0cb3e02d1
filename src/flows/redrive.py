"""Send dead letters back to the queue, once an operator knows why they died and has corrected it."""

from datetime import timedelta
from uuid import UUID

from domain.audit import STACK, Detail
from domain.values import value_class
from flows.audit import Act, Actor, note_act
from flows.services import Services
from runtime.observability import logger
from wakeups.sqs import BATCH_ENTRIES, SEND_SECONDS, DeadLetters, decode

STACK_ID = UUID(int=0)
STEP_SECONDS = 5 * SEND_SECONDS  # what a page may take: receiving, sending twice, deleting; the rest is for the answer


@value_class(frozen=True, slots=True, kw_only=True)
class Redriven:
    """How many wake-ups were sent back, and how many messages are no wake-ups and stay where they are. `is_all` is
    False where there may be more, for another call."""

    moved: int
    unreadable: int
    is_all: bool


def redrive(
    dead_letters: DeadLetters, *, reason: str, limit: int, actor: Actor, services: Services, seconds_left: float
) -> Redriven:
    """Sends up to about `limit` wake-ups back, due at once, and writes into the audit log of the stack why.

    Each is queued before it is deleted, so a crash in between leaves it twice, which is harmless. What is no wake-up
    died because of that, and would again: it stays. Raises QueueUnavailable where SQS fails; what was moved by then is
    moved, and written down.
    """
    end_at = services.clock() + timedelta(seconds=seconds_left)
    moved = unreadable = 0
    is_all = False
    try:
        while moved < limit and services.clock() + timedelta(seconds=STEP_SECONDS) < end_at:
            letters = dead_letters.take(BATCH_ENTRIES)
            is_all = not letters
            if is_all:
                break
            wakeups, receipts = [], []
            for letter in letters:
                try:
                    wakeups.append(decode(letter.body))
                    receipts.append(letter.receipt)
                except ValueError:
                    unreadable += 1
            services.queue.send(wakeups, now=services.clock())
            dead_letters.drop(receipts)
            moved += len(receipts)
    finally:
        _note(reason, moved=moved, unreadable=unreadable, actor=actor, services=services)
    return Redriven(moved=moved, unreadable=unreadable, is_all=is_all)


def _note(reason: str, *, moved: int, unreadable: int, actor: Actor, services: Services) -> None:
    logger.info("dead letters redriven", count=moved, unreadable=unreadable)
    details: dict[str, Detail] = {"moved": moved, "reason": reason, "unreadable": unreadable}
    act = Act(tenant_id=STACK, actor=actor, what="dead_letters.redriven", on=STACK_ID, details=details)
    note_act(act, services=services)
