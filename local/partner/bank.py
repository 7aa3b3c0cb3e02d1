"""What the partner remembers: payments, rules, who may call, and what it counted. All of it is bounded."""

import hmac
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from local.partner.ledger import PaymentLedger
from local.partner.rules import PathRules

_REMEMBERED_AT_MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The credentials that the partner accepts; the defaults are printed in docs/partner.md and secure nothing.

    `public_keys` are PEM texts by key id, for signatures and for private_key_jwt.
    """

    bearer: str = "demo-token"
    user: str = "demo"
    password: str = "demo-password"  # noqa: S105 - in the documentation
    headers: tuple[tuple[str, str], ...] = (("X-Api-Key", "demo-key"),)
    client_id: str = "demo"
    client_secret: str = "demo-secret"  # noqa: S105 - in the documentation
    signing_secret: str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of Standard Webhooks' examples
    public_keys: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BankToken:
    """`bound_to` is the SHA-256 of the certificate that it was issued to, None where it is bound to none."""

    expires_at: float
    bound_to: str | None


class Remembered[K: Hashable, V]:
    """The newest entries of a mapping, for many threads."""

    def __init__(self, at_most: int = _REMEMBERED_AT_MOST) -> None:
        self._at_most = at_most
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """None where it is not known, or not any more."""
        with self._lock:
            return self._entries.get(key)

    def update(self, key: K, new: Callable[[V | None], V]) -> V:
        """What `new` makes of the entry, or of None."""
        with self._lock:
            value = self._entries[key] = new(self._entries.get(key))
            self._entries.move_to_end(key)
            if len(self._entries) > self._at_most:
                self._entries.popitem(last=False)
            return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()


@dataclass(slots=True, kw_only=True)
class Bank:
    """`stopping` is set when the partner stops: whatever waits then goes on."""

    clock: Callable[[], float] = time.time
    stopping: threading.Event = field(default_factory=threading.Event)
    accepted: Accepted = field(default_factory=Accepted)
    rules: PathRules = field(default_factory=PathRules)
    counters: Counter[str] = field(default_factory=Counter)
    ledger: PaymentLedger = field(init=False)
    tokens: Remembered[str, BankToken] = field(default_factory=Remembered)
    assertions: Remembered[str, int] = field(default_factory=Remembered)
    _seen: Remembered[tuple[str, str], int] = field(default_factory=Remembered)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.ledger = PaymentLedger(self.clock)

    def wait(self, seconds: float) -> None:
        """Returns early when the partner stops."""
        self.stopping.wait(seconds)

    def count(self, name: str) -> None:
        """One more of `name`, which comes from a set that is known beforehand."""
        with self._lock:
            self.counters[name] += 1

    def times(self, step: str, key: str) -> int:
        """The how manyth call this is of `key` at `step`, from 1."""
        return self._seen.update((step, key), lambda before: (before or 0) + 1)

    def accept(self, change: Callable[[Accepted], Accepted]) -> None:
        """Other credentials from now on."""
        with self._lock:
            self.accepted = change(self.accepted)

    def issue(self, *, seconds: float, bound_to: str | None) -> str:
        """A new access token."""
        token = secrets.token_urlsafe(24)
        issued = BankToken(expires_at=self.clock() + seconds, bound_to=bound_to)
        self.tokens.update(token, lambda _: issued)
        self.count("tokens_issued")
        return token

    def reset(self) -> None:
        """As it was at the start."""
        self.rules.clear()
        self.ledger.clear()
        self.tokens.clear()
        self.assertions.clear()
        self._seen.clear()
        with self._lock:
            self.counters.clear()
            self.accepted = Accepted()


def same(given: str, expected: str) -> bool:
    """Compared in the same time whatever is wrong with it."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
