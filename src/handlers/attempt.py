"""SQS -> the attempts that are due. Partial batch failures are for messages that cannot be read, and for nothing else:
what a partner does wrong is a recorded attempt, what the database or the queue does wrong fails the whole batch, whose
messages then come back."""

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
    """SQS event in, `batchItemFailures` out. Raises QueueUnavailable or DatabaseUnavailable to get the batch again."""
    with processor(event["Records"], read):
        results = processor.process()
    wakeups = [found for status, found, _ in results if status == "success"]
    attempt_due(wakeups, by=wiring.attempt())
    return dict(processor.response())
