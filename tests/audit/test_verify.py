"""The offline verifier, against exports that are made here: whatever is done to one of them, it is found."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from sallyport_audit.__main__ import main, verify
from sallyport_audit.chain import KnownHash, Tampered

TENANT = "01a203c1-9b1c-7d23-b1de-8f3c0c7e51aa"
OTHER = "01a203c1-9b1c-7d23-b1de-8f3c0c7e51ab"
COUNT = 12


def dumped(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def chain(contents: Sequence[dict[str, Any]], *, tenant: str = TENANT) -> list[bytes]:
    """An export, made as docs/audit.md describes it."""
    lines, previous = [], "0" * 64
    for sequence, content in enumerate(contents, 1):
        entry = {
            "at": f"2026-11-27T12:00:{sequence // 2:02}.000000Z",
            "content": content | {"tenant_id": tenant},
            "previous": previous,
            "sequence": sequence,
        }
        previous = sha256(dumped(entry).encode())
        lines.append(dumped(entry | {"hash": previous}).encode() + b"\n")
    return lines


def acts(number: int) -> list[dict[str, Any]]:
    return [
        {
            "by": f"token-{position % 3}",
            "details": {"note": 'ü 😀 \\ "', "count": position},
            "entry_id": f"{position:032x}",
            "members": ["auth", "name"][: position % 3],
            "on": f"destination-{position % 2}",
            "source_address": None,
            "what": "destination.changed",
        }
        for position in range(number)
    ]


EXPORT = chain(acts(COUNT))


def checkpoint(lines: Sequence[bytes], sequence: int, *, tenant: str = TENANT) -> KnownHash:
    return KnownHash(tenant_id=tenant, sequence=sequence, hash=json.loads(lines[sequence - 1])["hash"])


LAST = [checkpoint(EXPORT, COUNT)]
TEXT = b"".join(EXPORT)


def found(text: bytes, checkpoints: Sequence[KnownHash] = LAST) -> bool:
    """Whether the verifier finds that something was changed."""
    try:
        verify(text.splitlines(keepends=True), checkpoints)
    except Tampered:
        return True
    return False


def test_what_was_not_changed_is_verified() -> None:
    assert not found(TEXT)
    assert verify(EXPORT, LAST) == f"verified 12 entries, 1 to 12, of {TENANT}; 1 checkpoints agree"
    assert "no checkpoint was given" in verify(EXPORT)
    assert "no checkpoint was given" in verify(EXPORT, [checkpoint(EXPORT, 3)])


@settings(max_examples=400, deadline=None)
@given(position=some.integers(0, len(TEXT) - 1), byte=some.integers(0, 255))
def test_every_other_byte_anywhere_is_found(position: int, byte: int) -> None:
    changed = bytearray(TEXT)
    changed[position] = byte
    assert found(bytes(changed)) == (changed != TEXT)


@settings(max_examples=300, deadline=None)
@given(position=some.integers(0, len(TEXT)), inserted=some.binary(min_size=1, max_size=40))
def test_bytes_that_are_inserted_anywhere_are_found(position: int, inserted: bytes) -> None:
    assert found(TEXT[:position] + inserted + TEXT[position:])


@settings(max_examples=300, deadline=None)
@given(first=some.integers(0, len(TEXT) - 1), length=some.integers(1, len(TEXT)))
def test_bytes_that_are_taken_away_anywhere_are_found(first: int, length: int) -> None:
    """The tail too, and all of it."""
    assert found(TEXT[:first] + TEXT[first + length :])


@given(some.permutations(EXPORT))
def test_lines_in_any_other_order_are_found(lines: list[bytes]) -> None:
    assert found(b"".join(lines)) == (lines != EXPORT)


@given(some.lists(some.sampled_from(range(COUNT)), max_size=COUNT + 2))
def test_lines_that_are_left_out_or_repeated_are_found(chosen: list[int]) -> None:
    assert found(b"".join(EXPORT[position] for position in chosen)) == (chosen != list(range(COUNT)))


def rewritten(position: int, member: str, value: object) -> list[bytes]:
    """As somebody would who knows how it is made: with one content changed, and all hashes after it made again."""
    contents = acts(COUNT)
    contents[position] |= {member: value}
    return chain(contents)


@given(some.integers(0, COUNT - 1), some.sampled_from(["by", "what", "on", "members", "details"]))
def test_a_chain_that_is_made_again_does_not_lead_to_the_checkpoints(position: int, member: str) -> None:
    changed = rewritten(position, member, {} if member == "details" else "other")
    assert found(b"".join(changed))
    assert not found(b"".join(changed), [checkpoint(changed, COUNT)])
    assert found(b"".join(changed), [*LAST, checkpoint(changed, COUNT)])
    assert found(b"".join(changed), [checkpoint(EXPORT, position + 1)])


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([*EXPORT, *chain(acts(1), tenant=OTHER)], id="another tenant's behind it"),
        pytest.param([*chain(acts(1), tenant=OTHER), *EXPORT], id="another tenant's before it"),
        pytest.param([*EXPORT, *EXPORT], id="twice"),
        pytest.param([*EXPORT, b"\n"], id="an empty line"),
        pytest.param([b"\xef\xbb\xbf" + EXPORT[0], *EXPORT[1:]], id="a byte order mark"),
        pytest.param([EXPORT[0].replace(b"\n", b"\r\n"), *EXPORT[1:]], id="another end of a line"),
        pytest.param([EXPORT[0].replace(b'{"at"', b'{"at":"x","at"'), *EXPORT[1:]], id="a member twice"),
        pytest.param([EXPORT[0].replace(b'"sequence":1', b'"sequence":1.0'), *EXPORT[1:]], id="a fraction"),
        pytest.param([EXPORT[0].replace(b'"sequence":1', b'"sequence":true'), *EXPORT[1:]], id="true for one"),
        pytest.param([EXPORT[0].replace(b'"sequence":1', b'"sequence":NaN'), *EXPORT[1:]], id="not a number"),
        pytest.param([EXPORT[0].replace(b"token-0", b"\\u0074oken-0"), *EXPORT[1:]], id="another spelling"),
        pytest.param([b"[" * 100_000 + b"\n", *EXPORT], id="deep nesting"),
        pytest.param([b"9" * 10_000 + b"\n", *EXPORT], id="a long number"),
        pytest.param([b'"text"\n', *EXPORT], id="no object"),
        pytest.param([b'{"at":"\\ud800"}\n', *EXPORT], id="half of a pair"),
        pytest.param([b"{}\n", *EXPORT], id="nothing in an object"),
        pytest.param([], id="nothing at all"),
    ],
)
def test_what_does_not_belong_is_found(lines: list[bytes]) -> None:
    assert found(b"".join(lines))


def test_a_beginning_that_is_missing_is_found_whatever_checkpoints_say() -> None:
    rest = EXPORT[4:]
    assert found(b"".join(rest))
    assert found(b"".join(rest), [*LAST, checkpoint(EXPORT, 4)])


def test_a_part_follows_the_entry_that_a_checkpoint_knows() -> None:
    assert "2 checkpoints agree" in verify(EXPORT[4:], [*LAST, checkpoint(EXPORT, 4)], part=True)
    with pytest.raises(Tampered, match="entry 4 is not the one"):
        verify(EXPORT[4:], [*LAST, KnownHash(tenant_id=TENANT, sequence=4, hash="0" * 64)], part=True)


def test_a_part_may_lack_both_ends_but_nothing_between() -> None:
    assert verify(EXPORT[3:9], LAST, part=True).startswith("verified 6 entries, 4 to 9")
    with pytest.raises(Tampered, match="entry 7 follows entry 5"):
        verify([*EXPORT[3:5], *EXPORT[6:9]], LAST, part=True)
    with pytest.raises(Tampered, match="the chain was rewritten"):
        verify(rewritten(0, "by", "other")[3:9], [checkpoint(EXPORT, 6)], part=True)


def test_an_entry_that_goes_back_in_time_is_found() -> None:
    entry = json.loads(EXPORT[5]) | {"at": "2026-11-27T11:59:59.999999Z"}
    del entry["hash"]
    line = dumped(entry | {"hash": sha256(dumped(entry).encode())}).encode() + b"\n"
    with pytest.raises(Tampered, match="older than the entry before it"):
        verify([*EXPORT[:5], line], [])


def test_a_checkpoint_of_another_tenant_says_nothing_about_this_one() -> None:
    assert "0 checkpoints agree" in verify(EXPORT, [checkpoint(EXPORT, 2, tenant=OTHER)])


# Attempts


def leaf(attempt: dict[str, Any]) -> bytes:
    return hashlib.sha256(b"\0" + dumped(attempt).encode()).digest()


def tree(leaves: Sequence[bytes]) -> bytes:
    """As RFC 9162 defines it, by recursion."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def interval(number: int) -> tuple[dict[str, Any], list[bytes]]:
    """The content of its entry, and its lines: the leaves and the attempts."""
    made = [{"attempt_id": f"{position:032x}", "status": 200 + position} for position in range(number)]
    leaves = [leaf(attempt) for attempt in made]
    details = {"count": number, "root": tree(leaves).hex()}
    sealed = acts(1)[0] | {"what": "attempts.sealed", "on": f"interval-{number}", "details": details}
    first = {"leaves": [hashed.hex() for hashed in leaves], "seal": f"interval-{number}"}
    return sealed, [dumped(line).encode() + b"\n" for line in (first, *({"attempt": attempt} for attempt in made))]


