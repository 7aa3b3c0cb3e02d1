"""The worker with a mistake: it sends what a worker before it may have sent."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from faults import shifted

attempt: Callable[[Any, Any], Any] = shifted.attempt

from flows import prepare  # noqa: E402 - the handler imports it with the clock in place

_rightly = prepare._prepared
prepare._prepared = lambda claim, *rest: _rightly(replace(claim, lapsed=False), *rest)
