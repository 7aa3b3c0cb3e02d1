"""In which Availability Zone this process runs, as Lambda tells it.

Lambda's metadata endpoint tells the zone's ID (AWS Lambda developer guide, "Using the Lambda metadata endpoint"), which
is the same zone in every account. Subnets have zone names, which are not. The template hands over the pairs.
"""

import sys
from collections.abc import Sequence

from runtime.observability import logger
from runtime.settings import ZoneId

ANSWER_SECONDS = 0.5  # for each wait on the endpoint, which is on the same machine and has its answer ready
_METADATA = "aws_lambda_powertools.utilities.metadata"


def own_zone(known: Sequence[ZoneId]) -> str | None:
    """The name of the zone that this process runs in, out of `known`; where there is none, nobody is asked.

    None where it cannot be found out, which a log line explains; nothing is raised for it.
    """
    if not known:
        return None
    found, reason = _told()
    zone = next((item.availability_zone for item in known if item.zone_id == found), None)
    if zone is None:
        logger.warning("availability zone is unknown", reason=reason or f"EGRESS_ZONE_IDS does not name '{found}'")
    return zone


def forget() -> None:
    """Lets go of what Lambda told, as after a restore from a snapshot, which may happen in another zone."""
    if _METADATA in sys.modules:
        sys.modules[_METADATA].clear_metadata_cache()


def _told() -> tuple[object, str]:
    """The zone's ID as Lambda tells it, or why it does not. What it tells may be anything that JSON can hold.

    Powertools' utility is imported here: where there is one address only, it is never loaded.
    """
    from aws_lambda_powertools.utilities.metadata import LambdaMetadataError, get_lambda_metadata

    try:
        return get_lambda_metadata(timeout=ANSWER_SECONDS).availability_zone_id, ""
    except LambdaMetadataError as error:
        return None, str(error)
    except (AttributeError, TypeError, ValueError):  # its answer is JSON, and no object
        return None, "the metadata endpoint answered something else than metadata"
