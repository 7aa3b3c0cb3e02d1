"""`make audit` finds what OSV's export says of the pinned versions, and says how old that is."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.making import make
from tools import audit

PINS = {"jmespath": "1.1.0", "psycopg-binary": "3.3.9"}


def advisory(name: str = "jmespath", *, ranges: Any = (), versions: Any = (), **more: Any) -> dict[str, Any]:
    events = [{"type": "ECOSYSTEM", "events": list(ranges)}] if ranges else []
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": events, "versions": list(versions)}
    return {"id": "GHSA-1", "modified": "2026-11-01T00:00:00Z", "summary": "bad", "affected": [affected], **more}


def export(path: Path, *advisories: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, entry in enumerate(advisories):
            archive.writestr(f"GHSA-{number}.json", json.dumps(entry))
    return path


@pytest.mark.parametrize(
    "entry",
    [
        advisory(versions=["1.0.0", "1.1.0"]),
        advisory(ranges=[{"introduced": "0"}]),
        advisory(ranges=[{"introduced": "0"}, {"fixed": "1.1.1"}]),
        advisory(ranges=[{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.1"}, {"fixed": "2"}]),
        advisory(ranges=[{"fixed": "2"}, {"introduced": "1.1"}]),  # in no order
        advisory(ranges=[{"introduced": "1.1.0rc1"}, {"last_affected": "1.1.0"}]),
        advisory("psycopg_binary", versions=["3.3.9"]),  # as PyPI compares names
        advisory(versions=["1.1"]),  # the same version
        advisory(ranges=[{"introduced": "0"}, {"fixed": "no version"}]),  # an end that cannot be compared is none
        advisory(ranges=[{"introduced": "0"}, {"last_affected": "no version"}]),
        advisory(ranges=[{"introduced": "no version"}]),
        advisory(ranges=[{"introduced": "1.0"}, {"fixed": "1.0.5"}, {"introduced": "1.0.5"}, {"fixed": "2"}]),
    ],
)
def test_a_pinned_version_that_is_weak_is_found(entry: dict[str, Any], tmp_path: Path) -> None:
    found = list(audit.weaknesses(PINS, audit.read(export(tmp_path / "all.zip", entry), PINS)))
    assert [weakness.version for weakness in found] == [PINS[found[0].name]]


@pytest.mark.parametrize(
    "entry",
    [
        advisory(versions=["1.0.0"]),
        advisory(ranges=[{"introduced": "0"}, {"fixed": "1.1.0"}]),
        advisory(ranges=[{"introduced": "1.1.1"}]),
        advisory(ranges=[{"introduced": "0"}, {"last_affected": "1.0.9"}]),
        advisory(versions=["1.1.0"], withdrawn="2026-11-02T00:00:00Z"),
        advisory("jmespath-extra", versions=["1.1.0"]),
        advisory(ranges=[{"last_affected": "1.0"}, {"introduced": "1.0"}]),  # of one version, in no order
        advisory(versions=["no version"]),
        {**advisory(), "affected": [{"package": {"ecosystem": "npm", "name": "jmespath"}, "versions": ["1.1.0"]}]},
    ],
)
def test_another_version_or_package_is_not(entry: dict[str, Any], tmp_path: Path) -> None:
    assert list(audit.weaknesses(PINS, audit.read(export(tmp_path / "all.zip", entry), PINS))) == []


def of_pypa(**more: Any) -> dict[str, Any]:
    """As PyPA's database has a weakness: no summary, commits beside versions, and every version listed."""
    package = {"ecosystem": "PyPI", "name": "jmespath", "purl": "pkg:pypi/jmespath"}
    commits = {"type": "GIT", "repo": "https://git.invalid/x", "events": [{"introduced": "0"}, {"fixed": "f09c261c"}]}
    versions = {"type": "ECOSYSTEM", "events": [{"introduced": "1.0"}, {"fixed": "1.1.1"}]}
    affected = {"package": package, "ranges": [commits, versions], "versions": ["1.0", "1.0b1", "1.1.0", "2.0.0-final"]}
    return {
        "id": "PYSEC-2026-1",
        "modified": "2026-02-17T07:18:27.688636Z",
        "published": "2026-01-29T19:15:00Z",
        "aliases": ["CVE-2026-1", "GHSA-xxxx"],
        "details": f"jmespath is a query language.\nIts {'very ' * 60}deep nesting",
        "affected": [affected],
        "references": [{"type": "WEB", "url": "https://pypa.invalid"}],
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}],
        **more,
    }


def of_github(**more: Any) -> dict[str, Any]:
    """As GitHub's has the same one: a summary, no list of versions, and members of its own."""
    versions = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1.1"}]}
    return {
        "schema_version": "1.4.0",
        "id": "GHSA-xxxx",
        "modified": "2026-01-29T21:50:16Z",
        "aliases": ["CVE-2026-1"],
        "summary": "jmespath recurses without an end",
        "details": "### Summary\n\nDeep.",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "jmespath"}, "ranges": [versions]}],
        "database_specific": {"cwe_ids": ["CWE-476"], "severity": "HIGH", "github_reviewed": True},
        **more,
    }


