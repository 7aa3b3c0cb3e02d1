"""Looks up the known weaknesses of what ships: `make audit OSV=all.zip`.

The source is a file: the export of OSV's database for PyPI, which has the advisories of GitHub, PyPA and others. So the
look-up tells nobody what is installed, works without a network, and can be repeated with the same file. The newest
entry says how old it is. The form is that of https://ossf.github.io/osv-schema/.
"""

import argparse
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from packaging.version import InvalidVersion, Version
from rich.console import Console
from rich.table import Table

from tools.package import pinned

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
ENTRY_LIMIT_BYTES = 5_000_000  # an advisory has some kilobytes
FOUND, REFUSED = 1, 2
_LIKE_A_PIN = bytes.maketrans(b"_.", b"--")  # as PyPI compares names


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
    withdrawn: str | None = None
    aliases: list[str] = []
    affected: list[AffectedPackage] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakness:
    """A pinned version that an advisory is about. `fixed` names the versions that no longer have it, perhaps none."""

    name: str
    version: str
    advisory: Advisory
    fixed: tuple[str, ...]


class AuditError(Exception):
    """The database cannot be read. The message is one line."""


def main(arguments: list[str] | None = None) -> int:
    """Prints what is known. Returns 0 where nothing is, 1 where something is, 2 where nothing can be said."""
    parser = argparse.ArgumentParser(prog="make audit")
    parser.add_argument("--osv", type=Path, required=True)
    parser.add_argument("--requirements", type=Path, default=ROOT / "src/requirements.txt")
    asked = parser.parse_args(arguments)
    pins = pinned(asked.requirements)
    try:
        advisories = list(read(asked.osv, pins))
    except AuditError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    found = list(weaknesses(pins, advisories))
    _print(found, pins=pins, newest=newest(asked.osv))
    return FOUND if found else 0


def read(database: Path, pins: Mapping[str, str]) -> Iterator[Advisory]:
    """The advisories about any version of a pinned package. Raises AuditError."""
    decoder = msgspec.json.Decoder(Advisory)
    for name, content in _entries(database):
        if not any(pin.encode() in content.lower().translate(_LIKE_A_PIN) for pin in pins):
            continue  # most are about other packages, and are not decoded
        try:
            yield decoder.decode(content)
        except msgspec.MsgspecError as error:
            raise AuditError(f"{database}: {name} is no advisory of OSV: {error}") from None


def newest(database: Path) -> str:
    """When the newest entry was changed, as its text; '' where there is none."""
    decoder = msgspec.json.Decoder(Advisory)
    return max((decoder.decode(content).modified for _, content in _entries(database)), default="")


def _entries(database: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(database) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json")]
            if not names:
                raise AuditError(f"{database} has no advisories. Get OSV's export for PyPI: {SOURCE}")
            for name in names:
                with archive.open(name) as entry:
                    yield name, entry.read(ENTRY_LIMIT_BYTES)
    except (OSError, zipfile.BadZipFile) as error:
        raise AuditError(
            f"{database} cannot be read as a zip file ({error}). Get OSV's export for PyPI: {SOURCE}"
        ) from None


def weaknesses(pins: Mapping[str, str], advisories: Iterable[Advisory]) -> Iterator[Weakness]:
    """What the advisories say of the pinned versions."""
    for advisory in advisories:
        for affected in [] if advisory.withdrawn else advisory.affected:
            name = affected.package.get("name", "").lower().replace("_", "-").replace(".", "-")
            if affected.package.get("ecosystem") == "PyPI" and name in pins and _is_affected(pins[name], affected):
                fixed = (event.fixed for one in affected.ranges if one.type == "ECOSYSTEM" for event in one.events)
                yield Weakness(
                    name=name,
                    version=pins[name],
                    advisory=advisory,
                    fixed=tuple(version for version in fixed if version),
                )


def _is_affected(version: str, affected: AffectedPackage) -> bool:
    """By the evaluation that the schema describes: named, or within a range."""
    if version in affected.versions:
        return True
    return any(_is_within(Version(version), one) for one in affected.ranges if one.type == "ECOSYSTEM")


def _is_within(version: Version, one: VersionRange) -> bool:
    inside = False
    for event in sorted(one.events, key=_where):
        if event.introduced is not None:
            inside = inside or version >= _version(event.introduced)
        elif event.fixed is not None:
            inside = inside and version < _version(event.fixed)
        elif event.last_affected is not None:
            inside = inside and version <= _version(event.last_affected)
    return inside


def _where(event: RangeEvent) -> Version:
    return _version(event.introduced or event.fixed or event.last_affected or "0")


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")  # a version that PyPI itself would refuse: counted as weak from the start


def _print(found: list[Weakness], *, pins: Mapping[str, str], newest: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if not found:
        console.print(f"None of the {len(pins)} packages that ship has a known weakness, as of {newest}.")
        return
    table = Table("package", "version", "advisory", "what", "fixed in")
    for weakness in found:
        names = ", ".join((weakness.advisory.id, *weakness.advisory.aliases))
        table.add_row(
            weakness.name, weakness.version, names, weakness.advisory.summary, ", ".join(weakness.fixed) or "-"
        )
    console.print(table)
    console.print(f"{len(found)} known weaknesses in what ships, as of {newest}.")


if __name__ == "__main__":
    sys.exit(main())
