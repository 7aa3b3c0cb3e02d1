"""The targets of make around the stack, run through make as a person runs them, in a small form where they are long."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stack.diagram.maps import PICTURES
from tests.support.copies import copy_project
from tests.support.making import ROOT, make

if TYPE_CHECKING:  # at run time the fixtures would be imported again
    from tests.support.gateway import QueueServer


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with its environment, whose documents a target may write while other tests read the real ones."""
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def aws(queue_server: "QueueServer") -> Mapping[str, str]:
    """An account in which nothing is deployed: moto's services."""
    return {
        "AWS_ENDPOINT_URL": queue_server.endpoint_url,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def test_make_map_draws_every_picture_anew(copy: Path) -> None:
    maps = copy / "docs/maps"
    shutil.rmtree(maps)
    done = make("map", root=copy)
    assert done.returncode == 0, done.stderr
    for name in PICTURES:
        assert (maps / f"{name}.svg").read_text() == (ROOT / "docs/maps" / f"{name}.svg").read_text(), "run make map"


def test_make_parameters_writes_the_page_anew(copy: Path) -> None:
    page = copy / "docs/parameters.md"
    page.write_text("")
    done = make("parameters", root=copy)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == (ROOT / "docs/parameters.md").read_text(), "run make parameters"


def test_make_access_writes_the_page_anew(copy: Path) -> None:
    page = copy / "docs/access.md"
    page.write_text("")
    done = make("access", root=copy)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == (ROOT / "docs/access.md").read_text(), "run make access"


def test_make_cost_prints_one_bill_and_renews_what_the_pages_quote(copy: Path) -> None:
    bill = make("cost", "TOPOLOGY=on-premises", "EGRESS=per-az", "STAGE=prod", "DELIVERIES=1000", "FREE=yes", root=copy)
    assert bill.returncode == 0, bill.stderr
    assert "on-premises, per-az, prod: 1,000 deliveries a month" in bill.stdout
    more = make("cost", "SET=WebAcl=yes Bastion=yes", root=copy)
    assert "Bastion (t4g.nano)" in more.stdout
    page = copy / "docs/costs.md"
    text = page.read_text()
    page.write_text(text.replace("| --- | ---: | --- |", "| changed |"))
    assert make("cost", "WRITE=yes", root=copy).stdout.splitlines() == ["docs/costs.md"]
    assert page.read_text() == text, "run make cost WRITE=yes"


def test_make_capacity_answers_one_rate_and_renews_what_the_page_quotes(copy: Path) -> None:
    asked = make(
        "capacity", "RATE=20", "TOPOLOGY=on-premises", "EGRESS=per-az", "PROXY=yes", "DESTINATIONS=3", root=copy
    )
    assert asked.returncode == 0, asked.stderr
    assert "20 a second: carried." in asked.stdout
    assert '"DatabaseProxy=yes",' in asked.stdout
    page = copy / "docs/capacity.md"
    text = page.read_text()
    page.write_text(text.replace("| stable |", "| changed |"))
    assert make("capacity", "WRITE=yes", root=copy).stdout.splitlines() == ["docs/capacity.md"]
    assert page.read_text() == text, "run make capacity WRITE=yes"


@pytest.mark.parametrize(("recorded", "status"), [("routine", 0), ("network-goes", 2)])
def test_make_guard_judges_a_recorded_change_set(recorded: str, status: int) -> None:
    done = make("guard", f"RECORDED=tests/stack/recorded/{recorded}")
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout


def test_make_protect_asks_aws_for_the_stages_stack(aws: Mapping[str, str]) -> None:
    done = make("protect", "STAGE=dev", environment=aws)
    assert done.returncode == 2
    assert "sallyport-dev" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_make_deploy_stops_before_it_builds_where_it_is_not_clear_where_to(tmp_path: Path) -> None:
    nowhere = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    nowhere |= dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "")
    done = make("deploy", "STAGE=dev", environment=nowhere)
    assert done.returncode == 2
    assert "Stopped:" in done.stdout + done.stderr
    assert "Building" not in done.stdout + done.stderr


def test_make_db_shell_asks_aws_for_the_stack(aws: Mapping[str, str]) -> None:
    done = make("db-shell", "STACK=sallyport-dev", "ROLE=owner", "REGION=eu-central-1", environment=aws)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "db-shell: there is no stack sallyport-dev in eu-central-1 of this account: make deploy STAGE=dev makes one. "
        "Where you have one, set AWS_REGION and AWS_PROFILE to where it is"
    )


def test_make_preflight_looks_at_the_account_and_changes_nothing(aws: Mapping[str, str]) -> None:
    """moto does not have every call: what cannot be read is said, and the rest is looked at."""
    done = make("preflight", "STAGE=dev", environment=aws)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "RDS" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_make_status_says_that_nothing_is_deployed(aws: Mapping[str, str]) -> None:
    done = make("status", "STAGE=dev", environment=aws)
    assert done.returncode == 2
    assert "sallyport-dev" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
