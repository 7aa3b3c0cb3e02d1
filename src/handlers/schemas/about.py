"""The body of /healthz."""

from typing import Annotated

from msgspec import Meta, Struct


class HealthBody(Struct, frozen=True):
    """The process answers. It says nothing of the database, which may be paused."""

    status: Annotated[str, Meta(description="Always ok", extra_json_schema={"enum": ["ok"]})]
    version: Annotated[str, Meta(description="Sallyport's version")]
