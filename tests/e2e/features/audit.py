"""The audit log: listed, exported and verified."""

import json

from local.stack import Stack
from sallyport_audit.__main__ import verify
from tests.e2e.conftest import Consumer
from tests.e2e.features.helpers import after_an_hour, created


def test_what_was_done_is_listed_and_its_export_verifies(stack: Stack, user: Consumer) -> None:
    name = created(user, stack, "features-audit")
    on = user.call("GET", f"/v1/destinations/{name}").json["destination_id"]
    period = f"since={after_an_hour(-1)}&until={after_an_hour()}"
    (entry,) = user.call("GET", f"/v1/audit?what=destination.created&on={on}&{period}").json["entries"]
    newest = user.call("GET", f"/v1/audit?by={entry['by']}&limit=1").json
    before = user.call("GET", f"/v1/audit?cursor={newest['next_cursor']}").json["entries"]
    assert newest["entries"] == [entry]
    assert entry["sequence"] not in [each["sequence"] for each in before]
    whole = user.call("GET", f"/v1/audit/export?after=0&{period}")
    assert whole.status == 200
    lines = whole.body.splitlines(keepends=True)
    assert json.loads(lines[entry["sequence"] - 1])["sequence"] == entry["sequence"]
    assert f"{len(lines)} entries" in verify(lines)  # attempts may have been sealed meanwhile
    part = user.call("GET", f"/v1/audit/export?after={entry['sequence'] - 1}")
    assert part.body.startswith(lines[entry["sequence"] - 1])
