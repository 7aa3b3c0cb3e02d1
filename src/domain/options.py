"""The options of a destination: whatever is said of one, is not secret and has no column of its own.

Each member is a type of a module of its own, and None where it was not given. The database stores them as one JSON
object by these names (db/destinations.py), so a name is never changed, nor used for something else.
"""

from dataclasses import dataclass

from domain.allow import AllowRule
from domain.signing import Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationOptions:
    """All options of one destination."""

    allow: AllowRule | None = None
    signing: tuple[Scheme, ...] | None = None


PLAIN = DestinationOptions()  # of most destinations: one value that is shared
