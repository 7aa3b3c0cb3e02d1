"""Confines an unexpected exception to the one piece of work that raised it.

The only place where every exception is caught, for one reason: the deliveries of a batch belong to different tenants.
What an odd stored row, a partner's header or a fault of ours does to one of them must not lose the outcomes of the
others, which would then be unknown or sent again. Expected errors are caught by name where they happen.
"""

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from uuid import UUID

from runtime.metrics import Metric
from runtime.observability import count, logger


def unless_it_raises[**P, T](work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T | None:
    """What `work` returns; None where it raises anything, which is not logged: the caller then does the same in
    isolated steps, each of which says what it met. It takes the arguments itself: a partial for each attempt costs more
    than the isolation."""
    try:
        return work(*arguments, **named)
    except Exception:  # noqa: BLE001 - as in `isolated`
        return None


def isolated[T](
    work: Callable[[], T], *, otherwise: Callable[[Exception], T], step: str, delivery_id: UUID | None = None
) -> T:
    """What `work` returns; what `otherwise` returns where it raises anything.

    That is logged as an error with `step` and `delivery_id` (None where only the caller knows it), and counted as
    `DeliveryFaults`. The log has the exception's type and where it was raised, and not its message: that may quote a
    credential or a body.
    """
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - see above: isolation is what this function is for
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        keys = {} if delivery_id is None else {"delivery_id": str(delivery_id)}
        details = {"step": step, "error": type(error).__name__, "where": where, **keys}
        logger.error("one delivery met a fault of ours", extra=details)
        count(Metric.DELIVERY_FAULTS)
        return otherwise(error)


def each_isolated[S, T](
    items: Sequence[S], work: Callable[[S], T], *, otherwise: Callable[[S], T], step: str, id_of: Callable[[S], UUID]
) -> list[T]:
    """`work` of each item, and `otherwise` of those for which it raises anything, as in `isolated`. `id_of` says which
    delivery an item is of.

    Where one raises, the work of all is done once more: all at once costs less than each by itself, and nearly always
    does.
    """
    done = unless_it_raises(lambda: [work(item) for item in items])
    if done is not None:
        return done

    def by_itself(item: S) -> T:
        return isolated(partial(work, item), otherwise=lambda _: otherwise(item), step=step, delivery_id=id_of(item))

    return [by_itself(item) for item in items]
