"""Contract tests read files and start programs of ours; whatever opens a socket here fails."""

from tests.unit.conftest import closed_sockets

__all__ = ["closed_sockets"]