@pytest.mark.parametrize("number", [*range(1, 18), 31, 32, 33, 64, 100])
def test_attempts_are_those_that_were_sealed(number: int) -> None:
    sealed, lines = interval(number)
    entries = chain([*acts(2), sealed])
    assert f"{number} of {number} attempts of 1 intervals" in verify([*entries, *lines], complete=True)


@settings(max_examples=200, deadline=None)
@given(some.data())
def test_whatever_is_done_to_attempts_is_found(data: some.DataObject) -> None:
    sealed, lines = interval(6)
    entries = chain([*acts(2), sealed])
    text = b"".join(lines)
    first = data.draw(some.integers(0, len(text) - 1))
    length = data.draw(some.integers(0, 60))
    changed = text[:first] + data.draw(some.binary(max_size=60)) + text[first + length :]
    try:
        verify([*entries, *changed.splitlines(keepends=True)], [checkpoint(entries, 3)], complete=True)
    except Tampered:
        assert changed != text
    else:
        assert changed == text


@given(some.permutations(range(7)))
def test_attempts_in_another_order_are_found(order: list[int]) -> None:
    sealed, lines = interval(6)
    entries = chain([sealed])
    changed = [*entries, *(lines[position] for position in order)]
    if order == list(range(7)):
        verify(changed, complete=True)
    else:
        with pytest.raises(Tampered):
            verify(changed, complete=True)


