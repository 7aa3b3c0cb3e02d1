"""What the flows need: built once per process by the handlers, and passed to every flow."""

from collections.abc import Callable
from dataclasses import field
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from uuid import UUID

from db.connection import Database
from db.deliveries import Lease
from domain.ids import RANDOM_BYTES, LeaseId, uuid7
from domain.limits import USUAL_WORKERS
from domain.values import value_class
from egress.addresses import REMEMBERED, Guard
from egress.client import Client
from egress.seal_keys import SealKeyRing, SealKeys
from egress.sealing import SealKey
from flows.groups import WakeupGroups
from flows.probes import Probes
from runtime.settings import EgressAddress
from wakeups.sqs import WakeupQueue

if TYPE_CHECKING:
    from wakeups.event_bus import EventBus

# RFC 1918 and RFC 6598: what the internet does not route is reached without the NAT gateway, over a VPN or a peering
# connection.
_PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))


@value_class(frozen=True, slots=False, kw_only=True)
class Services:
    """The outside world of one process.

    `load_seal_keys` is called only at the first use of a key: most calls do not need it. `own_zone` returns the name
    of the zone that this process runs in, None where it is not known. `chance` returns numbers in [0, 1), `randomness`
    that many random bytes; tests pass their own, as they do for `clock` (aware, UTC). `retention_days` is for how many
    days after their end deliveries are stored. `workers` is how many batches of
    attempts may be made at once. `event_bus` is where events go, too; None where the stack names none.
    """

    database: Database
    queue: WakeupQueue
    client: Client
    guard: Guard
    load_seal_keys: Callable[[], SealKeys]
    egress_addresses: tuple[EgressAddress, ...]
    own_zone: Callable[[], str | None]
    lease_seconds: int
    clock: Callable[[], datetime]
    chance: Callable[[], float]
    randomness: Callable[[int], bytes]
    sleep: Callable[[float], None]
    groups: WakeupGroups = field(default_factory=WakeupGroups)
    probes: Probes = field(default_factory=Probes)
    event_bus: "EventBus | None" = None
    retention_days: int = 90
    workers: int = USUAL_WORKERS

    @cached_property
    def seal_keys(self) -> SealKeyRing:
        """The keys that credentials are opened with."""
        return SealKeyRing(self.load_seal_keys, clock=self.clock)

    @property
    def seal_key(self) -> SealKey:
        """The key that credentials are sealed with from now on. Raises SecretUnavailable."""
        return self.seal_keys.sealing

    @cached_property
    def egress_address(self) -> str | None:
        """The address that every request of this process leaves from; None where that is not known.

        Where zones have different ones the zone is looked up, once: a process does not move.
        """
        addresses = {fixed.address for fixed in self.egress_addresses}
        if len(addresses) > 1:
            zone = self.own_zone()
            addresses = {fixed.address for fixed in self.egress_addresses if fixed.availability_zone == zone}
        return addresses.pop() if len(addresses) == 1 else None

    def address_towards(self, remote_address: str | None) -> str | None:
        """The fixed address that a request to `remote_address` left from; None where nothing left, where it is not
        known, and where the destination is in a private network, which sees a private address of ours."""
        if remote_address is None or _is_private(remote_address):
            return None
        return self.egress_address

    def new_id(self, now: datetime) -> UUID:
        """A new UUIDv7."""
        return uuid7(now=now, randomness=self.randomness(RANDOM_BYTES))

    def new_lease(self, now: datetime) -> Lease:
        """A lease from now on, long enough to outlive the function that holds it."""
        return Lease(lease_id=LeaseId(self.new_id(now)), until=now + timedelta(seconds=self.lease_seconds))


@lru_cache(maxsize=REMEMBERED)
def _is_private(address: str) -> bool:
    parsed = ip_address(address)
    return any(parsed in network for network in _PRIVATE)
