"""What the statements of jobs did, as the simulator notes it: by the rows, not by what they return."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from db.connection import Connection, Row
from simulator.evidence import JobEntry, Moved
from simulator.world import EPOCH, Process, World


class JobNotes:
    """Those of one run. `enter` is told the state of each delivery that a job changed, and of a new one the
    destination."""

    def __init__(self, world: World, real: Connection, enter: Callable[..., None]) -> None:
        self._world = world
        self._real = real
        self._enter = enter

    def note_made(self, process: Process, _: Mapping[str, Any], rows: Sequence[Row]) -> None:
        """A job was made, or found by its key."""
        known = {entry.job for entry in self._world.evidence.job_entries}
        for row in rows:
            if str(row["job_id"]) in known:
                self._world.mark("jobs: a key is found again")
                continue
            job = self._job(str(row["job_id"]))
            self._note(process, job, f"a job to {job['act']} all that is {job['of_state']}", matches=self._matches(job))

    def note_moved(self, process: Process, parameters: Mapping[str, Any], _: Sequence[Row]) -> None:
        """It was paused, resumed or canceled."""
        job_id = str(parameters["job_id"])
        known = [entry for entry in self._world.evidence.job_entries if entry.job == job_id]
        job = self._job(job_id)
        if known and known[-1].state != job["state"]:
            self._world.mark(f"job: {job['state']}")
            self._note(process, job, f"the job is {job['state']}")

    def step(self, process: Process, parameters: Mapping[str, Any], run: Callable[[], list[Row]]) -> list[Row]:
        """Runs the statement of a step."""
        job_id = str(parameters["job_id"])
        before = self._states(parameters["delivery_ids"])
        rows = run()
        job, after = self._job(job_id), self._states(parameters["delivery_ids"])
        new = [name for name in parameters["new_ids"] if name is not None]
        made = {
            str(row["replay_of"]): row
            for row in self._rows("SELECT * FROM delivery WHERE delivery_id = ANY(%s) AND act_id = %s", new, job_id)
            if str(row["delivery_id"]) not in self._noted(job_id)
        }
        moved: list[Moved] = [
            (name, before[name]["state"], _seconds(row), None)
            for name, row in after.items()
            if row["state"] != before[name]["state"]
        ]
        moved += [(name, "delivered", _seconds(row), str(row["delivery_id"])) for name, row in made.items()]
        self._bring(moved, after, made)
        what = "the last step" if job["state"] == "done" else "a step that others follow"
        self._world.mark(f"jobs: {what if rows else 'a step that comes too late'}")
        if made:
            self._world.mark("jobs: repeats what was delivered")
        since = tuple(_since(before[name]) for name, *_ in moved)
        self._note(process, job, f"a step of the job changes {len(moved)} deliveries", moved=tuple(moved), since=since)
        return rows

    def _noted(self, job_id: str) -> set[str]:
        """The new deliveries that a job is known to have made."""
        entries = (entry for entry in self._world.evidence.job_entries if entry.job == job_id)
        return {new for entry in entries for _, _, _, new in entry.moved if new is not None}

    def _bring(
        self,
        moved: Sequence[Moved],
        after: Mapping[str, Mapping[str, Any]],
        made: Mapping[str, Mapping[str, Any]],
    ) -> None:
        for name, before, _, new in moved:
            if new is not None:
                self._enter(new, "pending", destination=str(made[name]["destination_id"]))
                continue
            if before == "pending":
                self._world.evidence.resolved.setdefault(name, self._world.now)
            else:
                self._world.evidence.again.setdefault(name, []).append(self._world.now)
            self._enter(name, after[name]["state"])

    def _note(
        self,
        process: Process,
        job: Mapping[str, Any],
        text: str,
        *,
        matches: frozenset[str] | None = None,
        moved: tuple[Moved, ...] = (),
        since: tuple[float, ...] = (),
    ) -> None:
        entry = JobEntry(
            at=self._world.now,
            process=process.name,
            job=str(job["job_id"]),
            state=job["state"],
            changed=job["changed"],
            matches=matches,
            moved=moved,
            since=since,
        )
        self._world.evidence.job_entries.append(entry)
        self._world.log(process.name, "job", text, to="database")

    def _job(self, job_id: str) -> Mapping[str, Any]:
        return self._rows("SELECT * FROM job WHERE job_id = %s", job_id)[0]

    def _states(self, deliveries: Sequence[object]) -> dict[str, Mapping[str, Any]]:
        rows = self._rows("SELECT * FROM delivery WHERE delivery_id = ANY(%s) ORDER BY delivery_id", list(deliveries))
        return {str(row["delivery_id"]): row for row in rows}

    def _matches(self, job: Mapping[str, Any]) -> frozenset[str]:
        """What is within its bounds now, by docs/api.md, "Many at once"."""
        rows = self._rows(
            "SELECT *, (SELECT outcome FROM attempt WHERE attempt.delivery_id = delivery.delivery_id "
            "AND kind = 'send' AND number = attempts_made) AS outcome FROM delivery WHERE tenant_id = %s",
            job["tenant_id"],
        )
        return frozenset(
            str(row["delivery_id"])
            for row in rows
            if row["state"] == job["of_state"]
            and job["destination_id"] in (None, row["destination_id"])
            and job["outcome"] in (None, row["outcome"])
            and job["since_id"] <= row["delivery_id"] < job["until_id"]
            and (row["finished_at"] or row["created_at"]) <= job["created_at"]
            and row["payload"] is None
        )

    def _rows(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        return self._real.execute(statement, parameters).fetchall()


def _seconds(row: Mapping[str, Any]) -> float | None:
    """When it is due, of one that is pending."""
    return (row["due_at"] - EPOCH).total_seconds() if row["state"] == "pending" else None


def _since(row: Mapping[str, Any]) -> float:
    """From when on it has been in its state, as the row says; a record that ran late says when that was made."""
    moment: datetime = row["finished_at"] or row["created_at"]
    return (moment - EPOCH).total_seconds()
