"""Puts events on an EventBridge bus, for whoever has rules there."""

from collections.abc import Sequence
from datetime import datetime
from itertools import batched

from domain.ids import DeliveryId
from domain.values import value_class
from runtime.aws import AwsCallFailed, call
from runtime.observability import logger
from runtime.settings import BusSettings

SOURCE = "sallyport"
BATCH_ENTRIES = 10  # PutEvents takes no more, and 256 KiB of them: an event has some hundred bytes
PUT_SECONDS = 5.0


@value_class(frozen=True, slots=True, kw_only=True)
class BusEvent:
    """`kind` is such as delivery.failed; `detail` is JSON, an object."""

    event_id: DeliveryId
    kind: str
    at: datetime
    detail: str


class EventBus:
    """The bus that the stack names."""

    def __init__(self, settings: BusSettings) -> None:
        self._name = settings.event_bus_name
        self._endpoint_url = settings.events_endpoint_url

    def put(self, events: Sequence[BusEvent]) -> frozenset[DeliveryId]:
        """Returns those that the bus did not take, or perhaps not. Of the others some may be there twice."""
        return frozenset(
            event_id for batch in batched(events, BATCH_ENTRIES, strict=False) for event_id in self._refused(batch)
        )

    def _refused(self, events: Sequence[BusEvent]) -> list[DeliveryId]:
        payload = {"Entries": [self._entry(event) for event in events]}
        try:
            answer = call(
                "events",
                "AWSEvents.PutEvents",
                payload,
                endpoint_url=self._endpoint_url,
                timeout_seconds=PUT_SECONDS,
            )
        except AwsCallFailed as failure:
            logger.warning("the event bus took nothing", reason=failure.code, count=len(events))
            return [event.event_id for event in events]
        results = answer.get("Entries") or ()
        taken = [bool(result.get("EventId")) for result in results] + [False] * (len(events) - len(results))
        refused = [event.event_id for event, is_taken in zip(events, taken, strict=True) if not is_taken]
        if refused:
            codes = sorted({str(result.get("ErrorCode")) for result in results if not result.get("EventId")})
            logger.warning("the event bus refused events", reason=", ".join(codes), count=len(refused))
        return refused

    def _entry(self, event: BusEvent) -> dict[str, object]:
        return {
            "Source": SOURCE,
            "DetailType": event.kind,
            "Detail": event.detail,
            "EventBusName": self._name,
            "Time": int(event.at.timestamp()),
        }
