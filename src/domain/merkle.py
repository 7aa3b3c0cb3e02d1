"""A Merkle tree over records, as in RFC 9162 section 2.1: its root says which records there are, and in which order."""

from collections.abc import Sequence
from hashlib import sha256


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over the hashes of the leaves: nodes are paired from the left, and one without a partner moves up."""
    level = list(leaves)
    while len(level) > 1:
        pairs = [sha256(b"\1" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0] if level else sha256().digest()
