"""All HTTP routes, behind API Gateway: one function, one cold start, one OpenAPI document."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import chain
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.utilities.typing import LambdaContext

from domain.errors import SallyportError
from handlers import wiring
from handlers.answers import fits
from handlers.operations import OPERATIONS
from handlers.problems import answer_too_large, problem, problem_of, respond
from handlers.resolver import TableResolver
from handlers.routes import FREQUENT, PATHS, load, serving
from runtime.observability import logger, observed
from runtime.snapshots import after_restore, before_snapshot

_routed: set[str] = set()


def route(modules: Iterable[str]) -> bool:
    """Adds the routes of these modules; whether there are any that were not there before."""
    added = [module for module in modules if module not in _routed]
    for module in added:
        app.include_router(load(module))
        _routed.add(module)
    return bool(added)


app = TableResolver(more=lambda path: route(serving(path)))
route(FREQUENT)
before_snapshot(lambda: route(PATHS))
after_restore(wiring.reset_after_restore)


@app.exception_handler(SallyportError)  # type: ignore[untyped-decorator]  # Powertools has no types here
def expected(error: SallyportError) -> Response[Any]:
    """An error of our own tree becomes the problem that the table says."""
    refusal = problem_of(error)
    if refusal.status is HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.exception("a bug, or a seal key that no longer exists")
    else:
        logger.info("request refused", kind=refusal.kind, status=int(refusal.status))
    return respond(refusal)


@app.exception_handler(Exception)  # type: ignore[untyped-decorator]  # Powertools has no types here
def unexpected(_error: Exception) -> Response[Any]:
    """A bug. The caller gets a problem like any other; the alarm on the error log does the rest."""
    logger.exception("unexpected error")
    return respond(problem("internal", HTTPStatus.INTERNAL_SERVER_ERROR, "the details are in the log"))


@app.not_found
def no_route(_error: NotFoundError) -> Response[Any]:
    """404, or 405 where the path is known and the method is not."""
    path, method = app.current_event.path, app.current_event.http_method
    methods = sorted({operation.method for operation in chain(*OPERATIONS.values()) if _matches(operation.path, path)})
    if not methods or method in methods:  # Powertools allows fewer characters in a part of a path than RFC 3986
        return respond(problem("not-found", HTTPStatus.NOT_FOUND, "there is nothing at this path"))
    detail = f"this resource takes {', '.join(methods)}"
    return respond(
        problem("method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED, detail, headers={"Allow": ", ".join(methods)})
    )


def _matches(pattern: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"<\w+>", "[^/]+", pattern), path) is not None


@observed(correlated=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway REST proxy event in, proxy response out."""
    answer = app.resolve(event, context)
    return answer if fits(answer) else _replacement(answer)


def _replacement(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The last resort: bodies are bounded where they are made; should one be too large anyway, the caller gets a
    problem with the delivery's id instead of API Gateway's 502."""
    logger.error("an answer is larger than Lambda can return")
    delivery_ids = answer["multiValueHeaders"].get("Sallyport-Delivery-Id")
    replacement = respond(answer_too_large(delivery_ids[0] if delivery_ids else None))
    own = {} if delivery_ids is None else {"Sallyport-Delivery-Id": delivery_ids}
    return {
        "statusCode": replacement.status_code,
        "multiValueHeaders": {"Content-Type": [replacement.content_type], **own},
        "body": replacement.body,
        "isBase64Encoded": False,
    }
