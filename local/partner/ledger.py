"""What the bank did: one entry for each payment that was executed or rejected, never one for a repeated answer.

So two entries of one idempotency key are two payments, and a payment that the caller knows nothing of is here.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from local.partner.calls import Call

ENTRIES_AT_MOST = 10_000  # the oldest go


class PaymentKeyReused(Exception):
    """The idempotency key came before with another request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """`key` is empty without an Idempotency-Key; `asked` counts the requests that ended here. `seen_from` is the Unix
    time from which the bank's own records show it."""

    number: int
    key: str
    state: str
    fingerprint: str
    body: str
    done_at: float
    seen_from: float
    asked: int = 1

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "number": self.number,
            "key": self.key,
            "state": self.state,
            "body": self.body,
            "done_at": self.done_at,
            "asked": self.asked,
        }


class PaymentLedger:
    """Bounded, and safe to use from many threads. `clock` returns Unix time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._payments: dict[int, Payment] = {}
        self._by_key: dict[str, int] = {}
        self._last = 0

    def do(self, call: Call, *, state: str, honours_key: bool = True, delay_seconds: float = 0) -> tuple[Payment, bool]:
        """The payment, and whether it was made before. Raises PaymentKeyReused.

        Without a key, or where the bank ignores it, every request is another payment.
        """
        fingerprint = hashlib.sha256(b"\0".join((call.method.encode(), call.path.encode(), call.body))).hexdigest()
        with self._lock:
            known = self._payments.get(self._by_key.get(call.idempotency_key, 0))
            if honours_key and call.idempotency_key and known is not None:
                return self._again(known, fingerprint), True
            return self._new(call, state, fingerprint, delay_seconds), False

    def find(self, key: str, *, lag_seconds: float = 0) -> Payment | None:
        """The newest payment of `key`, if the records show it and have done so for `lag_seconds`."""
        with self._lock:
            payment = self._payments.get(self._by_key.get(key, 0))
            return payment if payment is not None and self._is_seen(payment, lag_seconds) else None

    def page(self, *, after: int = 0, limit: int, key: str | None = None, lag_seconds: float = 0) -> list[Payment]:
        """The oldest payments with a number above `after`; None as the key is all keys."""
        with self._lock:
            found = (
                payment
                for payment in self._payments.values()
                if payment.number > after and key in (None, payment.key) and self._is_seen(payment, lag_seconds)
            )
            return list(islice(found, limit))

    def newest(self, limit: int) -> list[Payment]:
        """The newest first, those included that the records do not show yet."""
        with self._lock:
            return list(islice(reversed(self._payments.values()), limit))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._payments.clear()
            self._by_key.clear()

    def __len__(self) -> int:
        return len(self._payments)

    def _again(self, known: Payment, fingerprint: str) -> Payment:
        if known.fingerprint != fingerprint:
            raise PaymentKeyReused
        again = replace(known, asked=known.asked + 1)
        self._payments[known.number] = again
        return again

    def _new(self, call: Call, state: str, fingerprint: str, delay_seconds: float) -> Payment:
        now = self._clock()
        self._last += 1
        payment = Payment(
            number=self._last,
            key=call.idempotency_key,
            state=state,
            fingerprint=fingerprint,
            body=call.body[:1024].decode("utf-8", "replace"),
            done_at=now + delay_seconds,
            seen_from=now + delay_seconds,
        )
        self._payments[payment.number] = payment
        if payment.key:
            self._by_key[payment.key] = payment.number
        if len(self._payments) > ENTRIES_AT_MOST:
            self._drop(next(iter(self._payments.values())))
        return payment

    def _drop(self, oldest: Payment) -> None:
        del self._payments[oldest.number]
        if self._by_key.get(oldest.key) == oldest.number:
            del self._by_key[oldest.key]

    def _is_seen(self, payment: Payment, lag_seconds: float) -> bool:
        return payment.seen_from + lag_seconds <= self._clock()
