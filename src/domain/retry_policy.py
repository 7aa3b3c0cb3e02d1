"""When a destination is tried again, as it says itself. domain/retry.py decides by it."""

from domain.values import value_class


@value_class(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`schedule` are the delays before the attempts in seconds, None for the usual ones; the first is that of the first
    attempt, and so 0.

    `added` and `removed` are statuses that are retried beside those that usually are, and such that are not. After
    `give_up_after` seconds, from the time that the first attempt may start, no attempt begins; None for no limit.
    """

    schedule: tuple[float, ...] | None = None
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    give_up_after: float | None = None


USUAL = RetryPolicy()
