"""Writes docs/access.md: who may do what, read from the templates, a migrated database and the API's operations.

`make access` runs it. A test holds the page against the three, so that no right is given silently.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from db.migrations import migrate
from domain.scopes import ALL_SCOPES
from handlers.routes import every_operation
from local.postgres import Postgres
from stack.render import Rendered, render

ROOT = Path(__file__).resolve().parents[1]
PAGE = "docs/access.md"
# All that can be switched on, in the design that most of it is possible in.
EVERYTHING: Mapping[str, str] = {
    "Stage": "prod",
    "Topology": "on-premises",
    "Egress": "per-az",
    "EgressAllocationIds": "eipalloc-0a1b2c3d4e5f60718,eipalloc-1a1b2c3d4e5f60718",
    "CorporateCidr": "172.20.0.0/16",
    "CustomerGatewayAddress": "198.51.100.7",
    "DatabaseMinCapacity": "0.5",
    "DatabaseMaxCapacity": "8",
    "DatabaseProxy": "yes",
    "Bastion": "yes",
    "Tracing": "xray",
    "FlowLogs": "all",
    "KmsKeyArn": "arn:aws:kms:us-east-1:555555555555:key/1234abcd-12ab-34cd-56ef-1234567890ab",
}
_GRANTS = """
    SELECT role.rolname, class.relname,
           CASE WHEN acl.attname IS NULL THEN acl.privilege ELSE acl.privilege || ' (' || acl.attname || ')' END
    FROM (
        SELECT oid AS relation, NULL AS attname, (aclexplode(relacl)).grantee AS grantee,
               (aclexplode(relacl)).privilege_type AS privilege
        FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'S') AND relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT attrelid, string_agg(attname, ', ' ORDER BY attname), grantee, privilege
        FROM (SELECT attrelid, attname, (aclexplode(attacl)).grantee AS grantee,
                     (aclexplode(attacl)).privilege_type AS privilege
              FROM pg_attribute WHERE attacl IS NOT NULL) AS of_columns
        GROUP BY attrelid, grantee, privilege
    ) AS acl
    JOIN pg_class AS class ON class.oid = acl.relation
    JOIN pg_roles AS role ON role.oid = acl.grantee
    WHERE role.rolname LIKE 'sallyport%' AND class.relnamespace = 'public'::regnamespace
          AND NOT (role.oid = class.relowner)
    UNION ALL
    SELECT role.rolname, proname || '()', acl.privilege
    FROM (SELECT proname, proowner, pronamespace, (aclexplode(proacl)).grantee AS grantee,
                 (aclexplode(proacl)).privilege_type AS privilege
          FROM pg_proc WHERE proacl IS NOT NULL) AS acl
    JOIN pg_roles AS role ON role.oid = acl.grantee
    WHERE role.rolname LIKE 'sallyport%' AND acl.pronamespace = 'public'::regnamespace AND role.oid <> acl.proowner
    ORDER BY 1, 2, 3
"""
HEAD = """# Who may do what

After this page you can answer an auditor's "who could have done this?". `make access` writes it: from the templates,
from a database with all migrations, and from the operations of the API. Why it is so: [security.md](security.md).

