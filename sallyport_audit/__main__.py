"""Verifies an export of the audit log: `python -m sallyport_audit verify export.jsonl --checkpoints checkpoints.jsonl`.

Exit status 0: nothing was changed. 1: something was. 2: the command or a file cannot be read.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sallyport_audit.attempts import Attempts
from sallyport_audit.chain import EntryChain, KnownHash, Tampered, objects

UNATTESTED = (
    "no checkpoint was given for its end, so a missing tail, or a chain that was wholly rewritten, would not show"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = _options(arguments)
    began = time.perf_counter()
    try:
        checkpoints = [known for path in options.checkpoints for known in read_checkpoints(path)]
        with options.export.open("rb") as lines:
            report = verify(lines, checkpoints, part=options.part, complete=options.complete)
    except Tampered as fault:
        sys.stdout.write(f"NOT VERIFIED: {fault}\n")
        return 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot verify: {error}\n")
        return 2
    sys.stdout.write(f"{report} ({time.perf_counter() - began:.1f} s)\n")
    return 0


def verify(
    lines: Iterable[bytes], checkpoints: Sequence[KnownHash] = (), *, part: bool = False, complete: bool = False
) -> str:
    """What was verified, in words. Raises Tampered where an entry or attempt was changed, added, taken away or moved.

    `part` says that the export has a range of the log, which need not begin with the first entry nor reach to the last
    checkpoint; `complete` that no attempt of its intervals may be missing.
    """
    chain, attempts = EntryChain(), Attempts()
    chain.watch(checkpoints)
    for number, text, found in objects(lines):
        if "leaves" in found:
            _check_members(found, {"leaves", "seal"}, number)
            attempts.begin(found, seals=chain.seals, line=number)
        elif "attempt" in found:
            _check_members(found, {"attempt"}, number)
            attempts.take(found["attempt"], line=number)
        else:
            chain.append(found, text, line=number)
    if not chain.tenant_id:
        raise Tampered("the export has no entries")
    agreed = chain.agree(checkpoints, part=part)
    sealed = sum(seal["count"] for seal in chain.seals.values())
    if complete and attempts.shown != sealed:
        raise Tampered(f"{sealed - attempts.shown} of {sealed} sealed attempts are missing")
    return _report(chain, attempts, agreed=agreed, attested=_attested(chain, checkpoints))


def _check_members(found: dict[str, Any], members: set[str], line: int) -> None:
    if set(found) != members:
        raise Tampered(f"line {line}: it is neither an entry nor an attempt")


def _attested(chain: EntryChain, checkpoints: Iterable[KnownHash]) -> bool:
    return any((known.tenant_id, known.sequence) == (chain.tenant_id, chain.last) for known in checkpoints)


def _report(chain: EntryChain, attempts: Attempts, *, agreed: int, attested: bool) -> str:
    said = f"verified {chain.last - chain.first + 1} entries, {chain.first} to {chain.last}, of {chain.tenant_id}"
    said += f"; {agreed} checkpoints agree"
    if attempts.intervals:
        said += (
            f"; {attempts.shown} of {attempts.sealed} attempts of {attempts.intervals} intervals are here, as sealed"
        )
    return said if attested else f"{said}; {UNATTESTED}"


def read_checkpoints(path: Path) -> list[KnownHash]:
    """From lines of JSON: objects of the bucket, or lines of the functions' log, of which those without a checkpoint
    are left out; of a folder from all its files that end in .jsonl. Raises ValueError where a file has none."""
    if path.is_dir():
        files = sorted(found for found in path.rglob("*.jsonl") if found.is_file())
        if not files:
            raise ValueError(f"{path} has no file that ends in .jsonl")
        return [known for file in files for known in read_checkpoints(file)]
    known = []
    for line in path.read_bytes().splitlines():
        found = json.loads(line)
        if not isinstance(found, dict):
            continue
        sequence, hashed = (found.get(f"audit_{name}", found.get(name)) for name in ("sequence", "hash"))
        if type(sequence) is int and isinstance(hashed, str):
            known.append(KnownHash(tenant_id=str(found.get("tenant_id")), sequence=sequence, hash=hashed))
    if not known:
        raise ValueError(f"{path} has no checkpoint")
    return known


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sallyport_audit", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("verify", help="verify an export")
    command.add_argument("export", type=Path, help="lines of GET /v1/audit/export, one tenant's, in their order")
    command.add_argument(
        "--checkpoints",
        type=Path,
        action="append",
        default=[],
        help="what the chain was known to be, a file or a folder; may be repeated",
    )
    command.add_argument("--part", action="store_true", help="the export is a range of the log and not all of it")
    command.add_argument("--complete", action="store_true", help="no attempt that was sealed may be missing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
