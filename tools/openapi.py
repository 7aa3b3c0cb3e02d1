"""Notes the API's contract: `make openapi` writes tests/unit/contract.txt, in which each operation and each component
of the OpenAPI document has a line with a digest of it.

A test compares the two, so that no contract changes by accident, and the diff names what changed. Texts for people are
left out: words may get better without a change of the contract.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from handlers.openapi import document

ROOT = Path(__file__).resolve().parents[1]
NOTES = "tests/unit/contract.txt"
TEXTS = ("description", "detail", "summary", "title")
DIGEST_CHARACTERS = 16


def main(root: Path = ROOT) -> None:
    """Writes the notes anew."""
    (root / NOTES).write_text(notes(document(server="")), encoding="utf-8")
    sys.stdout.write(f"{NOTES}\n")


def notes(contract: Mapping[str, Any]) -> str:
    """A line for each part, sorted by its name."""
    return "".join(f"{name} {_digest(part)}\n" for name, part in sorted(_parts(contract)))


def _parts(contract: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, operations in contract["paths"].items():
        yield from ((f"{method.upper()} {path}", operation) for method, operation in operations.items())
    for kind, components in contract["components"].items():
        yield from ((f"{kind}/{name}", component) for name, component in components.items())
    yield "everything else", {name: part for name, part in contract.items() if name not in ("paths", "components")}


def _digest(part: object) -> str:
    text = json.dumps(_without_texts(part), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def _without_texts(part: object) -> object:
    if isinstance(part, dict):
        kept = {name: value for name, value in part.items() if not (name in TEXTS and isinstance(value, str))}
        return {name: _without_texts(value) for name, value in kept.items()}
    return [_without_texts(value) for value in part] if isinstance(part, list) else part


if __name__ == "__main__":
    main()
