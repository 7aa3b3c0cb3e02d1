"""/v1/audit: what was done to what a tenant has, and by whom."""

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any
from urllib.parse import urlencode

import msgspec
from aws_lambda_powertools.event_handler import Response

from db import audit as table
from domain.audit import WrittenEntry
from domain.errors import Fault, InvalidRequest, NotFound
from domain.scopes import READ
from flows.seal_attempts import sealed_lines
from handlers import wiring
from handlers.answers import ANSWER_BYTES, fitting, weight
from handlers.operations import Operation, OperationResponse, Parameter, as_json, new_router, serves
from handlers.paging import LIMIT, limit_of
from handlers.request import Request, uuid_of
from handlers.schemas.audit import AuditBody, audit_entry_body

router = new_router()

EXPORT_LINES = 5000
MAX_TEXT = 200
_NUMBER = re.compile("[0-9]{1,18}")


def _moment(name: str, description: str, example: str) -> Parameter:
    schema = {"type": "string", "format": "date-time"}
    return Parameter(name=name, place="query", description=description, example=example, schema=schema)


def _text(name: str, description: str, example: str) -> Parameter:
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
    return Parameter(name=name, place="query", description=description, example=example, schema=schema)


SINCE = _moment("since", "Only what was done at or after this moment", "2026-11-01T00:00:00Z")
UNTIL = _moment("until", "Only what was done before this moment", "2100-01-01T00:00:00Z")
CURSOR = Parameter(
    name="cursor", place="query", description="The next_cursor of the page before", example="1000000000000"
)
AFTER = Parameter(
    name="after",
    place="query",
    description="Only entries behind the one with this number",
    example=0,
    schema={"type": "integer", "minimum": 0, "default": 0},
)


SEAL = Parameter(
    name="seal",
    place="query",
    description="Which interval",
    example="01a203c5-3b10-7f52-9c3d-2b8f6f4e1d33",
    schema={"type": "string", "format": "uuid"},
    required=True,
)


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/audit",
        summary="List what was done, newest first",
        scope=READ,
        parameters=(
            _text("what", "Only acts of this kind", "destination.changed"),
            _text("on", "Only what was done to the thing with this id", "01a203c3-0d5e-7c11-8a4f-3f1d6f0b7a20"),
            _text("by", "Only what this token, or this other, did", "01a203c1-9b1c-7d23-b1de-8f3c0c7e51aa"),
            SINCE,
            UNTIL,
            LIMIT,
            CURSOR,
        ),
        responses={200: OperationResponse(description="A page of the audit log", body=AuditBody)},
    ),
)
def list_entries(request: Request) -> Response[Any]:
    """Keyset pagination by the numbers of the entries."""
    limit, before = limit_of(request), request.parameter("cursor")
    if before is not None and not _NUMBER.fullmatch(before):
        raise InvalidRequest(Fault(field="cursor", detail="must be the next_cursor of the page before"))
    wanted = table.AuditFilter(
        tenant_id=request.tenant_id,
        since=_moment_of(request, "since"),
        until=_moment_of(request, "until"),
        what=_text_of(request, "what"),
        on=_text_of(request, "on"),
        actor=_text_of(request, "by"),
        before=None if before is None else int(before),
    )
    page = table.page(wiring.api().database, wanted, limit=limit + 1)
    shown = fitting([audit_entry_body(entry) for entry in page[:limit]])
    following = str(shown[-1].sequence) if len(page) > len(shown) else None
    return as_json(200, AuditBody(shown, following))


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/audit/export",
        summary="Export the audit log, oldest first",
        description="One entry a line, as it was hashed: what `python -m sallyport_audit verify` reads. A `Link` "
        "header leads to the rest.",
        scope=READ,
        parameters=(AFTER, SINCE, UNTIL),
        responses={
            200: OperationResponse(description="Lines of JSON", media_type="application/jsonl", some_headers=("Link",))
        },
    ),
)
def export(request: Request) -> Response[Any]:
    """Without a gap between the first and the last."""
    after, since, until = _after(request), _moment_of(request, "since"), _moment_of(request, "until")
    found = table.export(
        wiring.api().database,
        tenant_id=request.tenant_id,
        after=after,
        since=since,
        until=until,
        limit=EXPORT_LINES + 1,
    )
    lines = _fitting_lines(found[:EXPORT_LINES])
    headers = {}
    if len(found) > len(lines):
        rest = {"after": str(found[len(lines) - 1].sequence), "until": request.parameter("until")}
        query = urlencode({name: value for name, value in rest.items() if value is not None})
        headers["Link"] = f'<{request.stage_path}{request.path}?{query}>; rel="next"'
    return Response(status_code=200, content_type="application/jsonl", body="".join(lines), headers=headers)


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/audit/attempts",
        summary="Export the attempts of a sealed interval",
        description="`seal` is the `on` of an entry `attempts.sealed`. The first line has the hashes of all attempts "
        "of the interval, the others have those that are still stored.",
        scope=READ,
        parameters=(SEAL,),
        responses={200: OperationResponse(description="Lines of JSON", media_type="application/jsonl")},
        problems=("not-found",),
    ),
)
def export_attempts(request: Request) -> Response[Any]:
    """To append to an export of the log."""
    text = request.parameter("seal")
    if text is None:
        raise InvalidRequest(Fault(field="seal", detail="must be the `on` of an entry attempts.sealed"))
    lines = sealed_lines(request.tenant_id, uuid_of(text, noun="seal"), services=wiring.api())
    if lines is None:
        raise NotFound("seal", text)
    return Response(status_code=200, content_type="application/jsonl", body="".join(lines), headers={})


def _fitting_lines(entries: Sequence[WrittenEntry]) -> list[str]:
    lines = [entry.line() for entry in entries]
    sizes = accumulate(weight(line) for line in lines)
    return [line for line, size in zip(lines, sizes, strict=True) if size <= ANSWER_BYTES]


def _after(request: Request) -> int:
    text = request.parameter("after")
    if text is None:
        return 0
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(Fault(field="after", detail="must be the number of an entry, or 0"))
    return int(text)


def _text_of(request: Request, name: str) -> str | None:
    text = request.parameter(name)
    if text is None:
        return None
    if not 1 <= len(text) <= MAX_TEXT or "\0" in text:
        raise InvalidRequest(Fault(field=name, detail=f"must be 1 to {MAX_TEXT} characters, none of them NUL"))
    return text


def _moment_of(request: Request, name: str) -> datetime | None:
    text = request.parameter(name)
    if text is None:
        return None
    try:
        moment = msgspec.convert(text.replace(" ", "+"), datetime)  # a '+' that was not encoded arrives as a space
    except msgspec.ValidationError as error:
        raise InvalidRequest(Fault(field=name, detail="must be an RFC 3339 date and time")) from error
    if moment.tzinfo is None:
        raise InvalidRequest(Fault(field=name, detail="must have a zone, such as Z"))
    return moment
