"""Calls to AWS: signed as AWS checks it, retried within their time, silent about credentials."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from runtime import roots
from runtime.aws import AwsCallFailed, _handles, call, endpoint, forget, rds_auth_token
from runtime.roots import ca_bundle
from runtime.settings import AwsSettings, SettingsError
from tests.egress.authorities import Authority
from tests.egress.servers import Line, Partner, Script, says, says_and_closes

type StartPartner = Callable[..., Partner]

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION = "FwoGZXIvYXdzE//very/long+token==="
ACCOUNT = AwsSettings(
    aws_region="eu-central-1",
    aws_access_key_id="AKIDEXAMPLE",
    aws_secret_access_key=SECRET,
    aws_session_token=SESSION,
)
LONG_TERM = AwsSettings(
    aws_region="eu-central-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key=SECRET, aws_session_token=""
)


def answer(status: int, body: object) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)


def in_turn(*answers: bytes) -> Script:
    """Answers one request after the other, whichever connection they come by; an empty answer closes."""
    left = list(answers)

    def script(line: Line) -> None:
        while line.read_request():
            now = left.pop(0)
            if not now:
                return
            line.send(now)

    return script


def ask(there: Partner, *, settings: AwsSettings = ACCOUNT, timeout_seconds: float = 10.0) -> dict[str, object]:
    return call(
        "sqs",
        "AmazonSQS.SendMessageBatch",
        {"QueueUrl": "q", "Entries": [{"Id": "ü"}]},
        endpoint_url=there.url("").rstrip("/"),
        timeout_seconds=timeout_seconds,
        settings=settings,
    )


@pytest.mark.parametrize("settings", [ACCOUNT, LONG_TERM], ids=["session token", "long-term key"])
def test_the_signature_is_the_one_botocore_makes(
    partner: StartPartner, settings: AwsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = partner(says(answer(200, {"fine": True})))
    assert ask(there, settings=settings) == {"fine": True}
    head, _, body = there.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert lines[0] == "POST / HTTP/1.1"
    assert sent.get("x-amz-security-token", "") == settings.aws_session_token
    at = datetime.strptime(sent["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: at)
    assert sent["authorization"] == _botocore_authorization(there, sent, body, settings)


def test_every_header_that_matters_is_signed(partner: StartPartner) -> None:
    there = partner(says(answer(200, {})))
    ask(there)
    signed = there.requests[0].decode().partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"} <= set(signed)


def test_credentials_come_from_the_environment(partner: StartPartner, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("aws_region", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
        monkeypatch.setenv(name.upper(), getattr(ACCOUNT, name))
    there = partner(says(answer(200, {})))
    call("secretsmanager", "secretsmanager.GetSecretValue", {}, endpoint_url=there.url(""), timeout_seconds=10)
    assert b"Credential=AKIDEXAMPLE/" in there.requests[0]
    assert b"/eu-central-1/secretsmanager/aws4_request" in there.requests[0]
    assert b"application/x-amz-json-1.1" in there.requests[0]


def test_the_environment_is_read_once_until_it_is_forgotten(
    partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = partner(says(answer(200, {})))

    def key_used(named: str) -> bytes:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", named)
        call("ssm", "AmazonSSM.GetParameter", {}, endpoint_url=there.url(""), timeout_seconds=10)
        return there.requests[-1].partition(b"Credential=")[2].partition(b"/")[0]

    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert (key_used("AKIDFIRST"), key_used("AKIDSECOND")) == (b"AKIDFIRST", b"AKIDFIRST")
    forget()
    assert key_used("AKIDSECOND") == b"AKIDSECOND"


def test_a_reused_handle_carries_nothing_from_one_call_to_the_next(partner: StartPartner) -> None:
    """Neither body nor answer, and of other credentials or another operation nothing at all."""
    there = partner(in_turn(answer(200, {"first": "x" * 1000}), answer(200, b""), answer(200, {"third": 3})))
    url = there.url("")
    assert call("sqs", "A.First", {"body": "y" * 1000}, endpoint_url=url, timeout_seconds=10, settings=ACCOUNT) == {
        "first": "x" * 1000
    }
    assert call("ssm", "B.Second", {}, endpoint_url=url, timeout_seconds=10, settings=LONG_TERM) == {}
    assert call("sqs", "A.First", {"a": 1}, endpoint_url=url, timeout_seconds=10, settings=ACCOUNT) == {"third": 3}
    first, second, third = (request.partition(b"\r\n\r\n") for request in there.requests)
    assert there.connections == 1
    assert (second[2], third[2]) == (b"{}", b'{"a":1}')
    for named in (b"sqs", SESSION.encode(), b"First", b"x-amz-security-token"):
        assert named.lower() in first[0].lower()
        assert named.lower() not in second[0].lower()
        assert named.lower() in third[0].lower()


def test_an_idle_handle_holds_no_body(partner: StartPartner) -> None:
    """It may be idle for long, and wake-ups may be a quarter of a megabyte."""
    there = partner(says(answer(200, {"answer": "x" * 1000})))
    ask(there)
    (idle,) = _handles[f"{there.url('').rstrip('/')}/"]
    assert not idle._answer
    idle._curl.perform()
    assert there.requests[-1].endswith(b"\r\n\r\n")


def test_the_connection_is_reused_between_calls(partner: StartPartner) -> None:
    there = partner(says(answer(200, {})))
    for _ in range(3):
        ask(there)
    assert there.connections == 1


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-central-1", "https://sqs.eu-central-1.amazonaws.com"),
        ("cn-north-1", "https://sqs.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "https://sqs.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_an_endpoint_is_made_of_service_and_region(region: str, url: str) -> None:
    assert endpoint("sqs", region) == url


@pytest.mark.parametrize(
    "first",
    [
        answer(500, {"__type": "com.amazon#InternalFailure", "message": "x"}),
        answer(503, b"<html>busy</html>"),
        answer(429, b""),
        answer(400, {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow down"}),
        answer(400, {"__type": "ThrottlingException", "message": "Rate exceeded"}),
        answer(200, b"no json"),
        answer(200, b"[]"),
        b"",
        b"nonsense\r\n\r\n",
    ],
    ids=["500", "503", "429", "throttled", "throttling", "no json", "no object", "closed", "no http"],
)
def test_a_passing_failure_is_tried_once_more(partner: StartPartner, first: bytes) -> None:
    there = partner(in_turn(first, answer(200, {"fine": True})))
    assert ask(there) == {"fine": True}
    assert len(there.requests) == 2


def test_a_second_failure_is_final(partner: StartPartner) -> None:
    there = partner(says(answer(503, {"__type": "ServiceUnavailable"})))
    with pytest.raises(AwsCallFailed) as caught:
        ask(there)
    assert (caught.value.code, caught.value.retryable) == ("ServiceUnavailable", True)
    assert len(there.requests) == 2


def test_what_would_fail_again_is_not_tried_again(partner: StartPartner) -> None:
    body = {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no such queue"}
    there = partner(says(answer(400, body)))
    with pytest.raises(AwsCallFailed) as caught:
        ask(there)
    assert (caught.value.code, caught.value.message) == ("QueueDoesNotExist", "no such queue")
    assert not caught.value.retryable
    assert len(there.requests) == 1


@pytest.mark.parametrize(("status", "body"), [(404, b"nothing here"), (301, b""), (400, b'["a list"]')])
def test_an_error_without_a_message_is_named_by_its_status(partner: StartPartner, status: int, body: bytes) -> None:
    with pytest.raises(AwsCallFailed) as caught:
        ask(partner(says(answer(status, body))))
    assert caught.value.code == f"Http{status}"
    assert caught.value.message == "no message"


def test_a_long_error_is_cut(partner: StartPartner) -> None:
    there = partner(says(answer(400, {"__type": "ValidationException", "message": "x" * 501})))
    with pytest.raises(AwsCallFailed) as caught:
        ask(there)
    assert caught.value.message == "x" * 500


def test_a_call_whose_time_is_over_is_given_up_at_once(partner: StartPartner) -> None:
    def hangs(line: Line) -> None:
        line.read_request()
        line.hang()

    there = partner(hangs)
    with pytest.raises(AwsCallFailed, match=r"did not answer in time|no connection"):
        ask(there, timeout_seconds=-1.0)


def test_a_dead_service_is_reported_in_time(partner: StartPartner) -> None:
    there = partner(says(b""))
    dead = Partner(scheme="http", port=1, host="127.0.0.1")
    with pytest.raises(AwsCallFailed, match="no connection") as caught:
        ask(dead)
    assert (caught.value.code, caught.value.retryable) == ("ConnectionFailed", True)
    assert there.connections == 0


def test_a_service_that_hangs_is_given_up_in_time(partner: StartPartner) -> None:
    def hangs(line: Line) -> None:
        line.read_request()
        line.hang()

    there = partner(hangs)
    with pytest.raises(AwsCallFailed, match="did not answer in time"):
        ask(there, timeout_seconds=0.4)
    assert len(there.requests) == 1


class GoesSilent:
    """Answers what comes before `silent` is set. From then on, whatever comes over a connection that was there before
    is swallowed, without a word and without closing it, as by a network that has forgotten the connection."""

    def __init__(self, at_once: int = 1) -> None:
        self.silent = threading.Event()
        self.met: list[int] = []
        self._all_here = threading.Barrier(at_once)

    def __call__(self, line: Line) -> None:
        old = not self.silent.is_set()
        while line.read_request():
            if old and self.silent.is_set():
                self.met.append(line.number)
                line.hang()
                return
            if old:
                self._all_here.wait(60)
            line.send(answer(200, {"fine": True}))


def test_an_open_connection_that_died_silently_costs_a_third_of_the_time(partner: StartPartner) -> None:
    script = GoesSilent()
    there = partner(script)
    ask(there)
    script.silent.set()
    assert ask(there, timeout_seconds=4.5) == {"fine": True}
    assert len(script.met) == 1
    assert there.connections == 2
    assert ask(there, timeout_seconds=4.5) == {"fine": True}  # over the new one, which is kept in its turn
    assert (len(script.met), there.connections) == (1, 2)


def test_when_several_open_connections_died_only_one_is_waited_for(partner: StartPartner) -> None:
    script = GoesSilent(at_once=3)
    there = partner(script)
    threads = [threading.Thread(target=ask, args=[there], kwargs={"timeout_seconds": 60}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert there.connections == 3
    script.silent.set()
    assert ask(there, timeout_seconds=4.5) == {"fine": True}
    assert len(script.met) == 1
    assert there.connections == 4


def test_a_new_connection_has_all_of_the_time(partner: StartPartner) -> None:
    waited = threading.Event()

    def slow(line: Line) -> None:
        line.read_request()
        waited.wait(1.1)  # a third of the time is over
        line.send(answer(200, {"fine": True}))

    there = partner(slow)
    assert ask(there, timeout_seconds=3) == {"fine": True}
    assert len(there.requests) == 1


def test_an_endless_answer_is_cut_off(partner: StartPartner) -> None:
    with pytest.raises(AwsCallFailed, match="the call failed"):
        ask(partner(says_and_closes(answer(200, b" " * 3_000_000))))


def test_the_service_s_certificate_is_verified(
    partner: StartPartner, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = partner(says(answer(200, {"fine": True})), tls=authority.context("127.0.0.1"))
    with pytest.raises(AwsCallFailed, match="no connection"):
        ask(there)
    assert there.requests == []
    monkeypatch.setattr(roots, "CA_BUNDLES", (str(authority.roots),))
    assert ask(there) == {"fine": True}


def test_redirects_are_not_followed(partner: StartPartner) -> None:
    elsewhere = partner(says(answer(200, {})))
    there = partner(says(b"HTTP/1.1 307 X\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % elsewhere.url().encode()))
    with pytest.raises(AwsCallFailed):
        ask(there)
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "message",
    [
        f"The security token {SESSION} included in the request is invalid",
        f"The key AKIDEXAMPLE with {SECRET} is wrong",
        f"The request signature we calculated does not match.\nThe Canonical String: x-amz-security-token:{SESSION}",
    ],
)
def test_no_error_contains_credentials(partner: StartPartner, message: str) -> None:
    there = partner(says(answer(403, {"__type": "InvalidSignatureException", "Message": message})))
    with pytest.raises(AwsCallFailed) as caught:
        ask(there)
    told = f"{caught.value} {caught.value.message} {caught.value!r}"
    for secret in (SECRET, SESSION, "AKIDEXAMPLE"):
        assert secret not in told
    assert SECRET not in repr(ACCOUNT)


@pytest.mark.parametrize("settings", [ACCOUNT, LONG_TERM], ids=["session token", "long-term key"])
@pytest.mark.parametrize("user", ["sallyport_app", "odd user+/=&ü"])
def test_an_rds_token_is_the_one_botocore_makes(
    settings: AwsSettings, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 11, 22, 15, 30, 12, tzinfo=UTC)
    host = "db.cluster-abc.eu-central-1.rds.amazonaws.com"
    rds = boto3.client(
        "rds",
        region_name=settings.aws_region,
        aws_access_key_id=settings.aws_access_key_id,
        aws_secret_access_key=settings.aws_secret_access_key,
        aws_session_token=settings.aws_session_token or None,
    )
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: now)
    theirs = rds.generate_db_auth_token(DBHostname=host, Port=5432, DBUsername=user)
    assert rds_auth_token(host=host, port=5432, user=user, now=now, settings=settings) == theirs
    assert parse_qs(urlsplit(f"https://{theirs}").query)["X-Amz-Expires"] == ["900"]


def test_an_rds_token_is_made_of_the_environment_s_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("aws_region", "aws_access_key_id", "aws_secret_access_key"):
        monkeypatch.setenv(name.upper(), getattr(ACCOUNT, name))
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    now = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)
    token = rds_auth_token(host="h", port=5432, user="u", now=now)
    assert token == rds_auth_token(host="h", port=5432, user="u", now=now, settings=LONG_TERM)


def test_the_roots_of_this_system_are_found() -> None:
    assert Path(ca_bundle()).is_file()


def test_a_system_without_root_certificates_is_told_which_setting_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "CA_BUNDLES", ("/nowhere/a.pem", "/nowhere/b.pem"))
    with pytest.raises(SettingsError, match=r"CA_BUNDLE must be set: .*/nowhere/a.pem"):
        ca_bundle()


def _botocore_authorization(there: Partner, sent: dict[str, str], body: bytes, settings: AwsSettings) -> str:
    """What botocore signs the same request with."""
    names = sent["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest(
        method="POST",
        url=there.url("/"),
        data=body,
        headers={name: sent[name] for name in names if name not in ("host", "x-amz-date", "x-amz-security-token")},
    )
    credentials = Credentials(
        settings.aws_access_key_id, settings.aws_secret_access_key, settings.aws_session_token or None
    )
    SigV4Auth(credentials, "sqs", settings.aws_region).add_auth(request)
    return str(request.headers["Authorization"])
