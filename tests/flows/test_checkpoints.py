"""Checkpoints of the audit log leave the database, into a bucket where nobody can take them back."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest

from db import audit
from domain.ids import TenantId
from flows.audit import Act, Actor, note_act
from flows.checkpoints import CheckpointWriter
from flows.seal_schedule import SEAL_SECONDS, SealSchedule
from runtime.checkpoint_bucket import CheckpointBucket, NotStored
from runtime.settings import BucketSettings
from sallyport_audit.__main__ import main
from tests.support.gateway import REGION, Gateway

OTHER = TenantId(UUID(int=1))
MOMENT = "2026-03-01T12:00:00.000000Z"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket of moto's S3 API, with Object Lock: a day, governance."""

    name: str
    client: Any
    endpoint_url: str

    @property
    def settings(self) -> BucketSettings:
        return BucketSettings(audit_bucket_name=self.name, s3_endpoint_url=self.endpoint_url)

    def lines(self) -> list[list[dict[str, Any]]]:
        """Of each object, the oldest first."""
        return [[json.loads(line) for line in body.splitlines()] for body in self.bodies().values()]

    def bodies(self) -> dict[str, str]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        keys = sorted(each["Key"] for each in found)
        return {key: self.client.get_object(Bucket=self.name, Key=key)["Body"].read().decode() for key in keys}


@pytest.fixture
def bucket(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("AWS_REGION", REGION)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    with closing(boto3.client("s3", endpoint_url=gateway.queue.endpoint_url, region_name=REGION, **keys)) as client:
        name = f"audit-{uuid4()}"
        client.create_bucket(
            Bucket=name,
            ObjectLockEnabledForBucket=True,
            CreateBucketConfiguration={"LocationConstraint": REGION},
        )
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        client.put_object_lock_configuration(
            Bucket=name,
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},
        )
        yield Bucket(name=name, client=client, endpoint_url=gateway.queue.endpoint_url)


@pytest.fixture
def writer(bucket: Bucket) -> CheckpointWriter:
    return CheckpointWriter(CheckpointBucket(bucket.settings))


def acts(gateway: Gateway, count: int = 1, *, tenant_id: TenantId | None = None) -> None:
    for _ in range(count):
        act = Act(
            tenant_id=tenant_id or gateway.tenant_id, actor=Actor(by="token"), what="destination.changed", on=uuid4()
        )
        note_act(act, services=gateway.services)


def export(gateway: Gateway, path: Path) -> Path:
    entries = audit.export(
        gateway.services.database, tenant_id=gateway.tenant_id, after=0, since=None, until=None, limit=100
    )
    path.write_text("".join(entry.line() for entry in entries), encoding="utf-8")
    return path


def test_the_end_of_each_chain_is_an_object_that_cannot_be_deleted(
    gateway: Gateway, bucket: Bucket, writer: CheckpointWriter
) -> None:
    acts(gateway, 3)
    acts(gateway, tenant_id=OTHER)
    writer.write(services=gateway.services)
    (lines,) = bucket.lines()
    heads = {row["tenant_id"]: row for row in gateway.sql("SELECT tenant_id, sequence, hash FROM audit_head")}
    found = {UUID(line["tenant_id"]): (line["sequence"], line["hash"]) for line in lines}
    assert found == {tenant: (row["sequence"], row["hash"].hex()) for tenant, row in heads.items()}
    ours = next(line for line in lines if line["tenant_id"] == str(gateway.tenant_id))
    assert ours["at"] == MOMENT
    (key,) = bucket.bodies()
    assert key.startswith("checkpoints/2026/03/01/120000-")
    (version,) = bucket.client.list_object_versions(Bucket=bucket.name)["Versions"]
    with pytest.raises(bucket.client.exceptions.ClientError, match="AccessDenied"):
        bucket.client.delete_object(Bucket=bucket.name, Key=key, VersionId=version["VersionId"])


