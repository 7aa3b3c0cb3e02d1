"""What serves which paths, a router in each module.

Most calls are of two modules. The others, with the schemas and flows that only they need, are loaded when one of their
paths is called first: together they are a fifth of what the API's function would load before its first call.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from aws_lambda_powertools.event_handler.api_gateway import Router

from handlers.operations import OPERATIONS, VIEWS, Operation, View

# What the paths of each module begin with; the modules in the order of the OpenAPI document.
PATHS: Mapping[str, tuple[str, ...]] = {
    "about": ("/healthz", "/openapi.json", "/docs"),
    "console": ("/console",),
    "egress": ("/v1/egress",),
    "destinations": ("/v1/destinations",),
    "deliveries": ("/v1/deliveries",),
    "delivery_control": ("/v1/deliveries/",),
    "jobs": ("/v1/replays", "/v1/cancellations", "/v1/jobs"),
    "proposals": ("/v1/proposals",),
    "via": ("/v1/via/",),
    "audit": ("/v1/audit",),
    "stats": ("/v1/stats",),
}
FREQUENT = ("deliveries", "via")


def load(module: str) -> Router:
    """The router of a module, which is loaded then."""
    router: Router = import_module(f"{__name__}.{module}").router
    return router


def serving(path: str) -> Iterator[str]:
    """The modules that may serve a path."""
    return (module for module, beginnings in PATHS.items() if path.startswith(beginnings))


def every_operation() -> list[Operation]:
    """Of all modules, which are loaded then."""
    return [operation for module in PATHS for operation in OPERATIONS[load(module)]]


def view_of(method: str, pattern: str) -> View:
    """The view of an operation. Raises KeyError where there is none."""
    for module in serving(pattern):
        load(module)
    return VIEWS[method, pattern]
