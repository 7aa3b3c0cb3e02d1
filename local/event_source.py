"""Lambda's event source mapping for SQS: receives batches, invokes the function, deletes what it handled.

As Lambda does ("Using Lambda with Amazon SQS"): the messages that `batchItemFailures` names, and all of a batch whose
invocation failed, are left alone; their visibility time-out brings them back, and after too many receives the queue
moves them to its dead-letter queue.
"""

import contextlib
import http.client
import logging
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from local.functions import REGION, FunctionError, Invocable
from local.sqs import SqsFault, hang_up
from local.template import EventSource

_WAIT_SECONDS = (
    1  # moto looks once a second for messages that become visible again; a longer wait would only delay `stop`
)
_PAUSE_SECONDS = 0.2
_LOGGER = logging.getLogger(__name__)


class ReceivingQueue(Protocol):
    """What an event source needs of a queue; see local.sqs.Queue."""

    name: str

    @property
    def arn(self) -> str:
        """The queue's name in full."""

    def receive(self, count: int, *, wait_seconds: int) -> list[dict[str, Any]]:
        """See Queue.receive."""

    def delete(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """See Queue.delete."""


class EventSourceMapping:
    """One queue's messages to one function, at most `concurrency` batches at a time.

    One thread receives, as moto may hand a message to two receivers at once; the batches run side by side.
    """

    def __init__(self, source: EventSource, *, queue: ReceivingQueue, function: Invocable, concurrency: int) -> None:
        self._source = source
        self._queue = queue
        self._function = function
        self._places = threading.BoundedSemaphore(concurrency)
        self._batches = ThreadPoolExecutor(concurrency, thread_name_prefix="batch")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="event-source", daemon=True)

    def start(self) -> None:
        """Receive from now on."""
        self._thread.start()

    def is_running(self) -> bool:
        """Whether it receives. A fault of ours, which nothing here can answer, ends it: who started it must look."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Receive no more. Batches under way are left to end, or to fail when the function stops."""
        self._stopping.set()
        self._batches.shutdown(wait=False, cancel_futures=True)

    def _poll(self) -> None:
        try:
            self._poll_until_stopped()
        except Exception:
            _LOGGER.exception("the event source of %s ended", self._queue.name)
        finally:
            hang_up()

    def _poll_until_stopped(self) -> None:
        while not self._stopping.is_set():
            if not self._places.acquire(timeout=_PAUSE_SECONDS):
                continue
            messages = self._received()
            if not messages:
                self._places.release()
                continue
            with contextlib.suppress(RuntimeError):  # stopped just now: the messages become visible again
                self._batches.submit(self._handle, messages).add_done_callback(self._told)

    def _told(self, batch: Future[None]) -> None:
        """Nobody asks for a batch's result: what it raised is logged here, and its messages become visible again."""
        if not batch.cancelled() and (error := batch.exception()) is not None:
            _LOGGER.error("a batch of %s failed", self._queue.name, exc_info=error)

    def _received(self) -> list[dict[str, Any]]:
        try:
            return self._queue.receive(min(self._source.batch_size, 10), wait_seconds=_WAIT_SECONDS)
        except (OSError, http.client.HTTPException, SqsFault) as error:
            if not self._stopping.wait(_PAUSE_SECONDS):
                _LOGGER.warning("cannot receive from %s: %s", self._queue.name, error)
            return []

    def _handle(self, messages: list[dict[str, Any]]) -> None:
        try:
            failures = self._failures(messages)
            self._queue.delete(message for message in messages if message["MessageId"] not in failures)
        except FunctionError as error:
            if not self._stopping.is_set():
                _LOGGER.warning("%s failed, its messages will be received again: %s", self._source.function, error)
        except (OSError, http.client.HTTPException, SqsFault) as error:
            if not self._stopping.is_set():
                _LOGGER.warning("cannot delete from %s: %s", self._queue.name, error)
        finally:
            self._places.release()

    def _failures(self, messages: list[dict[str, Any]]) -> set[str]:
        """The ids that the function did not handle. All of them when its answer cannot be read, as on Lambda."""
        everything = {message["MessageId"] for message in messages}
        answer = self._function.invoke({"Records": [self._record(message) for message in messages]})
        if not answer:
            return set()
        try:
            failed = {failure["itemIdentifier"] for failure in answer.get("batchItemFailures") or ()}
        except (AttributeError, KeyError, TypeError):
            return everything
        return failed if failed.issubset(everything) else everything

    def _record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": message.get("MessageAttributes", {}),
            "md5OfBody": message.get("MD5OfBody", ""),
            "eventSource": "aws:sqs",
            "eventSourceARN": self._queue.arn,
            "awsRegion": REGION,
        }
