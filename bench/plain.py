"""The floor: the same work by hand, with psycopg, json and pycurl and nothing else; no framework, no layers.

One handler per function. Each checks what ours checks, sends the same signed message and runs one statement per step,
on the same tables, so that what is left over is what our structure costs. It leaves out what a first version would: a
connection that broke, a second try, problems that name every field, counts.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import socket
import uuid
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pycurl

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
PATH = re.compile(r"(/([A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*)*")
QUERY = re.compile(r"([A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
KEY = re.compile(r"[\x21-\x7e]{1,255}")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
FIELDS = {"destination", "method", "path", "query", "headers", "body", "metadata"}
RESERVED = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"}
RESERVED |= {"expect", "authorization", "prefer", "idempotency-key", "via", "forwarded"}
SHOWN = [
    "delivery_id",
    "destination",
    "destination_id",
    "state",
    "method",
    "path",
    "query",
    "headers",
    "metadata",
    "idempotency_key",
    "attempts_made",
    "attempts_allowed",
    "next_attempt_at",
    "created_at",
    "finished_at",
]

# The two statements of a worker, also of those in bench/peers.
CLAIM = """
    UPDATE delivery SET state = 'sending', lease_id = gen_random_uuid(), leased_until = %s,
           attempts_made = attempts_made + 1
    FROM destination, delivery_body
    WHERE delivery.delivery_id = ANY (%s) AND delivery.state = 'pending' AND due_at <= %s
      AND destination.destination_id = delivery.destination_id
      AND delivery_body.delivery_id = delivery.delivery_id
    RETURNING delivery.delivery_id, method, base_url || path, headers, body, attempts_made, idempotent,
              idempotency_header, idempotency_key, connect_seconds, total_seconds
"""
RECORD = """
    WITH made AS (
        SELECT * FROM json_to_recordset(%s::text::json) AS listed (
            attempt_id uuid, delivery_id uuid, number smallint, dns_ms double precision,
            connect_ms double precision, tls_ms double precision, first_byte_ms double precision,
            total_ms double precision, remote_address inet, status smallint, headers jsonb, body text,
            length bigint, sha256 text)
    ), logged AS (
        INSERT INTO attempt (attempt_id, delivery_id, number, outcome, started_at, dns_ms, connect_ms, tls_ms,
                             first_byte_ms, total_ms, remote_address, status, response_headers, response_body,
                             response_length, response_sha256, response_truncated)
        SELECT attempt_id, delivery_id, number, 'answered', %s, dns_ms, connect_ms, tls_ms, first_byte_ms,
               total_ms, remote_address, status, headers, decode(body, 'base64'), length, decode(sha256, 'hex'),
               length > 65536
        FROM made)
    UPDATE delivery SET state = CASE WHEN status < 300 THEN 'delivered' ELSE 'failed' END, lease_id = NULL,
           leased_until = NULL, finished_at = %s
    FROM made WHERE delivery.delivery_id = made.delivery_id
