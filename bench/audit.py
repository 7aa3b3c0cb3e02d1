"""What the audit log costs: instructions to seal an attempt beside those to make it, and the verifier's time."""

import hashlib
import json
import resource
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.events import LambdaEvent
from bench.figures import heading, say, skipped
from bench.instructions import ATTEMPT, RECORDED, Work, count
from bench.rows import pending
from bench.stage import Stage, superuser

ENTRIES = 1_000_000
INTERVAL_ATTEMPTS = 2000
TENANT = "01a203c1-9b1c-7d23-b1de-8f3c0c7e51aa"


def run(stage: Stage) -> None:
    """Both, one after the other."""
    _seal(stage)
    _verify(stage)


def _seal(stage: Stage) -> None:
    """Of the process that seals; reading and writing rows in PostgreSQL is not counted."""
    if shutil.which("valgrind") is None:
        skipped("sealing", "valgrind is not installed (on Debian and Ubuntu: apt install valgrind)")
        return
    per_interval = stage.times(INTERVAL_ATTEMPTS)
    heading(f"Instructions to seal an attempt, in intervals of {per_interval:,}, under callgrind")
    work = Work(
        ours="bench.sealing:handler",
        plain="",
        status=None,
        per_call=per_interval,
        events=lambda calls: [_recorded(stage, per_interval) for _ in range(calls)],
    )
    sealing = count(stage, work.ours, work, warm_up=1, calls=2)
    making = json.loads(RECORDED.read_text(encoding="utf-8"))[ATTEMPT]["ours"]
    say(f"{sealing:,} to seal an attempt, {making:,} to make one (recorded): {100 * sealing / making:.1f} %.")


def _recorded(stage: Stage, number: int) -> LambdaEvent:
    """An event, and so many attempts that one transaction recorded."""
    ids = pending(stage, number)
    with closing(superuser(stage)) as session:
        session.connection().execute(
            """
            INSERT INTO attempt (
                attempt_id, delivery_id, number, outcome, started_at, total_ms, remote_address, egress_address, status,
                response_headers, response_body, response_length, response_sha256, response_truncated)
            SELECT gen_random_uuid(), id, 1, 'answered', now(), 12.5, '203.0.113.7', '198.51.100.10', 200,
                   '[["Content-Type", "application/json"], ["Date", "Mon, 02 Nov 2026 09:30:00 GMT"]]', '{}', 2,
                   sha256('{}'), false
            FROM unnest(%(ids)s::uuid[]) AS listed (id)
            """,
            {"ids": ids},
        )
    return {}


def _verify(stage: Stage) -> None:
    """A million entries, verified by the command as people call it, against a checkpoint of the last one."""
    entries = stage.times(ENTRIES)
    heading(f"The audit log's verifier, {entries:,} entries, one process")
    with TemporaryDirectory() as folder:
        export, known = Path(folder, "export.jsonl"), Path(folder, "checkpoints.jsonl")
        known.write_text(json.dumps(_written(export, entries)), encoding="utf-8")
        used_before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        began = time.perf_counter()
        command = [sys.executable, "-m", "sallyport_audit", "verify", str(export), "--checkpoints", str(known)]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        say(said.stdout.strip())
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used_before
        say(f"{export.stat().st_size / 1e6:.0f} MB in {seconds:.1f} s, of which {used:.1f} s are processor time.")


def _written(export: Path, entries: int) -> dict[str, object]:
    """Writes so many entries of changed destinations; the checkpoint of the last one."""
    previous = "0" * 64
    with export.open("w", encoding="utf-8") as file:
        for sequence in range(1, entries + 1):
            entry: dict[str, object] = {
                "at": f"2026-11-{1 + sequence * 20 // (entries + 1):02}T09:30:00.000000Z",
                "content": _content(sequence),
                "previous": previous,
                "sequence": sequence,
            }
            previous = hashlib.sha256(_canonical(entry).encode()).hexdigest()
            file.write(_canonical(entry | {"hash": previous}) + "\n")
    return {"tenant_id": TENANT, "sequence": entries, "hash": previous}


def _content(sequence: int) -> dict[str, object]:
    return {
        "by": f"01a203c1-9b1c-7d23-b1de-{sequence % 50:012x}",
        "details": {},
        "entry_id": f"01a203c1-9b1c-7d23-8000-{sequence:012x}",
        "members": ["auth", "timeouts"],
        "on": f"01a203c3-0d5e-7c11-8a4f-{sequence % 1000:012x}",
        "source_address": "198.51.100.7",
        "tenant_id": TENANT,
        "what": "destination.changed",
    }


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
