"""When sending windows open, against the same rule in Python with its own time zone data, minute by minute."""

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from db import destinations
from db.connection import Database
from domain.deliveries import Claim, NotDue, WaitingFor
from domain.options import DestinationOptions
from domain.windows import SendingWindow
from runtime.settings import DatabaseSettings
from tests.db.flow import accept, claim, ids, set_up
from tests.db.test_repeats import NOW
from tests.support.databases import FreshDatabase

ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Asia/Kolkata", "Pacific/Chatham"),
    *("Australia/Lord_Howe", "Africa/Casablanca"),  # half an hour; an hour less in Ramadan
)
EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def superuser(shared_database: FreshDatabase) -> Iterator[Database]:
    with closing(Database(DatabaseSettings(database_url=shared_database.admin_url))) as made:
        yield made


def window(opens: str, closes: str, zone: str = "Europe/Berlin", days: Sequence[int] = EVERY_DAY) -> SendingWindow:
    return SendingWindow(days=tuple(days), opens=opens, closes=closes, time_zone=zone)


def next_opening(database: Database, windows: Sequence[SendingWindow], since: datetime) -> datetime | None:
    (row,) = database.rows(
        "SELECT next_opening(%(windows)s::text::jsonb, %(since)s) AS at",
        {"windows": msgspec.json.encode(windows).decode(), "since": since},
    )
    found: datetime | None = row["at"]
    return found


def first_moment(shown: datetime, zone: ZoneInfo) -> datetime:
    """The first minute at which a clock there shows `shown` or later."""
    moment = shown.replace(tzinfo=UTC) - timedelta(hours=15)
    while moment.astimezone(zone).replace(tzinfo=None) < shown:
        moment += MINUTE
    return moment


def changes(zone: str) -> list[datetime]:
    """The hours of 2024 to 2027 in which the clocks of a zone change."""
    hours = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(24 * 365 * 3)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    return [hours[at] for at in range(1, len(hours)) if offsets[at] != offsets[at - 1]]


@pytest.mark.parametrize("zone", ZONES)
def test_a_window_opens_and_closes_by_the_clock_in_its_zone_also_where_that_changes(
    superuser: Database, zone: str
) -> None:
    chance = random.Random(zone)
    moments = changes(zone)[:6] or [datetime(2026, 5, 20, 10, tzinfo=UTC)]
    for change in moments:
        shown = change.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        for _ in range(3):
            opens = shown + timedelta(minutes=chance.randint(-150, 150))
            closes = opens + timedelta(minutes=chance.choice((1, 20, 45, 90, 600, 1439)))
            given = window(f"{opens:%H:%M}", f"{closes:%H:%M}", zone, days=[opens.isoweekday()])
            begins, ends = first_moment(opens, ZoneInfo(zone)), first_moment(closes, ZoneInfo(zone))
            if begins == ends:
                assert next_opening(superuser, [given], begins) != begins  # it does not open that day
                continue
            assert next_opening(superuser, [given], begins - MINUTE) == begins
            assert next_opening(superuser, [given], begins) == begins
            assert next_opening(superuser, [given], ends - timedelta(seconds=1)) == ends - timedelta(seconds=1)
            following = next_opening(superuser, [given], ends)
            assert following is not None
            assert following > ends + timedelta(days=5)


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("given", "since", "opens"),
    [
        # The clocks go forward on 29 March 2026 from 2 to 3 o'clock, and back on 25 October from 3 to 2.
        ([window("02:30", "05:00")], "2026-03-29T01:59:00+01:00", "2026-03-29T03:00:00+02:00"),
        ([window("02:10", "02:50")], "2026-03-29T01:59:00+01:00", "2026-03-30T02:10:00+02:00"),
        ([window("02:30", "02:45")], "2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ([window("02:30", "02:45")], "2026-10-25T02:35:00+01:00", "2026-10-26T02:30:00+01:00"),
        ([window("02:30", "05:00")], "2026-10-25T02:10:00+01:00", "2026-10-25T02:10:00+01:00"),
        # Over midnight it belongs to the day on which it opens.
        ([window("22:00", "04:00", days=[5])], "2026-03-07T03:59:00+01:00", "2026-03-07T03:59:00+01:00"),
        ([window("22:00", "04:00", days=[5])], "2026-03-07T04:00:00+01:00", "2026-03-13T22:00:00+01:00"),
        ([window("00:00", "24:00", days=[6, 7])], "2026-03-06T23:59:00+01:00", "2026-03-07T00:00:00+01:00"),
        ([window("00:00", "24:00", days=[6, 7])], "2026-03-08T23:59:59+01:00", "2026-03-08T23:59:59+01:00"),
        # The first of several, each in its zone.
        (
            [window("08:00", "09:00"), window("08:00", "09:00", "America/New_York")],
            "2026-03-06T09:30:00+01:00",
            "2026-03-06T14:00:00+01:00",
        ),
    ],
)
def test_when_the_next_window_opens(superuser: Database, given: list[SendingWindow], since: str, opens: str) -> None:
    assert next_opening(superuser, given, datetime.fromisoformat(since)) == datetime.fromisoformat(opens)


def test_a_zone_that_the_database_no_longer_knows_keeps_its_windows_closed_and_harms_nobody(
    superuser: Database,
) -> None:
    assert next_opening(superuser, [window("00:00", "24:00", "Europe/Berln")], NOW) is None
    gone = DestinationOptions(windows=(window("00:00", "24:00", "Europe/Berln"),))
    (delivery_id,) = set_up(superuser, gone, 1)
    (result,) = claim(superuser, [delivery_id], NOW)
    assert isinstance(result, NotDue)
    assert result.waiting_for is WaitingFor.SENDING_WINDOW


def test_only_names_of_zones_are_known(superuser: Database) -> None:
    known = {*ZONES, "Etc/GMT+3"}
    assert destinations.unknown_zones(superuser, known) == frozenset()
    wrong = {"Europe/Berln", "Berlin", "europe/berlin", "UTC+3", "XYZ5", "now"}
    wrong |= {"localtime", "posixrules", "Factory", "posix/Europe/Berlin", "right/Europe/Berlin"}
    assert destinations.unknown_zones(superuser, known | wrong) == wrong


def test_a_delivery_waits_for_its_window_and_is_told_when_that_opens(superuser: Database) -> None:
    office = DestinationOptions(windows=(window("13:30", "14:00", "UTC"),))  # it is noon
    (delivery_id,) = set_up(superuser, office, 1)
    opens = NOW + timedelta(minutes=90)
    accepted = accept(superuser, ids(2)[1]).delivery
    assert (accepted.waiting_for, accepted.waits_until) == (WaitingFor.SENDING_WINDOW, opens)
    assert accept(superuser, ids(3)[2], wait_seconds=25.0).claim is None
    (result,) = claim(superuser, [delivery_id], NOW)
    assert result == NotDue(delivery_id=delivery_id, at=opens, waiting_for=WaitingFor.SENDING_WINDOW)
    (sent,) = claim(superuser, [delivery_id], opens)
    assert isinstance(sent, Claim)
    assert replace(sent.destination, options=office) == sent.destination
