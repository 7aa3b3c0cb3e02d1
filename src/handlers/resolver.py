"""Powertools' resolver with its routes in a table: the same routes, handlers and exceptions, a fifth of its work.

Powertools tries every route's pattern in turn and calls a view through a stack of middleware, of which there is none
here; that takes more than all that a view does by itself. Whatever is not plain is left to it: unknown paths, paths
with a slash at their end, bodies of bytes.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.api_gateway import BaseRouter, Route, Router
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent
from aws_lambda_powertools.utilities.typing import LambdaContext

type _Call = tuple[Callable[..., Response[Any]], Mapping[str, str]]


class TableResolver(APIGatewayRestResolver):
    """For routes without middleware, CORS, compression and validation. Their views return a Response.

    `more` is called with a path that no route serves; it includes what may serve it, and returns whether it did.
    """

    def __init__(self, *, more: Callable[[str], bool] = lambda _: False) -> None:
        super().__init__()
        self._more = more

    def include_router(self, router: Router, prefix: str | None = None) -> None:
        """Adds the routes of a router, also between two calls."""
        super().include_router(router, prefix)
        for tables in ("_static_views", "_patterns"):
            self.__dict__.pop(tables, None)

    def resolve(self, event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
        """API Gateway REST proxy event in, proxy response out."""
        call = self._planned(event["httpMethod"], event["path"])
        if call is None and self._more(event["path"]):
            call = self._planned(event["httpMethod"], event["path"])
        if call is None:
            return super().resolve(event, context)
        view, parts = call
        BaseRouter.current_event = APIGatewayProxyEvent(dict(event))
        BaseRouter.lambda_context = context
        try:
            response = view(**parts)
        except Exception as error:  # noqa: BLE001 - the handlers of exceptions decide, as with Powertools
            response = self._handled(error)
        return _proxy_response(response)

    @cached_property
    def _static_views(self) -> Mapping[tuple[str, str], Callable[..., Response[Any]]]:
        """By method and path. The first one counts where two are the same, as with Powertools."""
        return {(route.method, route.path): route.func for route in reversed(self._static_routes)}

    @cached_property
    def _patterns(self) -> Mapping[str, list[Route]]:
        """The routes with parts in angle brackets, by method and in their order."""
        by_method: dict[str, list[Route]] = {}
        for route in self._dynamic_routes:
            by_method.setdefault(route.method, []).append(route)
        return by_method

    def _planned(self, method: str, path: str) -> _Call | None:
        """The view of a call and the parts of its path; None where Powertools is to find it."""
        view = self._static_views.get((method, path))
        if view is not None:
            return view, {}
        if path.endswith(("/", "\n")):  # which Powertools allows behind a static path
            return None
        for route in self._patterns.get(method, ()):
            match = route.rule.match(path)
            if match:
                return route.func, match.groupdict()
        return None

    def _handled(self, error: Exception) -> Response[Any]:
        handler = self.exception_handler_manager.lookup_exception_handler(type(error))
        if handler is None:
            raise error
        answer: Response[Any] = handler(error)
        return answer


def _proxy_response(response: Response[Any]) -> dict[str, Any]:
    """As Powertools builds it of a body of text."""
    return {
        "statusCode": response.status_code,
        "body": response.body,
        "isBase64Encoded": response.base64_encoded,
        "multiValueHeaders": {
            name: [values] if isinstance(values, str) else values for name, values in response.headers.items()
        },
    }