"""

COMPACT = partial(json.dumps, separators=(",", ":"))

_connection: Any = None
_curl = pycurl.Curl()
_multi = pycurl.CurlMulti()


class Declined(Exception):
    """A status and its reason: not to be carried out as it was asked for."""

    def __init__(self, status: Any, detail: Any) -> None:
        super().__init__(detail)
        self.status = status


def handler(event: Any, context: Any) -> Any:
    """POST /v1/deliveries and GET /v1/deliveries/{id}."""
    try:
        if event["httpMethod"] == "POST":
            return create(event)
        return show(event)
    except Declined as refused:
        return answer(refused.status, {"detail": str(refused)})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return answer(422, {"detail": str(error)})


def create(event: Any) -> Any:
    caller = event["requestContext"]["authorizer"]
    permit(caller, "send")
    new = checked(json.loads(base64.b64decode(event["body"])))
    keys = [value for name, value in event["headers"].items() if name.lower() == "idempotency-key"]
    row = stored(caller["tenant_id"], checked_key(keys[0]) if keys else None, **new)
    print(json.dumps({"level": "INFO", "message": "delivery accepted", "delivery_id": str(row[0])}))
    location = f"{event['requestContext']['path']}/{row[0]}"
    return answer(202, shown(row), {"Location": [location]})


def stored(
    tenant_id: Any,
    key: Any,
    *,
    destination: Any,
    method: Any,
    path: Any,
    query: Any,
    headers: Any,
    body: Any,
    metadata: Any,
    dumps: Any = json.dumps,
    compact: Any = COMPACT,
) -> Any:
    """The wake-up, then the statement; the row. This and `found` are also the work of bench/peers."""
    content = body.encode() if isinstance(body, str) else compact(body).encode()
    printed = fingerprint(destination, method, path, query, content)
    now = datetime.now(UTC)
    delivery_id = uuid7(now)
    send(delivery_id, now, f"{tenant_id}:{destination}", dumps)
    row = (
        connection()
        .execute(
            """
            WITH written AS (
                INSERT INTO delivery (
                    delivery_id, tenant_id, destination_id, idempotency_key, fingerprint, method, path, query, headers,
                    metadata, state, attempts_made, attempts_allowed, due_at, created_at)
                SELECT %s, tenant_id, destination_id, %s, %s, %s, %s, %s, %s::text::jsonb, %s::text::jsonb, 'pending',
                       0, 10, %s, %s
                FROM destination WHERE tenant_id = %s AND name = %s
                ON CONFLICT ON CONSTRAINT delivery_key_once DO UPDATE SET idempotency_key = EXCLUDED.idempotency_key
                RETURNING delivery_id, %s, destination_id, state, method, path, query, headers, metadata,
                          idempotency_key, attempts_made, attempts_allowed, due_at, created_at, finished_at, fingerprint
            ), stored AS (
                INSERT INTO delivery_body (delivery_id, body)
                SELECT delivery_id, %s FROM written WHERE delivery_id = %s
            )
            SELECT * FROM written
            """,
            (
                delivery_id,
                key or str(delivery_id),
                printed,
                method,
                path,
                query,
                dumps(list(headers.items())),
                dumps(metadata),
                now,
                now,
                tenant_id,
                destination,
                destination,
                content,
                delivery_id,
            ),
        )
        .fetchone()
    )
    if row is None:
        raise Declined(404, "no such destination")
    if row[-1] != printed:
        raise Declined(422, "key reused")
    return row


def show(event: Any) -> Any:
    caller = event["requestContext"]["authorizer"]
    permit(caller, "read")
    return answer(200, found(uuid.UUID(event["path"].rpartition("/")[2]), caller["tenant_id"]))


def found(delivery_id: Any, tenant_id: Any) -> Any:
    """The statement of a GET, and the document."""
    rows = (
        connection()
        .execute(
            """
            SELECT delivery.delivery_id, destination.name, destination_id, delivery.state, method, path, query, headers,
                   metadata, idempotency_key, attempts_made, attempts_allowed, due_at, delivery.created_at, finished_at,
                   attempt_id, number, outcome, reason, started_at, dns_ms, connect_ms, tls_ms, first_byte_ms,
                   total_ms, host(remote_address), host(egress_address), status, response_headers, response_body,
                   response_length, response_sha256, response_truncated
            FROM delivery JOIN destination USING (destination_id) LEFT JOIN attempt USING (delivery_id)
            WHERE delivery.delivery_id = %s AND delivery.tenant_id = %s ORDER BY number
            """,
            (delivery_id, tenant_id),
        )
        .fetchall()
    )
    if not rows:
        raise Declined(404, "no such delivery")
    attempts = [attempt_shown(row[15:]) for row in rows if row[15]]
    response = attempts[-1]["response"] if attempts else None
    return shown(rows[0]) | {"attempts": attempts, "response": response}


def permit(caller: Any, scope: Any) -> Any:
    if scope not in caller["scopes"].split():
        raise Declined(403, f"this token lacks the scope '{scope}'")


def checked(new: Any) -> Any:
    if new.keys() - FIELDS:
        raise ValueError("unknown field")
    new = {"method": "POST", "path": "", "query": "", "headers": {}, "body": "", "metadata": {}} | new
    if not NAME.fullmatch(new["destination"]) or new["method"] not in METHODS:
        raise ValueError("destination or method")
    if len(new["path"]) > 4096 or not PATH.fullmatch(new["path"]) or not QUERY.fullmatch(new["query"]):
        raise ValueError("path or query")
    check_segments(new["path"])
    check_headers(new["headers"])
    check_metadata(new["metadata"])
    if not isinstance(new["body"], str | dict | list):
        raise ValueError("body")
    return new


def checked_key(key: Any) -> Any:
    if not KEY.fullmatch(key):
        raise ValueError("Idempotency-Key")
    return key


def check_segments(path: Any) -> Any:
    if any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("dots")


def check_headers(headers: Any) -> Any:
    for name, value in headers.items():
        if not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
            raise ValueError("header")
        if name.lower() in RESERVED or name.lower().startswith(("sallyport-", "x-forwarded-", "x-amzn-")):
            raise ValueError("reserved header")


def check_metadata(metadata: Any, dumps: Any = json.dumps) -> Any:
    if not isinstance(metadata, dict) or len(dumps(metadata)) > 4096:
        raise ValueError("metadata")


def fingerprint(destination: Any, method: Any, path: Any, query: Any, content: Any) -> Any:
    parts = (destination.encode(), method.encode(), path.encode(), query.encode(), content)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()


def shown(row: Any) -> Any:
    document = dict(zip(SHOWN, row[:15], strict=True))
    document["headers"] = dict(document["headers"])
    if document["state"] != "pending":
        document["next_attempt_at"] = None
    return document


def attempt_shown(row: Any) -> Any:
    names = ["attempt_id", "number", "outcome", "reason", "started_at"]
    times = ["dns_ms", "connect_ms", "tls_ms", "first_byte_ms", "total_ms"]
    found = dict(zip(names, row[:5], strict=True))
    found["timings"] = dict(zip(times, row[5:10], strict=True))
    found["remote_address"], found["egress_address"] = row[10:12]
    found["response"] = row[12] and {
        "status": row[12],
        "headers": dict(row[13]),
        "body": row[14].decode(),
        "body_base64": None,
        "length_bytes": row[15],
        "sha256": row[16] and row[16].hex(),
        "truncated": row[17],
    }
    return found


def answer(status: Any, document: Any, headers: Any = None) -> Any:
    return {
        "statusCode": status,
        "multiValueHeaders": {"Content-Type": ["application/json"], **(headers or {})},
        "body": json.dumps(document, default=plain_value),
        "isBase64Encoded": False,
    }


def plain_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def send(delivery_id: Any, now: Any, group: Any, dumps: Any) -> Any:
    """One signed SendMessageBatch on a connection that stays open."""
    message = {"delivery_id": str(delivery_id), "due_at": now.isoformat(), "group": group, "misses": 0}
    entry = {"Id": "0", "MessageBody": dumps(message), "DelaySeconds": 0, "MessageGroupId": group}
    payload = {"QueueUrl": os.environ["WAKEUP_QUEUE_URL"], "Entries": [entry]}
    told: list[bytes] = []
    _curl.setopt(pycurl.URL, os.environ["SQS_ENDPOINT_URL"] + "/")
    _curl.setopt(pycurl.POSTFIELDS, dumps(payload).encode())
    _curl.setopt(
        pycurl.HTTPHEADER,
        [
            "Content-Type: application/x-amz-json-1.0",
            "X-Amz-Target: AmazonSQS.SendMessageBatch",
            f"X-Amz-Security-Token: {os.environ['AWS_SESSION_TOKEN']}",
            "Expect:",
        ],
    )
    _curl.setopt(pycurl.AWS_SIGV4, f"aws:amz:{os.environ['AWS_REGION']}:sqs")
    _curl.setopt(pycurl.USERPWD, f"{os.environ['AWS_ACCESS_KEY_ID']}:{os.environ['AWS_SECRET_ACCESS_KEY']}")
    _curl.setopt(pycurl.WRITEFUNCTION, told.append)
    _curl.setopt(pycurl.TIMEOUT_MS, 5000)
    _curl.perform()
    if _curl.getinfo(pycurl.RESPONSE_CODE) != 200 or len(json.loads(b"".join(told))["Successful"]) != 1:
        raise RuntimeError("SQS did not take the message")


def uuid7(now: Any) -> Any:
    value = (int(now.timestamp() * 1000) << 80) | int.from_bytes(secrets.token_bytes(10))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    return uuid.UUID(int=(value & ~(0x3 << 62)) | (0x2 << 62))


def connection() -> Any:
    global _connection  # noqa: PLW0603 - the plainest way to keep one
    if _connection is None:
        _connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    return _connection


def authorize(event: Any, context: Any) -> Any:
    """The authorizer: one SELECT by the token's hash."""
    token = event["headers"]["Authorization"].removeprefix("Bearer ")
    row = (
        connection()
        .execute(
            "SELECT tenant_id, token_id, scopes FROM token WHERE token_sha256 = %s AND revoked_at IS NULL",
            (hashlib.sha256(token.encode()).digest(),),
        )
        .fetchone()
    )
    if row is None:
        raise RuntimeError("Unauthorized")
    arn = "/".join(event["methodArn"].split("/")[:2]) + "/*"
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": arn}
    return {
        "principalId": str(row[0]),
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"tenant_id": str(row[0]), "token_id": str(row[1]), "scopes": " ".join(row[2])},
    }


