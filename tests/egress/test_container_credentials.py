"""Credentials of a function with SnapStart: fetched from an endpoint on this machine, kept until they are about to
expire."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pycurl
import pytest

from runtime import aws, credentials
from runtime.aws import AwsCallFailed, call, rds_auth_token
from runtime.settings import SettingsError
from tests.egress.servers import Line, Partner, Script

type StartPartner = Callable[..., Partner]

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    credentials.forget()
    yield
    credentials.forget()


def answer(status: int, body: object) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)


def keys(name: str, *, lasting: timedelta) -> bytes:
    """As the endpoint answers."""
    expiration = (datetime.now(UTC) + lasting).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {"AccessKeyId": name, "SecretAccessKey": SECRET, "Token": f"session of {name}", "Expiration": expiration}
    return answer(200, told)


def in_turn(*answers: bytes) -> Script:
    """Answers one request after the other, and the last one from then on."""
    left = list(answers)

    def script(line: Line) -> None:
        while line.read_request():
            line.send(left.pop(0) if len(left) > 1 else left[0])

    return script


@pytest.fixture
def endpoint(partner: StartPartner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Partner]:
    """Starts the credentials endpoint with its answers, in an environment without credentials, as SnapStart's is."""

    def start(*answers: bytes) -> Partner:
        there = partner(in_turn(*answers))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", there.url("/2021-07-30/credentials"))
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the word")
        return there

    return start


def test_a_call_is_signed_with_what_the_endpoint_gives(endpoint: StartPartner, partner: StartPartner) -> None:
    given = endpoint(keys("ASIAFIRST", lasting=HOUR))
    there = partner(in_turn(answer(200, {"fine": True})))
    assert call("sqs", "AmazonSQS.SendMessage", {}, endpoint_url=there.url(""), timeout_seconds=5) == {"fine": True}
    assert b"Credential=ASIAFIRST/" in there.requests[0]
    assert b"X-Amz-Security-Token: session of ASIAFIRST" in there.requests[0]
    assert given.requests[0].startswith(b"GET /2021-07-30/credentials HTTP/1.1\r\n")
    assert b"\r\nAuthorization: the word\r\n" in given.requests[0]


def test_a_database_token_is_signed_with_them_too(endpoint: StartPartner) -> None:
    endpoint(keys("ASIAFIRST", lasting=HOUR))
    assert "X-Amz-Credential=ASIAFIRST" in rds_auth_token(host="h", port=5432, user="u", now=datetime.now(UTC))


def test_they_are_fetched_once_and_again_five_minutes_before_they_expire(endpoint: StartPartner) -> None:
    given = endpoint(keys("FIRST", lasting=timedelta(minutes=4)), keys("SECOND", lasting=timedelta(minutes=6)))
    names = [credentials.current().aws_access_key_id for _ in range(4)]
    assert names == ["FIRST", "SECOND", "SECOND", "SECOND"]
    assert len(given.requests) == 2


def test_they_are_used_to_the_end_where_the_endpoint_fails(endpoint: StartPartner) -> None:
    endpoint(keys("FIRST", lasting=timedelta(minutes=4)), answer(500, b""))
    assert [credentials.current().aws_access_key_id for _ in range(2)] == ["FIRST", "FIRST"]


def test_expired_ones_are_not_used(endpoint: StartPartner) -> None:
    endpoint(keys("FIRST", lasting=timedelta(seconds=-1)), answer(500, b""))
    credentials.current()
    with pytest.raises(credentials.CredentialsUnavailable, match="status 500"):
        credentials.current()


def test_after_a_restore_they_are_fetched_again(endpoint: StartPartner) -> None:
    endpoint(keys("BEFORE", lasting=HOUR), keys("AFTER", lasting=HOUR))
    credentials.current()
    aws.forget()
    assert credentials.current().aws_access_key_id == "AFTER"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (answer(403, b"no"), "status 403"),
        (answer(200, b"no json"), "not a set of credentials"),
        (answer(200, []), "not a set of credentials"),
        (answer(200, {"AccessKeyId": "A"}), "not a set of credentials"),
        (
            answer(200, {"AccessKeyId": "A", "SecretAccessKey": "B", "Token": "C", "Expiration": "soon"}),
            "not a set of credentials",
        ),
        (b"", "no answer"),
        (answer(200, b" " * 100_000), "no answer"),
    ],
    ids=["refused", "no json", "no object", "half", "no time", "closed", "endless"],
)
def test_an_endpoint_without_credentials_is_reported_without_secrets(
    endpoint: StartPartner, body: bytes, words: str
) -> None:
    endpoint(body)
    with pytest.raises(AwsCallFailed, match=words) as caught:
        call("sqs", "AmazonSQS.SendMessage", {}, endpoint_url="http://127.0.0.1:9", timeout_seconds=5)
    assert (caught.value.code, caught.value.retryable) == ("NoCredentials", True)
    assert "the word" not in str(caught.value)


@pytest.mark.parametrize(("call_seconds", "fetch_seconds"), [(0.2, 3600), (3600, 0.2)], ids=["the call's", "their own"])
def test_a_call_waits_for_them_until_the_earlier_deadline(
    partner: StartPartner,
    endpoint: StartPartner,
    monkeypatch: pytest.MonkeyPatch,
    call_seconds: float,
    fetch_seconds: float,
) -> None:
    endpoint(b"")
    monkeypatch.setattr(credentials, "FETCH_SECONDS", fetch_seconds)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", partner(lambda line: line.hang()).url("/"))
    with pytest.raises(AwsCallFailed, match=rf"NoCredentials: .*\(curl {pycurl.E_OPERATION_TIMEDOUT}\)"):
        call("sqs", "AmazonSQS.SendMessage", {}, endpoint_url="http://127.0.0.1:9", timeout_seconds=call_seconds)


def test_a_dead_endpoint_is_reported(endpoint: StartPartner, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint(b"")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
    with pytest.raises(credentials.CredentialsUnavailable, match="no answer"):
        credentials.current()


def test_without_an_endpoint_they_come_from_the_environment(
    aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", raising=False)
    assert credentials.current().aws_access_key_id == "test"
    credentials.forget()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID must be set"):
        credentials.current()


def test_no_repr_shows_them(endpoint: StartPartner) -> None:
    endpoint(keys("FIRST", lasting=HOUR))
    assert SECRET not in repr(credentials.current()) + repr(credentials._cached)
