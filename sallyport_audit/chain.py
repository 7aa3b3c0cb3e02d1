"""The chain of entries: each line of an export, and how it follows the line before it."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

ZEROS = "0" * 64  # the hash before the first entry
_MEMBERS = {"at", "content", "hash", "previous", "sequence"}
_HEX = re.compile(r"[0-9a-f]{64}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class Tampered(Exception):
    """The export is not what was written. The message says in which line, and what is wrong there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHash:
    """What the chain was known to have been at some time: the hash of the entry with that number."""

    tenant_id: str
    sequence: int
    hash: str


@dataclass(slots=True, kw_only=True)
class EntryChain:
    """Entries that follow one another, read so far. `tenant_id` is empty before the first one."""

    tenant_id: str = ""
    first: int = 0
    last: int = 0
    last_hash: str = ""
    last_at: str = ""
    previous_of_first: str = ""
    seals: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _hashes: dict[int, str] = field(default_factory=dict)
    _wanted: frozenset[int] = frozenset()

    def watch(self, checkpoints: Iterable[KnownHash]) -> None:
        """Remembers the hashes of the entries that checkpoints are about."""
        self._wanted = frozenset(checkpoint.sequence for checkpoint in checkpoints)

    def append(self, entry: Mapping[str, Any], text: bytes, *, line: int) -> None:
        """Takes the next entry, whose line is `text`. Raises Tampered where it does not follow the last one."""
        _check_form(entry, line)
        if self.tenant_id:
            self._follows(entry, line)
        else:
            self.tenant_id = entry["content"]["tenant_id"]
            self.first, self.previous_of_first = entry["sequence"], entry["previous"]
        if entry["hash"] != _hash_of(entry, text):
            raise Tampered(f"line {line}: entry {entry['sequence']} does not have its own hash: it was changed")
        self.last, self.last_hash, self.last_at = entry["sequence"], entry["hash"], entry["at"]
        if self.last in self._wanted:
            self._hashes[self.last] = self.last_hash
        if entry["content"]["what"] == "attempts.sealed":
            self._seal(entry["content"], line)

    def _follows(self, entry: Mapping[str, Any], line: int) -> None:
        if entry["content"]["tenant_id"] != self.tenant_id:
            raise Tampered(f"line {line}: an entry of another tenant")
        if entry["sequence"] != self.last + 1:
            raise Tampered(f"line {line}: entry {entry['sequence']} follows entry {self.last}")
        if entry["previous"] != self.last_hash:
            raise Tampered(f"line {line}: entry {entry['sequence']} does not have the hash of the entry before it")
        if entry["at"] < self.last_at:
            raise Tampered(f"line {line}: entry {entry['sequence']} is older than the entry before it")

    def _seal(self, content: Mapping[str, Any], line: int) -> None:
        if type(content["details"].get("count")) is not int:
            raise Tampered(f"line {line}: entry {self.last} does not say how many attempts were sealed")
        self.seals[content["on"]] = content["details"]

    def agree(self, checkpoints: Sequence[KnownHash], *, part: bool) -> int:
        """How many checkpoints say the same as the chain. Raises Tampered where one does not, and where the chain lacks
        its beginning or ends before a checkpoint, unless only a `part` was exported."""
        agreed = sum(self._agrees(checkpoint, part=part) for checkpoint in checkpoints)
        if self.first == 1 and self.previous_of_first != ZEROS:
            raise Tampered("the first entry follows another one: entries before it were taken away")
        if self.first > 1 and not part:
            raise Tampered(f"the export begins with entry {self.first}: the entries before it are missing")
        return agreed

    def _agrees(self, checkpoint: KnownHash, *, part: bool) -> bool:
        if checkpoint.tenant_id != self.tenant_id:
            return False
        known = self._hashes.get(checkpoint.sequence)
        if checkpoint.sequence == self.first - 1:
            known = self.previous_of_first
        if known is None and checkpoint.sequence > self.last and not part:
            raise Tampered(
                f"the export ends with entry {self.last}, and a checkpoint knows of entry {checkpoint.sequence}"
            )
        if known is not None and known != checkpoint.hash:
            raise Tampered(
                f"entry {checkpoint.sequence} is not the one that a checkpoint knows: the chain was rewritten"
            )
        return known is not None


def _hash_of(entry: Mapping[str, Any], text: bytes) -> str:
    """SHA-256 over the canonical JSON of all members but the hash itself, which is cut out of the line: members are in
    the order of their names, so it stands right before the last two."""
    rest = f'"previous":"{entry["previous"]}","sequence":{entry["sequence"]}}}'.encode()
    before = text[: -len(rest) - len(f'"hash":"{entry["hash"]}",')]
    return hashlib.sha256(before + rest).hexdigest()


def canonical(value: object) -> str:
    """JSON that can be written in one way only: members by name, no spaces, no needless escapes (RFC 8785)."""
    return _ENCODE(value)


def objects(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Each line: its number from 1 on, its text, its object. Raises Tampered for one that is not canonical JSON of one
    object, to the byte, so that nothing can be hidden in how it is written."""
    for number, line in enumerate(lines, 1):
        text, end = line[:-1], line[-1:]
        if end != b"\n":
            raise Tampered(f"line {number}: it does not end: the file was cut")
        try:
            found = json.loads(text, parse_float=_refuse, parse_constant=_refuse)
            same = isinstance(found, dict) and canonical(found).encode() == text
        except (ValueError, RecursionError):
            raise Tampered(f"line {number}: it is not JSON as it is exported") from None
        if not same:
            raise Tampered(f"line {number}: it is not written as it was exported")
        yield number, text, found


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)


def _check_form(entry: Mapping[str, Any], line: int) -> None:
    content = entry.get("content")
    texts = [entry.get(name) for name in ("at", "hash", "previous")]
    if not (
        set(entry) == _MEMBERS
        and all(isinstance(text, str) for text in texts)
        and _MOMENT.fullmatch(entry["at"])
        and _HEX.fullmatch(entry["hash"])
        and _HEX.fullmatch(entry["previous"])
        and type(entry["sequence"]) is int
        and entry["sequence"] >= 1
        and isinstance(content, dict)
        and all(isinstance(content.get(name), str) for name in ("tenant_id", "what", "on"))
        and content["tenant_id"]
        and isinstance(content.get("details"), dict)
    ):
        raise Tampered(f"line {line}: it is not an entry of the audit log")
