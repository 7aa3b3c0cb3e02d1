"""Flask behind apig-wsgi. Flask checks no bodies, so plain's checks do."""

import logging
import sys
from typing import Any
from uuid import UUID

from apig_wsgi import make_lambda_handler
from flask import Flask, Response, jsonify, request
from flask.json.provider import DefaultJSONProvider

from bench import plain

logging.basicConfig(level=logging.INFO, stream=sys.stdout)


class TimesAsIso(DefaultJSONProvider):
    """Flask's own writes times as HTTP does."""

    default = staticmethod(plain.plain_value)


Flask.json_provider_class = TimesAsIso
app = Flask(__name__)
handler = make_lambda_handler(app)


def _context() -> Any:
    return request.environ["apig_wsgi.request_context"]


@app.post("/v1/deliveries")
def create() -> tuple[Response, int, dict[str, str]]:
    """Accepts a delivery."""
    caller = _context()["authorizer"]
    plain.permit(caller, "send")
    new = plain.checked(request.get_json())
    key = request.headers.get("Idempotency-Key")
    row = plain.stored(caller["tenant_id"], plain.checked_key(key) if key else None, **new)
    app.logger.info("delivery %s accepted", row[0])
    return jsonify(plain.shown(row)), 202, {"Location": f"{_context()['path']}/{row[0]}"}


@app.get("/v1/deliveries/<uuid:delivery_id>")
def show(delivery_id: UUID) -> Response:
    """Shows one."""
    caller = _context()["authorizer"]
    plain.permit(caller, "read")
    return jsonify(plain.found(delivery_id, caller["tenant_id"]))


@app.errorhandler(plain.Declined)
def refused(error: plain.Declined) -> tuple[Response, int]:
    """As the work says."""
    return jsonify(detail=str(error)), error.status


@app.errorhandler(ValueError)
@app.errorhandler(TypeError)
@app.errorhandler(AttributeError)
@app.errorhandler(KeyError)
def invalid(error: Exception) -> tuple[Response, int]:
    """What the checks say."""
    return jsonify(detail=str(error)), 422
