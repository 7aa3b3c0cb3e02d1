"""Calls to AWS without boto3, whose import would cost a cold start 0.3-0.6 s: libcurl signs them (AWS_SIGV4)."""

import hashlib
import hmac
import json
import re
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
import pycurl

from runtime import credentials
from runtime.roots import ca_bundle
from runtime.settings import AwsSettings
from runtime.version import VERSION

RDS_TOKEN_SECONDS = 900  # the longest that RDS accepts; it is checked only when connecting
# Each service's "JSON protocol" in its API model.
_JSON_VERSIONS = {"sqs": "1.0", "secretsmanager": "1.1", "ssm": "1.1", "events": "1.1"}
_RETRY_PAUSE_SECONDS = 0.1
_CONNECT_SECONDS = 3.0
# An idle connection may be dead without notice: while a function is frozen, NAT gateways and load balancers drop it.
# That shows only by the answer that does not come, so waiting for it must leave most of the time for a new connection.
_REUSED_SHARE = 1 / 3
_MAX_IDLE_SECONDS = 50  # idle for longer, it is not tried at all; load balancers close after 60 s
_NO_ANSWER = "ConnectionFailed"
_LONGEST_MESSAGE = 500
_ANSWER_LIMIT_BYTES = 2 * 1024 * 1024
_THROTTLES = r"(?i)throttl|too ?many ?requests|request ?limit|slow ?down|unavailable|internal ?(failure|error|server)"
_UNSENT = frozenset(
    {
        pycurl.E_COULDNT_RESOLVE_HOST,
        pycurl.E_COULDNT_CONNECT,
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_SSL_CACERT,
    }
)


class AwsCallFailed(Exception):
    """An AWS API did not do what it was asked.

    `code` is the service's own error code, or `ConnectionFailed`; `message` holds no credentials; `retryable` says that
    the same call may work later.
    """

    def __init__(self, *, code: str, message: str, retryable: bool) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


class _HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    body: bytes


# Service, target, URL and credentials of a call.
type _Operation = tuple[str, str, str, AwsSettings]


class _Handle:
    """A libcurl handle with its open connection, prepared for the calls of one operation with one set of credentials.

    Preparing costs as much as all else that we do for a call, so it is done once for calls alike; each call sets its
    own body and deadline. Between two calls the handle holds neither body nor answer.
    """

    def __init__(self) -> None:
        self._curl = pycurl.Curl()
        self._answer = bytearray()
        self._prepared_for: _Operation | None = None

    def prepare(self, operation: _Operation) -> None:
        """Makes the next call one of `operation`. Nothing of another operation's calls is left, but the connection."""
        if self._prepared_for != operation:
            self._curl.reset()
            self._set(*operation)
            self._prepared_for = operation

    def perform(self, body: bytes, *, seconds: float) -> _HttpAnswer:
        """Sends `body`; `seconds` may be over already. Raises AwsCallFailed where there is no answer; the handle must
        then be closed."""
        curl = self._curl
        self._answer.clear()
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(seconds * 1000)))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(min(seconds, _CONNECT_SECONDS) * 1000)))
        try:
            curl.perform()
        except pycurl.error as error:
            raise AwsCallFailed(code=_NO_ANSWER, message=_curl_message(error), retryable=True) from None
        answer = _HttpAnswer(status=curl.getinfo(pycurl.RESPONSE_CODE), body=bytes(self._answer))
        curl.setopt(pycurl.POSTFIELDS, b"")
        self._answer.clear()
        return answer

    def close(self) -> None:
        """Closes the connection too."""
        self._curl.close()

    def _set(self, service: str, target: str, url: str, account: AwsSettings) -> None:
        headers = [
            f"Content-Type: application/x-amz-json-{_JSON_VERSIONS[service]}",
            f"X-Amz-Target: {target}",
            "Accept:",
            "Expect:",
        ]
        if account.aws_session_token:
            headers.append(f"X-Amz-Security-Token: {account.aws_session_token}")
        curl = self._curl
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.USERAGENT, f"Sallyport/{VERSION}")
        curl.setopt(pycurl.AWS_SIGV4, f"aws:amz:{account.aws_region}:{service}")
        curl.setopt(pycurl.USERNAME, account.aws_access_key_id)
        curl.setopt(pycurl.PASSWORD, account.aws_secret_access_key)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.NOPROXY, "*")
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.MAXAGE_CONN, _MAX_IDLE_SECONDS)
        curl.setopt(pycurl.WRITEFUNCTION, self._collect)
        if url.startswith("https:"):
            curl.setopt(pycurl.CAINFO, ca_bundle())

    def _collect(self, piece: bytes) -> int:
        if len(self._answer) + len(piece) > _ANSWER_LIMIT_BYTES:
            return 0  # libcurl stops the transfer
        self._answer.extend(piece)
        return len(piece)


# Idle handles with their open connections, by URL; a call takes one for itself.
_handles: Final[defaultdict[str, deque[_Handle]]] = defaultdict(deque)


def call(
    service: str,
    target: str,
    payload: Mapping[str, object],
    *,
    timeout_seconds: float,
    endpoint_url: str = "",
    settings: AwsSettings | None = None,
) -> dict[str, Any]:
    """One signed call of an AWS API that speaks JSON, such as `call("sqs", "AmazonSQS.SendMessageBatch", {...})`.

    It is repeated once after a failed connection, a 5xx or a throttle, if time is left of `timeout_seconds`, which
    covers everything: so it must be a call that may happen twice. Over a reused connection the first try has a third of
    that time, and the second is made over a new connection. Credentials and Region are the function's own unless
    `settings` has others; `endpoint_url` is for an API that is not AWS's own.

    Raises AwsCallFailed.
    """
    deadline = time.monotonic() + timeout_seconds
    account = settings or _own_account(timeout_seconds)
    url = f"{(endpoint_url or endpoint(service, account.aws_region)).rstrip('/')}/"
    once = partial(_call_once, service, target, payload, url=url, deadline=deadline, account=account)
    try:
        return once(reused_by=time.monotonic() + timeout_seconds * _REUSED_SHARE)
    except AwsCallFailed as failure:
        if not failure.retryable or time.monotonic() + _RETRY_PAUSE_SECONDS >= deadline:
            raise
        if failure.code == _NO_ANSWER:
            _close(url)  # whatever ended this connection may have ended the others
    time.sleep(_RETRY_PAUSE_SECONDS)
    return once(reused_by=deadline)


