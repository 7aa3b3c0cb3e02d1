"""The table of the API's operations: what is routed, what a token needs for it, and what the OpenAPI document says."""

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

import msgspec
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router

from domain.errors import ApprovalNeeded, Fault, InvalidRequest, Malformed
from domain.values import value_class
from handlers.request import Request, request_of
from handlers.restriction import keep_within

type View = Callable[..., Response[Any]]


@value_class(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A query parameter or a header; `place` says which. `example` works unchanged. With `members` it is an object, of
    which each member is a parameter of its own, such as `metadata[order]`."""

    name: str
    place: str
    description: str
    example: str | int | Mapping[str, str]
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    members: bool = False
    required: bool = False

    @property
    def shown(self) -> str:
        """The name as a caller writes it."""
        return f"{self.name}[...]" if self.members else self.name


@value_class(frozen=True, slots=True, kw_only=True)
class OperationResponse:
    """One answer of an operation; `body` is None where it is not JSON of ours, and `other_media_types` are texts that
    say the same. `headers` are always there, those of
    `some_headers` only in some cases; handlers/descriptions.py describes them.
    """

    description: str
    body: type[msgspec.Struct] | None = None
    media_type: str = "application/json"
    other_media_types: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    some_headers: tuple[str, ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation. `path` names its parts in angle brackets; `scope` is None on open routes.

    `problems` are the kinds that it answers with beside those that every operation has. One that `may_wait` may need
    the approval of another token: then it answers 202 with a proposal (flows/approvals.py). A `passes` operation hands
    its body on to a partner, and the partner's answer with any status back.
    """

    method: str
    path: str
    summary: str
    scope: str | None
    responses: Mapping[int, OperationResponse]
    description: str = ""
    body: type[msgspec.Struct] | None = None
    body_types: tuple[str, ...] = ("application/json",)
    body_required: bool = True
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[str, ...] = ()
    may_wait: bool = False
    passes: bool = False
    shown_path: str = ""

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it; `shown_path` where the routed one is a pattern."""
        return self.shown_path or self.path.replace("<", "{").replace(">", "}")


# Of the modules in handlers/routes that are loaded: operations by router, views by method and path.
OPERATIONS: dict[Router, list[Operation]] = {}
VIEWS: dict[tuple[str, str], View] = {}


def new_router() -> Router:
    """An empty router of Powertools."""
    return Router()  # type: ignore[no-untyped-call]  # Powertools leaves this constructor without types


def serves(router: Router, operation: Operation) -> Callable[[View], View]:
    """Routes the decorated view under `operation` and enters it into the table.

    The view gets the Request first and the parts of the path by name, once the token's scope has been checked and
    nothing was sent that the operation does not take.
    """

    def decorate(view: View) -> View:
        def serve(**parts: str) -> Response[Any]:
            request = request_of(router.current_event.raw_event)
            if operation.scope is not None:
                request.need(operation.scope)
                keep_within(request, operation.path, parts)
            if not operation.passes:
                _refuse_surplus(request, operation)
            try:
                return view(request, **parts)
            except ApprovalNeeded as needed:
                from handlers.proposing import proposed  # with proposals, which few tenants ask for

                return proposed(request, pattern=operation.path, parts=parts, needed=needed)

        VIEWS[operation.method, operation.path] = view
        OPERATIONS.setdefault(router, []).append(operation)
        router.route(operation.path, method=operation.method)(serve)
        return view

    return decorate


def _refuse_surplus(request: Request, operation: Operation) -> None:
    """Raises InvalidRequest for a query parameter that the operation does not have: a typo must not widen a list. It is
    not named, since it may be a secret in the wrong place. Raises Malformed for a body that nothing would read, but not
    with GET, where it has no meaning (RFC 9110 section 9.3.1).
    """
    known = [parameter for parameter in operation.parameters if parameter.place == "query"]
    unknown = {name for name, _ in request.query if not any(_takes(parameter, name) for parameter in known)}
    if unknown:
        names = ", ".join(parameter.shown for parameter in known)
        detail = f"{len(unknown)} unknown; known are {names or 'none'}"
        raise InvalidRequest(Fault(field="query", detail=detail))
    if request.body and operation.body is None and operation.method != "GET":
        raise Malformed("this call takes no body")


def _takes(parameter: Parameter, name: str) -> bool:
    if parameter.members:
        return name.startswith(f"{parameter.name}[") and name.endswith("]")
    return name == parameter.name


def as_json(status: int, body: msgspec.Struct, headers: Mapping[str, str] | None = None) -> Response[str]:
    """A JSON answer."""
    return Response(
        status_code=status,
        content_type="application/json",
        body=msgspec.json.encode(body).decode(),
        headers=dict(headers or {}),
    )
