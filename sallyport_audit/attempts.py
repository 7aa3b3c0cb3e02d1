"""Attempts, which are sealed in intervals: the root of a Merkle tree over them is an entry of the chain."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sallyport_audit.chain import Tampered, canonical


@dataclass(slots=True, kw_only=True)
class Attempts:
    """What an export has of the attempts of its intervals. The leaves of an interval come first, then its attempts in
    the order of the leaves."""

    sealed: int = 0
    shown: int = 0
    intervals: int = 0
    _begun: set[str] = field(default_factory=set)
    _rest: list[str] = field(default_factory=list)

    def begin(self, interval: Mapping[str, Any], *, seals: Mapping[str, Mapping[str, Any]], line: int) -> None:
        """Takes the leaves of an interval. Raises Tampered where they are not those that the chain has the root of."""
        leaves = interval["leaves"]
        seal = seals.get(str(interval.get("seal")))
        if interval["seal"] in self._begun:
            raise Tampered(f"line {line}: this interval is here twice")
        if seal is None:
            raise Tampered(f"line {line}: the chain has no entry of this interval")
        try:
            root_is_right = root([bytes.fromhex(leaf) for leaf in leaves]).hex() == seal.get("root")
        except (TypeError, ValueError):
            root_is_right = False
        if not root_is_right or len(leaves) != seal.get("count"):
            raise Tampered(f"line {line}: these are not the leaves that were sealed")
        self._begun.add(interval["seal"])
        self.intervals += 1
        self.sealed += len(leaves)
        self._rest = list(reversed(leaves))

    def take(self, attempt: Mapping[str, Any], *, line: int) -> None:
        """Takes the next attempt of the interval. Raises Tampered where it is not one of those that were sealed."""
        hashed = leaf(canonical(attempt).encode()).hex()
        while self._rest:
            if self._rest.pop() == hashed:
                self.shown += 1
                return
        raise Tampered(f"line {line}: this attempt was not sealed as it is here, or not at this place")


def leaf(data: bytes) -> bytes:
    """The hash of a leaf (RFC 9162 section 2.1)."""
    return hashlib.sha256(b"\0" + data).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over the hashes of its leaves (RFC 9162 section 2.1): the left half of a tree has the
    largest power of two of leaves that is less than all."""
    if not leaves:
        return hashlib.sha256().digest()
    level = list(leaves)
    while len(level) > 1:
        paired = [
            hashlib.sha256(b"\1" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        level = paired + level[len(paired) * 2 :]
    return level[0]
