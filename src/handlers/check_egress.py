"""Schedule -> the egress check of this function's own zone. It neither imports nor uses the database."""

from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from egress.addresses import Guard
from egress.check_store import CheckStore
from egress.client import Client
from flows.check_egress import EgressChecks, check
from runtime.observability import observed
from runtime.settings import CheckEgressSettings


@cache
def _wired() -> tuple[str, EgressChecks]:
    """The zone and what a check needs, once per process. handlers/wiring.py would import the database too."""
    settings = CheckEgressSettings.from_environment()
    client = Client(Guard.of(settings.egress), ca_bundle=settings.egress.ca_bundle)
    return settings.availability_zone, EgressChecks(
        client=client,
        store=CheckStore(settings.checks),
        echo_url=settings.checks.egress_echo_url,
        addresses=settings.egress.egress_addresses,
        clock=partial(datetime.now, UTC),
    )


@observed()
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Any event in, the verdict out. Raises SettingsError, and ChecksUnavailable where the result cannot be stored."""
    zone, checks = _wired()
    result = check(zone, checks=checks)
    return {"zone": zone, "published": result.published, "seen": result.seen, "verdict": result.verdict.value}
