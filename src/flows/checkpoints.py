"""Write the ends of the audit log's chains where the database's owner cannot change them."""

import hashlib
from datetime import timedelta

from db import audit
from domain.audit import AuditCheckpoint, Detail, canonical
from flows.audit import ActServices
from runtime.checkpoint_bucket import CheckpointBucket, NotStored
from runtime.observability import logger

RECENT_DAYS = 31  # a stack may be quiet for so long, and what was written last is then still in the next checkpoint
NAME_LETTERS = 16


class CheckpointWriter:
    """Of one process. It writes all chains that had an entry lately, and nothing where that is what it wrote last.

    Others may write the same: an object more, that says the same.
    """

    def __init__(self, bucket: CheckpointBucket) -> None:
        self._bucket = bucket
        self._last = b""

    def write(self, *, services: ActServices) -> None:
        """One object with a line for each chain. Raises DatabaseUnavailable; a bucket that takes nothing is logged, and
        tried again the next time."""
        now = services.clock()
        ends = audit.ends(services.database, since=now - timedelta(days=RECENT_DAYS))
        body = "".join(_line(end) for end in ends).encode()
        if not ends or body == self._last:
            return
        digest = hashlib.sha256(body).hexdigest()
        try:
            self._bucket.put(f"checkpoints/{now:%Y/%m/%d/%H%M%S}-{digest[:NAME_LETTERS]}.jsonl", body)
        except NotStored as error:
            logger.error("a checkpoint of the audit log was not stored", reason=str(error), count=len(ends))
            return
        self._last = body
        logger.info("checkpoint of the audit log stored", count=len(ends), sha256=digest)


def _line(end: AuditCheckpoint) -> str:
    content: dict[str, Detail] = {
        "at": f"{end.at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "hash": end.hash.hex(),
        "sequence": end.sequence,
        "tenant_id": str(end.tenant_id),
    }
    return canonical(content) + "\n"
