"""FastAPI behind Mangum, with pydantic for what a delivery must be.

The routes are `async def`, although what they call waits: a Lambda environment has one call at a time, and FastAPI
would move each call of a `def` to a thread.
"""

import logging
import sys
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse
from mangum import Mangum
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bench import plain

logging.basicConfig(level=logging.INFO, stream=sys.stdout)
logger = logging.getLogger(__name__)
app = FastAPI()
handler = Mangum(app, lifespan="off")


class DeliveryModel(BaseModel):
    """The body of a POST."""

    model_config = ConfigDict(extra="forbid")

    destination: str = Field(pattern=f"^{plain.NAME.pattern}$")
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "POST"
    path: str = Field("", max_length=4096, pattern=f"^{plain.PATH.pattern}$")
    query: str = Field("", pattern=f"^{plain.QUERY.pattern}$")
    headers: dict[str, str] = {}
    body: str | dict[str, Any] | list[Any] = ""
    metadata: dict[str, Any] = {}

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        plain.check_segments(value)
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        plain.check_headers(value)
        return value

    @field_validator("metadata")
    @classmethod
    def _metadata(cls, value: dict[str, Any]) -> dict[str, Any]:
        plain.check_metadata(value)
        return value


def _context(request: Request) -> Any:
    return request.scope["aws.event"]["requestContext"]


@app.post("/v1/deliveries", status_code=202)
async def create(
    new: DeliveryModel,
    request: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header(pattern=f"^{plain.KEY.pattern}$")] = None,
) -> dict[str, Any]:
    """Accepts a delivery."""
    context = _context(request)
    plain.permit(context["authorizer"], "send")
    row = plain.stored(
        context["authorizer"]["tenant_id"],
        idempotency_key,
        destination=new.destination,
        method=new.method,
        path=new.path,
        query=new.query,
        headers=new.headers,
        body=new.body,
        metadata=new.metadata,
    )
    logger.info("delivery %s accepted", row[0])
    response.headers["Location"] = f"{context['path']}/{row[0]}"
    document: dict[str, Any] = plain.shown(row)
    return document


@app.get("/v1/deliveries/{delivery_id}")
async def show(delivery_id: UUID, request: Request) -> dict[str, Any]:
    """Shows one."""
    caller = _context(request)["authorizer"]
    plain.permit(caller, "read")
    document: dict[str, Any] = plain.found(delivery_id, caller["tenant_id"])
    return document


@app.exception_handler(plain.Declined)
async def refused(_request: Request, error: plain.Declined) -> JSONResponse:
    """As the work says."""
    return JSONResponse({"detail": str(error)}, error.status)
