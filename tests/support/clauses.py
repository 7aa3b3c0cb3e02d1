"""What makes statements wait for each other, skip each other or meet each other, read from their text."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_CLAUSE = re.compile(
    r"\b(?:FOR (?:NO KEY )?UPDATE|FOR (?:KEY )?SHARE)(?: OF \w+)?(?: SKIP LOCKED| NOWAIT)?\b"
    r"|\bON CONFLICT(?: ON CONSTRAINT \w+| \([^)]*\))? DO (?:NOTHING|UPDATE)\b"
    r"|\bpg_(?:try_)?advisory_(?!unlock)\w+"
    r"|\bLOCK TABLE\b|\bSERIALIZABLE\b|\bREPEATABLE READ\b"
)
_FUNCTION = re.compile(
    r"DROP FUNCTION (?P<gone>\w+)|CREATE (?:OR REPLACE )?FUNCTION (?P<name>\w+)(?P<head>.*?)AS \$\$(?P<body>.*?)\$\$",
    re.DOTALL,
)
_READS = r"\b(?:STABLE|IMMUTABLE)\b|RETURNS trigger"


def clauses(repository: Path) -> list[str]:
    """All of them: of statements as `module.function: clause`, of PostgreSQL's functions, as the newest migration
    defines them, as `function(): clause`. Where one has a clause several times they are numbered, from the second on.
    """
    functions = [(f"{name}()", body) for name, (_, body) in _functions(repository).items()]
    return [clause for name, sql in (*statements(repository), *functions) for clause in _numbered(name, sql)]


def writing(repository: Path) -> set[str]:
    """The statements, as `module.function`, that change rows, by themselves or by a function that they call."""
    called = "|".join(name for name, (head, _) in _functions(repository).items() if not re.search(_READS, head))
    changes = re.compile(rf"\b(?:INSERT INTO|UPDATE \w+\s+SET|DELETE FROM)\b|\b(?:{called})\(")
    return {name for name, sql in statements(repository) if changes.search(sql)}


def statements(repository: Path) -> Iterator[tuple[str, str]]:
    """The texts in each function of src/db, under `module.function`."""
    for path in sorted((repository / "src/db").rglob("*.py")):
        module = "migrations" if path.stem == "__init__" else path.stem
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                yield f"{module}.{function.name}", _literals(function)


def _functions(repository: Path) -> dict[str, tuple[str, str]]:
    """Head and body of each, as the newest migration defines it."""
    newest: dict[str, tuple[str, str]] = {}
    for path in sorted((repository / "src/db/migrations").glob("*.sql")):
        for found in _FUNCTION.finditer(path.read_text(encoding="utf-8")):
            if found["gone"] is not None:
                del newest[found["gone"]]
            else:
                newest[found["name"]] = found["head"], found["body"]
    return newest


def _literals(function: ast.FunctionDef) -> str:
    """Without its docstring, which speaks of clauses."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    texts = [
        node.value
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\n".join(texts)


def _numbered(name: str, sql: str) -> Iterator[str]:
    text = " ".join(line.partition("--")[0].strip() for line in sql.splitlines())
    counted = Counter[str]()
    for clause in _CLAUSE.findall(" ".join(text.split())):
        counted[clause] += 1
        yield f"{name}: {clause}" + (f" ({counted[clause]})" if counted[clause] > 1 else "")
