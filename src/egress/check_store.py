"""Where the results of the egress check are kept: one SSM parameter per zone, so that no check wakes the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from domain.checks import Check
from domain.errors import ChecksUnavailable
from runtime.aws import AwsCallFailed, call
from runtime.settings import CheckSettings

# Callers wait for it: a healthy SSM answers in some ten milliseconds.
_SECONDS = 2.0
_RETRY_AFTER_SECONDS = 5
# SSM takes 40 of these calls a second from a whole account (AWS: "Parameter Store throughput"); whoever shows the
# results more often than that shows those of a moment ago. A zone's first result may come any moment, and so may an SSM
# that was out of reach, for which callers would otherwise wait one after the other.
FRESH = timedelta(seconds=30)
SOON = timedelta(seconds=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What SSM said at a moment, or why it said nothing."""

    since: datetime
    until: datetime
    checks: Mapping[str, Check]
    failure: str = ""


class CheckStore:
    """Reads and writes the results."""

    def __init__(self, settings: CheckSettings) -> None:
        self._settings = settings
        self._read: _Read | None = None

    def keep(self, zone: str, check: Check) -> None:
        """Puts the result of a check in the place of the zone's last one. Raises ChecksUnavailable."""
        value = msgspec.json.encode(check).decode()
        content = {"Name": self._name(zone), "Value": value, "Type": "String", "Overwrite": True}
        self._call("PutParameter", content)

    def of(self, zones: Sequence[str]) -> Mapping[str, Check]:
        """The last result of each zone (at most ten) that has one. Raises ChecksUnavailable."""
        names = {self._name(zone): zone for zone in zones}
        found = self._call("GetParameters", {"Names": list(names)}).get("Parameters", [])
        checks = ((names[item["Name"]], _read(item["Value"])) for item in found)
        return {zone: check for zone, check in checks if check is not None}

    def lately(self, zones: Sequence[str], *, now: datetime) -> Mapping[str, Check]:
        """The same, as it was at most 30 s ago, or 3 s where a zone has no result; always for the same zones.

        Raises ChecksUnavailable, for 3 s without asking again.
        """
        if self._read is None or not self._read.since <= now < self._read.until:
            self._read = self._read_at(now, zones)
        if self._read.failure:
            raise _unavailable(self._read.failure)
        return self._read.checks

    def _read_at(self, now: datetime, zones: Sequence[str]) -> _Read:
        try:
            found = self.of(zones)
        except ChecksUnavailable as error:
            return _Read(since=now, until=now + SOON, checks={}, failure=str(error))
        return _Read(since=now, until=now + (FRESH if len(found) == len(set(zones)) else SOON), checks=found)

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
            raise _unavailable(f"the results of the egress check are out of reach: {failure.code}") from failure


def _unavailable(reason: str) -> ChecksUnavailable:
    return ChecksUnavailable(reason, retry_after_seconds=_RETRY_AFTER_SECONDS)


def _read(value: str) -> Check | None:
    """None for what is no result: CloudFormation makes each parameter with a word in it that says so. A time without a
    zone is none either, for it cannot be compared."""
    try:
        check = msgspec.json.decode(value, type=Check)
    except msgspec.DecodeError:
        return None
    times = (check.checked_at, check.verified_at)
    return check if all(time is None or time.tzinfo is not None for time in times) else None
