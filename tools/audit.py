"""Looks up the known weaknesses of what ships: `make audit OSV=all.zip`.

The source is a file: the export of OSV's database for PyPI, which has the advisories of GitHub, PyPA and others. So the
look-up tells nobody what is installed, works without a network, and can be repeated with the same file. The newest
entry says how old it is. The form is that of https://ossf.github.io/osv-schema/.
"""

import argparse
import lzma
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from rich.console import Console
from rich.table import Column, Table

from tools.package import pinned

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
ENTRY_LIMIT_BYTES = 5_000_000  # an advisory has some kilobytes
WORDS_MAX = 120  # of a description: PyPA's have no summary
TOTAL_LIMIT_BYTES = 4_000_000_000  # of all entries; the export has some hundred megabytes
FOUND, REFUSED = 1, 2
_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


class RangeEvent(msgspec.Struct):
    """One end of a range of versions."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None


class VersionRange(msgspec.Struct):
    """Versions in their order, ECOSYSTEM for PyPI's; GIT names commits, which a package has none of."""

    type: str
    events: list[RangeEvent] = []


class AffectedPackage(msgspec.Struct):
    """Which versions of one package are weak."""

    package: dict[str, str] = {}
    ranges: list[VersionRange] = []
    versions: list[str] = []


class Advisory(msgspec.Struct):
    """One entry of the database."""

    id: str
    modified: str
    summary: str = ""
    details: str = ""
    withdrawn: str | None = None
    aliases: list[str] = []
    affected: list[AffectedPackage] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakness:
    """A pinned version that advisories are about. `fixed` names the versions that no longer have it, perhaps none."""

    name: str
    version: str
    names: tuple[str, ...]
    words: str
    fixed: tuple[str, ...]


class AuditError(Exception):
    """The database cannot be read. The message is one line."""


def main(arguments: list[str] | None = None) -> int:
    """Prints what is known. Returns 0 where nothing is, 1 where something is, 2 where nothing can be said."""
    parser = argparse.ArgumentParser(prog="make audit")
    parser.add_argument("--osv", type=Path, required=True)
    parser.add_argument("--requirements", type=Path, default=ROOT / "src/requirements.txt")
    asked = parser.parse_args(arguments)
    try:
        pins = _pins(asked.requirements)
        advisories = list(read(asked.osv, pins))
        newest_entry = newest(asked.osv)
    except AuditError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    found = merged(weaknesses(pins, advisories))
    _print(found, pins=pins, newest=newest_entry)
    return FOUND if found else 0


def _pins(requirements: Path) -> dict[str, str]:
    try:
        pins = pinned(requirements)
    except (OSError, ValueError) as error:
        raise AuditError(f"{requirements} cannot be read ({error})") from None
    if not pins:
        raise AuditError(f"{requirements} pins nothing, so there is nothing to look up")
    for name, version in pins.items():
        try:
            Version(version)
        except InvalidVersion:
            raise AuditError(f"{requirements} pins {name} to {version!r}, which is no version") from None
    return pins


def read(database: Path, pins: Mapping[str, str]) -> Iterator[Advisory]:
    """The advisories about any version of a pinned package. Raises AuditError."""
    for advisory in _advisories(database):
        if any(_name(affected) in pins for affected in advisory.affected):
            yield advisory


def newest(database: Path) -> str:
    """When the newest entry was changed, as its text. Raises AuditError."""
    return max(advisory.modified for advisory in _advisories(database))


def _advisories(database: Path) -> Iterator[Advisory]:
    decoder = msgspec.json.Decoder(Advisory)
    for name, content in _entries(database):
        try:
            yield decoder.decode(content)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise AuditError(f"{database}: {name} is no advisory of OSV: {error}") from None


def _entries(database: Path) -> Iterator[tuple[str, bytes]]:
    """Each by its place in the archive, since two may have one name, and no more than the limits."""
    read_bytes = 0
    try:
        with zipfile.ZipFile(database) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".json")]
            if not entries:
                raise AuditError(f"{database} has no advisories. Get OSV's export for PyPI: {SOURCE}")
            for entry in entries:
                with archive.open(entry) as opened:
                    content = opened.read(ENTRY_LIMIT_BYTES + 1)
                read_bytes += len(content)
                if len(content) > ENTRY_LIMIT_BYTES or read_bytes > TOTAL_LIMIT_BYTES:
                    raise AuditError(f"{database}: with {entry.filename!r} it is larger than an export can be")
                yield entry.filename, content
    except _UNREADABLE as error:
        raise AuditError(
            f"{database} cannot be read as a zip file ({error}). Get OSV's export for PyPI: {SOURCE}"
        ) from None