def test_an_interval_that_is_repeated_or_unknown_is_found() -> None:
    sealed, lines = interval(3)
    with pytest.raises(Tampered, match="this interval is here twice"):
        verify([*chain([sealed]), *lines, *lines])
    with pytest.raises(Tampered, match="the chain has no entry of this interval"):
        verify([*EXPORT, *lines])


def test_attempts_that_retention_took_are_counted() -> None:
    sealed, lines = interval(6)
    entries = chain([sealed])
    assert "4 of 6 attempts" in verify([*entries, *lines[:2], *lines[4:]])
    with pytest.raises(Tampered, match="2 of 6 sealed attempts are missing"):
        verify([*entries, *lines[:2], *lines[4:]], complete=True)


# The command


def test_the_command_says_what_it_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export, known = tmp_path / "export.jsonl", tmp_path / "known.jsonl"
    export.write_bytes(TEXT)
    in_the_log = {"message": "act", "tenant_id": TENANT, "audit_sequence": 3, "audit_hash": LAST[0].hash}
    in_the_bucket = {"tenant_id": TENANT, "sequence": COUNT, "hash": LAST[0].hash}
    in_the_log["audit_hash"] = checkpoint(EXPORT, 3).hash
    known.write_text("".join(json.dumps(line) + "\n" for line in ({"message": "other"}, in_the_log, in_the_bucket)))
    assert main(["verify", str(export), "--checkpoints", str(known)]) == 0
    assert capsys.readouterr().out.startswith(f"verified 12 entries, 1 to 12, of {TENANT}; 2 checkpoints agree (")
    export.write_bytes(TEXT[: -len(EXPORT[-1])])
    assert main(["verify", str(export), "--checkpoints", str(known)]) == 1
    assert capsys.readouterr().out == (
        "NOT VERIFIED: the export ends with entry 11, and a checkpoint knows of entry 12\n"
    )


@pytest.mark.parametrize("known", [b"", b"{}\n", b"no JSON\n", b"[]\n"])
def test_a_file_that_cannot_be_read_is_no_verdict(
    known: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export, path = tmp_path / "export.jsonl", tmp_path / "known.jsonl"
    export.write_bytes(TEXT)
    path.write_bytes(known)
    assert main(["verify", str(export), "--checkpoints", str(path)]) == 2
    assert main(["verify", str(tmp_path / "missing.jsonl")]) == 2
    assert "cannot verify" in capsys.readouterr().err
