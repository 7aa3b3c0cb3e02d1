"""How the functions reach the database on AWS: by host, with an IAM token and verified TLS."""

from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from db.connection import Connection
from domain.errors import DatabaseUnavailable
from handlers import wiring
from runtime.settings import AuthorizeSettings


def test_on_aws_every_connect_signs_a_token_for_its_host_and_role(
    aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def note(conninfo: str, **_: object) -> None:
        asked.append(conninfo)
        raise psycopg.OperationalError("nobody listens here")

    monkeypatch.setattr(Connection, "connect", note)
    settings = AuthorizeSettings.from_environment(
        {
            "DATABASE_HOST": "cluster.example",
            "DATABASE_USER": "sallyport_app",
            "DATABASE_ROOT_CERTIFICATES": "/var/task/certs/roots.pem",
        }
    )
    with pytest.raises(DatabaseUnavailable):
        wiring.database(settings.database).connection()

    (conninfo,) = asked
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    assert (parts["host"], parts["port"], parts["user"]) == ("cluster.example", "5432", "sallyport_app")
    assert (parts["sslmode"], parts["sslrootcert"]) == ("verify-full", "/var/task/certs/roots.pem")
    token = urlsplit(f"https://{parts['password']}")
    assert (token.hostname, token.port) == ("cluster.example", 5432)
    assert parse_qs(token.query)["DBUser"] == ["sallyport_app"]
    assert "X-Amz-Signature" in parse_qs(token.query)
