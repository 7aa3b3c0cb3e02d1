"""How long the offline verifier takes for a large export of the audit log."""

import hashlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import heading, say
from bench.stage import Stage

ENTRIES = 1_000_000
TENANT = "01a203c1-9b1c-7d23-b1de-8f3c0c7e51aa"


def run(stage: Stage) -> None:
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