def test_one_weakness_of_two_databases_is_one_row_with_the_words_of_the_shorter(tmp_path: Path) -> None:
    entries = (of_pypa(), of_github(), of_github(id="GHSA-other", aliases=[], summary="another"))
    found = audit.merged(audit.weaknesses(PINS, audit.read(export(tmp_path / "all.zip", *entries), PINS)))
    assert [weakness.names for weakness in found] == [("PYSEC-2026-1", "CVE-2026-1", "GHSA-xxxx"), ("GHSA-other",)]
    assert [weakness.words for weakness in found] == ["jmespath recurses without an end", "another"]
    assert [weakness.fixed for weakness in found] == [("1.1.1",), ("1.1.1",)]


def test_a_weakness_without_a_summary_is_described_by_the_beginning_of_its_details(tmp_path: Path) -> None:
    (found,) = audit.weaknesses(PINS, audit.read(export(tmp_path / "all.zip", of_pypa()), PINS))
    assert found.words.startswith("jmespath is a query language. Its very")
    assert found.words.endswith(" very ...")
    assert len(found.words) <= audit.WORDS_MAX + 4


def test_the_page_says_what_is_weak_and_what_it_was_read_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = advisory("pycurl", versions=["7.49.0"], aliases=["CVE-2026-1"])
    newer = advisory("another", modified="2026-11-20T00:00:00Z")
    assert audit.main(["--osv", str(export(tmp_path / "all.zip", weak, newer))]) == audit.FOUND
    said = capsys.readouterr().out
    assert "CVE-2026-1" in said
    assert "1 known weaknesses in what ships, as of 2026-11-20T00:00:00Z." in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read as a zip file"),
        (b"no zip", "cannot be read as a zip file"),
        (export, "has no advisories"),
    ],
)
def test_a_file_that_says_nothing_is_refused_in_one_line(
    content: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.zip"
    if callable(content):
        content(path)
    elif content is not None:
        path.write_bytes(content)
    assert audit.main(["--osv", str(path)]) == audit.REFUSED
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_an_entry_that_is_none_is_named(tmp_path: Path) -> None:
    path = export(tmp_path / "all.zip", {"jmespath": 1})
    with pytest.raises(audit.AuditError, match=r"GHSA-0\.json is no advisory"):
        list(audit.read(path, PINS))


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(b"{", id="cut"),
        pytest.param(b'{"id": "\xff"}', id="no UTF-8"),
        pytest.param(b"[" * 200_000, id="deep"),
        pytest.param(b" " * (audit.ENTRY_LIMIT_BYTES + 1), id="long"),
    ],
)
def test_an_entry_about_anything_is_refused_in_one_line(
    entry: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = export(tmp_path / "all.zip", advisory("another"))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("GHSA-bad.json", entry)
    assert audit.main(["--osv", str(path)]) == audit.REFUSED
    assert capsys.readouterr().err.count("\n") == 1


def test_many_entries_that_inflate_are_refused_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "TOTAL_LIMIT_BYTES", 1000)
    with pytest.raises(audit.AuditError, match="larger than an export"):
        audit.newest(export(tmp_path / "all.zip", *[advisory("another")] * 10))


@pytest.mark.parametrize("place", [30, 60, 90])
def test_a_broken_archive_is_refused(place: int, tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("GHSA-0.json", json.dumps(advisory("another")))
    content = bytearray(path.read_bytes())
    content[place : place + 20] = b"\xff" * 20
    path.write_bytes(content)
    assert audit.main(["--osv", str(path)]) == audit.REFUSED


@pytest.mark.filterwarnings("ignore:Duplicate name")  # what is tested
def test_of_two_entries_with_one_name_both_are_read(tmp_path: Path) -> None:
    path = export(tmp_path / "all.zip", advisory(versions=["1.1.0"]))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("GHSA-0.json", json.dumps(advisory("another")))
    assert len(list(audit.weaknesses(PINS, audit.read(path, PINS)))) == 1


def test_an_advisory_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak = advisory("pycurl", versions=["7.49.0"], aliases=["[/red]"])
    weak["summary"] = "\x1b[2Jall is well [/bold]"
    assert audit.main(["--osv", str(export(tmp_path / "all.zip", weak))]) == audit.FOUND
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "[/bold]" in said


@pytest.mark.parametrize("text", [None, "", "# nothing\n", "jmespath==latest\n"])
def test_pins_that_cannot_be_looked_up_are_refused(text: str | None, tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    if text is not None:
        pins.write_text(text)
    known = export(tmp_path / "all.zip", advisory("another"))
    assert audit.main(["--osv", str(known), "--requirements", str(pins)]) == audit.REFUSED


def test_make_audit_needs_its_file(tmp_path: Path) -> None:
    done = make("audit")
    assert done.returncode != 0
    assert "OSV=" in done.stderr
    assert make("audit", f"OSV={export(tmp_path / 'all.zip', advisory('another'))}").returncode == 0


def test_a_long_name_of_an_advisory_is_shown_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak = advisory("pycurl", versions=["7.49.0"], aliases=[f"SNYK-{'X' * 90}-END"], summary="w " * 200)
    assert audit.main(["--osv", str(export(tmp_path / "all.zip", weak))]) == audit.FOUND
    said = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in said
    assert "END" in said.replace(" ", "").replace("\n", "").replace("\N{BOX DRAWINGS LIGHT VERTICAL}", "")