def attempt(event: Any, context: Any) -> Any:
    """The worker: claim a batch, send all of it at once, record each attempt with its answer."""
    now = datetime.now(UTC)
    claimed = (
        connection()
        .execute(
            CLAIM,
            (
                now + timedelta(seconds=40),
                [uuid.UUID(json.loads(record["body"])["delivery_id"]) for record in event["Records"]],
                now,
            ),
            binary=True,
        )
        .fetchall()
    )
    connection().execute(
        RECORD,
        (json.dumps(sent(claimed, now)), now, datetime.now(UTC)),
    )
    return {"batchItemFailures": []}


def sent(claimed: Any, now: Any) -> Any:
    """What is recorded of each."""
    handles = [request(*row[1:5], *row[6:]) for row in claimed]
    for handle, _, _ in handles:
        _multi.add_handle(handle)
    left = len(handles)
    while left:
        _, left = _multi.perform()
        if left:
            _multi.select(1.0)
    return [made(row, now, *each) for row, each in zip(claimed, handles, strict=True)]


def made(row: Any, now: Any, handle: Any, lines: Any, pieces: Any) -> Any:
    status, body = handle.getinfo(pycurl.RESPONSE_CODE), b"".join(pieces)
    fields = [line.decode("latin-1").strip().partition(":") for line in lines[1:] if line.strip()]
    attempt = {
        "attempt_id": str(uuid7(now)),
        "delivery_id": str(row[0]),
        "number": row[5],
        "dns_ms": handle.getinfo(pycurl.NAMELOOKUP_TIME) * 1000,
        "connect_ms": handle.getinfo(pycurl.CONNECT_TIME) * 1000,
        "tls_ms": handle.getinfo(pycurl.APPCONNECT_TIME) * 1000,
        "first_byte_ms": handle.getinfo(pycurl.STARTTRANSFER_TIME) * 1000,
        "total_ms": handle.getinfo(pycurl.TOTAL_TIME) * 1000,
        "remote_address": handle.getinfo(pycurl.PRIMARY_IP),
        "status": status,
        "headers": [(name, value.strip()) for name, _, value in fields],
        "body": base64.b64encode(body[:65536]).decode(),
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    _multi.remove_handle(handle)
    handle.close()
    print(json.dumps({"message": "attempt made", "delivery_id": attempt["delivery_id"], "status": status}))
    return attempt


def request(
    method: Any,
    url: Any,
    headers: Any,
    body: Any,
    idempotent: Any,
    key_header: Any,
    key: Any,
    connect_seconds: Any,
    total_seconds: Any,
) -> Any:
    """A transfer to the checked address and no other, with the lines and pieces of its answer."""
    lines: list[bytes] = []
    pieces: list[bytes] = []
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.RESOLVE, [pinned(url)])
    handle.setopt(pycurl.CUSTOMREQUEST, method)
    handle.setopt(pycurl.POSTFIELDS, body)
    handle.setopt(
        pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers] + [f"{key_header}: {key}", "Expect:"]
    )
    handle.setopt(pycurl.HEADERFUNCTION, lines.append)
    handle.setopt(pycurl.WRITEFUNCTION, pieces.append)
    handle.setopt(pycurl.FRESH_CONNECT, int(not idempotent))
    handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(connect_seconds * 1000))
    handle.setopt(pycurl.TIMEOUT_MS, int(total_seconds * 1000))
    return handle, lines, pieces


