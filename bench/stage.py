"""What every part runs on: a local PostgreSQL, the two servers, one tenant with its destinations."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from db.connection import Database
from db.migrations import ADMIN_ROLE, APPLICATION_ROLE, migrate
from domain.scopes import ALL_SCOPES
from flows.tokens import IssuedToken, WantedToken, issue
from local.functions import REPOSITORY
from local.postgres import Postgres
from runtime.settings import DatabaseSettings

_DATABASE, _AS_PREPARED = "postgres", "prepared"
_SEAL_KEY = "a key for benchmarks, long enough to be one"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`small` means to do the work only a few times, which shows that it is done and measures nothing;
    `directory` is scratch space; `token` is the tenant's, with all scopes; its destinations are `partner`, which may
    repeat requests, and `once`, which may not."""

    small: bool
    directory: Path
    postgres: Postgres
    queue_port: int
    partner_port: int
    tenant_id: UUID
    token: str

    def times(self, full: int) -> int:
        """How often to do what a full run does `full` times."""
        return min(full, 2) if self.small else full

    @property
    def partner_url(self) -> str:
        """The partner's base URL."""
        return f"http://127.0.0.1:{self.partner_port}"

    def environment(self, *, role: str = APPLICATION_ROLE, database: str = _DATABASE) -> dict[str, str]:
        """The variables of a function, as Lambda would set them. Nothing of the shell but PATH."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TZ": ":UTC",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_SESSION_TOKEN": "session",
            "AWS_LAMBDA_FUNCTION_NAME": "sallyport",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "POWERTOOLS_SERVICE_NAME": "sallyport",
            "POWERTOOLS_METRICS_NAMESPACE": "Sallyport",
            "DATABASE_URL": self.postgres.url(user=role, database=database),
            "WAKEUP_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/wakeups",
            "SQS_ENDPOINT_URL": f"http://127.0.0.1:{self.queue_port}",
            "ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",
            "ALLOWED_PORTS": str(self.partner_port),
            "EGRESS_ADDRESSES": "eu-central-1a=198.51.100.10",
            "SEAL_KEY_FILE": str(self.directory / "seal-key"),
        }

    def admin_environment(self) -> dict[str, str]:
        """The variables of the operators' function."""
        return self.environment(role=ADMIN_ROLE)

    def migrate_environment(self) -> dict[str, str]:
        """The variables of the migration, which connects as the superuser."""
        return self.environment(role="postgres")


@contextmanager
def stage(*, small: bool = False) -> Iterator[Stage]:
    """Everything started and empty; deleted afterwards. fsync is off: what is measured is the work, not a disk."""
    directory = Path(tempfile.mkdtemp(prefix="sallyport-bench-"))
    try:
        with Postgres(directory / "postgres", durable=False) as postgres, _servers() as ports:
            issued = _prepare(postgres, directory)
            made = Stage(
                small=small,
                directory=directory,
                postgres=postgres,
                queue_port=ports["queue"],
                partner_port=ports["partner"],
                tenant_id=issued.tenant_id,
                token=issued.token,
            )
            add_destinations(made)
            _copy_database(postgres, _DATABASE, _AS_PREPARED)
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def restore(stage: Stage) -> None:
    """Makes the database what it was at first, whoever uses it still: no part meets the rows of another one."""
    _run_apart(stage.postgres, f'DROP DATABASE "{_DATABASE}" WITH (FORCE)')
    _copy_database(stage.postgres, _AS_PREPARED, _DATABASE)


def _copy_database(postgres: Postgres, source: str, copy: str) -> None:
    _run_apart(postgres, f'CREATE DATABASE "{copy}" TEMPLATE "{source}"')


def _run_apart(postgres: Postgres, statement: str) -> None:
    """From a session in neither database."""
    postgres.run_sql(statement, database="template1")


def add_destinations(stage: Stage, *, database: str = _DATABASE) -> None:
    """`partner` (idempotent) and `once` (not), both at the loopback partner."""
    with closing(superuser(stage, database=database)) as session:
        session.connection().execute(
            """
            INSERT INTO destination (
                destination_id, tenant_id, name, base_url, auth_type, guarantee, idempotent, idempotency_header,
                connect_seconds, first_byte_seconds, total_seconds, created_at)
            SELECT gen_random_uuid(), %(tenant_id)s, name, %(base_url)s, 'none', 'auto', name = 'partner',
                   'Idempotency-Key', 2, 5, 5, now()
            FROM unnest(ARRAY ['partner', 'once']) AS listed (name)
            """,
            {"tenant_id": stage.tenant_id, "base_url": stage.partner_url},
        )


def superuser(stage: Stage, *, database: str = _DATABASE) -> Database:
    """A session with all permissions, for preparing data. Close it."""
    return Database(DatabaseSettings(database_url=stage.postgres.url(database=database)))


def _prepare(postgres: Postgres, directory: Path) -> IssuedToken:
    key = directory / "seal-key"
    key.write_text(_SEAL_KEY)
    key.chmod(0o600)
    with closing(Database(DatabaseSettings(database_url=postgres.url()))) as session:
        migrate(session.connection())
        return issue(
            session,
            WantedToken(tenant_name="acme", scopes=ALL_SCOPES),
            now=datetime.now(UTC),
            randomness=secrets.token_bytes(52),
        )


@contextmanager
def _servers() -> Iterator[Mapping[str, int]]:
    command = [sys.executable, "-m", "bench.servers"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ports: dict[str, int] = json.loads(process.stdout.readline())
            yield ports
        finally:
            process.terminate()
