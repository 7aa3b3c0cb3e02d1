"""CloudFormation custom resource: migrates the schema before the API goes live, and always answers.

An operator may invoke it with {"action": "migrate"}: the same, with the result as the function's answer.
"""

import time
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from db.migrations import MigrationError
from domain.errors import Fault, InvalidRequest, SallyportError
from flows.migrate import Migrated, bring_up_to_date
from handlers import wiring
from runtime.cloudformation import CustomResourceEvent, answer
from runtime.deadline import OutOfTime, within
from runtime.observability import logger, observed
from runtime.settings import MigrateSettings, SettingsError

PHYSICAL_ID = "sallyport-schema"
RESERVE_SECONDS = 30.0  # how much of the function's time is reserved for the answer to CloudFormation
GRACE_SECONDS = 5.0  # how much of it PostgreSQL gets to end a migration by itself before it is given up


@observed()
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Create and Update migrate; Delete leaves the schema, which is deleted with the database.

    Raises OSError where CloudFormation could not be answered, so that Lambda tries once more. An operator gets the
    error itself.
    """
    if "ResponseURL" in event:
        return _answered(event, context)
    if event.get("action") != "migrate":
        raise InvalidRequest(Fault(field="/action", detail='must be "migrate"'))
    return _as_result(_migrate(context, latest=None))


def _answered(event: CustomResourceEvent, context: LambdaContext) -> dict[str, Any]:
    """Whatever happens, CloudFormation is answered: it would wait for its own time-out otherwise."""
    reason = "unexpected, see the log of the function"
    result: dict[str, Any] | None = None
    try:
        result = _done(event, context)
    except (SallyportError, SettingsError, MigrationError, OutOfTime) as error:
        reason = f"{type(error).__name__}: {error}"
        logger.error("migration failed", reason=reason)
    finally:
        answer(
            event,
            succeeded=result is not None,
            # It never changes, or CloudFormation would take an update for a replacement. A resource that could not be
            # created got an id from CloudFormation, and is deleted by it.
            physical_id=event.get("PhysicalResourceId", PHYSICAL_ID),
            reason=reason,
            data={"Version": str(result["version"])} if result else None,
        )
    return result or {}


def _done(event: CustomResourceEvent, context: LambdaContext) -> dict[str, Any]:
    match event.get("RequestType"):
        case "Delete":
            return {}
        case "Create" | "Update":
            return _as_result(_migrate(context, latest=_latest(event)))
        case other:
            raise InvalidRequest(Fault(field="/RequestType", detail=f"must be Create, Update or Delete, got {other}"))


def _latest(event: CustomResourceEvent) -> str:
    """The newest migration that the template asks for. In a roll-back that is an older one while the code may still be
    the newer: the migration that failed is then not tried again.
    """
    latest = event.get("ResourceProperties", {}).get("LatestMigration")
    if not isinstance(latest, str) or not latest:
        raise InvalidRequest(Fault(field="/ResourceProperties/LatestMigration", detail="must name a migration"))
    return latest


def _migrate(context: LambdaContext, *, latest: str | None) -> Migrated:
    def seconds_left() -> float:
        return context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS

    database = wiring.database(MigrateSettings.from_environment().database)
    try:
        return within(
            seconds_left() + GRACE_SECONDS,
            lambda: bring_up_to_date(database, seconds_left=seconds_left, sleep=time.sleep, latest=latest),
            cut=database.cut,
        )
    finally:
        database.close()


def _as_result(migrated: Migrated) -> dict[str, Any]:
    return {"applied": migrated.applied, "version": migrated.version}
