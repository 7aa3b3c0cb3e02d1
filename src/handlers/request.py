"""One call as the routes see it, read from API Gateway's REST proxy event."""

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from uuid import UUID

from domain.destinations import MAX_TOTAL_SECONDS
from domain.errors import Fault, Forbidden, InvalidRequest, Malformed, NotFound, TooLarge
from domain.events import EVENT_KEY_PREFIX, is_reserved
from domain.ids import TenantId
from domain.values import value_class

if TYPE_CHECKING:
    from flows.audit import Actor

BODY_LIMIT_BYTES = 4 * 1024 * 1024
_LONG_WAIT_DIGITS = 6  # as good as more of them, of which Python does not read just any number
_ETAG = r'"([0-9]{1,18})"'
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@value_class(frozen=True, slots=True, kw_only=True)
class Request:
    """`path` is percent-encoded as the caller sent it, without the stage; `stage_path` is what precedes it.

    `headers` and `query` have repeated names in their order; query values are decoded, because REST
    APIs hand them over so. `tenant_id`, `token_id` and `scopes` come from the authorizer and are empty on open routes.
    `source_address` is what API Gateway saw the call come from. `destinations` are the ids and names of those that the
    token is for, None for all.

    `approval` is the proposal that this call was, made at `proposed_at`; both are None for other calls.
    """

    method: str
    path: str
    stage_path: str
    host: str
    headers: tuple[tuple[str, str], ...]
    query: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    tenant: str
    scopes: frozenset[str]
    token_id: str = ""
    source_address: str | None = None
    destinations: frozenset[str] | None = None
    approval: UUID | None = None
    proposed_at: datetime | None = None

    @property
    def tenant_id(self) -> TenantId:
        """Whose call it is."""
        return TenantId(UUID(self.tenant))

    def need(self, scope: str) -> None:
        """Raises Forbidden where the token lacks `scope`."""
        if scope not in self.scopes:
            raise Forbidden(scope)

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for header, value in self.headers if header.lower() == name]

    def parameter(self, name: str) -> str | None:
        """A query parameter that may appear once; None where it is absent. Raises InvalidRequest for a repeated one."""
        values = [value for parameter, value in self.query if parameter == name]
        if len(values) > 1:
            raise InvalidRequest(Fault(field=name, detail="must not be repeated"))
        return values[0] if values else None

    def raw_query(self) -> str:
        """The query string, encoded again; the order among different names may differ from what was sent.

        A space becomes %20, which everybody decodes alike; "+" is a space in forms and a plus in RFC 3986.
        """
        return urlencode(self.query, quote_via=quote)

    def idempotency_key(self) -> str | None:
        """The Idempotency-Key header, quoted as in the IETF draft or bare; None where absent. Raises Malformed."""
        values = self.values("idempotency-key")
        if not values:
            return None
        bare = values[0][1:-1] if re.fullmatch(r'".*"', values[0]) else values[0]
        if len(values) > 1 or not _KEY.fullmatch(bare):
            raise Malformed("Idempotency-Key must be sent once, and be 1 to 255 visible ASCII characters")
        if is_reserved(bare):
            raise Malformed(f"Idempotency-Key must not begin with {EVENT_KEY_PREFIX}, as those of events do")
        return bare

    def versions_expected(self) -> frozenset[int] | None:
        """What an If-Match header (RFC 9110 section 13.1.1) names; None where there is none, and for "*".

        Tags are compared strongly, so that a weak one names nothing, nor does one that is not ours.
        """
        sent = self.values("if-match")
        tags = [tag.strip() for tag in ",".join(sent).split(",")]
        if not sent or tags == ["*"]:
            return None
        return frozenset(int(match[1]) for match in (re.fullmatch(_ETAG, tag) for tag in tags) if match)

    def preferences(self) -> dict[str, str]:
        """The Prefer headers (RFC 7240); the first counts where one is repeated."""
        preferences: dict[str, str] = {}
        for part in ",".join(self.values("prefer")).split(","):
            name, _, value = part.partition(";")[0].partition("=")
            preferences.setdefault(name.strip().lower(), value.strip().strip('"'))
        return preferences

    def wait_seconds(self) -> int | None:
        """How long the caller prefers to wait, at most 25 s; None for not at all.

        A wait that is no whole number is ignored, as RFC 7240 section 2 asks of a preference that cannot be honoured.
        """
        wait = self.preferences().get("wait", "").lstrip("0")
        if not wait.isdecimal():
            return None
        return min(int(wait[:_LONG_WAIT_DIGITS]), MAX_TOTAL_SECONDS)


def request_of(event: Mapping[str, Any]) -> Request:
    """From the event. Raises TooLarge for a body over 4 MiB, Malformed where something is not Unicode text."""
    context = event.get("requestContext") or {}
    authorizer = context.get("authorizer") or {}
    request = Request(
        method=event["httpMethod"],
        path=event["path"],
        stage_path=(context.get("path") or event["path"]).removesuffix(event["path"]),
        host=context.get("domainName") or "",
        headers=_pairs(event, "multiValueHeaders", "headers"),
        query=_pairs(event, "multiValueQueryStringParameters", "queryStringParameters"),
        body=_body(event),
        tenant=authorizer.get("tenant_id") or "",
        scopes=frozenset((authorizer.get("scopes") or "").split()),
        token_id=authorizer.get("token_id") or "",
        source_address=(context.get("identity") or {}).get("sourceIp"),
        destinations=frozenset(authorizer["destinations"].split()) if "destinations" in authorizer else None,
    )
    if not _is_unicode(request):
        raise Malformed("the path, the query and the headers must be Unicode text")
    return request


def _is_unicode(request: Request) -> bool:
    """JSON can carry half of a surrogate pair, and so can an event; nothing behind here could encode it."""
    texts = chain((request.path,), *request.query, *request.headers)
    try:
        "\n".join(texts).encode()  # apart, or two halves could become a pair
    except UnicodeEncodeError:
        return False
    return True


def actor_of(request: Request) -> "Actor":
    """Who makes this call."""
    from flows.audit import Actor  # with the audit log: most calls are no acts

    return Actor(by=request.token_id, source_address=request.source_address, approval=request.approval)


def uuid_of(text: str, *, noun: str) -> UUID:
    """The id in a path. Raises NotFound where it is not a UUID: nothing has such an id."""
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound(noun, text) from error


def _pairs(event: Mapping[str, Any], many: str, one: str) -> tuple[tuple[str, str], ...]:
    listed = event.get(many)
    if listed:
        return tuple([(name, value) for name, values in listed.items() for value in values])
    return tuple((event.get(one) or {}).items())


def _body(event: Mapping[str, Any]) -> bytes:
    text = event.get("body") or ""
    try:
        body = b64decode(text) if event.get("isBase64Encoded") else text.encode()
    except ValueError:
        raise Malformed("the body is neither base64 nor Unicode text") from None
    if len(body) > BODY_LIMIT_BYTES:
        raise TooLarge(limit_bytes=BODY_LIMIT_BYTES)
    return body
