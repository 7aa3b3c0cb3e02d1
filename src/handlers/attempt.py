"""SQS -> the attempts that are due. Partial batch failures are for messages that cannot be read, and for those whose
follower SQS did not take: only these come back, or deliveries would have more and more messages. What a partner does
wrong is a recorded attempt."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from domain.wakeups import Wakeup
from flows.attempt import attempt_due
from handlers import wiring
from runtime.observability import logger, writes_counts
from wakeups.sqs import decode

# A batch of unreadable messages only is no error of this function: each of them goes its way to the dead-letter queue.
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def read(record: SQSRecord) -> Wakeup:
    """Raises ValueError for a poison message: it is never worth another try, and ends in the dead-letter queue."""
    return decode(record.body)


@logger.inject_lambda_context(clear_state=True)
@writes_counts
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """SQS event in, `batchItemFailures` out. Raises QueueUnavailable to get all of the batch again."""
    with processor(event["Records"], read):
        results = processor.process()
    told = zip(event["Records"], results, strict=True)
    readable = [(record["messageId"], found) for record, (status, found, _) in told if status == "success"]
    seconds_left = context.get_remaining_time_in_millis() / 1000
    back = attempt_due([wakeup for _, wakeup in readable], by=wiring.attempt(), seconds_left=seconds_left)
    failures = [*processor.response()["batchItemFailures"]]
    return {"batchItemFailures": [*failures, *({"itemIdentifier": readable[place][0]} for place in sorted(back))]}
