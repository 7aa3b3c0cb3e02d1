"""Puts objects into an S3 bucket with Object Lock: what is there can be neither changed nor deleted for its time."""

import base64
import hashlib
from urllib.parse import quote

import pycurl

from runtime import credentials
from runtime.aws import endpoint
from runtime.roots import ca_bundle
from runtime.settings import BucketSettings
from runtime.version import VERSION

PUT_SECONDS = 5.0
_OK = 200


class NotStored(Exception):
    """The bucket did not take an object. The message holds no credentials."""


class CheckpointBucket:
    """The bucket that the stack names, by a connection for each object: there is one every few minutes."""

    def __init__(self, settings: BucketSettings) -> None:
        self._settings = settings

    def put(self, key: str, body: bytes) -> None:
        """Stores an object; under a key that is there already as its next version. Raises NotStored."""
        curl = pycurl.Curl()
        try:
            self._prepare(curl, key, body)
            curl.perform()
            status = curl.getinfo(pycurl.RESPONSE_CODE)
        except pycurl.error as error:
            raise NotStored(f"no answer (curl {error.args[0]})") from None
        except credentials.CredentialsUnavailable:
            raise NotStored("the function has no credentials") from None
        finally:
            curl.close()
        if status != _OK:
            raise NotStored(f"S3 answered with status {status}")

    def _prepare(self, curl: pycurl.Curl, key: str, body: bytes) -> None:
        account = credentials.current(timeout_seconds=PUT_SECONDS)
        digest = hashlib.md5(body, usedforsecurity=False).digest()  # S3 wants it where Object Lock holds an object
        headers = ["Content-Type: application/jsonl", f"Content-MD5: {base64.b64encode(digest).decode()}", "Expect:"]
        if account.aws_session_token:
            headers.append(f"X-Amz-Security-Token: {account.aws_session_token}")
        url = f"{self._url(account.aws_region)}/{quote(key)}"
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.CUSTOMREQUEST, "PUT")
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.USERAGENT, f"Sallyport/{VERSION}")
        curl.setopt(pycurl.AWS_SIGV4, f"aws:amz:{account.aws_region}:s3")
        curl.setopt(pycurl.USERNAME, account.aws_access_key_id)
        curl.setopt(pycurl.PASSWORD, account.aws_secret_access_key)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.NOPROXY, "*")
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.TIMEOUT_MS, int(PUT_SECONDS * 1000))
        curl.setopt(pycurl.WRITEFUNCTION, lambda _: None)  # what S3 says of an error is read in its own log
        if url.startswith("https:"):
            curl.setopt(pycurl.CAINFO, ca_bundle())

    def _url(self, region: str) -> str:
        """By the bucket's own name on AWS; beneath an emulated API's."""
        name = self._settings.audit_bucket_name
        if self._settings.s3_endpoint_url:
            return f"{self._settings.s3_endpoint_url.rstrip('/')}/{name}"
        return endpoint(f"{name}.s3", region)
