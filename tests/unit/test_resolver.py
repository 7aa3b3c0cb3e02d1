"""The table of routes comes to what Powertools comes to, for the real API's routes."""

import json
from http import HTTPStatus
from typing import Any

import pytest
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from hypothesis import given
from hypothesis import strategies as st

from handlers.api import app as real
from handlers.api import route as load_routes
from handlers.resolver import TableResolver
from handlers.routes import PATHS as PATHS_OF_ALL

PATHS = (
    "/healthz",
    "/v1/deliveries",
    "/v1/deliveries/<delivery_id>",
    "/v1/deliveries/newest",
    "/v1/via/<destination>(/.*)?",
    "/",
)


class Known(Exception):
    """One that a handler is registered for."""


class Unknown(Exception):
    """One without a handler."""


def routed(kind: type[APIGatewayRestResolver]) -> APIGatewayRestResolver:
    """A resolver whose views say which they are and what they got."""
    app, router = kind(), Router()  # type: ignore[no-untyped-call]  # Powertools leaves this constructor without types
    for path in PATHS:
        for method in ("GET", "POST"):
            router.route(path, method=method)(_view(f"{method} {path}"))

    @router.route("/raises/<what>", method="GET")
    def raises(what: str) -> Response[Any]:
        raise {"known": Known, "unknown": Unknown}[what]

    @app.exception_handler(Known)  # type: ignore[untyped-decorator]  # Powertools has no types here
    def known(_error: Known) -> Response[Any]:
        return Response(status_code=409, content_type="text/plain", body="known")

    app.include_router(router)
    return app


def _view(name: str) -> Any:
    def view(**parts: str) -> Response[Any]:
        headers: dict[str, str | list[str]] = {"One": "1", "Two": ["2", "3"]}
        return Response(
            status_code=200, content_type="application/json", body=json.dumps([name, parts]), headers=headers
        )

    return view


def event(method: str, path: str) -> dict[str, Any]:
    return {
        "httpMethod": method,
        "path": path,
        "headers": {"Accept-Encoding": "gzip"},
        "multiValueHeaders": {"Accept-Encoding": ["gzip"]},
        "requestContext": {"stage": "dev", "path": f"/dev{path}"},
    }


TABLE, POWERTOOLS = routed(TableResolver), routed(APIGatewayRestResolver)
SEGMENTS = st.lists(
    st.sampled_from(
        ["v1", "deliveries", "newest", "via", "healthz", "partner", "0192-f", "a.b", "a%2Fb", "", "ü", "x\n", "\n"]
    ),
    max_size=5,
)


@given(segments=SEGMENTS, method=st.sampled_from(["GET", "POST", "DELETE", "HEAD", "OPTIONS"]))
def test_every_path_leads_where_powertools_leads(segments: list[str], method: str) -> None:
    call = event(method, "/" + "/".join(segments))
    answer = TABLE.resolve(call, None)  # type: ignore[arg-type]  # no view looks at the context
    assert answer == POWERTOOLS.resolve(call, None)  # type: ignore[arg-type]  # as above


def test_an_exception_goes_to_its_handler_and_without_one_to_the_caller() -> None:
    for app in (TABLE, POWERTOOLS):
        answer = app.resolve(event("GET", "/raises/known"), None)  # type: ignore[arg-type]  # as above
        assert (answer["statusCode"], answer["body"]) == (HTTPStatus.CONFLICT, "known")
        with pytest.raises(Unknown):
            app.resolve(event("GET", "/raises/unknown"), None)  # type: ignore[arg-type]  # as above


def test_nothing_of_the_api_needs_what_the_table_leaves_out() -> None:
    load_routes(PATHS_OF_ALL)
    assert isinstance(real, TableResolver)
    assert not real._router_middlewares
    assert not real._cors_enabled
    for route in real._static_routes + real._dynamic_routes:
        assert not any((route.middlewares, route.compress, route.cors, route.cache_control, route.enable_validation))
