"""Sending windows: at which times of which days something is sent to a destination."""

from domain.values import value_class

MAX_WINDOWS = 20


@value_class(frozen=True, slots=True, kw_only=True)
class SendingWindow:
    """Open on `days` (1 is Monday, 7 is Sunday: ISO 8601) from `opens` to `closes`, as "HH:MM" by a clock in the IANA
    time zone `time_zone`. Where `closes` is not later than `opens`, it closes on the following day.

    Opens at the first moment at which the clock shows `opens` or later, and closes at the first at which it shows
    `closes` or later. So in an hour that comes twice the first one counts, and what lies in an hour that is skipped
    does not open. The database decides it, by its own time zone data (function `next_opening`).
    """

    days: tuple[int, ...]
    opens: str
    closes: str
    time_zone: str