def pinned(url: Any) -> Any:
    """The address that a URL leads to, as libcurl wants it; only a public one, or one that is allowed here."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    address = ip_address(socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)[0][4][0])
    if not address.is_global and address not in allowed_network():
        raise Declined(422, "not a public address")
    return f"{parts.hostname}:{port}:{address}"


@cache
def allowed_network() -> Any:
    return ip_network(os.environ["ALLOWED_PRIVATE_CIDRS"])


def migrate(event: Any, context: Any) -> Any:
    """A schema that is up to date: which migrations were applied?"""
    rows = connection().execute("SELECT number, sha256 FROM schema_migration ORDER BY number").fetchall()
    return {"applied": [], "version": rows[-1][0]}


def admin(event: Any, context: Any) -> Any:
    """Issues a token for a tenant that exists."""
    token = "spt_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    now = datetime.now(UTC)
    token_id = uuid7(now)
    row = (
        connection()
        .execute(
            """
            INSERT INTO token (token_id, tenant_id, token_sha256, scopes, created_at)
            SELECT %s, tenant_id, %s, %s, %s FROM tenant WHERE name = %s RETURNING tenant_id
            """,
            (token_id, hashlib.sha256(token.encode()).digest(), event["scopes"], now, event["tenant"]),
        )
        .fetchone()
    )
    return {"token": token, "token_id": str(token_id), "tenant_id": str(row[0]), "scopes": event["scopes"]}
