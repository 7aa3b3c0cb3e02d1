"""Seals one interval of attempts, as the attempt function does beside its work: a handler to count instructions of."""

from typing import Any

from flows.seal_attempts import seal_attempts
from handlers import wiring


def handler(_event: dict[str, Any], _context: object) -> dict[str, Any]:
    """How many were sealed."""
    return {"sealed": seal_attempts(services=wiring.attempt())}