def weaknesses(pins: Mapping[str, str], advisories: Iterable[Advisory]) -> Iterator[Weakness]:
    """What the advisories say of the pinned versions."""
    for advisory in advisories:
        for affected in [] if advisory.withdrawn else advisory.affected:
            name = _name(affected)
            if affected.package.get("ecosystem") == "PyPI" and name in pins and _is_affected(pins[name], affected):
                fixed = (event.fixed for one in affected.ranges if one.type == "ECOSYSTEM" for event in one.events)
                yield Weakness(
                    name=name,
                    version=pins[name],
                    names=(advisory.id, *advisory.aliases),
                    words=_words(advisory),
                    fixed=tuple(version for version in fixed if version),
                )


def _words(advisory: Advisory) -> str:
    """The summary, else how the details begin."""
    words = " ".join((advisory.summary or advisory.details).split())
    return words if len(words) <= WORDS_MAX else f"{words[:WORDS_MAX].rpartition(' ')[0]} ..."


def merged(found: Iterable[Weakness]) -> list[Weakness]:
    """One for each weakness: the export has it from several databases, which name each other as aliases."""
    apart: list[Weakness] = []
    for weakness in found:
        same = [other for other in apart if other.name == weakness.name and {*other.names} & {*weakness.names}]
        apart = [other for other in apart if other not in same]
        apart.append(_together([*same, weakness]))
    return apart


def _together(same: list[Weakness]) -> Weakness:
    return Weakness(
        name=same[0].name,
        version=same[0].version,
        names=tuple(dict.fromkeys(name for weakness in same for name in weakness.names)),
        words=min((weakness.words for weakness in same if weakness.words), key=len, default=""),
        fixed=tuple(dict.fromkeys(version for weakness in same for version in weakness.fixed)),
    )


def _name(affected: AffectedPackage) -> str:
    return canonicalize_name(affected.package.get("name", ""))


def _is_affected(pin: str, affected: AffectedPackage) -> bool:
    """By the evaluation that the schema describes: named, or within a range."""
    version = Version(pin)
    if any(version == _version(listed) for listed in affected.versions):
        return True
    return any(_is_within(version, one) for one in affected.ranges if one.type == "ECOSYSTEM")


def _is_within(version: Version, one: VersionRange) -> bool:
    """A beginning that is no version counts as the first, and an end that is none ends nothing: what cannot be
    compared counts as weak."""
    beginnings = [(_version(event.introduced) or Version("0"), 1) for event in one.events if event.introduced]
    fixes = [(_version(event.fixed), 0) for event in one.events if event.fixed]
    lasts = [(_version(event.last_affected), 2) for event in one.events if event.last_affected]
    inside = False
    for place, kind in sorted((place, kind) for place, kind in (*beginnings, *fixes, *lasts) if place is not None):
        if kind == 1:
            inside = inside or version >= place
        else:
            inside = inside and (version < place if kind == 0 else version <= place)
    return inside


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _print(found: list[Weakness], *, pins: Mapping[str, str], newest: str) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not found:
        console.print(f"None of the {len(pins)} packages that ship has a known weakness, as of {newest}.")
        return
    table = Table(*(Column(head, overflow="fold") for head in ("package", "version", "advisory", "what", "fixed in")))
    for weakness in found:
        names, fixed = ", ".join(weakness.names), ", ".join(weakness.fixed) or "-"
        cells = (weakness.name, weakness.version, names, weakness.words, fixed)
        table.add_row(*map(_printable, cells))
    console.print(table)
    console.print(f"{len(found)} known weaknesses in what ships, as of {newest}.")


def _printable(text: str) -> str:
    """Without what a terminal obeys: anybody may write an advisory."""
    return "".join(character if character.isprintable() else "?" for character in text)


if __name__ == "__main__":
    sys.exit(main())
