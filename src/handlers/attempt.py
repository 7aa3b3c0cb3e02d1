"""SQS -> the attempts that are due. Partial batch failures are for messages that cannot be read, and for those whose
replacement SQS did not accept: only these come back, or deliveries would have more and more messages. What a partner
does wrong is a recorded attempt.

For operators, by IAM invoke only: handlers/attempt_commands.py.
"""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from domain.wakeups import Wakeup
from flows.attempt import attempt_due
from flows.overdue_look import OverdueLook
from flows.retention import RESERVE_SECONDS, RetentionWalk
from flows.tally_look import TallyLook
from handlers import wiring
from runtime.observability import observed
from wakeups.sqs import decode

# A batch of only unreadable messages is not an error of this function: each of them ends in the dead-letter queue.
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


SEALING_SECONDS = 25.0  # two statements, each as long as one may take, and a checkpoint


retention = RetentionWalk()
overdue_look = OverdueLook()
tally_look = TallyLook()


def read(record: SQSRecord) -> Wakeup:
    """Raises ValueError for a poison message: it is never worth another try, and ends in the dead-letter queue."""
    return decode(record.body)


@observed()
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """SQS event in, `batchItemFailures` out. Raises QueueUnavailable to receive the whole batch again.

    An operator's command in, what it did out. Raises msgspec.ValidationError or an error of ours, which the invoker
    sees.
    """
    seconds_left = context.get_remaining_time_in_millis() / 1000
    if "action" in event:
        from handlers.attempt_commands import obey  # hardly any event is one

        return obey(event, seconds_left=seconds_left, request_id=context.aws_request_id)
    with processor(event["Records"], read):
        results = processor.process()
    pairs = zip(event["Records"], results, strict=True)
    readable = [(record["messageId"], wakeup) for record, (status, wakeup, _) in pairs if status == "success"]
    failed = attempt_due([wakeup for _, wakeup in readable], services=wiring.attempt(), seconds_left=seconds_left)
    if context.get_remaining_time_in_millis() / 1000 > SEALING_SECONDS:
        wiring.seal_schedule().run(services=wiring.attempt())
    if context.get_remaining_time_in_millis() / 1000 > RESERVE_SECONDS:
        retention.go_on(services=wiring.attempt())
    if context.get_remaining_time_in_millis() / 1000 > RESERVE_SECONDS:
        overdue_look.go_on(services=wiring.attempt())
    if context.get_remaining_time_in_millis() / 1000 > RESERVE_SECONDS:
        tally_look.go_on(services=wiring.attempt())
    failures = [*processor.response()["batchItemFailures"]]
    return {
        "batchItemFailures": [*failures, *({"itemIdentifier": readable[position][0]} for position in sorted(failed))]
    }
