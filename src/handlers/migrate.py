"""CloudFormation custom resource: migrates the schema before the API goes live, and always answers.

An operator may invoke it with {"action": "migrate"}: the same, with the result as the function's answer.
"""

import time
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from db.migrations import MigrationError
from domain.errors import SallyportError
from flows.migrate import Migrated, bring_up_to_date
from handlers import wiring
from runtime.cloudformation import answer
from runtime.observability import logger
from runtime.settings import MigrateSettings, SettingsError

PHYSICAL_ID = "sallyport-schema"
RESERVE_SECONDS = 20.0  # what is left of the function's time for telling CloudFormation


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Create and Update migrate; Delete keeps the schema, which goes with the database."""
    if "ResponseURL" not in event:
        return _as_result(_migrate(context))
    if event["RequestType"] == "Delete":
        answer(event, succeeded=True, physical_id=PHYSICAL_ID)
        return {}
    return _answered(event, context)


def _answered(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Whatever happens, CloudFormation is told: it would wait for its own time-out otherwise."""
    reason, version = "unexpected, see the log of the function", None
    try:
        result = _as_result(_migrate(context))
        version = str(result["version"])
        return result
    except (SallyportError, SettingsError, MigrationError) as error:
        reason = f"{type(error).__name__}: {error}"
        logger.error("migration failed", reason=reason)
        return {}
    finally:
        data = {} if version is None else {"Version": version}
        answer(event, succeeded=version is not None, physical_id=PHYSICAL_ID, reason=reason, data=data)


def _migrate(context: LambdaContext) -> Migrated:
    def seconds_left() -> float:
        return context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS

    database = wiring.database(MigrateSettings.from_environment().database)
    try:
        return bring_up_to_date(database, seconds_left=seconds_left, sleep=time.sleep)
    finally:
        database.close()


def _as_result(migrated: Migrated) -> dict[str, Any]:
    return {"applied": migrated.applied, "version": migrated.version}
