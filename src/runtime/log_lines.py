"""Log lines as Powertools writes them, key for key, with a fifth of its work for a line: a formatter for its Logger."""

import logging
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec
from aws_lambda_powertools.logging.formatter import RESERVED_LOG_ATTRS, LambdaPowertoolsFormatter

# What the standard library looks up for each record and no line of ours has ("Optimization" in its logging HOWTO).
logging.logThreads = False
logging.logProcesses = False
logging.logMultiprocessing = False
logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # typeshed lacks it
_OWN_ATTRIBUTES = len(logging.makeLogRecord({}).__dict__)  # of a record; what a call adds to it comes after them
_MADE_PER_RECORD = frozenset({"level", "location", "message", "timestamp"})
_TWO_DIGITS = tuple(f"{number:02}" for number in range(60))
EACH = "each"  # of a record that stands for several lines: what each of them has beside the record's own keys
_ENCODER = msgspec.json.Encoder(enc_hook=str)


def as_json(entry: Any) -> str:
    """A log entry as a line."""
    return _ENCODER.encode(entry).decode()


class LineFormatter(LambdaPowertoolsFormatter):
    """Formats a record without an exception by itself, and leaves the others to Powertools.

    The keys that all lines of an invocation have are put together once.
    """

    def __init__(self) -> None:
        super().__init__(json_serializer=as_json)
        self._shared: dict[str, Any] | None = None
        self._trace_id: str | None = None
        self._minute = -1
        self._until_minute = self._zone = ""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, in the order of keys that Powertools has."""
        if record.exc_info or record.args or not isinstance(record.msg, str):
            return super().format(record)
        line: dict[str, Any] = {
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": record.msg,
            "timestamp": self.formatTime(record),
            **self._shared_keys(),
        }
        if EACH in record.__dict__:
            return self._lines(line, record.__dict__[EACH])
        added = islice(record.__dict__.items(), _OWN_ATTRIBUTES, None)
        line |= {key: value for key, value in added if value is not None and key not in RESERVED_LOG_ATTRS}
        if self._trace_id is not None:
            line["xray_trace_id"] = self._trace_id
        return as_json(line)

    def _lines(self, shared: dict[str, Any], entries: Sequence[msgspec.Struct]) -> str:
        """A line for each of `entries`, where what is `shared` is in each, and encoded once."""
        begin = as_json(shared).removesuffix("}")
        end = "}" if self._trace_id is None else f',"xray_trace_id":{as_json(self._trace_id)}}}'
        texts = _ENCODER.encode_lines(entries).decode().removesuffix("\n").split("\n")
        return "\n".join([f"{begin}{',' if text != '{}' else ''}{text[1:-1]}{end}" for text in texts])

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - the library's
        """Local time, as 2026-01-31 12:00:00,250+0000."""
        if datefmt is not None:
            return super().formatTime(record, datefmt)
        second = int(record.created)
        if second // 60 != self._minute:
            at = time.localtime(second - second % 60)
            self._minute, self._zone = second // 60, time.strftime("%z", at)
            self._until_minute = time.strftime("%Y-%m-%d %H:%M:", at)
        return f"{self._until_minute}{_TWO_DIGITS[second % 60]},{str(1000 + int(record.msecs))[1:]}{self._zone}"

    def append_keys(self, **additional_keys: Any) -> None:
        """Adds keys to all lines from now on."""
        super().append_keys(**additional_keys)
        self._shared = None

    def remove_keys(self, keys: Any) -> None:
        """Removes them again."""
        super().remove_keys(keys)
        self._shared = None

    def clear_state(self) -> None:
        """Removes all of them, as at the begin of an invocation. Its trace is another one."""
        super().clear_state()
        self._trace_id = self._get_latest_trace_id()
        self._shared = None

    def _shared_keys(self) -> dict[str, Any]:
        if self._shared is None:
            every = self.log_format.items()
            self._shared = {key: value for key, value in every if value is not None and key not in _MADE_PER_RECORD}
        return self._shared