def test_what_was_written_is_not_written_again_until_a_chain_goes_on(
    gateway: Gateway, bucket: Bucket, writer: CheckpointWriter
) -> None:
    acts(gateway)
    for _ in range(3):
        writer.write(services=gateway.services)
        gateway.clock.forward(240)
    assert len(bucket.bodies()) == 1
    acts(gateway)
    writer.write(services=gateway.services)
    assert len(bucket.bodies()) == 2


def test_a_chain_that_has_rested_for_a_month_is_left_out(
    gateway: Gateway, bucket: Bucket, writer: CheckpointWriter
) -> None:
    acts(gateway)
    gateway.clock.forward(32 * 86_400)
    writer.write(services=gateway.services)
    assert bucket.bodies() == {}
    acts(gateway, tenant_id=OTHER)
    writer.write(services=gateway.services)
    assert [[line["tenant_id"] for line in lines] for lines in bucket.lines()] == [[str(OTHER)]]


@pytest.mark.parametrize("harm", ["nothing", "cut", "rewritten"])
def test_the_verifier_finds_by_them_what_the_owner_of_the_database_did(
    gateway: Gateway, bucket: Bucket, writer: CheckpointWriter, tmp_path: Path, harm: str, capsys: Any
) -> None:
    acts(gateway, 4)
    writer.write(services=gateway.services)
    for key, body in bucket.bodies().items():  # as `aws s3 sync` would
        file = tmp_path / "copy" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body, encoding="utf-8")
    if harm == "cut":
        gateway.sql("DELETE FROM audit_entry WHERE tenant_id = %s AND sequence > 2", gateway.tenant_id)
    if harm == "rewritten":  # all of it, with right hashes
        for table in ("audit_entry", "audit_head"):
            gateway.sql(f"DELETE FROM {table} WHERE tenant_id = %s", gateway.tenant_id)  # noqa: S608 - our own tables
        acts(gateway, 9)
    exported = export(gateway, tmp_path / "export.jsonl")
    status = main(["verify", str(exported), "--checkpoints", str(tmp_path / "copy")])
    said = capsys.readouterr().out
    assert (status, "NOT VERIFIED" in said) == ((0, False) if harm == "nothing" else (1, True))
    assert main(["verify", str(exported)]) == 0  # without them nothing shows


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "export.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    assert main(["verify", str(tmp_path / "export.jsonl"), "--checkpoints", str(tmp_path / "empty")]) == 2
    assert "has no file that ends in .jsonl" in capsys.readouterr().err


def test_a_bucket_that_takes_nothing_is_told_of_and_tried_again(
    gateway: Gateway, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    acts(gateway)
    gone = BucketSettings(audit_bucket_name=f"{bucket.name}x", s3_endpoint_url=bucket.endpoint_url)
    CheckpointWriter(CheckpointBucket(gone)).write(services=gateway.services)
    assert "a checkpoint of the audit log was not stored" in caplog.text
    with pytest.raises(NotStored, match="status 404"):
        CheckpointBucket(gone).put("checkpoints/x", b"{}")
    nowhere = BucketSettings(audit_bucket_name="b", s3_endpoint_url="http://127.0.0.1:1")
    with pytest.raises(NotStored, match="no answer"):
        CheckpointBucket(nowhere).put("checkpoints/x", b"{}")


def test_a_process_writes_them_when_it_seals(gateway: Gateway, bucket: Bucket, writer: CheckpointWriter) -> None:
    services = gateway.services
    schedule = SealSchedule(clock=gateway.clock, chance=lambda: 0.0, checkpoints=writer)
    acts(gateway)
    schedule.run(services=services)
    acts(gateway)
    schedule.run(services=services)
    assert len(bucket.bodies()) == 1
    gateway.clock.forward(SEAL_SECONDS)
    schedule.run(services=services)
    assert len(bucket.bodies()) == 2


def test_a_checkpoint_that_meets_a_fault_of_ours_raises_nothing(
    gateway: Gateway, bucket: Bucket, writer: CheckpointWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(audit, "ends", fault)
    acts(gateway)
    SealSchedule(clock=gateway.clock, chance=lambda: 0.0, checkpoints=writer).run(services=gateway.services)
    assert bucket.bodies() == {}
