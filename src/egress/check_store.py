"""Stores the results of the egress check: in one SSM parameter per zone, so that no check wakes the database."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from domain.checks import Check
from domain.errors import ChecksUnavailable
from domain.values import value_class
from runtime.aws import AwsCallFailed, call
from runtime.settings import CheckSettings

if TYPE_CHECKING:
    from domain.allowlist import Announcement

# Callers wait for it: a healthy SSM answers within some ten milliseconds.
_SECONDS = 2.0
_RETRY_AFTER_SECONDS = 5
# SSM allows 40 of these calls a second to a whole account (AWS: "Parameter Store throughput"), so results are cached. A
# zone's first result may come at any moment; and an SSM that does not answer is not asked by each caller in turn.
CACHED_FOR = timedelta(seconds=30)
INCOMPLETE_CACHED_FOR = timedelta(seconds=3)
_ANNOUNCEMENT = "allowlist"  # beside the zones' results; no zone is called so


@value_class(frozen=True, slots=True, kw_only=True)
class _CachedResults:
    """What SSM returned at `since`, or why it returned nothing."""

    since: datetime
    until: datetime
    checks: Mapping[str, Check]
    failure: str = ""


class _Published(msgspec.Struct, frozen=True, kw_only=True):
    """The announcement as the template writes it: texts, empty where there is none."""

    contact: str = ""
    addresses: str = ""
    begins_on: str = ""


class CheckStore:
    """Reads and writes the results."""

    def __init__(self, settings: CheckSettings) -> None:
        self._settings = settings
        self._cached: _CachedResults | None = None
        self._announced: tuple[datetime, Announcement] | None = None

    def store(self, zone: str, check: Check) -> None:
        """Replaces the zone's last result. Raises ChecksUnavailable."""
        value = msgspec.json.encode(check).decode()
        content = {"Name": self._name(zone), "Value": value, "Type": "String", "Overwrite": True}
        self._call("PutParameter", content)

    def results(self, zones: Sequence[str]) -> Mapping[str, Check]:
        """The last result of each zone (at most ten) that has one. Raises ChecksUnavailable."""
        names = {self._name(zone): zone for zone in zones}
        parameters = self._call("GetParameters", {"Names": list(names)}).get("Parameters", [])
        checks = ((names[parameter["Name"]], _read(parameter["Value"])) for parameter in parameters)
        return {zone: check for zone, check in checks if check is not None}

    def cached_results(self, zones: Sequence[str], *, now: datetime) -> Mapping[str, Check]:
        """The same, as it was at most 30 s ago, or 3 s where a zone has no result; always for the same zones.

        Raises ChecksUnavailable, for 3 s without asking again.
        """
        if self._cached is None or not self._cached.since <= now < self._cached.until:
            self._cached = self._read_at(now, zones)
        if self._cached.failure:
            raise _unavailable(self._cached.failure)
        return self._cached.checks

    def announcement(self, *, now: datetime) -> "Announcement":
        """What the operator announced, as it was at most 30 s ago. Raises ChecksUnavailable."""
        if self._announced is None or not self._announced[0] <= now < self._announced[0] + CACHED_FOR:
            found = self._call("GetParameters", {"Names": [self._name(_ANNOUNCEMENT)]}).get("Parameters", [])
            self._announced = now, _announcement(found[0]["Value"] if found else "{}")
        return self._announced[1]

    def _read_at(self, now: datetime, zones: Sequence[str]) -> _CachedResults:
        try:
            checks = self.results(zones)
        except ChecksUnavailable as error:
            return _CachedResults(since=now, until=now + INCOMPLETE_CACHED_FOR, checks={}, failure=str(error))
        complete = len(checks) == len(set(zones))
        return _CachedResults(since=now, until=now + (CACHED_FOR if complete else INCOMPLETE_CACHED_FOR), checks=checks)

    def _name(self, zone: str) -> str:
        return f"{self._settings.egress_results_path}/{zone}"

    def _call(self, action: str, content: Mapping[str, object]) -> Mapping[str, list[dict[str, str]]]:
        try:
            return call(
                "ssm",
                f"AmazonSSM.{action}",
                content,
                timeout_seconds=_SECONDS,
                endpoint_url=self._settings.ssm_endpoint_url,
            )
        except AwsCallFailed as failure:
            raise _unavailable(f"the results of the egress check are not available: {failure.code}") from failure


def _unavailable(reason: str) -> ChecksUnavailable:
    return ChecksUnavailable(reason, retry_after_seconds=_RETRY_AFTER_SECONDS)


def _announcement(value: str) -> "Announcement":
    """Raises ChecksUnavailable for a value that is none: what is announced must not get lost without a word."""
    from domain.allowlist import Announcement  # for that call alone

    try:
        published = msgspec.json.decode(value, type=_Published)
        return Announcement(
            contact=published.contact or None,
            addresses=tuple(part for part in published.addresses.split(",") if part),
            begins_on=date.fromisoformat(published.begins_on) if published.begins_on else None,
        )
    except (msgspec.DecodeError, ValueError) as error:
        raise _unavailable("the announcement in SSM cannot be read") from error


def _read(value: str) -> Check | None:
    """None for what is no result: CloudFormation creates each parameter with a text that says so. Nor is one whose
    times have no time zone, since they cannot be compared."""
    try:
        check = msgspec.json.decode(value, type=Check)
    except msgspec.DecodeError:
        return None
    times = (check.checked_at, check.verified_at, check.since)
    return check if all(time is None or time.tzinfo is not None for time in times) else None
