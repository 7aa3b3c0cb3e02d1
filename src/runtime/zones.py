"""Finds the Availability Zone that this process runs in.

Lambda's metadata endpoint returns the zone's ID (AWS Lambda developer guide, "Using the Lambda metadata endpoint"),
which is the same zone in every account. Subnets have zone names, which are not. The template passes the pairs.
"""

import sys
from collections.abc import Sequence

from runtime.observability import logger
from runtime.settings import ZoneId

ANSWER_SECONDS = 0.5  # for each wait on the endpoint, which is on the same machine and has its answer ready
_METADATA = "aws_lambda_powertools.utilities.metadata"


def own_zone(known: Sequence[ZoneId]) -> str | None:
    """The name of the zone that this process runs in, out of `known`; with none known, nothing is asked.

    None where it cannot be found, which a log line explains; this never raises.
    """
    if not known:
        return None
    zone_id, reason = _zone_id()
    zone = next((pair.availability_zone for pair in known if pair.zone_id == zone_id), None)
    if zone is None:
        logger.warning("availability zone is unknown", reason=reason or f"EGRESS_ZONE_IDS does not name '{zone_id}'")
    return zone


def forget() -> None:
    """Drops Lambda's answer, as after a restore from a snapshot, which may happen in another zone."""
    if _METADATA in sys.modules:
        sys.modules[_METADATA].clear_metadata_cache()


def _zone_id() -> tuple[object, str]:
    """The zone's ID as Lambda returns it, or why it does not. It may be anything that JSON can contain.

    Powertools' utility is imported here: where there is only one address, it is never loaded.
    """
    from aws_lambda_powertools.utilities.metadata import LambdaMetadataError, get_lambda_metadata

    try:
        return get_lambda_metadata(timeout=ANSWER_SECONDS).availability_zone_id, ""
    except LambdaMetadataError as error:
        return None, str(error)
    except (AttributeError, TypeError, ValueError):  # its answer is JSON, but not an object
        return None, "the answer of the metadata endpoint is not metadata"