- [Functions and other roles, in AWS](#functions-and-other-roles-in-aws)
- [Roles in the database](#roles-in-the-database)
- [Tokens](#tokens)
"""


def main(root: Path = ROOT) -> None:
    """Writes the page anew."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Postgres(Path(directory), durable=False) as server,
        psycopg.connect(server.url(), autocommit=True) as connection,
    ):
        migrate(connection)
        grants = grants_of(connection)
    (root / PAGE).write_text(page(render(EVERYTHING), grants), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")


def grants_of(connection: "psycopg.Connection[Any]") -> list[tuple[str, str, str]]:
    """Role, table or function, and privilege of each grant in a migrated database; columns stand in parentheses."""
    return [(str(role), str(table), str(privilege)) for role, table, privilege in connection.execute(_GRANTS)]


def page(rendered: Rendered, grants: Sequence[tuple[str, str, str]]) -> str:
    """The whole page, in Markdown."""
    return "\n".join((HEAD, *_roles(rendered), *_database(grants), *_tokens()))


def _roles(rendered: Rendered) -> Iterator[str]:
    yield "## Functions and other roles, in AWS\n"
    yield "With everything switched on that can be; each option less takes its rows away. A name such as"
    yield "`AttemptLogGroup.Arn` is a resource of the templates. Nobody but the named service may take a role.\n"
    yield "| role | taken by | may | on |\n| --- | --- | --- | --- |"
    for address, role in sorted(rendered.of_type("AWS::IAM::Role").items()):
        who = ", ".join(sorted(_principals(role)))
        for actions, resources in _of_role(address, role, rendered):
            yield f"| `{address}` | {who} | {actions} | {resources} |"
    yield "\nThe policies that several of them share:\n"
    yield "| policy | may | on |\n| --- | --- | --- |"
    for address, policy in sorted(rendered.of_type("AWS::IAM::ManagedPolicy").items()):
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            actions, resources = _words(statement)
            yield f"| `{address}` | {actions} | {resources} |"
    yield ""


def _principals(role: Mapping[str, Any]) -> Iterator[str]:
    for statement in role["Properties"]["AssumeRolePolicyDocument"]["Statement"]:
        yield f"`{next(iter(statement['Principal'].values()))}`"


def _of_role(address: str, role: Mapping[str, Any], rendered: Rendered) -> Iterator[tuple[str, str]]:
    for managed in role["Properties"].get("ManagedPolicyArns", ()):
        whose = "below" if managed in rendered.resources else "AWS's own"
        yield f"what the policy `{str(managed).rpartition('/')[2]}` says", whose
    own = [policy["PolicyDocument"] for policy in role["Properties"].get("Policies", ())]
    beside = [
        policy["Properties"]["PolicyDocument"]
        for policy in rendered.of_type("AWS::IAM::Policy").values()
        if address in policy["Properties"]["Roles"]
    ]
    yield from (_words(statement) for document in (*own, *beside) for statement in document["Statement"])


def _words(statement: Mapping[str, Any]) -> tuple[str, str]:
    denied = "never: " if statement["Effect"] == "Deny" else ""
    actions = ", ".join(f"`{action}`" for action in _listed(statement["Action"]))
    where = f", where {json.dumps(statement['Condition'], sort_keys=True)}" if "Condition" in statement else ""
    return denied + actions, ", ".join(f"`{_short(str(item))}`" for item in _listed(statement["Resource"])) + where


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _short(resource: str) -> str:
    """Without what every ARN of the account begins with."""
    return re.sub(r"^arn:aws:(\w[\w-]*):us-east-1:555555555555:", r"\1:", resource)


def _database(grants: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    yield "## Roles in the database\n"
    yield "Each function connects as the role that `stack/functions.py` names, with a token of IAM."
    yield "What is not here is refused. The schema's owner is used by the migration alone.\n"
    yield "| role | table or function | may |\n| --- | --- | --- |"
    by_table: dict[tuple[str, str], list[str]] = {}
    for role, table, privilege in grants:
        by_table.setdefault((role, table), []).append(privilege)
    yield from (f"| `{role}` | `{table}` | {', '.join(kinds)} |" for (role, table), kinds in by_table.items())
    yield ""


def _tokens() -> Iterator[str]:
    yield "## Tokens\n"
    yield "A token belongs to one tenant and sees nothing of another. Operations without a row need none.\n"
    yield "| scope | operation |\n| --- | --- |"
    for scope in ALL_SCOPES:
        for operation in sorted(every_operation(), key=lambda operation: (operation.template, operation.method)):
            if operation.scope == scope:
                yield f"| `{scope}` | `{operation.method} {operation.template}` |"
    yield ""


if __name__ == "__main__":
    main()