# Of China and the European Sovereign Cloud; all other Regions share one (botocore's partitions.json).
_SUFFIXES = {"cn": "amazonaws.com.cn", "eusc": "amazonaws.eu"}


def endpoint(service: str, region: str) -> str:
    """The URL of an AWS service in a Region (AWS General Reference, "Service endpoints")."""
    suffix = _SUFFIXES.get(region.partition("-")[0], "amazonaws.com")
    return f"https://{service}.{region}.{suffix}"


def rds_auth_token(*, host: str, port: int, user: str, now: datetime, settings: AwsSettings | None = None) -> str:
    """An IAM token to log in to RDS with as `user`, valid for 15 minutes from `now`. Made locally, without a call.

    It is a presigned URL without its scheme (Amazon RDS user guide, "Connecting to your DB instance using IAM
    authentication"). Raises AwsCallFailed where the function has no credentials to sign with.
    """
    account = settings or _own_account()
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{account.aws_region}/rds-db/aws4_request"
    query = {
        "Action": "connect",
        "DBUser": user,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{account.aws_access_key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(RDS_TOKEN_SECONDS),
        "X-Amz-SignedHeaders": "host",
    }
    if account.aws_session_token:
        query["X-Amz-Security-Token"] = account.aws_session_token
    host_port = f"{host}:{port}"
    canonical = "\n".join(
        ("GET", "/", _encoded(dict(sorted(query.items()))), f"host:{host_port}", "", "host", _sha256(b""))
    )
    to_sign = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, _sha256(canonical.encode())))
    signature = _hmac(_signing_key(account.aws_secret_access_key, scope), to_sign).hex()
    return f"{host_port}/?{_encoded(query)}&X-Amz-Signature={signature}"


def forget() -> None:
    """Closes open connections and drops credentials, as after a restore from a snapshot."""
    for url in list(_handles):
        _close(url)
    credentials.forget()


def _close(url: str) -> None:
    idle = _handles[url]
    while idle:
        idle.pop().close()


def _own_account(timeout_seconds: float = credentials.FETCH_SECONDS) -> AwsSettings:
    try:
        return credentials.current(timeout_seconds=timeout_seconds)
    except credentials.CredentialsUnavailable as failure:
        raise AwsCallFailed(code="NoCredentials", message=str(failure), retryable=True) from None


def _call_once(
    service: str,
    target: str,
    payload: Mapping[str, object],
    *,
    url: str,
    reused_by: float,
    deadline: float,
    account: AwsSettings,
) -> dict[str, Any]:
    """`reused_by` is the deadline of an answer over a reused connection, `deadline` that of any."""
    idle = _idle_handle(url)
    handle = idle or _Handle()
    handle.prepare((service, target, url, account))
    end_by = deadline if idle is None else min(reused_by, deadline)
    try:
        answer = handle.perform(msgspec.json.encode(payload), seconds=end_by - time.monotonic())
    except AwsCallFailed:
        handle.close()
        raise
    _handles[url].append(handle)
    if answer.status != 200:
        raise _failure(answer, account)
    return _parsed(answer.body)


def _idle_handle(url: str) -> _Handle | None:
    try:
        return _handles[url].pop()
    except IndexError:
        return None


def _curl_message(error: pycurl.error) -> str:
    code = error.args[0]
    if code in _UNSENT:
        return "no connection to the service"
    return (
        "the service did not answer in time"
        if code == pycurl.E_OPERATION_TIMEDOUT
        else f"the call failed (curl {code})"
    )


def _failure(answer: _HttpAnswer, account: AwsSettings) -> AwsCallFailed:
    """The error that a status other than 200 means. AWS's texts quote parts of the request, so secrets are masked."""
    fields = _error_fields(answer.body)
    code = str(fields.get("__type", "")).rpartition("#")[2] or f"Http{answer.status}"
    message = str(fields.get("message") or fields.get("Message") or "no message")
    if "signature" in message.lower():
        message = (
            "the request's signature does not match"  # the full text would quote the signed headers, token and all
        )
    for secret in (account.aws_secret_access_key, account.aws_session_token, account.aws_access_key_id):
        message = message.replace(secret, "***") if secret else message
    retryable = answer.status >= 500 or answer.status == 429 or re.search(_THROTTLES, code) is not None
    return AwsCallFailed(code=code, message=message[:_LONGEST_MESSAGE], retryable=retryable)


def _error_fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        parsed = msgspec.json.decode(body or b"{}")
    except ValueError:
        raise AwsCallFailed(
            code="UnreadableAnswer", message="the service's answer is not JSON", retryable=True
        ) from None
    if not isinstance(parsed, dict):
        raise AwsCallFailed(
            code="UnreadableAnswer", message="the service's answer is not a JSON object", retryable=True
        )
    return parsed


def _encoded(query: Mapping[str, str]) -> str:
    return urlencode(query, quote_via=quote, safe="-_.~")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _signing_key(secret: str, scope: str) -> bytes:
    """The key that Signature Version 4 derives from the secret for one day, Region and service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key
