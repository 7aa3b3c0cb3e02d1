"""The function's own credentials: from the environment, or with SnapStart from Lambda's credentials endpoint.

Credentials in the environment would be those of the moment when the snapshot was made, and expired by the time it is
restored. So with SnapStart the runtime sets AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN
instead (AWS Lambda developer guide, "Activating and managing Lambda SnapStart", section "Using SnapStart with the AWS
SDKs"), and the credentials are fetched from there, as the AWS SDKs do (SDKs and Tools Reference Guide, "Container
credential provider").
"""

import json
import time
from datetime import datetime
from functools import cache

import msgspec
import pycurl

from runtime.settings import AwsSettings, ContainerSettings

FETCH_SECONDS = 2.0  # the endpoint is on this machine
RENEWED_BEFORE_EXPIRY_SECONDS = 300.0
_ANSWER_LIMIT_BYTES = 64 * 1024


class CredentialsUnavailable(Exception):
    """The credentials endpoint gave none. The message contains no secret."""


class _Fetched(msgspec.Struct, frozen=True, kw_only=True):
    settings: AwsSettings
    expires_at: float

    def lasts(self, seconds: float) -> bool:
        return self.expires_at - time.time() > seconds


_cached: _Fetched | None = None


def current(*, timeout_seconds: float = FETCH_SECONDS) -> AwsSettings:
    """Credentials that are valid now, with the Region; after `timeout_seconds` or FETCH_SECONDS at the latest.

    Fetched ones are cached until five minutes before they expire, and until they do where the endpoint fails then.
    Raises SettingsError where the environment names neither credentials nor an endpoint, CredentialsUnavailable.
    """
    global _cached  # noqa: PLW0603 - one set of credentials per process, as it has one environment
    given = _given()
    if isinstance(given, AwsSettings):
        return given
    if _cached is not None and _cached.lasts(RENEWED_BEFORE_EXPIRY_SECONDS):
        return _cached.settings
    try:
        _cached = _read(_fetched(given, seconds=min(timeout_seconds, FETCH_SECONDS)), given)
    except CredentialsUnavailable:
        if _cached is None or not _cached.lasts(0):
            raise
    return _cached.settings


def forget() -> None:
    """Drops what was read and fetched, which belongs to the process that a snapshot was made of."""
    global _cached  # noqa: PLW0603 - see above
    _cached = None
    _given.cache_clear()


@cache
def _given() -> AwsSettings | ContainerSettings:
    """The credentials of the environment, or where it says to fetch them; read once per process, since reading costs a
    call to SQS a sixth of its work. Raises SettingsError; then the next call reads again."""
    container = ContainerSettings.from_environment()
    return container if container.aws_container_credentials_full_uri else AwsSettings.from_environment()


def _fetched(container: ContainerSettings, *, seconds: float) -> bytes:
    body = bytearray()

    def collect(piece: bytes) -> int:
        body.extend(piece)
        return len(piece) if len(body) <= _ANSWER_LIMIT_BYTES else 0  # 0 stops the transfer

    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, container.aws_container_credentials_full_uri)
    handle.setopt(pycurl.HTTPHEADER, [f"Authorization: {container.aws_container_authorization_token}"])
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.NOPROXY, "*")
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.TIMEOUT_MS, max(1, int(seconds * 1000)))
    handle.setopt(pycurl.WRITEFUNCTION, collect)
    try:
        handle.perform()
        status = handle.getinfo(pycurl.RESPONSE_CODE)
    except pycurl.error as error:
        raise CredentialsUnavailable(f"the credentials endpoint gave no answer (curl {error.args[0]})") from None
    finally:
        handle.close()
    if status != 200:
        raise CredentialsUnavailable(f"the credentials endpoint answered with status {status}")
    return bytes(body)


def _read(body: bytes, container: ContainerSettings) -> _Fetched:
    try:
        fields = json.loads(body)
        return _Fetched(
            settings=AwsSettings(
                aws_region=container.aws_region,
                aws_access_key_id=str(fields["AccessKeyId"]),
                aws_secret_access_key=str(fields["SecretAccessKey"]),
                aws_session_token=str(fields["Token"]),
            ),
            expires_at=datetime.fromisoformat(fields["Expiration"]).timestamp(),
        )
    except (ValueError, KeyError, TypeError):
        raise CredentialsUnavailable("the answer of the credentials endpoint is not a set of credentials") from None
